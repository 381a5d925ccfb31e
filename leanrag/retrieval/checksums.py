"""Checksums of what a database holds of a document; the hash of its text is in its record."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["changing_record", "checksums_of", "has_sound_chunks", "write_checksums"]


def checksums_of(connection: sqlite3.Connection, key: int) -> tuple[bytes, bytes]:
    """Return the hash of the record of a document, and the hash of its chunks and vectors, as they are in the database."""
    return _record_checksum(connection, key), _chunks_checksum(connection, key)


def has_sound_chunks(connection: sqlite3.Connection, key: int) -> bool:
    """Return whether the chunks and vectors of a document are those that were stored."""
    row = connection.execute("SELECT chunks FROM checksums WHERE document = ?", (key,)).fetchone()
    return row is not None and row[0] == _chunks_checksum(connection, key)


@contextmanager
def changing_record(connection: sqlite3.Connection, key: int) -> Iterator[None]:
    """Store the hash of a record that the block changes; if it was damaged before, the old hash stays and tells so."""
    row = connection.execute("SELECT record FROM checksums WHERE document = ?", (key,)).fetchone()
    is_sound = row is not None and row[0] == _record_checksum(connection, key)
    yield
    if is_sound:
        connection.execute(
            "UPDATE checksums SET record = ? WHERE document = ?", (_record_checksum(connection, key), key)
        )


def _record_checksum(connection: sqlite3.Connection, key: int) -> bytes:
    record = connection.execute(
        "SELECT id, title, source, kind, sha256, chunker_id, metadata FROM documents WHERE key = ?", (key,)
    ).fetchone()
    marks = connection.execute("SELECT start, label FROM marks WHERE document = ? ORDER BY start", (key,)).fetchall()
    return hashlib.sha256(repr((record, marks)).encode("utf-8", "surrogatepass")).digest()


def _chunks_checksum(connection: sqlite3.Connection, key: int) -> bytes:
    chunks = hashlib.sha256()
    for *values, vector in connection.execute(
        "SELECT ordinal, start, stop, heading, lead_start, lead_stop, data"
        " FROM chunks LEFT JOIN vectors ON chunk = id WHERE document = ? ORDER BY ordinal",
        (key,),
    ):
        chunks.update(repr(values).encode("utf-8", "surrogatepass"))
        chunks.update(vector if isinstance(vector, bytes) else repr(vector).encode())
    return chunks.digest()


def write_checksums(connection: sqlite3.Connection, key: int) -> None:
    """Store the checksums of a document; call it after each change of its record, chunks or vectors."""
    connection.execute("INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)", (key, *checksums_of(connection, key)))
