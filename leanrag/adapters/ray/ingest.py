"""Documents are read, split and embedded by Ray Data, on all machines of a cluster; one process writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag._optional import require
from leanrag.checks import check_positive, check_whole
from leanrag.documents.embedding_text import embedding_text
from leanrag.documents.loading import READERS, is_heavy, load_file
from leanrag.documents.parsing import FileParser
from leanrag.errors import DocumentError, EngineError, LeanRAGError, MissingDependencyError
from leanrag.pipeline.ahead import ComputedFile, FileTask
from leanrag.pipeline.documents import default_chunker
from leanrag.pipeline.loading import load_embedder
from leanrag.protocols import Chunker, DocumentReader, Embedder

if TYPE_CHECKING:
    from leanrag.types import Document

__all__ = ["RayWorkers"]

_FILES = 8  # of a block: what a killed node has to do again
_COLUMN = "file"

MakeEmbedder = Callable[[], Embedder]


class RayWorkers:
    """Reads, splits and embeds files on a Ray cluster; give it to `leanrag.open` as `workers`.

    If a machine goes away, Ray repeats its work on another one. Only the process that calls `add` writes, so the folder has the
    content that a local `add` gives it. If that process is killed, the next `add` continues with the files that are not stored yet.

    Args:
        embedder: Name, file or folder of the embedder, which every machine must have, or a function that returns an embedder. Its
            `id` must be that of the folder.
        actors: Most actors that hold an embedder.
        cpus: CPU cores of each actor.
        gpus: GPUs of each actor.
        readers: Most actors that read files.
        chunker: A function from the embedder to the chunker, if the folder was opened with a chunker.

    Raises:
        MissingDependencyError: Ray is not installed.

    Example:
        >>> workers = RayWorkers("all-minilm-l6-v2", actors=8)  # doctest: +SKIP
        >>> with leanrag.open("kb", workers=workers) as rag:  # doctest: +SKIP
        ...     rag.add("/shared/docs")
    """

    def __init__(
        self,
        embedder: str | os.PathLike[str] | MakeEmbedder = "all-minilm-l6-v2",
        *,
        actors: int = 4,
        cpus: float = 1.0,
        gpus: float = 0.0,
        readers: int = 4,
        chunker: Callable[[Embedder], Chunker] = default_chunker,
    ) -> None:
        check_whole(1, actors=actors, readers=readers)
        check_positive(cpus=cpus)
        self._ray = require("ray", extra="ray", why="to add documents on a cluster")
        self._data = require("ray.data", extra="ray", why="to add documents on a cluster")
        self._embedder, self._chunker = embedder, chunker
        self._actors, self._cpus, self._gpus, self._readers = actors, cpus, gpus, readers

    def compute(self, tasks: Sequence[FileTask], *, readers: Mapping[str, DocumentReader]) -> Iterator[ComputedFile]:
        """Yield the result of each task, in their order; see `DocumentWorkers`.

        Raises:
            EngineError: The cluster failed.
        """
        if not tasks:
            return
        self._configure()
        rows = [{_COLUMN: task} for task in tasks]
        dataset = (
            self._data.from_items(rows, override_num_blocks=max(1, -(-len(rows) // _FILES)))
            .map_batches(
                _Reader,
                fn_constructor_args=(dict(readers),),
                batch_size=_FILES,
                num_cpus=min(self._cpus, 0.5),
                compute=self._data.ActorPoolStrategy(min_size=1, max_size=self._readers),
            )
            .map_batches(
                _Embedder,
                fn_constructor_args=(self._embedder, self._chunker),
                batch_size=_FILES,
                num_cpus=self._cpus,
                num_gpus=self._gpus or None,
                compute=self._data.ActorPoolStrategy(min_size=1, max_size=self._actors),
            )
        )
        rows = iter(dataset.iter_rows())
        try:
            for row in rows:
                yield row[_COLUMN]
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"the Ray cluster failed while it read files ({error}). What was stored stays. Add the same sources again",
                engine="Ray",
                retryable=True,
            ) from error
        finally:
            if isinstance(rows, Generator):
                rows.close()  # ends the work on the cluster if nobody wants the rest

    def _configure(self) -> None:
        """Keep the order of the files, and standard error quiet."""
        context = self._data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False


class _Reader:
    """The stage that reads files: in an actor, heavy formats with the bounds of `FileParser`."""

    def __init__(self, readers: Mapping[str, DocumentReader]) -> None:
        self._readers = {**READERS, **readers}
        self._parser = FileParser(processes=1)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {_COLUMN: _column([self._read(task) for task in batch[_COLUMN]])}

    def _read(self, task: FileTask) -> ComputedFile:
        try:
            return ComputedFile(task.path, document=self._load(task))
        except (DocumentError, MissingDependencyError) as error:
            return ComputedFile(task.path, _portable(error))

    def _load(self, task: FileTask) -> Document:
        if is_heavy(task.path, self._readers):
            return self._parser.submit(task.path, default_title=task.default_title, encoding=task.encoding).result()
        return load_file(task.path, default_title=task.default_title, encoding=task.encoding, readers=self._readers)


class _Embedder:
    """The stage that splits and embeds documents: in an actor that holds an embedder."""

    def __init__(self, embedder: str | os.PathLike[str] | MakeEmbedder, chunker: Callable[[Embedder], Chunker]) -> None:
        self._embedder = embedder() if callable(embedder) else load_embedder(embedder)
        self._chunker = chunker(self._embedder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {_COLUMN: _column([self._embed(file) for file in batch[_COLUMN]])}

    def _embed(self, file: ComputedFile) -> ComputedFile:
        if file.document is None:
            return file
        try:
            chunks = self._chunker.chunk(file.document)
            texts = [embedding_text(chunk, self._embedder.count_tokens, self._embedder.max_tokens) for chunk in chunks]
            vectors = self._embedder.embed_documents(texts)
        except LeanRAGError as error:
            return ComputedFile(file.path, _portable(error))
        ids = self._chunker.id, self._embedder.id
        return ComputedFile(file.path, None, file.document, chunks, texts, vectors, *ids)


def _portable(error: LeanRAGError) -> LeanRAGError:
    """Return an error without what other machines cannot read: its cause and its traceback."""
    return error.with_traceback(None)


def _column(values: Sequence[object]) -> np.ndarray[Any, Any]:
    """Return a column of objects."""
    column = np.empty(len(values), object)
    for i, value in enumerate(values):
        column[i] = value
    return column
