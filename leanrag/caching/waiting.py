"""Locks by name, for threads and processes: only one computes what all of them want."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["KeyLocks"]

_PATIENCE = 30.0  # seconds; whoever has waited so long computes alone
_POLL = 0.02  # seconds between two looks


class KeyLocks:
    """Locks by name. The lock of a process that dies is free at once.

    Args:
        folder: Has a file for each lock that is held, for other processes; None for the threads of this process alone.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._changed = threading.Condition()
        self._holders: dict[str, int] = {}  # name -> thread

    @contextlib.contextmanager
    def hold(self, name: str, *, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Hold the lock of `name`.

        Goes on without it when the wait took half a minute or was cancelled, and when this thread holds it already: a stream that
        was left half-way holds its lock.
        """
        until = time.monotonic() + _PATIENCE

        def goes_on() -> bool:
            return time.monotonic() >= until or is_cancelled()

        is_holder, handle = self._acquire(name, goes_on), None
        try:
            if is_holder:
                handle = self.acquire_shared(name, goes_on)  # may be interrupted
            yield
        finally:
            if handle is not None:
                self.release_shared(name, handle)
            if is_holder:
                with self._changed:
                    self._holders.pop(name, None)
                    self._changed.notify_all()

    def _acquire(self, name: str, goes_on: Callable[[], bool]) -> bool:
        me = threading.get_ident()
        with self._changed:
            while (holder := self._holders.get(name)) is not None:
                if holder == me or goes_on():
                    return False
                self._changed.wait(_POLL)
            self._holders[name] = me
        return True

    def acquire_shared(self, name: str, goes_on: Callable[[], bool]) -> Any:
        """Return a handle of the lock that other processes see, here an open file; None if it cannot be acquired."""
        try:
            import fcntl
        except ImportError:  # Windows: other processes compute the answer too
            return None
        if self._folder is None:
            return None
        path = self._folder / name
        while not goes_on():
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
            except OSError:
                return None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_same(path, descriptor):  # the holder before may have removed the file meanwhile
                    return descriptor
                os.close(descriptor)
            except OSError:
                os.close(descriptor)
                time.sleep(_POLL)
        return None

    def release_shared(self, name: str, handle: Any) -> None:
        """Release the lock of a handle."""
        assert self._folder is not None
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()
        os.close(handle)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False
