"""A corpus over several folders that is searched, read and written as one store."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import operator
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np

from leanrag.checks import check_choice
from leanrag.errors import ConfigurationError
from leanrag.retrieval.database import SHARDS
from leanrag.retrieval.full_text import MAX_COUNTED, MAX_TERMS
from leanrag.retrieval.index import best_first
from leanrag.retrieval.integrity import Damage
from leanrag.retrieval.known import KnownChunk
from leanrag.retrieval.layout import ShardLayout, write_layout
from leanrag.retrieval.postings import TermStatistics
from leanrag.retrieval.records import DocumentRecord
from leanrag.retrieval.repair import Recompute, RepairReport
from leanrag.retrieval.shard import MakeVectorIndex, Shard
from leanrag.retrieval.shard_ids import group_ids, in_shard, to_global
from leanrag.retrieval.shards import OpenShard, Partition, Shards
from leanrag.retrieval.store import Entry, MissingChunkError, Store, StoreStats
from leanrag.retrieval.terms import parse_query
from leanrag.types import Chunk, Document, Mark, MetadataValue, Where

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors, VectorSource

__all__ = ["MissingShards", "ShardedIndex", "ShardedStore", "open_store", "parts_of"]

T = TypeVar("T")

MissingShards: TypeAlias = Literal["fail", "partial"]


def open_store(
    folder: str | os.PathLike[str],
    *,
    create: bool = True,
    missing_shards: MissingShards = "fail",
    open_shard: OpenShard | None = None,
) -> Store:
    """Return the store of a folder, which is a `ShardedStore` if the corpus is divided into shards.

    Raises:
        ConfigurationError: `open_shard` was passed for a folder that is not divided.
        StorageError: There is nothing to open, or this version cannot read it.
    """
    check_choice(("fail", "partial"), missing_shards=missing_shards)
    root = Path(folder).expanduser().absolute()
    if (root / SHARDS).exists():
        return ShardedStore(root, missing_shards=missing_shards, open_shard=open_shard or _open_shard)
    if open_shard is not None:
        raise ConfigurationError(
            f"{str(root)!r} is not divided, so `open_shard` has no effect. Divide it with `leanrag shard`, or leave it out"
        )
    return Store(root, create=create)


def parts_of(store: Store) -> Sequence[Store]:
    """Return the stores that a store consists of: its shards, or itself."""
    return store.parts() if isinstance(store, ShardedStore) else [store]


def _open_shard(folder: Path, create: bool) -> Shard:
    return Shard(folder, create=create)


class ShardedStore(Store):
    """A corpus that is divided into shards, each a `Shard` in a folder of its own. Any thread may call.

    The scores of a search are those of one store with all chunks. Each document is replaced in one transaction; a `put_many` with
    documents of several shards has one for each shard. Ids of chunks are those of the shards, with shard and epoch.

    When another process divides the corpus anew, the next call uses the new shards. Ids of the old ones stay valid.

    Args:
        folder: The folder with `shards.json`.
        missing_shards: What happens if a shard cannot be reached: "fail" raises an error, "partial" reads the other shards and
            logs a warning; `missing` names the shard. Nothing is written in either case.
        open_shard: Opens a shard.

    Raises:
        StorageError: The folder has no `shards.json`, or it is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        missing_shards: MissingShards = "fail",
        open_shard: OpenShard = _open_shard,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.path = self.folder / SHARDS
        self.read_only = not os.access(self.folder, os.W_OK)
        self._forgetters = []
        self._make_index: MakeVectorIndex | None = None
        self._bound_to: tuple[str, int, str] | None = None
        self._shards = Shards(
            self.folder, is_partial=missing_shards == "partial", open_shard=open_shard, prepare=self._prepare
        )
        self._each, self._each_of, self._write = self._shards.each, self._shards.each_of, self._shards.write

    def close(self) -> None:
        """Close all shards; idempotent."""
        self._shards.close()

    def __repr__(self) -> str:
        return f"ShardedStore({str(self.folder)!r})"

    # Shards

    @property
    def layout(self) -> ShardLayout:
        """How the corpus is divided now."""
        return self._shards.current().layout

    @property
    def missing(self) -> tuple[str, ...]:
        """The folders of the shards that could not be reached when they were needed last."""
        return self._shards.missing

    def parts(self) -> list[Shard]:
        """Return the shards, in their order.

        Raises:
            ShardError: A shard cannot be reached, and "fail" was chosen.
        """
        return [shard for _, shard in self._each(lambda shard: shard)]

    def use_index(self, make_index: MakeVectorIndex) -> None:
        """Let each shard search vectors with an index that `make_index` makes."""
        self._make_index = make_index
        self._each(lambda shard: shard.use_index(make_index))

    def _prepare(self, shard: Shard) -> None:
        """Tell a shard that was just opened what the others know."""
        shard.before_removal(self._forget)
        if self._make_index is not None:
            shard.use_index(self._make_index)
        if self._bound_to is not None:
            shard.bind(*self._bound_to)

    def _holders(self, document_ids: Sequence[str]) -> dict[str, int]:
        """Return which shard has each of some documents; unknown ids are passed over."""
        found = self._each(lambda shard: [record.id for record in shard.get_records(document_ids)])
        return {document_id: i for i, ids in found for document_id in ids}

    def _home(self, document_id: str) -> list[int]:
        """Return the shards that may have a document: one if its id says so, or if it is known; else none."""
        layout = self.layout
        if layout.field is None:
            return [layout.shard_of(document_id, {})]
        return list(self._holders([document_id]).values())

    # Identity

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the right to write to all shards, for the length of an `add`; see `Store.writer`."""
        with contextlib.ExitStack() as stack:
            while True:
                layout = self.layout
                attempt = stack.enter_context(contextlib.ExitStack())
                for shard in self._write(lambda shard: shard):
                    attempt.enter_context(shard.writer())
                if self.layout.epoch == layout.epoch:  # nobody divided the corpus meanwhile
                    break
                attempt.close()
            self._remove_retired(layout)
            yield

    def _remove_retired(self, layout: ShardLayout) -> None:
        """Remove the files of former shards."""
        for name in layout.retired:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            if not (self.folder / name).is_dir():
                (self.folder / name).unlink(missing_ok=True)
        if layout.retired:
            write_layout(self.folder, layout.model_copy(update={"retired": ()}))

    @property
    def generation(self) -> int:
        """A number that grows with every commit that changes chunks; microseconds for each shard."""
        return self.layout.generation + sum(number for _, number in self._each(lambda shard: shard.generation))

    def content_hash(self) -> str:
        """Return a hash of all documents that can be reached, and of what is missing."""
        hashes = [content for _, content in self._each(lambda shard: shard.content_hash())]
        return hashlib.sha256(repr((hashes, self.missing)).encode("utf-8", "surrogatepass")).hexdigest()

    def bind(self, embedder_id: str, dim: int, chunker_id: str) -> None:
        """Tie all shards to an embedder; see `Store.bind`."""
        self._each(lambda shard: shard.bind(embedder_id, dim, chunker_id))
        self._bound_to = embedder_id, dim, chunker_id

    def stats(self) -> StoreStats:
        """Return counts and sizes of all shards together."""
        every = [stats for _, stats in self._each(lambda shard: shard.stats())]
        bound = next((stats for stats in every if stats.embedder_id is not None), None)
        return StoreStats(
            documents=sum(stats.documents for stats in every),
            chunks=sum(stats.chunks for stats in every),
            size_bytes=sum(stats.size_bytes for stats in every),
            generation=self.layout.generation + sum(stats.generation for stats in every),
            embedder_id=bound.embedder_id if bound else None,
            dim=bound.dim if bound else None,
            vector_index="graph" if any(stats.vector_index == "graph" for stats in every) else "exact",
        )

    def find_damage(self) -> list[Damage]:
        """Return what is damaged in any shard; see `Store.find_damage`."""
        return [damage for found in self._write(lambda shard: shard.find_damage()) for damage in found]

    def check(self) -> None:
        """Read everything once; see `Store.check`."""
        self._write(lambda shard: shard.check())

    def repair(self, recompute: Recompute | None = None) -> RepairReport:
        """Repair each shard; see `Store.repair`."""
        return functools.reduce(operator.add, self._write(lambda shard: shard.repair(recompute)), RepairReport())

    # Writing

    def put_many(self, entries: Iterable[Entry]) -> None:
        """Add or replace documents, in one transaction for each shard; see `Store.put_many`."""
        entries = list(entries)
        if not entries:
            return
        with self.writer():
            layout = self.layout
            groups: dict[int, list[Entry]] = {}
            for entry in entries:
                groups.setdefault(layout.shard_of(entry.document.id, entry.document.metadata), []).append(entry)
            holders = {} if layout.field is None else self._holders([entry.document.id for entry in entries])
            for i, group in groups.items():
                self._write(operator.methodcaller("put_many", group), [i])
                for document_id in (entry.document.id for entry in group):
                    if (former := holders.get(document_id, i)) != i:
                        self._write(operator.methodcaller("remove", [document_id]), [former])

    def touch(self, document_id: str, file_stat: os.stat_result | None, root: str | None = None) -> None:
        """Record that a file was looked at; see `Store.touch`."""
        self._write(lambda shard: shard.touch(document_id, file_stat, root), self._home(document_id))

    def update_metadata(
        self, document_ids: Iterable[str], metadata: Mapping[str, MetadataValue], *, drop: Iterable[str] = ()
    ) -> int:
        """Set fields of documents and remove the fields in `drop`; see `Store.update_metadata`.

        Raises:
            ConfigurationError: A value cannot be stored, or the field decides which shard a document belongs to.
        """
        ids, dropped, field = list(document_ids), list(drop), self.layout.field
        if field is not None and (field in metadata or field in dropped):
            raise ConfigurationError(
                f"the field {field!r} decides which shard a document belongs to, so it cannot be changed alone. "
                "Add the document again with the new value"
            )
        with self.writer():
            return sum(self._write(lambda shard: shard.update_metadata(ids, metadata, drop=dropped)))

    def remove(self, document_ids: Iterable[str]) -> int:
        """Remove documents, in one transaction for each shard; return how many there were."""
        ids = list(document_ids)
        with self.writer():
            return sum(self._write(lambda shard: shard.remove(ids)))

    def put_feature(self, name: str, values: Sequence[tuple[Chunk, bytes]]) -> None:
        """Keep what was computed for chunks; see `Store.put_feature`."""
        for i in self._homes([chunk.document_id for chunk, _ in values]):
            self._write(lambda shard: shard.put_feature(name, values), [i])  # each passes over the chunks of others

    def update_postings(self) -> None:
        """Prepare full-text search for what was written."""
        self._each(lambda shard: shard.update_postings())

    # Reading documents

    def _homes(self, document_ids: Iterable[str]) -> list[int]:
        """Return the shards that may have some documents."""
        return sorted({i for document_id in set(document_ids) for i in self._home(document_id)})

    def _read(self, document_id: str, call: Callable[[Shard], T], default: T) -> T:
        """Return what the shard of a document says; `default` if no shard has it."""
        return next((result for _, result in self._each(call, only=self._home(document_id))), default)

    def get_document(self, document_id: str) -> Document:
        """Return a document.

        Raises:
            ConfigurationError: No document has this id.
        """
        found = self._read(document_id, lambda shard: shard.get_document(document_id), None)
        if found is None:
            raise ConfigurationError(
                f"{str(self.folder)!r} has no document {document_id!r}. `documents()` lists its documents"
            )
        return found

    def get_marks(self, document_id: str) -> tuple[Mark, ...]:
        """Return the marks of a document; empty if it has none, or is unknown."""
        return self._read(document_id, lambda shard: shard.get_marks(document_id), ())

    def known_chunks(self, document_id: str) -> list[KnownChunk]:
        """Return the chunks of a document with their vectors and features; none if it is unknown or damaged."""
        return self._read(document_id, lambda shard: shard.known_chunks(document_id), [])

    def read_passage(self, document_id: str, start: int, end: int) -> tuple[str, tuple[Mark, ...]]:
        """Return the text of a document between two of its characters, and its marks; "" if the document is unknown."""
        nothing: tuple[str, tuple[Mark, ...]] = "", ()
        return self._read(document_id, lambda shard: shard.read_passage(document_id, start, end), nothing)

    def get_feature(self, name: str, chunk: Chunk) -> bytes | None:
        """Return what was stored under `name` for a chunk, None if nothing was."""
        return self._read(chunk.document_id, lambda shard: shard.get_feature(name, chunk), None)

    def documents(self) -> Iterator[DocumentRecord]:
        """Yield a record of every document, shard by shard, each in the order of their writing."""
        return (record for _, records in self._each(lambda shard: list(shard.documents())) for record in records)

    def get_records(self, document_ids: Iterable[str]) -> list[DocumentRecord]:
        """Return the records of the documents with these ids; unknown ids are passed over."""
        ids = list(document_ids)
        return self._all_of(lambda shard: shard.get_records(ids))

    def records_below(self, folders: Sequence[str]) -> list[DocumentRecord]:
        """Return the records of the documents of some folders; see `Store.records_below`."""
        return self._all_of(lambda shard: shard.records_below(folders))

    def records_with_text(self, sha256: str) -> list[DocumentRecord]:
        """Return the records of the documents whose text has this hash."""
        return self._all_of(lambda shard: shard.records_with_text(sha256))

    def find_documents(self, name: str, path: str) -> list[str]:
        """Return the ids of the documents that a name means; see `Store.find_documents`."""
        return self._all_of(lambda shard: shard.find_documents(name, path))

    def _all_of(self, call: Callable[[Shard], list[T]]) -> list[T]:
        return [value for _, values in self._each(call) for value in values]

    # Reading chunks

    def get_chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Return the chunks of `ids`, in their order; see `Store.get_chunks`.

        Raises:
            MissingChunkError: One of them does not exist, or its shard cannot be reached and "partial" was chosen.
        """
        found: dict[int, Chunk] = {}
        for positions, chunks in self._by_shard(ids, lambda shard, local: shard.get_chunks(local)):
            found.update(zip(positions, chunks, strict=True))
        return [found[i] for i in range(len(ids))]

    def get_vectors(self, ids: Sequence[int]) -> Vectors:
        """Return float32 `(len(ids), dim)`, in the order of `ids`; see `Store.get_vectors`."""
        parts = self._by_shard(ids, lambda shard, local: shard.get_vectors(local))
        if not parts:
            return np.empty((0, self.stats().dim or 0), np.float32)
        vectors = np.empty((len(ids), parts[0][1].shape[1]), np.float32)
        for positions, rows in parts:
            vectors[positions] = rows
        return vectors

    def _by_shard(self, ids: Sequence[int], call: Callable[[Shard, list[int]], T]) -> list[tuple[list[int], T]]:
        """Return the positions in `ids` and the result of each shard that has some of them."""
        groups = group_ids(np.asarray(ids, np.int64))
        parts: list[tuple[list[int], T]] = []
        for epoch in sorted({epoch for epoch, _ in groups}):
            partition = self._shards.partition_of(to_global(np.zeros(1, np.int64), epoch, 0))
            local = {i: found for (its_epoch, i), found in groups.items() if its_epoch == epoch}
            if partition.layout.epoch != epoch or max(local) >= partition.layout.shards:
                raise MissingChunkError(f"{str(self.folder)!r} has no shards of the epoch {epoch!r}", path=self.folder)
            by_shard = {i: rows.tolist() for i, (_, rows) in local.items()}
            reached = self._each_of(partition, functools.partial(_call_with, call, by_shard), list(local))
            if len(reached) < len(local):
                raise MissingChunkError(f"a shard of {str(self.folder)!r} cannot be reached", path=self.folder)
            parts += [(local[i][0].tolist(), result) for i, result in reached]
        return parts

    def chunk_ids_within(self, document_id: str, start: int, end: int) -> Ids:
        """Return the ids of the chunks of a document that lie between two of its characters, in document order."""
        partition = self._shards.current()
        home = self._home(document_id)
        parts = self._each_of(partition, lambda _, shard: shard.chunk_ids_within(document_id, start, end), home)
        return self._joined(partition, parts)

    def _joined(self, partition: Partition, parts: Iterable[tuple[int, Ids]]) -> Ids:
        """Return the ids in the corpus of ids in shards."""
        epoch = partition.layout.epoch
        return np.concatenate([np.empty(0, np.int64), *(to_global(ids, epoch, i) for i, ids in parts)])

    # Reading for an index

    def count_chunks(self) -> int:
        """Return how many chunks there are."""
        return sum(count for _, count in self._each(lambda shard: shard.count_chunks()))

    def chunk_ids(self) -> Ids:
        """Return every chunk's id, int64 `(n,)`, ascending."""
        partition = self._shards.current()
        return np.sort(self._joined(partition, self._each_of(partition, lambda _, shard: shard.chunk_ids())))

    def removed_ids(self, ids: Ids) -> Ids:
        """Return those of `ids` that no chunk has, int64 `(n,)`, ascending."""
        return np.setdiff1d(ids, self.chunk_ids())

    def all_vectors(self, *, after: int = 0, most: int | None = None) -> tuple[Ids, Vectors]:
        """Return `(ids, vectors)` of the chunks with an id above `after`; see `Store.all_vectors`."""
        partition = self._shards.current()
        parts = self._each_of(partition, lambda _, shard: shard.all_vectors())
        ids = self._joined(partition, [(i, some) for i, (some, _) in parts])
        vectors = np.concatenate([np.empty((0, self.stats().dim or 0), np.float32), *(rows for _, (_, rows) in parts)])
        order = np.argsort(ids)
        order = order[ids[order] > after][:most]
        return ids[order], vectors[order]

    # Searching

    def filter_ids(self, where: Where) -> Ids:
        """Return the ids of the chunks whose document matches `where`, ascending; see `Store.filter_ids`."""
        partition = self._shards.current()
        return np.sort(self._joined(partition, self._each_of(partition, lambda _, shard: shard.filter_ids(where))))

    def search_vectors(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the nearest chunks for each query, as `VectorIndex.search` does."""
        partition = self._shards.partition_of(allowed)
        epoch = partition.layout.epoch

        def search(i: int, shard: Shard) -> tuple[Vectors, Ids]:
            local = None if allowed is None else in_shard(allowed, epoch, i)
            scores, ids = shard.search_vectors(queries, k, allowed=local)
            return scores, to_global(ids, epoch, i)

        parts = [part for _, part in self._each_of(partition, search)]
        scores = np.concatenate([np.empty((len(queries), 0), np.float32), *(scores for scores, _ in parts)], axis=1)
        ids = np.concatenate([np.empty((len(queries), 0), np.int64), *(ids for _, ids in parts)], axis=1)
        return best_first(scores, ids, k)

    def search_terms(
        self, question: str, k: int, *, allowed: Ids | None = None, also: Ids | None = None
    ) -> tuple[Vectors, Ids]:
        """Return the chunks that match any word of `question` best, by BM25 over all shards; see `Store.search_terms`."""
        terms = parse_query(question).terms
        empty = np.empty(0, np.float32), np.empty(0, np.int64)
        if not terms or k < 1 or (allowed is not None and len(allowed) == 0):
            return empty
        partition = self._shards.partition_of(allowed, also)
        epoch = partition.layout.epoch
        counted = [statistics for _, statistics in self._each_of(partition, lambda _, shard: shard.count_terms(terms))]
        if not counted:
            return empty
        statistics = functools.reduce(operator.add, counted)
        terms, statistics = _keep_rarest(terms, statistics)

        def score(i: int, shard: Shard) -> tuple[Vectors, Ids]:
            its_allowed = None if allowed is None else in_shard(allowed, epoch, i)
            its_also = None if also is None else in_shard(also, epoch, i)
            scores, ids = shard.score_terms(terms, statistics, k, allowed=its_allowed, also=its_also)
            return scores, to_global(ids, epoch, i)

        parts = [empty, *(part for _, part in self._each_of(partition, score))]
        scores, ids = (np.concatenate(both) for both in zip(*parts, strict=True))
        order = np.lexsort((ids, -scores))
        if also is not None:
            is_kept = np.isin(ids[order], also)
            is_kept[:k] = True
            order = order[is_kept]
        else:
            order = order[:k]
        return scores[order], ids[order]

    def match_identifiers(self, question: str, most: int, *, allowed: Ids | None = None) -> tuple[Ids, Ids]:
        """Return the chunks that have identifiers of `question`, whole; see `Store.match_identifiers`."""
        partition = self._shards.partition_of(allowed)
        reached = self._each_of(partition, lambda _, shard: shard.first_forms(question, most))
        parts = [np.empty(0, np.int64)]
        for forms in zip(*(forms for _, forms in reached), strict=True):  # of one identifier, by shard
            first = min((form for form, ids in forms if len(ids)), default=0)
            found = [(i, ids) for (i, _), (form, ids) in zip(reached, forms, strict=True) if form == first]
            if sum(len(ids) for _, ids in found) <= most:
                parts.append(self._joined(partition, found))
        ids, counts = np.unique(np.concatenate(parts), return_counts=True)
        is_allowed = np.ones(len(ids), bool) if allowed is None else np.isin(ids, allowed)
        return counts[is_allowed], ids[is_allowed]


class ShardedIndex:
    """The vector indexes of all shards as one `VectorIndex`.

    Args:
        store: The corpus.
    """

    def __init__(self, store: ShardedStore) -> None:
        self._store = store

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._store.count_chunks()

    def update(self, source: VectorSource) -> None:
        """Do nothing: each shard updates its index when it searches."""

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return the `k` most similar rows for each query, as every `VectorIndex` does."""
        return self._store.search_vectors(queries, k, allowed=allowed)


def _call_with(call: Callable[[Shard, list[int]], T], arguments: Mapping[int, list[int]], i: int, shard: Shard) -> T:
    return call(shard, arguments[i])


def _keep_rarest(terms: tuple[str, ...], statistics: TermStatistics) -> tuple[tuple[str, ...], TermStatistics]:
    """Return the terms, or if they are many those that fewest chunks have, in their order, with their statistics."""
    if len(terms) <= MAX_TERMS:
        return terms, statistics
    known = [i for i, count in enumerate(statistics.counts) if count]
    rarest = sorted(known, key=lambda i: (min(statistics.counts[i], MAX_COUNTED), i))[:MAX_TERMS]
    kept = sorted(rarest) or [0]
    counts = tuple(statistics.counts[i] for i in kept)
    return tuple(terms[i] for i in kept), replace(statistics, counts=counts)
