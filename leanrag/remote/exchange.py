"""Ask a model for a completion and read its answer. All code of this module runs in the event loop of a worker."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable

from leanrag.pending import StopMatcher, ThoughtText
from leanrag.remote.attempts import Attempt, Operation
from leanrag.remote.events import EventDecoder, SurrogateJoiner
from leanrag.remote.protocol import (
    FAILED_REASONS,
    FINISH_REASONS,
    Choice,
    is_error,
    parse_chunk,
    parse_object,
    parse_reason,
    parse_scores,
    parse_usage,
)
from leanrag.remote.refusals import Fields, Query
from leanrag.remote.waiting import Limit
from leanrag.types import FinishReason

__all__ = ["Exchange", "Reply"]

logger = logging.getLogger(__name__)

_EVENTS_BEGIN = re.compile(rb"(?:data|event|id|retry)?[ \t]*:|(?:data|event|id|retry)[\r\n]")
_USAGE_SECONDS = 5.0  # how long to wait for the usage after the answer has ended


class Reply(Attempt):
    """What has arrived of an answer."""

    def __init__(self, match_stop: StopMatcher, emit: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        super().__init__()
        self.match_stop = match_stop
        self.pieces: list[str] = []
        self._thoughts: list[str] = []  # reasoning that the server sends apart from the text
        self._refusal: list[str] = []  # the words with which the model refuses to answer
        self.usage: object = None
        self.finish_reason: FinishReason | None = None
        self.has_choices = False
        self.has_content = False  # some text, perhaps empty
        self.is_unfinished = False  # whether the server said last that the answer goes on
        self.has_skipped = False  # whether an event was neither a piece of the answer nor its usage
        self.has_last_usage = False  # whether the usage came in an event of its own, as it does after an answer
        self._has_deltas = False  # whether the text comes in pieces: some servers repeat the whole message at the end
        self._index: object = None
        self._scores: list[tuple[float, float | None]] | None = []
        self._join_text, self._join_thoughts = SurrogateJoiner(), SurrogateJoiner()
        self._emit, self._monotonic = emit, monotonic
        self._started = self._first = self._last = monotonic()

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return "".join(self.pieces)

    @property
    def thoughts(self) -> str:
        """The reasoning that the server sends apart from the text."""
        return "".join(self._thoughts).strip()

    @property
    def refusal(self) -> str:
        """The words with which the model refuses to answer; "" if it does not."""
        return "".join(self._refusal)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has arrived."""
        return self.finish_reason is not None and self.has_content

    def pick(self, choices: list[Choice]) -> Choice | None:
        """Return the piece of the first answer, if a server sends several."""
        if not choices:
            return None
        if not self.has_choices:
            self.has_choices, self._index = True, choices[0].index
        return next((choice for choice in choices if choice.index == self._index), None)

    def add(self, choice: Choice) -> None:
        """Add a piece of the answer."""
        if choice.names_end:
            self.is_unfinished = choice.end is None
        self._has_deltas = self._has_deltas or choice.delta is not None
        if self._has_deltas and choice.delta is None and choice.message is not None:
            return
        text = choice.content
        self._think(self._join_thoughts(choice.thoughts))
        self._refusal.append(choice.refusal)
        if (text or choice.is_thinking or choice.refusal) and self.first_limit is not None:
            self.first_limit.lift()
        scores = [] if choice.is_thinking and not text else parse_scores(choice.logprobs)
        if scores and self._scores is not None:
            self._scores += scores
        if text is None:
            return
        self.has_content = True
        if not text:
            return
        if not scores:
            self._scores = None
        self._last = self._monotonic()
        if not self.has_text:
            self.has_text, self._first = True, self._last
        self._pass(self.match_stop(self._join_text(text)))

    def end(self) -> None:
        """Pass on the text that was kept back because it could begin a stop string."""
        self._think(self._join_thoughts("", final=True))
        if self.match_stop.reason is None:
            self._pass(self.match_stop(self._join_text("", final=True), final=True))

    def _think(self, text: str) -> None:
        if text:
            self._thoughts.append(text)
            self._emit(ThoughtText(text))

    def _pass(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self._emit(text)

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """Log-probability of each token; None if a value is unknown."""
        return tuple(logprob for logprob, _ in self._scores) if self._scores else None

    @property
    def margins(self) -> tuple[float, ...] | None:
        """Margin of each token; None if a value is unknown."""
        margins = tuple(margin for _, margin in self._scores or () if margin is not None)
        return margins if self._scores and len(margins) == len(self._scores) else None

    @property
    def prefill_seconds(self) -> float:
        """Seconds from sending to the first text."""
        return self._first - self._started

    @property
    def decode_seconds(self) -> float:
        """Seconds from the first text to the last."""
        return self._last - self._first


class Exchange(Operation[Reply]):
    """A request for a completion.

    Args:
        query: The prompt and its options.
        fields: What the model accepts.
        emit: Gets each piece of text when it arrives.
        monotonic: Seconds, for durations.
    """

    def __init__(
        self, query: Query, fields: Fields, emit: Callable[[str], None], monotonic: Callable[[], float]
    ) -> None:
        self._query, self._fields = query, fields
        self._emit, self._monotonic = emit, monotonic
        self.path = "chat/completions" if query.is_chat else "completions"
        self.seconds = query.seconds

    def begin(self) -> Reply:
        """Return an empty reply."""
        return Reply(StopMatcher(self._query.stop), self._emit, self._monotonic)

    def body(self) -> dict[str, object]:
        """Return the body of the next request, with the fields that the model accepts."""
        return self._fields.body(self._query)

    def adapts(self, status: int | None, attempt: Reply) -> bool:
        """Return whether the server refused a field that later requests leave out."""
        return self._fields.learn(status, attempt.reason, attempt.sent)

    async def read(self, content_type: str, chunks: AsyncIterator[bytes], attempt: Reply) -> None:
        """Read an answer, whole or in events: its first bytes say which, for servers label both wrongly."""
        start = b""
        async for chunk in chunks:
            start += chunk
            if start.removeprefix(b"\xef\xbb\xbf").strip():
                break
        begin = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        kind = content_type.lower()
        is_json = begin.startswith((b"{", b"["))
        if is_json or (kind.endswith("json") and not _EVENTS_BEGIN.match(begin)):
            self._take_whole(start + b"".join([chunk async for chunk in chunks]), attempt)
        elif kind == "text/event-stream" or _EVENTS_BEGIN.match(begin):
            await self._read_events(start, chunks, attempt)
        else:
            shown = attempt.failures.scrub(content_type)[:60]
            problem = f"is {shown or 'of no type'!r}, not JSON or events. Check `base_url`"
            raise attempt.failures.broken(problem)
        if not attempt.has_content:
            if attempt.refusal:
                raise attempt.failures.declined(attempt.refusal)
            is_cut = attempt.finish_reason == "length"
            cause = ", because hidden reasoning used all of `max_tokens`" if is_cut else ""
            raise attempt.failures.broken(f"has no text{cause}")

    def _take_whole(self, data: bytes, reply: Reply) -> None:
        value, problem = parse_object(data)
        if problem:
            raise reply.failures.broken(problem)
        self._take(value, reply)
        if not reply.has_choices:
            raise reply.failures.broken("has no `choices`, so it is not an answer. Check `base_url`")
        reply.finish_reason = reply.finish_reason or "stop"  # the response is whole

    async def _read_events(self, start: bytes, chunks: AsyncIterator[bytes], reply: Reply) -> None:
        decoder = EventDecoder()
        tail = Limit(_USAGE_SECONDS)  # a server that keeps the connection open after the answer does not delay it
        is_limited = False
        try:
            async for chunk in _prepend(start, chunks):
                for event, data in self._decode(decoder, chunk, reply):
                    if self._take_event(event, data, reply):
                        return
                if reply.is_complete and not is_limited:
                    is_limited = True
                    tail.start()
            for event, data in decoder.end():
                if parse_object(data)[1] == "" and self._take_event(event, data, reply):
                    return
        except asyncio.CancelledError:
            if not tail.is_over:
                raise
        finally:
            tail.lift()
        if reply.finish_reason is None:
            self._end_without_reason(reply, is_done=False)

    @staticmethod
    def _decode(decoder: EventDecoder, chunk: bytes, reply: Reply) -> list[tuple[str, str]]:
        try:
            return decoder.feed_named(chunk)
        except UnicodeDecodeError:
            pass
        raise reply.failures.broken("is not UTF-8")

    def _take_event(self, event: str, data: str, reply: Reply) -> bool:
        """Take an event. Return whether the answer is whole."""
        if data.lstrip().startswith("[DONE]"):
            if reply.finish_reason is None:
                self._end_without_reason(reply, is_done=True)
            return True
        value, problem = parse_object(data)
        if event == "error" and not value:
            value = {"error": data}
        if problem and data.lstrip().startswith("{"):
            raise reply.failures.broken(problem)
        self._take(value, reply, event)
        return reply.match_stop.reason is not None  # the server ignored the stop strings

    @staticmethod
    def _end_without_reason(reply: Reply, *, is_done: bool) -> None:
        """End an answer whose server did not say why it ended, if it certainly ended; raise if it was cut."""
        if not reply.has_choices and reply.has_skipped:
            raise reply.failures.broken("has no `choices`, so it is not an answer. Check `base_url`")
        is_whole = reply.has_last_usage or ((is_done or reply.is_framed) and not reply.is_unfinished)
        if reply.has_choices and is_whole:
            reply.finish_reason = "stop"
        elif is_done:  # llama_cpp.server 0.3.36 does this when it drops an answer for the next request
            raise reply.failures.cut("Ask again; if the server answers only one request at a time, pass `parallel=1`")
        else:
            raise reply.failures.cut()

    def _take(self, value: dict[str, object], reply: Reply, event: str = "") -> None:
        if is_error(value, event=event):
            reason = parse_reason(value)
            reply.refuse(reason.status or 200, reason)
        chunk, problem = parse_chunk(value)
        if chunk is None:
            raise reply.failures.broken(problem)
        usage = chunk.reported_usage
        is_usage = parse_usage(usage) is not None
        if is_usage or reply.usage is None:
            reply.usage = usage
        if not chunk.choices:
            reply.has_skipped = reply.has_skipped or not is_usage
            reply.has_last_usage = is_usage and reply.has_content
        choice = reply.pick(chunk.choices or [])
        if choice is None:
            return
        if choice.error:
            reason = parse_reason({"error": choice.error})
            reply.refuse(reason.status or 200, reason)
        reply.add(choice)
        self._take_end(choice.end, reply)

    @staticmethod
    def _take_end(end: str | None, reply: Reply) -> None:
        if not end or reply.finish_reason is not None:
            return
        word = end.lower()
        if word in FAILED_REASONS:
            raise reply.failures.withheld(end, retryable=FAILED_REASONS[word])
        if word not in FINISH_REASONS:
            shown = reply.failures.scrub(end)[:60]
            logger.info("%s ended an answer for the reason %r, which counts as 'stop'", reply.failures.name, shown)
        reply.finish_reason = FINISH_REASONS.get(word, "stop")


async def _prepend(start: bytes, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if start:
        yield start
    async for chunk in chunks:
        yield chunk
