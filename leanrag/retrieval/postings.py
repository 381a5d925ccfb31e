"""BM25 from arrays: the scores of full-text search, without a call for each chunk that matches.

A segment lists, for each token, the chunks that have it and how often: a weighted frequency. The tokens are those of SQLite's own
tokenizer. The formula is that of the function `bm25` of FTS5 (https://sqlite.org/fts5.html, section 5.1.1), in the same order of
operations, so that a chunk has the same score either way.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from leanrag.retrieval.chunk_ids import is_among, rows_of
from leanrag.retrieval.terms import COLUMN_WEIGHTS, COLUMNS, TOKENIZER
from leanrag.sqlite import close_with

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids, Vectors

__all__ = ["Matches", "Postings", "Segment", "TermStatistics", "Tokenizer", "make_segment", "merge_segments"]

_K1, _B = 1.2, 0.75
_MOST_KEYS = 10_000  # of terms that were asked for
_MOST_WORDS = 100_000  # whose tokens are remembered, about 20 MB
_NO_IDS = np.empty(0, np.int64)
_LEAST_IDF = 1e-6  # of a token that more than half of the chunks have

Matches: TypeAlias = "Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]"
"""Chunks that have a term: rows, and how often each has it, both `(m,)`; in parts, without a row twice."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The tokens of some chunks.

    Attributes:
        ids: Ids of the chunks, int64 `(n,)`, ascending.
        sizes: Tokens of each chunk, int32 `(n,)`.
        keys: Hashes of the tokens, uint64 `(t,)`, ascending.
        starts: Where the postings of each token begin, int64 `(t + 1,)`; the last is their number.
        rows: For each posting, which chunk has the token: index in `ids`, int32 `(p,)`, ascending for each token.
        frequencies: How often it has it, a word of a title counting twice, uint8 `(p,)`; a wider type if a chunk repeats a token
            more often than that.
    """

    ids: Ids
    sizes: NDArray[np.int32]
    keys: NDArray[np.uint64]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]
    frequencies: NDArray[np.unsignedinteger[Any]]

    def __len__(self) -> int:
        """Return the number of chunks."""
        return len(self.ids)

    def find(self, key: int) -> slice:
        """Return which postings are those of a token."""
        i = int(np.searchsorted(self.keys, np.uint64(key)))
        if i == len(self.keys) or int(self.keys[i]) != key:
            return slice(0, 0)
        return slice(int(self.starts[i]), int(self.starts[i + 1]))


class Tokenizer:
    """SQLite's tokenizer for texts outside of a database. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the connection
        self._connection: sqlite3.Connection | None = None  # made when it is first needed
        self._keys: dict[str, int | None] = {}  # of terms that were asked for
        self._words_lock = threading.Lock()  # guards what follows
        self._words: dict[str, int] = {}  # numbers of words that were indexed
        self._word_keys = np.empty(0, np.uint64)  # keys of their tokens
        self._word_starts = np.zeros(1, np.int64)  # where the keys of each word begin

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            close_with(self, self._connection)
            options = f"{', '.join(COLUMNS)}, content='', tokenize = '{TOKENIZER}'"
            self._connection.execute(f"CREATE VIRTUAL TABLE terms USING fts5 ({options})")
            self._connection.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab ('terms', 'instance')")
        return self._connection

    def _occurrences(self, texts: Iterable[str]) -> list[tuple[str, int]]:
        """Return `(token, index of the text)` for each token of some texts."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN")
            try:
                connection.executemany(f"INSERT INTO terms (rowid, {COLUMNS[0]}) VALUES (?, ?)", enumerate(texts))
                return connection.execute("SELECT term, doc FROM tokens").fetchall()
            finally:
                connection.execute("ROLLBACK")

    def read_words(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
        """Return the tokens of words: `(numbers, keys, starts)`.

        Args:
            words: Texts without white space.

        Returns:
            A number for each word, the keys of tokens, and where the keys of each number begin: int64 `(w,)`, uint64 `(t,)` and
            int64 `(n + 1,)`.
        """
        with self._words_lock:
            if len(self._words) > _MOST_WORDS:
                self._words, self._word_keys, self._word_starts = {}, self._word_keys[:0], self._word_starts[:1]
            known = self._words
            numbers = list(map(known.get, words))
            if None in numbers:
                self._add_words(list(dict.fromkeys(word for word in words if word not in known)))
                numbers = list(map(known.get, words))
            return np.array(numbers, np.int64), self._word_keys, self._word_starts

    def _add_words(self, words: Sequence[str]) -> None:
        tokens: list[list[int]] = [[] for _ in words]
        for token, i in self._occurrences(words):
            tokens[i].append(_key(token))
        first = len(self._words)
        self._words.update((word, first + i) for i, word in enumerate(words))
        keys = np.fromiter(itertools.chain.from_iterable(tokens), np.uint64)
        ends = len(self._word_keys) + np.cumsum(np.fromiter(map(len, tokens), np.int64))
        self._word_keys = np.concatenate([self._word_keys, keys])
        self._word_starts = np.concatenate([self._word_starts, ends])

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text, in their order."""
        with self._lock:
            connection = self._connect()
            connection.execute("BEGIN")
            try:
                connection.execute(f"INSERT INTO terms (rowid, {COLUMNS[0]}) VALUES (0, ?)", (text,))
                return [token for (token,) in connection.execute("SELECT term FROM tokens ORDER BY offset")]
            finally:
                connection.execute("ROLLBACK")

    def keys_of(self, terms: Sequence[str]) -> list[int | None]:
        """Return the key of each term's token; 0 for a term without one, None if it is more than one token."""
        keys = self._keys
        new = [term for term in terms if term not in keys]
        if new:
            if len(keys) > _MOST_KEYS:
                keys = self._keys = {term: keys[term] for term in terms if term in keys}
            tokens: list[list[str]] = [[] for _ in new]
            for token, i in self._occurrences(new):
                tokens[i].append(token)
            found = (None if len(some) > 1 else _key(some[0]) if some else 0 for some in tokens)
            keys.update(zip(new, found, strict=True))
        return [keys[term] for term in terms]


def make_segment(tokenizer: Tokenizer, rows: Sequence[tuple[Any, ...]]) -> Segment:
    """Return the segment of some chunks.

    Args:
        tokenizer: What splits the texts.
        rows: For each chunk, its id and the texts of all columns; ids ascending.
    """
    n_rows = len(rows)
    words: list[str] = []
    counts: list[int] = []  # words of each column of each row
    for row in rows:
        for text in row[1:]:
            in_column = text.split()
            words += in_column
            counts.append(len(in_column))
    numbers, keys, starts = tokenizer.read_words(words)
    used = np.flatnonzero(np.bincount(numbers, minlength=1))
    lengths = starts[used + 1] - starts[used]
    distinct, token_of = np.unique(keys[_ranges(starts[used], lengths)], return_inverse=True)
    # From words, column by column, to tokens, each with its row and its weight.
    words_of = np.searchsorted(used, numbers)
    n_tokens = lengths[words_of]
    tokens = token_of[_ranges((np.cumsum(lengths) - lengths)[words_of], n_tokens)]
    row_of = np.repeat(np.repeat(np.arange(n_rows), len(COLUMNS)), counts)
    weight_of = np.repeat(np.tile(np.array(COLUMN_WEIGHTS, np.int64), n_rows), counts)
    row_of, weight_of = np.repeat(row_of, n_tokens), np.repeat(weight_of, n_tokens)
    sizes = np.bincount(row_of, minlength=n_rows).astype(np.int32)
    # A number for each token of each row, as often as the token counts there.
    postings, frequencies = np.unique(np.repeat(tokens * n_rows + row_of, weight_of), return_counts=True)
    ids = np.array([row[0] for row in rows], np.int64)
    return Segment(
        ids,
        sizes,
        distinct,
        np.searchsorted(postings, np.arange(len(distinct) + 1) * n_rows),
        (postings % n_rows).astype(np.int32),
        frequencies.astype(np.min_scalar_type(frequencies.max(initial=0))),
    )


def merge_segments(segments: Sequence[Segment]) -> Segment:
    """Return one segment for the chunks of several; their ids must ascend from one to the next."""
    offsets = np.cumsum([0, *map(len, segments)])
    return _sorted(
        np.concatenate([segment.ids for segment in segments]),
        np.concatenate([segment.sizes for segment in segments]),
        np.concatenate([np.repeat(segment.keys, np.diff(segment.starts)) for segment in segments]),
        np.concatenate([segment.rows + np.int32(at) for segment, at in zip(segments, offsets, strict=False)]),
        np.concatenate([segment.frequencies for segment in segments]),
    )


def _sorted(
    ids: Ids,
    sizes: NDArray[np.int32],
    keys: NDArray[np.uint64],
    rows: NDArray[np.int32],
    frequencies: NDArray[np.unsignedinteger[Any]],
) -> Segment:
    """Return the segment of postings, of which each has a key; those of one key must be in the order of their rows."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return Segment(ids, sizes, distinct, np.append(starts, len(keys)), rows[order], frequencies[order])


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return `lengths[i]` consecutive numbers from `starts[i]` on, for each `i` in order."""
    before = np.cumsum(lengths) - lengths
    ranges: NDArray[np.int64] = np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
    return ranges


def _key(token: str) -> int:
    return int.from_bytes(hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """What BM25 needs to know of all chunks. The statistics of shards add up to those of the whole.

    Attributes:
        chunks: How many there are.
        tokens: How many tokens all of them have.
        counts: For each term of a question, how many chunks have it.
    """

    chunks: int
    tokens: int
    counts: tuple[int, ...]

    def __add__(self, other: TermStatistics) -> TermStatistics:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return TermStatistics(self.chunks + other.chunks, self.tokens + other.tokens, counts)


class Postings:
    """All chunks of a folder at one time; immutable.

    Args:
        segments: The segments, their ids ascending from one to the next.
        removed: Ids of chunks that do not exist any more, ascending.

    Attributes:
        removed: As above.
    """

    def __init__(self, segments: Sequence[Segment], removed: Ids = _NO_IDS) -> None:
        self.segments, self.removed = tuple(segments), removed
        self.ids = np.concatenate([_NO_IDS, *(segment.ids for segment in segments)])
        self.is_stored: NDArray[np.bool_] | None = None  # None: all
        if len(rows := rows_of(self.ids, removed)):
            self.is_stored = np.ones(len(self.ids), bool)
            self.is_stored[rows] = False
        self._sizes = np.concatenate([np.empty(0, np.int32), *(segment.sizes for segment in segments)])
        known = self._sizes if self.is_stored is None else self._sizes[self.is_stored]
        self._count = len(known)
        self._tokens = int(known.sum(dtype=np.int64))
        self._offsets = np.cumsum([0, *map(len, segments)])

    def __len__(self) -> int:
        """Return the number of chunks that exist."""
        return self._count

    @property
    def stored_ids(self) -> Ids:
        """The ids of the chunks that exist."""
        return self.ids if self.is_stored is None else self.ids[self.is_stored]

    @property
    def last_id(self) -> int:
        """The highest id; 0 without a segment."""
        return int(self.ids[-1]) if len(self.ids) else 0

    @property
    def removed_share(self) -> float:
        """The share of the chunks that do not exist any more."""
        return 1.0 - self._count / max(1, len(self.ids))

    def search(self, keys: Sequence[int], k: int, *, allowed: Ids | None, also: Ids | None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` as `Store.search_terms` does.

        Args:
            keys: Keys of the tokens, one for each term of the question.
            k: Chunks wanted, at least 1.
            allowed: Only these ids may be found.
            also: Those of these ids that match are returned too.
        """
        matches = [self.find(key) for key in keys]
        return self.best(self.score(matches, self.count(matches)), k, allowed=allowed, also=also)

    def best(
        self, scores: NDArray[np.float64], k: int, *, allowed: Ids | None, also: Ids | None
    ) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the chunks with the `k` best scores, as `search` does."""
        if allowed is not None:
            scores = scores * is_among(self.ids, allowed)
        chosen = _best(scores, k)
        if also is not None and len(also):
            rows = rows_of(self.ids, also)
            chosen = np.union1d(chosen, rows[scores[rows] > 0])
        chosen = chosen[np.lexsort((chosen, -scores[chosen]))]
        return scores[chosen].astype(np.float32), self.ids[chosen]

    def find(self, key: int) -> Matches:
        """Return the chunks that have a token and exist."""
        parts = []
        for segment, offset in zip(self.segments, self._offsets, strict=False):
            part = segment.find(key)
            if part.stop == part.start:
                continue
            rows, frequencies = segment.rows[part] + offset, segment.frequencies[part].astype(np.float64)
            if self.is_stored is not None:
                is_stored = self.is_stored[rows]
                rows, frequencies = rows[is_stored], frequencies[is_stored]
            parts.append((rows, frequencies))
        return parts

    def count(self, matches: Sequence[Matches]) -> TermStatistics:
        """Return the statistics of these chunks for the terms of a question."""
        return TermStatistics(
            self._count, self._tokens, tuple(sum(len(rows) for rows, _ in parts) for parts in matches)
        )

    def score(self, matches: Sequence[Matches], statistics: TermStatistics) -> NDArray[np.float64]:
        """Return the score of each chunk `(n,)`; 0 for those that match no term or do not exist.

        Args:
            matches: For each term, the chunks that have it.
            statistics: Those of all chunks that are searched together, which may be more than these.
        """
        scores = np.zeros(len(self.ids))
        average_size = statistics.tokens / max(1, statistics.chunks) or 1.0
        for parts, count in zip(matches, statistics.counts, strict=True):
            idf = math.log((statistics.chunks - count + 0.5) / (count + 0.5)) if count else 0.0
            idf = idf if idf > 0 else _LEAST_IDF
            for rows, frequencies in parts:
                norms = _K1 * (1.0 - _B + _B * self._sizes[rows] / average_size)  # what FTS5 adds to a frequency
                scores[rows] += idf * ((frequencies * (_K1 + 1.0)) / (frequencies + norms))
        return scores


def _best(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Return the indices of the `k` highest scores above 0; lower indices first among equals."""
    matching = np.flatnonzero(scores > 0)  # of booleans: several times quicker
    if len(matching) <= k:
        return matching
    found = scores[matching]
    least = np.partition(found, len(found) - k)[len(found) - k]
    better, equal = matching[found > least], matching[found == least]
    return np.concatenate([better, equal[: k - len(better)]])
