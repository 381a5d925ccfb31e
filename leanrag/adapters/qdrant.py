"""Vectors in Qdrant."""

from __future__ import annotations

import contextlib
import math
import re
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag._optional import require
from leanrag.adapters._engines import late_error, unreachable_error
from leanrag.checks import check_positive
from leanrag.errors import ConfigurationError, EngineError, IndexMismatchError
from leanrag.retrieval.engine_index import EngineIndex, EngineState
from leanrag.retrieval.outbox import ChunkRows
from leanrag.retrieval.tags import AllOf, HasTag, Not, TagFilter

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["QdrantIndex"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
_LEAST_VERSION = (1, 10)  # the first with `query`
_LEAST_WIDTH = 128  # points that a search of the graph keeps in mind
_WIDER = 2  # times as many points in mind as wanted
_STATE_ID = 1


class QdrantIndex(EngineIndex):
    """Keeps the vectors of a folder in a collection of Qdrant 1.10 or later.

    How far the folder has come is kept in a second collection, whose name ends with "_state".

    Args:
        server: Its address, such as "http://localhost:6333", or a `QdrantClient`.
        collection: Name of the collection; each folder, and each namespace of a folder, needs one of its own.
        api_key: Key of the server, if `server` is an address.
        timeout_seconds: Longest wait for an answer of the server, in whole seconds, if `server` is an address.

    Raises:
        ConfigurationError: An argument is out of range.
        MissingDependencyError: The package `qdrant-client` is not installed.

    Example:
        >>> index = QdrantIndex("http://localhost:6333", collection="handbook")  # doctest: +SKIP
        >>> with leanrag.open("kb", index=index) as rag:  # doctest: +SKIP
        ...     rag.search("Who signs off the releases?")
    """

    def __init__(
        self,
        server: str | Any,
        *,
        collection: str = "leanrag",
        api_key: str | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        if not _NAME.fullmatch(collection):
            raise ConfigurationError(f"`collection` must be 1 to 200 letters, digits, '_' and '-', got {collection!r}")
        check_positive(timeout_seconds=timeout_seconds)
        super().__init__(_QdrantEngine(server, collection, api_key, timeout_seconds))


class _QdrantEngine:
    """A collection of vectors, and a collection of one point for the state."""

    def __init__(self, server: str | Any, collection: str, api_key: str | None, seconds: float) -> None:
        package: Any = require("qdrant_client", extra="qdrant", why="to keep vectors in Qdrant")
        self._models: Any = package.models
        self._exceptions: Any = require("qdrant_client.http.exceptions", extra="qdrant", why="")
        self._owns_client, whole = isinstance(server, str), max(1, math.ceil(seconds))
        address = server if isinstance(server, str) else type(server).__name__
        if isinstance(server, str):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of a key that is sent over HTTP to this machine
                server = package.QdrantClient(server, api_key=api_key, timeout=whole, check_compatibility=False)
        self._client, self._seconds = server, whole
        self._collection, self._state = collection, f"{collection}_state"
        self._lock = threading.Lock()  # held while collections are made
        self.name = f"the collection {collection!r} of Qdrant {address}"

    def open(self, dim: int) -> EngineState | None:
        models = self._models
        with self._mapped(), self._lock:
            version = self._client.info().version
            if tuple(map(int, re.findall(r"\d+", version)[:2])) < _LEAST_VERSION:
                raise EngineError(
                    f"{self.name} has version {version}, but leanrag needs 1.10 or later. Upgrade the server",
                    engine=self.name,
                )
            if not self._client.collection_exists(self._collection):
                if self._client.collection_exists(self._state):
                    self._client.delete_collection(self._state)
                self._create(self._collection, dim)
                self._client.create_payload_index(self._collection, "tags", models.PayloadSchemaType.INTEGER, wait=True)
            self._check(dim)
            if not self._client.collection_exists(self._state):
                self._create(self._state, 1)
            points = self._client.retrieve(self._state, [_STATE_ID], with_payload=True)
        try:
            return EngineState.from_json(points[0].payload["value"]) if points else None
        except (ValueError, KeyError, TypeError) as error:
            raise IndexMismatchError(
                f"{self.name} was not written by this version of leanrag ({error}). Name another collection, or delete it"
            ) from error

    def _create(self, name: str, dim: int) -> None:
        models = self._models
        self._client.create_collection(
            name, vectors_config=models.VectorParams(size=dim, distance=models.Distance.COSINE)
        )

    def _check(self, dim: int) -> None:
        vectors = self._client.get_collection(self._collection).config.params.vectors
        found = getattr(vectors, "size", None), getattr(vectors, "distance", None)
        if found != (dim, self._models.Distance.COSINE):
            raise IndexMismatchError(
                f"{self.name} has vectors of {found[0]} columns and the metric {found[1]}, but the folder has {dim} columns and"
                " leanrag needs Cosine. Name another collection, or delete it"
            )

    def clear(self) -> None:
        with self._mapped():
            self._client.delete(self._state, self._models.PointIdsList(points=[_STATE_ID]), wait=True)
            self._client.delete(self._collection, self._models.Filter(), wait=True)

    def write(self, rows: ChunkRows, removed: Ids, state: EngineState) -> None:
        models = self._models
        with self._mapped():
            if len(rows):
                points = models.Batch(
                    ids=rows.ids.tolist(),
                    vectors=rows.vectors.tolist(),
                    payloads=[{"tags": list(tags)} for tags in rows.tags],
                )
                self._client.upsert(self._collection, points, wait=True)
            if len(removed):
                self._client.delete(self._collection, models.PointIdsList(points=removed.tolist()), wait=True)
            point = models.PointStruct(id=_STATE_ID, vector=[1.0], payload={"value": state.to_json()})
            self._client.upsert(self._state, [point], wait=True)  # last: what the state says has been written

    def count(self) -> int:
        with self._mapped():
            return int(self._client.count(self._collection, exact=True).count)

    def search(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> list[tuple[list[float], list[int]]]:
        with self._mapped():
            found = self._query(queries, k, allowed, exact=False)
            if min(len(ids) for _, ids in found) < k:  # the filter left out what the graph found, or there are no more
                found = self._query(queries, k, allowed, exact=True)
        return found

    def _query(
        self, queries: Vectors, k: int, allowed: Ids | TagFilter | None, *, exact: bool
    ) -> list[tuple[list[float], list[int]]]:
        models = self._models
        condition = None if allowed is None else models.Filter(must=[self._condition(allowed)])
        parameters = models.SearchParams(hnsw_ef=max(_LEAST_WIDTH, k * _WIDER), exact=exact)
        requests = [
            models.QueryRequest(query=query, filter=condition, limit=k, params=parameters) for query in queries.tolist()
        ]
        responses = self._client.query_batch_points(self._collection, requests)
        return [([p.score for p in response.points], [p.id for p in response.points]) for response in responses]

    def _condition(self, allowed: Ids | TagFilter) -> Any:
        models = self._models
        if isinstance(allowed, np.ndarray):
            return models.HasIdCondition(has_id=allowed.tolist())
        if isinstance(allowed, HasTag):
            if not allowed.tags:
                return models.HasIdCondition(has_id=[])
            return models.FieldCondition(key="tags", match=models.MatchAny(any=list(allowed.tags)))
        if isinstance(allowed, Not):
            return models.Filter(must_not=[self._condition(allowed.part)])
        parts = [self._condition(part) for part in allowed.parts]
        if isinstance(allowed, AllOf):
            return models.Filter(must=parts)
        return models.Filter(should=parts) if parts else models.HasIdCondition(has_id=[])

    def close(self) -> None:
        if self._owns_client:
            self._client.close()

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the errors of the client into ours."""
        kinds = self._exceptions
        try:
            yield
        except kinds.UnexpectedResponse as error:
            text = (error.content or b"").decode(errors="replace")[:300]
            raise EngineError(
                f"{self.name} refuses with status {error.status_code}: {text}. {_advice(error.status_code, text)}",
                engine=self.name,
                retryable=error.status_code in (408, 429) or error.status_code >= 500,
            ) from error
        except (kinds.ApiException, OSError) as error:
            if "timed out" in str(error).lower() or "timeout" in str(error).lower():
                raise late_error(self.name, self._seconds) from error
            raise unreachable_error(self.name, error) from error
        except (ValueError, RuntimeError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise EngineError(f"{self.name} refuses: {error}. Check the collection", engine=self.name) from error


def _advice(status: int, text: str) -> str:
    if status in (401, 403):
        return "Pass the right `api_key`"
    if "space" in text.lower() or status == 507:
        return "Free space on the disk of the server"
    return "The log of the server says more"
