"""Vectors in PostgreSQL, with the extension pgvector."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag.adapters._postgres import PostgresConnections
from leanrag.errors import ConfigurationError, EngineError, IndexMismatchError
from leanrag.retrieval.engine_index import EngineIndex, EngineState
from leanrag.retrieval.outbox import ChunkRows
from leanrag.retrieval.tags import AllOf, HasTag, Not, TagFilter

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["PgVectorIndex"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")  # PostgreSQL cuts names after 63 bytes
_LEAST_VERSION = (0, 5)  # of pgvector: the first with HNSW
_MOST_INDEXED = 2000  # columns that HNSW of pgvector can have
_LEAST_WIDTH, _MOST_WIDTH = 100, 1000  # rows that a search of the graph keeps in mind
_WIDER = 2  # times as many rows in mind as wanted
_LOCK = 0x6C72_6167  # of PostgreSQL, while tables are made


class PgVectorIndex(EngineIndex):
    """Keeps the vectors of a folder in a table of PostgreSQL, with the extension pgvector 0.5 or later.

    The table has an HNSW index. Searches whose filter allows few rows compare all of these. The user needs the right to make
    tables and, where the extension is not there yet, to make it.

    Args:
        address: "postgresql://user@host:5432/database", or any other connection string of libpq.
        collection: Name of the table; each folder, and each namespace of a folder, needs one of its own.
        timeout_seconds: Longest wait for the server, for connecting and for each transaction.

    Raises:
        ConfigurationError: An argument is out of range.
        MissingDependencyError: The package `psycopg` is not installed.

    Example:
        >>> index = PgVectorIndex("postgresql://localhost/kb", collection="handbook")  # doctest: +SKIP
        >>> with leanrag.open("kb", index=index) as rag:  # doctest: +SKIP
        ...     rag.search("Who signs off the releases?")
    """

    def __init__(self, address: str, *, collection: str = "leanrag", timeout_seconds: float = 30.0) -> None:
        if not _NAME.fullmatch(collection):
            raise ConfigurationError(
                "`collection` must be 1 to 40 characters, each a lower-case letter, a digit or '_', a letter first; "
                f"got {collection!r}"
            )
        server = PostgresConnections(
            address, timeout_seconds=timeout_seconds, extra="postgres", why="to keep vectors in PostgreSQL"
        )
        super().__init__(_PgVectorEngine(server, collection))


class _PgVectorEngine:
    """A table of vectors, and a table of one row for the state."""

    def __init__(self, server: PostgresConnections, table: str) -> None:
        self._server, self._name = server, table
        self._table, self._state = f'"{table}"', f'"{table}_state"'
        self.name = f"the table {table!r} of {server.name}"
        self._dim = 0

    def open(self, dim: int) -> EngineState | None:
        with self._server.transaction() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            self._check_extension(connection)
            self._check_table(connection, dim)
            row = connection.execute(f"SELECT value FROM {self._state}").fetchone()
        self._dim = dim
        return None if row is None else self._read_state(row[0])

    def _read_state(self, text: str) -> EngineState:
        try:
            return EngineState.from_json(text)
        except ValueError as error:
            raise IndexMismatchError(
                f"{self.name} was not written by this version of leanrag ({error}). Name another collection, or drop the table"
            ) from error

    def _check_extension(self, connection: Any) -> None:
        query = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        row = connection.execute(query).fetchone()
        if row is None:
            if connection.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'").fetchone() is None:
                raise EngineError(
                    f"{self._server.name} has no extension `vector`. Install pgvector on the server", engine=self.name
                )
            connection.execute("CREATE EXTENSION vector")
            row = connection.execute(query).fetchone()
        if tuple(map(int, re.findall(r"\d+", row[0])[:2])) < _LEAST_VERSION:
            raise EngineError(
                f"{self._server.name} has pgvector {row[0]}, but leanrag needs 0.5 or later. Install it on the server and run "
                "ALTER EXTENSION vector UPDATE",
                engine=self.name,
            )

    def _check_table(self, connection: Any, dim: int) -> None:
        """Make the tables and the index, or check that they are what leanrag makes."""
        columns = {"id": "bigint", "vector": f"vector({dim})", "tags": "bigint[]"}
        found = dict(
            connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                (self._table,),
            ).fetchall()
        )
        if found and found != columns:
            is_ours = found | {"vector": ""} == columns | {"vector": ""} and found.get("vector", "").startswith(
                "vector("
            )
            problem = f"has vectors of type {found.get('vector')}" if is_ours else "was not made by leanrag"
            raise IndexMismatchError(
                f"{self.name} {problem}, but the folder has vectors of {dim} columns. Name another collection, or drop the table"
            )
        if not found:
            connection.execute(
                f"CREATE TABLE {self._table} (id bigint PRIMARY KEY, vector vector({dim}) NOT NULL, tags bigint[] NOT NULL)"
            )
            connection.execute(f'CREATE INDEX "{self._name}_by_tags" ON {self._table} USING gin (tags)')
            if dim <= _MOST_INDEXED:
                connection.execute(
                    f'CREATE INDEX "{self._name}_by_vector" ON {self._table} USING hnsw (vector vector_ip_ops)'
                )
            connection.execute(f"DROP TABLE IF EXISTS {self._state}")
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {self._state} (id int PRIMARY KEY CHECK (id = 1), value text NOT NULL)"
        )
        index = connection.execute(
            "SELECT indexdef FROM pg_indexes WHERE indexname = %s", (f"{self._name}_by_vector",)
        ).fetchone()
        if index is not None and "vector_ip_ops" not in index[0]:
            raise IndexMismatchError(
                f"{self.name} has an index of another metric ({index[0]}), but leanrag needs vector_ip_ops. Drop that index"
            )

    def clear(self) -> None:
        with self._server.transaction() as connection:
            connection.execute(f"TRUNCATE {self._table}, {self._state}")

    def write(self, rows: ChunkRows, removed: Ids, state: EngineState) -> None:
        with self._server.transaction() as connection:
            if len(removed):
                connection.execute(f"DELETE FROM {self._table} WHERE id = ANY(%s)", (removed.tolist(),))
            if len(rows):
                connection.execute(
                    f"INSERT INTO {self._table} (id, vector, tags)"
                    " SELECT id, vector::vector, tags::bigint[]"
                    " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS rows (id, vector, tags)"
                    " ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, tags = excluded.tags",
                    (rows.ids.tolist(), list(map(str, rows.vectors.tolist())), [_array(tags) for tags in rows.tags]),
                )
            connection.execute(
                f"INSERT INTO {self._state} VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET value = excluded.value",
                (state.to_json(),),
            )

    def count(self) -> int:
        with self._server.transaction() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0])

    def search(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> list[tuple[list[float], list[int]]]:
        condition, values = _condition(allowed)
        has_graph = self._dim <= _MOST_INDEXED and k * _WIDER <= _MOST_WIDTH and not isinstance(allowed, np.ndarray)
        results = []
        with self._server.transaction() as connection:
            if has_graph:
                connection.execute(f"SET LOCAL hnsw.ef_search = {max(_LEAST_WIDTH, k * _WIDER)}")
            for query in map(str, queries.tolist()):
                rows = []
                if has_graph:
                    rows = connection.execute(
                        f"SELECT -(vector <#> %s::vector), id FROM {self._table} WHERE {condition}"
                        " ORDER BY vector <#> %s::vector LIMIT %s",
                        (query, *values, query, k),
                    ).fetchall()
                if len(rows) < k:  # the filter left out what the graph found, or there are no more rows
                    rows = connection.execute(
                        f"WITH allowed AS MATERIALIZED (SELECT id, vector FROM {self._table} WHERE {condition})"
                        " SELECT -(vector <#> %s::vector) AS score, id FROM allowed ORDER BY score DESC, id LIMIT %s",
                        (*values, query, k),
                    ).fetchall()
                results.append(([score for score, _ in rows], [number for _, number in rows]))
        return results

    def close(self) -> None:
        self._server.close()


def _array(tags: Sequence[int]) -> str:
    """Return an array as PostgreSQL reads it."""
    return "{" + ",".join(map(str, tags)) + "}"


def _condition(allowed: Ids | TagFilter | None) -> tuple[str, list[Any]]:
    """Return the condition that a row may be found, and its values."""
    if allowed is None:
        return "true", []
    if isinstance(allowed, np.ndarray):
        return "id = ANY(%s::bigint[])", [allowed.tolist()]
    if isinstance(allowed, HasTag):
        return "tags && %s::bigint[]", [list(allowed.tags)]
    if isinstance(allowed, Not):
        condition, values = _condition(allowed.part)
        return f"NOT ({condition})", values
    parts = [_condition(part) for part in allowed.parts]
    is_all = isinstance(allowed, AllOf)
    if not parts:
        return ("true" if is_all else "false"), []
    joined = (" AND " if is_all else " OR ").join(f"({condition})" for condition, _ in parts)
    return joined, [value for _, values in parts for value in values]
