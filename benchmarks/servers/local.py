"""What servers on a machine of one's own send."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.servers.building import (
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
    delta,
    pieces,
    stream,
    thinking,
    whole,
    with_fields,
)

__all__ = ["LOCAL"]


def _vllm() -> Iterator[Shape]:
    stop = delta("", "stop", stop_reason=None, logprobs=None)
    yield stream("vLLM", "stream", [ROLE, *pieces(logprobs=None), stop])
    yield stream(
        "vLLM",
        "token ids",
        [
            {**ROLE, "prompt_token_ids": None},
            *pieces(token_ids=None),
            delta("", "stop", stop_reason=128009, token_ids=None),
        ],
    )
    yield stream("vLLM", "usage in each event", [*with_fields({"usage": USAGE}, *USUAL), LAST_USAGE])
    yield stream(
        "vLLM",
        "reasoning_content",
        [ROLE, *thinking("reasoning_content"), *pieces(more={"reasoning_content": None}), stop],
        thoughts=THOUGHTS,
    )
    yield stream("vLLM", "reasoning", [ROLE, *thinking("reasoning"), *pieces(), stop], thoughts=THOUGHTS)
    yield stream(
        "vLLM",
        "both names of the thoughts",
        [
            ROLE,
            *[delta(more={"reasoning": piece, "reasoning_content": piece}) for piece in ("Bo? ", "No, Ada.")],
            *pieces(),
            stop,
        ],
        thoughts=THOUGHTS,
    )
    yield stream(
        "vLLM",
        "thoughts in the text",
        [ROLE, *pieces(texts=("<think>", THOUGHTS, "</think>", "\n\n", *PIECES)), stop],
        thoughts=THOUGHTS,
        content=f"<think>{THOUGHTS}</think>\n\n{TEXT}",
    )
    message: Value = {
        "content": TEXT,
        "reasoning_content": None,
        "tool_calls": [],
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    yield whole(
        "vLLM",
        "whole",
        message,
        choice={"stop_reason": None, "logprobs": None},
        fields={"prompt_logprobs": None, "kv_transfer_params": None, "usage": USAGE | {"prompt_tokens_details": None}},
    )
    yield whole("vLLM", "whole with thoughts", message | {"reasoning_content": THOUGHTS}, thoughts=THOUGHTS)
    text = [
        {
            "id": "cmpl-1",
            "object": "text_completion",
            "choices": [{"index": 0, "text": piece, "logprobs": None, "finish_reason": finish, "stop_reason": None}],
            "usage": None,
        }
        for piece, finish in zip(PIECES, (None, None, "stop"), strict=True)
    ]
    yield stream("vLLM", "text stream", text, is_chat=False)


def _ollama() -> Iterator[Shape]:
    common = {"system_fingerprint": "fp_ollama"}
    role = {"role": "assistant"}
    last = delta("", "stop", more=role)
    yield stream("Ollama", "stream", with_fields(common, *pieces(more=role), last))
    yield stream("Ollama", "usage", with_fields(common, *pieces(more=role), last, LAST_USAGE))
    yield stream("Ollama", "empty finish_reason", with_fields(common, *pieces("", more=role), last))
    yield stream(
        "Ollama",
        "empty finish_reason to the end",
        with_fields(common, *pieces("", more=role), delta("", "", more=role)),
    )
    yield stream(
        "Ollama",
        "reasoning",
        with_fields(
            common,
            *pieces(texts=("", ""), more=role | {"reasoning": "Bo? No, Ada."[:6]})[:1],
            delta("", more=role | {"reasoning": " Ada."}),
            *pieces(more=role),
            last,
        ),
        thoughts="Bo? No Ada.",
    )
    yield stream(
        "Ollama",
        "thoughts in the text",
        with_fields(common, *pieces(texts=("<think>\n", THOUGHTS, "\n</think>\n\n", *PIECES), more=role), last),
        thoughts=THOUGHTS,
        content=f"<think>\n{THOUGHTS}\n</think>\n\n{TEXT}",
    )
    yield whole("Ollama", "whole", {"content": TEXT}, fields=common)
    yield whole(
        "Ollama", "whole with reasoning", {"content": TEXT, "reasoning": THOUGHTS}, fields=common, thoughts=THOUGHTS
    )


def _lm_studio() -> Iterator[Shape]:
    yield stream(
        "LM Studio",
        "stream",
        with_fields({"system_fingerprint": "m"}, *pieces(more={"role": "assistant"}, logprobs=None), STOP),
    )
    yield stream("LM Studio", "reasoning_content", [*thinking("reasoning_content"), *pieces(), STOP], thoughts=THOUGHTS)
    yield stream(
        "LM Studio", "stats", [*pieces(), {**STOP, "stats": {"tokens_per_second": 51.4, "stop_reason": "eosFound"}}]
    )
    yield whole(
        "LM Studio",
        "whole",
        {"content": TEXT},
        choice={"logprobs": None},
        fields={"stats": {}, "system_fingerprint": "m"},
    )
    yield whole(
        "LM Studio", "whole with an empty thought", {"content": TEXT, "reasoning_content": "", "tool_calls": []}
    )


def _sglang() -> Iterator[Shape]:
    yield stream(
        "SGLang", "stream", [ROLE, *pieces(matched_stop=None, logprobs=None), delta(finish="stop", matched_stop=2)]
    )
    yield stream("SGLang", "empty finish_reason", [ROLE, *pieces(""), delta(finish="stop", matched_stop=151645)])
    yield stream(
        "SGLang",
        "null fields",
        [
            delta("", more={"role": "assistant", "reasoning_content": None, "tool_calls": None}),
            *pieces(more={"role": None, "reasoning_content": None, "tool_calls": None}),
            delta(finish="stop", more={"content": None, "role": None}),
        ],
    )
    yield stream(
        "SGLang", "reasoning_content", [ROLE, *thinking("reasoning_content"), *pieces(), STOP], thoughts=THOUGHTS
    )
    yield whole(
        "SGLang",
        "whole",
        {"content": TEXT, "reasoning_content": None, "tool_calls": None},
        choice={"matched_stop": 2},
        fields={"metadata": {"weight_version": "default"}},
    )


def _local_ai() -> Iterator[Shape]:
    yield stream("LocalAI", "stream", [delta("", "", more={"role": "assistant"}), *pieces(""), delta("", "stop")])
    yield stream(
        "LocalAI",
        "no index, no ids",
        [{"choices": [{"delta": {"content": piece}}]} for piece in PIECES]
        + [{"choices": [{"finish_reason": "stop", "delta": {"content": ""}}]}],
    )
    yield stream(
        "LocalAI",
        "no finish_reason at all",
        [
            {
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}}],
            }
            for piece in PIECES
        ],
    )
    yield stream(
        "LocalAI",
        "usage of zero",
        [*with_fields({"usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}}, *pieces("")), STOP],
    )
    yield whole("LocalAI", "whole", {"content": TEXT})
    yield whole("LocalAI", "whole without finish_reason", {"content": TEXT}, finish="")


def _llama_server() -> Iterator[Shape]:
    timings = {"prompt_n": 9, "prompt_ms": 11.2, "predicted_n": 3, "predicted_ms": 20.5, "cache_n": 0}
    first = delta(more={"role": "assistant", "content": None})
    progress = {**first, "prompt_progress": {"total": 16, "cache": 0, "processed": 8, "time_ms": 5}}
    yield stream("llama-server", "stream", [first, *pieces(), {**STOP, "timings": timings}])
    yield stream("llama-server", "usage", [first, *pieces(), STOP, {**LAST_USAGE, "timings": timings}])
    yield stream("llama-server", "progress", [progress, progress, first, *pieces(), STOP])
    yield stream(
        "llama-server",
        "reasoning_content",
        [first, *[delta(more={"reasoning_content": piece}) for piece in ("Bo? ", "No, Ada.")], *pieces(), STOP],
        thoughts=THOUGHTS,
    )
    yield stream(
        "llama-server",
        "log-probabilities",
        [
            first,
            *pieces(
                logprobs={"content": [{"id": 7, "token": "Ada", "bytes": [65], "logprob": -0.1, "top_logprobs": []}]}
            ),
            STOP,
        ],
    )
    yield stream("llama-server", "comment first", [":\n\n", first, *pieces(), STOP])
    yield whole(
        "llama-server", "whole", {"content": TEXT}, fields={"timings": timings, "system_fingerprint": "b6500-1"}
    )
    yield whole(
        "llama-server",
        "whole with reasoning_content",
        {"content": TEXT, "reasoning_content": THOUGHTS},
        fields={"timings": timings},
        thoughts=THOUGHTS,
    )


LOCAL: tuple[Shape, ...] = tuple(
    shape for vendor in (_vllm, _ollama, _lm_studio, _sglang, _local_ai, _llama_server) for shape in vendor()
)
"""All of them."""
