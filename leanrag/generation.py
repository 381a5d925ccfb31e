"""The base class of language models, `BaseLanguageModel`, and streams of generated text.

To add a model, inherit from `BaseLanguageModel` and write its method `stream`. `PieceStream` makes the stream from an iterator of
strings.
"""

from __future__ import annotations

import abc
import collections
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypedDict, TypeVar

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    LeanRAGError,
    QueueFullError,
)
from leanrag.pending import Pending, StopMatcher, ThoughtFilter, ThoughtText
from leanrag.protocols import GenerateOptions, GenerationStream, LanguageModel, StreamsThoughts
from leanrag.text import PROMPT_THOUGHT_TAGS, THOUGHT_TAGS, estimate_tokens, split_thoughts
from leanrag.types import CancelToken, FinishReason, Generation, Message, Prompt, TextPiece, Usage

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = [
    "BaseLanguageModel",
    "GenerateKeywords",
    "Parted",
    "PendingStream",
    "PieceStream",
    "check_messages",
    "check_window",
    "find_open_thought",
    "gather_results",
    "part_generated",
    "stream_pieces",
]

S = TypeVar("S")
T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# OpenAI's cookbook, "How to count tokens with tiktoken": three tokens and the role for each message, three tokens for the reply.
_MESSAGE_TOKENS = 4
_REPLY_TOKENS = 3


class GenerateKeywords(TypedDict, total=False):
    """The fields of `GenerateOptions` after the first, as keywords of a call."""

    temperature: float
    seed: int | None
    stop: Sequence[str]
    timeout_seconds: float | None
    cancel: CancelToken | None
    thinking_tokens: int | None


class BaseLanguageModel(abc.ABC):
    r"""Base class of language models: a subclass needs only the method `stream`.

    The counts of tokens are estimates, rather too high than too low. Override `count_tokens` if you have the model's tokenizer, and
    `count` and `render` if you know its chat template.

    Attributes:
        name: Name of the model in `Answer.model`; by default the name of the class.
        n_ctx: Window in tokens.
        is_chat: Whether the model reads messages; otherwise it reads only strings.

    Example:
        >>> class Shouting(BaseLanguageModel):
        ...     n_ctx = 8192
        ...
        ...     def stream(self, prompt, options):
        ...         return PieceStream(self.render(prompt).upper().splitlines(keepends=True), self, prompt, options)
        >>> Shouting().generate("first\nsecond", max_tokens=8, stop=["C"]).text
        'FIRST\nSE'
    """

    name: str = ""
    n_ctx: int = 4096
    is_chat: bool = True

    def __new__(cls, *_: object, **__: object) -> Self:
        """Name the model after its class, unless the class has a `name`."""
        model = super().__new__(cls)
        if not cls.name:
            model.name = cls.__name__
        return model

    @abc.abstractmethod
    def stream(self, prompt: Prompt, options: GenerateOptions) -> GenerationStream:
        """Start a generation and return its stream; see `LanguageModel.stream`."""

    def generate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateKeywords]) -> Generation:
        """Return the completion of `prompt`.

        Args:
            prompt: Text to complete, or messages.
            max_tokens: Most tokens of the answer.
            options: See `GenerateOptions`.

        Raises:
            ContextOverflowError: Prompt plus `max_tokens` exceed `n_ctx`.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: `timeout_seconds` passed.
            GenerationError: The model failed.
        """
        return self._generate(prompt, GenerateOptions(max_tokens, **options))

    def generate_many(
        self, prompts: Iterable[Prompt], *, max_tokens: int, **options: Unpack[GenerateKeywords]
    ) -> list[Generation]:
        """Return the completion of each prompt, in order.

        If a prompt fails, the others stop and its error is raised.
        """
        return self._generate_many(prompts, GenerateOptions(max_tokens, **options))

    async def agenerate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateKeywords]) -> Generation:
        """Return the completion of `prompt`, for asyncio; cancelling the task stops the generation."""
        return await self._agenerate(prompt, GenerateOptions(max_tokens, **options))

    def astream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[GenerateKeywords]) -> AsyncIterator[str]:
        """Yield the text while it is generated, for asyncio; leaving the loop stops the generation."""
        return self._astream(prompt, GenerateOptions(max_tokens, **options))

    def count_tokens(self, text: str) -> int:
        """Return about the number of tokens of `text`, without a chat template."""
        return estimate_tokens(text)

    def count(self, prompt: Prompt) -> int:
        """Return about the number of tokens of the prompt; for messages, with the tokens that chat templates usually add."""
        if isinstance(prompt, str):
            return self.count_tokens(prompt)
        return sum(self.count_tokens(message.content) + _MESSAGE_TOKENS for message in prompt) + _REPLY_TOKENS

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as text; messages get lines with their roles."""
        prompt = self._readable(prompt)
        if isinstance(prompt, str):
            return prompt
        return "\n\n".join(f"[{message.role}]\n{message.content}" for message in prompt)

    def close(self) -> None:  # noqa: B027 - most models have nothing to free
        """Free what the model uses; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _readable(self, prompt: Prompt) -> Prompt:
        """Return `prompt` if this model can read it; raise a `ConfigurationError` if not."""
        if isinstance(prompt, str):
            return prompt
        if not self.is_chat:
            raise ConfigurationError(f"{self.name} completes text (`is_chat` is False). Pass a string as the prompt")
        return check_messages(prompt)

    # The methods above, with checked options

    def _generate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        return self.stream(prompt, options).result

    def _generate_many(self, prompts: Iterable[Prompt], options: GenerateOptions) -> list[Generation]:
        return gather_results(lambda prompt: self.stream(prompt, options), prompts)

    async def _agenerate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        stream = _for_event_loops(self.stream(prompt, options))
        await stream.wait()
        return stream.result

    async def _astream(self, prompt: Prompt, options: GenerateOptions) -> AsyncIterator[str]:
        async for piece in _for_event_loops(self.stream(prompt, options)):
            yield piece


class PieceStream:
    """A `GenerationStream` that reads text from an iterator, in the thread that reads the stream.

    The text ends at a stop string, or before the first piece after `max_tokens`. Between pieces, the stream checks the time limit
    and whether the request was cancelled. Thoughts of a reasoning model are not part of the text; `pieces` yields them too. An
    exception of the iterator becomes a `GenerationError`.

    Args:
        pieces: The text, in pieces of any length.
        model: The model that writes the text; its counts of tokens become the usage.
        prompt: The prompt of this text.
        options: How to generate.
        is_timed: Whether the result has the seconds that the model took.

    Raises:
        ContextOverflowError: Prompt plus `max_tokens` exceed the window of `model`.
    """

    def __init__(
        self,
        pieces: Iterable[str],
        model: LanguageModel,
        prompt: Prompt,
        options: GenerateOptions,
        *,
        is_timed: bool = True,
    ) -> None:
        self._prompt_tokens = check_window(model, model.count(prompt), options)
        self._pieces = iter(pieces)
        self._model, self._options, self._is_timed = model, options, is_timed
        self._match_stop = StopMatcher(options.stop)
        self._thoughts = ThoughtFilter()
        self._is_closed = False
        self._text: list[str] = []
        self._n_tokens = self._answer_tokens = 0
        self._outcome: Generation | Exception | None = None
        self._started = self._first = time.monotonic()

    def __iter__(self) -> Iterator[str]:
        """Yield the text while it is generated."""
        return (piece.text for piece in self.pieces() if not piece.is_thought)

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts and the text while they are generated."""
        while self._outcome is None:
            try:
                pieces = self._read()
            except LeanRAGError as error:
                self._outcome = error
            except Exception as error:  # noqa: BLE001 - the iterator may be the user's code
                name = self._model.name
                self._outcome = GenerationError(f"{name} failed: {type(error).__name__}: {error}", model=name)
                self._outcome.__cause__ = error
            else:
                yield from pieces
        if isinstance(self._outcome, Exception):
            raise self._outcome

    def close(self) -> None:
        """Stop the generation if it still runs."""
        self._is_closed = True
        if isinstance(self._pieces, Generator):
            with contextlib.suppress(ValueError):  # it runs in another thread, which looks at `_is_closed` next
                self._pieces.close()

    @property
    def result(self) -> Generation:
        """The whole generation; reads the rest of the text first."""
        for _ in self.pieces():
            pass
        assert isinstance(self._outcome, Generation)
        return self._outcome

    def _read(self) -> list[TextPiece]:
        """Read a piece; return the text and the thoughts that are certain."""
        self._check_running()
        piece = next(self._pieces, None)
        if piece is None:
            return self._finish("stop")
        self._check_running()
        if self._n_tokens >= self._options.reserved_tokens or self._answer_tokens >= self._options.max_tokens:
            return self._finish("length")
        if not self._n_tokens:
            self._first = time.monotonic()
        n_tokens = self._model.count_tokens(piece)
        self._n_tokens += n_tokens
        self._text.append(self._match_stop(piece))
        if self._match_stop.reason is not None:
            return self._finish(self._match_stop.reason)
        parted = self._thoughts.part(self._text[-1])
        if self._thoughts.has_answer:
            self._answer_tokens += n_tokens
        return parted

    def _finish(self, reason: FinishReason) -> list[TextPiece]:
        """Set the outcome; return the last text, which was delayed because it could have been the start of a stop string."""
        if self._match_stop.reason is None:
            self._text.append(self._match_stop("", final=True))
        written, ended = "".join(self._text), time.monotonic()
        parted = part_generated(written)
        self._outcome = Generation(
            text=parted.text,
            model=self._model.name,
            finish_reason=reason,
            usage=Usage(self._prompt_tokens, self._model.count_tokens(written)),
            seed=self._options.seed if self._options.temperature > 0 else None,
            prefill_seconds=self._first - self._started if self._is_timed else None,
            decode_seconds=ended - self._first if self._is_timed else None,
            thoughts=parted.thoughts,
            thought_tokens=self._model.count_tokens(written[: parted.start]) if parted.start else 0,
        )
        self.close()
        return self._thoughts.part(self._text[-1], final=True)

    def _check_running(self) -> None:
        name, timeout, cancel = self._model.name, self._options.timeout_seconds, self._options.cancel
        if timeout is not None and time.monotonic() >= self._started + timeout:
            raise GenerationTimeout(f"{name} did not answer within {timeout:g} seconds", model=name)
        if self._is_closed or (cancel is not None and cancel.cancelled):
            raise GenerationCancelled(f"the request to {name} was cancelled", model=name)


class PendingStream(Generic[T, R]):
    """A stream of text that another thread generates: iterate over the text, then read `result`. Event loops can read it too.

    Args:
        pending: The running computation.
        finish: Makes the result from the outcome of `pending`.
        owner: An object that must stay alive while the stream runs.
        thoughts: Parts thoughts from the text; None if the text has none, or if they are removed already.
    """

    def __init__(
        self, pending: Pending[T], finish: Callable[[T], R], owner: object, *, thoughts: ThoughtFilter | None = None
    ) -> None:
        self._pending, self._finish, self._owner = pending, finish, owner
        self._thoughts = thoughts

    def __iter__(self) -> Iterator[str]:
        """Yield the text while it is generated; leaving the loop early stops the generation."""
        return (piece.text for piece in self.pieces() if not piece.is_thought)

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts and the text while they are generated; leaving the loop early stops the generation."""
        for text in self._pending:
            yield from self._part(text)
        yield from self._rest()

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield the text while it is generated, for asyncio."""
        async for piece in self.apieces():
            if not piece.is_thought:
                yield piece.text

    async def apieces(self) -> AsyncIterator[TextPiece]:
        """Yield the thoughts and the text while they are generated, for asyncio."""
        async for text in self._pending:
            for piece in self._part(text):
                yield piece
        for piece in self._rest():
            yield piece

    def _part(self, text: str) -> list[TextPiece]:
        if self._thoughts is None or isinstance(text, ThoughtText):
            return [TextPiece(text, isinstance(text, ThoughtText))]
        return self._thoughts.part(text)

    def _rest(self) -> list[TextPiece]:
        return [] if self._thoughts is None else self._thoughts.part("", final=True)

    async def wait(self) -> None:
        """Wait for the end of the generation, for asyncio."""
        await self._pending.wait()

    def close(self) -> None:
        """Stop the generation if it still runs."""
        self._pending.cancel()

    @property
    def result(self) -> R:
        """The result; waits until the generation ends."""
        return self._finish(self._pending.result)


class _Pumped(Pending[Generation]):
    """Reads a stream in a separate thread."""

    def __init__(self, stream: GenerationStream) -> None:
        super().__init__()
        self._stream = stream
        threading.Thread(target=self._pump, name="leanrag stream", daemon=True).start()

    def stop(self) -> None:
        self._stream.close()

    def _pump(self) -> None:
        try:
            for piece in stream_pieces(self._stream):
                self.emit(ThoughtText(piece.text) if piece.is_thought else piece.text)
            self.emit(self._stream.result)
        except Exception as error:  # noqa: BLE001 - handed to the caller
            self.emit(error)


def stream_pieces(stream: GenerationStream) -> Iterator[TextPiece]:
    """Return the text of a stream piece by piece, with the thoughts if the stream yields them."""
    return stream.pieces() if isinstance(stream, StreamsThoughts) else map(TextPiece, stream)


def _for_event_loops(stream: GenerationStream) -> PendingStream[Generation, Generation]:
    if isinstance(stream, PendingStream):
        return stream
    return PendingStream(_Pumped(stream), lambda generation: generation, stream)


class _HasResult(Protocol[R_co]):
    """A running computation with a result."""

    def close(self) -> None: ...

    @property
    def result(self) -> R_co: ...


def gather_results(submit: Callable[[S], _HasResult[R]], items: Iterable[S]) -> list[R]:
    """Submit all items and return their results in order; when the model's queue is full, wait for the oldest result."""
    waiting: collections.deque[_HasResult[R]] = collections.deque()
    results: list[R] = []
    try:
        for item in items:
            while True:
                try:
                    waiting.append(submit(item))
                    break
                except QueueFullError:
                    if not waiting:
                        raise
                    results.append(waiting.popleft().result)
        while waiting:
            results.append(waiting.popleft().result)
    finally:
        for stream in waiting:
            stream.close()
    return results


def find_open_thought(prompt: str) -> str | None:
    r"""Return the closing tag of the thought that a prompt opens at its end; None if the model does not begin with a thought.

    Example:
        >>> find_open_thought("<|user|>Who signs?<|assistant|><think>\n")
        '</think>'
    """
    end = prompt.rstrip()
    tags = (*THOUGHT_TAGS, *PROMPT_THOUGHT_TAGS)
    return next((closing for opening, closing in tags if end.endswith(opening)), None)


@dataclass(frozen=True, slots=True)
class Parted:
    """The text of a model, parted.

    Attributes:
        thoughts: Its thoughts; None if it has none.
        text: Its answer.
        start: Number of characters before the answer; 0 without thoughts.
    """

    thoughts: str | None
    text: str
    start: int


def part_generated(text: str, *, begins_in_thought: bool = False, is_verbatim: bool = False) -> Parted:
    r"""Split the text of a model into its thoughts and its answer.

    The answer is the text that `ThoughtFilter` passes on from a stream, with the same arguments. If the text has only a closing
    tag, all text before the tag is a thought.

    Example:
        >>> part_generated("<think>Bo? No, Ada.</think>\n\nAda Park signs.")
        Parted(thoughts='Bo? No, Ada.', text='Ada Park signs.', start=29)
    """
    match = ThoughtFilter(begins_in_thought=begins_in_thought, is_verbatim=is_verbatim)
    answer = match(text, final=True)
    thoughts, start = match.thoughts, match.answer_start if match.thoughts else 0
    if not thoughts and not is_verbatim:
        thoughts, answer = split_thoughts(answer)
        if thoughts:
            start = text.rfind(answer) if answer else len(text)
    return Parted(thoughts.strip() or None, answer, start)


def check_messages(messages: Sequence[Message]) -> Sequence[Message]:
    """Check that `messages` is a prompt, and return it.

    Raises:
        ConfigurationError: `messages` is empty, or has an item that is not a `Message`.
    """
    if not messages or not all(isinstance(message, Message) for message in messages):
        raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {messages!r:.200}")
    return messages


def check_window(model: LanguageModel, prompt_tokens: int, options: GenerateOptions) -> int:
    """Check that the prompt and `options.max_tokens` fit into the window of `model`, and return `prompt_tokens`.

    Raises:
        ContextOverflowError: They do not fit.
    """
    needed = prompt_tokens + options.reserved_tokens
    if needed > model.n_ctx:
        raise ContextOverflowError(
            f"the prompt of {prompt_tokens:,} tokens and {options.reserved_tokens:,} for the answer exceed the window of "
            f"{model.name}, {model.n_ctx:,} tokens. Shorten the prompt or lower `max_tokens`",
            needed=needed,
            available=model.n_ctx,
            model=model.name,
        )
    return prompt_tokens
