"""A document with everything derived from it, as rows of the tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from leanrag.errors import ConfigurationError
from leanrag.retrieval.checksums import write_checksums
from leanrag.retrieval.filters import check_scalar
from leanrag.retrieval.schema import insert_terms, insert_text, read_span, to_sql
from leanrag.types import Chunk, Document
from leanrag.vectors import has_unit_norm

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = [
    "VECTOR_TYPE",
    "Entry",
    "FileStat",
    "changed_ns",
    "check_entry",
    "check_metadata",
    "delete_document",
    "delete_documents",
    "field_rows",
    "insert_entry",
    "insert_feature",
    "insert_fields",
]

VECTOR_TYPE = np.dtype("<f4")


class FileStat(Protocol):
    """The part of `os.stat_result` that is stored."""

    @property
    def st_size(self) -> int:
        """Bytes."""

    @property
    def st_mtime_ns(self) -> int:
        """When the content changed last."""

    @property
    def st_ctime_ns(self) -> int:
        """When content, name or times changed last."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is written.

    Attributes:
        document: The document.
        chunks: Its chunks, in order.
        vectors: Float32 `(len(chunks), dim)`, rows of unit norm.
        root: The folder that it was found under, None when it was added alone.
        file_stat: `os.stat` of its file; lets a later `add` skip it unread.
        features: What stages computed ahead: by name, bytes for each chunk.
    """

    document: Document
    chunks: Sequence[Chunk]
    vectors: Vectors
    root: str | None = None
    file_stat: FileStat | None = None
    features: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


def check_entry(entry: Entry, *, dim: int) -> None:
    """Raise `ConfigurationError` if the parts of `entry` do not belong together, or a value cannot be stored."""
    document, vectors = entry.document, entry.vectors
    if vectors.shape != (len(entry.chunks), dim):
        raise ConfigurationError(
            f"the vectors of {document.id!r} must have the shape {(len(entry.chunks), dim)!r}, a row for each chunk, "
            f"got {vectors.shape!r}. Embed its chunks with the embedder of the folder"
        )
    for name, data in entry.features.items():
        if len(data) != len(entry.chunks):
            raise ConfigurationError(
                f"{document.id!r} has {len(entry.chunks)} chunks, got {len(data)} values of feature {name!r}. Pass a "
                "value for each chunk"
            )
    is_unit = has_unit_norm(vectors)
    if not is_unit.all():
        norm = float(np.linalg.norm(vectors[int(np.argmin(is_unit))]))
        raise ConfigurationError(
            f"the vectors of {document.id!r} must have unit norm, got a vector of norm {norm!r}. Correct the embedder"
        )
    for chunk in entry.chunks:
        if chunk.document_id != document.id or chunk.text != document.text[chunk.start : chunk.end]:
            raise ConfigurationError(
                f"chunk {chunk.id!r} is not a span of document {document.id!r}. Correct the chunker"
            )
        if chunk.lead != document.text[chunk.lead_start : chunk.lead_start + len(chunk.lead)]:
            raise ConfigurationError(
                f"the lead of chunk {chunk.id!r} is not a span of document {document.id!r}. Correct the chunker"
            )
    starts = [mark.start for mark in document.marks]
    if starts != sorted(set(starts)) or not all(0 <= start <= len(document.text) for start in starts):
        raise ConfigurationError(
            f"the marks of {document.id!r} must begin inside its text of {len(document.text)} characters, each after the mark "
            f"before it, got {starts[:20]}"
        )
    check_metadata(document.id, document.metadata)


def check_metadata(document_id: str, metadata: Mapping[str, object]) -> None:
    """Raise `ConfigurationError` if a value is neither a JSON scalar nor a list of them."""
    for name, value in metadata.items():
        for scalar in _scalars(value):
            check_scalar(f"metadata of {document_id!r}", name, scalar)


def _scalars(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def delete_documents(connection: sqlite3.Connection, document_ids: Iterable[str]) -> int:
    """Remove documents with everything derived from them, and return how many there were."""
    removed = 0
    for document_id in document_ids:
        row = connection.execute("SELECT key FROM documents WHERE id = ?", (to_sql(document_id),)).fetchone()
        if row is not None:
            delete_document(connection, row[0])
            removed += 1
    return removed


def delete_document(connection: sqlite3.Connection, key: int) -> None:
    """Remove a document with everything derived from it."""
    for table, column in (("terms", "rowid"), ("features", "chunk"), ("vectors", "chunk")):
        connection.execute(f"DELETE FROM {table} WHERE {column} IN (SELECT id FROM chunks WHERE document = ?)", (key,))
    for table in ("chunks", "fields", "texts", "marks", "checksums"):
        connection.execute(f"DELETE FROM {table} WHERE document = ?", (key,))
    connection.execute("DELETE FROM documents WHERE key = ?", (key,))


def field_rows(metadata: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return the name and the value of each row of `fields` for the metadata of a document."""
    return [(to_sql(name), to_sql(scalar)) for name, value in metadata.items() for scalar in _scalars(value)]


def insert_fields(connection: sqlite3.Connection, key: int, metadata: Mapping[str, Any]) -> None:
    """Write what filters find a document by."""
    connection.executemany("INSERT INTO fields VALUES (?, ?, ?)", [(key, *row) for row in field_rows(metadata)])


def changed_ns(stat: FileStat) -> int:
    """Return when a file changed last: its content, or its name and times, which a copy or an archive may set back."""
    return max(stat.st_mtime_ns, stat.st_ctime_ns)


def insert_entry(connection: sqlite3.Connection, entry: Entry, chunker_id: str) -> None:
    """Write a document and everything derived from it."""
    document, stat = entry.document, entry.file_stat
    values = (document.id, document.title, document.source, entry.root, document.kind, document.sha256, chunker_id)
    key = connection.execute(
        "INSERT INTO documents (id, title, source, root, kind, sha256, chunker_id, size, mtime_ns, metadata)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *map(to_sql, values),
            stat.st_size if stat else None,
            changed_ns(stat) if stat else None,
            json.dumps(dict(document.metadata)),
        ),
    ).lastrowid
    assert key is not None
    insert_text(connection, key, document.text)
    connection.executemany(
        "INSERT INTO marks VALUES (?, ?, ?)", [(key, mark.start, to_sql(mark.label)) for mark in document.marks]
    )
    insert_fields(connection, key, document.metadata)
    rows = np.ascontiguousarray(entry.vectors, VECTOR_TYPE)
    for ordinal, (chunk, vector) in enumerate(zip(entry.chunks, rows, strict=True)):
        lead_end = chunk.lead_start + len(chunk.lead)
        chunk_id = connection.execute(
            "INSERT INTO chunks (document, ordinal, start, stop, heading, lead_start, lead_stop) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, ordinal, chunk.start, chunk.end, to_sql(chunk.heading), chunk.lead_start, lead_end),
        ).lastrowid
        assert chunk_id is not None
        connection.execute("INSERT INTO vectors VALUES (?, ?)", (chunk_id, vector.tobytes()))
        insert_terms(connection, chunk_id, document.title, chunk.heading, f"{chunk.lead}\n{chunk.text}")
        connection.executemany(
            "INSERT INTO features VALUES (?, ?, ?)",
            [(chunk_id, name, data[ordinal]) for name, data in entry.features.items()],
        )
    write_checksums(connection, key)


def insert_feature(connection: sqlite3.Connection, name: str, values: Iterable[tuple[Chunk, bytes]]) -> None:
    """Write what was computed for chunks, where a chunk still has the same text."""
    for chunk, data in values:
        row = connection.execute(
            "SELECT chunks.id, key FROM documents JOIN chunks ON document = key"
            " WHERE documents.id = ? AND start = ? AND stop = ?",
            (to_sql(chunk.document_id), chunk.start, chunk.end),
        ).fetchone()
        if row is not None and read_span(connection, row[1], chunk.start, chunk.end) == chunk.text:
            connection.execute("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", (row[0], name, data))
