"""What hosted services and gateways send."""

from __future__ import annotations

import json
from collections.abc import Iterator

from benchmarks.servers.building import (
    JSON,
    LAST_USAGE,
    PIECES,
    ROLE,
    STOP,
    TEXT,
    THOUGHTS,
    USAGE,
    USUAL,
    Shape,
    Value,
    chunk,
    delta,
    pieces,
    stream,
    thinking,
    whole,
    with_fields,
)

__all__ = ["HOSTED"]


def _openai() -> Iterator[Shape]:
    common = {"service_tier": "default", "system_fingerprint": "fp_1"}
    first = delta("", more={"role": "assistant", "refusal": None}, logprobs=None)
    scores = {
        "content": [{"token": "Ada", "logprob": -0.1, "bytes": [65, 100, 97], "top_logprobs": []}],
        "refusal": None,
    }
    details = {"prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 2}}
    yield stream("OpenAI", "stream", with_fields(common, first, *pieces(logprobs=None), STOP))
    yield stream(
        "OpenAI", "stream with usage", [*with_fields({**common, "usage": None}, first, *pieces(), STOP), LAST_USAGE]
    )
    yield stream("OpenAI", "stream with padding", with_fields({"obfuscation": "aX3"}, first, *pieces(), STOP))
    yield stream("OpenAI", "stream with log-probabilities", [first, *pieces(logprobs=scores), STOP])
    yield stream("OpenAI", "cut at the limit", [first, *pieces(), delta(finish="length")], finish_reason="length")
    yield stream(
        "OpenAI",
        "several tool fields",
        [first, *pieces(tool_calls=None), delta(finish="stop", more={"tool_calls": None, "function_call": None})],
    )
    yield stream(
        "OpenAI",
        "text and a tool call",
        [
            first,
            *pieces(),
            delta(more={"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}),
            delta(finish="tool_calls"),
        ],
    )
    yield stream(
        "OpenAI",
        "two answers",
        [
            first,
            chunk({"index": 1, "delta": {"content": "No"}, "finish_reason": None}),
            *pieces(),
            chunk({"index": 1, "delta": {}, "finish_reason": "stop"}),
            STOP,
        ],
    )
    message: Value = {"content": TEXT, "refusal": None, "annotations": []}
    yield whole("OpenAI", "whole", message, choice={"logprobs": None}, fields={**common, "usage": USAGE | details})
    yield whole(
        "OpenAI", "whole with audio and tools", {**message, "audio": None, "tool_calls": None, "function_call": None}
    )
    yield whole("OpenAI", "whole, cut at the limit", message, finish="length", finish_reason="length")
    yield whole("OpenAI", "whole with log-probabilities", message, choice={"logprobs": scores})
    yield whole(
        "OpenAI",
        "old finish_details",
        {"content": TEXT},
        finish=None,
        choice={"finish_details": {"type": "stop", "stop": "<|fim_suffix|>"}},
    )
    text = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    choices = [{"text": piece, "index": 0, "logprobs": None, "finish_reason": None} for piece in PIECES]
    yield stream(
        "OpenAI",
        "text stream",
        [
            {**text, "choices": [choice]}
            for choice in [*choices, {"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"}]
        ],
        is_chat=False,
    )
    yield Shape(
        "OpenAI",
        "text",
        json.dumps(
            {
                **text,
                "choices": [{"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "length"}],
                "usage": USAGE,
            }
        ).encode(),
        JSON,
        finish_reason="length",
        is_chat=False,
    )


def _azure() -> Iterator[Shape]:
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    prompt = chunk(
        prompt_filter_results=[{"prompt_index": 0, "content_filter_results": safe}],
        id="",
        model="",
        created=0,
        object="",
    )
    offsets = {"check_offset": 44, "start_offset": 44, "end_offset": 198}
    late = chunk(
        {
            "index": 0,
            "finish_reason": None,
            "logprobs": None,
            "content_filter_results": safe,
            "content_filter_offsets": offsets,
        },
        id="",
        model="",
        created=0,
        object="",
    )
    yield stream("Azure", "filter results of the prompt", [prompt, *USUAL])
    yield stream(
        "Azure",
        "filter results of each piece",
        [prompt, ROLE, *pieces(content_filter_results=safe), delta(finish="stop", content_filter_results={})],
    )
    yield stream(
        "Azure", "filter results that come late", [prompt, ROLE, *pieces(content_filter_results={}), late, STOP, late]
    )
    yield stream("Azure", "usage", [prompt, *with_fields({"usage": None}, *USUAL), LAST_USAGE])
    yield whole(
        "Azure",
        "whole",
        {"content": TEXT},
        choice={"content_filter_results": safe, "logprobs": None},
        fields={"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe}]},
    )


def _openrouter() -> Iterator[Shape]:
    common = {"provider": "P"}
    wait = ": OPENROUTER PROCESSING\n\n"
    role = {"role": "assistant"}
    stop = delta("", "stop", more=role, native_finish_reason="end_turn", logprobs=None)
    detail = {"type": "reasoning.text", "text": THOUGHTS, "format": "unknown", "index": 0}
    usage = chunk(
        {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "finish_reason": None,
            "native_finish_reason": None,
        },
        usage=USAGE | {"cost": 0.001, "is_byok": False},
    )
    yield stream("OpenRouter", "comments", [wait, wait, *with_fields(common, *pieces(more=role), stop)])
    yield stream(
        "OpenRouter",
        "comments between pieces",
        [wait, delta("Ada", more=role), wait, *pieces(texts=PIECES[1:], more=role), wait, stop],
    )
    yield stream("OpenRouter", "usage in a last piece", [*with_fields(common, *pieces(more=role), stop), usage])
    yield stream(
        "OpenRouter",
        "reasoning and its details",
        [
            delta("", more=role | {"reasoning": THOUGHTS, "reasoning_details": [detail]}),
            *pieces(more=role | {"reasoning": None, "reasoning_details": []}),
            stop,
        ],
        thoughts=THOUGHTS,
    )
    yield stream(
        "OpenRouter",
        "details only",
        [delta("", more=role | {"reasoning_details": [detail]}), *pieces(more=role), stop],
        thoughts=THOUGHTS,
    )
    yield stream(
        "OpenRouter",
        "encrypted thoughts",
        [
            delta("", more=role | {"reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAA", "index": 0}]}),
            *pieces(more=role),
            stop,
        ],
    )
    yield whole(
        "OpenRouter",
        "whole",
        {"content": TEXT, "refusal": None, "reasoning": None},
        choice={"native_finish_reason": "STOP", "logprobs": None},
        fields=common,
    )
    yield whole(
        "OpenRouter",
        "whole with thoughts",
        {"content": TEXT, "reasoning": THOUGHTS, "reasoning_details": [detail]},
        fields=common,
        thoughts=THOUGHTS,
    )
    padded = Shape(
        "OpenRouter", "blank lines before the answer", b"\n         \n\n" + whole("", "", {"content": TEXT}).body, JSON
    )
    yield padded


def _groq() -> Iterator[Shape]:
    common = {"system_fingerprint": "fp_g"}
    first = {**ROLE, "x_groq": {"id": "req_1"}}
    last = {**STOP, "x_groq": {"id": "req_1", "usage": USAGE | {"queue_time": 0.01, "total_time": 0.1}}}
    yield stream("Groq", "stream", with_fields(common, first, *pieces(logprobs=None), last))
    yield stream(
        "Groq",
        "reasoning",
        with_fields(common, first, delta(more={"reasoning": THOUGHTS, "channel": "analysis"}), *pieces(), last),
        thoughts=THOUGHTS,
    )
    yield whole(
        "Groq",
        "whole",
        {"content": TEXT},
        choice={"logprobs": None},
        fields={"x_groq": {"id": "req_1"}, "usage_breakdown": None, "service_tier": "on_demand"},
    )
    yield whole("Groq", "whole with reasoning", {"content": TEXT, "reasoning": THOUGHTS}, thoughts=THOUGHTS)


def _deepseek() -> Iterator[Shape]:
    usage = USAGE | {"prompt_cache_hit_tokens": 0, "prompt_cache_miss_tokens": 16}
    last = {**delta("", "stop", logprobs=None), "usage": usage}
    plain = {"reasoning_content": None}
    yield stream("DeepSeek", "stream", [delta("", more={"role": "assistant"} | plain), *pieces(more=plain), last])
    yield stream(
        "DeepSeek",
        "reasoning_content",
        [*thinking("reasoning_content"), *pieces(more=plain), last],
        thoughts=THOUGHTS,
    )
    yield stream("DeepSeek", "keep-alive comments", [": keep-alive\n\n", ": keep-alive\n\n", *pieces(), last])
    yield stream("DeepSeek", "keep-alive lines", ["\n", "\n\n", *pieces(), "\n", last])
    yield whole("DeepSeek", "whole", {"content": TEXT}, fields={"usage": usage})
    yield whole(
        "DeepSeek",
        "whole with reasoning_content",
        {"content": TEXT, "reasoning_content": THOUGHTS},
        fields={"usage": usage},
        thoughts=THOUGHTS,
    )
    yield Shape(
        "DeepSeek", "keep-alive lines before a whole answer", b"\n\n\n" + whole("", "", {"content": TEXT}).body, JSON
    )


def _mistral() -> Iterator[Shape]:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHTS}], "closed": True}]
    parts = [{"type": "text", "text": TEXT}]
    last = {**delta("", "stop"), "usage": USAGE}
    yield stream("Mistral", "stream", [{**ROLE, "p": "abc"}, *with_fields({"p": "abcdefgh"}, *pieces()), last])
    yield stream(
        "Mistral", "parts", [ROLE, *pieces(texts=[[{"type": "text", "text": piece}] for piece in PIECES]), last]
    )
    yield stream(
        "Mistral",
        "thinking parts",
        [ROLE, delta(thinking), *pieces(texts=[[{"type": "text", "text": piece}] for piece in PIECES]), last],
        thoughts=THOUGHTS,
    )
    yield stream("Mistral", "thinking parts, then text", [ROLE, delta(thinking), *pieces(), last], thoughts=THOUGHTS)
    yield stream("Mistral", "window full", [ROLE, *pieces(), delta("", "model_length")], finish_reason="length")
    yield stream(
        "Mistral",
        "reference parts",
        [
            ROLE,
            delta([{"type": "text", "text": "Ada Park"}]),
            delta([{"type": "reference", "reference_ids": [0]}]),
            delta([{"type": "text", "text": " signs."}]),
            last,
        ],
    )
    yield whole("Mistral", "whole", {"content": TEXT, "tool_calls": None, "prefix": False})
    yield whole("Mistral", "whole in parts", {"content": parts})
    yield whole("Mistral", "whole with thinking parts", {"content": thinking + parts}, thoughts=THOUGHTS)
    yield whole(
        "Mistral",
        "thoughts in brackets",
        {"content": f"[THINK]{THOUGHTS}[/THINK]{TEXT}"},
        thoughts=THOUGHTS,
        content=f"[THINK]{THOUGHTS}[/THINK]{TEXT}",
    )


def _gemini() -> Iterator[Shape]:
    role = {"role": "assistant"}
    thought = {"extra_content": {"google": {"thought": True}}}
    first = pieces(texts=PIECES[:2], more=role)
    last = delta(PIECES[2], "stop", more=role)
    unsaid = [chunk({"index": 0, "delta": {"content": text, **role}}) for text in PIECES[:2]]
    yield stream("Gemini", "stream", [*first, last])
    yield stream("Gemini", "no finish_reason before the end", [*unsaid, last])
    yield stream(
        "Gemini",
        "usage in each event",
        with_fields({"usage": USAGE}, *first, last),
    )
    yield stream("Gemini", "upper case", [*first, delta(PIECES[2], "STOP", more=role)])
    yield stream(
        "Gemini",
        "upper case, cut",
        [*first, delta(PIECES[2], "MAX_TOKENS", more=role)],
        finish_reason="length",
    )
    yield stream(
        "Gemini",
        "thoughts in the text",
        [
            delta(f"<thought>{THOUGHTS}", more=role | thought),
            delta("</thought>Ada", more=role),
            *pieces(texts=PIECES[1:], more=role),
            delta("", "stop", more=role),
        ],
        thoughts=THOUGHTS,
        content=f"<thought>{THOUGHTS}</thought>{TEXT}",
    )
    yield stream(
        "Gemini",
        "signature",
        [
            *pieces(more=role),
            delta("", "stop", more=role | {"extra_content": {"google": {"thought_signature": "CsQB"}}}),
        ],
    )
    yield whole("Gemini", "whole", {"content": TEXT})
    yield whole(
        "Gemini",
        "whole with thoughts",
        {"content": f"<thought>{THOUGHTS}</thought>{TEXT}", **thought},
        thoughts=THOUGHTS,
        content=f"<thought>{THOUGHTS}</thought>{TEXT}",
    )


def _together() -> Iterator[Shape]:
    seeded: Value = {"text": "", "logprobs": None, "seed": None}
    yield stream(
        "Together",
        "stream",
        [
            *pieces(more={"token_id": 7, "role": "assistant", "tool_calls": None}, **seeded),
            {**delta("", "eos", more={"token_id": 0}, **(seeded | {"seed": 18446744073709552000})), "usage": USAGE},
        ],
    )
    yield stream("Together", "usage null", with_fields({"usage": None}, *pieces(), delta("", "eos")))
    yield whole(
        "Together",
        "whole",
        {"content": TEXT, "tool_calls": []},
        finish="eos",
        choice={"seed": 12345, "logprobs": None},
        fields={"prompt": []},
    )
    yield whole("Together", "whole with reasoning", {"content": TEXT, "reasoning": THOUGHTS}, thoughts=THOUGHTS)


def _others() -> Iterator[Shape]:
    cumulative = [
        chunk(
            {
                "index": 0,
                "delta": {"content": piece},
                "message": {"content": "".join(PIECES[: i + 1])},
                "finish_reason": "stop" if i == 2 else None,
            },
            citations=["https://example.com"],
        )
        for i, piece in enumerate(PIECES)
    ]
    yield stream("Perplexity", "the message so far beside each piece", cumulative)
    yield whole(
        "Perplexity",
        "whole",
        {"content": TEXT},
        choice={"delta": None},
        fields={"citations": ["https://example.com"], "search_results": []},
    )
    whole_message = chunk({"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"})
    yield stream("gateways", "the whole message at the end", [ROLE, *pieces(), whole_message])
    yield stream("TGI", "end token", [*pieces(), delta("", "eos_token")])
    yield stream("TGI", "stop sequence", [*pieces(), delta("", "stop_sequence")])
    yield stream("Cohere", "upper case", [*pieces(), delta("", "COMPLETE")])
    yield stream(
        "xAI",
        "usage so far in each event",
        with_fields({"usage": USAGE | {"num_sources_used": 0}}, ROLE, *pieces(), STOP),
    )
    yield stream("Cerebras", "time", [*pieces(), {**STOP, "usage": USAGE, "time_info": {"queue_time": 0.1}}])
    yield stream("Anthropic", "pings", [ROLE, {"type": "ping"}, *pieces(), {"type": "ping"}, STOP])
    yield stream(
        "gateways", "null choices", [{"id": "1", "choices": None}, *pieces(), STOP, {"choices": None, "usage": USAGE}]
    )
    yield stream("gateways", "empty objects", [{}, *pieces(), {}, STOP, {}])
    yield stream("gateways", "usage without choices", [*pieces(), STOP, {"usage": USAGE}])
    yield stream("gateways", "an unknown finish_reason", [*pieces(), delta(finish="natural_end")])
    yield stream("gateways", "a null error", with_fields({"error": None}, *pieces(), STOP))
    yield stream("gateways", "no end of the stream", USUAL, sse={"done": ""})
    yield stream("gateways", "no blank after the colon", USUAL, sse={"data": "data:", "done": "data:[DONE]\n\n"})
    yield stream("gateways", "Windows line ends", USUAL, sse={"end": "\r\n"})
    yield stream("gateways", "old Mac line ends", USUAL, sse={"end": "\r", "done": ""})
    yield stream(
        "gateways",
        "ids and times",
        [f"id: {i}\nretry: 3000\ndata: {json.dumps(chunk)}\n\n" for i, chunk in enumerate(USUAL)],
    )
    yield stream("gateways", "named events", [f"event: message\ndata: {json.dumps(chunk)}\n\n" for chunk in USUAL])
    yield stream(
        "gateways", "data in several lines", [f"data: {{\ndata: {json.dumps(chunk)[1:]}\n\n" for chunk in USUAL]
    )
    yield stream(
        "gateways",
        "a character in two events",
        [delta("Ada \ud83d"), delta("\ude00 signs."), STOP],
        text="Ada 😀 signs.",
    )
    yield stream(
        "gateways",
        "unescaped letters",
        [f"data: {json.dumps(delta('Grüße, 世界 😀', 'stop'), ensure_ascii=False)}\n\n"],
        text="Grüße, 世界 😀",
    )
    yield whole(
        "gateways", "a part as an object", {"content": [{"type": "output_text", "text": TEXT, "annotations": []}]}
    )
    yield whole("gateways", "text as parts of text", {"content": ["Ada Park", " signs."]})


HOSTED: tuple[Shape, ...] = tuple(
    shape
    for vendor in (_openai, _azure, _openrouter, _groq, _deepseek, _mistral, _gemini, _together, _others)
    for shape in vendor()
)
"""All of them."""
