"""Hits that differ from each other: near-duplicates are left out, and the others are chosen by maximal marginal relevance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_share, check_whole
from leanrag.protocols import ChunkStore, Retriever
from leanrag.types import Hit, Where

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["DiverseRetriever", "choose_diverse"]


class DiverseRetriever:
    """Chooses hits that are good and differ from each other, among the hits of another retriever.

    Args:
        retriever: Finds the candidates.
        store: Has their vectors. A hit that is not in the store counts as different from all others.
        diversity: Weight of the difference, in [0, 1]; 0 only leaves out near-duplicates.
        duplicate: Cosine similarity above which a candidate is a near-duplicate of a better hit, in (0, 1].
        candidates: Hits to choose from, at least; the retriever is asked for at least twice the hits wanted.

    Example:
        >>> def make(store, index, embedder):
        ...     return DiverseRetriever(HybridRetriever(store, index, embedder), store)
        >>> rag = leanrag.open("kb", retriever=make)  # doctest: +SKIP
    """

    def __init__(
        self,
        retriever: Retriever,
        store: ChunkStore,
        *,
        diversity: float = 0.1,
        duplicate: float = 0.95,
        candidates: int = 30,
    ) -> None:
        check_share(diversity=diversity)
        check_share(open_ends="0", duplicate=duplicate)
        check_whole(1, candidates=candidates)
        self._retriever, self._store = retriever, store
        self._diversity, self._duplicate, self._candidates = diversity, duplicate, candidates

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits, in the order in which they were chosen.

        A hit has the score that the other retriever gave it, or the score of the hit before it if that is lower.
        """
        hits = self._retriever.retrieve(question, max(2 * k, self._candidates), where=where)
        chosen = choose_diverse(self._vectors(hits), k, diversity=self._diversity, duplicate=self._duplicate)
        result: list[Hit] = []
        lowest = math.inf
        for i in chosen:
            lowest = min(lowest, hits[i].score)
            result.append(replace(hits[i], score=lowest))
        return result

    def _vectors(self, hits: Sequence[Hit]) -> Vectors:
        """Return a vector for each hit, `(n, dim)`: the mean of the chunks in it, with norm 1; zeros if the store has none."""
        ids = [self._store.chunk_ids_within(hit.chunk.document_id, hit.chunk.start, hit.chunk.end) for hit in hits]
        try:
            rows = self._store.get_vectors([number for part in ids for number in part.tolist()])
        except LookupError:  # a chunk was removed just now
            return np.zeros((len(hits), 1), np.float32)
        sums = np.zeros((len(hits), rows.shape[1]), np.float32)
        np.add.at(sums, np.repeat(np.arange(len(hits)), [len(part) for part in ids]), rows)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        vectors: Vectors = sums / np.maximum(norms, np.finfo(np.float32).tiny)
        return vectors


def choose_diverse(vectors: Vectors, k: int, *, diversity: float, duplicate: float) -> list[int]:
    """Return the rows to show, in the order in which they are chosen: at most `k`, the first row first.

    Each step takes the row with the highest `(1 - diversity) * relevance - diversity * similarity`: maximal marginal relevance
    (Carbonell and Goldstein, SIGIR 1998). `relevance` falls evenly from 1 for the first row to 0 after the last one, because
    scores of different retrievers have different scales; `similarity` is the cosine with the most similar row that was chosen.
    Rows whose similarity is above `duplicate` are left out.

    Args:
        vectors: Candidates, best first, `(n, dim)`, rows with norm 1 or 0.
        k: Rows wanted.
        diversity: In [0, 1].
        duplicate: In (0, 1].

    Example:
        >>> rows = np.array([[1, 0], [1, 0], [0.8, 0.6], [0, 1]], np.float32)
        >>> choose_diverse(rows, 3, diversity=0.5, duplicate=0.95)
        [0, 3, 2]
    """
    relevance = 1 - np.arange(len(vectors)) / max(1, len(vectors))
    similarity = np.zeros(len(vectors), np.float32)
    is_open = np.ones(len(vectors), bool)
    chosen: list[int] = []
    while len(chosen) < k and is_open.any():
        worth = (1 - diversity) * relevance - diversity * similarity
        i = int(np.argmax(np.where(is_open, worth, -np.inf)))
        chosen.append(i)
        similarity = np.maximum(similarity, vectors @ vectors[i])
        is_open &= similarity <= duplicate
        is_open[i] = False  # also a row of zeros
    return chosen
