"""Parse the responses of servers: events, chunks, usage, log-probabilities, errors. Nothing is trusted."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from leanrag.types import FinishReason, Usage

__all__ = [
    "FINISH_REASONS",
    "Choice",
    "Chunk",
    "EventDecoder",
    "parse_chunk",
    "parse_object",
    "parse_overflow",
    "parse_reason",
    "parse_scores",
    "parse_usage",
]

FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
_OVERFLOW = re.compile(
    r"context[_ ](?:length|size|window)|maximum context|n_ctx|prompt is too long|too many (?:prompt |input )?tokens",
    re.I,
)
_LIMIT_WORDS = re.compile(r"(?:maximum context length is|n_ctx\D{1,4}|context size \(?)\s*(\d{1,9})", re.I)
_NEEDED_WORDS = re.compile(r"(?:requested|n_prompt_tokens\D{1,4}|request \()\s*(\d{1,9})", re.I)


class EventDecoder:
    r"""Splits a stream of server-sent events into the data of each event (HTML standard, 9.2.6). Pieces may be cut anywhere.

    Comments and other fields are ignored. An event without a blank line at its end is ignored too.

    Example:
        >>> decoder = EventDecoder()
        >>> decoder.feed(b": hello\ndata: a\nda")
        []
        >>> decoder.feed(b"ta: b\r\n\r\n")
        ['a\nb']
    """

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = io.IncrementalNewlineDecoder(utf8, translate=True).decode
        self._line: list[str] = []  # pieces of the current line
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes.

        Raises:
            UnicodeDecodeError: The stream is not UTF-8.
        """
        events = []
        first, *others = self._decode(chunk).split("\n")
        self._line.append(first)
        for piece in others:
            line, self._line = "".join(self._line), [piece]
            field, _, value = line.partition(":")
            if not line and self._data:
                events.append("\n".join(self._data))
                self._data = []
            elif field == "data":
                self._data.append(value.removeprefix(" "))
        return events


class _Content(pydantic.BaseModel):
    content: str | None = None
    reasoning: Any = None
    reasoning_content: Any = None


class Choice(pydantic.BaseModel):
    """A piece of an answer, or the whole answer, in the formats of chats and completions."""

    index: int = 0
    delta: _Content | None = None
    message: _Content | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None

    @property
    def content(self) -> str | None:
        """The text, or None."""
        inner = self.delta or self.message
        return self.text if inner is None else inner.content

    @property
    def is_thinking(self) -> bool:
        """Whether it contains hidden reasoning, so that the model is working."""
        inner = self.delta or self.message
        return inner is not None and bool(inner.reasoning or inner.reasoning_content)

    @property
    def thoughts(self) -> str:
        """Its hidden reasoning as far as it is text; servers name it in two ways, some in both."""
        inner = self.delta or self.message
        said = (inner.reasoning_content, inner.reasoning) if inner else ()
        return next((text for text in said if isinstance(text, str) and text), "")


class Chunk(pydantic.BaseModel):
    """The content of an event."""

    choices: list[Choice]
    usage: Any = None


class _UsageBody(pydantic.BaseModel, strict=True):
    prompt_tokens: pydantic.NonNegativeInt
    completion_tokens: pydantic.NonNegativeInt
    prompt_tokens_details: Any = None


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


_OBJECT: pydantic.TypeAdapter[dict[str, Any]] = pydantic.TypeAdapter(dict[str, Any])


def parse_object(data: str | bytes) -> tuple[dict[str, Any], str]:
    """Return the JSON object and "", or an empty object and the problem."""
    try:
        return _OBJECT.validate_json(data), ""
    except pydantic.ValidationError as error:
        return {}, _problem(error)


def parse_chunk(value: dict[str, Any]) -> tuple[Chunk | None, str]:
    """Return the chunk and "", or None and the problem."""
    try:
        return Chunk.model_validate(value), ""
    except pydantic.ValidationError as error:
        return None, _problem(error)


def parse_usage(value: object) -> Usage | None:
    """Return the usage; None if it is invalid. Invalid cached tokens count as 0."""
    try:
        usage = _UsageBody.model_validate(value)
    except pydantic.ValidationError:
        return None
    details = usage.prompt_tokens_details
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
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


def parse_reason(value: Mapping[str, Any]) -> tuple[str, str]:
    """Return the message and the code of an error body in the formats of OpenAI, vLLM, Ollama, llama-server and FastAPI."""
    inner = value.get("error") or value
    if isinstance(inner, str):
        return inner, ""
    if not isinstance(inner, dict):
        return "", ""
    words = next((inner[field] for field in ("message", "detail") if inner.get(field)), "")
    numbers = " ".join(
        f"{field} {inner[field]}" for field in ("n_prompt_tokens", "n_ctx") if type(inner.get(field)) is int
    )
    code = next((inner[field] for field in ("code", "type") if isinstance(inner.get(field), str)), "")
    return " ".join(filter(None, (words if isinstance(words, str) else json.dumps(words), numbers))), code


def parse_overflow(said: str, code: str) -> tuple[int | None, int | None] | None:
    """Return the needed and available tokens of an error, each None if unknown; None if the error is not about the window."""
    if code not in ("context_length_exceeded", "exceed_context_size_error") and not _OVERFLOW.search(said):
        return None
    available, needed = _LIMIT_WORDS.search(said), _NEEDED_WORDS.search(said)
    return int(needed[1]) if needed else None, int(available[1]) if available else None


def _problem(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(map(str, first["loc"]))
    return f"does not keep to the API{f' in the field {field}' if field else ''}: {first['msg']}"


def _others(score: _Score) -> list[float]:
    """Return the log-probabilities of the alternatives. Two tokens may have equal text if each is a part of a character."""
    return [top.logprob for top in score.top_logprobs if (top.token, top.bytes) != (score.token, score.bytes)]


def _margin(logprob: float, others: Sequence[float]) -> float | None:
    return logprob - max(others) if others else None
