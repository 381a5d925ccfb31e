"""A component that is loaded when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from leanrag.protocols import Closable

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Generic[T]):
    """A component that is loaded at its first use, and closed only if it was loaded here; any thread may ask for it.

    Args:
        load: Returns the component.
    """

    def __init__(self, load: Callable[[], T]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._value: T | None = None
        self._should_close = True

    @classmethod
    def of(cls, value: T) -> Lazy[T]:
        """Return a component that is loaded already, and stays open: whoever loaded it closes it."""
        lazy = cls(lambda: value)
        lazy._value, lazy._should_close = value, False
        return lazy

    def get(self) -> T:
        """Return the component, loaded now if it was not."""
        with self._lock:
            if self._value is None:
                self._value = self._load()
            return self._value

    @property
    def loaded(self) -> T | None:
        """The component, None before it is loaded."""
        return self._value

    def close(self) -> None:
        """Close the component if it was loaded here."""
        with self._lock:
            if self._should_close and isinstance(self._value, Closable):
                self._value.close()
