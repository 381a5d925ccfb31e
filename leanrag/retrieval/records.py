"""Records of stored documents: what is known of them without reading their text."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from leanrag.retrieval.schema import from_sql, to_sql
from leanrag.types import Scalar

__all__ = ["DocumentRecord", "below", "read_record", "rows_below", "rows_of_all", "rows_of_ids", "rows_with_text"]

_BATCH = 500  # below the 999 bound parameters of SQLite before 3.32
_COLUMNS = "id, title, source, root, sha256, chunker_id, metadata, size, mtime_ns"
_COUNT = "(SELECT count(*) FROM chunks WHERE document = key)"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A stored document without its text.

    Attributes:
        id: Identity of the document.
        title: What a person calls it.
        source: Absolute path of its file, or None.
        root: The folder that it was added with, or None.
        sha256: Hash of the text.
        chunker_id: The chunker that split it; documents of another chunker must be split anew.
        metadata: Values to filter on.
        size: Bytes of the file when it was read, None without a file.
        mtime_ns: When the file had changed last as it was read; None without a file, or if it had changed just then.
        chunks: How many chunks it has.
    """

    id: str
    title: str
    source: str | None
    root: str | None
    sha256: str
    chunker_id: str
    metadata: Mapping[str, Scalar | list[Scalar]]
    size: int | None
    mtime_ns: int | None
    chunks: int


def rows_of_all(connection: sqlite3.Connection) -> Iterator[Row]:
    """Return the row of each document, in the order of their writing."""
    counts = dict(connection.execute("SELECT document, count(*) FROM chunks GROUP BY document").fetchall())
    rows = connection.execute(f"SELECT key, {_COLUMNS} FROM documents ORDER BY key").fetchall()
    return ((*values, counts.get(key, 0)) for key, *values in rows)


def rows_of_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> list[Row]:
    """Return the rows of the documents with these ids; unknown ids are passed over."""
    wanted = [to_sql(document_id) for document_id in dict.fromkeys(ids)]
    rows: list[Row] = []
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        marks = ", ".join("?" * len(part))
        rows += connection.execute(f"SELECT {_COLUMNS}, {_COUNT} FROM documents WHERE id IN ({marks})", part)
    return rows


def rows_with_text(connection: sqlite3.Connection, sha256: str) -> list[Row]:
    """Return the rows of the documents whose text has this hash."""
    return connection.execute(f"SELECT {_COLUMNS}, {_COUNT} FROM documents WHERE sha256 = ?", (sha256,)).fetchall()


def rows_below(connection: sqlite3.Connection, folders: Sequence[str]) -> list[Row]:
    """Return the rows of the documents that were added with one of the folders, or whose file is, or was, below one."""
    rows: dict[Any, Row] = {}
    for folder in folders:
        condition, values = below("source", folder, os.sep)
        query = f"SELECT {_COLUMNS}, {_COUNT} FROM documents WHERE root = ? OR {condition}"
        rows.update((row[0], row) for row in connection.execute(query, (to_sql(folder), *values)))
    return list(rows.values())


def below(column: str, path: str, separator: str) -> tuple[str, list[Any]]:
    """Return the condition that a column holds `path`, or a path below it.

    Paths with lone surrogates are stored as bytes, which SQLite never finds between two texts.
    """
    first = path.rstrip(separator) + separator
    last = first[:-1] + chr(ord(separator) + 1)
    as_bytes = [edge.encode("utf-8", "surrogatepass") for edge in (first, last)]
    ranges = [(first, last), as_bytes] if isinstance(to_sql(path), str) else [as_bytes]
    condition = " OR ".join([f"{column} = ?", *[f"({column} >= ? AND {column} < ?)"] * len(ranges)])
    return f"({condition})", [to_sql(path), *(edge for edges in ranges for edge in edges)]


def read_record(row: Row) -> DocumentRecord:
    """Return the record of a row.

    Raises:
        ValueError: A stored value is damaged.
    """
    identity, title, source, root, sha256, chunker_id, metadata, size, mtime_ns, chunks = map(from_sql, row)
    return DocumentRecord(
        id=identity,
        title=title,
        source=source,
        root=root,
        sha256=sha256,
        chunker_id=chunker_id,
        metadata=json.loads(metadata),
        size=size,
        mtime_ns=mtime_ns,
        chunks=chunks,
    )
