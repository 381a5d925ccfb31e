"""The thread that talks to a server, and what callers wait for."""

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
"""What a worker does with its connections; the function takes text as it comes."""


class Worker:
    """A thread with an event loop and the connections; knows nothing of the model, so that the model can be collected.

    Args:
        client: The connections; closed when the worker stops.
        name: What the thread is called after.
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
        """Start work, in the event loop."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(then)
        return task

    def stop(self) -> None:
        """Cancel everything, without waiting: the garbage collector may call this from any thread at any place."""
        if self._guard.is_here:
            with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
                self.loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Cancel everything and wait for the end."""
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
        # generators of httpx that were left before their end close themselves in tasks of their own
        if closing := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(closing, timeout=_CLOSING_SECONDS)


class Call(Pending[T], Generic[T]):
    """One call under way: a worker computes it, the caller waits for it."""

    def __init__(self, worker: Worker, work: Work[T], name: str) -> None:
        super().__init__()
        self._worker, self._work, self._name = worker, work, name
        self._task: asyncio.Task[T] | None = None
        worker.loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Tell the worker; it has begun by the time that it hears of it."""
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
            # The frames of the work, and of what it did beside, hold requests, and these the key.
            error.__context__ = None
            self.emit(error.with_traceback(None))
