"""A component that is loaded when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Generic[T]):
    """A component that is loaded at its first use; any thread may ask for it.

    Args:
        load: Returns the component, and whether `close` should close it: only what was loaded here is closed here.
    """

    def __init__(self, load: Callable[[], tuple[T, bool]]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._value: T | None = None
        self._should_close = False

    def get(self) -> T:
        """Return the component."""
        with self._lock:
            if self._value is None:
                self._value, self._should_close = self._load()
            return self._value

    def close(self) -> None:
        """Close the component if it was loaded here."""
        with self._lock:
            if self._should_close and self._value is not None:
                getattr(self._value, "close", lambda: None)()
