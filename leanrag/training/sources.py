"""The folder of documents that questions are about: search, evidence and chunks for the rows."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence

from leanrag.errors import ConfigurationError
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import Closable, Embedder
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.sharded_store import open_store
from leanrag.training.examples import Example
from leanrag.types import Chunk, Hit

__all__ = ["Folder"]


class Folder:
    """A folder that `leanrag.open` made, to train on.

    Args:
        path: The folder.
        embedder: The embedder that it was made with.

    Attributes:
        scorer: Says how much a unit of a passage is worth, as in use.

    Raises:
        StorageError: The folder cannot be opened.
        IndexMismatchError: It was made with another embedder.
        ConfigurationError: It has no documents.
    """

    def __init__(self, path: str | os.PathLike[str], embedder: str | Embedder = "all-minilm-l6-v2") -> None:
        self._store = open_store(path, create=False)
        self._embedder = LlamaCppEmbedder(find_embedder(embedder)) if isinstance(embedder, str) else embedder
        self._store.bind(self._embedder.id, self._embedder.dim, "")
        if not self._store.count_chunks():
            raise ConfigurationError(f"{os.fspath(path)!r} has no documents. Add some first with `leanrag add PATH`")
        index = FaissIndex(self._embedder.dim)
        index.update(self._store)
        self._retriever = HybridRetriever(self._store, index, self._embedder)
        vectors = SentenceVectors(self._embedder)
        self.scorer = SentenceScorer(vectors, functools.partial(self._store.get_feature, vectors.name))

    def search(self, example: Example, k: int) -> Sequence[Hit]:
        """Return at most `k` hits for a question, best first."""
        return self._retriever.retrieve(example.question, k)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all chunks."""
        yield from self._store.get_chunks(self._store.chunk_ids().tolist())

    def close(self) -> None:
        """Close the folder."""
        self._store.close()
        if isinstance(self._embedder, Closable):
            self._embedder.close()
