"""What is asked of an engine, and how the caller waits for it: on this side of the border between threads."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import GenerationCancelled, GenerationError, GenerationTimeout
from leanrag.llama.sampling import Chooser, TokenScore
from leanrag.types import FinishReason

__all__ = ["Completion", "Request", "StopMatcher"]

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\s*\n\s*")
_MIN_REPEATED = 12  # characters; shorter lines may well occur twice
_POLL_SECONDS = 0.2  # how often a waiting caller looks for signals and its deadline


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine computed.

    Attributes:
        text: What was generated; "" for a request that only scores.
        finish_reason: Why it ended.
        token_ids: Generated tokens, the end token not included.
        scores: Of each of `token_ids`.
        prompt_logprobs: Natural-log probabilities of the prompt's tokens from `Request.score_from` on.
        cached_tokens: Tokens of the prompt that were not computed anew.
        prefill_seconds: From the start of the work to the first token.
        decode_seconds: From the first token to the last.
    """

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    scores: tuple[TokenScore, ...]
    prompt_logprobs: tuple[float, ...]
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float


class StopMatcher:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one.

    The first stop string to be completed counts, and the longest of those that end together, however the text was cut in pieces.

    Args:
        stops: The stop strings.
        no_repeats: Let each sentence and line that was passed become a stop string: small models fall into loops.

    Attributes:
        reason: Why no more text is passed; None while it is.
    """

    def __init__(self, stops: Sequence[str], *, no_repeats: bool = False) -> None:
        self._stops: dict[str, FinishReason] = dict.fromkeys(stops, "stop")
        self._pending = ""
        self._sentence: str | None = "" if no_repeats else None  # the one under way
        self.reason: FinishReason | None = None

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that is certain to precede any stop string."""
        pending = self._pending + text
        ends = [(at + len(stop), at, reason) for stop, reason in self._stops.items() if (at := pending.find(stop)) >= 0]
        if ends:
            _, cut, self.reason = min(ends)
            self._pending = ""
            return pending[:cut]
        held = 0 if final else max((_overlap(pending, stop) for stop in self._stops), default=0)
        cut = len(pending) - held
        self._pending = pending[cut:]
        if self._sentence is not None:
            *passed, self._sentence = _SENTENCE_END.split(self._sentence + pending[:cut])
            self._stops |= {sentence: "repetition" for sentence in passed if len(sentence) >= _MIN_REPEATED}
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Request:
    """One request: submit it to an engine, iterate for text as it comes, then read `result`.

    Args:
        tokens: The prompt `(n,)`, at least one token.
        max_tokens: Most tokens to generate; 0 to score the prompt only.
        choose: Draws each token.
        match_stop: Ends the text.
        score_from: The first token of the prompt whose log-probability is wanted, at least 1; None for none.
        timeout_seconds: Limit from now to the end.
        loop: The event loop that will iterate with `async for`; None for a thread that iterates with `for`.
        on_end: Called once before the outcome is handed over.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        choose: Chooser | None = None,
        match_stop: StopMatcher | None = None,
        score_from: int | None = None,
        timeout_seconds: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self.tokens: NDArray[np.int32] = np.asarray(tokens, np.int32)
        self.max_tokens = max_tokens
        self.choose = choose
        self.match_stop = match_stop or StopMatcher(())
        self.score_from = score_from
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.stop_error: type[GenerationError] | None = None  # set once: why the owner must stop
        self.overtaken = 0  # times that the owner let others go first
        self.on_cancel: Callable[[Request], None] = _ignore
        self._loop, self._on_end = loop, on_end
        self._events: queue.SimpleQueue[str | Completion | Exception] = queue.SimpleQueue()
        self._arrived = asyncio.Event() if loop else None
        self._outcome: Completion | Exception | None = None
        self._lock = threading.Lock()
        self._is_read = False  # whether somebody reads along; waking a thread for each token slows the computation
        self._unread: list[str] = []

    @property
    def n_cells(self) -> int:
        """Cells of the key-value cache that it needs at most: the last token generated is not computed."""
        return len(self.tokens) + max(0, self.max_tokens - 1)

    @property
    def n_reusable(self) -> int:
        """Tokens of the prompt that need not be computed: at least the last is, for the logits after it."""
        return len(self.tokens) - 1 if self.score_from is None else self.score_from - 1

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def cancel(self, error: type[GenerationError] = GenerationCancelled) -> None:
        """Stop the request; a no-op when it has ended."""
        if self.stop_error is None:
            self.stop_error = error
            self.on_cancel(self)

    def emit(self, event: str | Completion | Exception) -> None:
        """Hand text, the completion or an error to the caller."""
        if self._on_end is not None and not isinstance(event, str):
            self._on_end()
        with self._lock:
            if isinstance(event, str) and not self._is_read:
                self._unread.append(event)
                return
            self._events.put(event)
        if self._loop is not None and self._arrived is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._arrived.set)

    def __iter__(self) -> Iterator[str]:
        """Yield text; an interrupted or abandoned iteration stops the request."""
        self._read_along()
        yield from self._until_outcome()

    @property
    def result(self) -> Completion:
        """The completion; waits for it."""
        for _ in self._until_outcome():
            pass
        assert isinstance(self._outcome, Completion)
        return self._outcome

    async def __aiter__(self) -> AsyncIterator[str]:
        """As iterating, in the event loop that the request was made for."""
        self._read_along()
        async for piece in self._until_outcome_async():
            yield piece

    async def wait(self) -> None:
        """Wait for the outcome in the event loop that the request was made for."""
        async for _ in self._until_outcome_async():
            pass

    def _read_along(self) -> None:
        with self._lock:
            self._is_read = True
            for text in self._unread:
                self._events.put(text)
            self._unread.clear()

    def _until_outcome(self) -> Iterator[str]:
        try:
            while self._outcome is None:
                event = self._next_event()
                if isinstance(event, str):
                    yield event
                else:
                    self._outcome = event
        finally:
            if self._outcome is None:
                self.cancel()
        if isinstance(self._outcome, Exception):
            raise self._outcome

    async def _until_outcome_async(self) -> AsyncIterator[str]:
        assert self._arrived is not None
        try:
            while self._outcome is None:
                if self.is_late:
                    self.cancel(GenerationTimeout)
                self._arrived.clear()
                while not self._events.empty():
                    event = self._events.get()
                    if isinstance(event, str):
                        yield event
                    else:
                        self._outcome = event
                if self._outcome is None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(self._arrived.wait(), self._seconds_left())
        finally:
            if self._outcome is None:
                self.cancel()
        if isinstance(self._outcome, Exception):
            raise self._outcome

    def _seconds_left(self) -> float | None:
        if self.deadline is None or self.stop_error is not None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def _next_event(self) -> str | Completion | Exception:
        while True:
            if self.is_late:
                self.cancel(GenerationTimeout)
            try:  # short waits: a lock without a time limit cannot be interrupted on Windows
                return self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue


def _ignore(_: Request) -> None:
    pass
