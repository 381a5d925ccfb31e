"""Checksums of what a database holds of a document; the hash of its text is in its record."""

from __future__ import annotations

import hashlib
import sqlite3

__all__ = ["checksums_of", "write_checksums"]


def checksums_of(connection: sqlite3.Connection, key: int) -> tuple[bytes, bytes]:
    """Return the hash of the record of a document, and the hash of its chunks and vectors, as they are in the database."""
    record = connection.execute(
        "SELECT id, title, source, kind, sha256, chunker_id, metadata FROM documents WHERE key = ?", (key,)
    ).fetchone()
    marks = connection.execute("SELECT start, label FROM marks WHERE document = ? ORDER BY start", (key,)).fetchall()
    chunks = hashlib.sha256()
    for *values, vector in connection.execute(
        "SELECT ordinal, start, stop, heading, lead_start, lead_stop, data"
        " FROM chunks LEFT JOIN vectors ON chunk = id WHERE document = ? ORDER BY ordinal",
        (key,),
    ):
        chunks.update(repr(values).encode("utf-8", "surrogatepass"))
        chunks.update(vector if isinstance(vector, bytes) else repr(vector).encode())
    return hashlib.sha256(repr((record, marks)).encode("utf-8", "surrogatepass")).digest(), chunks.digest()


def write_checksums(connection: sqlite3.Connection, key: int) -> None:
    """Store the checksums of a document; call it after each change of its record, chunks or vectors."""
    connection.execute("INSERT OR REPLACE INTO checksums VALUES (?, ?, ?)", (key, *checksums_of(connection, key)))
