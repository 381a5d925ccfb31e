"""The shapes of OpenAI's `/v1/responses`, as far as text goes. The server keeps nothing: each request brings its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic

from leanrag.serving.backends import Ask, Reply
from leanrag.serving.failures import ApiError
from leanrag.serving.openai_api import ResponseFormat, TextRequest, Tokens, new_id, read_content
from leanrag.types import Message

__all__ = ["ResponsesRequest", "ResponsesShape"]


class TextOptions(pydantic.BaseModel):
    """The field `text` of a request."""

    format: dict[str, Any] | None = None


class InputItem(pydantic.BaseModel):
    """A message of the input."""

    model_config = pydantic.ConfigDict(extra="allow")

    type: str = "message"
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[dict[str, Any]] = ""


class ResponsesRequest(TextRequest):
    """The body of `/v1/responses`."""

    input: str | list[InputItem] = pydantic.Field(min_length=1)
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    text: TextOptions | None = None
    previous_response_id: str | None = None
    background: bool | None = None

    def ask(self) -> Ask:
        """Return what the backend is asked.

        Raises:
            ApiError: The request asks for something that the server cannot do.
        """
        if self.previous_response_id:
            raise ApiError(
                400, "The server keeps no responses. Send the earlier messages in 'input'",
                code="unsupported_parameter", param="previous_response_id",
            )  # fmt: skip
        if self.background:
            raise ApiError(
                400,
                "The server answers at once. Leave out 'background'",
                code="unsupported_parameter",
                param="background",
            )
        messages = [Message("system", self.instructions)] if self.instructions else []
        items = [InputItem(content=self.input)] if isinstance(self.input, str) else self.input
        for i, item in enumerate(items):
            if item.type != "message":
                raise ApiError(
                    400, f"The server reads messages only, got an item of type {item.type!r:.40}. Leave it out",
                    code="unsupported_parameter", param=f"input[{i}]",
                )  # fmt: skip
            role: Literal["system", "user", "assistant"] = "system" if item.role == "developer" else item.role
            messages.append(Message(role, read_content(item.content, f"input[{i}]")))
        return self.to_ask(messages, self.max_output_tokens, schema=self._schema())

    def _schema(self) -> Mapping[str, object] | None:
        form = self.text.format if self.text is not None else None
        if form is None:
            return None
        kind = form.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise ApiError(400, f"The format {kind!r:.40} is unknown", code="invalid_value", param="text.format")
        return ResponseFormat(type=kind, json_schema=form).schema_of_text()


@dataclass
class ResponsesShape:
    """The response to one request, whole or as events.

    Attributes:
        model: The model that the client asked for.
        ignored: Fields of the request that have no effect.
        created: When it was made, in seconds since 1970.
        id: Id of the response.
        item_id: Id of its message.
    """

    model: str
    created: int
    ignored: Sequence[str] = ()
    id: str = field(default_factory=lambda: new_id("resp"))
    item_id: str = field(default_factory=lambda: new_id("msg"))
    _number: int = 0
    _text: str = ""

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the response that is not streamed."""
        is_cut = reply.finish_reason == "length"
        return {
            **self._head("incomplete" if is_cut else "completed"),
            "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
            "output": [self._message("completed", [_part(reply.text)])],
            "usage": _usage_of(reply),
            "leanrag": {**reply.details, "ignored": list(self.ignored)},
        }

    def first(self) -> list[dict[str, Any]]:
        """Return the events before the first word."""
        return [
            self._event("response.created", response=self._head("in_progress")),
            self._event("response.in_progress", response=self._head("in_progress")),
            self._event("response.output_item.added", output_index=0, item=self._message("in_progress", [])),
            self._event("response.content_part.added", **self._where(), part=_part("")),
        ]

    def piece(self, text: str, *, is_thought: bool) -> list[dict[str, Any]]:
        """Return the event of a piece; thoughts are left out."""
        if is_thought:
            return []
        self._text += text
        return [self._event("response.output_text.delta", **self._where(), delta=text, logprobs=[])]

    def last(self, reply: Reply) -> list[dict[str, Any]]:
        """Return the events after the last word."""
        response = self.whole(reply)
        return [
            self._event("response.output_text.done", **self._where(), text=self._text, logprobs=[]),
            self._event("response.content_part.done", **self._where(), part=_part(self._text)),
            self._event("response.output_item.done", output_index=0, item=response["output"][0]),
            self._event(f"response.{response['status']}", response=response),
        ]

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}

    def _where(self) -> dict[str, Any]:
        return {"item_id": self.item_id, "output_index": 0, "content_index": 0}

    def _message(self, status: str, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"type": "message", "id": self.item_id, "status": status, "role": "assistant", "content": content}

    def _head(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "output": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
            "store": False,
        }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage_of(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reply.thought_tokens},
        "total_tokens": usage.total_tokens,
    }
