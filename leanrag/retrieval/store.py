"""The truth on disk: documents, chunks, vectors and terms in one SQLite file.

A document and everything derived from it (chunks, vectors, terms, filterable fields) is replaced in one transaction, so
a process killed at any instruction leaves either the old document or the new one. Vector indexes are derived from here.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanrag.errors import ConfigurationError, IndexMismatchError, StorageError
from leanrag.retrieval.chunk_ids import as_ids, find_removed, ids_of_all, ids_within
from leanrag.retrieval.database import DATABASE, Database
from leanrag.retrieval.derived_files import DerivedFiles
from leanrag.retrieval.entries import Entry, changed_ns, check_entry, delete_documents, insert_entry, insert_feature
from leanrag.retrieval.filtered import FilteredIds
from leanrag.retrieval.full_text import MAX_TERMS, find_best, find_identifiers
from leanrag.retrieval.generations import ChunkCounter, next_generation, read_generation
from leanrag.retrieval.integrity import Damage, find_damage, leave_out_damaged
from leanrag.retrieval.known import KnownChunk, read_known_chunks
from leanrag.retrieval.metadata import update_metadata
from leanrag.retrieval.outbox import Outbox
from leanrag.retrieval.posting_index import PostingIndex
from leanrag.retrieval.records import (
    DocumentRecord,
    below,
    read_record,
    rows_below,
    rows_of_all,
    rows_of_ids,
    rows_with_text,
)
from leanrag.retrieval.repair import Recompute, Repair, RepairReport
from leanrag.retrieval.schema import SPAN, from_sql, read_marks, read_span, rows_by_id, to_sql
from leanrag.retrieval.terms import parse_query
from leanrag.types import Chunk, Document, Mark, MetadataValue, Where
from leanrag.vectors import has_unit_norm

if TYPE_CHECKING:
    from typing_extensions import Self

    from leanrag.protocols import Ids, Vectors

__all__ = ["DATABASE", "DocumentRecord", "Entry", "MissingChunkError", "Store", "StoreStats"]

_VECTOR = np.dtype("<f4")


class MissingChunkError(StorageError, LookupError):
    """A chunk was asked for that does not exist, or no longer."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """Counts and sizes of a store, and how `GrowingIndex` searches it; `embedder_id` and `dim` are None before `bind`."""

    documents: int
    chunks: int
    size_bytes: int
    generation: int
    embedder_id: str | None
    dim: int | None
    vector_index: Literal["exact", "graph"] = "exact"


class Store:
    """Documents, chunks, vectors and terms of one folder.

    Any thread may call. Many threads and processes may read while one writes, and none waits: see `writer`. A folder that
    cannot be written opens for reading.

    Args:
        folder: Where `leanrag.db` is, or will be.
        create: Make folder and database if they do not exist.

    Raises:
        StorageError: There is nothing to open, or it is not a database that this version reads.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = True) -> None:
        self._database = Database(folder, create=create)
        self.folder, self.path = self._database.folder, self._database.path
        self.read_only = self._database.read_only
        self._chunker_id = ""
        self._counter = ChunkCounter()
        self._posting_index = PostingIndex(self._database, self._counter)
        self._filtered_ids = FilteredIds(self._database)
        self.vector_files = DerivedFiles(self._database, "vectors")
        self.outbox = Outbox(self._database)
        self._content = -1, ""
        self._bound_for_good: tuple[str, int] | None = None  # the embedder
        self._forgetters: list[Callable[[Sequence[str]], None]] = []

    def close(self) -> None:
        """Close the database; idempotent."""
        self._database.close()
        self._posting_index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.folder)!r})"

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the right to write, for the length of an `add`.

        Other threads wait for their turn; readers do not wait. The right ends with the process, however that ends.

        Raises:
            StorageError: Another process is writing, or the folder is read-only.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder, Store(folder) as store, store.writer():
            ...     store.remove(["unknown"])
            0
        """
        with self._database.writer():
            yield

    # Identity

    @property
    def generation(self) -> int:
        """A number that grows with every commit that changes chunks, whichever process made it; microseconds."""
        with self._database.reading() as connection, self._database.decoding():
            return read_generation(connection)

    def content_hash(self) -> str:
        """Return a hash of all documents: ids, texts, titles, metadata and chunkers. It is computed once after each change."""
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            generation = self.generation
            if self._content[0] != generation:
                digest = hashlib.sha256()
                for row in connection.execute(
                    "SELECT id, sha256, title, chunker_id, metadata FROM documents ORDER BY id"
                ):
                    digest.update(repr(row).encode("utf-8", "surrogatepass"))
                self._content = generation, digest.hexdigest()
            return self._content[1]

    def before_removal(self, forget: Callable[[Sequence[str]], None]) -> None:
        """Call `forget(ids)` before documents are replaced or removed; if it fails, they are not."""
        self._forgetters.append(forget)

    def _forget(self, ids: Sequence[str]) -> None:
        for forget in self._forgetters:
            forget(ids)

    def bind(self, embedder_id: str, dim: int, chunker_id: str) -> None:
        """Tie the store to an embedder, for good, and name the chunker of the documents to come.

        Args:
            embedder_id: Identity of the embedder.
            dim: Columns of its rows.
            chunker_id: Identity of the chunker; "" leaves it as it was, for those who only read.

        Raises:
            IndexMismatchError: The vectors in the store are another embedder's.
        """
        stored = self._bound_for_good or self._bound()
        if stored is None and not self.read_only:
            with self._database.writing() as connection:
                value = json.dumps({"id": embedder_id, "dim": dim})
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('embedder', ?)", (value,))
            stored = self._bound()
        if stored is not None and stored != (embedder_id, dim):
            raise IndexMismatchError(
                f"{str(self.folder)!r} was built with embedder {stored[0]!r} (dim {stored[1]}), "
                f"not {embedder_id!r} (dim {dim}); open it with the former, or add the documents to a new folder"
            )
        self._bound_for_good = stored
        if chunker_id:
            self._chunker_id = chunker_id

    def _bound(self) -> tuple[str, int] | None:
        with self._database.reading() as connection, self._database.decoding():
            row = connection.execute("SELECT value FROM meta WHERE key = 'embedder'").fetchone()
            value = json.loads(row[0]) if row else {}
            return (str(value["id"]), int(value["dim"])) if row else None

    def stats(self) -> StoreStats:
        """Return counts and sizes."""
        with self._database.reading(one_view=True) as connection:
            bound = self._bound()
            return StoreStats(
                documents=connection.execute("SELECT count(*) FROM documents").fetchone()[0],
                chunks=self.count_chunks(),
                size_bytes=self._database.size_bytes(),
                generation=self.generation,
                embedder_id=bound[0] if bound else None,
                dim=bound[1] if bound else None,
                vector_index="graph" if self.vector_files.names() else "exact",
            )

    def find_damage(self) -> list[Damage]:
        """Read everything once, compare hashes, lengths, norms and counterparts, and return what is damaged.

        Raises:
            StorageError: Another process is writing. Only a folder that can be written needs that right.
        """
        return find_damage(self._database)

    def check(self) -> None:
        """Read everything once and compare the parts; `find_damage` returns all problems.

        Raises:
            StorageError: The file is damaged.
        """
        damage = self.find_damage()
        if damage:
            raise self._database.damage(damage[0])

    def repair(self, recompute: Recompute | None = None) -> RepairReport:
        """Repair what `find_damage` finds, from the documents and their texts.

        Derived rows and files are made again. A document whose chunks are damaged is written again, as `recompute` returns it;
        without `recompute`, its damaged chunks are removed. Only a document whose text is lost is removed.

        Args:
            recompute: Returns what is written of documents: chunks and vectors, computed again from the text.

        Raises:
            StorageError: Another process is writing, the folder is read-only, or too much of the file is damaged.
        """
        with self.writer():
            return Repair(self, self._database, self._forget, recompute, lambda: self._chunker_id).run()

    # Writing

    def put(
        self,
        document: Document,
        chunks: Sequence[Chunk],
        vectors: Vectors,
        *,
        root: str | None = None,
        file_stat: os.stat_result | None = None,
    ) -> None:
        """Add a document, or replace the one of the same id; see `put_many`."""
        self.put_many([Entry(document, chunks, vectors, root, file_stat)])

    def put_many(self, entries: Iterable[Entry]) -> None:
        """Add or replace documents in one transaction.

        Raises:
            ConfigurationError: Chunks or vectors do not belong to their document, a vector is not of unit norm, metadata
                are neither JSON scalars nor lists of them, or `bind` was not called.
            StorageError: The database cannot be written; nothing of `entries` was.
        """
        entries = list(entries)  # what computes them must not run inside the transaction
        bound = self._bound()
        if bound is None:
            raise ConfigurationError("the store does not know its embedder; call `bind` first")
        for entry in entries:
            check_entry(entry, dim=bound[1])
        if not entries:
            return
        with self.writer(), self._database.writing() as connection:
            self._forget([entry.document.id for entry in entries])
            for entry in entries:
                delete_documents(connection, [entry.document.id])
                insert_entry(connection, entry, self._chunker_id)
            next_generation(connection)

    def touch(self, document_id: str, file_stat: os.stat_result | None, root: str | None = None) -> None:
        """Record that a file was looked at, alone or under the folder `root`, and still has the stored text."""
        size, mtime_ns = (file_stat.st_size, changed_ns(file_stat)) if file_stat else (None, None)
        with self.writer(), self._database.writing() as connection:
            connection.execute(
                "UPDATE documents SET size = ?, mtime_ns = ?, root = ? WHERE id = ?",
                (size, mtime_ns, to_sql(root), to_sql(document_id)),
            )

    def update_metadata(
        self, document_ids: Iterable[str], metadata: Mapping[str, MetadataValue], *, drop: Iterable[str] = ()
    ) -> int:
        """Set fields of documents and remove the fields in `drop`, in one transaction; return how many documents changed.

        Unknown ids are ignored. Texts, vectors and terms stay as they are.

        Raises:
            ConfigurationError: A value is neither a JSON scalar nor a list of them.
        """
        ids, dropped = list(document_ids), frozenset(drop)
        with self.writer(), self._database.writing() as connection:
            self._forget(ids)
            changed = sum(update_metadata(connection, name, metadata, dropped) for name in ids)
            if changed:
                next_generation(connection)
        return changed

    def remove(self, document_ids: Iterable[str]) -> int:
        """Remove documents in one transaction and return how many there were; unknown ids are ignored."""
        ids = list(document_ids)
        with self.writer(), self._database.writing() as connection:
            self._forget(ids)
            removed = delete_documents(connection, ids)
            if removed:
                next_generation(connection)
        return removed

    def put_feature(self, name: str, values: Sequence[tuple[Chunk, bytes]]) -> None:
        """Keep, under `name`, what was computed for chunks; those that were replaced or removed since are passed over."""
        with self._database.writing() as connection:
            insert_feature(connection, name, values)

    def update_postings(self) -> None:
        """Prepare full-text search for what was written; without it, the next searches do that in the background."""
        self._posting_index.update()

    # Reading documents

    def get_document(self, document_id: str) -> Document:
        """Return a document.

        Raises:
            ConfigurationError: No document has this id.
        """
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            row = connection.execute(
                "SELECT id, title, source, kind, metadata, key FROM documents WHERE id = ?", (to_sql(document_id),)
            ).fetchone()
            if row is None:
                raise ConfigurationError(
                    f"{str(self.folder)!r} has no document {document_id!r}. `documents()` lists its documents"
                )
            identity, title, source, kind, metadata, key = map(from_sql, row)
            text = read_span(connection, key, 0)
            marks = read_marks(connection, key)
            return Document(
                text, id=identity, title=title, source=source, kind=kind, metadata=json.loads(metadata), marks=marks
            )

    def get_marks(self, document_id: str) -> tuple[Mark, ...]:
        """Return the marks of a document; empty if it has none, or is unknown."""
        with self._database.reading() as connection, self._database.decoding():
            row = connection.execute("SELECT key FROM documents WHERE id = ?", (to_sql(document_id),)).fetchone()
            return () if row is None else read_marks(connection, row[0])

    def documents(self) -> Iterator[DocumentRecord]:
        """Yield a record of every document, in the order of their writing; one consistent view."""
        with self._database.reading(one_view=True) as connection:
            rows = rows_of_all(connection)
        return self._records(rows)

    def get_records(self, document_ids: Iterable[str]) -> list[DocumentRecord]:
        """Return the records of the documents with these ids; unknown ids are passed over."""
        with self._database.reading(one_view=True) as connection:
            rows = rows_of_ids(connection, document_ids)
        return list(self._records(rows))

    def records_below(self, folders: Sequence[str]) -> list[DocumentRecord]:
        """Return the records of the documents that were added with one of the folders, or whose file is, or was, below one."""
        with self._database.reading(one_view=True) as connection:
            rows = rows_below(connection, folders)
        return list(self._records(rows))

    def records_with_text(self, sha256: str) -> list[DocumentRecord]:
        """Return the records of the documents whose text has this hash."""
        with self._database.reading(one_view=True) as connection:
            rows = rows_with_text(connection, sha256)
        return list(self._records(rows))

    def find_documents(self, name: str, path: str) -> list[str]:
        """Return the ids of the documents whose id is `name` or `path`, or is a path below the folder `path`."""
        condition, values = below("id", path, "/")
        with self._database.reading() as connection, self._database.decoding():
            rows = connection.execute(
                f"SELECT id FROM documents WHERE id = ? OR {condition} ORDER BY key", (to_sql(name), *values)
            )
            return [from_sql(identity) for (identity,) in rows]

    def _records(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[DocumentRecord]:
        for row in rows:
            with self._database.decoding():
                record = read_record(row)
            yield record

    # Reading chunks

    def get_chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Return the chunks of `ids`, in their order. Only their own text is read, not their documents'.

        Raises:
            MissingChunkError: One of them does not exist; it is a `LookupError` too.
        """
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            rows = rows_by_id(
                connection,
                "SELECT chunks.id, documents.id, title, source, heading, document, start, stop, lead_start, lead_stop,"
                f" {SPAN}, EXISTS (SELECT 1 FROM marks WHERE marks.document = key)"
                " FROM chunks JOIN documents ON key = document WHERE chunks.id IN ({})",
                ids,
            )
            chunks = []
            for number in map(int, ids):
                *values, document, start, stop, lead_start, lead_stop, text, has_marks = self._found(rows, number)
                identity, title, source, heading = map(from_sql, values)
                if not isinstance(text, str) or len(text) != stop - start:  # in several parts, or not in UTF-8
                    text = read_span(connection, document, start, stop)
                chunk = Chunk(
                    document_id=identity,
                    start=start,
                    end=stop,
                    text=text,
                    title=title,
                    heading=heading,
                    source=source,
                    lead=read_span(connection, document, lead_start, lead_stop),
                    lead_start=lead_start,
                    marks=read_marks(connection, document, start, stop) if has_marks else (),
                )
                if len(chunk.text) != stop - start:
                    raise self._database.damage(f"the text of {chunk.id!r} is not what was stored")
                chunks.append(chunk)
        return chunks

    def known_chunks(self, document_id: str) -> list[KnownChunk]:
        """Return the chunks of a document with their vectors and features; none if it is unknown or damaged."""
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            return read_known_chunks(connection, document_id)

    def chunk_ids_within(self, document_id: str, start: int, end: int) -> Ids:
        """Return the ids of the chunks of a document that lie between two of its characters, in document order; int64 `(n,)`.

        There are none if the document is unknown.
        """
        with self._database.reading() as connection:
            return ids_within(connection, document_id, start, end)

    def read_passage(self, document_id: str, start: int, end: int) -> tuple[str, tuple[Mark, ...]]:
        """Return the text of a document between two of its characters, and its marks; "" if the document is unknown."""
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            row = connection.execute("SELECT key FROM documents WHERE id = ?", (to_sql(document_id),)).fetchone()
            return (
                (read_span(connection, row[0], start, end), read_marks(connection, row[0], start, end))
                if row
                else ("", ())
            )

    def get_vectors(self, ids: Sequence[int]) -> Vectors:
        """Return float32 `(len(ids), dim)`, in the order of `ids`.

        Raises:
            MissingChunkError: One of them does not exist; it is a `LookupError` too.
        """
        with self._database.reading() as connection:
            rows = rows_by_id(connection, "SELECT chunk, data FROM vectors WHERE chunk IN ({})", ids)
        return self._vectors([self._found(rows, number)[0] for number in map(int, ids)])

    def _vectors(self, blobs: Sequence[Any]) -> Vectors:
        bound = self._bound()
        dim = bound[1] if bound else 0
        with self._database.decoding():
            vectors = np.frombuffer(b"".join(blobs), _VECTOR).astype(np.float32).reshape(len(blobs), dim)
        is_unit = has_unit_norm(vectors)
        if not is_unit.all():
            raise self._database.damage(f"{int((~is_unit).sum())} vectors are not of unit norm")
        return vectors

    def get_feature(self, name: str, chunk: Chunk) -> bytes | None:
        """Return what was stored under `name` for a chunk, None if nothing was."""
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT data FROM documents JOIN chunks ON document = key JOIN features ON chunk = chunks.id"
                " WHERE documents.id = ? AND start = ? AND stop = ? AND name = ?",
                (to_sql(chunk.document_id), chunk.start, chunk.end, name),
            ).fetchone()
        return row[0] if row else None

    def _found(self, rows: Mapping[int, tuple[Any, ...]], number: int) -> tuple[Any, ...]:
        if number not in rows:
            raise MissingChunkError(
                f"{str(self.folder)!r} has no chunk {number!r} because the index is older than the store. Update the index",
                path=self.folder,
            )
        return rows[number]

    # Reading for an index

    def count_chunks(self) -> int:
        """Return how many chunks there are."""
        with self._database.reading(one_view=True) as connection:
            return self._counter.count(connection)

    def chunk_ids(self) -> Ids:
        """Return every chunk's id, int64 `(n,)`, ascending. An id is never used twice."""
        with self._database.reading() as connection:
            return ids_of_all(connection)

    def removed_ids(self, ids: Ids) -> Ids:
        """Return those of `ids` that no chunk has, int64 `(n,)`; `ids` are ids that chunks have or had, ascending."""
        with self._database.reading(one_view=True) as connection:
            return find_removed(connection, ids)

    def all_vectors(self, *, after: int = 0, most: int | None = None) -> tuple[Ids, Vectors]:
        """Return `(ids, vectors)` of the chunks with an id above `after`: int64 `(n,)` ascending, float32 `(n, dim)`.

        Damaged vectors are left out, with a warning: their chunks are not found by meaning until the folder is repaired.

        Args:
            after: Only chunks with a higher id are read.
            most: Only so many are read, those with the lowest ids; None for all.
        """
        ids: list[int] = []
        parts = [self._vectors([])]
        with self._database.reading() as connection:
            cursor = connection.execute(
                "SELECT chunk, data FROM vectors WHERE chunk > ? ORDER BY chunk LIMIT ?",
                (after, -1 if most is None else most),
            )
            while rows := cursor.fetchmany(4096):
                try:
                    part = self._vectors([row[1] for row in rows])
                except StorageError:
                    rows = leave_out_damaged(rows, parts[0].shape[1], self.folder)
                    part = self._vectors([row[1] for row in rows])
                ids += [row[0] for row in rows]
                parts.append(part)
        return np.array(ids, np.int64), np.concatenate(parts)

    # Searching

    def filter_ids(self, where: Where) -> Ids:
        """Return the ids of the chunks whose document matches `where`; see `leanrag.retrieval.filters` for its syntax.

        Numbers compare as numbers (`1`, `1.0` and `True` are equal); `None` equals a stored `None` only.

        Returns:
            int64 `(n,)`, ascending, read-only; every chunk when `where` is empty.

        Raises:
            ConfigurationError: An operator of `where` is unknown, or a value cannot be compared.
        """
        return self._filtered_ids.get(where)

    def search_terms(
        self, question: str, k: int, *, allowed: Ids | None = None, also: Ids | None = None
    ) -> tuple[Vectors, Ids]:
        """Return the chunks that match any word of `question` best, by BM25 (k1 = 1.2, b = 0.75, English stems).

        Any text is a valid question; see `leanrag.retrieval.terms` for what counts as the same word.

        Args:
            question: Plain text.
            k: Chunks wanted.
            allowed: Only these ids may be found.
            also: Those of these ids that match are returned too, behind the best `k`; all of them must be allowed.

        Returns:
            `(scores, ids)`: float32 and int64, both `(m,)`, best first, lower ids first among equals; `m <= k` without `also`.
        """
        terms = parse_query(question).terms
        if not terms or k < 1 or (allowed is not None and len(allowed) == 0):
            return np.empty(0, np.float32), np.empty(0, np.int64)
        with self._database.reading(one_view=True) as connection:
            postings = self._posting_index.current(connection)
            keys = self._posting_index.keys_of(terms) if postings is not None and len(terms) <= MAX_TERMS else None
            if postings is not None and keys is not None:
                return postings.search(keys, k, allowed=allowed, also=also)
            rows = find_best(connection, terms, k, allowed=allowed, also=also)
        scores, ids = zip(*rows, strict=True) if rows else ((), ())
        return np.array(scores, np.float32), np.array(ids, np.int64)

    def match_identifiers(self, question: str, most: int, *, allowed: Ids | None = None) -> tuple[Ids, Ids]:
        """Return the chunks that have identifiers of `question` (a version, a date, a part number), whole.

        Args:
            question: Plain text.
            most: An identifier that more chunks have decides nothing and is passed over.
            allowed: Only these ids may be found.

        Returns:
            `(counts, ids)`: int64, both `(m,)`: how many identifiers of the question each chunk has; ids ascending.
        """
        identifiers = parse_query(question).identifiers
        if not identifiers:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        with self._database.reading() as connection:
            found = [as_ids(rows) for rows in find_identifiers(connection, identifiers, most)]
        ids, counts = np.unique(np.concatenate([np.empty(0, np.int64), *found]), return_counts=True)
        is_allowed = np.ones(len(ids), bool) if allowed is None else np.isin(ids, allowed)
        return counts[is_allowed], ids[is_allowed]
