"""A part of a corpus: a store that is searched together with others, so that the scores are those of one store with all chunks."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import StorageError
from leanrag.retrieval.chunk_ids import as_ids, rows_of
from leanrag.retrieval.full_text import find_first_forms, find_occurrences
from leanrag.retrieval.growing_index import GrowingIndex
from leanrag.retrieval.posting_index import PostingIndex
from leanrag.retrieval.postings import Matches, Postings, TermStatistics
from leanrag.retrieval.store import Store
from leanrag.retrieval.terms import parse_query

if TYPE_CHECKING:
    from leanrag.protocols import Ids, VectorIndex, Vectors

__all__ = ["MakeVectorIndex", "Shard"]

MakeVectorIndex = Callable[[int], "VectorIndex"]
"""Makes an empty index for rows of so many columns."""

_MOST_TRIES = 100  # of a search, while a writer commits all the time


class Shard(Store):
    """The store of one shard, with its vector index. Any thread may call.

    A search by words has two rounds: `count_terms` of all shards, then `score_terms` with the sum of their statistics.

    Args:
        folder: Where `leanrag.db` is, or will be.
        create: Make folder and database if they do not exist.

    Raises:
        StorageError: As in `Store`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = True) -> None:
        super().__init__(folder, create=create)
        self._posting_index = PostingIndex(self._database, self._counter, least=1)
        self._make_index: MakeVectorIndex = GrowingIndex
        self._index: VectorIndex | None = None
        self._index_lock = threading.Lock()

    # By words

    def count_terms(self, terms: Sequence[str]) -> TermStatistics:
        """Return the statistics of the chunks for the terms of a question."""
        postings, matches = self._find_terms(tuple(terms))
        return postings.count(matches)

    def score_terms(
        self,
        terms: Sequence[str],
        statistics: TermStatistics,
        k: int,
        *,
        allowed: Ids | None = None,
        also: Ids | None = None,
    ) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the chunks that match a term best, as `search_terms` does.

        Args:
            terms: The terms of the question.
            statistics: The sum of what `count_terms` of each shard returned for these terms.
            k: Chunks wanted.
            allowed: Only these ids may be found.
            also: Those of these ids that match are returned too.
        """
        postings, matches = self._find_terms(tuple(terms))
        return postings.best(postings.score(matches, statistics), k, allowed=allowed, also=also)

    def first_forms(self, question: str, most: int) -> list[tuple[int, Ids]]:
        """Return, for each identifier of a question, its first form that a chunk has, and the ids of the chunks that have it.

        Args:
            question: Plain text.
            most: At most one more id than this is returned.

        Returns:
            `(index of the form, ids)` for each identifier; no ids if no chunk has a form.
        """
        with self._database.reading() as connection:
            found = find_first_forms(connection, parse_query(question).identifiers, most)
            return [(form, as_ids(rows)) for form, rows in found]

    def _find_terms(self, terms: tuple[str, ...]) -> tuple[Postings, list[Matches]]:
        """Return the postings, and which of their rows have each term."""
        for _ in range(_MOST_TRIES):
            self._posting_index.wait()
            with self._database.reading(one_view=True) as connection:
                postings = self._posting_index.current(connection)
                if postings is None and self.count_chunks() == 0:
                    postings = Postings([])
                if postings is not None:
                    return postings, [self._find_term(term, postings, connection) for term in terms]
        raise StorageError(
            f"the words of {str(self.folder)!r} cannot be read. Run `leanrag doctor`, which lists the damage",
            path=self.folder,
        )

    def _find_term(self, term: str, postings: Postings, connection: sqlite3.Connection) -> Matches:
        """Return which rows have a term; SQLite finds a prefix, and a term of several tokens."""
        keys = self._posting_index.keys_of([term])
        if keys is not None:
            return postings.find(keys[0])
        tokens = self._posting_index.split(term.removesuffix("*"))
        ids, frequencies = find_occurrences(connection, tokens, is_prefix=term.endswith("*"))
        is_known = np.isin(ids, postings.ids)
        return [(rows_of(postings.ids, ids[is_known]), frequencies[is_known])]

    # By meaning

    def use_index(self, make_index: MakeVectorIndex) -> None:
        """Search vectors with an index that `make_index` makes."""
        with self._index_lock:
            self._make_index, self._index = make_index, None

    def search_vectors(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the nearest chunks for each query, both `(q, m)`, as `VectorIndex.search` does."""
        with self._index_lock:
            if self._index is None:
                self._index = self._make_index(queries.shape[1])
        self._index.update(self)
        return self._index.search(queries, k, allowed=allowed)
