"""A ledger in PostgreSQL, for programs on several machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from leanrag.adapters._postgres import PostgresConnections
from leanrag.checks import check_whole
from leanrag.errors import EngineError
from leanrag.ledger.book import COLUMNS, RecordedRow, RowLedger, values_of
from leanrag.ledger.budget import Budget

__all__ = ["PostgresLedger"]

_TABLE, _VERSION = "leanrag_stages", 1
_COUNTS = ("prompt_tokens", "cached_tokens", "completion_tokens", "full_tokens")
_TEXTS = ("stage", "model", "energy_method", "tier", "outcome")
_TYPES = dict.fromkeys(_COUNTS, "bigint") | dict.fromkeys(_TEXTS, "text")
_SCHEMA = f"""
CREATE TABLE {_TABLE} (
    number bigint GENERATED ALWAYS AS IDENTITY, time double precision NOT NULL, request text NOT NULL, part int NOT NULL,
    {", ".join(f"{name} {_TYPES.get(name, 'double precision')}" for name in COLUMNS)}, PRIMARY KEY (request, part)
)
"""
_LOCK = 0x6C72_6C65  # of PostgreSQL, while the table is made


class PostgresLedger(RowLedger):
    """Writes a row for each stage of each question into a table of PostgreSQL; programs on many machines share it.

    It does what `CostLedger` does: a budget counts what all of them have spent since midnight in UTC. Rows that cannot be written
    wait in memory. A row that may have been written before the connection broke is sent again, and is there once.

    Args:
        address: "postgresql://user@host:5432/database", or any other connection string of libpq.
        budget: What may be spent; see `Budget`.
        keep_days: Rows older than this are removed when the ledger is opened; None keeps all.
        watts: Power that this machine draws while it works; see `CostLedger`.
        clock: Seconds since the epoch. The clocks of the machines should agree: a row has the time of the machine that writes it.
        timeout_seconds: Longest wait for the server.

    Raises:
        ConfigurationError: An argument is out of range.
        EngineError: The server cannot be reached, refuses, or has a ledger of another version.
        MissingDependencyError: The package `psycopg` is not installed.

    Example:
        >>> ledger = PostgresLedger("postgresql://localhost/costs", budget=Budget(per_day=5.0))  # doctest: +SKIP
        >>> with leanrag.open("kb", ledger=ledger) as rag:  # doctest: +SKIP
        ...     rag.ask("Who signs off the releases?")
    """

    table, mark, order = _TABLE, "%s", "number"
    day = "to_char(to_timestamp(time) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"

    def __init__(
        self,
        address: str,
        *,
        budget: Budget | None = None,
        keep_days: int | None = None,
        watts: float | None = None,
        clock: Callable[[], float] = time.time,
        timeout_seconds: float = 5.0,
    ) -> None:
        check_whole(1, optional=True, keep_days=keep_days)
        super().__init__(budget=budget, watts=watts, clock=clock)
        self._server = PostgresConnections(
            address, timeout_seconds=timeout_seconds, extra="postgres", why="to keep a ledger in PostgreSQL"
        )
        try:
            with self._server.transaction() as connection:
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                self._check_table(connection)
                if keep_days is not None:
                    connection.execute(f"DELETE FROM {_TABLE} WHERE time < %s", (clock() - keep_days * 86_400,))
        except BaseException:
            self._server.close()
            raise

    def _check_table(self, connection: Any) -> None:
        found = connection.execute(
            "SELECT obj_description(to_regclass(%s), 'pg_class'), to_regclass(%s) IS NULL", (_TABLE, _TABLE)
        ).fetchone()
        name = f"leanrag ledger {_VERSION}"
        if found[1]:
            connection.execute(_SCHEMA)
            connection.execute(f"CREATE INDEX {_TABLE}_by_time ON {_TABLE} (time)")
            connection.execute(f"COMMENT ON TABLE {_TABLE} IS '{name}'")
        elif found[0] != name:
            raise EngineError(
                f"the table {_TABLE!r} of {self._server.name} is {found[0]!r}, but this version of leanrag reads {name!r}."
                " Rename the table, or use the version of leanrag that wrote it",
                engine=self._server.name,
            )

    def _reading(self) -> AbstractContextManager[Any]:
        return self._server.transaction()

    def _insert(self, rows: Sequence[RecordedRow]) -> None:
        marks = ", ".join(["%s"] * (3 + len(COLUMNS)))
        with self._server.transaction() as connection:
            connection.cursor().executemany(
                f"INSERT INTO {_TABLE} (time, request, part, {', '.join(COLUMNS)}) VALUES ({marks}) ON CONFLICT DO NOTHING",
                [(row.time, row.request, row.part, *values_of(row.row)) for row in rows],
            )

    def _close(self) -> None:
        self._server.close()
