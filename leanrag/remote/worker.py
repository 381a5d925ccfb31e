"""The thread with the connections to a server, and the calls that wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import httpx

from leanrag.checks import ProcessGuard
from leanrag.errors import GenerationError
from leanrag.pending import Pending

__all__ = ["Call", "Work", "Worker"]

T = TypeVar("T")

_CLOSING_SECONDS = 1.0

Work = Callable[[httpx.AsyncClient, Callable[[str], None]], Awaitable[T]]
"""A task of a worker: it gets the connections, and a function that it calls with each piece of text."""


class Worker:
    """A thread with an event loop and the connections. It has no reference to the model, so the model can be collected.

    Args:
        client: The connections; closed when the worker stops.
        name: Part of the name of the thread.
    """

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._guard = ProcessGuard()
        self._thread = threading.Thread(target=self._run, name=f"leanrag {name}", daemon=True)
        self._thread.start()

    def begin(self, work: Awaitable[T], then: Callable[[asyncio.Task[T]], None]) -> asyncio.Task[T]:
        """Start a task. Must be called in the event loop."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(then)
        return task

    def stop(self) -> None:
        """Cancel all tasks without waiting. The garbage collector may call this from any thread at any time."""
        if self._guard.is_here:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                self.loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Cancel all tasks, and wait until the thread has ended."""
        self.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        await self._stopping.wait()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()
        await self.loop.shutdown_asyncgens()
        await asyncio.sleep(0)
        # unfinished generators of httpx close themselves in further tasks
        if closing := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(closing, timeout=_CLOSING_SECONDS)


class Call(Pending[T], Generic[T]):
    """A running call: a worker computes it, and the caller waits for it."""

    def __init__(self, worker: Worker, work: Work[T], name: str) -> None:
        super().__init__()
        self._worker, self._work, self._name = worker, work, name
        self._task: asyncio.Task[T] | None = None
        worker.loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Tell the worker to cancel the call. The worker has begun the call before it reads this."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything was cancelled
            self._worker.loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._task = self._worker.begin(self._work(self._worker.client, self.emit), self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if self.stop_error is not None:
            self.emit(self.stop_error(f"the request to {self._name} was cancelled", model=self._name))
        elif task.cancelled():
            self.emit(GenerationError(f"{self._name} was closed while it answered", model=self._name))
        else:
            error = task.exception()
            if error is None:
                self.emit(task.result())
                return
            error = error if isinstance(error, Exception) else RuntimeError(repr(error))
            # Traceback frames refer to requests, and requests refer to the key.
            error.__context__ = None
            self.emit(error.with_traceback(None))
