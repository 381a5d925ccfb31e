"""Nearest rows by cosine similarity: an exact reference in NumPy and the same on FAISS.

An index lives in memory and is filled from the store, whose vectors are the truth; none is ever read from a file. Rows
have unit norm, so that the inner product is the cosine: higher is better from here on.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["FaissIndex", "FlatIndex"]

_NORM_TOLERANCE = 1e-3  # what half precision leaves of a unit norm


class FlatIndex:
    """Exact search in NumPy: the reference that every other index is compared with.

    Args:
        dim: Columns of a row.
    """

    def __init__(self, dim: int) -> None:
        self._dim = _checked_dim(dim)
        self._lock = threading.Lock()
        self._ids = np.empty(0, np.int64)
        self._vectors = np.empty((0, dim), np.float32)

    def __len__(self) -> int:
        """Rows held."""
        return len(self._ids)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add rows.

        Args:
            ids: int64 `(n,)`, not negative, none of them held already.
            vectors: float32 `(n, dim)`, rows of unit norm.

        Raises:
            ConfigurationError: Shapes, norms or ids are not as above; nothing was added.
        """
        ids, vectors = _checked_ids(ids, len(vectors)), _checked_rows(vectors, self._dim)
        with self._lock:
            _refuse_held(ids[np.isin(ids, self._ids)])
            self._ids = np.concatenate([self._ids, ids])
            self._vectors = np.concatenate([self._vectors, vectors])

    def remove(self, ids: Ids) -> None:
        """Remove rows; unknown ids are ignored."""
        with self._lock:
            keep = ~np.isin(self._ids, ids)
            self._ids, self._vectors = self._ids[keep], self._vectors[keep]

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return the `k` most similar rows for each query.

        Args:
            queries: float32 `(q, dim)`, rows of unit norm.
            k: Rows wanted per query, at least 1.
            allowed: Only these ids may be found; unknown ones are ignored.

        Returns:
            `(scores, ids)`: float32 and int64, both `(q, m)` with `m = min(k, rows that may be found)`, best first,
            lower ids first among equals. Scores are cosine similarities in [-1, 1].

        Raises:
            ConfigurationError: `queries` are not as above, or `k` is below 1.
        """
        queries = _checked_search(queries, self._dim, k)
        with self._lock:
            ids, vectors = self._ids, self._vectors
        if allowed is not None:
            keep = np.isin(ids, allowed)
            ids, vectors = ids[keep], vectors[keep]
        scores = np.clip(queries @ vectors.T, -1.0, 1.0)  # (q, n)
        return _ordered(scores, np.broadcast_to(ids, scores.shape), k)


class FaissIndex:
    """Exact search on FAISS, with removal and filters; the same answers as `FlatIndex`, faster.

    Args:
        dim: Columns of a row.
    """

    def __init__(self, dim: int) -> None:
        import faiss

        self._faiss: Any = faiss  # its stubs know none of the keyword arguments of SearchParameters (1.15)
        self._dim = _checked_dim(dim)
        self._lock = threading.Lock()  # FAISS allows searches beside each other, not beside a change
        self._held: set[int] = set()
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))

    def __len__(self) -> int:
        """Rows held."""
        return int(self._index.ntotal)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add rows; see `FlatIndex.add`."""
        ids, vectors = _checked_ids(ids, len(vectors)), _checked_rows(vectors, self._dim)
        with self._lock:
            _refuse_held(np.array([number for number in ids.tolist() if number in self._held]))
            self._index.add_with_ids(vectors, ids)
            self._held.update(ids.tolist())

    def remove(self, ids: Ids) -> None:
        """Remove rows; unknown ids are ignored."""
        ids = np.ascontiguousarray(ids, np.int64)
        with self._lock:
            self._index.remove_ids(self._faiss.IDSelectorBatch(ids))
            self._held.difference_update(ids.tolist())

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return the `k` most similar rows for each query; see `FlatIndex.search`.

        Rows of equal score at the `k`-th place may be others than the reference's.
        """
        queries = _checked_search(queries, self._dim, k)
        if len(queries) == 0:
            return np.empty((0, 0), np.float32), np.empty((0, 0), np.int64)
        with self._lock:
            k = min(k, len(self))
            if allowed is not None:
                allowed = np.ascontiguousarray(allowed, np.int64)
                k = min(k, len(allowed))
            if k == 0:
                return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
            if allowed is None:
                scores, ids = self._index.search(queries, k)
            else:
                selector = self._faiss.IDSelectorBatch(allowed)
                scores, ids = self._index.search(queries, k, params=self._faiss.SearchParameters(sel=selector))
        found = int((ids[0] != -1).sum())  # the same for each query: places without a row come last, as -1
        return _ordered(np.clip(scores[:, :found], -1.0, 1.0), ids[:, :found], k)


def _ordered(scores: Vectors, ids: Ids, k: int) -> tuple[Vectors, Ids]:
    """Return the first `k` columns, highest score first, then lowest id."""
    order = np.lexsort((ids, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _checked_dim(dim: int) -> int:
    if dim < 1:
        raise ConfigurationError(f"`dim` must be at least 1, got {dim!r}; take it from the embedder")
    return dim


def _checked_ids(ids: Ids, count: int) -> Ids:
    ids = np.ascontiguousarray(ids, np.int64)
    if ids.shape != (count,):
        raise ConfigurationError(f"`ids` must have one entry per vector, {(count,)!r}, got shape {ids.shape!r}")
    if len(np.unique(ids)) != count or (ids < 0).any():
        raise ConfigurationError("`ids` must be distinct and not negative; take them from the store")
    return ids


def _refuse_held(ids: Ids) -> None:
    if len(ids):
        raise ConfigurationError(f"id {int(ids[0])!r} is in the index already; remove it first")


def _checked_rows(vectors: Vectors, dim: int) -> Vectors:
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise ConfigurationError(f"rows must have shape (n, {dim}), got {vectors.shape!r}; use the index's embedder")
    norms = np.linalg.norm(vectors, axis=1)
    wrong = ~(np.abs(norms - 1.0) <= _NORM_TOLERANCE)  # true of NaN as well
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ConfigurationError(f"rows must have unit norm, row {row} has {float(norms[row])!r}; normalise them")
    return vectors


def _checked_search(queries: Vectors, dim: int, k: int) -> Vectors:
    if k < 1:
        raise ConfigurationError(f"`k` must be at least 1, got {k!r}")
    return _checked_rows(queries, dim)
