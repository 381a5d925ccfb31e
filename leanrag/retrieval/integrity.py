"""Find damage in a database: every hash, length and norm, and every row that lacks its counterpart.

Documents, texts, chunks and vectors are the truth. Full-text entries and filter fields are derived from them, so a difference is
always a fault of the derived row.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import operator
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from leanrag.retrieval.checksums import checksums_of
from leanrag.retrieval.database import ANSWERS, Database, DerivedKind
from leanrag.retrieval.derived_files import find_unreadable
from leanrag.retrieval.entries import VECTOR_TYPE, field_rows
from leanrag.retrieval.schema import from_sql, read_span
from leanrag.retrieval.terms import COLUMNS, indexed_columns
from leanrag.sqlite import damage_of
from leanrag.vectors import has_unit_norm

__all__ = [
    "ORPHANS",
    "Damage",
    "DamagedPart",
    "find_damage",
    "leave_out_damaged",
    "read_settings",
    "sound_chunks",
]

logger = logging.getLogger(__name__)

DamagedPart = Literal["pages", "settings", "text", "record", "chunks", "search", "orphans", "derived file"]

ORPHANS = {
    "texts": "document NOT IN (SELECT key FROM documents)",
    "chunks": "document NOT IN (SELECT key FROM documents)",
    "marks": "document NOT IN (SELECT key FROM documents)",
    "fields": "document NOT IN (SELECT key FROM documents)",
    "vectors": "chunk NOT IN (SELECT id FROM chunks)",
    "checksums": "document NOT IN (SELECT key FROM documents)",
    "features": "chunk NOT IN (SELECT id FROM chunks)",
    "terms": "rowid NOT IN (SELECT id FROM chunks)",
}
"""By table, the condition of the rows that belong to nothing; tables whose rows others belong to come first."""

_UNREADABLE = (sqlite3.Error, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in a folder that is not as it was written.

    Attributes:
        part: What is damaged: "pages" of the database file; "settings", such as the name of the embedder; the "text" of a document;
            its "record", such as title and metadata; its "chunks" and their vectors; what "search" by words and filters reads;
            "orphans", rows that belong to nothing; a "derived file", which can be made again.
        problem: What is wrong.
        document_id: The document, if the damage is in one and its id can be read.
        key: The number of the document in the database, or None.
    """

    part: DamagedPart
    problem: str
    document_id: str | None = None
    key: int | None = None

    def __str__(self) -> str:
        """Return the name of the document and the problem."""
        return self.problem if self.document_id is None else f"{self.document_id}: {self.problem}"


def find_damage(database: Database) -> list[Damage]:
    """Read everything once and return what is damaged: in the file, in its rows, and in the files that are made from it.

    Raises:
        StorageError: Another process is writing. Only a folder that can be written needs that right.
    """
    with database.reading(one_view=True) as connection:
        damage = list(_find_in_tables(connection))
        dim, settings = read_settings(connection)
    damage += _check_full_text(database)
    if problem := damage_of(database.folder / ANSWERS):
        damage.append(Damage("derived file", f"{ANSWERS}: {problem}"))
    if dim is not None and not settings:
        for path, problem in find_unreadable(database, dim).items():
            damage.append(Damage("derived file", f"{path.name}: {problem}"))
    return damage


def _find_in_tables(connection: sqlite3.Connection) -> Iterator[Damage]:
    with contextlib.suppress(sqlite3.Error):  # SQLite 3.46 checks the full-text index that its connection last searched
        connection.execute("SELECT 1 FROM terms WHERE terms MATCH 'a'").fetchone()
    try:
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
    except sqlite3.Error as error:
        problems = [str(error)]
    yield from (Damage("pages", problem.replace("\n", "; ")) for problem in problems)
    dim, settings = read_settings(connection)
    yield from (Damage("settings", f"the setting {key!r} {problem}") for key, problem in settings.items())
    yield from _find_orphans(connection)
    try:
        keys = [key for (key,) in connection.execute("SELECT key FROM documents ORDER BY key")]
    except sqlite3.Error as error:
        yield Damage("pages", f"the table of documents cannot be read: {error}")
        return
    for key in keys:
        identity = None
        try:
            identity = _text(connection.execute("SELECT id FROM documents WHERE key = ?", (key,)).fetchone()[0])
            for part, problem in _find_in_document(connection, key, dim):
                yield Damage(part, problem, identity, key)
        except _UNREADABLE as error:
            yield Damage("text", f"it cannot be read: {error}", identity, key)


def read_settings(connection: sqlite3.Connection) -> tuple[int | None, dict[str, str]]:
    """Return the columns of a vector, None if they are unknown, and by key what is wrong with a row of `meta`."""
    problems: dict[str, str] = {}
    dim = None
    try:
        values = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    except sqlite3.Error as error:
        return None, {"generation": f"cannot be read: {error}"}
    if type(values.get("generation")) is not int:
        problems["generation"] = f"is {values.get('generation')!r}, not a whole number"
    for key in ("embedder", *get_args(DerivedKind)):
        try:
            value = json.loads(values.get(key, "null"))
            if key == "embedder" and value is not None:
                dim = operator.index(value["dim"])
                _text(value["id"])
            elif value is not None:
                list(map(_text, value))
        except _UNREADABLE as error:
            problems[key] = f"cannot be read: {error}"
    return dim, problems


def _find_orphans(connection: sqlite3.Connection) -> Iterator[Damage]:
    for table, condition in ORPHANS.items():
        try:
            count = connection.execute(f"SELECT count(*) FROM {table} WHERE {condition}").fetchone()[0]
        except sqlite3.Error as error:
            yield Damage("pages", f"the table `{table}` cannot be read: {error}")
            continue
        if count:
            yield Damage("orphans", f"{count} rows of `{table}` without a counterpart")


# One document


def _find_in_document(connection: sqlite3.Connection, key: int, dim: int | None) -> Iterator[tuple[DamagedPart, str]]:
    row = connection.execute("SELECT sha256, title, metadata FROM documents WHERE key = ?", (key,)).fetchone()
    sha256, title, metadata = map(_text, row)
    expected_fields = field_rows(json.loads(metadata))
    text = read_span(connection, key, 0)
    if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != sha256:
        yield "text", "the text is not what was stored"
        return
    stored = connection.execute("SELECT record, chunks FROM checksums WHERE document = ?", (key,)).fetchone()
    record, chunks = checksums_of(connection, key)
    if stored is None or stored[0] != record:
        yield "record", "its title, path, kind, pages or metadata are not what was stored"
    fields = connection.execute("SELECT name, value FROM fields WHERE document = ?", (key,))
    if Counter(fields) != Counter(expected_fields):
        yield "search", "its filter fields are not those of its metadata"
    problem = _find_in_chunks(connection, key, len(text), dim)
    if problem is None and (stored is None or stored[1] != chunks):
        problem = "its chunks or their vectors are not what was stored"
    if problem is not None:
        yield "chunks", problem
        return
    rows = connection.execute(
        "SELECT id, start, stop, heading, lead_start, lead_stop FROM chunks WHERE document = ? ORDER BY ordinal", (key,)
    )
    for i, (chunk_id, start, stop, heading, lead_start, lead_stop) in enumerate(rows):
        expected_terms = indexed_columns(title, from_sql(heading), f"{text[lead_start:lead_stop]}\n{text[start:stop]}")
        terms = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM terms WHERE rowid = ?", (chunk_id,)).fetchone()
        if terms != expected_terms:
            yield "search", f"the words of chunk {i} are not those of its text"
            return


def _find_in_chunks(connection: sqlite3.Connection, key: int, length: int, dim: int | None) -> str | None:
    """Return what is wrong with a chunk of a document or its vector; None if nothing is."""
    for i, (ordinal, *span, heading, vector) in enumerate(_chunk_rows(connection, key)):
        if ordinal != i or not _is_span(span, length) or not _is_text(heading):
            return f"chunk {i} is not a span of its text under a heading"
        if vector is None:
            return f"chunk {i} has no vector"
        if dim is not None and not _is_vector(vector, dim):
            return f"the vector of chunk {i} has not {dim} numbers with unit norm"
    return None


def sound_chunks(connection: sqlite3.Connection, key: int, length: int) -> list[int]:
    """Return the ids of the chunks of a document that are spans of its text of `length` characters and have a sound vector."""
    dim, _ = read_settings(connection)
    ids = []
    for chunk_id, (_, *span, heading, vector) in zip(
        connection.execute("SELECT id FROM chunks WHERE document = ? ORDER BY ordinal, id", (key,)).fetchall(),
        _chunk_rows(connection, key),
        strict=True,
    ):
        if dim is not None and _is_span(span, length) and _is_text(heading) and _is_vector(vector, dim):
            ids += chunk_id
    return ids


def _chunk_rows(connection: sqlite3.Connection, key: int) -> Iterator[tuple[Any, ...]]:
    return iter(
        connection.execute(
            "SELECT ordinal, start, stop, lead_start, lead_stop, heading, data"
            " FROM chunks LEFT JOIN vectors ON chunk = id WHERE document = ? ORDER BY ordinal, id",
            (key,),
        )
    )


def _is_span(edges: Sequence[object], length: int) -> bool:
    """Return whether a chunk and its lead, both with start and end, are spans of a text of `length` characters."""
    start, stop, lead_start, lead_stop = (edge if isinstance(edge, int) else -1 for edge in edges)
    return 0 <= start < stop <= length and 0 <= lead_start <= lead_stop <= length


def _is_vector(data: object, dim: int) -> bool:
    """Return whether a stored value is a vector of `dim` numbers and unit norm."""
    if not isinstance(data, bytes) or len(data) != dim * VECTOR_TYPE.itemsize:
        return False
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(has_unit_norm(np.frombuffer(data, VECTOR_TYPE).astype(np.float32)[np.newaxis])[0])


def leave_out_damaged(rows: Sequence[tuple[int, Any]], dim: int, folder: Path) -> list[tuple[int, Any]]:
    """Return the rows of chunk id and vector whose vector is sound, and warn of the others."""
    sound = [row for row in rows if _is_vector(row[1], dim)]
    if len(sound) == len(rows):
        return sound
    logger.warning(
        "the vectors of %d chunks of %r are damaged, so that these are not found by meaning. `leanrag doctor` names them, and"
        " `leanrag repair` computes them again",
        len(rows) - len(sound),
        str(folder),
    )
    return sound


def _check_full_text(database: Database) -> list[Damage]:
    """Compare the full-text index with its entries, if the database can be written: SQLite needs that right for it.

    Raises:
        StorageError: Another process is writing.
    """
    if database.read_only:
        return []
    with database.writer(), database.writing() as connection:
        try:
            connection.execute("INSERT INTO terms (terms) VALUES ('integrity-check')")
        except sqlite3.DatabaseError as error:
            return [Damage("pages", f"the full-text index does not match its entries: {error}")]
    return []


def _is_text(value: Any) -> bool:
    try:
        _text(value)
    except _UNREADABLE:
        return False
    return True


def _text(value: Any) -> str:
    value = from_sql(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
