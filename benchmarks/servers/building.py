"""Build responses in the shapes of servers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "EVENTS", "JSON", "LAST_USAGE", "PIECES", "ROLE", "STOP", "TEXT", "THOUGHTS", "USAGE", "USUAL", "Shape", "Value",
    "chunk", "delta", "pieces", "stream", "thinking", "whole", "with_fields",
]  # fmt: skip

TEXT = "Ada Park signs."
PIECES = ("Ada", " Park", " signs.")
THOUGHTS = "Bo? No, Ada."
USAGE = {"prompt_tokens": 16, "completion_tokens": 5, "total_tokens": 21}
EVENTS, JSON = "text/event-stream", "application/json"

Value = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """A response, and what is in it.

    Attributes:
        vendor: Whose API answers so.
        name: What is special about it.
        body: All bytes of the response.
        content_type: Value of the header.
        text: The answer.
        thoughts: The thoughts of the model; None if there are none.
        finish_reason: Why the answer ended, as in `Generation`.
        content: What the content fields have together; it is the answer unless thoughts are in it too.
        is_chat: Whether it is the response to a chat; otherwise it is that to a text to complete.
    """

    vendor: str
    name: str
    body: bytes
    content_type: str
    text: str = TEXT
    thoughts: str | None = None
    finish_reason: str = "stop"
    content: str | None = None
    is_chat: bool = True

    @property
    def is_streamed(self) -> bool:
        """Whether it is a stream of events."""
        return self.content_type == EVENTS


def delta(content: object = None, finish: object = None, *, more: Value | None = None, **choice: Any) -> Value:
    """Return a chunk with a piece of the answer; `more` are further fields of its delta, `choice` those of the choice."""
    inner = ({} if content is None else {"content": content}) | (more or {})
    return chunk({"index": 0, "delta": inner, "finish_reason": finish, **choice})


def chunk(*choices: Value, **fields: Any) -> Value:
    """Return a chunk of a stream."""
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "m"}
    return {**common, "choices": list(choices), **fields}


def with_fields(fields: Value, *chunks: Value) -> list[Value]:
    """Return the chunks, each with further fields."""
    return [{**each, **fields} for each in chunks]


def pieces(finish: object = None, texts: Sequence[object] = PIECES, **choice: Any) -> list[Value]:
    """Return a chunk for each piece of the answer."""
    return [delta(text, finish, **choice) for text in texts]


ROLE = delta("", more={"role": "assistant"})
STOP = delta(finish="stop")
LAST_USAGE = chunk(usage=USAGE)
USUAL = [ROLE, *pieces(), STOP]


def encode_events(
    chunks: Sequence[Value | str], *, done: str = "data: [DONE]\n\n", data: str = "data: ", end: str = "\n"
) -> bytes:
    """Return chunks as events; a string is taken as it is."""
    parts = [chunk if isinstance(chunk, str) else f"{data}{json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*parts, done]).replace("\n", end).encode()


def stream(
    vendor: str, name: str, chunks: Sequence[Value | str], *, sse: Mapping[str, str] | None = None, **known: Any
) -> Shape:
    """Return a stream of chunks; `sse` are arguments of `encode_events`, `known` fields of the shape."""
    return Shape(vendor, name, encode_events(chunks, **(sse or {})), EVENTS, **known)


def whole(
    vendor: str,
    name: str,
    message: Value,
    *,
    finish: object = "stop",
    choice: Value | None = None,
    fields: Value | None = None,
    **known: Any,
) -> Shape:
    """Return a whole answer; `choice` and `fields` are further fields of its choice and its body, `known` those of the shape."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **(choice or {})}
        ],
        "usage": USAGE,
        **(fields or {}),
    }
    return Shape(vendor, name, json.dumps(body).encode(), JSON, **known)


def thinking(field: str, **more: Any) -> list[Value]:
    """Return chunks with the thoughts in a field, in two pieces."""
    return [delta(more={"role": "assistant", "content": None, field: piece, **more}) for piece in ("Bo? ", "No, Ada.")]
