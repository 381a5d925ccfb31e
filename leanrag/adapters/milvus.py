"""Vectors in Milvus."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag._optional import require
from leanrag.adapters._engines import late_error, refused_error, unreachable_error
from leanrag.checks import check_positive
from leanrag.errors import ConfigurationError, EngineError, IndexMismatchError
from leanrag.retrieval.engine_index import EngineIndex, EngineState
from leanrag.retrieval.outbox import ChunkRows
from leanrag.retrieval.tags import AllOf, HasTag, Not, TagFilter

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["MilvusIndex"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_LEAST_VERSION = (2, 4)  # the first whose arrays can be searched for several values
_MOST_TAGS = 4096  # entries of an array in Milvus
_MOST_TEXT = 65_535  # bytes of a text in Milvus
_MOST_FOUND = 16_384  # rows of one search in Milvus
_NO_ROW = "id < 0"


class MilvusIndex(EngineIndex):
    """Keeps the vectors of a folder in a collection of Milvus 2.4 or later.

    How far the folder has come is kept in a second collection, whose name ends with "_state".

    Args:
        server: Its address, such as "http://localhost:19530", or a `MilvusClient`.
        collection: Name of the collection; each folder, and each namespace of a folder, needs one of its own.
        token: Token of the server, if `server` is an address: a key, or "user:password".
        timeout_seconds: Longest wait for an answer of the server.

    Raises:
        ConfigurationError: An argument is out of range.
        MissingDependencyError: The package `pymilvus` is not installed.

    Example:
        >>> index = MilvusIndex("http://localhost:19530", collection="handbook")  # doctest: +SKIP
        >>> with leanrag.open("kb", index=index) as rag:  # doctest: +SKIP
        ...     rag.search("Who signs off the releases?")
    """

    def __init__(
        self, server: str | Any, *, collection: str = "leanrag", token: str = "", timeout_seconds: float = 30.0
    ) -> None:
        if not _NAME.fullmatch(collection):
            raise ConfigurationError(
                f"`collection` must be 1 to 200 letters, digits and '_', a letter first, got {collection!r}"
            )
        check_positive(timeout_seconds=timeout_seconds)
        super().__init__(_MilvusEngine(server, collection, token, timeout_seconds))


class _MilvusEngine:
    """A collection of vectors, and a collection of one row for the state."""

    def __init__(self, server: str | Any, collection: str, token: str, seconds: float) -> None:
        self._package: Any = require("pymilvus", extra="milvus", why="to keep vectors in Milvus")
        grpc: Any = require("grpc", extra="milvus", why="")
        self._errors = (self._package.MilvusException, grpc.RpcError, OSError)
        logging.getLogger("pymilvus").addHandler(logging.NullHandler())
        self._address, self._token, self._seconds = server, token, seconds
        self._client: Any = None if isinstance(server, str) else server
        self._collection, self._state = collection, f"{collection}_state"
        self._lock = threading.RLock()  # held while the client and the collections are made
        address = server if isinstance(server, str) else type(server).__name__
        self.name = f"the collection {collection!r} of Milvus {address}"

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._package.MilvusClient(self._address, token=self._token, timeout=self._seconds)
            return self._client

    def open(self, dim: int) -> EngineState | None:
        with self._mapped(), self._lock:
            client = self._connected()
            version = str(client.get_server_version(timeout=self._seconds))
            numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
            if "lite" not in version and numbers < _LEAST_VERSION:
                raise EngineError(
                    f"{self.name} has version {version}, but leanrag needs 2.4 or later. Upgrade the server",
                    engine=self.name,
                )
            if not client.has_collection(self._collection, timeout=self._seconds):
                if client.has_collection(self._state, timeout=self._seconds):
                    client.drop_collection(self._state, timeout=self._seconds)
                self._create(self._collection, dim)
            self._check(dim)
            if not client.has_collection(self._state, timeout=self._seconds):
                self._create_state()
            rows = client.query(self._state, filter="id == 1", output_fields=["value"], timeout=self._seconds)
        try:
            return EngineState.from_json(rows[0]["value"]) if rows else None
        except (ValueError, KeyError) as error:
            raise IndexMismatchError(
                f"{self.name} was not written by this version of leanrag ({error}). Name another collection, or drop it"
            ) from error

    def _create(self, name: str, dim: int) -> None:
        kinds = self._package.DataType
        schema = self._package.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        schema.add_field("tags", kinds.ARRAY, element_type=kinds.INT64, max_capacity=_MOST_TAGS)
        self._make(name, schema)

    def _create_state(self) -> None:
        kinds = self._package.DataType
        schema = self._package.MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=2)  # Milvus has no collection without a vector
        schema.add_field("value", kinds.VARCHAR, max_length=_MOST_TEXT)
        self._make(self._state, schema)

    def _make(self, name: str, schema: Any) -> None:
        index = self._package.MilvusClient.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="COSINE")
        self._client.create_collection(
            name, schema=schema, index_params=index, consistency_level="Strong", timeout=self._seconds
        )

    def _check(self, dim: int) -> None:
        client = self._client
        fields = {
            field["name"]: field
            for field in client.describe_collection(self._collection, timeout=self._seconds)["fields"]
        }
        indexes = client.list_indexes(self._collection, field_name="vector") if "vector" in fields else []
        metrics = {client.describe_index(self._collection, name).get("metric_type") for name in indexes}
        found = fields.get("vector", {}).get("params", {}).get("dim")
        if fields.keys() != {"id", "vector", "tags"} or int(found or 0) != dim or metrics != {"COSINE"}:
            raise IndexMismatchError(
                f"{self.name} has the fields {sorted(fields)}, vectors of {found} columns and metrics {sorted(map(str, metrics))},"
                f" but the folder has {dim} columns and leanrag needs COSINE. Name another collection, or drop it"
            )

    def clear(self) -> None:
        with self._mapped():
            self._client.delete(self._state, ids=[1], timeout=self._seconds)
            self._client.delete(self._collection, filter="id >= 0", timeout=self._seconds)

    def write(self, rows: ChunkRows, removed: Ids, state: EngineState) -> None:
        if max(map(len, rows.tags), default=0) > _MOST_TAGS:
            raise EngineError(
                f"{self.name} keeps at most {_MOST_TAGS} tags of a chunk, and a document has more values of metadata. Remove some"
                " with `update`, or use another engine",
                engine=self.name,
            )
        with self._mapped():
            if len(rows):
                columns = zip(rows.ids.tolist(), rows.vectors.tolist(), rows.tags, strict=True)
                data = [{"id": number, "vector": vector, "tags": list(tags)} for number, vector, tags in columns]
                self._client.upsert(self._collection, data, timeout=self._seconds)
            if len(removed):
                self._client.delete(self._collection, ids=removed.tolist(), timeout=self._seconds)
            row = {"id": 1, "vector": [1.0, 0.0], "value": state.to_json()}
            self._client.upsert(self._state, [row], timeout=self._seconds)  # last: what the state says has been written

    def count(self) -> int:
        with self._mapped():
            rows = self._client.query(self._collection, filter="", output_fields=["count(*)"], timeout=self._seconds)
            return int(rows[0]["count(*)"])

    def search(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> list[tuple[list[float], list[int]]]:
        with self._mapped():
            found = self._client.search(
                self._collection,
                data=queries.tolist(),
                limit=min(k, _MOST_FOUND),
                filter="" if allowed is None else _condition(allowed),
                output_fields=["id"],
                timeout=self._seconds,
            )
        return [([row["distance"] for row in rows], [row["id"] for row in rows]) for rows in found]

    def close(self) -> None:
        if isinstance(self._address, str) and self._client is not None:
            self._client.close()
            self._client = None

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the errors of the client into ours."""
        try:
            yield
        except self._errors as error:
            text = " ".join(str(error).split())[:300]
            if "deadline" in text.lower() or "timeout" in text.lower():
                raise late_error(self.name, self._seconds) from error
            if "connect" in text.lower() or "unavailable" in text.lower():
                raise unreachable_error(self.name, text) from error
            raise refused_error(self.name, text) from error


def _condition(allowed: Ids | TagFilter) -> str:
    """Return the condition that a row may be found."""
    if isinstance(allowed, np.ndarray):
        return f"id in {allowed.tolist()}"
    if isinstance(allowed, HasTag):
        return f"array_contains_any(tags, {list(allowed.tags)})" if allowed.tags else _NO_ROW
    if isinstance(allowed, Not):
        return f"not ({_condition(allowed.part)})"
    is_all = isinstance(allowed, AllOf)
    parts = [f"({_condition(part)})" for part in allowed.parts]
    return (" and " if is_all else " or ").join(parts) or ("id >= 0" if is_all else _NO_ROW)
