"""Ids of the chunks of a database. An id is never used again, and a new id is higher than all others."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from leanrag.retrieval.schema import to_sql

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids

__all__ = ["as_ids", "find_removed", "ids_of_all", "ids_within", "is_among", "rows_of"]

_FEW_SHARE = 0.05  # of all ids; fewer are looked up one by one
_MOST_SPARSE = 16  # highest id for each id, for a table by id
_LISTED = 4096  # ids that are read together, instead of being counted


def as_ids(rows: Iterable[tuple[int]]) -> Ids:
    """Return the first column of some rows, int64 `(n,)`."""
    return np.array([row[0] for row in rows], np.int64)


def ids_of_all(connection: sqlite3.Connection) -> Ids:
    """Return the id of every chunk, int64 `(n,)`, ascending."""
    return as_ids(connection.execute("SELECT id FROM chunks ORDER BY id"))


def ids_within(connection: sqlite3.Connection, document_id: str, start: int, end: int) -> Ids:
    """Return the ids of the chunks of a document that lie between two of its characters, in document order; int64 `(n,)`."""
    return as_ids(
        connection.execute(
            "SELECT chunks.id FROM documents JOIN chunks ON document = key"
            " WHERE documents.id = ? AND start >= ? AND start <= ? AND stop <= ? ORDER BY ordinal",
            (to_sql(document_id), start, end, end),
        )
    )


def rows_of(ids: Ids, wanted: Ids) -> Ids:
    """Return the indices in `ids` (ascending) of those of `wanted` that are there, in the order of `wanted`."""
    if not len(ids):
        return np.empty(0, np.int64)
    rows = np.searchsorted(ids, wanted)
    rows[rows == len(ids)] = 0
    found: Ids = rows[ids[rows] == wanted]
    return found


def is_among(ids: Ids, wanted: Ids) -> NDArray[np.bool_]:
    """Return for each of `ids` (ascending) whether it is one of `wanted`."""
    if len(wanted) <= _FEW_SHARE * len(ids):
        is_wanted = np.zeros(len(ids), bool)
        is_wanted[rows_of(ids, wanted)] = True
        return is_wanted
    if not len(ids) or ids[0] < 0 or ids[-1] > _MOST_SPARSE * len(ids):
        return np.isin(ids, wanted)
    is_wanted = np.zeros(int(ids[-1]) + 1, bool)  # by id
    is_wanted[wanted[(wanted >= 0) & (wanted <= ids[-1])]] = True
    return is_wanted[ids]


def find_removed(connection: sqlite3.Connection, ids: Ids) -> Ids:
    """Return those of `ids` that no chunk has.

    SQLite counts the chunks of ever smaller ranges of ids. Only ranges that lack a chunk are read. `connection` must see the
    same commit all the time.

    Args:
        connection: To the database.
        ids: Ids that chunks have or had, int64 `(n,)`, ascending.
    """
    return _find_removed(connection, ids, _count_between(connection, ids)) if len(ids) else ids


def _find_removed(connection: sqlite3.Connection, ids: Ids, count: int) -> Ids:
    """Do the work of `find_removed`; `count` chunks have ids from the first to the last of `ids`."""
    if count == len(ids):
        return ids[:0]
    if count == 0:
        return ids
    if len(ids) <= _LISTED:
        rows = connection.execute("SELECT id FROM chunks WHERE id BETWEEN ? AND ?", (int(ids[0]), int(ids[-1])))
        return np.setdiff1d(ids, as_ids(rows), assume_unique=True)
    halves = ids[: len(ids) // 2], ids[len(ids) // 2 :]
    return np.concatenate([_find_removed(connection, half, _count_between(connection, half)) for half in halves])


def _count_between(connection: sqlite3.Connection, ids: Ids) -> int:
    row = connection.execute("SELECT count(*) FROM chunks WHERE id BETWEEN ? AND ?", (int(ids[0]), int(ids[-1])))
    return int(row.fetchone()[0])
