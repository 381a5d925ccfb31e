"""An index that fits the size of a folder: exact for few vectors, a graph for many.

The graph knows all rows up to some id. Rows behind it are searched exactly, and removed rows are passed over, until a new graph is
made in the background. What the graph finds is scored again with the vectors of the store.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag.errors import DamageError, LeanRAGError
from leanrag.protocols import LargeVectorSource
from leanrag.retrieval.chunk_ids import is_among, rows_of
from leanrag.retrieval.faiss_library import faiss_threads, load_faiss
from leanrag.retrieval.graphs import Graph, graph_bytes, make_graph, read_graph, save_graph
from leanrag.retrieval.index import FaissIndex, best_first, checked_queries
from leanrag.vectors import cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids, Vectors, VectorSource

__all__ = ["GrowingIndex", "update_graph", "vector_index_bytes"]

logger = logging.getLogger(__name__)

_LEAST = 50_000  # rows from which on a graph answers faster than the exact index, 5 ms there
_MOST_BEHIND = 0.1  # rows behind the graph, as a share of its own; with more, it grows
_MOST_REMOVED = 0.3  # share of removed rows; with more, the graph is made again from nothing
_FEW = 256  # allowed ids whose vectors are read from the store
_SCANNED_SHARE = 0.1  # of the rows that may be found; with fewer, a scan of all is faster than the graph
_WIDTH = 96  # rows that a search keeps in mind, at least
_MORE = 1.25  # times as many rows as wanted are scored again


def vector_index_bytes(count: int, dim: int) -> int:
    """Return the memory that the index of `count` vectors takes: a graph for many, the vectors themselves for few."""
    return graph_bytes(count, dim) if count >= _LEAST else count * (4 * dim + 8)


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What is searched: a graph and the rows behind it. The graph may lack rows of the store for a moment, never the reverse.

    Attributes:
        behind: Rows that the graph does not have; all rows without a graph.
        graph: The graph, if there are many rows.
        is_stored: Which rows of the graph the store still has, `(n,)`; None for all.
        count: How many rows that is.
    """

    behind: FaissIndex
    graph: Graph | None = None
    is_stored: NDArray[np.bool_] | None = None
    count: int = 0


class GrowingIndex:
    """Finds the nearest rows: exactly below 50,000 rows, with a recall of about 0.99 above. Any thread may call.

    Args:
        dim: Columns of a row.
        least: Rows from which on there is a graph; None for what pays.
    """

    def __init__(self, dim: int, *, least: int | None = None) -> None:
        self._dim, self._least = dim, _LEAST if least is None else least
        self._lock = threading.Lock()  # held for a whole `update`; searches go on meanwhile
        self._state = _State(FaissIndex(dim))
        self._source: LargeVectorSource | None = None
        self._generation: int | None = None  # of the store, at the last `update`
        self._builder: threading.Thread | None = None
        self._is_given_up = False

    def __len__(self) -> int:
        """Return the number of rows."""
        state = self._state
        return state.count + len(state.behind)

    def update(self, source: VectorSource) -> None:
        """Catch up with the store, as `FaissIndex.update` does, and begin to make a graph if it pays."""
        with self._lock:
            generation = source.generation  # read first: what is committed from here on is found by the next update
            if generation == self._generation:
                return
            if isinstance(source, LargeVectorSource):
                self._source = source
                self._use(_newest_graph(source, self._dim, self._state.graph), source)
                if self._builder is None and not self._is_given_up and _is_due(self._state, self._least):
                    self._builder = threading.Thread(target=self._build, args=(source,), name="leanrag graph")
                    self._builder.start()
            else:
                self._state.behind.update(source)
            self._generation = generation

    def wait(self) -> None:
        """Wait until a graph that is being made is used."""
        builder = self._builder
        if builder is not None:
            builder.join()

    def _use(self, graph: Graph | None, source: LargeVectorSource) -> None:
        """Search `graph` and the rows behind it from now on."""
        state = self._state
        if graph is None:
            state.behind.update(source)
            return
        if graph is not state.graph:
            state = _State(FaissIndex(self._dim), graph, None, len(graph))
        behind = state.behind
        ids, vectors = source.all_vectors(after=max(graph.last_id, int(behind.ids.max(initial=0))))
        if len(ids):
            behind.add(ids, vectors)
        if source.count_chunks() != state.count + len(behind):
            behind.remove(source.removed_ids(np.sort(behind.ids)))
            is_stored = np.ones(len(graph), bool) if state.is_stored is None else state.is_stored.copy()
            removed = source.removed_ids(graph.ids[is_stored])
            is_stored[np.searchsorted(graph.ids, removed)] = False
            state = _State(behind, graph, None if is_stored.all() else is_stored, int(is_stored.sum()))
        self._state = state

    def _build(self, source: LargeVectorSource) -> None:
        try:
            graph = _remade(source, self._dim, self._state)
            with self._lock:
                if graph is not None:
                    self._use(graph, source)
        except (LeanRAGError, RuntimeError, OSError) as error:  # the folder was closed, or is damaged: a search says so
            logger.debug("no graph: %s", error)
            self._is_given_up = True
        finally:
            self._builder = None

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the `k` most similar rows for each query, as `FaissIndex.search` does."""
        state = self._state
        if state.graph is None or self._source is None or not len(queries):
            return state.behind.search(queries, k, allowed=allowed)
        queries = checked_queries(queries, k, self._dim)
        parts = [
            _search_graph(state, self._source, queries, k, allowed),
            state.behind.search(queries, k, allowed=allowed),
        ]
        scores, ids = (np.concatenate(both, axis=1) for both in zip(*parts, strict=True))
        return best_first(scores, ids, k)


def update_graph(source: LargeVectorSource, dim: int, *, least: int | None = None) -> None:
    """Make the graph of a store now, if it is due; without this call, searches make it in the background.

    Args:
        source: The store.
        dim: Columns of a row.
        least: As in `GrowingIndex`.
    """
    count = source.count_chunks()
    if count < (_LEAST if least is None else least):
        return
    index = GrowingIndex(dim, least=least)
    index.update(source)
    index.wait()


def _newest_graph(source: LargeVectorSource, dim: int, current: Graph | None) -> Graph | None:
    """Return the graph that belongs to the store, or the current one if no other can be read."""
    for name in source.vector_files.names():
        path = source.vector_files.path(name)
        if current is not None and current.path in (path, None):  # None: newer, but the file could not be written
            break
        try:
            return read_graph(path, dim)
        except (OSError, ValueError, RuntimeError) as error:
            logger.info("%s is made again: %s", path, error)
    return current


def _is_due(state: _State, least: int) -> bool:
    """Return whether a new graph would pay."""
    if state.graph is None:
        return len(state.behind) >= least
    n_rows = len(state.graph)
    return len(state.behind) > _MOST_BEHIND * n_rows or n_rows - state.count > _MOST_REMOVED * n_rows


def _remade(source: LargeVectorSource, dim: int, state: _State) -> Graph | None:
    """Return a graph of all rows, in a file if it can be written."""
    graph = state.graph
    is_worn = graph is not None and len(graph) - state.count > _MOST_REMOVED * len(graph)
    made = make_graph(source, dim, None if is_worn else graph)
    return None if made is None else save_graph(source, made)


def _mask(state: _State, allowed: Ids | None) -> NDArray[np.bool_] | None:
    """Return which rows of the graph may be found; None for all."""
    assert state.graph is not None
    if allowed is None:
        return state.is_stored
    is_allowed = is_among(state.graph.ids, allowed)
    return is_allowed if state.is_stored is None else is_allowed & state.is_stored


def _search_graph(
    state: _State, source: LargeVectorSource, queries: Vectors, k: int, allowed: Ids | None
) -> tuple[Vectors, Ids]:
    """Return `(scores, ids)` of the rows of the graph, as `search` does, but in any order and perhaps some more than `k`."""
    graph = state.graph
    assert graph is not None
    if allowed is not None and len(allowed) <= _FEW:
        rows = rows_of(graph.ids, np.unique(allowed))
        ids = graph.ids[rows if state.is_stored is None else rows[state.is_stored[rows]]]
        vectors = _read(source, ids)
        if vectors is not None:
            return cosines(queries, vectors), np.broadcast_to(ids, (len(queries), len(ids)))
    is_allowed = _mask(state, allowed)
    count = len(graph) if is_allowed is None else int(is_allowed.sum())
    scores, rows = _nearest(graph.index, queries, min(count, int(k * _MORE) + 8), is_allowed, count / len(graph))
    ids = graph.ids[rows]
    distinct, inverse = np.unique(ids, return_inverse=True)
    vectors = _read(source, distinct)
    if vectors is not None:
        every = cosines(queries, vectors)  # (q, distinct)
        scores = np.take_along_axis(every, inverse.reshape(ids.shape), axis=1)
    return scores, ids


def _read(source: LargeVectorSource, ids: Ids) -> Vectors | None:
    """Return the vectors of `ids`; None if one was removed since, or is damaged."""
    try:
        return source.get_vectors(ids.tolist())
    except (LookupError, DamageError):
        return None


def _nearest(
    index: Any, queries: Vectors, k: int, is_allowed: NDArray[np.bool_] | None, share: float
) -> tuple[Vectors, Ids]:
    """Return `(scores, rows)` of FAISS, both `(q, k)`; at least `k` rows may be found."""
    faiss = load_faiss()
    bits = selector = None
    if is_allowed is not None:
        bits = np.packbits(is_allowed, bitorder="little")  # FAISS reads it through a pointer
        selector = faiss.IDSelectorBitmap(bits)
    if share >= _SCANNED_SHARE:
        width = int(max(_WIDTH, k) / share)
        with faiss_threads(faiss, len(queries) * width):
            parameters = faiss.SearchParametersHNSW(efSearch=width, sel=selector)
            scores, rows = index.search(queries, k, params=parameters)
        if (rows >= 0).all():
            return scores, rows
    codes = faiss.downcast_index(index.storage)
    with faiss_threads(faiss, len(queries) * codes.ntotal):
        scores, rows = codes.search(queries, k, params=faiss.SearchParameters(sel=selector))
    return scores, rows
