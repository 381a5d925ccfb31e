"""The outbox: which chunks changed, in the order of the commits, for an engine elsewhere that has their vectors, too.

Triggers of SQLite write it in the transaction that changes the chunks, whichever process or version of leanrag that is. An event
names a chunk, not what happened to it: who reads the event reads the chunk as it is now. To read it twice, or late, does no harm.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanrag.retrieval.database import OUTBOX_LOCK, Database
from leanrag.retrieval.entries import VECTOR_TYPE
from leanrag.retrieval.integrity import leave_out_damaged
from leanrag.retrieval.schema import rows_by_id
from leanrag.retrieval.tags import tags_of

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["ChunkRows", "ForgottenError", "Outbox", "Position"]

KEPT = 100_000  # events; an engine that is further behind is filled anew
_MOST_SECONDS = 600.0  # longest wait for another process that delivers

_EVENT = "INSERT INTO outbox (chunk)"
_SCHEMA = (
    """
CREATE TABLE outbox (
    position INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, token TEXT NOT NULL DEFAULT (hex(randomblob(8)))
)
""",
    f"{_EVENT} VALUES (0)",
    f"CREATE TRIGGER outbox_added AFTER INSERT ON vectors BEGIN {_EVENT} VALUES (new.chunk); END",
    f"CREATE TRIGGER outbox_changed AFTER UPDATE ON vectors BEGIN {_EVENT} VALUES (new.chunk); END",
    f"CREATE TRIGGER outbox_removed AFTER DELETE ON vectors BEGIN {_EVENT} VALUES (old.chunk); END",
    f"""
CREATE TRIGGER outbox_described AFTER UPDATE OF metadata ON documents BEGIN
    {_EVENT} SELECT id FROM chunks WHERE document = new.key;
END
""",
    f"""
CREATE TRIGGER outbox_shortened AFTER INSERT ON outbox BEGIN
    DELETE FROM outbox WHERE position <= new.position - {KEPT};
END
""",
)


class ForgottenError(LookupError):
    """Events were dropped that somebody still needed."""


@dataclass(frozen=True, slots=True)
class Position:
    """A point in the history of a folder.

    Attributes:
        folder: Identity of the folder; a copy of it has the same.
        epoch: Identity of the outbox; another one when it was made again.
        number: The event; all before it have happened too.
        token: Random text of the event. Two histories that differ have different tokens.
    """

    folder: str
    epoch: str
    number: int
    token: str


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRows:
    """Chunks as an engine keeps them.

    Attributes:
        ids: Int64 `(n,)`.
        vectors: Float32 `(n, dim)`, rows with norm 1.
        tags: Of each chunk, what `leanrag.retrieval.tags` makes of the metadata of its document.
    """

    ids: Ids
    vectors: Vectors
    tags: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls, dim: int) -> ChunkRows:
        """Return no chunks, with vectors of `dim` columns."""
        return cls(np.empty(0, np.int64), np.empty((0, dim), np.float32), [])


class Outbox:
    """The outbox of a folder. It is made when it is first used; a folder without an engine has none.

    Args:
        database: The database of the folder.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.read_only = database.read_only

    @property
    def folder(self) -> str:
        """The path of the folder, for messages."""
        return str(self._database.folder)

    def delivering(self) -> AbstractContextManager[None]:
        """Hold the right to deliver: of all threads and processes, only one brings changes to an engine.

        Raises:
            StorageError: Another process holds it for too long.
        """
        return self._database.locked(OUTBOX_LOCK, _MOST_SECONDS, "brings the changes of {} to an engine")

    def head(self) -> Position:
        """Return the last event; makes the outbox if there is none.

        Raises:
            StorageError: There is none, and the folder is read-only.
        """
        with self._database.reading(one_view=True) as connection, self._database.decoding():
            if _has_outbox(connection):
                return _read_head(connection)
        with self._database.writing() as connection:
            if not _has_outbox(connection):
                _create(connection)
            return _read_head(connection)

    def token_at(self, number: int) -> str | None:
        """Return the token of an event; None if it is not kept any more, or has not happened."""
        with self._database.reading() as connection:
            row = connection.execute("SELECT token FROM outbox WHERE position = ?", (number,)).fetchone()
        return row[0] if row else None

    def changes(self, after: Position, most: int, dim: int) -> tuple[ChunkRows, Ids, Position]:
        """Return the chunks of the next events as they are now, the ids of those that are gone, and the last event.

        Args:
            after: Only later events count.
            most: Most events.
            dim: Columns of the vectors.

        Raises:
            ForgottenError: `after` is not kept any more, so that events may be missing.
        """
        with self._database.reading(one_view=True) as connection:
            first, *events = connection.execute(
                "SELECT position, token, chunk FROM outbox WHERE position >= ? ORDER BY position LIMIT ?",
                (after.number, most + 1),
            ).fetchall() or [None]
            if first is None or first[1] != after.token:
                raise ForgottenError(f"the outbox of {self.folder!r} does not keep event {after.number!r} any more")
            if not events:
                return ChunkRows.none(dim), np.empty(0, np.int64), after
            ids = sorted({chunk for *_, chunk in events})
            rows = self._rows(connection, ids, dim)
        removed = np.setdiff1d(np.array(ids, np.int64), rows.ids)
        return rows, removed, Position(after.folder, after.epoch, events[-1][0], events[-1][1])

    def all_chunks(self, after: int, most: int, dim: int) -> Iterator[tuple[ChunkRows, int]]:
        """Yield all chunks whose id is above `after`, ascending, in parts of `most`, each with its highest id."""
        while True:
            with self._database.reading(one_view=True) as connection:
                found = connection.execute(
                    "SELECT chunk FROM vectors WHERE chunk > ? ORDER BY chunk LIMIT ?", (after, most)
                )
                ids = [row[0] for row in found]
                if not ids:
                    return
                rows = self._rows(connection, ids, dim)
            after = ids[-1]
            yield rows, after

    def _rows(self, connection: sqlite3.Connection, ids: Sequence[int], dim: int) -> ChunkRows:
        """Return those of the chunks that exist, by ascending id; damaged vectors are left out."""
        found = rows_by_id(
            connection, "SELECT chunk, data, document FROM vectors JOIN chunks ON id = chunk WHERE chunk IN ({})", ids
        )
        blobs = [(number, found[number][0]) for number in sorted(found)]
        blobs = leave_out_damaged(blobs, dim, self._database.folder)
        vectors = np.frombuffer(b"".join(blob for _, blob in blobs), VECTOR_TYPE).astype(np.float32)
        documents = [found[number][1] for number, _ in blobs]
        tags = {key: _read_tags(connection, key) for key in set(documents)}
        return ChunkRows(
            np.array([number for number, _ in blobs], np.int64),
            vectors.reshape(len(blobs), dim),
            [tags[key] for key in documents],
        )


def _read_tags(connection: sqlite3.Connection, document: int) -> tuple[int, ...]:
    return tags_of(connection.execute("SELECT name, value FROM fields WHERE document = ?", (document,)))


def _has_outbox(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'outbox'").fetchone()[0])


def _create(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)
    row = connection.execute("SELECT value FROM meta WHERE key = 'outbox'").fetchone()
    folder = json.loads(row[0])["folder"] if row else secrets.token_hex(16)
    value = json.dumps({"folder": folder, "epoch": secrets.token_hex(8)})
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('outbox', ?)", (value,))


def _read_head(connection: sqlite3.Connection) -> Position:
    identity = json.loads(connection.execute("SELECT value FROM meta WHERE key = 'outbox'").fetchone()[0])
    row = connection.execute("SELECT position, token FROM outbox ORDER BY position DESC LIMIT 1").fetchone()
    return Position(identity["folder"], identity["epoch"], *row)
