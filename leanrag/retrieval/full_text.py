"""Full-text search by SQLite (FTS5): the terms of a question to the chunks that match best."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.retrieval.terms import COLUMN_WEIGHTS, COLUMNS, quote_term

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids

__all__ = ["MAX_COUNTED", "MAX_TERMS", "find_best", "find_first_forms", "find_identifiers", "find_occurrences"]

MAX_TERMS = 300
"""Of a question: the score of a chunk takes a look at each."""

MAX_COUNTED = 100
"""Chunks with a term that are counted, to see how rare it is."""

_FEW = 2000  # ids that a search is given; among more it is searched everywhere, and what is not allowed is passed over
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
    for _, rows in find_first_forms(connection, identifiers, most):
        if 0 < len(rows) <= most:
            yield rows


def find_first_forms(
    connection: sqlite3.Connection, identifiers: Iterable[Iterable[str]], most: int
) -> Iterator[tuple[int, list[tuple[int]]]]:
    """Yield the index of the first form that a chunk has, and `(id,)` of up to `most + 1` such chunks, for each identifier.

    Args:
        connection: To the database.
        identifiers: The forms of each identifier.
        most: How many rows matter.
    """
    query = "SELECT rowid FROM terms WHERE terms MATCH ? LIMIT ?"
    for forms in identifiers:
        found: tuple[int, list[tuple[int]]] = 0, []
        for i, form in enumerate(forms):
            expression = quote_term(form) if " " in form else f"extra : {quote_term(form)}"
            rows = connection.execute(query, (expression, most + 1)).fetchall()
            if rows:
                found = i, rows
                break
        yield found


def find_occurrences(
    connection: sqlite3.Connection, tokens: Sequence[str], *, is_prefix: bool
) -> tuple[Ids, NDArray[np.float64]]:
    """Return the chunks in which some tokens follow each other, and how often: `(ids, frequencies)`, both `(m,)`.

    A word of a title counts twice, as in `bm25`.

    Args:
        connection: To the database, inside a transaction.
        tokens: The tokens, in their order.
        is_prefix: Whether the last token stands for all tokens that begin so.
    """
    connection.execute(
        "CREATE VIRTUAL TABLE IF NOT EXISTS temp.occurrences USING fts5vocab ('main', 'terms', 'instance')"
    )
    found: set[tuple[int, str, int]] | None = None  # chunk, column and position of the first token
    for i, token in enumerate(tokens):
        condition, values = "term = ?", [token]
        if is_prefix and i == len(tokens) - 1:
            condition, values = "term >= ? AND term < ?", [token, token + chr(0x10FFFF)]
        rows = connection.execute(f"SELECT doc, col, offset - {i} FROM temp.occurrences WHERE {condition}", values)
        found = set(rows) if found is None else found.intersection(rows)
    weights = dict(zip(COLUMNS, COLUMN_WEIGHTS, strict=True))
    totals: dict[int, float] = {}
    for chunk_id, column, _ in found or ():
        totals[chunk_id] = totals.get(chunk_id, 0.0) + weights[column]
    ids = np.array(sorted(totals), np.int64)
    return ids, np.array([totals[number] for number in ids.tolist()], np.float64)


def _rarest(connection: sqlite3.Connection, terms: list[str]) -> list[str]:
    """Return the terms, or if they are many those that fewest chunks have, in their order; at least one chunk has each."""
    if len(terms) <= MAX_TERMS:
        return terms
    counts = connection.execute(
        "SELECT key, (SELECT count(*) FROM (SELECT 1 FROM terms WHERE terms MATCH value LIMIT ?)) AS chunks"
        " FROM json_each(?) WHERE chunks > 0 ORDER BY chunks, key LIMIT ?",
        (MAX_COUNTED, json.dumps(terms), MAX_TERMS),
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
