"""The order of the stages on the way in: files -> documents -> chunks -> vectors -> store, only for what changed."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from tqdm.auto import tqdm

from leanrag.documents.embedding_text import embedding_text
from leanrag.documents.loading import can_load, find_files, load_file
from leanrag.errors import DocumentError
from leanrag.protocols import Chunker, ChunkFeature, Embedder
from leanrag.retrieval.store import DocumentRecord, Entry, Store
from leanrag.types import AddReport, Chunk, Document, Failure, MetadataValue

__all__ = ["Ingestion", "Source"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | os.PathLike[str] | Document
"""A file, a folder, or a document made from text."""

_BATCH_CHUNKS = 128  # chunks embedded and committed together: enough to keep the embedder busy, little to lose


@dataclass(frozen=True, slots=True)
class _File:
    """A file to read; `folder` is the folder that was named, None when the file itself was."""

    path: Path
    folder: Path | None

    @property
    def title(self) -> str:
        return self.path.name if self.folder is None else self.path.relative_to(self.folder).as_posix()

    @property
    def root(self) -> str | None:
        return None if self.folder is None else str(self.folder.resolve())


@dataclass(frozen=True, slots=True)
class _Change:
    """A document to write."""

    document: Document
    chunks: Sequence[Chunk]
    root: str | None = None
    file_stat: os.stat_result | None = None


class Ingestion:
    """One `add`: reads what changed, skips what did not, and reports both.

    Args:
        store: Where to.
        chunker: How documents are split.
        embedder: How chunks become vectors.
        features: What else is computed of chunks and stored with them.
        metadata: Set on every document, over its own.
        progress: Show a bar on standard error; None for only when that is a terminal.
    """

    def __init__(
        self,
        store: Store,
        chunker: Chunker,
        embedder: Embedder,
        *,
        features: Sequence[ChunkFeature] = (),
        metadata: Mapping[str, MetadataValue] | None = None,
        progress: bool | None = None,
    ) -> None:
        self._store, self._chunker, self._embedder = store, chunker, embedder
        self._features = features
        self._metadata = dict(metadata or {})
        self._show_progress = sys.stderr.isatty() if progress is None else progress
        self._known: dict[str, DocumentRecord] = {}
        self._pending: list[_Change] = []
        self._outcome: dict[str, list[str]] = {
            "added": [],
            "updated": [],
            "unchanged": [],
            "removed": [],
            "skipped": [],
        }
        self._failed: list[Failure] = []
        self._roots: set[str] = set()
        self._queued: dict[str, str] = {}
        self._chunks = 0

    def run(self, sources: Iterable[Source]) -> AddReport:
        """Add `sources`.

        Raises:
            DocumentError: A source that was named could not be read. Everything else was added, and the error carries the
                report; a file inside a folder that cannot be read is reported only.
            StorageError: Another process is writing, or the folder cannot be written.
        """
        started = time.perf_counter()
        sources = list(sources)
        with self._store.writer():
            self._known = {record.id: record for record in self._store.documents()}
            found = [item for source in sources for item in self._find(source)]
            with tqdm(total=len(found), desc="Adding", unit="doc", disable=not self._show_progress, leave=False) as bar:
                for item in found:
                    self._take(item)
                    if sum(len(change.chunks) for change in self._pending) >= _BATCH_CHUNKS:
                        self._flush()
                    bar.update()
                self._flush()
            self._remove_vanished()
        report = AddReport(
            **{name: tuple(ids) for name, ids in self._outcome.items()},
            failed=tuple(self._failed),
            chunks=self._chunks,
            seconds=time.perf_counter() - started,
        )
        named = {str(Path(source)) for source in sources if not isinstance(source, Document)}
        errors = [failure.error for failure in self._failed if failure.source in named]
        unread = [error for error in errors if isinstance(error, DocumentError)]
        if unread:
            more = f" ({len(unread) - 1} more sources could not be read either)" if len(unread) > 1 else ""
            raise DocumentError(f"{unread[0]}{more}", path=unread[0].path, report=report) from unread[0]
        return report

    def _find(self, source: Source) -> list[_File | Document]:
        if isinstance(source, Document):
            return [source]
        path = Path(source)
        try:
            files = list(find_files(path, on_error=lambda error: self._fail(str(error.path), error)))
        except DocumentError as error:
            self._fail(str(path), error)
            return []
        if not path.is_dir():
            return [_File(file, None) for file in files]
        self._roots.add(str(path.resolve()))
        return [_File(file, path) for file in files]

    def _take(self, item: _File | Document) -> None:
        """Read one document and queue it when it is new or changed."""
        if isinstance(item, Document):
            self._queue(item)
        elif item.folder is not None and not can_load(item.path):
            self._outcome["skipped"].append(str(item.path))
        else:
            try:
                self._take_file(item)
            except DocumentError as error:
                self._fail(str(item.path), error)

    def _take_file(self, file: _File) -> None:
        try:
            stat = file.path.stat()
        except OSError as error:
            raise DocumentError(f"cannot read {str(file.path)!r}: {error}", path=file.path) from error
        record = self._known.get(file.path.resolve().as_posix())
        if (
            record is not None
            and (record.size, record.mtime_ns) == (stat.st_size, stat.st_mtime_ns)
            and (record.title, record.metadata, record.chunker_id) == (file.title, self._metadata, self._chunker.id)
        ):
            self._outcome["unchanged"].append(record.id)
        else:
            self._queue(load_file(file.path, title=file.title), root=file.root, stat=stat)

    def _queue(self, document: Document, *, root: str | None = None, stat: os.stat_result | None = None) -> None:
        if self._queued.get(document.id) == document.sha256:  # named twice
            return
        self._queued[document.id] = document.sha256
        metadata = {**document.metadata, **self._metadata}
        record = self._known.get(document.id)
        if (
            record is not None
            and (record.sha256, record.title) == (document.sha256, document.title)
            and (record.metadata, record.chunker_id) == (metadata, self._chunker.id)
        ):
            self._outcome["unchanged"].append(document.id)
            if stat is not None:
                self._store.touch(document.id, stat)
            return
        self._outcome["added" if record is None else "updated"].append(document.id)
        document = dataclasses.replace(document, metadata=metadata)
        self._pending.append(_Change(document, self._chunker.chunk(document), root, stat))

    def _flush(self) -> None:
        """Embed and commit what is queued, in one transaction."""
        embedder = self._embedder
        chunks = [chunk for change in self._pending for chunk in change.chunks]
        texts = [embedding_text(chunk, embedder.count_tokens, embedder.max_tokens) for chunk in chunks]
        vectors = embedder.embed_documents(texts)
        features = {feature.name: feature.compute(chunks) for feature in self._features}
        entries, at = [], 0
        for change in self._pending:
            rows = slice(at, at + len(change.chunks))
            own = {name: data[rows] for name, data in features.items()}
            entries.append(Entry(change.document, change.chunks, vectors[rows], change.root, change.file_stat, own))
            at += len(change.chunks)
        self._store.put_many(entries)
        self._chunks += len(chunks)
        self._pending.clear()

    def _remove_vanished(self) -> None:
        """Remove documents that came from a folder named now and whose files are gone."""
        gone = [
            record.id
            for record in self._known.values()
            if record.root in self._roots and record.source is not None and _is_gone(record.source)
        ]
        self._store.remove(gone)
        self._outcome["removed"].extend(gone)

    def _fail(self, source: str, error: DocumentError) -> None:
        logger.warning("Not added: %s", error)
        self._failed.append(Failure(source, error))


def _is_gone(path: str) -> bool:
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # unreadable is not gone
        return False
    return False
