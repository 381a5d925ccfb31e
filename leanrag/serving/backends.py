"""What answers behind a name of the API: a folder of documents, or a model alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

from leanrag.display import to_plain
from leanrag.generation import stream_pieces
from leanrag.llama.options import LlamaBase, LlamaOptions
from leanrag.pipeline.query import AskOptions
from leanrag.pipeline.rag import Rag
from leanrag.pipeline.turn import AnswerStream
from leanrag.protocols import GenerateOptions, GenerationStream, LanguageModel
from leanrag.serving.failures import ApiError
from leanrag.text import without_marks
from leanrag.types import Answer, CancelToken, Citation, FinishReason, Message, Prompt, TextPiece, Usage

__all__ = ["Ask", "Backend", "FolderBackend", "ModelBackend", "Reply", "Work", "describe_answer", "describe_citation"]

_DEFAULT_MAX_TOKENS = 1024  # of a model without documents, if the request does not say


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for text.

    Attributes:
        prompt: The messages, or the text to complete.
        temperature: 0 for the same answer each time.
        seed: Repeats a draw when `temperature` is above 0.
        max_tokens: Most tokens of the answer; None for the default of the backend.
        stop: Strings that end the text; only for models.
        top_p: Share of the probability to draw from; only for local models.
        schema: JSON Schema that the text satisfies; only for local models. None for free text.
        options: Options of a question that only folders have.
        cancel: Stops the work from another thread.
    """

    prompt: Prompt
    temperature: float = 0.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None
    schema: Mapping[str, object] | None = None
    options: AskOptions = field(default_factory=lambda: AskOptions())
    cancel: CancelToken = field(default_factory=CancelToken)


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished text.

    Attributes:
        text: The text, with marks if it is from a folder.
        finish_reason: Why it ended; None if no model was asked.
        usage: Tokens spent.
        thoughts: What a reasoning model thought before; None if there are no thoughts.
        thought_tokens: Tokens of the thoughts.
        cost: What it cost; None if nothing has a price.
        details: The field `leanrag` of the response; empty for a model without documents.
    """

    text: str
    finish_reason: FinishReason | None
    usage: Usage
    thoughts: str | None = None
    thought_tokens: int = 0
    cost: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


class Work(Protocol):
    """A text that is being written: iterate over `pieces`, then read `reply`."""

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts and the words as they come."""

    def reply(self) -> Reply:
        """Return the finished text; waits for its end."""


class Backend(Protocol):
    """Answers requests. Any thread may call."""

    @property
    def kind(self) -> Literal["folder", "model"]:
        """What it is."""

    def ignores(self, ask: Ask) -> list[str]:
        """Return the names of the fields of a request that have no effect here."""

    def start(self, ask: Ask) -> Work:
        """Begin to answer; return when the model has begun to work. Errors are raised here, or by the work."""


class FolderBackend:
    """Answers from the documents of a folder.

    Args:
        rag: The folder.
    """

    kind: Literal["folder"] = "folder"

    def __init__(self, rag: Rag) -> None:
        self.rag = rag

    def ignores(self, ask: Ask) -> list[str]:
        """Return the names of the fields of a request that have no effect: the prompt of a folder is its own."""
        has_system = not isinstance(ask.prompt, str) and any(message.role == "system" for message in ask.prompt)
        return [*["top_p"] * (ask.top_p is not None), *["system messages"] * has_system]

    def start(self, ask: Ask) -> Work:
        """Begin to answer the last message of the user, which may speak of the messages before it."""
        if ask.schema is not None or ask.stop:
            name = "response_format" if ask.schema is not None else "stop"
            raise ApiError(
                400, f"A folder answers in sentences with citations, so {name!r} cannot be used. Leave it out, or ask a model",
                code="unsupported_parameter", param=name,
            )  # fmt: skip
        options: AskOptions = {
            **ask.options,
            "temperature": ask.temperature,
            "seed": ask.seed,
            "max_tokens": ask.max_tokens,
            "cancel": ask.cancel,
        }
        history, question = _split_conversation(ask.prompt)
        asked = self.rag.chat(history) if history else self.rag
        return _FolderWork(asked.stream(question, **options))


class _FolderWork:
    def __init__(self, stream: AnswerStream) -> None:
        self._stream = stream

    def pieces(self) -> Iterator[TextPiece]:
        return self._stream.pieces()

    def reply(self) -> Reply:
        answer = self._stream.answer
        return Reply(
            text=answer.text,
            finish_reason=answer.finish_reason,
            usage=answer.usage,
            thoughts=answer.thoughts,
            thought_tokens=answer.generation.thought_tokens if answer.generation is not None else 0,
            cost=answer.cost,
            details=describe_answer(answer),
        )


class ModelBackend:
    """A model without documents.

    Args:
        model: The model.
    """

    kind: Literal["model"] = "model"

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def ignores(self, ask: Ask) -> list[str]:
        """Return the names of the fields of a request that have no effect."""
        is_local = isinstance(self.model, LlamaBase)
        options = [f"leanrag.{name}" for name, value in ask.options.items() if value is not None]
        return [*options, *["top_p"] * (ask.top_p is not None and not is_local)]

    def start(self, ask: Ask) -> Work:
        """Begin to generate."""
        options = GenerateOptions(
            max_tokens=ask.max_tokens or self._default_tokens(ask.prompt),
            temperature=ask.temperature,
            seed=ask.seed,
            stop=ask.stop,
            cancel=ask.cancel,
        )
        if isinstance(self.model, LlamaBase):
            options = LlamaOptions(
                **{name: getattr(options, name) for name in GenerateOptions.__dataclass_fields__},
                top_p=1.0 if ask.top_p is None else ask.top_p,
                schema=ask.schema,
            )
        elif ask.schema is not None:
            raise ApiError(
                400, "This model cannot keep to a JSON Schema. Leave out 'response_format', or ask a local model",
                code="unsupported_parameter", param="response_format",
            )  # fmt: skip
        return _ModelWork(self.model.stream(ask.prompt, options))

    def _default_tokens(self, prompt: Prompt) -> int:
        """Return as many tokens as the window has room for, at most `_DEFAULT_MAX_TOKENS`."""
        return max(1, min(_DEFAULT_MAX_TOKENS, self.model.n_ctx - self.model.count(prompt)))


class _ModelWork:
    def __init__(self, stream: GenerationStream) -> None:
        self._stream = stream

    def pieces(self) -> Iterator[TextPiece]:
        return stream_pieces(self._stream)

    def reply(self) -> Reply:
        generation = self._stream.result
        return Reply(
            text=generation.text,
            finish_reason=generation.finish_reason,
            usage=generation.usage,
            thoughts=generation.thoughts,
            thought_tokens=generation.thought_tokens,
        )


def describe_answer(answer: Answer) -> dict[str, Any]:
    """Return what the API says about an answer beside its text."""
    return {
        "text": answer.text,
        "citations": [describe_citation(citation) for citation in answer.citations],
        "is_supported": answer.is_supported,
        "support": answer.support,
        "confidence": answer.confidence,
        "calibrated": answer.calibrated,
        "abstained": answer.abstained,
        "is_partial": answer.is_partial,
        "model": answer.model,
        "cost": answer.cost,
        "seconds": answer.seconds,
        "stopped_by": answer.stopped_by,
        "steps": [
            {"model": step.model, "outcome": step.outcome, "reason": step.reason, "cost": step.cost}
            for step in answer.steps
        ],
        "sources": {
            "tokens": answer.packing.tokens,
            "budget": answer.packing.budget,
            "shown": len(answer.packing.items),
            "dropped": len(answer.packing.dropped),
        },
    }


def describe_citation(citation: Citation) -> dict[str, Any]:
    """Return a citation as JSON. The path of its file is left out: the document has an id and a title."""
    plain: dict[str, Any] = to_plain(citation)
    del plain["source"]
    return plain


def _split_conversation(prompt: Prompt) -> tuple[list[Message], str]:
    """Return what was said before, and the question: all that the user said after the last answer."""
    if isinstance(prompt, str):
        return [], prompt
    spoken = [message for message in prompt if message.role != "system"]
    start = next((i for i, message in enumerate(spoken) if message.role == "user"), len(spoken))
    answers = [i for i, message in enumerate(spoken) if message.role == "assistant"]
    end = max(start, answers[-1] + 1 if answers else 0)
    question = "\n".join(message.content for message in spoken[end:])
    if not question.strip():
        raise ApiError(
            400, "The last message must be the question of the user", code="invalid_value", param="messages"
        )  # fmt: skip
    history = [
        replace(message, content=without_marks(message.content)) if message.role == "assistant" else message
        for message in spoken[start:end]
    ]
    return history, question
