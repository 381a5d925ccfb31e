"""Streams for asyncio: the work runs in threads, and the event loop stays free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import TypeVar

from leanrag.pipeline.turn import AnswerStream
from leanrag.protocols import Closable
from leanrag.types import Answer

__all__ = ["answer_of", "iterate_in_thread", "pieces_of", "start_in_thread", "wait_in_thread"]

S = TypeVar("S", bound=Closable)
T = TypeVar("T")


async def answer_of(stream: AnswerStream) -> Answer:
    """Return the answer of a stream; cancelling the task stops the generation."""
    return await wait_in_thread(lambda: stream.answer, stream.close)


def pieces_of(stream: AnswerStream) -> AsyncIterator[str]:
    """Yield the text of a stream as it comes; leaving the loop stops the generation."""
    return iterate_in_thread(iter(stream), stream.close)


async def start_in_thread(start: Callable[[], S]) -> S:
    """Return the stream that `start` returns, called in a thread; if the task is cancelled meanwhile, the stream is closed."""
    lock, is_left = threading.Lock(), threading.Event()
    started: list[S] = []

    def start_unless_left() -> S:
        stream = start()
        with lock:
            started.append(stream)
            if is_left.is_set():
                stream.close()
        return stream

    try:
        return await asyncio.to_thread(start_unless_left)
    except asyncio.CancelledError:
        with lock:
            is_left.set()
            for stream in started:
                stream.close()
        raise


async def wait_in_thread(wait: Callable[[], T], stop: Callable[[], object]) -> T:
    """Return what `wait` returns, called in a thread; cancelling the task calls `stop`."""
    try:
        return await asyncio.to_thread(wait)
    except asyncio.CancelledError:
        stop()
        raise


async def iterate_in_thread(items: Iterator[T], stop: Callable[[], object]) -> AsyncGenerator[T, None]:
    """Yield items, each computed in a thread; at the end, and when the loop is left, call `stop`."""
    try:
        while (item := await asyncio.to_thread(next, items, None)) is not None:
            yield item
    finally:
        stop()
