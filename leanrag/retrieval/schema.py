"""The tables of a store, how rows are written, and how older formats are brought up to date."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from leanrag.retrieval.checksums import write_checksums
from leanrag.retrieval.terms import COLUMNS, TOKENIZER, indexed_columns
from leanrag.types import Mark

__all__ = [
    "APPLICATION_ID",
    "FORMAT",
    "SPAN",
    "create",
    "from_sql",
    "insert_terms",
    "insert_text",
    "read_marks",
    "read_span",
    "rows_by_id",
    "to_sql",
    "upgrade",
]

APPLICATION_ID = 0x6C726167  # "lrag", in the header of the file
FORMAT = 4  # PRAGMA user_version
_BATCH = 500  # below the 999 bound parameters of SQLite before 3.32
_PART = 4096  # characters of a row of `texts`: a chunk is read without the rest of its document

_DOCUMENTS = """
CREATE TABLE documents (
    key INTEGER PRIMARY KEY, id UNIQUE NOT NULL, title NOT NULL, source, root, kind TEXT NOT NULL,
    sha256 TEXT NOT NULL, chunker_id TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, metadata TEXT NOT NULL
);
"""
_TEXTS = """
CREATE TABLE texts (
    document INTEGER NOT NULL REFERENCES documents (key), part INTEGER NOT NULL, text NOT NULL, UNIQUE (document, part)
);
"""
_MARKS = """
CREATE TABLE marks (
    document INTEGER NOT NULL REFERENCES documents (key), start INTEGER NOT NULL, label NOT NULL,
    PRIMARY KEY (document, start)
) WITHOUT ROWID;
CREATE INDEX documents_by_text ON documents (sha256);
"""
_CHUNKS = """
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents (key),
    ordinal INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, heading NOT NULL,
    lead_start INTEGER NOT NULL, lead_stop INTEGER NOT NULL, UNIQUE (document, ordinal)
);
CREATE INDEX chunks_by_start ON chunks (document, start);
"""
_CHECKSUMS = """
CREATE TABLE checksums (
    document INTEGER PRIMARY KEY REFERENCES documents (key), record BLOB NOT NULL, chunks BLOB NOT NULL
);
"""
_VECTORS = "CREATE TABLE vectors (chunk INTEGER PRIMARY KEY REFERENCES chunks (id), data BLOB NOT NULL);\n"
_FEATURES = """
CREATE TABLE features (
    chunk INTEGER NOT NULL REFERENCES chunks (id), name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chunk, name)
) WITHOUT ROWID;
"""
_TERMS = f"CREATE VIRTUAL TABLE terms USING fts5 ({', '.join(COLUMNS)}, tokenize = '{TOKENIZER}');\n"

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
{_DOCUMENTS}{_TEXTS}{_CHUNKS}{_VECTORS}{_FEATURES}{_TERMS}{_MARKS}{_CHECKSUMS}
CREATE TABLE fields (document INTEGER NOT NULL REFERENCES documents (key), name NOT NULL, value);
CREATE INDEX fields_by_value ON fields (name, value);
CREATE INDEX fields_by_document ON fields (document);
INSERT INTO meta VALUES ('generation', 0);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""

_TO_FORMAT_2 = f"""
{_FEATURES}
CREATE INDEX IF NOT EXISTS chunks_by_start ON chunks (document, start);
"""
_TO_FORMAT_3 = f"""
DROP INDEX chunks_by_start;
ALTER TABLE documents RENAME TO old_documents;
ALTER TABLE chunks RENAME TO old_chunks;
DROP TABLE terms;
{_DOCUMENTS}{_TEXTS}{_CHUNKS}{_VECTORS}{_TERMS}
INSERT INTO documents
    SELECT key, id, title, source, root, kind, sha256, chunker_id, size, mtime_ns, metadata FROM old_documents;
INSERT INTO chunks SELECT id, document, ordinal, start, stop, heading, 0, 0 FROM old_chunks;
INSERT INTO vectors SELECT id, vector FROM old_chunks;
"""


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, inside the caller's transaction."""
    _run(connection, _SCHEMA)


def upgrade(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of format `version` to this one, inside the caller's transaction."""
    if version < 2:
        _run(connection, _TO_FORMAT_2)
    if version < 3:
        # other tables go on referring to the names, not the tables
        connection.execute("PRAGMA legacy_alter_table = ON")
        _run(connection, _TO_FORMAT_3)
        for (key,) in connection.execute("SELECT key FROM documents").fetchall():
            _rewrite_texts(connection, key)
        _run(connection, "DROP TABLE old_chunks;\nDROP TABLE old_documents;\n")
        connection.execute("PRAGMA legacy_alter_table = OFF")
    if version < 4:
        _run(connection, _MARKS)
        _run(connection, _CHECKSUMS)
        for (key,) in connection.execute("SELECT key FROM documents").fetchall():
            with contextlib.suppress(sqlite3.Error):  # of a damaged document, which has no checksum then
                write_checksums(connection, key)
    _run(connection, f"PRAGMA user_version = {FORMAT};\n")


def _rewrite_texts(connection: sqlite3.Connection, key: int) -> None:
    title, text = map(
        from_sql, connection.execute("SELECT title, text FROM old_documents WHERE key = ?", (key,)).fetchone()
    )
    insert_text(connection, key, text)
    rows = connection.execute("SELECT id, start, stop, heading FROM chunks WHERE document = ?", (key,)).fetchall()
    for chunk_id, start, stop, heading in rows:
        insert_terms(connection, chunk_id, title, from_sql(heading), text[start:stop])


def _run(connection: sqlite3.Connection, script: str) -> None:
    for statement in script.split(";\n"):  # `executescript` would commit first
        connection.execute(statement)


# Rows


def to_sql(value: Any) -> Any:
    """Return `value` as SQLite can hold it: text with lone surrogates (odd file names) becomes bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def from_sql(value: Any) -> Any:
    """Undo `to_sql`."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def rows_by_id(connection: sqlite3.Connection, query: str, ids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    """Return the rest of each row of `query` under its first column; `{}` stands for the ids asked for."""
    wanted, rows = list({int(number) for number in ids}), {}
    for start in range(0, len(wanted), _BATCH):
        part = wanted[start : start + _BATCH]
        for first, *rest in connection.execute(query.format(", ".join("?" * len(part))), part):
            rows[first] = tuple(rest)
    return rows


def insert_text(connection: sqlite3.Connection, document: int, text: str) -> None:
    """Write the text of a document in parts of `_PART` characters."""
    parts = (text[start : start + _PART] for start in range(0, len(text), _PART))
    connection.executemany(
        "INSERT INTO texts VALUES (?, ?, ?)", [(document, i, to_sql(part)) for i, part in enumerate(parts)]
    )


SPAN = (
    f"(SELECT substr(text, start % {_PART} + 1, stop - start) FROM texts"
    f" WHERE texts.document = chunks.document AND part = start / {_PART})"
)
"""An expression over a row of `chunks`: its text as far as one row of `texts` has it."""


def read_span(connection: sqlite3.Connection, document: int, start: int, end: int | None = None) -> str:
    """Return characters `start` to `end` (None for the last) of the text of a document."""
    if start == end:
        return ""
    first, last = start // _PART, 2**62 if end is None else max(end - 1, 0) // _PART
    rows = connection.execute(
        "SELECT text FROM texts WHERE document = ? AND part BETWEEN ? AND ? ORDER BY part", (document, first, last)
    )
    offset = first * _PART
    return "".join(from_sql(text) for (text,) in rows)[start - offset : None if end is None else end - offset]


def read_marks(connection: sqlite3.Connection, document: int, start: int = 0, end: int = 2**62) -> tuple[Mark, ...]:
    """Return the marks of a document from `start` to `end`, and the last one before `start`."""
    rows = connection.execute(
        "SELECT start, label FROM marks WHERE document = ?1 AND start < ?3"
        " AND start >= ifnull((SELECT max(start) FROM marks WHERE document = ?1 AND start <= ?2), 0) ORDER BY start",
        (document, start, end),
    )
    return tuple(Mark(position, from_sql(label)) for position, label in rows)


def insert_terms(connection: sqlite3.Connection, chunk_id: int, title: str, heading: str, body: str) -> None:
    """Write what full-text search finds a chunk by."""
    columns = indexed_columns(title, heading, body)
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO terms (rowid, {', '.join(COLUMNS)}) VALUES (?, {marks})", (chunk_id, *columns))
