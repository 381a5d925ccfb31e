"""Parse the responses of servers: chunks, usage, log-probabilities, errors. Nothing is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import pydantic

from leanrag.checks import first_problem
from leanrag.types import FinishReason, Usage

__all__ = [
    "FAILED_REASONS",
    "FINISH_REASONS",
    "Choice",
    "Chunk",
    "Reason",
    "is_error",
    "parse_chunk",
    "parse_json",
    "parse_object",
    "parse_overflow",
    "parse_reason",
    "parse_scores",
    "parse_usage",
]

FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed"), "stop"),
    **dict.fromkeys(
        ("tool_calls", "function_call", "tool_use"), "stop"
    ),  # no tools were offered: the text is the answer
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length"), "length"),
}
"""Why an answer ended, by the word of the server in lower case. Unknown words count as "stop"."""

FAILED_REASONS: dict[str, bool] = {
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"), False),
    **dict.fromkeys(("refusal", "refused", "image_safety", "malformed_function_call"), False),
    **dict.fromkeys(("error", "abort", "aborted", "cancelled", "canceled", "insufficient_system_resource"), True),
    **dict.fromkeys(("timeout", "server_error", "unload", "preempted", "network_error"), True),
}
"""Words for an answer that the server withheld or did not finish, and whether the same request may succeed later."""

_MAX_REASON_CHARS = 4_000  # a message that is longer quotes the request

_OVERFLOW = re.compile(
    r"context[_ ](?:length|size|window)|maximum context|n_ctx|too many (?:prompt |input )?tokens"
    r"|\b(?:prompt|inputs?)\b[^.]{0,40} too (?:long|large)",
    re.I,
)
_LIMIT_WORDS = re.compile(r"(?:maximum context length is|n_ctx\D{1,4}|(?:context|batch) size:? \(?)\s*(\d{1,9})", re.I)
_NEEDED_WORDS = re.compile(r"(?:requested|n_prompt_tokens\D{1,4}|(?:request|input) \()\s*(\d{1,9})", re.I)

# The HTTP status that the name of an error stands for, in the order in which names are compared.
_STATUS_WORDS = tuple(
    (re.compile(words, re.I), status)
    for words, status in (
        (r"rate.?limit|too.?many.?requests|throttl|resource.?exhausted|quota", 429),
        (r"overload|unavailable|at.?capacity|no.?capacity|temporarily", 503),
        (r"time[d_ ]?.?out|deadline", 504),
        (r"unauth|authenticat|invalid.?api.?key", 401),
        (r"permission|forbidden", 403),
        (r"not.?found", 404),
        (r"invalid|bad.?request|validation|unsupported", 400),
        (r"internal|server.?error|api.?error|provider|upstream|disconnected|connection", 500),
    )
)


def _parse_parts(value: object) -> tuple[str | None, str]:
    """Return the text (None if there is none) and the thoughts of a `content`: a string, or parts as in Mistral's API."""
    if value is None or isinstance(value, str):
        return value, ""
    texts, thoughts = [], []
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise ValueError("must be a text or a list of parts")
        kind = str(part.get("type", "")).lower()
        fields = ("text", "thinking", "reasoning", "content", "summary", "output_text")
        inner = next((part[field] for field in fields if isinstance(part.get(field), (str, list, dict))), None)
        text, inner_thoughts = _parse_parts(inner)
        is_thought = part.get("thought") is True or "think" in kind or "reason" in kind
        if is_thought:
            thoughts.append((text or "") + inner_thoughts)
        elif text is not None:
            texts.append(text)
    return "".join(texts) if texts else None, "".join(thoughts)


def _parse_finish_reason(value: object) -> str | None:
    """Return the word for the end of an answer: "" if the server left it empty, None if it has not ended."""
    if isinstance(value, dict):
        value = value.get("type", value.get("reason"))
    if value is None or value is False:
        return None
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value.strip()


def _parse_thoughts(value: object) -> str:
    try:
        text, thoughts = _parse_parts(value)
    except ValueError:
        return ""
    return (text or "") + thoughts


_Parts = Annotated[Any, pydantic.BeforeValidator(_parse_parts)]
_Thoughts = Annotated[str, pydantic.BeforeValidator(_parse_thoughts)]


class _Content(pydantic.BaseModel):
    content: _Parts = (None, "")
    refusal: Any = None
    reasoning: _Thoughts = ""
    reasoning_content: _Thoughts = ""
    thinking: _Thoughts = ""
    reasoning_details: _Thoughts = ""


class Choice(pydantic.BaseModel):
    """A piece of an answer, or the whole answer, in the formats of chats and completions."""

    index: Any = 0
    delta: _Content | None = None
    message: _Content | None = None
    text: _Parts = (None, "")
    finish_reason: Annotated[Any, pydantic.BeforeValidator(_parse_finish_reason)] = None
    finish_details: Any = None
    logprobs: Any = None
    error: Any = None

    @property
    def content(self) -> str | None:
        """The text, or None."""
        inner = self._inner
        text = None if inner is None else inner.content[0]
        return cast("str | None", self.text[0] if text is None else text)

    @property
    def is_thinking(self) -> bool:
        """Whether it contains hidden reasoning, so that the model is working."""
        return bool(self.thoughts)

    @property
    def thoughts(self) -> str:
        """Its hidden reasoning as far as it is text; servers name it in several ways, and some send it twice."""
        inner = self._inner
        if inner is None:
            return ""
        named = (inner.reasoning_content, inner.reasoning, inner.thinking, inner.content[1], inner.reasoning_details)
        return next(filter(None, named), "")

    @property
    def refusal(self) -> str:
        """The words with which the model refuses to answer; "" if it does not."""
        refusal = None if self._inner is None else self._inner.refusal
        return refusal if isinstance(refusal, str) else ""

    @property
    def end(self) -> str | None:
        """The word for the end of the answer: "" if the server left it empty, None if the answer has not ended."""
        if self.finish_reason is None and isinstance(self.finish_details, dict):
            return _parse_finish_reason(self.finish_details)
        return cast("str | None", self.finish_reason)

    @property
    def names_end(self) -> bool:
        """Whether the server sent a field for the end of the answer; None in it says that the answer goes on."""
        return bool({"finish_reason", "finish_details"} & self.model_fields_set)

    @property
    def _inner(self) -> _Content | None:
        return self.delta or self.message


class Chunk(pydantic.BaseModel):
    """The content of an event, or of a whole response."""

    choices: list[Choice] | None = None
    usage: Any = None
    x_groq: Any = None

    @property
    def reported_usage(self) -> object:
        """The usage, or None. Groq puts that of a stream into a field with its name."""
        if self.usage is None and isinstance(self.x_groq, dict):
            return self.x_groq.get("usage")
        return self.usage


class _UsageBody(pydantic.BaseModel, strict=True):
    prompt_tokens: pydantic.NonNegativeInt = pydantic.Field(
        validation_alias=pydantic.AliasChoices("prompt_tokens", "input_tokens")
    )
    completion_tokens: pydantic.NonNegativeInt = pydantic.Field(
        validation_alias=pydantic.AliasChoices("completion_tokens", "output_tokens")
    )
    prompt_tokens_details: Any = pydantic.Field(
        None, validation_alias=pydantic.AliasChoices("prompt_tokens_details", "input_tokens_details")
    )
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None


class _TopScore(pydantic.BaseModel):
    token: str
    logprob: pydantic.FiniteFloat
    bytes: list[int] | None = None


class _Score(_TopScore):
    top_logprobs: list[_TopScore] = []


class _ChatScores(pydantic.BaseModel):
    content: list[_Score]


class _TextScores(pydantic.BaseModel):
    tokens: list[str]
    token_logprobs: list[pydantic.FiniteFloat]
    top_logprobs: list[dict[str, pydantic.FiniteFloat]] | None = None


def parse_json(data: str | bytes) -> tuple[Any, str]:
    """Return the value and "", or None and the problem. Bytes may be UTF-8, UTF-16 or UTF-32."""
    try:
        text = data if isinstance(data, str) else data.decode(json.detect_encoding(data))
        return json.loads(text.removeprefix("\ufeff")), ""
    except RecursionError:
        return None, "does not keep to the API: Invalid JSON: nested too deeply"
    except ValueError as error:  # also UnicodeDecodeError, and a number with too many digits
        return None, f"does not keep to the API: Invalid JSON: {error}"


def parse_object(data: str | bytes) -> tuple[dict[str, Any], str]:
    """Return the JSON object and "", or an empty object and the problem.

    Of a list with one object, as Gemini sends errors, the object is returned.
    """
    value, problem = parse_json(data)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not problem and not isinstance(value, dict):
        problem = f"does not keep to the API: it is a JSON {type(value).__name__}, not an object"
    return value if isinstance(value, dict) else {}, problem


def parse_chunk(value: dict[str, Any]) -> tuple[Chunk | None, str]:
    """Return the chunk and "", or None and the problem."""
    try:
        return Chunk.model_validate(value), ""
    except pydantic.ValidationError as error:
        return None, _problem(error)
    except RecursionError:
        return None, "does not keep to the API: nested too deeply"


def parse_usage(value: object) -> Usage | None:
    """Return the usage; None if it is invalid. Invalid cached tokens count as 0."""
    try:
        usage = _UsageBody.model_validate(value)
    except pydantic.ValidationError:
        return None
    details = usage.prompt_tokens_details
    named = (
        details.get("cached_tokens") if isinstance(details, dict) else None,
        usage.prompt_cache_hit_tokens,
        usage.cached_tokens,
    )
    cached = next((count for count in named if count is not None), 0)
    if type(cached) is not int or not 0 <= cached <= usage.prompt_tokens:
        cached = 0
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached)


def parse_scores(value: object) -> list[tuple[float, float | None]]:
    """Return log-probability and margin of each token; an empty list if the server did not send them in a known format."""
    if not isinstance(value, dict):
        return []
    try:
        if value.get("token_logprobs") is not None:
            texts = _TextScores.model_validate(value)
            tops = texts.top_logprobs or [{}] * len(texts.tokens)
            if not len(texts.tokens) == len(texts.token_logprobs) == len(tops):
                return []
            return [
                (min(0.0, logprob), _margin(logprob, [other for text, other in top.items() if text != token]))
                for token, logprob, top in zip(texts.tokens, texts.token_logprobs, tops, strict=True)
            ]
        return [
            (min(0.0, score.logprob), _margin(score.logprob, _others(score)))
            for score in _ChatScores.model_validate(value).content
        ]
    except pydantic.ValidationError:
        return []


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a server did not answer, in its own words.

    Attributes:
        words: The message.
        code: The code or the type of the error; "" if it has neither.
        field: The field of the request that the error is about; "" if it names none.
        status: The HTTP status that the code stands for; None if it is unknown.
    """

    words: str
    code: str = ""
    field: str = ""
    status: int | None = None


def is_error(value: Mapping[str, Any], *, event: str = "") -> bool:
    """Return whether an object is an error: in a field, by its type, by the name of its event, or FastAPI's `detail`."""
    if value.get("error") or event == "error" or "error" in (value.get("object"), value.get("type")):
        return True
    return not value.get("choices") and bool(value.get("detail") or value.get("errors"))


def parse_reason(value: Mapping[str, Any]) -> Reason:
    """Return the reason in an error body in the formats of OpenAI, vLLM, Ollama, llama-server, FastAPI, Gemini and OpenRouter."""
    inner: Any = value.get("error") or value
    if isinstance(inner, str):
        return Reason(inner[:_MAX_REASON_CHARS], status=_status((), inner))
    if not isinstance(inner, dict):
        return Reason("")
    words = next((_words(inner[name]) for name in ("message", "detail", "errors") if inner.get(name)), "")
    details = inner.get("metadata")
    if isinstance(details, dict) and isinstance(details.get("raw"), str):
        words = f"{words}: {details['raw']}"  # what the provider behind OpenRouter said
    numbers = (f"{name} {inner[name]}" for name in ("n_prompt_tokens", "n_ctx") if type(inner.get(name)) is int)
    named = [inner[name] for name in ("code", "type", "status") if isinstance(inner.get(name), (str, int))]
    field = inner.get("param")
    return Reason(
        " ".join(filter(None, (words[:_MAX_REASON_CHARS], *numbers))),
        next((name for name in named if isinstance(name, str)), ""),
        field if isinstance(field, str) else "",
        _status(named, words),
    )


def parse_overflow(said: str, code: str) -> tuple[int | None, int | None] | None:
    """Return the needed and available tokens of an error, each None if unknown; None if the error is not about the window."""
    if code not in ("context_length_exceeded", "exceed_context_size_error") and not _OVERFLOW.search(said):
        return None
    available, needed = _LIMIT_WORDS.search(said), _NEEDED_WORDS.search(said)
    return int(needed[1]) if needed else None, int(available[1]) if available else None


def _words(message: object) -> str:
    """Return a message as text; of FastAPI's list of problems, where and what each is, without the input."""
    if isinstance(message, str):
        return message
    problems: list[Any] = message if isinstance(message, list) else [message]
    if all(isinstance(problem, dict) and "msg" in problem for problem in problems):
        return "; ".join(f"{'.'.join(map(str, _listed(problem.get('loc'))))}: {problem['msg']}" for problem in problems)
    return json.dumps(message)


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else [value]


def _status(named: Sequence[object], words: str) -> int | None:
    for name in named:
        if re.fullmatch("[45][0-9][0-9]", str(name)):
            return int(str(name))
    for text in (*map(str, named), words):
        for pattern, status in _STATUS_WORDS:
            if pattern.search(text):
                return status
    return None


def _problem(error: pydantic.ValidationError) -> str:
    field, problem, _ = first_problem(error)
    return f"does not keep to the API{f' in the field {field}' if field else ''}: {problem}"


def _others(score: _Score) -> list[float]:
    """Return the log-probabilities of the alternatives. Two tokens may have equal text if each is a part of a character."""
    return [top.logprob for top in score.top_logprobs if (top.token, top.bytes) != (score.token, score.bytes)]


def _margin(logprob: float, others: Sequence[float]) -> float | None:
    return logprob - max(others) if others else None
