"""The posting segments of a folder: made beside searches, kept in files, and brought up to what the database holds.

The database is the truth; see `derived_files` for the files.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leanrag.checks import ProcessGuard
from leanrag.errors import LeanRAGError, StorageError
from leanrag.retrieval.chunk_ids import find_removed
from leanrag.retrieval.database import Database
from leanrag.retrieval.derived_files import DerivedFiles
from leanrag.retrieval.generations import ChunkCounter, read_generation
from leanrag.retrieval.posting_files import read_segment, write_segment
from leanrag.retrieval.postings import Postings, Segment, Tokenizer, make_segment, merge_segments
from leanrag.retrieval.terms import COLUMNS

__all__ = ["PostingIndex"]

logger = logging.getLogger(__name__)

_LEAST = 5000  # chunks of a folder; among fewer SQLite is fast enough
_AT_ONCE = 100  # new chunks that a search reads itself; more are read in the background
_BATCH = 2000  # chunks tokenized together
_WORTH_A_FILE = 2000  # chunks of a segment
_MOST_MERGED = 200_000  # chunks of a segment
_MOST_REMOVED = 0.3  # share of removed chunks; with more, all segments are made again

_ROWS = f"SELECT rowid, {', '.join(COLUMNS)} FROM terms WHERE rowid > ? ORDER BY rowid LIMIT ?"


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment, and the name of its file; None while it has no file."""

    segment: Segment
    name: str | None = None


class PostingIndex:
    """Postings that catch up with the database. Any thread may call.

    Args:
        database: Where the terms are.
        counter: Counts the chunks of the database.
        least: Chunks of a folder from which on there are postings; None for what pays.
    """

    def __init__(self, database: Database, counter: ChunkCounter, *, least: int | None = None) -> None:
        self._counter = counter
        self._database, self._least = database, _LEAST if least is None else least
        self._files = DerivedFiles(database, "postings")
        self._lock = threading.Lock()  # guards what follows
        self._parts: list[_Part] = []
        self._postings: Postings | None = None
        self._generation = -1  # of the database, when `_postings` was made
        self._builder: threading.Thread | None = None
        self._tokenizer = Tokenizer()
        self._guard = ProcessGuard()

    def close(self) -> None:
        """Free the memory, after the database was closed; without effect in a forked child."""
        if self._guard.is_here:
            self.wait()
            self._tokenizer.close()

    def keys_of(self, terms: Sequence[str]) -> list[int] | None:
        """Return the key of each term of a question; None if SQLite alone can search for one: a prefix, or several tokens."""
        if any(term.endswith("*") for term in terms):
            return None
        known = [key for key in self._tokenizer.keys_of(terms) if key is not None]
        return known if len(known) == len(terms) else None

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        return self._tokenizer.split(text)

    def current(self, connection: sqlite3.Connection) -> Postings | None:
        """Return the postings of all chunks that `connection` sees; None if SQLite must search.

        What few documents changed is read at once. Otherwise a thread begins to read it, and SQLite searches until it is done.
        """
        generation = read_generation(connection)
        with self._lock:
            if generation == self._generation:
                return self._postings
            if self._builder is not None or generation < self._generation:
                return None
            if self._counter.count(connection) < self._least:
                self._use([], connection)
                return None
            if self._postings is not None:
                rows = connection.execute(_ROWS, (self._postings.last_id, _AT_ONCE + 1)).fetchall()
                if len(rows) <= _AT_ONCE:
                    added = [_Part(make_segment(self._tokenizer, rows))] if rows else []
                    self._use(_merged([*self._parts, *added]), connection)
                    if _unsaved(self._parts) >= 2 * _WORTH_A_FILE or self._postings.removed_share > _MOST_REMOVED:
                        self._start()
                    return self._postings
            self._start()
            return None

    def update(self) -> None:
        """Read everything that is new now, and write it to files if it is worth them."""
        with self._database.reading(one_view=True) as connection:
            self.current(connection)
        self.wait()

    def wait(self) -> None:
        """Wait until the background has read what it reads."""
        builder = self._builder
        if builder is not None:
            builder.join()

    def _use(self, parts: list[_Part], connection: sqlite3.Connection) -> None:
        """Search these parts from now on; `connection` sees no other chunks than theirs."""
        postings = self._postings_of(parts)
        if len(postings) != self._counter.count(connection):
            removed = np.union1d(postings.removed, find_removed(connection, postings.stored_ids))
            postings = Postings(postings.segments, removed)
        self._parts, self._postings = parts, postings if parts else None
        self._generation = read_generation(connection)

    def _postings_of(self, parts: Sequence[_Part]) -> Postings:
        """Return the postings of some parts without the chunks that are known to be removed."""
        segments = [part.segment for part in parts]
        return Postings(segments) if self._postings is None else Postings(segments, self._postings.removed)

    def _start(self) -> None:
        self._builder = threading.Thread(target=self._build, name="leanrag postings", daemon=True)
        self._builder.start()

    # In the background

    def _build(self) -> None:
        try:
            parts = self._read_new(self._known_parts())
            self._finish(self._save(parts))
        except (LeanRAGError, sqlite3.Error) as error:  # the folder was closed, or is damaged: a search says so
            logger.debug("%s: no postings: %s", self._database.folder, error)
        finally:
            with self._lock:
                self._builder = None

    def _known_parts(self) -> list[_Part]:
        """Return the parts in memory, or those of the files; none if too many of their chunks were removed."""
        with self._lock:
            parts = list(self._parts)
            if self._postings is not None and self._postings.removed_share > _MOST_REMOVED:
                return []
        if parts:
            return parts
        for name in self._files.names():
            try:
                parts.append(_Part(read_segment(self._files.path(name)), name))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.info("%s is made again: %s", self._files.path(name), error)
                break  # the parts behind it, too: there is no gap between parts
        return parts

    def _read_new(self, parts: list[_Part]) -> list[_Part]:
        """Return `parts` and segments for all chunks behind them."""
        while True:
            last_id = int(parts[-1].segment.ids[-1]) if parts else 0
            with self._database.reading() as connection:
                rows = connection.execute(_ROWS, (last_id, _BATCH)).fetchall()
            if not rows:
                return parts
            parts = _merged([*parts, _Part(make_segment(self._tokenizer, rows))])

    def _save(self, parts: list[_Part]) -> list[_Part]:
        """Write the large parts that have no file yet, name all files in the database, and remove other files."""
        if self._database.read_only:
            return parts
        saved: list[_Part] = []
        try:
            for part in parts:
                if part.name is None and len(part.segment) >= _WORTH_A_FILE:
                    path = self._files.new_path()
                    write_segment(path, part.segment)
                    part = _Part(read_segment(path), path.name)
                saved.append(part)
            self._files.keep([part.name for part in saved if part.name is not None])
        except (StorageError, OSError, ValueError) as error:
            logger.info("%s: postings stay in memory: %s", self._database.folder, error)
            return [*saved, *parts[len(saved) :]]
        return saved

    def _finish(self, parts: list[_Part]) -> None:
        with self._database.reading(one_view=True) as connection, self._lock:
            rows = connection.execute(_ROWS, (int(parts[-1].segment.ids[-1]) if parts else 0, 1)).fetchall()
            if rows:  # written meanwhile: the next search reads them
                self._parts, self._generation = parts, -1
                self._postings = self._postings_of(parts)
            else:
                self._use(parts, connection)


def _merged(parts: list[_Part]) -> list[_Part]:
    """Return the parts, of which the last were merged until each is at least twice as large as the next, or large enough."""
    while len(parts) > 1:
        first, second = parts[-2].segment, parts[-1].segment
        if len(first) >= 2 * len(second) or len(first) + len(second) > _MOST_MERGED:
            break
        parts = [*parts[:-2], _Part(merge_segments([first, second]))]
    return parts


def _unsaved(parts: Sequence[_Part]) -> int:
    return sum(len(part.segment) for part in parts if part.name is None)
