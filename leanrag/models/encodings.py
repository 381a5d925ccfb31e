"""Encodings of tiktoken, read from the cache of models."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from leanrag.models.cache import resolve

if TYPE_CHECKING:
    import tiktoken

__all__ = ["load_encoding"]

_encoding_lock = threading.Lock()


def load_encoding(name: str) -> tiktoken.Encoding:
    """Return a tiktoken encoding from the cache. Afterwards `tiktoken.get_encoding(name)` also works offline in this process.

    Raises:
        ConfigurationError: The name is unknown.
        ModelLoadError: The encoding is not on this machine.
    """
    file = resolve(name)
    import tiktoken

    with _encoding_lock, _environment("TIKTOKEN_CACHE_DIR", str(file.parent)):
        return tiktoken.get_encoding(name)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
