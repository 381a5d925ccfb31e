"""Results by key, for caches of models; here in a file: oldest out, and every row checked."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TypeVar

from leanrag.checks import check_whole
from leanrag.errors import StorageError
from leanrag.sqlite import SqliteFile, SqliteFormat
from leanrag.types.codec import from_json, to_json

__all__ = [
    "CHECKSUM_BYTES",
    "MAX_RESULT",
    "ResultFile",
    "Results",
    "is_whole",
    "key_of",
    "open_results",
    "with_checksum",
]

Value = TypeVar("Value")

logger = logging.getLogger(__name__)

_FORMAT = SqliteFormat(
    noun="result cache",
    application_id=0x6C727263,  # "lrrc"
    version=1,
    mend="Delete the file; the results are computed again",
    schema="""
CREATE TABLE results (id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, value BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX results_by_use ON results (used);
CREATE TABLE totals (bytes INTEGER NOT NULL, clock INTEGER NOT NULL);
INSERT INTO totals VALUES (0, 0)
""",
)
CHECKSUM_BYTES = 8
_MOST_KEYS = 500  # of one statement; SQLite allows 999
MAX_RESULT = 16 << 20


def key_of(*parts: object) -> bytes:
    """Return a hash of parts whose `repr` tells everything about them."""
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).digest()


class Results(ABC):
    """Results by key; any thread may call. A failure of what keeps them is logged, and counts as a missing result."""

    @abstractmethod
    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the results of the keys that are there."""

    @abstractmethod
    def put_many(self, results: Mapping[bytes, bytes]) -> None:
        """Store results. One that is too large is not stored."""

    @abstractmethod
    def close(self) -> None:
        """Free what keeps the results; idempotent."""

    def get(self, key: bytes) -> bytes | None:
        """Return the result of `key`; None if it is missing."""
        return self.get_many([key]).get(key)

    def get_value(self, key: bytes, kind: type[Value]) -> Value | None:
        """Return the dataclass of type `kind` that `put_value` stored; None if it is missing."""
        stored = self.get(key)
        try:
            return None if stored is None else from_json(kind, stored)
        except ValueError as error:  # another version of leanrag wrote it
            logger.warning("a stored result cannot be read (%s); it is computed again", error)
            return None

    def put_value(self, key: bytes, value: object) -> None:
        """Store a dataclass. One with fields that have no JSON form is not stored."""
        try:
            text = to_json(value)
        except TypeError as error:
            logger.warning("a result is not stored: %s", error)
        else:
            self.put_many({key: text.encode()})


class ResultFile(Results):
    """Results by key in a SQLite file; any thread and any process may use the same file.

    A failure of the file is logged, and counts as a missing result. A row whose checksum is wrong is missing too. When the budget
    is full, the results that were not used for longest are removed.

    Args:
        path: The file; None keeps the results in memory.
        max_bytes: Budget of the stored results.

    Raises:
        ConfigurationError: `max_bytes` is out of range.
        StorageError: The file is of another program or version.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, max_bytes: int = 256 << 20) -> None:
        check_whole(1, max_bytes=max_bytes)
        self._file = SqliteFile(path, _FORMAT, replaceable=True)
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._used: set[bytes] = set()  # keys that were read since the last write

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the results of the keys that are there."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, bytes] = {}
        try:
            with self._file.reading() as connection:
                for start in range(0, len(wanted), _MOST_KEYS):
                    some = wanted[start : start + _MOST_KEYS]
                    marks = ", ".join("?" * len(some))
                    rows = connection.execute(f"SELECT key, value FROM results WHERE key IN ({marks})", some)
                    found |= {key: value[CHECKSUM_BYTES:] for key, value in rows if is_whole(value)}
        except StorageError as error:
            logger.warning("results are computed without the cache: %s", error)
        with self._lock:
            self._used |= found.keys()
        return found

    def put_many(self, results: Mapping[bytes, bytes]) -> None:
        """Store results. One that is larger than the budget, or than 16 MiB, is not stored."""
        most = min(self._max_bytes, MAX_RESULT)
        values = {key: with_checksum(value) for key, value in results.items()}
        values = {key: value for key, value in values.items() if len(value) <= most}
        with self._lock:
            used, self._used = self._used, set()
        try:
            with self._file.writing() as connection:
                connection.execute("UPDATE totals SET clock = clock + 1")
                (clock,) = connection.execute("SELECT clock FROM totals").fetchone()
                connection.executemany("UPDATE results SET used = ? WHERE key = ?", [(clock, key) for key in used])
                for key, value in values.items():
                    connection.execute(
                        "UPDATE totals SET bytes = bytes + ?"
                        " - coalesce((SELECT length(value) FROM results WHERE key = ?), 0)",
                        (len(value), key),
                    )
                    connection.execute(
                        "INSERT OR REPLACE INTO results (key, value, used) VALUES (?, ?, ?)", (key, value, clock)
                    )
                (too_many,) = connection.execute("SELECT bytes - ? FROM totals", (self._max_bytes,)).fetchone()
                while too_many > 0:
                    number, size = connection.execute(
                        "SELECT id, length(value) FROM results ORDER BY used, id LIMIT 1"
                    ).fetchone()
                    connection.execute("DELETE FROM results WHERE id = ?", (number,))
                    connection.execute("UPDATE totals SET bytes = bytes - ?", (size,))
                    too_many -= size
        except StorageError as error:
            logger.warning("results are not stored: %s", error)

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()


def open_results(kept_in: str | os.PathLike[str] | Results | None, *, max_bytes: int) -> Results:
    """Return the results that a path names; None keeps them in memory. `max_bytes` is the budget of a file."""
    return kept_in if isinstance(kept_in, Results) else ResultFile(kept_in, max_bytes=max_bytes)


def with_checksum(value: bytes) -> bytes:
    """Return a result as it is stored."""
    return hashlib.blake2b(value, digest_size=CHECKSUM_BYTES).digest() + value


def is_whole(value: object) -> bool:
    """Return whether a stored result is what was written."""
    return isinstance(value, bytes) and value == with_checksum(value[CHECKSUM_BYTES:])
