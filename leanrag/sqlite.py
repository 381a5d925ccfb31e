"""SQLite files of values that leanrag keeps beside its databases: caches and ledgers.

Any thread may use a file, and many processes may use the same file. A forked child gets a connection of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leanrag.checks import ProcessGuard
from leanrag.errors import StorageError

__all__ = ["SqliteFile", "SqliteFormat", "close_with", "damage_of", "remove_file"]

logger = logging.getLogger(__name__)

_BUSY_SECONDS = 10.0  # longest wait for the commit of another process


@dataclass(frozen=True, slots=True)
class SqliteFormat:
    """What a kind of file contains.

    Attributes:
        noun: The noun for such a file in an error, such as "answer cache".
        application_id: In the header of the file; no other kind of file has it.
        version: Version of the tables; a file of another version is refused.
        schema: Statements that make the tables, each ended by a semicolon and a new line.
        mend: What an error tells the user to do.
    """

    noun: str
    application_id: int
    version: int
    schema: str
    mend: str


class SqliteFile:
    """A SQLite file of one kind.

    Args:
        path: The file; it and its folder are made if they do not exist. None keeps everything in memory.
        kind: What the file contains.
        replaceable: Whether a damaged file is moved aside and begun anew, because all of it can be computed again.

    Raises:
        StorageError: The file cannot be opened, is damaged, or is of another kind or version.
    """

    def __init__(self, path: str | os.PathLike[str] | None, kind: SqliteFormat, *, replaceable: bool = False) -> None:
        self.path = None if path is None else Path(path).expanduser().absolute()
        self._kind = kind
        self._lock = threading.RLock()
        self._process = ProcessGuard()
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = self._open()
        except _DamageError as error:
            if not replaceable or self.path is None:
                raise self._damage(error) from error
            self._move_aside(error)
            self._connection = self._open()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection.

        Raises:
            StorageError: The file is closed or damaged.
        """
        with self._held() as connection, self._mapped():
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection in a transaction: all of the block is committed, or nothing.

        Raises:
            StorageError: The file is closed or damaged, or cannot be written.
        """
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.rollback()
                raise

    def close(self) -> None:
        """Close the file; idempotent."""
        # in a fork, the connection belongs to the parent, and another thread may hold the lock
        if not self._process.is_here:
            self._connection = None
            return
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    @contextlib.contextmanager
    def _held(self) -> Iterator[sqlite3.Connection]:
        if not self._process.is_here:
            was_open, self._lock, self._process = self._connection is not None, threading.RLock(), ProcessGuard()
            self._connection = self._open() if was_open and self.path is not None else None
        with self._lock:
            if self._connection is None:
                raise StorageError(f"the {self._kind.noun} {self._name} is closed; open it again", path=self.path or "")
            yield self._connection

    @property
    def _name(self) -> str:
        return "in memory" if self.path is None else repr(str(self.path))

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"the {self._kind.noun} {self._name} cannot be used: {error}. Check the folder, its permissions and the free space",
                path=self.path or "",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damage(error) from error

    def _damage(self, problem: object) -> StorageError:
        return StorageError(
            f"the {self._kind.noun} {self._name} is damaged ({problem}). {self._kind.mend}", path=self.path or ""
        )

    def _open(self) -> sqlite3.Connection:
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self.path or ":memory:", timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.OperationalError) as error:
            raise StorageError(
                f"the {self._kind.noun} {self._name} cannot be opened ({error}). Check the folder and its permissions",
                path=self.path or "",
            ) from error
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        close_with(self, connection)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # after a power cut the last commits may be missing, whole
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA secure_delete = ON")  # what is removed is overwritten
            connection.execute("BEGIN IMMEDIATE")
            application_id, version = (
                connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if is_new:
                for statement in self._kind.schema.split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {self._kind.application_id}")
                connection.execute(f"PRAGMA user_version = {self._kind.version}")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            with self._mapped():
                raise error
        except sqlite3.DatabaseError as error:
            raise _DamageError(str(error)) from error
        if not is_new:
            self._check_format(application_id, version)

    def _check_format(self, application_id: int, version: int) -> None:
        if application_id != self._kind.application_id:
            raise StorageError(
                f"the {self._kind.noun} {self._name} cannot be opened, because the file is another kind of database. Name another "
                "file",
                path=self.path or "",
            )
        if version != self._kind.version:
            raise StorageError(
                f"the {self._kind.noun} {self._name} has version {version}, but this version of leanrag reads version "
                f"{self._kind.version}. {self._kind.mend}, or use the version of leanrag that wrote it",
                path=self.path or "",
            )

    def _move_aside(self, problem: Exception) -> None:
        assert self.path is not None
        aside = self.path.with_name(self.path.name + ".damaged")
        logger.warning(
            "the %s %s is damaged (%s); it was moved to %r and begun anew",
            self._kind.noun,
            self._name,
            problem,
            str(aside),
        )
        self.path.replace(aside)
        remove_file(self.path)


def close_with(owner: object, connection: sqlite3.Connection) -> None:
    """Close `connection` when `owner` is forgotten. Python 3.13 warns of connections that nobody closed."""
    weakref.finalize(owner, connection.close).atexit = False


def damage_of(path: Path) -> str | None:
    """Return what is wrong with the pages of a SQLite file; None if nothing is, or the file does not exist."""
    if not path.is_file():
        return None
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_SECONDS)) as connection:
            problem = str(connection.execute("PRAGMA integrity_check (1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return None if problem == "ok" else problem.replace("\n", "; ")


def remove_file(path: Path) -> None:
    """Remove a SQLite file with its logs.

    Raises:
        StorageError: It cannot be removed.
    """
    try:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot remove {str(path)!r} ({error}). Remove it yourself", path=path) from error


class _DamageError(Exception):
    """The bytes of the file are not those of a database."""
