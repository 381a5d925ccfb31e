"""Ids of the chunks that a filter allows, remembered until the documents change."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag.retrieval.database import Database
from leanrag.retrieval.filters import condition_sql
from leanrag.retrieval.generations import read_generation
from leanrag.types import Where

if TYPE_CHECKING:
    from leanrag.protocols import Ids

__all__ = ["FilteredIds"]

_MOST_REMEMBERED = 16  # filters
_MOST_BYTES = 2**26  # of all remembered ids


class FilteredIds:
    """Finds the chunks that filters allow. Any thread may call.

    Args:
        database: Where the documents are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()  # guards what follows
        self._generation = -1
        self._remembered: dict[tuple[str, tuple[Any, ...]], Ids] = {}  # the filter that was used last comes last

    def get(self, where: Where) -> Ids:
        """Return the ids of the chunks whose document matches `where`, as `Store.filter_ids` does; the array is read-only."""
        condition, values = condition_sql(where)
        key = condition, tuple((type(value), value) for value in values)
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            generation = read_generation(connection)
            with self._lock:
                if generation == self._generation and key in self._remembered:
                    self._remembered[key] = ids = self._remembered.pop(key)
                    return ids
            ids = _read(connection, condition, values)
        ids.flags.writeable = False
        self._remember(generation, key, ids)
        return ids

    def _remember(self, generation: int, key: tuple[str, tuple[Any, ...]], ids: Ids) -> None:
        with self._lock:
            if generation > self._generation:
                self._generation, self._remembered = generation, {}
            if generation == self._generation:
                self._remembered[key] = ids
                sizes = [known.nbytes for known in self._remembered.values()]
                while len(sizes) > _MOST_REMEMBERED or sum(sizes) > _MOST_BYTES:
                    del self._remembered[next(iter(self._remembered))]
                    del sizes[0]


def _read(connection: sqlite3.Connection, condition: str, values: Sequence[Any]) -> Ids:
    """Return the ids of the chunks of the documents that fulfil a condition, ascending."""
    chosen = f"FROM chunks WHERE document IN (SELECT key FROM documents WHERE {condition})"
    rows = connection.execute(f"SELECT min(id), max(id), count(*) {chosen} GROUP BY document", values).fetchall()
    first, last, counts = np.array(rows, np.int64).reshape(-1, 3).T
    if (last - first + 1 != counts).any():  # a document has lost a chunk
        ids = connection.execute(f"SELECT id {chosen} ORDER BY id", values)
        return np.array([row[0] for row in ids], np.int64)
    order = np.argsort(first)
    first, counts = first[order], counts[order]
    offsets = np.cumsum(counts) - counts  # where the ids of each document begin
    return np.repeat(first - offsets, counts) + np.arange(counts.sum())
