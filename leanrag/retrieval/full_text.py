"""Full-text search by SQLite (FTS5): the terms of a question to the chunks that match best."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.retrieval.terms import COLUMN_WEIGHTS, quote_term

if TYPE_CHECKING:
    from leanrag.protocols import Ids

__all__ = ["MAX_TERMS", "find_best", "find_identifiers"]

MAX_TERMS = 300
"""Of a question: the score of a chunk takes a look at each."""

_FEW = 2000  # ids that a search is given; among more it is searched everywhere, and what is not allowed is passed over
_MAX_COUNTED = 100  # chunks with a term that are counted, to see how rare it is
_FOUND = (
    f"found AS (SELECT -bm25(terms, {', '.join(map(str, COLUMN_WEIGHTS))}) AS score, rowid AS id"
    " FROM terms WHERE terms MATCH ?)"
)
# The `+` keeps the planner from looking up one id at a time, which would compute the statistics for each.
_FOUND_AMONG = f"{_FOUND[:-1]} AND +rowid IN (SELECT value FROM json_each(?)))"
_BEST_FIRST = "ORDER BY score DESC, id"
_BEST = f"SELECT score, id FROM found {_BEST_FIRST} LIMIT ?"

_Row = tuple[float, int]


def find_best(
    connection: sqlite3.Connection, terms: Sequence[str], k: int, *, allowed: Ids | None, also: Ids | None
) -> list[_Row]:
    """Return `(score, id)` of the chunks, best first; `Store.search_terms` says what the arguments mean."""
    expression = " OR ".join(_rarest(connection, list(map(quote_term, terms))))
    if allowed is not None and len(allowed) > _FEW:
        cursor = connection.execute(f"WITH {_FOUND} SELECT score, id FROM found {_BEST_FIRST}", (expression,))
        rows = _first_allowed(cursor, k, allowed)
        if also is not None and len(also):
            more = connection.execute(f"WITH {_FOUND_AMONG} {_BEST}", (expression, _json(also), len(also)))
            rows = sorted({*rows, *more}, key=lambda row: (-row[0], row[1]))
        return rows
    found, values = _FOUND, [expression]
    if allowed is not None:
        found, values = _FOUND_AMONG, [expression, _json(allowed)]
    if also is None or not len(also):
        return connection.execute(f"WITH {found} {_BEST}", (*values, k)).fetchall()
    return connection.execute(
        f"WITH {found} SELECT score, id FROM ({_BEST})"
        f" UNION SELECT score, id FROM found WHERE id IN (SELECT value FROM json_each(?)) {_BEST_FIRST}",
        (*values, k, _json(also)),
    ).fetchall()


def find_identifiers(
    connection: sqlite3.Connection, identifiers: Iterable[Iterable[str]], most: int
) -> Iterator[list[tuple[int]]]:
    """Yield `(id,)` of the chunks that have an identifier, for each identifier that at most `most` chunks have.

    Args:
        connection: To the database.
        identifiers: The forms of each identifier; the first form that a chunk has counts.
        most: An identifier that more chunks have is passed over.
    """
    for forms in identifiers:
        for form in forms:
            expression = quote_term(form) if " " in form else f"extra : {quote_term(form)}"
            query = "SELECT rowid FROM terms WHERE terms MATCH ? LIMIT ?"
            rows = connection.execute(query, (expression, most + 1)).fetchall()
            if rows:
                if len(rows) <= most:
                    yield rows
                break


def _rarest(connection: sqlite3.Connection, terms: list[str]) -> list[str]:
    """Return the terms, or if they are many those that fewest chunks have, in their order; at least one chunk has each."""
    if len(terms) <= MAX_TERMS:
        return terms
    counts = connection.execute(
        "SELECT key, (SELECT count(*) FROM (SELECT 1 FROM terms WHERE terms MATCH value LIMIT ?)) AS chunks"
        " FROM json_each(?) WHERE chunks > 0 ORDER BY chunks, key LIMIT ?",
        (_MAX_COUNTED, json.dumps(terms), MAX_TERMS),
    )
    return [terms[i] for i in sorted(key for key, _ in counts)] or terms[:1]


def _json(ids: Ids) -> str:
    return json.dumps(np.asarray(ids).tolist())


def _first_allowed(rows: sqlite3.Cursor, k: int, allowed: Ids) -> list[_Row]:
    """Return the first `k` rows whose id is allowed."""
    kept: list[_Row] = []
    while len(kept) < k and (part := rows.fetchmany(1024)):
        is_allowed = np.isin([row[1] for row in part], allowed)
        kept += [row for row, is_kept in zip(part, is_allowed, strict=True) if is_kept]
    return kept[:k]
