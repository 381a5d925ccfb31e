"""Files that other processes or machines read, split and embed, while this one decides what changed and writes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from leanrag.errors import EngineError, IndexMismatchError, LeanRAGError
from leanrag.protocols import Chunker, DocumentReader, Embedder
from leanrag.types import Chunk, Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Vectors

__all__ = ["ComputedAhead", "ComputedFile", "DocumentWorkers", "FileTask"]


@dataclass(frozen=True, slots=True)
class FileTask:
    """A file to read.

    Attributes:
        path: The file; workers must reach it by the same path.
        default_title: The title of its document if the file has none.
        encoding: As for `add`.
    """

    path: Path
    default_title: str
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class ComputedFile:
    """What workers know of a file.

    Attributes:
        path: The file.
        error: Why it cannot be read; None if it can be.
        document: Its document.
        chunks: The chunks of the document.
        texts: What the embedder reads of each chunk.
        vectors: Float32 `(chunks, dim)`.
        chunker_id: The chunker of the workers.
        embedder_id: The embedder of the workers.
    """

    path: Path
    error: LeanRAGError | None = None
    document: Document | None = None
    chunks: Sequence[Chunk] = ()
    texts: Sequence[str] = ()
    vectors: Vectors | None = None
    chunker_id: str = ""
    embedder_id: str = ""


class DocumentWorkers(Protocol):
    """Reads, splits and embeds files elsewhere."""

    def compute(self, tasks: Sequence[FileTask], *, readers: Mapping[str, DocumentReader]) -> Iterator[ComputedFile]:
        """Yield the result of each task, in any order; in the order of the tasks, less memory is needed.

        Args:
            tasks: The files.
            readers: The readers of the user, by suffix.

        Raises:
            EngineError: The workers cannot work at all.
        """


class ComputedAhead:
    """What workers computed, as the chunker and the embedder of an `add`. What they did not compute is computed here.

    Args:
        files: What the workers computed.
        chunker: Splits other documents.
        embedder: Embeds other texts.
    """

    def __init__(self, files: Iterator[ComputedFile], chunker: Chunker, embedder: Embedder) -> None:
        self._files, self._chunker, self._embedder = files, chunker, embedder
        self._ready: dict[Path, ComputedFile] = {}
        self._chunks: dict[tuple[str, str, str], Sequence[Chunk]] = {}
        self._vectors: dict[str, list[NDArray[np.float32]]] = {}
        self.id = chunker.id

    def document(self, path: Path) -> Document:
        """Return the document of a file.

        Raises:
            LeanRAGError: It cannot be read.
            EngineError: The workers cannot work, or have not read it. Its stored document must stay.
            IndexMismatchError: The workers have another chunker or another embedder.
        """
        while path not in self._ready:
            file = next(self._files, None)
            if file is None:
                raise _not_read(path)
            self._ready[file.path] = file
        file = self._ready.pop(path)
        if file.document is None:
            raise file.error or _not_read(path)
        used, expected = (file.chunker_id, file.embedder_id), (self._chunker.id, self._embedder.id)
        if used != expected:
            raise IndexMismatchError(
                f"the workers have the chunker and the embedder {used!r}, the folder has {expected!r}. "
                "Give them those of the folder"
            )
        self._chunks[_key(file.document)] = file.chunks
        if file.vectors is not None:
            for text, vector in zip(file.texts, file.vectors, strict=True):
                self._vectors.setdefault(text, []).append(vector)
        return file.document

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of a document."""
        chunks = self._chunks.pop(_key(document), None)
        return self._chunker.chunk(document) if chunks is None else list(chunks)

    @property
    def embedder(self) -> Embedder:
        """The embedder of the `add`."""
        return _EmbeddedAhead(self._embedder, self._vectors)


class _EmbeddedAhead:
    """Returns the vectors that workers computed, and embeds other texts.

    Args:
        embedder: Embeds.
        vectors: By text, the vectors that are known; each is used once.
    """

    def __init__(self, embedder: Embedder, vectors: dict[str, list[NDArray[np.float32]]]) -> None:
        self._embedder, self._vectors = embedder, vectors
        self.id, self.dim, self.max_tokens = embedder.id, embedder.dim, embedder.max_tokens
        self.count_tokens, self.embed_queries = embedder.count_tokens, embedder.embed_queries

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with norm 1."""
        known = [self._vectors[text].pop() if self._vectors.get(text) else None for text in texts]
        new = [i for i, vector in enumerate(known) if vector is None]
        vectors = np.empty((len(texts), self.dim), np.float32)
        if new:
            vectors[new] = self._embedder.embed_documents([texts[i] for i in new])
        for i, vector in enumerate(known):
            if vector is not None:
                vectors[i] = vector
        return vectors


def _not_read(path: Path) -> EngineError:
    """Return the error that ends the `add`: a file that nobody has read may be as it was, so its document must stay."""
    return EngineError(
        f"no worker has read {str(path)!r}. Add the same sources again", engine="workers", retryable=True
    )


def _key(document: Document) -> tuple[str, str, str]:
    return document.id, document.sha256, document.title
