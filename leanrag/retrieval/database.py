"""The SQLite file of a store: opening, formats, transactions, and the right to write."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from leanrag.checks import ProcessGuard
from leanrag.errors import DamageError, LeanRAGError, StorageError
from leanrag.retrieval.schema import APPLICATION_ID, FORMAT, create, upgrade

__all__ = [
    "ANSWERS",
    "COSTS",
    "DATABASE",
    "DERIVED_SUFFIX",
    "OUTBOX_LOCK",
    "SHARDS",
    "Database",
    "DerivedKind",
    "is_database_file",
]

DATABASE, ANSWERS, COSTS = "leanrag.db", "answers.db", "costs.db"  # documents, cache of answers, ledger of the command
SHARDS = "shards.json"  # says how a corpus is divided, instead of a database
DerivedKind: TypeAlias = Literal["postings", "vectors"]
DERIVED_SUFFIX = ".bin"  # of the files of `derived_files`
_WRITER_LOCK, OUTBOX_LOCK = "writer.lock", "outbox.lock"
_FILE_NAMES = frozenset(
    name + suffix
    for name in (DATABASE, ANSWERS, COSTS, SHARDS, _WRITER_LOCK, OUTBOX_LOCK)
    for suffix in ("", "-wal", "-shm", "-journal")
)
_DERIVED_PREFIXES = tuple(f"{kind}-" for kind in get_args(DerivedKind))
_PAGE_BYTES = 8192  # of a new database: 5 vectors of 384 dimensions fill 94 % of a page; of 4096 bytes, 2 fill 75 %
_POLL_SECONDS = 0.02
_BUSY_SECONDS = 30.0  # longest wait for another process's commit


def is_database_file(path: Path) -> bool:
    """Return whether a file is part of a database: it has one of the names, and the database lies beside it."""
    is_derived = path.name.startswith(_DERIVED_PREFIXES) and path.name.endswith(DERIVED_SUFFIX)
    return (path.name in _FILE_NAMES or is_derived) and any(
        (path.parent / name).is_file() for name in (DATABASE, SHARDS)
    )


class Database:
    """A connection that writes, in turns, and connections that read, each used by one thread at a time.

    Readers wait neither for each other nor for a writer: they see the last commit.

    Args:
        folder: Where `leanrag.db` is, or will be.
        create: Make folder and database if they do not exist.

    Attributes:
        folder: The folder, absolute.
        path: The file.
        read_only: Whether nothing can be written.

    Raises:
        StorageError: There is nothing to open, or this version cannot read it.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.path = self.folder / DATABASE
        self._process = ProcessGuard()
        self._lock = threading.RLock()  # guards the connection that writes, held for one transaction
        self._used = threading.local()  # .connection: what the blocks of this thread use
        self._idle: list[sqlite3.Connection] = []  # that read; `append` and `pop` are atomic
        self._writer = threading.RLock()  # guards the right to write, held for a whole `writer` block
        self._writer_depth = 0
        self._connection: sqlite3.Connection | None = None  # that writes; None if nothing can be written
        self._is_open = False
        self._check_folder(create)
        connection, self.read_only = self._open()
        if self.read_only:
            self._idle.append(connection)
        else:
            self._connection = connection
        self._opened = self._file_number()
        self._is_open = True

    def _check_folder(self, create: bool) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise StorageError(f"{str(self.folder)!r} is a file; name a folder", path=self.folder)
        if self.path.is_dir():
            raise StorageError(f"{str(self.path)!r} is a folder, not a database; name another folder", path=self.path)
        if self.path.exists():
            return
        if not create:
            raise StorageError(
                f"there is no database in {str(self.folder)!r}. Add documents to it first with `leanrag add`, or name another"
                " folder",
                path=self.folder,
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the folder {str(self.folder)!r} ({error.strerror}). Check the permissions, or name another folder",
                path=self.folder,
            ) from error

    def _open(self) -> tuple[sqlite3.Connection, bool]:
        if _is_writable(self.folder) and (not self.path.exists() or _is_writable(self.path)):
            self._address = self.path.as_uri() + "?mode=rw"  # of readers: a file that vanished is not made anew
            return self._connect(self.path, read_only=False), False
        if not self.path.exists():
            raise StorageError(
                f"cannot make {str(self.path)!r}: the folder is read-only; make it writable or name another",
                path=self.path,
            )
        self._address = self.path.as_uri() + "?mode=ro"
        try:
            return self._connect(self._address, read_only=True), True
        except StorageError:
            # A reader of a write-ahead log needs a file of shared memory beside it. Where that cannot be made nobody
            # writes either, so that the database may be read as it is, unless the log contains commits.
            log = self.path.with_name(DATABASE + "-wal")
            if log.exists() and log.stat().st_size:
                raise
            self._address = self.path.as_uri() + "?immutable=1"
            return self._connect(self._address, read_only=True), True

    def _connect(self, address: str | Path, *, read_only: bool) -> sqlite3.Connection:
        with self._mapped():
            connection = sqlite3.connect(
                address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=read_only
            )
            try:
                self._check_format(connection, read_only)
                if not read_only:
                    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # without effect if there are tables
                    connection.execute("PRAGMA journal_mode = WAL")
                    _bring_up_to_date(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _check_format(self, connection: sqlite3.Connection, read_only: bool) -> None:
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and _pragma(connection, "application_id") != APPLICATION_ID:
            raise StorageError(
                f"{str(self.path)!r} is a database of another program; name another folder", path=self.path
            )
        version = _pragma(connection, "user_version")
        if version > FORMAT:
            raise StorageError(
                f"{str(self.path)!r} has format {version}, this version of leanrag reads up to {FORMAT}; "
                "upgrade leanrag, or add the documents to a new folder",
                path=self.path,
            )
        if read_only and version == 0:
            raise StorageError(f"{str(self.path)!r} is empty and read-only; make it writable", path=self.path)
        if read_only and version < FORMAT:
            raise StorageError(
                f"{str(self.path)!r} has format {version} and is read-only; this version of leanrag reads format {FORMAT}."
                " Make file and folder writable and open them once, which brings them to that format",
                path=self.path,
            )

    def close(self) -> None:
        """Close the database; idempotent."""
        if not self._process.is_here:  # a fork: another thread may have held the lock when it was made
            self._is_open, self._connection, self._idle = False, None, []
            return
        with self._lock:
            self._is_open = False
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()
        self._close_idle()  # a connection that is in use is closed at the end of its block

    def _close_idle(self) -> None:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took it
                self._idle.pop().close()

    # Errors

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise StorageError(f"{str(self.path)!r}: {error}{_advice(str(error))}", path=self.path) from error
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            raise self.damage(error) from error

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Turn what fails while stored values are decoded into `StorageError`."""
        try:
            yield
        except LeanRAGError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            raise self.damage(error) from error

    def damage(self, problem: object) -> DamageError:
        """Return the error for a file whose content is wrong."""
        return DamageError(
            f"{str(self.path)!r} is damaged or not a database ({problem}). `leanrag doctor` lists the damage, and `leanrag repair` "
            "repairs what can be repaired. If it cannot, restore it from a backup, or delete it and add the documents again",
            path=self.path,
        )

    # Access

    @contextmanager
    def reading(self, *, one_view: bool = False) -> Iterator[sqlite3.Connection]:
        """Hold a connection: inside another block of this thread that block's, else one that nobody else uses.

        Args:
            one_view: All statements of the block see the same commits.
        """
        self._check_process()
        used: sqlite3.Connection | None = getattr(self._used, "connection", None)
        with self._mapped():
            if used is not None:
                with _transaction(used, one_view and not used.in_transaction):
                    yield used
                return
            connection = self._take()
            try:
                with self._in_use(connection), _transaction(connection, one_view):
                    yield connection
            finally:
                self._idle.append(connection)
                if not self._is_open:
                    self._close_idle()

    def _check_process(self) -> None:
        self._process.check(
            repr(str(self.folder)),
            lambda message: StorageError(message, path=self.folder),
            advice="Open it again in this process",
        )

    def _closed(self) -> StorageError:
        return StorageError(f"{str(self.folder)!r} is closed; open it again", path=self.folder)

    def _take(self) -> sqlite3.Connection:
        """Return a connection that nobody uses."""
        if not self._is_open:
            raise self._closed()
        try:
            return self._idle.pop()
        except IndexError:
            return sqlite3.connect(
                self._address, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
            )

    @contextmanager
    def _in_use(self, connection: sqlite3.Connection) -> Iterator[None]:
        before = getattr(self._used, "connection", None)
        self._used.connection = connection
        try:
            yield
        finally:
            self._used.connection = before

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection that writes in a transaction: all of the block is committed, or nothing."""
        self._check_process()
        self._check_writable()
        with self._lock, self._mapped():
            connection = self._connection
            if connection is None:
                raise self._closed()
            with self._in_use(connection):
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    connection.rollback()
                    raise

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the right to write, for many transactions; other threads wait, other processes get an error.

        Raises:
            StorageError: Another process is writing, or the folder is read-only.
        """
        with self._writer:
            lock = self._take_file_lock(_WRITER_LOCK, 0, "is writing to {}") if self._writer_depth == 0 else None
            self._writer_depth += 1
            try:
                yield
            finally:
                self._writer_depth -= 1
                if lock is not None:
                    lock.close()

    def replace_content(self, source: sqlite3.Connection) -> None:
        """Put the content of another database in the place of the whole content, in one transaction."""
        self._check_process()
        self._check_writable()
        with self._lock, self._mapped():
            if self._connection is None:
                raise self._closed()
            source.backup(self._connection)

    @contextmanager
    def locked(self, name: str, seconds: float, action: str) -> Iterator[None]:
        """Hold a lock that only one thread of one process has; a process that dies gives it back.

        Args:
            name: File of the lock.
            seconds: Longest wait.
            action: What the other process does, for the message; "{}" stands for the folder.

        Raises:
            StorageError: Another thread or process holds it for too long, or the folder is read-only.
        """
        lock = self._take_file_lock(name, seconds, action)
        try:
            yield
        finally:
            lock.close()

    def _take_file_lock(self, name: str, seconds: float, action: str) -> sqlite3.Connection:
        # SQLite's own lock on an empty file: the same on every system, and freed by the kernel when a process dies.
        self._check_writable()
        until = time.monotonic() + seconds
        with self.reading():
            lock = sqlite3.connect(self.folder / name, timeout=0, isolation_level=None, check_same_thread=False)
            while True:
                try:
                    lock.execute("BEGIN EXCLUSIVE")
                    return lock
                except sqlite3.OperationalError as error:
                    if "locked" in str(error) and time.monotonic() < until:
                        time.sleep(_POLL_SECONDS)  # here, so that Ctrl-C ends the wait
                        continue
                    lock.close()
                    if "locked" not in str(error):
                        raise
                    raise StorageError(
                        f"another process {action.format(repr(str(self.folder)))}; try again when it is done",
                        path=self.folder,
                    ) from error
                except BaseException:
                    lock.close()
                    raise

    def _check_writable(self) -> None:
        if self.read_only:
            raise StorageError(f"{str(self.path)!r} is read-only; make file and folder writable", path=self.path)
        if (self.folder / SHARDS).exists():
            raise StorageError(
                f"{str(self.folder)!r} was divided into shards while it was open; open the folder again", path=self.path
            )
        if self._is_open and self._file_number() != self._opened:  # what is written to the old file is lost
            raise StorageError(
                f"{str(self.path)!r} was removed or replaced while it was open; open the folder again", path=self.path
            )

    def _file_number(self) -> tuple[int, int] | None:
        """Return what identifies the file, None if it does not exist."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def size_bytes(self) -> int:
        """Return the size of the file."""
        with self.reading() as connection:
            return _pragma(connection, "page_count") * _pragma(connection, "page_size")


@contextmanager
def _transaction(connection: sqlite3.Connection, is_wanted: bool) -> Iterator[None]:
    """Let all statements of the block see the same commits."""
    if not is_wanted:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.rollback()


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an older format to this one."""
    if _pragma(connection, "user_version") == FORMAT:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _pragma(connection, "user_version")  # another process may have been quicker
        if version == 0:
            create(connection)
        elif version < FORMAT:
            upgrade(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _is_writable(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _advice(problem: str) -> str:
    if "locked" in problem:
        return "; another process uses it, try again when it is done"
    if "full" in problem:
        return "; free some space and try again"
    if "fts5" in problem:
        return "; this Python's SQLite has no full-text search, use one from python.org or conda-forge"
    if "readonly" in problem or "unable to open" in problem:
        return "; check the permissions of file and folder"
    return ""
