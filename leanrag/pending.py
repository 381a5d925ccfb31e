"""Requests that run in another thread: wait for their text and outcome, and stop the text at stop strings and thoughts."""

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
from leanrag.text import ANSWER_TAGS, PROMPT_THOUGHT_TAGS, THOUGHT_TAGS, WRAPPING_TAGS
from leanrag.types import FinishReason, TextPiece

__all__ = ["Pending", "StopMatcher", "ThoughtFilter", "ThoughtText"]

T = TypeVar("T")

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\s*\n\s*")
_MIN_REPEATED = 12  # characters; shorter lines may occur twice in a good answer
_POLL_SECONDS = 0.2  # how often a waiting caller looks for signals and its deadline


class ThoughtText(str):
    """A piece of a thought, among the text that a request emits."""

    __slots__ = ()


class Pending(Generic[T]):
    """A request that runs in another thread: iterate over its text, then read `result`.

    One thread computes and calls `emit`. Another thread, or an event loop, waits. If it stops waiting, the computation stops.

    Args:
        timeout_seconds: Time limit from now to the end of the request.
    """

    def __init__(self, *, timeout_seconds: float | None = None) -> None:
        self.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self.stop_error: type[GenerationError] | None = None  # set at most once: why the computation must stop
        self._events: queue.SimpleQueue[str | T | Exception] = queue.SimpleQueue()
        self._wake: Callable[[], object] | None = None  # wakes the event loop that waits, if there is one
        self._outcome: T | Exception | None = None
        self._lock = threading.Lock()
        self._is_read = False  # whether somebody reads the text as it comes; waking a thread for each token is slow
        self._unread: list[str] = []

    def stop(self) -> None:
        """Tell the computing thread to stop. Called at most once, when nobody waits any more."""
        raise NotImplementedError

    @property
    def is_late(self) -> bool:
        """Whether its time limit has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def cancel(self, error: type[GenerationError] = GenerationCancelled) -> None:
        """Stop the computation. Does nothing if it has ended."""
        if self.stop_error is None and self._outcome is None:
            self.stop_error = error
            self.stop()

    def emit(self, event: str | T | Exception) -> None:
        """Pass text, the outcome or an error to the waiting thread or event loop."""
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
        """The outcome. Waits for it, and raises it if it is an error."""
        for _ in self._until_outcome():
            pass
        return cast(T, self._outcome)

    async def __aiter__(self) -> AsyncIterator[str]:
        """Yield text in an event loop; an interrupted or abandoned iteration stops the computation."""
        self._read_along()
        async for piece in self._until_outcome_async():
            yield piece

    async def wait(self) -> None:
        """Wait for the outcome in an event loop."""
        async for _ in self._until_outcome_async():
            pass

    def _read_along(self) -> None:
        with self._lock:
            self._is_read = True
            arrived: list[str | T | Exception] = [*self._unread]
            while not self._events.empty():  # the outcome may have come before anybody read
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
        with self._lock:  # earlier events are read below; each later event wakes the loop
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
    """Passes text on until a stop string is complete. It keeps back text that may be the beginning of a stop string.

    The stop string that is complete first ends the text. If several end at the same character, the longest counts. The result
    does not depend on how the text was cut into pieces.

    Args:
        stops: The stop strings.
        no_repeats: Make each sentence and line that was passed on a stop string, because small models can repeat themselves.

    Attributes:
        reason: Why no more text is passed on; None while text is passed on.
        is_idle: Whether all text is passed on at once, because there are no stop strings.
    """

    def __init__(self, stops: Sequence[str], *, no_repeats: bool = False) -> None:
        self._stops: dict[str, FinishReason] = dict.fromkeys(stops, "stop")
        self._pending = ""
        self._sentence: str | None = "" if no_repeats else None  # the current, incomplete sentence
        self.reason: FinishReason | None = None
        self.is_idle = not stops and not no_repeats

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that certainly comes before any stop string."""
        if self.is_idle:
            return text
        pending = self._pending + text
        ends = [(at + len(stop), at, reason) for stop, reason in self._stops.items() if (at := pending.find(stop)) >= 0]
        if ends:
            _, cut, self.reason = min(ends)
            self._pending = ""
            return pending[:cut]
        kept_back = 0 if final else max((_overlap(pending, stop) for stop in self._stops), default=0)
        cut = len(pending) - kept_back
        self._pending = pending[cut:]
        if self._sentence is not None:
            *passed, self._sentence = _SENTENCE_END.split(self._sentence + pending[:cut])
            self._stops |= {sentence: "repetition" for sentence in passed if len(sentence) >= _MIN_REPEATED}
        return pending[:cut]


class ThoughtFilter:
    """Passes on the answer of a reasoning model piece by piece, without its thoughts (see `leanrag.text.split_thoughts`).

    It keeps back text that may be the beginning of a tag. Thoughts come before the answer: later tags, and tags in code, are text.

    Args:
        begins_in_thought: Whether the prompt ended with an opening tag. Then the text begins with a thought, and any closing tag
            ends it.
        closing: The closing tag that belongs to the tag in the prompt.
        is_verbatim: Whether all tags after that thought are text.

    Attributes:
        thoughts: The thoughts that were removed.
        answer_start: Number of characters before the answer: thoughts, tags and white space. All characters if there is no answer.
    """

    def __init__(
        self, *, begins_in_thought: bool = False, closing: str = "</think>", is_verbatim: bool = False
    ) -> None:
        self.thoughts = ""
        self.answer_start = 0
        self._read = 0  # characters that are not pending any more
        self._closings = (closing.lower(), *_CLOSINGS) if begins_in_thought else ()
        self._answer_tags = () if is_verbatim else (*_OPENINGS, *_BETWEEN, *_AROUND)
        self._is_wrapped = False  # the answer is between the tags of `_AROUND`
        self._pending = ""
        self._answer = ""
        self._space = ""  # white space before the answer: part of it only if the text has no thoughts

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that certainly belongs to the answer."""
        return "".join(piece.text for piece in self.part(text, final=final) if not piece.is_thought)

    def part(self, text: str, *, final: bool = False) -> list[TextPiece]:
        """Return the text that certainly belongs to the answer, and the thoughts."""
        self._pending += text
        pieces: list[TextPiece] = []
        is_tag = True
        while is_tag:
            piece, tag = self._up_to_tag(self._closings or self._answer_tags, final)
            is_tag = bool(tag)
            if self._closings:
                pieces.append(self._think(piece))
                self._closings = () if is_tag else self._closings
            elif tag and self._is_text(tag, self._answer + piece):
                pieces.append(self._pass(piece + tag, self._read))
            else:
                pieces.append(self._pass(piece, self._read - len(tag)))
                self._is_wrapped = tag.lower() == _AROUND[0] or (self._is_wrapped and tag.lower() != _AROUND[1])
                self._closings = _OPENINGS.get(tag.lower(), ())
                if self._closings and self.thoughts:
                    pieces.append(self._think("\n"))
        if final and not self.thoughts:
            pieces.append(TextPiece(self._space))
        elif final and not self._answer:
            self.answer_start = self._read
        return [piece for piece in pieces if piece.text]

    @property
    def has_answer(self) -> bool:
        """Whether some text of the answer was passed on."""
        return bool(self._answer)

    @property
    def closing(self) -> str | None:
        """The tag that ends the thought at hand; None outside thoughts."""
        return _SPELLINGS[self._closings[0]] if self._closings else None

    def _up_to_tag(self, tags: Iterable[str], final: bool) -> tuple[str, str]:
        """Remove the text before the first of `tags`, and the tag, from `_pending`; return both. No complete tag gives ""."""
        folded = self._pending.translate(_LOWER)
        if found := [(start, -len(tag)) for tag in tags if (start := folded.find(tag)) >= 0]:
            start, length = min(found)
            end = start - length
        else:
            kept_back = max((_overlap(folded, tag) for tag in tags), default=0)
            # an incomplete tag is not text
            start = end = len(folded) - (0 if final and not self.thoughts else kept_back)
        piece, tag, self._pending = self._pending[:start], self._pending[start:end], self._pending[end:]
        self._read += end
        return piece, tag

    def _is_text(self, tag: str, before: str) -> bool:
        """Whether a tag is text: in code, behind the beginning of the answer if it opens a thought, or if it has no partner."""
        if tag.lower() == _AROUND[0] and not self.thoughts:
            return True
        if tag.lower() == _AROUND[1]:
            return not self._is_wrapped
        return _is_in_code(before) or (tag.lower() in (*_OPENINGS, _AROUND[0]) and bool(before.strip()))

    def _think(self, text: str) -> TextPiece:
        self.thoughts += text
        return TextPiece(text, is_thought=True)

    def _pass(self, text: str, end: int) -> TextPiece:
        """Return the text that is passed on of `text`, which ends after so many characters."""
        if self._answer:
            self._answer += text
            return TextPiece(text)
        text = (self._space + text).lstrip() if self.thoughts else self._space + text
        self._space, self._answer = ("", text) if text.strip() else (text, "")
        self.answer_start = end - len(text) if self._answer else end
        return TextPiece(self._answer)


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # unlike `lower`, keeps the length
_OPENINGS = {opening.lower(): (closing.lower(),) for opening, closing in THOUGHT_TAGS}
_SPELLINGS = {closing.lower(): closing for _, closing in (*THOUGHT_TAGS, *PROMPT_THOUGHT_TAGS)}
_CLOSINGS = tuple(closing.lower() for _, closing in THOUGHT_TAGS)
_BETWEEN = tuple(tag.lower() for tag in ANSWER_TAGS)
_AROUND = WRAPPING_TAGS


def _is_in_code(text: str) -> bool:
    """Return whether the text ends inside backticks."""
    return len(re.findall(r"`+", text.rpartition("\n\n")[2])) % 2 == 1


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
