"""The order of the stages on the way in: files -> documents -> chunks -> vectors -> store, only for what changed."""

from __future__ import annotations

import dataclasses
import errno
import functools
import logging
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TypeAlias

from tqdm.auto import tqdm

from leanrag.documents.decoding import check_encoding
from leanrag.documents.formats.markdown import front_matter
from leanrag.documents.loading import READERS, can_load, find_files, is_heavy, load_file
from leanrag.documents.parsing import FileParser
from leanrag.errors import ConfigurationError, DocumentError, EmbeddingError, MissingDependencyError
from leanrag.pipeline.ahead import ComputedAhead, DocumentWorkers, FileTask
from leanrag.pipeline.reusing import ChunkKey, compute_chunk_data, known_by_key
from leanrag.protocols import Chunker, ChunkFeature, DocumentReader, Embedder
from leanrag.retrieval.database import is_database_file
from leanrag.retrieval.entries import changed_ns
from leanrag.retrieval.growing_index import update_graph
from leanrag.retrieval.known import KnownChunk
from leanrag.retrieval.sharded_store import parts_of
from leanrag.retrieval.store import DocumentRecord, Entry, Store
from leanrag.stopping import stop_deferred
from leanrag.types import AddReport, Chunk, Document, Failure, MetadataValue, plain_metadata

__all__ = ["Ingestion", "Progress", "Selection", "Source"]

logger = logging.getLogger(__name__)

Source: TypeAlias = str | os.PathLike[str] | Document
"""A file, a folder, or a document made from text."""

Progress: TypeAlias = bool | Callable[[int, int], object] | None
"""Whether a bar is shown on standard error, or what is called after each document with the number of documents read and of all."""

_BATCH_CHUNKS = 128  # chunks embedded and committed together: enough to keep the embedder busy, little to lose
_NAMED = 3  # documents that an error names
_FILES_AHEAD = 4  # files for each process that reads: enough to keep it busy while chunks are embedded
_SETTLED_NS = 2_000_000_000  # a file that changed later than this may change again within one tick of its clock


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files of the folders are added; see `find_files` for the patterns.

    Attributes:
        ignore: Patterns of what is left out.
        pattern: Patterns of the files that are kept; all if there are none.
        is_exact: Documents that were added with the same folder before, and whose files are not selected now, are removed. Without
            it they are removed if there are no patterns, or if their files are gone.
    """

    ignore: Sequence[str] = ()
    pattern: Sequence[str] = ()
    is_exact: bool = False

    @property
    def removes_others(self) -> bool:
        """Whether documents whose files exist, but are not selected, are removed."""
        return self.is_exact or not (self.ignore or self.pattern)


@dataclass(frozen=True)
class _File:
    """A file to read; `folder` is the folder that was named, None when the file itself was, and `root` its real path."""

    path: Path
    folder: Path | None = None
    root: str | None = None

    @functools.cached_property
    def id(self) -> str | None:
        """The id of its document; None for a path that cannot be."""
        try:
            return os.path.realpath(self.path).replace(os.sep, "/")
        except (OSError, ValueError):
            return None

    @property
    def default_title(self) -> str:
        return self.path.name if self.folder is None else self.path.relative_to(self.folder).as_posix()


@dataclass(frozen=True, slots=True)
class _Change:
    """A document to write; `origin` is the document whose file had another name."""

    document: Document
    chunks: Sequence[Chunk]
    root: str | None = None
    file_stat: os.stat_result | None = None
    origin: DocumentRecord | None = None


class Ingestion:
    """One `add`: reads what changed, skips what did not, and reports both.

    Args:
        store: Where to.
        chunker: How documents are split.
        embedder: How chunks become vectors.
        features: What else is computed of chunks and stored with them.
        metadata: Set on every document, over its own. None leaves the metadata of known documents as they are.
        encoding: Encoding of files without a byte order mark; None for UTF-8, or what a file declares.
        readers: Reads files: by suffix, besides and over `READERS`.
        selection: Which files of the folders are added.
        progress: Show a bar on standard error, or call a function; None for a bar only when that is a terminal.
        makes_graph: Whether a graph of the vectors is made if there are many; see `GrowingIndex`.
        workers: Read, split and embed files elsewhere; None for here.

    Raises:
        ConfigurationError: `encoding` names no text encoding.
    """

    def __init__(
        self,
        store: Store,
        chunker: Chunker,
        embedder: Embedder,
        *,
        features: Sequence[ChunkFeature] = (),
        metadata: Mapping[str, MetadataValue] | None = None,
        encoding: str | None = None,
        readers: Mapping[str, DocumentReader] | None = None,
        selection: Selection = Selection(),
        progress: Progress = None,
        makes_graph: bool = False,
        workers: DocumentWorkers | None = None,
    ) -> None:
        self._store, self._chunker, self._embedder = store, chunker, embedder
        self._features, self._makes_graph, self._selection = features, makes_graph, selection
        self._metadata = None if metadata is None else plain_metadata(metadata)
        self._encoding = check_encoding(encoding)
        self._workers, self._own_readers = workers, readers or {}
        self._readers = {**READERS, **self._own_readers}
        self._tell: Callable[[int, int], object] = progress if callable(progress) else lambda _done, _total: None
        self._show_progress = sys.stderr.isatty() if progress is None else progress is True
        self._known: dict[str, DocumentRecord] = {}
        self._pending: list[_Change] = []
        self._parsed: dict[Path, Callable[[], Document]] = {}  # files that are being read in other processes
        self._outcome: dict[str, list[str]] = {
            "added": [],
            "updated": [],
            "unchanged": [],
            "removed": [],
            "skipped": [],
        }
        self._failed: list[Failure] = []
        self._lost: dict[str, None] = {}  # ids of the documents, if they are known, whose files cannot be read
        self._roots: set[Path] = set()
        self._unread: set[Path] = set()  # folders and files in them that could not be reached
        self._seen: set[str] = set()  # ids of documents that were read
        self._left_out: dict[str, int] = {}
        self._origins: dict[str, str] = {}  # by the id of a document, that of the document whose file had another name
        self._chunks = 0

    def run(self, sources: Iterable[Source]) -> AddReport:
        """Add `sources`.

        Raises:
            ConfigurationError: A source is neither a path nor a document, or two different documents of `sources` have one id;
                nothing was added.
            DocumentError: A source that was named could not be read. Everything else was added, and the error carries the
                report; a file inside a folder that cannot be read is reported only.
            StorageError: Another process is writing, or the folder cannot be written.
        """
        started = time.perf_counter()
        sources = list(sources)
        _check_sources(sources)
        with self._store.writer():
            found = [item for source in sources for item in self._find(source)]
            ids = (item.id for item in found if item.id is not None)
            self._known = {record.id: record for record in self._store.get_records(ids)}
            self._compute_ahead(found)
            progress = tqdm(total=len(found), desc="Adding", unit="doc", disable=not self._show_progress, leave=False)
            with progress as bar, FileParser() as parser, stop_deferred() as stop:
                for done, item in enumerate(self._parse_ahead(found, parser), 1):
                    self._take(item)
                    if stop.is_set:
                        break
                    if sum(len(change.chunks) for change in self._pending) >= _BATCH_CHUNKS:
                        self._flush()
                    bar.update()
                    self._tell(done, len(found))
                self._flush()
            self._remove_lost()
        self._store.update_postings()
        if self._makes_graph:
            for part in parts_of(self._store):
                update_graph(part, self._embedder.dim)
        report = AddReport(
            **{name: tuple(ids) for name, ids in self._outcome.items()},
            failed=tuple(self._failed),
            left_out=self._left_out,
            renamed={new: old for new, old in self._origins.items() if old in self._outcome["removed"]},
            chunks=self._chunks,
            seconds=time.perf_counter() - started,
        )
        named = {str(Path(source)) for source in sources if not isinstance(source, Document)}
        unread = [failure for failure in self._failed if failure.source in named]
        if unread:
            more = f" ({len(unread) - 1} more sources could not be read either)" if len(unread) > 1 else ""
            source, error = unread[0].source, unread[0].error
            path = error.path if isinstance(error, DocumentError) else source
            raise DocumentError(f"{error}{more}", path=path, report=report) from error
        return report

    def _find(self, source: Source) -> list[_File | Document]:
        if isinstance(source, Document):
            return [source]
        path = Path(source)
        try:
            files = list(
                find_files(
                    path,
                    ignore=self._selection.ignore,
                    pattern=self._selection.pattern,
                    exclude=is_database_file,
                    on_error=self._fail_below,
                )
            )
        except DocumentError as error:
            self._fail(str(path), error)
            self._lose(_File(path))
            return []
        if not path.is_dir():
            return [_File(file) for file in files]
        root = path.resolve()
        self._roots.add(root)
        return [_File(file, path, str(root)) for file in files]

    def _compute_ahead(self, items: Iterable[_File | Document]) -> None:
        """Let the workers begin with the files that have to be read."""
        if self._workers is None:
            return
        tasks = {
            item.path: FileTask(item.path, item.default_title, self._encoding)
            for item in items
            if isinstance(item, _File) and can_load(item.path, readers=self._readers) and self._must_read(item)
        }
        computed = self._workers.compute(list(tasks.values()), readers=self._own_readers)
        ahead = ComputedAhead(computed, self._chunker, self._embedder)
        self._chunker, self._embedder = ahead, ahead.embedder
        self._parsed = {path: functools.partial(ahead.document, path) for path in tasks}

    def _parse_ahead(self, items: Iterable[_File | Document], parser: FileParser) -> Iterator[_File | Document]:
        """Yield the items in order, while other processes read the next files of heavy formats."""
        waiting: deque[_File | Document] = deque()
        for item in items:
            if isinstance(item, _File) and self._is_heavy(item):
                future = parser.submit(item.path, default_title=item.default_title, encoding=self._encoding)
                self._parsed[item.path] = future.result
            waiting.append(item)
            if len(waiting) > _FILES_AHEAD * parser.processes:
                yield waiting.popleft()
        yield from waiting

    def _is_heavy(self, file: _File) -> bool:
        """Return whether a file has to be read, by a reader that needs bounds."""
        return is_heavy(file.path, self._readers) and file.path not in self._parsed and self._must_read(file)

    def _must_read(self, file: _File) -> bool:
        """Return whether a file is new or changed."""
        try:
            return not self._is_unchanged(file, file.path.stat())
        except OSError:  # `_take_file` reports it
            return False

    def _take(self, item: _File | Document) -> None:
        """Read one document and queue it when it is new or changed."""
        if isinstance(item, Document):
            self._queue(item)
        elif item.folder is not None and (_is_empty(item.path) or not can_load(item.path, readers=self._readers)):
            self._outcome["skipped"].append(str(item.path))
            self._lose(item)
        else:
            try:
                self._take_file(item)
            except (DocumentError, MissingDependencyError) as error:
                self._fail(str(item.path), error)
                self._lose(item)

    def _take_file(self, file: _File) -> None:
        try:
            stat = file.path.stat()
        except OSError as error:
            raise DocumentError(f"cannot read {str(file.path)!r}: {error.strerror or error}", path=file.path) from error
        parsed = self._parsed.pop(file.path, None)
        if file.id is not None and parsed is None and self._is_unchanged(file, stat):
            self._seen.add(file.id)
            self._outcome["unchanged"].append(file.id)
            return
        if parsed is not None:
            document = parsed()
        else:
            document = load_file(
                file.path, default_title=file.default_title, encoding=self._encoding, readers=self._readers
            )
        is_settled = time.time_ns() - changed_ns(stat) > _SETTLED_NS
        self._queue(document, root=file.root, stat=stat if is_settled else None)

    def _is_unchanged(self, file: _File, stat: os.stat_result) -> bool:
        """Return whether a file need not be read, because nothing changed since it was read in the same way."""
        record = None if file.id is None else self._known.get(file.id)
        return (
            record is not None
            and (record.size, record.mtime_ns) == (stat.st_size, changed_ns(stat))
            and (record.root, record.chunker_id) == (file.root, self._chunker.id)
            and self._metadata in (None, record.metadata)
            and self._encoding is None
        )

    def _queue(self, document: Document, *, root: str | None = None, stat: os.stat_result | None = None) -> None:
        if document.id in self._seen:  # named twice
            return
        self._seen.add(document.id)
        record = self._known.get(document.id)
        origin = self._find_origin(document) if record is None else None
        document = dataclasses.replace(document, metadata=self._metadata_of(document, record or origin))
        if (
            record is not None
            and (record.sha256, record.title) == (document.sha256, document.title)
            and (record.metadata, record.chunker_id) == (document.metadata, self._chunker.id)
            and self._store.get_marks(document.id) == document.marks
        ):
            self._outcome["unchanged"].append(document.id)
            if document.source is not None:
                self._store.touch(document.id, stat, root)
            return
        self._outcome["added" if record is None else "updated"].append(document.id)
        with _naming([document]):
            chunks = self._chunker.chunk(document)
        change = _Change(document, chunks, root, stat, origin)
        if left_out := _left_out(document, change.chunks):
            self._left_out[document.id] = left_out
        self._pending.append(change)

    def _find_origin(self, document: Document) -> DocumentRecord | None:
        """Return the stored document with the same text whose file is gone: the file has a new name. None if there is none."""
        if document.source is None:
            return None
        taken = self._origins.values()
        for record in self._store.records_with_text(document.sha256):
            if record.source is not None and record.id not in taken and _is_gone(Path(record.source)):
                self._origins[document.id] = record.id
                return record
        return None

    def _metadata_of(self, document: Document, record: DocumentRecord | None) -> Mapping[str, MetadataValue]:
        """Return the metadata of a document: its own under those of this call, or of an earlier one."""
        if self._metadata is not None:
            return {**document.metadata, **self._metadata}
        if record is None:
            return document.metadata
        from_file: Mapping[str, MetadataValue] = {}
        if record.source is not None and record.sha256 != document.sha256:
            from_file = plain_metadata(front_matter(self._store.get_document(record.id).text))
        kept = {name: value for name, value in record.metadata.items() if from_file.get(name, ...) != value}
        overriding = {name: value for name, value in kept.items() if name in from_file}
        return {**kept, **document.metadata, **overriding}

    def _flush(self) -> None:
        """Embed and commit what is queued, in one transaction."""
        self._store.put_many(self._entries(self._pending))
        self._chunks += sum(len(change.chunks) for change in self._pending)
        self._pending.clear()

    def recompute(self, documents: Sequence[Document]) -> list[Entry]:
        """Return what would be stored of documents that are not files."""
        return self._entries([_Change(document, self._chunker.chunk(document)) for document in documents])

    def _entries(self, changes: Sequence[_Change]) -> list[Entry]:
        chunks = [chunk for change in changes for chunk in change.chunks]
        known: dict[ChunkKey, KnownChunk] = {}
        for change in changes:
            if change.origin is not None:  # its vectors stay as they are, although its name was part of the text
                known |= known_by_key(self._store.known_chunks(change.origin.id), change.document.title)
            elif change.document.id in self._known:
                known |= known_by_key(self._store.known_chunks(change.document.id))
        with _naming([change.document for change in changes]):
            data = compute_chunk_data(chunks, known, self._embedder, self._features)
        entries: list[Entry] = []
        start = 0
        for change in changes:
            rows = slice(start, start + len(change.chunks))
            stored = {name: values[rows] for name, values in data.features.items()}
            entries.append(
                Entry(change.document, change.chunks, data.vectors[rows], change.root, change.file_stat, stored)
            )
            start += len(change.chunks)
        return entries

    def _lose(self, file: _File) -> None:
        """Note that the file of a known document cannot be read: its old text must not be answered from."""
        if file.id is not None:
            self._lost[file.id] = None

    def _remove_lost(self) -> None:
        """Remove the documents whose files cannot be read, and those that the folders of this call no longer have."""
        unreadable = self._store.get_records(self._lost)
        below = self._store.records_below([str(root) for root in self._roots])
        missed = [record for record in below if record.id not in self._seen and self._is_missed(record)]
        lost = list(dict.fromkeys(record.id for record in (*unreadable, *missed) if record.id not in self._seen))
        self._store.remove(lost)
        self._outcome["removed"].extend(lost)

    def _is_missed(self, record: DocumentRecord) -> bool:
        """Return whether a folder of this call had the file of a document and has it no longer."""
        if record.source is None:
            return False
        path, root = Path(record.source), Path(record.root or ".")
        if not self._unread.isdisjoint(path.parents):
            return False  # nobody knows
        if root in self._roots and path not in self._unread and self._selection.removes_others:
            return True  # gone, or not selected now
        return not self._roots.isdisjoint((root, path, *path.parents)) and _is_gone(path)

    def _fail_below(self, error: DocumentError) -> None:
        self._fail(str(error.path), error)
        self._unread.add(Path(os.path.realpath(str(error.path))))  # `resolve` fails for a link to itself

    def _fail(self, source: str, error: DocumentError | MissingDependencyError) -> None:
        logger.warning("Not added: %s", error)
        self._failed.append(Failure(source, error))


def _check_sources(sources: Iterable[Source]) -> None:
    """Raise an error if a source is neither a path nor a document, or if two different documents have one id."""
    documents: dict[str, Document] = {}
    for source in sources:
        if not isinstance(source, (str, os.PathLike, Document)):
            raise ConfigurationError(
                f"a source must be a path or a `Document`, got {source!r:.80}. Pass the items of a list one by one: `add(*paths)`"
            )
        if isinstance(source, Document) and documents.setdefault(source.id, source) != source:
            raise ConfigurationError(
                f"two different documents of the same call have the id {source.id!r}. Give each document its own id"
            )


@contextmanager
def _naming(documents: Sequence[Document]) -> Iterator[None]:
    """Say in the error of an embedder which documents it read."""
    try:
        yield
    except EmbeddingError as error:
        more = f" and {len(documents) - _NAMED} more" if len(documents) > _NAMED else ""
        names = ", ".join(repr(document.id) for document in documents[:_NAMED])
        raise EmbeddingError(f"Cannot add {names}{more}. {error}") from error.__cause__


def _left_out(document: Document, chunks: Iterable[Chunk]) -> int:
    """Return how many characters of a document no chunk has, white space between chunks not counted."""
    left_out = position = 0
    for start, end in [*((chunk.start, chunk.end) for chunk in chunks), (len(document.text), 0)]:
        left_out += len(document.text[position:start].strip())
        position = max(position, end)
    return left_out


def _is_empty(path: Path) -> bool:
    """Return whether a file has no byte, such as many `__init__.py`."""
    try:
        return path.stat().st_size == 0
    except OSError:  # whoever reads it reports that
        return False


def _is_gone(path: Path) -> bool:
    """Return whether the path is not a file any more: it does not exist, or is a folder, a link to itself or a pipe."""
    try:
        return not S_ISREG(path.stat().st_mode)
    except OSError as error:  # what cannot be read may exist
        return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
