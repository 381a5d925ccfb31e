"""Stop work in time: at SIGTERM, by which a machine is taken away, and at a time limit."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["EXIT_CODE", "MOST_SECONDS", "StopWish", "Terminated", "stop_deferred", "stopping_on_sigterm", "time_limit"]

EXIT_CODE = 128 + signal.SIGTERM.value
"""Of a process that SIGTERM stopped: 143, as shells report it."""

MOST_SECONDS = 18.0
"""After which the process ends, wherever it is. A machine that is taken away often has 25 to 30 seconds."""


class Terminated(KeyboardInterrupt):
    """The process received SIGTERM. What is finished is stored; the same call continues with the rest."""


class StopWish:
    """Whether SIGTERM came while it was deferred."""

    def __init__(self) -> None:
        self.is_set = False


_wishes: list[StopWish] = []  # of the blocks that defer, the innermost last; only the main thread uses it


@contextmanager
def stopping_on_sigterm(*, most_seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Raise `Terminated` in the block when SIGTERM comes; in a thread other than the main thread, do nothing.

    Args:
        most_seconds: Seconds after which the process ends if it is still in the block. Nothing that was committed is lost.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    timer = threading.Timer(most_seconds, os._exit, [EXIT_CODE])
    timer.daemon = True

    def stop(_: int, __: FrameType | None) -> None:
        if timer.ident is None:
            timer.start()
        if not _wishes:
            raise Terminated
        _wishes[-1].is_set = True

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_deferred() -> Iterator[StopWish]:
    """Let the block reach its end when SIGTERM comes, and raise `Terminated` then. The block can look at the wish.

    It has an effect only in the main thread, inside `stopping_on_sigterm`.
    """
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    _wishes.append(wish)
    try:
        yield wish
    finally:
        _wishes.remove(wish)
    if wish.is_set:
        if _wishes:
            _wishes[-1].is_set = True
        else:
            raise Terminated


@contextmanager
def time_limit(seconds: float, stop: Callable[[], object]) -> Iterator[threading.Event]:
    """Call `stop` in another thread when the block takes longer than `seconds`; the event is set before."""
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        stop()

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield is_late
    finally:
        timer.cancel()
