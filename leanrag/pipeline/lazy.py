"""A component that is loaded when it is first needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from leanrag.errors import StorageError
from leanrag.protocols import Closable

__all__ = ["Lazy"]

T = TypeVar("T")


class Lazy(Generic[T]):
    """A component that is loaded at its first use, and closed only if it was loaded here; any thread may ask for it.

    Args:
        load: Returns the component.
        folder: The database that it is loaded for.
    """

    def __init__(self, load: Callable[[], T], folder: Path) -> None:
        self._load, self._folder, self._lock = load, folder, threading.Lock()
        self._value: T | None = None
        self._should_close = True
        self._is_closed = False

    @classmethod
    def of(cls, value: T) -> Lazy[T]:
        """Return a component that is loaded already, and stays open: whoever loaded it closes it."""
        lazy = cls(lambda: value, Path())
        lazy._value, lazy._should_close = value, False
        return lazy

    def get(self) -> T:
        """Return the component, loaded now if it was not.

        Raises:
            StorageError: It was closed here.
        """
        with self._lock:
            if self._is_closed:
                raise StorageError(f"{str(self._folder)!r} is closed; open it again", path=self._folder)
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
            self._is_closed = self._should_close
            if self._should_close and isinstance(self._value, Closable):
                self._value.close()
