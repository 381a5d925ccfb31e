"""Requests under way in another thread: how to wait for one, and where its text ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import re
import string
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, cast

from leanrag.errors import GenerationCancelled, GenerationError, GenerationTimeout
from leanrag.text import ANSWER_TAGS, THOUGHT_TAGS
from leanrag.types import FinishReason

__all__ = ["Pending", "StopMatcher", "ThoughtFilter"]

T = TypeVar("T")

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\s*\n\s*")
_MIN_REPEATED = 12  # characters; shorter lines may well occur twice
_POLL_SECONDS = 0.2  # how often a waiting caller looks for signals and its deadline


class Pending(Generic[T]):
    """Text as it comes, then an outcome; iterate for the text, then read `result`.

    One thread computes and calls `emit`. Another thread, or an event loop, waits. When it stops waiting, the computation stops.

    Args:
        timeout_seconds: Limit from now to the end.
    """

    def __init__(self, *, timeout_seconds: float | None = None) -> None:
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.stop_error: type[GenerationError] | None = None  # set once: why the computation must stop
        self._events: queue.SimpleQueue[str | T | Exception] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None  # tells the event loop that waits, if one does
        self._outcome: T | Exception | None = None
        self._lock = threading.Lock()
        self._is_read = False  # whether somebody reads along; waking a thread for each token slows the computation
        self._unread: list[str] = []

    def stop(self) -> None:
        """Tell the thread that computes to stop; called once, when nobody waits any more."""
        raise NotImplementedError

    @property
    def is_late(self) -> bool:
        """Whether its time limit has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def cancel(self, error: type[GenerationError] = GenerationCancelled) -> None:
        """Stop the computation; without effect when it has ended."""
        if self.stop_error is None and self._outcome is None:
            self.stop_error = error
            self.stop()

    def emit(self, event: str | T | Exception) -> None:
        """Hand text, the outcome or an error to the waiting thread or event loop."""
        with self._lock:
            if isinstance(event, str) and not self._is_read:
                self._unread.append(event)
                return
            self._events.put(event)
            wake = self._wake
        if wake is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
                wake()

    def __iter__(self) -> Iterator[str]:
        """Yield text; an interrupted or abandoned iteration stops the computation."""
        self._read_along()
        yield from self._until_outcome()

    @property
    def result(self) -> T:
        """The outcome; waits for it, and raises it when it is an error."""
        for _ in self._until_outcome():
            pass
        return cast(T, self._outcome)

    async def __aiter__(self) -> AsyncIterator[str]:
        """As iterating, in an event loop."""
        self._read_along()
        async for piece in self._until_outcome_async():
            yield piece

    async def wait(self) -> None:
        """Wait for the outcome, in an event loop."""
        async for _ in self._until_outcome_async():
            pass

    def _read_along(self) -> None:
        with self._lock:
            self._is_read = True
            arrived: list[str | T | Exception] = [*self._unread]
            while not self._events.empty():  # the outcome, when nobody read before it came
                arrived.append(self._events.get())
            for event in arrived:
                self._events.put(event)
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
        arrived = asyncio.Event()
        with self._lock:  # an event that came before is read below; each later one wakes the loop
            self._wake = functools.partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
        try:
            while self._outcome is None:
                if self.is_late:
                    self.cancel(GenerationTimeout)
                arrived.clear()
                while not self._events.empty():
                    event = self._events.get()
                    if isinstance(event, str):
                        yield event
                    else:
                        self._outcome = event
                if self._outcome is None:
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(arrived.wait(), self._seconds_left())
        finally:
            if self._outcome is None:
                self.cancel()
        if isinstance(self._outcome, Exception):
            raise self._outcome

    def _seconds_left(self) -> float | None:
        if self.deadline is None or self.stop_error is not None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    def _next_event(self) -> str | T | Exception:
        while True:
            if self.is_late:
                self.cancel(GenerationTimeout)
            try:  # short waits: a lock without a time limit cannot be interrupted on Windows
                return self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue


class StopMatcher:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one.

    The first stop string to be completed counts, and the longest of those that end together, however the text was cut in pieces.

    Args:
        stops: The stop strings.
        no_repeats: Let each sentence and line that was passed become a stop string: small models fall into loops.

    Attributes:
        reason: Why no more text is passed; None while it is.
        is_idle: Whether it passes everything at once, there being nothing to look for.
    """

    def __init__(self, stops: Sequence[str], *, no_repeats: bool = False) -> None:
        self._stops: dict[str, FinishReason] = dict.fromkeys(stops, "stop")
        self._pending = ""
        self._sentence: str | None = "" if no_repeats else None  # the one under way
        self.reason: FinishReason | None = None
        self.is_idle = not stops and not no_repeats

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


class ThoughtFilter:
    """Passes the answer of a reasoning model through piece by piece, without its thoughts (see `leanrag.text.split_thoughts`).

    It holds back what may be the beginning of a tag. Tags in code are text.

    Args:
        begins_in_thought: Whether the prompt ended with an opening tag. Then the text begins with a thought, which any closing
            tag ends.

    Attributes:
        thoughts: The thoughts so far.
    """

    def __init__(self, *, begins_in_thought: bool = False) -> None:
        self.thoughts = ""
        self._closings = tuple(closing.lower() for _, closing in THOUGHT_TAGS) if begins_in_thought else ()
        self._pending = ""
        self._answer = ""
        self._space = ""  # white space before the answer: part of it only if there are no thoughts

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that certainly belongs to the answer."""
        self._pending += text
        passed: list[str] = []
        is_tag = True
        while is_tag:
            piece, tag = self._up_to_tag(self._closings or (*_OPENINGS, *_BETWEEN), final)
            is_tag = bool(tag)
            if self._closings:
                self.thoughts += piece
                self._closings = () if is_tag else self._closings
            elif tag and _is_in_code(self._answer + piece):
                passed.append(self._pass(piece + tag))
            else:
                passed.append(self._pass(piece))
                self._closings = _OPENINGS.get(tag.lower(), ())
        if final and not self.thoughts:
            passed.append(self._space)
        return "".join(passed)

    def _up_to_tag(self, tags: Iterable[str], final: bool) -> tuple[str, str]:
        """Take the text before the first of `tags` out of `_pending`, and that tag; "" if no tag is complete."""
        folded = self._pending.translate(_LOWER)
        if found := [(start, -len(tag)) for tag in tags if (start := folded.find(tag)) >= 0]:
            start, length = min(found)
            end = start - length
        else:
            held = max(_overlap(folded, tag) for tag in tags)
            start = end = len(folded) - (
                0 if final and not self.thoughts else held
            )  # a tag that was cut off is no text
        piece, tag, self._pending = self._pending[:start], self._pending[start:end], self._pending[end:]
        return piece, tag

    def _pass(self, text: str) -> str:
        if self._answer:
            self._answer += text
            return text
        text = (self._space + text).lstrip() if self.thoughts else self._space + text
        self._space, self._answer = ("", text) if text.strip() else (text, "")
        return self._answer


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # unlike `lower`, keeps the length
_OPENINGS = {opening.lower(): (closing.lower(),) for opening, closing in THOUGHT_TAGS}
_BETWEEN = tuple(tag.lower() for tag in ANSWER_TAGS)


def _is_in_code(text: str) -> bool:
    """Whether backticks were opened and not closed."""
    return len(re.findall(r"`+", text.rpartition("\n\n")[2])) % 2 == 1


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
