"""Nearest rows by cosine similarity: an exact reference in NumPy and the same on FAISS.

An index lives in memory and is filled from the store, whose vectors are the truth. Rows have unit norm, so that the inner
product is the cosine: higher is better.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError
from leanrag.retrieval.faiss_library import faiss_threads, load_faiss
from leanrag.vectors import has_unit_norm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids, Vectors, VectorSource

__all__ = ["FaissIndex", "FlatIndex", "best_first", "checked_queries"]

_FEW = 1000  # allowed rows that are copied out and scored alone ...
_FEW_SHARE = 0.05  # ... or this share of all rows, if that is more


class _ExactIndex(ABC):
    """Ids, checks and order of an exact index; a subclass keeps the rows.

    Args:
        dim: Columns of a row.
    """

    def __init__(self, dim: int) -> None:
        check_whole(1, dim=dim)
        self._dim = dim
        self._lock = threading.Lock()  # guards ids and rows
        self._update_lock = threading.Lock()  # held for a whole `update`; searches go on meanwhile
        self._ids = np.empty(0, np.int64)  # (n,), in the order of the rows
        self._generation: int | None = None  # of the store, at the last `update`
        self._last_id = 0  # highest id that was ever added

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """Ids of the rows, int64 `(n,)`."""
        return self._ids

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add rows.

        Args:
            ids: int64 `(n,)`, not negative, all of them new.
            vectors: float32 `(n, dim)`, rows of unit norm.

        Raises:
            ConfigurationError: Shapes, norms or ids are wrong; nothing was added.
        """
        ids, vectors = _checked_ids(ids, len(vectors)), _checked_rows(vectors, self._dim)
        with self._lock:
            known = ids[np.isin(ids, self._ids)]
            if len(known):
                raise ConfigurationError(f"id {int(known[0])!r} is in the index already; remove it first")
            self._add(ids, vectors)

    def remove(self, ids: Ids) -> None:
        """Remove rows; unknown ids are ignored."""
        with self._lock:
            self._keep(~np.isin(self._ids, ids))

    def update(self, source: VectorSource) -> None:
        """Catch up with the store: add the rows that are new and remove those that it no longer has.

        Costs one look at the store's generation when nothing changed. Any thread may call, also while others search.

        Args:
            source: The store. An index belongs to one store.
        """
        with self._update_lock:
            generation = source.generation  # read first: what is committed from here on is found by the next update
            if generation == self._generation:
                return
            ids, vectors = source.all_vectors(after=self._last_id)
            if len(ids):
                vectors = _checked_shape(vectors, self._dim)
                with self._lock:
                    self._add(ids, vectors)
            if source.count_chunks() != len(self):
                stored = source.chunk_ids()
                with self._lock:
                    self._keep(np.isin(self._ids, stored))
            self._generation = generation

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return the `k` most similar rows for each query.

        Args:
            queries: float32 `(q, dim)`, rows of unit norm.
            k: Rows wanted per query, at least 1.
            allowed: Only these ids may be found; unknown ids are ignored.

        Returns:
            `(scores, ids)`: float32 and int64, both `(q, m)` with `m = min(k, rows that may be found)`, best first,
            lower ids first among equals. Scores are cosine similarities in [-1, 1].

        Raises:
            ConfigurationError: `queries` are not as above, or `k` is below 1.
        """
        queries = checked_queries(queries, k, self._dim)
        with self._lock:
            ids = self._ids
            rows = None if allowed is None else np.flatnonzero(np.isin(ids, allowed)) if len(ids) else ids
            k = min(k, len(ids) if rows is None else len(rows))
            if k == 0 or len(queries) == 0:
                return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
            scores, found = self._search(queries, k, rows)
        return best_first(scores, ids[found], k)

    def _add(self, ids: Ids, vectors: Vectors) -> None:
        self._append(vectors)
        self._ids = np.concatenate([self._ids, ids])
        self._last_id = max(self._last_id, int(ids.max(initial=0)))

    def _keep(self, is_kept: NDArray[np.bool_]) -> None:
        if not is_kept.all():
            self._drop(np.flatnonzero(~is_kept))
            self._ids = self._ids[is_kept]

    @abstractmethod
    def _append(self, vectors: Vectors) -> None:
        """Add rows behind those that are there."""

    @abstractmethod
    def _drop(self, rows: Ids) -> None:
        """Remove rows by their numbers; those behind them move up."""

    @abstractmethod
    def _search(self, queries: Vectors, k: int, rows: Ids | None) -> tuple[Vectors, Ids]:
        """Return scores and row numbers, both `(q, m)` with `m >= k`, the best `k` among them.

        Args:
            queries: `(q, dim)`, at least one.
            k: At least 1, at most the rows that may be found.
            rows: Only these rows may be found, ascending; None for all.
        """


class FlatIndex(_ExactIndex):
    """Exact search in NumPy: the reference that every other index is compared with.

    Args:
        dim: Columns of a row.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._vectors = np.empty((0, dim), np.float32)

    def _append(self, vectors: Vectors) -> None:
        self._vectors = np.concatenate([self._vectors, vectors])

    def _drop(self, rows: Ids) -> None:
        self._vectors = np.delete(self._vectors, rows, axis=0)

    def _search(self, queries: Vectors, k: int, rows: Ids | None) -> tuple[Vectors, Ids]:  # noqa: ARG002 - sorts all
        vectors = self._vectors if rows is None else self._vectors[rows]
        scores = queries @ vectors.T  # (q, m)
        return scores, np.broadcast_to(np.arange(len(vectors)) if rows is None else rows, scores.shape)


class FaissIndex(_ExactIndex):
    """Exact search on FAISS; the same answers as `FlatIndex`, faster.

    Rows whose score equals that of the `k`-th may be others than the reference's.

    Args:
        dim: Columns of a row.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._faiss = load_faiss()
        self._index = self._faiss.IndexFlatIP(dim)

    def _append(self, vectors: Vectors) -> None:
        self._index.add(vectors)

    def _drop(self, rows: Ids) -> None:
        self._index.remove_ids(self._faiss.IDSelectorBatch(rows))

    def _search(self, queries: Vectors, k: int, rows: Ids | None) -> tuple[Vectors, Ids]:
        if rows is not None and len(rows) <= max(_FEW, _FEW_SHARE * len(self)):
            found = np.broadcast_to(rows, (len(queries), len(rows)))
            with faiss_threads(self._faiss, found.size):
                return self._score(queries, np.ascontiguousarray(found)), found
        with faiss_threads(self._faiss, len(self) * len(queries)):
            if rows is None:
                scores, found = self._index.search(queries, k)
            else:
                selector = self._faiss.IDSelectorBatch(rows)
                scores, found = self._index.search(queries, k, params=self._faiss.SearchParameters(sel=selector))
        return scores, found

    def _score(self, queries: Vectors, rows: Ids) -> Vectors:
        """Return the scores of `rows` `(q, m)`, another list of rows for each query; BLAS would wake all of its threads."""
        scores = np.empty(rows.shape, np.float32)
        pointers = map(self._faiss.swig_ptr, (queries, scores, rows))
        self._index.compute_distance_subset(len(queries), next(pointers), rows.shape[1], *pointers)
        return scores


def best_first(scores: Vectors, ids: Ids, k: int) -> tuple[Vectors, Ids]:
    """Return the `k` best of each row of scores and ids, both `(q, m)`, lower ids first among equals."""
    order = np.lexsort((ids, -scores))[:, :k]
    if len(order) == 1:  # as below, in a third of the time
        return np.clip(scores[:, order[0]], -1.0, 1.0), ids[:, order[0]]
    return np.clip(np.take_along_axis(scores, order, axis=1), -1.0, 1.0), np.take_along_axis(ids, order, axis=1)


def checked_queries(queries: Vectors, k: int, dim: int) -> Vectors:
    """Return `queries` as float32 rows.

    Raises:
        ConfigurationError: They are not of unit norm or not of `dim` columns, or `k` is below 1.
    """
    check_whole(1, k=k)
    return _checked_rows(queries, dim)


def _checked_ids(ids: Ids, count: int) -> Ids:
    ids = np.ascontiguousarray(ids, np.int64)
    if ids.shape != (count,):
        raise ConfigurationError(f"`ids` must have one entry per vector, {(count,)!r}, got shape {ids.shape!r}")
    if len(np.unique(ids)) != count or (ids < 0).any():
        raise ConfigurationError("`ids` must be distinct and not negative; take them from the store")
    return ids


def _checked_shape(vectors: Vectors, dim: int) -> Vectors:
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ConfigurationError(f"rows must have shape (n, {dim}), got {vectors.shape!r}; use the index's embedder")
    return vectors


def _checked_rows(vectors: Vectors, dim: int) -> Vectors:
    vectors = _checked_shape(vectors, dim)
    is_unit = has_unit_norm(vectors)
    if not is_unit.all():
        row = int(np.argmin(is_unit))
        norm = float(np.linalg.norm(vectors[row]))
        raise ConfigurationError(f"rows must have unit norm, row {row} has {norm!r}; divide each row by its norm")
    return vectors
