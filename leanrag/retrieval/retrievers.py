"""From a question to the chunks that may answer it: by meaning, by words, or by both.

The hybrid turns the scores of each side into the probability that a candidate is the right one, and averages the two. A
side that is sure of one chunk then wins over a side that hesitates among many, question by question, where a fusion of ranks
would treat both alike. An identifier that the question names and few chunks have (a version, a date, a part number)
decides among the candidates: look-alikes mean the same to an embedder, and share most words.
"""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_positive, check_whole
from leanrag.errors import DamageError
from leanrag.protocols import FiltersDocuments
from leanrag.retrieval.reading import is_read, is_spelled, split_question
from leanrag.types import Chunk, Hit, Where

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import ChunkStore, Embedder, Ids, VectorIndex, Vectors

    Scores = NDArray[np.float64]

__all__ = ["BM25Retriever", "DenseRetriever", "HybridRetriever", "mix", "reciprocal_rank_fusion", "softmax"]

logger = logging.getLogger(__name__)

_MOST_SHARING = 50  # an identifier that more chunks have decides nothing
_DECISION = 0.95  # share of the probability that goes to the chunks with the identifiers of the question
_SAME_VECTOR = 0.9999  # cosine above which two texts have one vector
_SPELLED_SHARE = 0.1  # of the probability that goes to meaning where the embedder reads letters, not words
_SAMPLE = 8  # chunks looked at to see whether different texts have different vectors
_BEGINNING = 16  # characters of a text that tell most texts apart
_READ = 12  # chunks read at once
_WIDENING = (1, 4, 16, 64)  # how many times the candidates are searched while most of them are copies


class DenseRetriever:
    """Finds chunks by meaning: cosine similarity of question and chunk.

    A question that is longer than the embedder reads is cut into parts; a chunk's score is that of the nearest part.

    Args:
        store: Where the chunks are.
        index: Their vectors.
        embedder: The embedder of these vectors.
    """

    def __init__(self, store: ChunkStore, index: VectorIndex, embedder: Embedder) -> None:
        self._store = store
        self._index = index
        self._embedder = embedder

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits of different texts, best first; their score is the cosine similarity, in [-1, 1]."""
        check_whole(1, k=k)
        allowed = _allowed(self._store, where)
        queries = self._embedder.embed_queries(split_question(question, self._embedder))

        def search(count: int) -> tuple[Iterator[Hit], bool]:
            scores, ids = _nearest(self._index, queries, count, allowed, where)
            return _hits(self._store, ids, scores, dense=scores), len(ids) < count

        return _distinct_hits(search, k, k)


class BM25Retriever:
    """Finds chunks by words: BM25.

    Args:
        store: Where the chunks and their terms are.
    """

    def __init__(self, store: ChunkStore) -> None:
        self._store = store

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits of different texts, best first, each with a word of `question`; their score is BM25's."""
        check_whole(1, k=k)
        allowed = _allowed(self._store, where)

        def search(count: int) -> tuple[Iterator[Hit], bool]:
            scores, ids = self._store.search_terms(question, count, allowed=allowed)
            return _hits(self._store, ids, scores, bm25=scores), len(ids) < count

        return _distinct_hits(search, k, k)


class HybridRetriever:
    """Finds chunks by meaning, by words and by identifiers; see `mix` and `decide`.

    A question that is longer than the embedder can read is cut into parts; the nearest part counts. If the embedder cannot read
    the question, or returns the same vector for different texts, a warning is logged and words decide alone.

    Args:
        store: Where the chunks and their terms are.
        index: Their vectors.
        embedder: The embedder of these vectors.
        candidates: Chunks that each of the two searches returns, or `k` if that is more.
        dense_scale: Log-odds of one unit of cosine similarity. 20 is what sentence-transformers trains with
            (`MultipleNegativesRankingLoss(scale=20.0)`); embedders trained at a temperature of 0.01 need 100.
        bm25_scale: Log-odds of one unit of BM25. BM25 sums log-odds of terms as if they were independent. They are not, so this
            is less than 1.

    Raises:
        ConfigurationError: `candidates` or a scale is not above 0.
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
        check_positive(candidates=candidates, dense_scale=dense_scale, bm25_scale=bm25_scale)
        self._store = store
        self._index = index
        self._embedder = embedder
        self._candidates = candidates
        self._dense_scale = dense_scale
        self._bm25_scale = bm25_scale

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits of different texts, best first; their score is a probability, in (0, 1]."""
        check_whole(1, k=k)
        allowed = _allowed(self._store, where)
        first_count = max(self._candidates, k)
        queries, first_near = self._compare_meaning(question, first_count, allowed, where)
        dense_share = _SPELLED_SHARE if is_spelled(question, self._embedder) else 0.5
        counts, holders = self._store.match_identifiers(question, _MOST_SHARING, allowed=allowed)

        def search(count: int) -> tuple[Iterator[Hit], bool]:
            near, near_ids = (
                first_near if count == first_count else _nearest(self._index, queries, count, allowed, where)
            )
            is_all = len(near_ids) < count
            # Each side scores what only the others found, too.
            found = np.concatenate([near_ids, holders])
            matching, matching_ids = self._store.search_terms(question, count, allowed=allowed, also=found)
            is_all = is_all and len(matching_ids) < count
            ids = np.unique(np.concatenate([found, matching_ids]))
            dense, bm25 = _aligned(near, near_ids, ids), _aligned(matching, matching_ids, ids)
            new_ids = ids[np.isnan(dense)]
            if len(new_ids):
                near, near_ids = _nearest(self._index, queries, len(new_ids), new_ids)
                dense[np.searchsorted(ids, near_ids)] = near
            scores = mix(
                dense, bm25, dense_scale=self._dense_scale, bm25_scale=self._bm25_scale, dense_share=dense_share
            )
            scores = decide(scores, np.nan_to_num(_aligned(counts, holders, ids)))
            return _hits(self._store, ids, scores, dense=dense, bm25=bm25), is_all

        return _distinct_hits(search, k, first_count)

    def _compare_meaning(
        self, question: str, count: int, allowed: Ids | None, where: Where | None
    ) -> tuple[Vectors, tuple[Vectors, Ids]]:
        """Return the vectors of the parts of the question, `(parts, dim)`, and scores and ids of the nearest chunks.

        Neither has a row if the vectors say nothing.
        """
        parts = split_question(question, self._embedder)
        queries = self._embedder.embed_queries(parts)
        near = _nearest(self._index, queries, count, allowed, where)
        if not is_read(parts[0], queries[0], self._embedder):
            problem = "cannot read the question"
        elif self._is_blind(*near):
            problem = "has one vector for different texts near the question"
        else:
            return queries, near
        logger.warning(
            "The embedder %s %s %r; only words are compared. Use an embedder for this language or script.",
            self._embedder.id,
            problem,
            question[:40],
        )
        return queries[:0], _nearest(self._index, queries[:0], count, allowed)

    def _is_blind(self, scores: Vectors, ids: Ids) -> bool:
        """Return whether the nearest chunks have (nearly) one vector, but different texts."""
        tied = ids[:_SAMPLE][scores[:_SAMPLE] >= scores.max(initial=-1.0) - (1 - _SAME_VECTOR)]
        enough = max(2, min(3, len(ids)))
        if len(tied) < enough:
            return False
        try:
            vectors, chunks = self._store.get_vectors(tied.tolist()), self._store.get_chunks(tied.tolist())
        except LookupError:  # a chunk was removed just now
            return False
        same = [chunk for chunk, row in zip(chunks, vectors, strict=True) if row @ vectors[0] > _SAME_VECTOR]
        return len({copy_key(chunk)[1] for chunk in same}) >= enough


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


def mix(
    dense: Scores, bm25: Scores, *, dense_scale: float = 20.0, bm25_scale: float = 0.5, dense_share: float = 0.5
) -> Scores:
    """Return the probability that each candidate is the one wanted, as the mean of what two sides believe.

    Each side's belief is the softmax of its scaled scores. The mean, a mixture of the two, keeps the first choice of
    either side near the top; their product (which is what adding scores amounts to) lets one side veto the other's, and
    was worse where one side is nearly always right.

    Args:
        dense: Cosine similarities `(n,)`; NaN where there is none, which counts as no belief.
        bm25: BM25 scores `(n,)`; NaN where no term matched, which counts as a score of 0.
        dense_scale: Log-odds of one unit of `dense`.
        bm25_scale: Log-odds of one unit of `bm25`.
        dense_share: Weight of the belief by meaning; that by words has the rest.

    Returns:
        float64 `(n,)`, summing to 1 (when there is any candidate with a cosine).

    Example:
        >>> mix(np.array([0.8, 0.8]), np.array([9.0, np.nan])).round(3).tolist()
        [0.745, 0.255]
    """
    by_meaning = softmax(np.where(np.isnan(dense), -np.inf, dense) * dense_scale)
    by_words = softmax(np.nan_to_num(bm25, nan=0.0) * bm25_scale)
    return dense_share * by_meaning + (1 - dense_share) * by_words


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


def decide(scores: Scores, counts: Scores) -> Scores:
    """Return `scores` with 0.95 of the probability on the candidates that have most identifiers of the question.

    Among them, as among the others, the order stays.

    Args:
        scores: Probabilities `(n,)`.
        counts: How many identifiers of the question each candidate has, `(n,)`.

    Returns:
        float64 `(n,)`, summing to what `scores` sum to.

    Example:
        >>> decide(np.array([0.7, 0.2, 0.1]), np.array([0, 1, 1])).round(3).tolist()
        [0.035, 0.643, 0.322]
    """
    if not counts.any():
        return scores
    chosen = np.where(counts == counts.max(), scores, 0.0)
    total = chosen.sum()
    if total == 0:
        return scores
    result: Scores = (1 - _DECISION) * scores + _DECISION * scores.sum() * chosen / total
    return result


def _allowed(store: ChunkStore, where: Where | None) -> Ids | None:
    return store.filter_ids(where) if where else None


def _nearest(
    index: VectorIndex, queries: Vectors, count: int, allowed: Ids | None, where: Where | None = None
) -> tuple[Vectors, Ids]:
    """Return `(scores, ids)` of the `count` rows nearest to any of the queries, best first; none without a query.

    `allowed` are the ids that match `where`; an index that can filter itself may use that instead.
    """
    if not len(queries):
        return np.empty(0, np.float32), np.empty(0, np.int64)
    if where and allowed is not None and isinstance(index, FiltersDocuments):
        scores, ids = index.search_where(queries, count, where, allowed)
    else:
        scores, ids = index.search(queries, count, allowed=allowed)
    if len(queries) == 1:
        return scores[0], ids[0]
    distinct = np.unique(ids)
    scores, ids = index.search(queries, len(distinct), allowed=distinct)
    best = np.full(len(distinct), -1.0, np.float32)
    np.maximum.at(best, np.searchsorted(distinct, ids.ravel()), scores.ravel())
    order = np.lexsort((distinct, -best))[:count]
    return best[order], distinct[order]


def _aligned(scores: Vectors | Ids, ids: Ids, wanted: Ids) -> Scores:
    """Return the score of each of `wanted` (ascending, a superset of `ids`), NaN where there is none."""
    aligned = np.full(len(wanted), np.nan)
    aligned[np.searchsorted(wanted, ids)] = scores
    return aligned


# Hits


def _distinct_hits(search: Callable[[int], tuple[Iterator[Hit], bool]], k: int, count: int) -> list[Hit]:
    """Return the `k` best hits of different texts.

    Args:
        search: From how many candidates to the hits among them, best first, and whether there are no more.
        k: Hits wanted.
        count: Candidates to begin with; up to 64 times as many while copies leave fewer than `k` texts.
    """
    for factor in _WIDENING:
        hits, is_all = search(count * factor)
        distinct = _collapse(hits, k)
        if len(distinct) == k or is_all:
            break
    return distinct


def _collapse(hits: Iterator[Hit], k: int) -> list[Hit]:
    """Return the first `k` hits of different texts, with the copies among the hits before the next text."""
    groups: list[list[Hit]] = []
    by_beginning: dict[str, list[Hit]] = {}  # the first group of each beginning: most texts need no full key
    by_key: dict[tuple[str, str], list[Hit]] = {}
    for hit in hits:
        beginning = _beginning(hit.chunk.text)
        similar = by_beginning.get(beginning)
        key = None
        if similar is not None:
            by_key.setdefault(copy_key(similar[0].chunk), similar)
            key = copy_key(hit.chunk)
            if key in by_key:
                by_key[key].append(hit)
                continue
        if len(groups) == k:
            break
        groups.append([hit])
        by_beginning.setdefault(beginning, groups[-1])
        if key is not None:
            by_key[key] = groups[-1]
    return [replace(first, copies=tuple(hit.chunk for hit in copies)) if copies else first for first, *copies in groups]


_MARKUP = str.maketrans(dict.fromkeys("*_#|>`\"'“”‘’\u00ad\u200b"))


def copy_key(chunk: Chunk) -> tuple[str, str]:
    """Return what copies have in common: the words and marks of heading and lead, and those of the text.

    Case, white space, quotation marks, marks of Markdown and of quoted mail, and the last full stop do not count. Any other
    difference does: one digit may be the answer.
    """
    return _key(f"{chunk.heading} {chunk.lead}"), _key(chunk.text)


def _key(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().translate(_MARKUP).split()).rstrip(".!?,;:… ")


def _beginning(text: str) -> str:
    """Return the first characters of the key of a text; what is cut off `text` does not change them."""
    key = _key(text[: 4 * _BEGINNING])
    return (key if len(key) > 2 * _BEGINNING else _key(text))[:_BEGINNING]


def _hits(
    store: ChunkStore,
    ids: Ids,
    scores: Scores | Vectors,
    *,
    dense: Scores | Vectors | None = None,
    bm25: Scores | Vectors | None = None,
) -> Iterator[Hit]:
    """Yield hits, best first, lower ids first among equals. A chunk that was replaced since it was found is passed over."""
    order = np.lexsort((ids, -scores))
    for begin in range(0, len(order), _READ):
        part = order[begin : begin + _READ]
        columns = scores[part].tolist(), _known(dense, part), _known(bm25, part)
        for chunk, *values in zip(_chunks(store, ids[part].tolist()), *columns, strict=True):
            if chunk is not None:
                yield Hit(chunk, *values)


def _chunks(store: ChunkStore, ids: list[int]) -> Sequence[Chunk | None]:
    """Return the chunks of `ids`, None for those that no longer exist or are damaged."""
    try:
        return store.get_chunks(ids)
    except (LookupError, DamageError):
        return [_chunk(store, number) for number in ids]


def _chunk(store: ChunkStore, number: int) -> Chunk | None:
    try:
        return store.get_chunks([number])[0]
    except LookupError:
        return None
    except DamageError as error:
        logger.warning("a chunk is left out: %s", error)
        return None


def _known(scores: Scores | Vectors | None, part: Ids) -> list[float | None]:
    """Return the scores of a part, None for those that are not known."""
    if scores is None:
        return [None] * len(part)
    return [None if math.isnan(score) else score for score in scores[part].tolist()]
