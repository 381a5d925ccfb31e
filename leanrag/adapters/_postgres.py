"""Connections to PostgreSQL, with our errors instead of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from leanrag._optional import require
from leanrag.adapters._engines import late_error, refused_error, unreachable_error
from leanrag.checks import ProcessGuard, check_positive
from leanrag.errors import ConfigurationError, EngineError
from leanrag.stopping import time_limit

__all__ = ["PostgresConnections"]

_IDLE_SECONDS = 1.0  # after which a connection is tried before it is used: the server may have been started again
_GRACE_SECONDS = 0.5  # for a server to end a statement itself, before the connection is cut


class PostgresConnections:
    """Connections to one database; any thread may call. A forked child makes connections of its own.

    Args:
        address: "postgresql://user@host:5432/database", or any other connection string of libpq.
        timeout_seconds: Longest wait for the server, for connecting and for each transaction.
        extra: The extra of leanrag that installs the package.
        why: What the package is needed for.

    Attributes:
        name: The server and database, without a password.

    Raises:
        ConfigurationError: The address cannot be read, or the time is out of range.
        MissingDependencyError: The package `psycopg` is not installed.
    """

    def __init__(self, address: str, *, timeout_seconds: float, extra: str, why: str) -> None:
        check_positive(timeout_seconds=timeout_seconds)
        self._psycopg: Any = require("psycopg", extra=extra, why=why)
        try:
            parts = self._psycopg.conninfo.conninfo_to_dict(address)
        except self._psycopg.Error as error:
            raise ConfigurationError(
                "the address of PostgreSQL cannot be read; write it as 'postgresql://user@host:5432/database'"
            ) from error
        self.name = f"PostgreSQL {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
        self._address, self._seconds = address, timeout_seconds
        self._idle: list[tuple[Any, float]] = []  # connections, and when each was used last
        self._lock = threading.Lock()
        self._process = ProcessGuard()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """Hold a connection in a transaction: all of the block is committed, or nothing.

        Raises:
            EngineError: The server cannot be reached, does not answer in time, or refuses.
        """
        cut = threading.Event()
        with self._mapped(cut):
            connection = self._take()
            try:
                with self._guarded(connection, cut), connection.transaction():
                    yield connection
            except BaseException:
                if connection.broken or cut.is_set():
                    connection.close()
                raise
            finally:
                if not connection.closed:
                    with self._lock:
                        self._idle.append((connection, time.monotonic()))

    def close(self) -> None:
        """Close the connections that are not in use; idempotent."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._process.is_here:
            for connection, _ in idle:
                connection.close()

    def _take(self) -> Any:
        with self._lock:
            if not self._process.is_here:  # a fork: the connections belong to the parent
                self._idle, self._process = [], ProcessGuard()
            connection, used = self._idle.pop() if self._idle else (None, 0.0)
        if connection is not None and time.monotonic() - used > _IDLE_SECONDS:
            try:
                with self._guarded(connection, threading.Event()):
                    connection.execute("SELECT 1")
            except self._psycopg.OperationalError:
                connection.close()
                connection = None
        if connection is not None:
            return connection
        connection = self._psycopg.connect(
            self._address, autocommit=True, connect_timeout=max(2, round(self._seconds)), prepare_threshold=None
        )
        try:
            connection.execute(f"SET statement_timeout = {max(1, round(self._seconds * 1e3))}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _guarded(self, connection: Any, cut: threading.Event) -> contextlib.AbstractContextManager[object]:
        """Cut the connection, and set `cut`, when the block takes longer than the server may."""
        return time_limit(self._seconds + _GRACE_SECONDS, lambda: _cut(connection, cut))

    @contextlib.contextmanager
    def _mapped(self, cut: threading.Event) -> Iterator[None]:
        """Turn the errors of PostgreSQL into ours."""
        kinds = self._psycopg.errors
        try:
            yield
        except self._psycopg.Error as error:
            problem = " ".join(str(error).split()).rstrip(".?")
            if cut.is_set() or isinstance(error, (kinds.QueryCanceled, kinds.ConnectionTimeout)):
                raise late_error(self.name, self._seconds) from error
            if isinstance(error, (kinds.DiskFull, kinds.OutOfMemory, kinds.TooManyConnections)):
                message = f"{self.name} {problem}. Free space or connections of the server"
                raise EngineError(message, engine=self.name, retryable=True) from error
            if isinstance(error, kinds.InsufficientPrivilege):
                message = f"{self.name} {problem}. Grant the user the right to make and change tables"
                raise EngineError(message, engine=self.name) from error
            if isinstance(error, (self._psycopg.OperationalError, self._psycopg.InterfaceError)):
                raise unreachable_error(self.name, problem) from error
            raise refused_error(self.name, problem) from error


def _cut(connection: Any, cut: threading.Event) -> None:
    """End a connection to a server that does not answer, so that nobody waits for it."""
    cut.set()
    with contextlib.suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as other:
        other.shutdown(socket.SHUT_RDWR)
