"""Conversations: questions that may refer to earlier ones, and how a conversation is saved."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pydantic

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError, ConversationError
from leanrag.files import RecordFormat, read_record, write_record
from leanrag.pipeline.asking import Asking
from leanrag.pipeline.query import AskOptions, AutoTokens, Earlier, Query, Settings
from leanrag.pipeline.turn import AnswerStream, Event
from leanrag.pipeline.twins import answer_of, pieces_of
from leanrag.types import Answer, CancelToken, Exchange, Explanation, Message, SourceText

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["ChatHistory", "Conversation"]

ChatHistory: TypeAlias = str | os.PathLike[str] | Sequence[Exchange] | Sequence[Message]
"""What was said before: a file that `Conversation.save` wrote, exchanges, or messages of user and assistant in turn."""

_FORMAT = RecordFormat(
    "leanrag conversation",
    version=1,
    noun="conversation",
    mend="Begin a new conversation, or restore the file from a backup",
)


class _Record(pydantic.BaseModel):
    """The file of a conversation."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    exchanges: tuple[Exchange, ...]


class Conversation:
    """Questions in turn; made by `Rag.chat`. Any thread may ask, but only one question is answered at a time.

    A question whose answer was cancelled or failed is not part of the conversation.
    """

    def __init__(
        self,
        asking: Asking,
        settings: Settings,
        history: ChatHistory = (),
        *,
        history_tokens: AutoTokens | None = "auto",
        rewrites: bool = False,
        options: AskOptions | None = None,
    ) -> None:
        if history_tokens != "auto":
            check_whole(0, optional=True, history_tokens=history_tokens)
        self._asking, self._settings = asking, settings
        self._history_tokens, self._rewrites = history_tokens, rewrites
        self._options: AskOptions = options or {}
        self._settings.query("?", **self._options)  # checks the options
        self._exchanges = _read_history(history)
        self._lock = threading.Lock()
        self._stream: weakref.ref[AnswerStream] | None = None
        self._cancel: CancelToken | None = None  # of the question that was asked last

    def __repr__(self) -> str:
        return f"Conversation({len(self._exchanges)} exchanges)"

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """The questions and their answers, oldest first."""
        return self._exchanges

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question, which may refer to earlier ones: "And who signs it off?".

        The trace of the answer has a stage "follow-up" with the question in words that need no conversation.

        Args:
            question: Plain text.
            options: As for `Rag.ask`.

        Raises:
            ConversationError: Another question of this conversation is being answered.
            LeanRAGError: As `Rag.ask`.
        """
        return self._begin(question, options).answer

    def stream(self, question: str, **options: Unpack[AskOptions]) -> AnswerStream:
        """As `ask`: iterate for the model's words as they come, then read `answer`.

        The question becomes part of the conversation when the stream has ended.
        """
        return self._begin(question, options).start()

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """As `ask`, for asyncio; cancelling the task stops the generation."""
        return await answer_of(self._begin(question, options))

    async def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        async for piece in pieces_of(self._begin(question, options)):
            yield piece

    def explain(self, question: str, **options: Unpack[AskOptions]) -> Explanation:
        """Return what `ask` would send, without generating; see `Rag.explain`. No model rewrites the question."""
        query = self._query(question, options)
        return self._asking.explain(replace(query, earlier=Earlier(self._exchanges, self._history_tokens)))

    def clear(self) -> None:
        """Forget what was said; a question that is being answered does not become part of the conversation."""
        with self._lock:
            if self._cancel is not None:
                self._cancel.cancel()
            self._exchanges = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a file, as JSON; `Rag.chat(path)` continues it.

        The file has the text of the sources that were shown.

        Raises:
            StorageError: The file cannot be written.
        """
        write_record(Path(path), _Record(exchanges=self._exchanges), _FORMAT)

    def _query(self, question: str, options: AskOptions) -> Query:
        options = {**self._options, **options}
        earlier = Earlier(self._exchanges, self._history_tokens, self._rewrites)
        return replace(self._settings.query(question, **options), earlier=earlier)

    def _begin(self, question: str, options: AskOptions) -> AnswerStream:
        """Return the stream of a question that has not started; no other question is answered until it has ended."""
        with self._lock:
            stream = self._stream() if self._stream is not None else None
            if stream is not None and not stream.is_over:
                raise ConversationError(
                    "another question of this conversation is being answered. Wait for its end, close its stream, or "
                    "use a conversation of its own for each thread"
                )
            query = self._query(question, options)
            self._cancel = query.cancel
            stream = AnswerStream(functools.partial(self._answer, query), query.cancel)
            self._stream = weakref.ref(stream)  # a stream that nobody keeps is over
        return stream

    def _answer(self, query: Query, has_reader: Callable[[], bool]) -> Generator[Event, None, Answer]:
        answer = yield from self._asking.answer(query, has_reader=has_reader)
        with self._lock:
            if self._cancel is query.cancel and not query.cancel.cancelled:
                self._exchanges = (*self._exchanges, exchange_of(answer))
        return answer


def exchange_of(answer: Answer) -> Exchange:
    """Return what a conversation keeps of an answer."""
    completed = (stage.details.get("question") for stage in answer.trace if stage.name == "follow-up")
    standalone = str(next(completed, "") or "")
    is_refusal = answer.abstained or answer.generation is None
    return Exchange(
        question=answer.question,
        answer=answer.generation.text.strip() if answer.generation is not None and not is_refusal else answer.text,
        standalone="" if standalone == answer.question else standalone,
        sources=tuple(
            SourceText(item.number, item.hit.chunk.title, item.text, item.hit.chunk.document_id)
            for item in answer.packing.items
        ),
        quotes=tuple(citation.quote for citation in answer.citations),
        is_refusal=is_refusal,
    )


def _read_history(history: ChatHistory) -> tuple[Exchange, ...]:
    if isinstance(history, (str, os.PathLike)):
        return read_record(Path(history), _Record, _FORMAT).exchanges
    exchanges = [each for each in history if isinstance(each, Exchange)]
    messages = [each for each in history if isinstance(each, Message)]
    if len(exchanges) == len(history):
        return tuple(exchanges)
    if len(messages) == len(history):
        return tuple(_pair_messages(messages))
    raise ConfigurationError(
        f"`history` must be a file, a sequence of `Exchange`, or a sequence of `Message`, got {history!r:.100}"
    )


def _pair_messages(messages: Iterable[Message]) -> Iterable[Exchange]:
    """Yield questions with their answers; several messages of one side are one."""
    questions: list[str] = []
    answers: list[str] = []
    for message in messages:
        if message.role == "system":
            raise ConfigurationError(
                f"`history` must have messages of user and assistant only, got {message!r:.100}. Instructions belong in the "
                "profile of the model"
            )
        if message.role == "user" and answers:
            yield Exchange("\n".join(questions), "\n".join(answers))
            questions, answers = [], []
        if message.role == "assistant" and not questions:
            raise ConfigurationError(f"`history` must begin with a message of the user, got {message!r:.100}")
        (questions if message.role == "user" else answers).append(message.content)
    if questions and not answers:
        raise ConfigurationError(
            f"`history` must end with an answer, got the question {questions[-1]!r:.100}. Pass the question to `ask`"
        )
    if questions:
        yield Exchange("\n".join(questions), "\n".join(answers))
