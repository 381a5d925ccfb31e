"""The shapes of OpenAI's API: requests as pydantic models, responses as JSON values."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pydantic

from leanrag.pipeline.query import AskOptions
from leanrag.serving.backends import Ask, Reply
from leanrag.serving.failures import ApiError
from leanrag.types import Message, Usage

__all__ = [
    "ChatRequest",
    "ChatShape",
    "CompletionRequest",
    "CompletionShape",
    "EmbeddingRequest",
    "FolderOptions",
    "TextShape",
    "usage_of",
]

_MOST_TOKENS = 2**31 - 1
_MOST_MESSAGES = 2048
_MOST_TEXTS = 2048  # of a request for embeddings

Tokens = Annotated[int, pydantic.Field(ge=1, le=_MOST_TOKENS)]
Temperature = Annotated[float, pydantic.Field(ge=0, le=2, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(gt=0, le=1, allow_inf_nan=False)]
Seed = Annotated[int, pydantic.Field(ge=0, lt=2**64)]
Stop = Annotated[str, pydantic.Field(min_length=1)]
Texts = Annotated[list[Stop], pydantic.Field(max_length=16)]


class FolderOptions(pydantic.BaseModel):
    """The field `leanrag` of a request: options of a question that only folders have; see `Rag.ask`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    k: Annotated[int, pydantic.Field(ge=1, le=1000)] | None = None
    context_tokens: Tokens | Literal["auto"] | None = None
    thinking_tokens: Annotated[int, pydantic.Field(ge=0, le=_MOST_TOKENS)] | None = None
    style: Literal["phrase", "sentence", "explanation"] | None = None
    where: dict[str, Any] | None = None
    timeout_seconds: Annotated[float, pydantic.Field(gt=0, le=86_400, allow_inf_nan=False)] | None = None

    def options(self) -> AskOptions:
        """Return them as `Rag.ask` takes them."""
        return AskOptions(
            k=self.k,
            context_tokens=self.context_tokens,
            thinking_tokens=self.thinking_tokens,
            style=self.style,
            where=self.where,
            timeout_seconds=self.timeout_seconds,
        )


class StreamOptions(pydantic.BaseModel):
    """Options of a stream."""

    include_usage: bool = False


class ResponseFormat(pydantic.BaseModel):
    """The form of the text."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None

    def schema_of_text(self) -> Mapping[str, object] | None:
        """Return the JSON Schema that the text must satisfy; None for free text."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        schema = (self.json_schema or {}).get("schema")
        if not isinstance(schema, Mapping):
            raise ApiError(
                400, "A response format of type 'json_schema' needs the schema in 'json_schema.schema'",
                code="invalid_value", param="response_format",
            )  # fmt: skip
        return schema


class TextRequest(pydantic.BaseModel):
    """What all requests for text have. Fields that OpenAI's clients may send beside these are allowed and reported."""

    model_config = pydantic.ConfigDict(extra="allow")

    model: str = pydantic.Field(max_length=512)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: Temperature | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    stop: Stop | Texts | None = None
    n: int | None = None
    leanrag: FolderOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check_supported(self) -> None:
        """Check that the request asks only for what the server can do.

        Raises:
            ApiError: It asks for something that would change the shape of the response.
        """
        extra = self.model_extra or {}
        if self.n not in (None, 1):
            raise _unsupported("n", "The server writes one answer. Leave out 'n'")
        if extra.get("tools") and extra.get("tool_choice") != "none":
            raise _unsupported("tools", "The server calls no tools. Leave out 'tools', or set 'tool_choice' to 'none'")
        if extra.get("functions"):
            raise _unsupported("functions", "The server calls no functions. Leave out 'functions'")
        if any(kind != "text" for kind in extra.get("modalities") or ()):
            raise _unsupported("modalities", "The server writes text only. Leave out 'modalities'")
        if extra.get("logprobs"):
            raise _unsupported("logprobs", "The server returns no probabilities. Leave out 'logprobs'")

    @property
    def ignored(self) -> list[str]:
        """The fields that have no effect."""
        return sorted(name for name, value in (self.model_extra or {}).items() if value is not None)

    def to_ask(self, prompt: str | Sequence[Message], max_tokens: int | None, **more: Any) -> Ask:
        """Return what the backend is asked."""
        self.check_supported()
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return Ask(
            prompt,
            temperature=self.temperature or 0.0,
            seed=self.seed,
            max_tokens=max_tokens,
            stop=stop,
            top_p=self.top_p,
            options=(self.leanrag or FolderOptions()).options(),
            **more,
        )


class ChatMessage(pydantic.BaseModel):
    """One message."""

    model_config = pydantic.ConfigDict(extra="allow")

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None


class ChatRequest(TextRequest):
    """The body of `/v1/chat/completions`."""

    messages: list[ChatMessage] = pydantic.Field(min_length=1, max_length=_MOST_MESSAGES)
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    response_format: ResponseFormat | None = None

    def ask(self) -> Ask:
        """Return what the backend is asked.

        Raises:
            ApiError: A message has a part that is not text, or the request asks for something that the server cannot do.
        """
        messages = [read_message(message, f"messages[{i}]") for i, message in enumerate(self.messages)]
        schema = None if self.response_format is None else self.response_format.schema_of_text()
        return self.to_ask(messages, self.max_completion_tokens or self.max_tokens, schema=schema)


class CompletionRequest(TextRequest):
    """The body of `/v1/completions`."""

    prompt: str | list[str]
    max_tokens: Tokens | None = None
    echo: bool = False
    suffix: str | None = None
    best_of: int | None = None

    def ask(self) -> Ask:
        """Return what the backend is asked.

        Raises:
            ApiError: The request asks for something that the server cannot do.
        """
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if len(prompts) != 1:
            raise _unsupported("prompt", "The server completes one prompt in a request. Send a request for each")
        for name, is_used in (("echo", self.echo), ("suffix", self.suffix), ("best_of", self.best_of not in (None, 1))):
            if is_used:
                raise _unsupported(name, f"The server does not know {name!r}. Leave it out")
        return self.to_ask(prompts[0], self.max_tokens)


class EmbeddingOptions(pydantic.BaseModel):
    """The field `leanrag` of a request for embeddings."""

    model_config = pydantic.ConfigDict(extra="forbid")

    kind: Literal["query", "document"] = "document"


class EmbeddingRequest(pydantic.BaseModel):
    """The body of `/v1/embeddings`."""

    model_config = pydantic.ConfigDict(extra="allow")

    model: str = pydantic.Field(max_length=512)
    input: str | Annotated[list[str | int | list[int]], pydantic.Field(min_length=1, max_length=_MOST_TEXTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    leanrag: EmbeddingOptions = pydantic.Field(default_factory=EmbeddingOptions)

    def texts(self) -> list[str]:
        """Return the texts to embed.

        Raises:
            ApiError: They are tokens, or a text is empty.
        """
        items = [self.input] if isinstance(self.input, str) else self.input
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) < len(items):
            raise _unsupported("input", "The server embeds texts, not tokens. Send strings")
        if not all(text.strip() for text in texts):
            raise ApiError(400, "A text to embed is empty. Leave it out", code="invalid_value", param="input")
        return texts


def read_message(message: ChatMessage, where: str) -> Message:
    """Return a message of a request as text.

    Args:
        message: The message.
        where: Its name in an error.

    Raises:
        ApiError: It has a part that is not text, or belongs to a tool.
    """
    if message.role in ("tool", "function") or (message.model_extra or {}).get("tool_calls"):
        raise _unsupported(where, "The server calls no tools. Leave out messages of tools")
    role: Literal["system", "user", "assistant"] = "system" if message.role == "developer" else message.role  # type: ignore[assignment]
    return Message(role, read_content(message.content, where))


def read_content(content: str | Sequence[Mapping[str, Any]] | None, where: str) -> str:
    """Return the text of a content.

    Raises:
        ApiError: A part is not text.
    """
    if content is None or isinstance(content, str):
        return content or ""
    texts: list[str] = []
    for i, part in enumerate(content):
        kind, text = part.get("type"), part.get("text")
        if kind not in ("text", "input_text", "output_text") or not isinstance(text, str):
            raise _unsupported(
                f"{where}.content[{i}]", f"The server reads text only, got a part of type {kind!r:.40}. Leave it out"
            )
        texts.append(text)
    return "\n".join(texts)


def _unsupported(param: str, message: str) -> ApiError:
    return ApiError(400, message, code="unsupported_parameter", param=param)


# Responses


def new_id(prefix: str) -> str:
    """Return an id that no other response has."""
    return f"{prefix}-{secrets.token_hex(12)}"


def usage_of(reply: Reply) -> dict[str, Any]:
    """Return the usage of a response."""
    usage: Usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": reply.thought_tokens},
    }


@dataclass(frozen=True, slots=True)
class TextShape:
    """The responses to one request; subclasses know the shape of their endpoint.

    Attributes:
        model: The model that the client asked for.
        ignored: Fields of the request that have no effect.
        include_usage: Whether a stream ends with its usage.
        id: Id of the response.
        created: When it was made, in seconds since 1970.
    """

    model: str
    ignored: Sequence[str] = ()
    include_usage: bool = False
    id: str = field(default_factory=lambda: new_id("leanrag"))
    created: int = field(default_factory=lambda: int(time.time()))

    object: str = ""
    chunk_object: str = ""

    def whole(self, reply: Reply) -> dict[str, Any]:
        """Return the response that is not streamed."""
        return {
            **self._head(self.object),
            "choices": [self._choice(reply)],
            "usage": usage_of(reply),
            **self._details(reply),
        }

    def first(self) -> list[dict[str, Any]]:
        """Return the chunks before the first word."""
        return []

    def piece(self, text: str, *, is_thought: bool) -> list[dict[str, Any]]:
        """Return the chunks of a piece of text."""
        raise NotImplementedError

    def last(self, reply: Reply) -> list[dict[str, Any]]:
        """Return the chunks after the last word."""
        chunks = [{**self._chunk(self._end(reply)), **self._details(reply)}]
        if self.include_usage:
            chunks.append({**self._head(self.chunk_object), "choices": [], "usage": usage_of(reply)})
        return chunks

    def _choice(self, reply: Reply) -> dict[str, Any]:
        raise NotImplementedError

    def _end(self, reply: Reply) -> dict[str, Any]:
        raise NotImplementedError

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, choice: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._head(self.chunk_object), "choices": [{"index": 0, "logprobs": None, **choice}]}

    def _details(self, reply: Reply) -> dict[str, Any]:
        return {"leanrag": {**reply.details, "ignored": list(self.ignored)}}


@dataclass(frozen=True, slots=True)
class ChatShape(TextShape):
    """Responses of `/v1/chat/completions`."""

    object: str = "chat.completion"
    chunk_object: str = "chat.completion.chunk"

    def first(self) -> list[dict[str, Any]]:
        """Return the chunk that says who speaks."""
        return [self._chunk({"delta": {"role": "assistant", "content": ""}, "finish_reason": None})]

    def piece(self, text: str, *, is_thought: bool) -> list[dict[str, Any]]:
        """Return the chunk of a piece; thoughts are in `reasoning_content`."""
        name = "reasoning_content" if is_thought else "content"
        return [self._chunk({"delta": {name: text}, "finish_reason": None})]

    def _end(self, reply: Reply) -> dict[str, Any]:
        return {"delta": {}, "finish_reason": _finish_reason(reply)}

    def _choice(self, reply: Reply) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.thoughts is not None:
            message["reasoning_content"] = reply.thoughts
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}


@dataclass(frozen=True, slots=True)
class CompletionShape(TextShape):
    """Responses of `/v1/completions`."""

    object: str = "text_completion"
    chunk_object: str = "text_completion"

    def piece(self, text: str, *, is_thought: bool) -> list[dict[str, Any]]:
        """Return the chunk of a piece; thoughts are left out."""
        return [] if is_thought else [self._chunk({"text": text, "finish_reason": None})]

    def _end(self, reply: Reply) -> dict[str, Any]:
        return {"text": "", "finish_reason": _finish_reason(reply)}

    def _choice(self, reply: Reply) -> dict[str, Any]:
        return {"index": 0, "text": reply.text, "logprobs": None, "finish_reason": _finish_reason(reply)}


def _finish_reason(reply: Reply) -> str:
    return "length" if reply.finish_reason == "length" else "stop"
