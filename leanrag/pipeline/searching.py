"""From a question to its hits: an index as fresh as the store, a retriever, and perhaps a reranker."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from leanrag.errors import ConfigurationError
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.query import check_counts, check_question
from leanrag.pipeline.stages import Stages
from leanrag.protocols import Embedder, Retriever, VectorIndex
from leanrag.retrieval.reading import split_question
from leanrag.retrieval.sharded_store import ShardedIndex, ShardedStore
from leanrag.retrieval.store import Store
from leanrag.types import Hit, Scalar, Where

__all__ = ["RERANKED_HITS", "Searcher"]

RERANKED_HITS = 50
"""Hits that a reranker sees, at least: as many as `HybridRetriever` takes from either side."""


class Searcher:
    """Searches a folder; any thread may call.

    Args:
        store: The folder.
        embedder: Embeds questions.
        stages: Index, retriever and reranker, where they are not the library's own.
    """

    def __init__(self, store: Store, embedder: Lazy[Embedder], stages: Stages) -> None:
        self._store, self._embedder, self._stages = store, embedder, stages
        self._index: VectorIndex | None = None
        self._lock = threading.Lock()

    def search(
        self, question: str, k: int, where: Where | None = None, details: dict[str, Scalar] | None = None
    ) -> list[Hit]:
        """Return at most `k` hits, best first.

        Args:
            question: Plain text.
            k: Most hits.
            where: Conditions on the documents.
            details: Gets the seconds of the parts, as "embed_seconds" and "rerank_seconds", and the folders of the shards that
                could not be reached, as "missing_shards".

        Raises:
            ConfigurationError: The question is empty, or `k` is less than 1.
        """
        check_question(question)
        check_counts(k=k)
        details = {} if details is None else details
        hits = self._find(question, k, where, details)
        if isinstance(self._store, ShardedStore) and self._store.missing:
            details["missing_shards"] = ", ".join(self._store.missing)
        return hits

    def _find(self, question: str, k: int, where: Where | None, details: dict[str, Scalar]) -> list[Hit]:
        reranker = self._stages.reranker
        if self._stages.retriever is None or isinstance(self._stages.retriever, str):
            self._embed(question, details)
        if reranker is None:
            return self._retriever.retrieve(question, k, where=where)
        hits = self._retriever.retrieve(question, max(k, RERANKED_HITS), where=where)
        with _timing(details, "rerank_seconds"):
            return list(reranker.rerank(question, hits))[:k]

    def _embed(self, question: str, details: dict[str, Scalar]) -> None:
        """Embed the question, only to time it: the embedder remembers the vectors for the retriever."""
        embedder = self._embedder.get()
        with _timing(details, "embed_seconds"):
            embedder.embed_queries(split_question(question, embedder))

    def check_not_empty(self) -> None:
        """Check that there is something to find.

        Raises:
            ConfigurationError: The folder has no documents, and nothing else is searched.
        """
        if not self._stages.finds_other_documents and not self._store.stats().documents:
            raise ConfigurationError(
                f"{str(self._store.folder)!r} has no documents. Add some first with `rag.add(PATH)` or `leanrag add PATH`"
            )

    @property
    def _retriever(self) -> Retriever:
        return self._stages.make_retriever(self._store, self._fresh_index, self._embedder.get)

    def _fresh_index(self) -> VectorIndex:
        """Return the vector index, brought up to what the store holds now, whichever process wrote it."""
        embedder = self._embedder.get()
        self._store.bind(embedder.id, embedder.dim, "")
        self.index.update(self._store)
        return self.index

    @property
    def index(self) -> VectorIndex:
        """The vector index; it is empty before the first search."""
        with self._lock:
            if self._index is None:
                self._index = self._make_index(self._embedder.get().dim)
            return self._index

    def _make_index(self, dim: int) -> VectorIndex:
        if not isinstance(self._store, ShardedStore):
            return self._stages.make_index(dim)
        if self._stages.index is not None:
            if not isinstance(self._stages.index, type) and isinstance(self._stages.index, VectorIndex):
                raise ConfigurationError(
                    "`index` must be a function or class that makes an index, because each shard needs its own index, got "
                    f"{self._stages.index!r}"
                )
            self._store.use_index(self._stages.index)
        return ShardedIndex(self._store)


@contextlib.contextmanager
def _timing(details: dict[str, Scalar], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    details[name] = time.perf_counter() - started
