"""Server-sent events: a response that follows a `Feed`, stops its work when the client goes away, and never waits for ever."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from leanrag.serving.backends import Reply
from leanrag.serving.failures import to_api_error
from leanrag.serving.workers import Feed, until_gone
from leanrag.types import TextPiece

__all__ = ["DONE", "EventShape", "EventStream", "encode_event"]

logger = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the second keeps nginx from collecting the words


class EventShape(Protocol):
    """Turns a text that is written into the events of an endpoint."""

    def first(self) -> Iterable[Mapping[str, Any]]:
        """Return the events before the first word."""

    def piece(self, text: str, *, is_thought: bool) -> Iterable[Mapping[str, Any]]:
        """Return the events of a piece of text."""

    def last(self, reply: Reply) -> Iterable[Mapping[str, Any]]:
        """Return the events after the last word."""


def encode_event(data: Mapping[str, Any]) -> bytes:
    """Return an event as bytes, with the name of its `type` if it has one."""
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


class EventStream(Response):
    """A stream of events.

    Args:
        feed: The text that is being written.
        shape: Turns it into events.
        write_seconds: Longest wait for a client that does not read; then the work is stopped and the connection closed.
        on_first: Called at the first piece of text.
        on_reply: Is told the finished text.
        ends_with_done: Whether "[DONE]" ends the stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        feed: Feed,
        shape: EventShape,
        *,
        write_seconds: float,
        on_first: Callable[[], None],
        on_reply: Callable[[Reply], None],
        ends_with_done: bool = True,
    ) -> None:
        self.status_code, self.background = 200, None
        self._feed, self._shape, self._write_seconds = feed, shape, write_seconds
        self._on_first, self._on_reply, self._ends_with_done = on_first, on_reply, ends_with_done
        self.init_headers(_HEADERS)

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the events until the end, an error, or the loss of the client."""
        watcher = asyncio.ensure_future(until_gone(receive))
        watcher.add_done_callback(functools.partial(_close_if_gone, self._feed))
        write = functools.partial(self._write, send)
        try:
            await write({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for data in self._events():
                await write({"type": "http.response.body", "body": data, "more_body": True})
            await write({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.TimeoutError:
            logger.warning(
                "a client did not read its stream for %g seconds; the answer was stopped", self._write_seconds
            )
        finally:
            watcher.cancel()
            self._feed.close()

    async def _write(self, send: Send, message: dict[str, Any]) -> None:
        await asyncio.wait_for(send(message), self._write_seconds)

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            for event in self._shape.first():
                yield encode_event(event)
            is_first = True
            async for item in self._feed.events():
                if isinstance(item, Reply):
                    self._on_reply(item)
                elif is_first and item.text:
                    self._on_first()
                    is_first = False
                for event in self._events_of(item):
                    yield encode_event(event)
        except Exception as error:  # the response has begun, so the error is its last event
            logger.info("a stream failed", exc_info=error)
            yield encode_event(to_api_error(error).body)
        if self._ends_with_done:
            yield DONE

    def _events_of(self, item: TextPiece | Reply) -> Iterable[Mapping[str, Any]]:
        if isinstance(item, Reply):
            return self._shape.last(item)
        return self._shape.piece(item.text, is_thought=item.is_thought) if item.text else ()


def _close_if_gone(feed: Feed, watcher: asyncio.Future[None]) -> None:
    if not watcher.cancelled():
        watcher.exception()
        feed.cancel.cancel()
