"""A cache of answers in a SQLite file, shared by threads and processes."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import os
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from leanrag.abilities import FreshEvidence
from leanrag.caching.similar import SimilarQuestions, SimilarStats
from leanrag.caching.waiting import KeyLocks
from leanrag.checks import check_positive, check_whole
from leanrag.errors import StorageError
from leanrag.sqlite import SqliteFile, SqliteFormat
from leanrag.types import Answer, AskKey, CancelToken

__all__ = ["AnswerCache", "CacheStats", "document_ids_of"]

logger = logging.getLogger(__name__)

_FORMAT = SqliteFormat(
    noun="answer cache",
    application_id=0x6C726163,  # "lrac"
    version=1,
    mend="Delete the file; the answers are computed again",
    schema="""
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB UNIQUE NOT NULL, value BLOB NOT NULL, bytes INTEGER NOT NULL,
    worth REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0, priority REAL NOT NULL
);
CREATE INDEX answers_by_priority ON answers (priority);
CREATE TABLE keys (key BLOB PRIMARY KEY, answer INTEGER NOT NULL REFERENCES answers (id), written REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX keys_by_answer ON keys (answer);
CREATE TABLE sources (
    document TEXT NOT NULL, answer INTEGER NOT NULL REFERENCES answers (id), PRIMARY KEY (document, answer)
) WITHOUT ROWID;
CREATE INDEX sources_by_answer ON sources (answer);
CREATE TABLE questions (
    entry INTEGER NOT NULL, namespace TEXT NOT NULL, scope TEXT NOT NULL, question TEXT NOT NULL, vector BLOB NOT NULL,
    UNIQUE (scope, namespace, question)
);
CREATE INDEX questions_by_entry ON questions (entry);
CREATE TABLE comparisons (
    id INTEGER PRIMARY KEY, entry INTEGER NOT NULL, score REAL NOT NULL, agreed INTEGER NOT NULL, weight REAL NOT NULL
);
CREATE INDEX comparisons_by_entry ON comparisons (entry);
CREATE TABLE totals (name TEXT PRIMARY KEY, value REAL NOT NULL) WITHOUT ROWID;
INSERT INTO totals VALUES ('bytes', 0), ('aging', 0), ('evicted', 0), ('saved_seconds', 0), ('hits', 0), ('removals', 0);
""",
)
_DECODED = 512  # answers whose Python objects are kept
_FLUSHED = 256  # hits that are counted in memory before they are written: fewer than 1 % of the hits wait for a write
_MAX_ENTRY = 16 << 20
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds, and what it did since it was made.

    Attributes:
        answers: Stored answers.
        bytes: Size of the stored answers.
        hits: Answers that were found.
        saved_seconds: Time that computing them took when they were stored.
        evicted: Answers that were removed to make room.
        similar: What the search for similar questions did; None if it is switched off.
    """

    answers: int
    bytes: int
    hits: int
    saved_seconds: float
    evicted: int
    similar: SimilarStats | None = None


class AnswerCache:
    """Remembers answers in a file; any thread and any process may use it.

    A failure of the file never fails a question: it is logged, and the answer is computed. A file that is damaged is moved aside.
    When the budget is full, the answer with the least priority is removed: GreedyDual-Size-Frequency (Cherkasova, HP Labs
    HPL-98-69), with the time and money that an answer took as its cost.

    Args:
        path: The file; None keeps the answers in memory.
        ttl_seconds: Age at which an answer is not used any more; None for any age.
        max_bytes: Budget of the stored answers.
        namespace: Answers of one namespace are not found in another; name the tenant here if several share a file.
        similar: Also answers questions in other words; see `SimilarQuestions`. By default only equal questions hit.
        worth: Seconds that an answer is worth, for the choice of what to remove; by default the seconds it took, and an hour for
            each unit of money that it cost.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: An argument is out of range.
        StorageError: The file is of another program or version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        ttl_seconds: float | None = None,
        max_bytes: int = 256 << 20,
        namespace: str = "",
        similar: SimilarQuestions | None = None,
        worth: Callable[[Answer], float] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_positive(optional=True, ttl_seconds=ttl_seconds)
        check_whole(1, max_bytes=max_bytes)
        self._file = SqliteFile(path, _FORMAT, replaceable=True)
        self._ttl, self._max_bytes, self._namespace = ttl_seconds, max_bytes, namespace
        self._worth, self._clock = worth or _seconds_and_money, clock
        self._similar = None if similar is None else similar.bind(self._file, namespace)
        self._locks = KeyLocks(
            None if self._file.path is None else self._file.path.with_name(self._file.path.name + "-locks")
        )
        self._lock = threading.Lock()
        self._decoded: collections.OrderedDict[int, Answer] = collections.OrderedDict()
        self._counted: collections.Counter[int] = collections.Counter()

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what was counted, and close the file; idempotent."""
        with self._never_failing():
            self._flush()
        self._file.close()

    # Equal questions

    def get(self, key: AskKey) -> Answer | None:
        """Return the answer that was stored with an equal key; None if there is none, or if it is too old."""
        with self._never_failing():
            return self._read(self._id(key))
        return None

    def put(self, key: AskKey, answer: Answer) -> None:
        """Store an answer. An answer that is larger than the budget, or than 16 MiB, is not stored."""
        with self._never_failing():
            self._write(self._id(key), answer)

    def computing(self, key: AskKey, cancel: CancelToken) -> contextlib.AbstractContextManager[None]:
        """Hold the right to compute the answer of `key`; waits while another thread or process holds it.

        The wait ends after 30 seconds, and when the question is cancelled: then two compute the same answer.
        """
        return self._locks.hold(self._id(key).hex(), is_cancelled=lambda: cancel.cancelled)

    # Similar questions

    def find_similar(self, key: AskKey, fresh: FreshEvidence) -> Answer | None:
        """Return the answer to a similar question, if all gates of `SimilarQuestions` let it pass."""
        if self._similar is None:
            return None
        with self._never_failing():
            found = self._similar.find(key, fresh, self._load)
            if found is not None:
                self._count_hit(found.entry)
                return found.answer
        return None

    def put_similar(self, key: AskKey, answer: Answer, fresh: FreshEvidence) -> None:
        """Store an answer so that similar questions find it, and learn from it where a hit was audited."""
        if self._similar is None:
            return
        with self._never_failing():
            self._similar.learn(key, answer, fresh, self._load)
            if self._similar.admits(answer):
                entry = self._write(self._id(key), answer)
                if entry is not None:
                    self._similar.add(entry, key, fresh)

    # Removal

    def forget(self, document_ids: Iterable[str]) -> None:
        """Remove every answer that contains text of one of the documents.

        Raises:
            StorageError: The file cannot be written, so that the answers are still there.
        """
        with self._file.writing() as connection:
            for document_id in document_ids:
                rows = connection.execute(
                    "SELECT answer FROM sources WHERE document = ?", (_key_text(document_id),)
                ).fetchall()
                for (entry,) in rows:
                    self._delete(connection, entry)

    def clear(self) -> None:
        """Remove all answers, of all namespaces."""
        with self._file.writing() as connection:
            for (entry,) in connection.execute("SELECT id FROM answers").fetchall():
                self._delete(connection, entry)

    def stats(self) -> CacheStats:
        """Return what the cache holds and did."""
        self._flush()
        with self._file.reading() as connection:
            totals = dict(connection.execute("SELECT name, value FROM totals").fetchall())
            count = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        similar = None if self._similar is None else self._similar.stats()
        return CacheStats(
            count, int(totals["bytes"]), int(totals["hits"]), totals["saved_seconds"], int(totals["evicted"]), similar
        )

    # Helpers

    @contextlib.contextmanager
    def _never_failing(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            logger.warning("the answer is computed without the cache: %s", error)

    def _id(self, key: AskKey) -> bytes:
        return hashlib.sha256(f"{self._namespace}\0{key.sha256}".encode("utf-8", "surrogatepass")).digest()

    def _read(self, key: bytes) -> Answer | None:
        with self._file.reading() as connection:
            row = connection.execute("SELECT answer, written FROM keys WHERE key = ?", (key,)).fetchone()
            if row is None or self._is_old(row[1]):
                return None
            answer = self._load(row[0])
        if answer is not None:
            self._count_hit(row[0])
        return answer

    def _is_old(self, written: float) -> bool:
        """Return whether an answer is too old; one from the future, before the clock was set back, is too."""
        return self._ttl is not None and not 0 <= self._clock() - written < self._ttl

    def _load(self, entry: int) -> Answer | None:
        with self._lock:
            if (answer := self._decoded.get(entry)) is not None:
                self._decoded.move_to_end(entry)
        if answer is not None:  # it may have been removed by another process
            with self._file.reading() as connection:
                is_there = connection.execute("SELECT 1 FROM answers WHERE id = ?", (entry,)).fetchone()
            return answer if is_there else None
        with self._file.reading() as connection:
            row = connection.execute("SELECT value FROM answers WHERE id = ?", (entry,)).fetchone()
        if row is None:
            return None
        try:
            answer = Answer.from_json(zlib.decompress(row[0]))
        except (ValueError, zlib.error) as error:
            logger.warning("a stored answer cannot be read (%s); it is removed and computed again", error)
            with self._file.writing() as connection:
                self._delete(connection, entry)
            return None
        self._keep_decoded(entry, answer)
        return answer

    def _keep_decoded(self, entry: int, answer: Answer) -> None:
        with self._lock:
            self._decoded[entry] = answer
            while len(self._decoded) > _DECODED:
                self._decoded.popitem(last=False)

    def _write(self, key: bytes, answer: Answer) -> int | None:
        """Store an answer under a key, and return its entry; None if it cannot be stored."""
        if (known := self._find_entry(answer)) is not None:
            with self._file.writing() as connection:
                if connection.execute("SELECT 1 FROM answers WHERE id = ?", (known,)).fetchone():
                    self._set_key(connection, key, known)
                    return known
        return self._write_anew(key, answer)

    def _find_entry(self, answer: Answer) -> int | None:
        """Return the entry of an answer that was written or read just now: most answers are stored under two keys."""
        with self._lock:
            return next((entry for entry, other in reversed(self._decoded.items()) if other is answer), None)

    def _write_anew(self, key: bytes, answer: Answer) -> int | None:
        try:
            value = zlib.compress(answer.to_json().encode(), 1)
        except TypeError as error:  # a stage of the user's put other values into it
            logger.warning("the answer is not stored: %s", error)
            return None
        if len(value) > min(self._max_bytes, _MAX_ENTRY):
            return None
        digest = hashlib.sha256(value).digest()
        worth = self._worth(answer)
        with self._file.writing() as connection:
            row = connection.execute("SELECT id FROM answers WHERE digest = ?", (digest,)).fetchone()
            entry = row[0] if row else self._insert(connection, digest, value, worth, answer)
            self._set_key(connection, key, entry)
            self._make_room(connection, keep=entry)
        self._keep_decoded(entry, answer)
        return int(entry)

    def _set_key(self, connection: sqlite3.Connection, key: bytes, entry: int) -> None:
        previous = connection.execute("SELECT answer FROM keys WHERE key = ?", (key,)).fetchone()
        connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", (key, entry, self._clock()))
        if previous and previous[0] != entry:
            self._delete_unused(connection, previous[0])

    def _insert(self, connection: sqlite3.Connection, digest: bytes, value: bytes, worth: float, answer: Answer) -> int:
        size = len(value)
        cursor = connection.execute(
            "INSERT INTO answers (digest, value, bytes, worth, priority)"
            " VALUES (?, ?, ?, ?, ? + (SELECT value FROM totals WHERE name = 'aging'))",
            (digest, value, size, worth, worth / size),
        )
        entry = cursor.lastrowid
        assert entry is not None
        connection.executemany(
            "INSERT OR IGNORE INTO sources VALUES (?, ?)",
            [(_key_text(each), entry) for each in document_ids_of(answer)],
        )
        connection.execute("UPDATE totals SET value = value + ? WHERE name = 'bytes'", (size,))
        return entry

    def _make_room(self, connection: sqlite3.Connection, keep: int) -> None:
        while connection.execute("SELECT value FROM totals WHERE name = 'bytes'").fetchone()[0] > self._max_bytes:
            row = connection.execute(
                "SELECT id, priority FROM answers WHERE id != ? ORDER BY priority, id LIMIT 1", (keep,)
            ).fetchone()
            if row is None:
                return
            connection.execute("UPDATE totals SET value = max(value, ?) WHERE name = 'aging'", (row[1],))
            connection.execute("UPDATE totals SET value = value + 1 WHERE name = 'evicted'")
            self._delete(connection, row[0])

    def _delete_unused(self, connection: sqlite3.Connection, entry: int) -> None:
        if connection.execute("SELECT 1 FROM keys WHERE answer = ?", (entry,)).fetchone() is None:
            self._delete(connection, entry)

    def _delete(self, connection: sqlite3.Connection, entry: int) -> None:
        connection.execute(
            "UPDATE totals SET value = value - coalesce((SELECT bytes FROM answers WHERE id = ?), 0) WHERE name = 'bytes'",
            (entry,),
        )
        connection.execute("DELETE FROM keys WHERE answer = ?", (entry,))
        connection.execute("DELETE FROM sources WHERE answer = ?", (entry,))
        connection.execute("DELETE FROM answers WHERE id = ?", (entry,))
        removed = connection.execute("DELETE FROM questions WHERE entry = ?", (entry,)).rowcount
        connection.execute("UPDATE totals SET value = value + ? WHERE name = 'removals'", (removed,))
        with self._lock:
            self._decoded.pop(entry, None)

    def _count_hit(self, entry: int) -> None:
        with self._lock:
            self._counted[entry] += 1
            is_due = self._counted.total() >= _FLUSHED
        if is_due:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            counted, self._counted = self._counted, collections.Counter()
        if not counted:
            return
        with self._file.writing() as connection:
            (aging,) = connection.execute("SELECT value FROM totals WHERE name = 'aging'").fetchone()
            connection.executemany(
                "UPDATE answers SET hits = hits + :hits, priority = (1 + hits + :hits) * worth / bytes + :aging"
                " WHERE id = :entry",
                [{"hits": hits, "entry": entry, "aging": aging} for entry, hits in counted.items()],
            )
            connection.executemany(
                "UPDATE totals SET value = value + ? * coalesce((SELECT worth FROM answers WHERE id = ?), 0)"
                " WHERE name = 'saved_seconds'",
                [(hits, entry) for entry, hits in counted.items()],
            )
            connection.execute("UPDATE totals SET value = value + ? WHERE name = 'hits'", (counted.total(),))


def _seconds_and_money(answer: Answer) -> float:
    return answer.seconds + _HOUR * (answer.cost or 0.0)


def document_ids_of(answer: Answer) -> set[str]:
    """Return the ids of all documents whose text is in an answer, its prompt, or its packing."""
    hits = [hit for item in answer.packing.items for hit in (item.hit, *item.more)]
    hits += [item.hit for item in answer.packing.dropped]
    chunks = [chunk for hit in hits for chunk in (hit.chunk, *hit.copies)]
    return {chunk.document_id for chunk in chunks}


def _key_text(document_id: str) -> str | bytes:
    """Return a document id as SQLite can store it: lone surrogates of odd file names become bytes."""
    try:
        document_id.encode()
    except UnicodeEncodeError:
        return document_id.encode("utf-8", "surrogatepass")
    return document_id
