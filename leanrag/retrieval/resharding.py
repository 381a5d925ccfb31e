"""Divide a corpus into shards, or into another number of them, while others search it."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import DamageError
from leanrag.retrieval.database import DATABASE, DERIVED_SUFFIX
from leanrag.retrieval.growing_index import update_graph
from leanrag.retrieval.layout import ShardLayout, write_layout
from leanrag.retrieval.records import DocumentRecord
from leanrag.retrieval.shard import Shard
from leanrag.retrieval.shard_ids import MOST_EPOCHS, MOST_SHARDS
from leanrag.retrieval.sharded_store import ShardedStore, open_store
from leanrag.retrieval.store import Entry, Store

__all__ = ["divide_corpus"]

_BATCH_CHUNKS = 2000  # committed together


@dataclass(frozen=True, slots=True)
class _StoredStat:
    """What a store knows of a file."""

    st_size: int
    st_mtime_ns: int
    st_ctime_ns: int


def divide_corpus(folder: str | os.PathLike[str], shards: int, *, field: str | None = None) -> ShardLayout:
    """Divide the corpus of a folder into shards; return how it is divided now.

    Nothing is embedded again. Other threads and processes search the old shards until the new ones are complete, and then the new
    ones; only a program that opened the folder before it was divided for the first time has to open it again. Nobody can write
    meanwhile. A process that is killed leaves the corpus as it was. The next writer removes the old files.

    Args:
        folder: A folder of documents, divided or not.
        shards: Number of shards.
        field: Metadata field whose value decides which shard a document belongs to, such as "tenant"; None: its id decides.

    Raises:
        ConfigurationError: `shards` is out of range.
        StorageError: The folder cannot be opened or written, or another process is writing.
        DamageError: A document is damaged. Repair the corpus first.
    """
    check_whole(1, MOST_SHARDS, shards=shards)
    root = Path(folder).expanduser().absolute()
    with open_store(root, create=False) as store, store.writer():
        old = store.layout if isinstance(store, ShardedStore) else None
        layout = ShardLayout(
            epoch=1 if old is None else old.epoch % MOST_EPOCHS + 1,
            shards=shards,
            field=field,
            generation=store.generation + 1,
            retired=_files_of(store) if old is None else (old.folder,),
        )
        shutil.rmtree(root / layout.folder, ignore_errors=True)  # of a process that was killed
        _copy(store, root, layout)
        write_layout(root, layout)
    return layout


def _files_of(store: Store) -> tuple[str, ...]:
    """Return the names of the files of a store that is not divided."""
    derived = [path.name for kind in ("postings", "vectors") for path in store.folder.glob(f"{kind}-*{DERIVED_SUFFIX}")]
    return (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", *sorted(derived))


def _copy(store: Store, root: Path, layout: ShardLayout) -> None:
    """Write all documents of a store into new shards."""
    stats = store.stats()
    with ExitStack() as stack:
        shards = [stack.enter_context(Shard(layout.path(root, i))) for i in range(layout.shards)]
        if stats.embedder_id is None or stats.dim is None:
            return
        waiting: dict[int, list[Entry]] = {i: [] for i in range(layout.shards)}
        chunkers: dict[int, str] = {}

        def flush(i: int) -> None:
            assert stats.embedder_id is not None
            assert stats.dim is not None
            shards[i].bind(stats.embedder_id, stats.dim, chunkers.get(i, ""))
            shards[i].put_many(waiting[i])
            waiting[i].clear()

        for record in store.documents():
            i = layout.shard_of(record.id, record.metadata)
            if chunkers.setdefault(i, record.chunker_id) != record.chunker_id:
                flush(i)
                chunkers[i] = record.chunker_id
            waiting[i].append(_entry(store, record))
            if sum(len(entry.chunks) for entry in waiting[i]) >= _BATCH_CHUNKS:
                flush(i)
        for i, shard in enumerate(shards):
            flush(i)
            shard.update_postings()
            update_graph(shard, stats.dim)


def _entry(store: Store, record: DocumentRecord) -> Entry:
    """Return everything that is stored of a document."""
    known = store.known_chunks(record.id)
    if len(known) != record.chunks:
        raise DamageError(
            f"the chunks of {record.id!r} are damaged, so they cannot be copied. Run `leanrag repair` first",
            path=store.path,
        )
    names = sorted({name for chunk in known for name in chunk.features})
    features = {
        name: [chunk.features[name] for chunk in known]
        for name in names
        if all(name in chunk.features for chunk in known)
    }
    stat = None
    if record.size is not None and record.mtime_ns is not None:
        stat = _StoredStat(record.size, record.mtime_ns, record.mtime_ns)
    return Entry(
        store.get_document(record.id),
        [chunk.chunk for chunk in known],
        np.stack([chunk.vector for chunk in known]) if known else np.empty((0, store.stats().dim or 0), np.float32),
        record.root,
        stat,
        features,
    )
