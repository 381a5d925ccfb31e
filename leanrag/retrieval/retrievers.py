"""From a question to the chunks that may answer it: by meaning, by words, or by both.

The hybrid turns each side's scores into the probability that a candidate is the one wanted, and averages the two. A side
that is sure of one chunk then wins over a side that hesitates among many, question by question, where a fusion of ranks
would treat both alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import ConfigurationError
from leanrag.types import Chunk, Hit, Scalar

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import ChunkStore, Embedder, Ids, VectorIndex, Vectors

    Scores = NDArray[np.float64]

__all__ = ["BM25Retriever", "DenseRetriever", "HybridRetriever", "mix", "mmr", "reciprocal_rank_fusion", "softmax"]


class DenseRetriever:
    """Finds chunks by meaning: cosine similarity of question and chunk.

    Args:
        store: Where the chunks are.
        index: Their vectors.
        embedder: What made the vectors.
    """

    def __init__(self, store: ChunkStore, index: VectorIndex, embedder: Embedder) -> None:
        self._store = store
        self._index = index
        self._embedder = embedder

    def retrieve(self, question: str, k: int, *, where: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """Return at most `k` hits, best first; their score is the cosine similarity, in [-1, 1]."""
        _check_k(k)
        query = self._embedder.embed_queries([question])
        scores, ids = self._index.search(query, k, allowed=_allowed(self._store, where))
        return _hits(self._store, ids[0], scores[0], k, dense=scores[0])


class BM25Retriever:
    """Finds chunks by words: BM25.

    Args:
        store: Where the chunks and their terms are.
    """

    def __init__(self, store: ChunkStore) -> None:
        self._store = store

    def retrieve(self, question: str, k: int, *, where: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """Return at most `k` hits, best first, none of them without a word of `question`; their score is BM25's."""
        _check_k(k)
        scores, ids = self._store.search_terms(question, k, allowed=_allowed(self._store, where))
        return _hits(self._store, ids, scores, k, bm25=scores)


class HybridRetriever:
    """Finds chunks by meaning and by words; see `mix`.

    Args:
        store: Where the chunks and their terms are.
        index: Their vectors.
        embedder: What made the vectors.
        candidates: Chunks taken from either side; at least `k` are.
        dense_scale: Log-odds of one unit of cosine similarity. 20 is what sentence-transformers trains with
            (`MultipleNegativesRankingLoss(scale=20.0)`); embedders trained at a temperature of 0.01 want 100.
        bm25_scale: Log-odds of one unit of BM25, which sums log-odds of terms as though they were independent; they
            are not, hence less than 1.
    """

    def __init__(
        self,
        store: ChunkStore,
        index: VectorIndex,
        embedder: Embedder,
        *,
        candidates: int = 50,
        dense_scale: float = 20.0,
        bm25_scale: float = 0.5,
    ) -> None:
        for name, value in (("candidates", candidates), ("dense_scale", dense_scale), ("bm25_scale", bm25_scale)):
            if not 0 < value < np.inf:
                raise ConfigurationError(f"`{name}` must be positive and finite, got {value!r}")
        self._store = store
        self._index = index
        self._embedder = embedder
        self._candidates = candidates
        self._dense_scale = dense_scale
        self._bm25_scale = bm25_scale

    def retrieve(self, question: str, k: int, *, where: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """Return at most `k` hits, best first; their score is the probability of `mix`, in (0, 1]."""
        _check_k(k)
        allowed = _allowed(self._store, where)
        query = self._embedder.embed_queries([question])
        count = max(self._candidates, k)
        (near,), (near_ids,) = self._index.search(query, count, allowed=allowed)
        matching, matching_ids = self._store.search_terms(question, count, allowed=allowed)
        # Either side then scores what only the other found.
        new_ids = np.setdiff1d(matching_ids, near_ids)
        if len(new_ids):
            (more,), (more_ids,) = self._index.search(query, len(new_ids), allowed=new_ids)
            near, near_ids = np.concatenate([near, more]), np.concatenate([near_ids, more_ids])
        new_ids = np.setdiff1d(near_ids, matching_ids)
        if len(new_ids):
            more, more_ids = self._store.search_terms(question, len(new_ids), allowed=new_ids)
            matching, matching_ids = np.concatenate([matching, more]), np.concatenate([matching_ids, more_ids])
        ids = np.union1d(near_ids, matching_ids)
        dense, bm25 = _aligned(near, near_ids, ids), _aligned(matching, matching_ids, ids)
        scores = mix(dense, bm25, dense_scale=self._dense_scale, bm25_scale=self._bm25_scale)
        return _hits(self._store, ids, scores, k, dense=dense, bm25=bm25)


def softmax(scores: Scores) -> Scores:
    """Return `exp(scores) / sum(exp(scores))`, float64 `(n,)`; a score of minus infinity gets 0.

    Example:
        >>> softmax(np.log([1.0, 3.0])).tolist()
        [0.25, 0.75]
    """
    if not len(scores) or not np.isfinite(np.max(scores)):
        return np.zeros(len(scores))
    weights = np.exp(scores - np.max(scores))
    result: Scores = weights / weights.sum()
    return result


def mix(dense: Scores, bm25: Scores, *, dense_scale: float = 20.0, bm25_scale: float = 0.5) -> Scores:
    """Return the probability that each candidate is the one wanted, as the mean of what two sides believe.

    Each side's belief is the softmax of its scaled scores. The mean, a mixture of the two, keeps the first choice of
    either side near the top; their product (which is what adding scores amounts to) lets one side veto the other's, and
    was worse where one side is nearly always right.

    Args:
        dense: Cosine similarities `(n,)`; NaN where there is none, which counts as no belief.
        bm25: BM25 scores `(n,)`; NaN where no term matched, which counts as a score of 0.
        dense_scale: Log-odds of one unit of `dense`.
        bm25_scale: Log-odds of one unit of `bm25`.

    Returns:
        float64 `(n,)`, summing to 1 (when there is any candidate with a cosine).

    Example:
        >>> mix(np.array([0.8, 0.8]), np.array([9.0, np.nan])).round(3).tolist()
        [0.745, 0.255]
    """
    by_meaning = softmax(np.where(np.isnan(dense), -np.inf, dense) * dense_scale)
    by_words = softmax(np.nan_to_num(bm25, nan=0.0) * bm25_scale)
    return (by_meaning + by_words) / 2


def reciprocal_rank_fusion(rankings: Sequence[Ids], *, constant: float = 60.0) -> tuple[Scores, Ids]:
    """Return `(scores, ids)` of the ids in any of `rankings`, best first, lower ids first among equals.

    An id's score is the sum of `1 / (constant + rank)`, ranks from 1 (Cormack, Clarke and Buettcher, SIGIR 2009). The
    baseline that `mix` is measured against.

    Example:
        >>> reciprocal_rank_fusion([np.array([7, 8]), np.array([8])])[1].tolist()
        [8, 7]
    """
    totals: dict[int, float] = {}
    for ranking in rankings:
        for rank, number in enumerate(ranking.tolist(), start=1):
            totals[number] = totals.get(number, 0.0) + 1.0 / (constant + rank)
    best = sorted(totals, key=lambda number: (-totals[number], number))
    return np.array([totals[number] for number in best], np.float64), np.array(best, np.int64)


def mmr(relevance: Scores, vectors: Vectors, k: int, *, balance: float = 0.7) -> Ids:
    """Return the places of `k` candidates that are relevant and unlike each other, in the order of their choice.

    Maximal marginal relevance: each choice maximises `balance * relevance - (1 - balance) * similarity`, the latter to
    the nearest of those chosen before (Carbonell and Goldstein, SIGIR 1998).

    Args:
        relevance: `(n,)`, on the scale of a cosine.
        vectors: `(n, dim)`, rows of unit norm.
        k: Candidates wanted.
        balance: 1 for relevance alone, 0 for variety alone.

    Returns:
        int64 `(min(k, n),)`.

    Example:
        >>> twins_and_another = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
        >>> mmr(np.array([0.9, 0.8, 0.5]), twins_and_another, 2).tolist()
        [0, 2]
    """
    if not 0 <= balance <= 1:
        raise ConfigurationError(f"`balance` must be in [0, 1], got {balance!r}")
    left = np.array(relevance, np.float64) * balance
    nearest = np.full(len(left), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(k, len(left)):
        penalty = (1 - balance) * nearest if chosen else 0.0
        best = int(np.argmax(left - penalty))
        chosen.append(best)
        left[best] = -np.inf
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return np.array(chosen, np.int64)


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigurationError(f"`k` must be at least 1, got {k!r}")


def _allowed(store: ChunkStore, where: Mapping[str, Scalar] | None) -> Ids | None:
    return store.filter_ids(where) if where else None


def _aligned(scores: Vectors, ids: Ids, wanted: Ids) -> Scores:
    """Return the score of each of `wanted` (ascending, a superset of `ids`), NaN where there is none."""
    aligned = np.full(len(wanted), np.nan)
    aligned[np.searchsorted(wanted, ids)] = scores
    return aligned


def _hits(
    store: ChunkStore,
    ids: Ids,
    scores: Scores | Vectors,
    k: int,
    *,
    dense: Scores | Vectors | None = None,
    bm25: Scores | Vectors | None = None,
) -> list[Hit]:
    """Return the `k` best as hits. A chunk that was replaced since it was found is passed over."""
    order = np.lexsort((ids, -scores))
    hits: list[Hit] = []
    for begin in range(0, len(order), k):
        part = order[begin : begin + k]
        for at, chunk in zip(part.tolist(), _chunks(store, ids[part].tolist()), strict=True):
            if chunk is not None and len(hits) < k:
                hits.append(Hit(chunk, float(scores[at]), dense=_known(dense, at), bm25=_known(bm25, at)))
        if len(hits) == k:
            break
    return hits


def _chunks(store: ChunkStore, ids: list[int]) -> Sequence[Chunk | None]:
    """Return the chunks of `ids`, None for those that are gone."""
    try:
        return store.get_chunks(ids)
    except LookupError:
        return [_chunk(store, number) for number in ids]


def _chunk(store: ChunkStore, number: int) -> Chunk | None:
    try:
        return store.get_chunks([number])[0]
    except LookupError:
        return None


def _known(scores: Scores | Vectors | None, at: int) -> float | None:
    return None if scores is None or np.isnan(scores[at]) else float(scores[at])
