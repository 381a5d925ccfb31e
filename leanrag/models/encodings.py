"""Encodings of tiktoken, read from the cache of models."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from leanrag.models.cache import resolve

if TYPE_CHECKING:
    import tiktoken

__all__ = ["load_encoding", "token_counter"]

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


def token_counter(name: str) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text with an encoding; names of control tokens in the text are text.

    Raises:
        ConfigurationError: The name is unknown.
        ModelLoadError: The encoding is not on this machine.
    """
    encoding = load_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


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
