"""The documents of a database: what `Rag` does to add, change and remove them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from leanrag.documents.chunking import MAX_TOKENS, DocumentChunker
from leanrag.errors import DocumentError
from leanrag.pipeline.adding import Ingestion, Progress, Selection, Source
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.preparing import Preparer
from leanrag.pipeline.stages import Stages
from leanrag.pipeline.timing import recording
from leanrag.protocols import Chunker, Embedder
from leanrag.retrieval.store import Entry, Store
from leanrag.types import AddReport, Document, MetadataValue

__all__ = ["AddOptions", "Documents", "default_chunker"]


def default_chunker(embedder: Embedder) -> Chunker:
    """Return what splits documents if the user has no chunker."""
    return DocumentChunker(embedder.count_tokens, max_tokens=min(MAX_TOKENS, embedder.max_tokens))


class AddOptions(TypedDict, total=False):
    """Options of `add` and `sync`; `Rag.add` describes them."""

    metadata: Mapping[str, MetadataValue] | None
    encoding: str | None
    ignore: Sequence[str]
    pattern: Sequence[str]
    progress: Progress


class Documents:
    """Adds, changes and removes the documents of a store."""

    def __init__(self, store: Store, embedder: Lazy[Embedder], stages: Stages, preparer: Preparer) -> None:
        self._store, self._embedder, self._stages, self._preparer = store, embedder, stages, preparer

    def add(self, sources: Sequence[Source], options: AddOptions, *, is_exact: bool = False) -> AddReport:
        """Add sources; with `is_exact`, remove the documents of folders whose files the options do not select."""
        ingestion = self._ingestion(options, is_exact=is_exact)
        with recording(self._stages.ledger, "ingest"):
            return ingestion.run(sources)

    def recompute(self, documents: Sequence[Document]) -> list[Entry]:
        """Return what is stored of documents, computed again from their texts."""
        return self._ingestion({}).recompute(documents)

    def _ingestion(self, options: AddOptions, *, is_exact: bool = False) -> Ingestion:
        """Return what adds documents; the embedder is loaded for it."""
        embedder = self._embedder.get()
        chunker = self._stages.chunker or default_chunker(embedder)
        self._store.bind(embedder.id, embedder.dim, chunker.id)
        return Ingestion(
            self._store,
            chunker,
            embedder,
            features=self._preparer.features(),
            metadata=options.get("metadata"),
            encoding=options.get("encoding"),
            readers=self._stages.readers,
            selection=Selection(options.get("ignore", ()), options.get("pattern", ()), is_exact),
            progress=options.get("progress"),
            makes_graph=self._stages.index is None,
            workers=self._stages.workers,
        )

    def update(
        self,
        sources: Iterable[str | os.PathLike[str]],
        metadata: Mapping[str, MetadataValue] | None,
        drop: Iterable[str],
    ) -> int:
        """Change the metadata of documents and return how many changed."""
        return self._store.update_metadata(self._find(sources), metadata or {}, drop=drop)

    def remove(self, sources: Iterable[str | os.PathLike[str]]) -> int:
        """Remove documents and return how many there were."""
        return self._store.remove(self._find(sources))

    def _find(self, sources: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Return the ids of the documents of ids, files and folders."""
        chosen: list[str] = []
        for source in sources:
            name = os.fspath(source)
            matches = self._store.find_documents(name, Path(source).resolve().as_posix())
            if not matches:
                raise DocumentError(
                    f"{str(self._store.folder)!r} has no document {name!r}. `documents()` lists its documents",
                    path=name,
                )
            chosen += matches
        return list(dict.fromkeys(chosen))
