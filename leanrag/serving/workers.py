"""Threads that do the blocking work of requests, and streams of what they do, for the event loop of the server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from starlette.types import Receive

from leanrag.errors import QueueFullError
from leanrag.serving.backends import Reply, Work
from leanrag.types import CancelToken, TextPiece

__all__ = ["Feed", "Workers", "until_gone"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SMOOTHING = 0.2  # share of the newest request in the mean duration

Event: TypeAlias = TextPiece | Reply | Exception | None
"""What a stream passes on: None when the model has begun, then pieces, then the reply or an error."""


class Workers:
    """Threads for requests. A request that finds too many others is refused.

    Args:
        parallel: Threads; by default two for each request that the engine computes at the same time.
        queue: Requests that may wait for a thread.
    """

    def __init__(self, *, parallel: int = 16, queue: int = 112) -> None:
        self._parallel, self._most = parallel, parallel + queue
        self._pool = ThreadPoolExecutor(parallel, thread_name_prefix="leanrag request")
        self._lock = threading.Lock()
        self._cancels: set[CancelToken] = set()
        self._active = 0
        self._mean_seconds = 1.0

    @property
    def active(self) -> int:
        """Requests that run or wait."""
        return self._active

    @property
    def retry_after(self) -> float:
        """Seconds after which a refused request may be accepted: about the time of one request for each that waits."""
        return self._mean_seconds * max(1.0, self._active / self._parallel)

    async def run(self, receive: Receive, cancel: CancelToken, work: Callable[[], T]) -> T:
        """Return the result of `work`, which runs in a thread; if the client goes away, cancel it.

        Raises:
            QueueFullError: Too many requests wait.
        """
        with self._admit(cancel):
            future = asyncio.get_running_loop().run_in_executor(self._pool, work)
            try:
                return await _watched(receive, cancel, asyncio.shield(future))
            except asyncio.CancelledError:  # the thread ends soon; until then the request counts as active
                cancel.cancel()
                with contextlib.suppress(Exception):
                    await asyncio.shield(future)
                raise

    @contextlib.contextmanager
    def _admit(self, cancel: CancelToken) -> Iterator[None]:
        with self._lock:
            if self._active >= self._most:
                raise QueueFullError(f"{self._active} requests are being answered or wait. Try again later")
            self._active += 1
            self._cancels.add(cancel)
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._active -= 1
                self._cancels.discard(cancel)
                self._mean_seconds += _SMOOTHING * (time.monotonic() - started - self._mean_seconds)

    async def open(self, receive: Receive, cancel: CancelToken, start: Callable[[], Work]) -> Feed:
        """Start a text in a thread and return its stream when the model has begun.

        Raises:
            QueueFullError: Too many requests wait.
            Exception: What `start` raises.
        """
        feed = Feed(cancel, self._admit(cancel))
        try:
            feed.run(self._pool, start)
            event = await _watched(receive, cancel, feed.next())
        except BaseException:
            feed.close()
            raise
        if isinstance(event, Exception):
            feed.close()
            raise event
        return feed

    def close(self) -> None:
        """Cancel what runs, and wait for the threads."""
        with self._lock:
            cancels = list(self._cancels)
        for cancel in cancels:
            cancel.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)


class Feed:
    """What a thread writes, for an event loop.

    Args:
        cancel: Stops the thread.
        admission: Counts the request as active until `close`.
    """

    def __init__(self, cancel: CancelToken, admission: contextlib.AbstractContextManager[None]) -> None:
        self.cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._admission = contextlib.ExitStack()
        self._admission.enter_context(admission)

    def run(self, pool: ThreadPoolExecutor, start: Callable[[], Work]) -> None:
        """Begin the work in a thread of the pool."""
        pool.submit(self._write, start)

    def _write(self, start: Callable[[], Work]) -> None:
        try:
            work = start()
            self._emit(None)
            for piece in work.pieces():
                self._emit(piece)
            self._emit(work.reply())
        except Exception as error:  # noqa: BLE001 - handed to the event loop
            self._emit(error)

    def _emit(self, event: Event) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    async def next(self) -> Event:
        """Return the next event; wait for it."""
        return await self._events.get()

    async def events(self) -> AsyncIterator[TextPiece | Reply]:
        """Yield the pieces, then the reply.

        Raises:
            Exception: What the work raised.
        """
        while True:
            event = await self.next()
            if isinstance(event, Exception):
                raise event
            if event is not None:
                yield event
            if isinstance(event, Reply):
                return

    def close(self) -> None:
        """Stop the work if it is not finished, and count the request as done."""
        self.cancel.cancel()
        self._admission.close()


async def until_gone(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _watched(receive: Receive, cancel: CancelToken, result: Awaitable[T]) -> T:
    """Return a result; cancel its work if the client goes away before."""
    watcher = asyncio.ensure_future(until_gone(receive))
    watcher.add_done_callback(functools.partial(_cancel_if_gone, cancel))
    try:
        return await result
    finally:
        watcher.cancel()


def _cancel_if_gone(cancel: CancelToken, watcher: asyncio.Future[None]) -> None:
    if not watcher.cancelled():
        watcher.exception()
        cancel.cancel()
