"""Repair a database from the documents and texts that it holds; what is derived from them is made again."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from leanrag.retrieval.checksums import write_checksums
from leanrag.retrieval.database import ANSWERS, Database
from leanrag.retrieval.derived_files import find_unreadable
from leanrag.retrieval.entries import Entry, delete_document, insert_entry
from leanrag.retrieval.generations import next_generation
from leanrag.retrieval.integrity import ORPHANS, Damage, read_settings, sound_chunks
from leanrag.retrieval.records import DocumentRecord
from leanrag.retrieval.schema import create
from leanrag.sqlite import damage_of, remove_file
from leanrag.types import Document

if TYPE_CHECKING:
    from leanrag.retrieval.store import Store

__all__ = ["Recompute", "Repair", "RepairReport"]

Recompute: TypeAlias = Callable[[Sequence[Document]], Sequence[Entry]]
"""From documents to their chunks and vectors, computed again."""

_BATCH = 50  # documents of a transaction
_MOST_FAILURES = 100_000  # reads of a damaged table
_MOST_ID = 2**62
_TABLES = {  # what is copied out of a damaged file, by the column that is searched
    "meta": "rowid",
    "documents": "key",
    "texts": "rowid",
    "marks": "document",
    "checksums": "document",
    "chunks": "id",
    "vectors": "chunk",
    "features": "chunk",
}


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair found and did.

    Attributes:
        damage: What was damaged.
        restored: Ids of the documents that were written again, with their text as it was stored.
        removed: Ids of the documents that were removed, because their text was lost. Add them again.
    """

    damage: tuple[Damage, ...] = ()
    restored: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __add__(self, other: RepairReport) -> RepairReport:
        return RepairReport(self.damage + other.damage, self.restored + other.restored, self.removed + other.removed)


class Repair:
    """One repair of a store, while the caller has the right to write.

    Args:
        store: The store.
        database: Its database.
        forget: Called with the ids of documents before they are written again or removed.
        recompute: Computes the chunks of documents again; None to leave out damaged chunks.
        chunker_id: Returns the id of the chunker that `recompute` uses.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        forget: Callable[[Sequence[str]], None],
        recompute: Recompute | None,
        chunker_id: Callable[[], str],
    ) -> None:
        self._store, self._database, self._forget = store, database, forget
        self._recompute, self._chunker_id = recompute, chunker_id
        self._restored: list[str] = []
        self._removed: list[str] = []

    def run(self) -> RepairReport:
        """Repair what is damaged, from the file to the single document."""
        found = damage = self._store.find_damage()
        if damage_of(self._database.folder / ANSWERS):  # before documents are removed from it
            remove_file(self._database.folder / ANSWERS)
        if any(each.part == "pages" for each in damage):
            self._rewrite_file()
            damage = self._store.find_damage()
        if any(each.part in ("settings", "orphans") for each in damage):
            self._repair_rows()
            damage = self._store.find_damage()
        for path in find_unreadable(self._database, self._store.stats().dim or 0):
            with contextlib.suppress(OSError):
                path.unlink()  # it is made again when it is needed
        documents: dict[int, list[Damage]] = {}
        for each in damage:
            if each.key is not None:
                documents.setdefault(each.key, []).append(each)
        keys = list(documents)
        for start in range(0, len(keys), _BATCH):
            self._repair_documents({key: documents[key] for key in keys[start : start + _BATCH]})
        return RepairReport(tuple(found), tuple(self._restored), tuple(self._removed))

    # The file

    def _rewrite_file(self) -> None:
        """Copy what can be read of a damaged file, and put it in the place of the content."""
        # a file that vanishes when it is closed
        with contextlib.closing(sqlite3.connect("", isolation_level=None)) as copy:
            with self._database.reading(one_view=True) as connection:
                _copy_readable(connection, copy)
            self._database.replace_content(copy)

    def _repair_rows(self) -> None:
        """Mend the settings, and remove the rows that belong to nothing."""
        with self._database.writing() as connection:
            for table, condition in ORPHANS.items():
                connection.execute(f"DELETE FROM {table} WHERE {condition}")
            for key in read_settings(connection)[1]:  # the next embedder is bound again, and other files are made
                connection.execute("DELETE FROM meta WHERE key = ?", (key,))
            highest = time.time_ns() // 1000  # above every count of commits
            connection.execute("INSERT OR IGNORE INTO meta VALUES ('generation', ?)", (highest,))

    # Documents

    def _repair_documents(self, documents: Mapping[int, list[Damage]]) -> None:
        """Write documents again, in one transaction; `documents` has the damage of each by its key."""
        entries, lost = self._make_entries(documents), []
        with self._database.writing() as connection:
            self._forget([name for damage in documents.values() if (name := damage[0].document_id) is not None])
            for key, damage in documents.items():
                name = damage[0].document_id or f"document number {key}"
                if any(each.part == "text" for each in damage):
                    delete_document(connection, key)
                    lost.append(name)
                    continue
                if key in entries:
                    delete_document(connection, key)
                    insert_entry(connection, *entries[key])
                else:  # only its record was changed: its file is read again by the next `add`
                    connection.execute("UPDATE documents SET size = NULL, mtime_ns = NULL WHERE key = ?", (key,))
                    write_checksums(connection, key)
                self._restored.append(name)
            next_generation(connection)
        self._removed += lost

    def _make_entries(self, documents: Mapping[int, list[Damage]]) -> dict[int, tuple[Entry, str]]:
        """Return what is written for each document whose rows are made again, and the id of its chunker."""
        entries: dict[int, tuple[Entry, str]] = {}
        to_compute: dict[int, DocumentRecord] = {}
        for key, damage in documents.items():
            parts = {each.part for each in damage}
            if "text" in parts or not parts & {"chunks", "search"}:
                continue
            (record,) = self._store.get_records([str(damage[0].document_id)])
            if "chunks" in parts and self._recompute is not None:
                to_compute[key] = record
            else:
                entries[key] = self._stored_entry(key, record), record.chunker_id
        if to_compute and self._recompute is not None:
            made = self._recompute([self._store.get_document(record.id) for record in to_compute.values()])
            for (key, record), entry in zip(to_compute.items(), made, strict=True):
                entries[key] = replace(entry, root=record.root), self._chunker_id()
        return entries

    def _stored_entry(self, key: int, record: DocumentRecord) -> Entry:
        """Return a document with those of its chunks that are sound."""
        document = self._store.get_document(record.id)
        with self._database.reading(one_view=True) as connection:
            ids = sound_chunks(connection, key, len(document.text))
            features: dict[str, dict[int, bytes]] = {}
            for chunk_id in ids:
                for name, data in connection.execute("SELECT name, data FROM features WHERE chunk = ?", (chunk_id,)):
                    features.setdefault(name, {})[chunk_id] = data
            return Entry(
                document,
                self._store.get_chunks(ids),
                self._store.get_vectors(ids),
                record.root,
                features={name: [data[i] for i in ids] for name, data in features.items() if len(data) == len(ids)},
            )


def _copy_readable(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy all rows that can be read into an empty database."""
    (page_bytes,) = source.execute("PRAGMA page_size").fetchone()
    target.execute(f"PRAGMA page_size = {page_bytes}")  # a backup must not change it
    target.execute("BEGIN")
    create(target)
    target.execute("DELETE FROM meta")
    highest_id = 0
    for table, column in _TABLES.items():
        for row in _readable_rows(source, table, column):
            marks = ", ".join("?" * len(row))
            with contextlib.suppress(sqlite3.Error):  # a value of a type that the column does not have
                target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", row)
            if table in ("chunks", "vectors"):
                highest_id = max(highest_id, row[0])
    with contextlib.suppress(sqlite3.Error):
        (sequence,) = source.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'").fetchone()
        highest_id = max(highest_id, sequence)
    target.execute("DELETE FROM sqlite_sequence")
    target.execute("INSERT INTO sqlite_sequence VALUES ('chunks', ?)", (highest_id,))  # an id is never used again
    target.execute("COMMIT")


def _readable_rows(connection: sqlite3.Connection, table: str, column: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table that can be read; a range of rows that cannot is halved until it is a single row."""
    ranges = [(0, _MOST_ID)]
    failures = 0
    while ranges and failures < _MOST_FAILURES:
        first, last = ranges.pop()
        try:
            rows = connection.execute(
                f"SELECT {column}, * FROM {table} WHERE {column} BETWEEN ? AND ? ORDER BY {column}", (first, last)
            )
            for number, *row in rows:
                first = number + 1
                yield tuple(row)
        except sqlite3.Error:
            failures += 1
            if first < last:
                middle = (first + last) // 2
                ranges += [(middle + 1, last), (first, middle)]
