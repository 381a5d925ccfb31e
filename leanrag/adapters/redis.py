"""Caches in Redis or Valkey, shared by machines: of answers, and of what models compute."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import secrets
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from leanrag._optional import require
from leanrag.caching import CacheStats
from leanrag.caching.answers import document_ids_of
from leanrag.caching.results import CHECKSUM_BYTES, MAX_RESULT, Results, is_whole, with_checksum
from leanrag.caching.waiting import KeyLocks
from leanrag.checks import check_positive, check_whole
from leanrag.errors import StorageError
from leanrag.types import Answer, AskKey, CancelToken

__all__ = ["RedisAnswerCache", "RedisResults"]

logger = logging.getLogger(__name__)

_WEEK = 7 * 86_400.0
_DAY_MS = 86_400_000
_LOCK_MS = 30_000  # after which another process may compute too: the holder may have died
_POLL_SECONDS = 0.02
_SCANNED = 500  # keys of one step
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end"


class _InRedis:
    """A connection, a namespace in the server, and the largest age and size of what is kept."""

    def __init__(
        self, server: str | Any, *, ttl_seconds: float, max_bytes: int, namespace: str, timeout_seconds: float
    ) -> None:
        check_positive(ttl_seconds=ttl_seconds, timeout_seconds=timeout_seconds)
        check_whole(1, max_bytes=max_bytes)
        self._client, self._errors = _connect(server, timeout_seconds)
        self._owns_client = isinstance(server, str)
        self._ttl_ms, self._max_bytes = max(1, math.ceil(ttl_seconds * 1e3)), max_bytes
        self._prefix = _prefix_of(namespace)

    def close(self) -> None:
        """Close the connections that were made for an address; idempotent."""
        if self._owns_client:
            self._client.close()


class RedisAnswerCache(_InRedis):
    """Remembers answers in Redis or Valkey; any thread, process and machine may use the same server.

    A failure of the server never fails a question: it is logged, and the answer is computed. The budget of memory is the server's:
    set `maxmemory`, and `maxmemory-policy volatile-ttl`, which removes an answer before the list that says which documents it
    contains. The server can read the answers, so use one that you trust with the documents.

    Args:
        server: Its address, such as "redis://localhost:6379/0", or a client of the package `redis`.
        ttl_seconds: Age at which an answer is removed.
        max_bytes: Largest size of one answer.
        namespace: Answers of one namespace are not found in another; name the tenant here if several share a server.
        timeout_seconds: Longest wait for an answer of the server, if `server` is an address.

    Raises:
        ConfigurationError: An argument is out of range.
        MissingDependencyError: The package `redis` is not installed.

    Example:
        >>> cache = RedisAnswerCache("redis://localhost:6379/0", namespace="handbook")  # doctest: +SKIP
        >>> with leanrag.open("kb", cache=cache) as rag:  # doctest: +SKIP
        ...     rag.ask("Who signs off the releases?")
    """

    def __init__(
        self,
        server: str | Any,
        *,
        ttl_seconds: float = _WEEK,
        max_bytes: int = 16 << 20,
        namespace: str = "",
        timeout_seconds: float = 1.0,
    ) -> None:
        super().__init__(
            server, ttl_seconds=ttl_seconds, max_bytes=max_bytes, namespace=namespace, timeout_seconds=timeout_seconds
        )
        self._locks = _RedisLocks(self._client, self._prefix, self._errors)

    def __enter__(self) -> RedisAnswerCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, key: AskKey) -> Answer | None:
        """Return the answer that was stored with an equal key; None if there is none, or if the server fails."""
        name = self._name_of(key)
        with self._never_failing():
            value = self._client.get(name)
            if value is None:
                return None
            try:
                answer = Answer.from_json(zlib.decompress(value))
            except (ValueError, TypeError, zlib.error) as error:
                logger.warning("a stored answer cannot be read (%s); it is removed and computed again", error)
                self._client.delete(name)
                return None
            totals = self._client.pipeline(transaction=False)
            totals.hincrby(self._prefix + "totals", "hits", 1)
            totals.hincrbyfloat(self._prefix + "totals", "saved_seconds", answer.seconds)
            totals.execute()
            return answer
        return None

    def put(self, key: AskKey, answer: Answer) -> None:
        """Store an answer. One that is larger than `max_bytes` is not stored."""
        try:
            value = zlib.compress(answer.to_json().encode(), 1)
        except TypeError as error:
            logger.warning("the answer is not stored: %s", error)
            return
        if len(value) > self._max_bytes:
            return
        name = self._name_of(key)
        with self._never_failing(), self._client.pipeline(transaction=True) as commands:
            for document_id in document_ids_of(answer):
                # before the answer, and for longer, so that no answer is there whose documents are unknown
                commands.sadd(self._documents_of(document_id), name)
                commands.pexpire(self._documents_of(document_id), self._ttl_ms + _DAY_MS)
            commands.set(name, value, px=self._ttl_ms)
            commands.execute()

    def computing(self, key: AskKey, cancel: CancelToken) -> contextlib.AbstractContextManager[None]:
        """Hold the right to compute the answer of `key`; waits while another thread or process holds it.

        The wait ends after 30 seconds, when the question is cancelled, and when the server fails: then two compute the same answer.
        """
        return self._locks.hold(self._name_of(key), is_cancelled=lambda: cancel.cancelled)

    def forget(self, document_ids: Iterable[str]) -> None:
        """Remove every answer that contains text of one of the documents.

        Raises:
            StorageError: The server fails, so that the answers may still be there.
        """
        try:
            for document_id in document_ids:
                documents = self._documents_of(document_id)
                for name in self._client.smembers(documents):
                    self._client.delete(name)
                    self._client.srem(documents, name)
        except self._errors as error:
            raise StorageError(
                f"the answers in Redis cannot be removed: {error}. Start the server, or open the folder without this cache",
                path="",
            ) from error

    def clear(self) -> None:
        """Remove all answers of the namespace.

        Raises:
            StorageError: The server fails.
        """
        try:
            for name in self._client.scan_iter(match=self._prefix + "*", count=_SCANNED):
                self._client.delete(name)
        except self._errors as error:
            raise StorageError(f"the answers in Redis cannot be removed: {error}. Start the server", path="") from error

    def stats(self) -> CacheStats:
        """Return what the namespace holds, one entry for each key of an answer; this reads the name of every key.

        Raises:
            StorageError: The server fails.
        """
        try:
            names = list(self._client.scan_iter(match=self._prefix + "answer:*", count=_SCANNED))
            sizes = self._client.pipeline(transaction=False)
            for name in names:
                sizes.strlen(name)
            totals = self._client.hgetall(self._prefix + "totals")
            size = sum(sizes.execute())
        except self._errors as error:
            raise StorageError(f"Redis does not answer: {error}. Start the server", path="") from error
        numbers = {_text(name): float(value) for name, value in totals.items()}
        return CacheStats(len(names), size, int(numbers.get("hits", 0)), numbers.get("saved_seconds", 0.0), evicted=0)

    @contextlib.contextmanager
    def _never_failing(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            logger.warning("the answer is computed without Redis: %s", error)

    def _name_of(self, key: AskKey) -> str:
        return f"{self._prefix}answer:{key.sha256}"

    def _documents_of(self, document_id: str) -> str:
        digest = hashlib.sha256(document_id.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._prefix}document:{digest}"


class RedisResults(_InRedis, Results):
    """What models compute (generations, vectors, orders, compressions), by key, for the caches of `leanrag.caching`.

    A failure of the server never fails a question: it is logged, and the result is computed. The budget of memory is the server's:
    set `maxmemory`, and `maxmemory-policy volatile-lru`. The server can read the generations.

    Args:
        server: Its address, such as "redis://localhost:6379/0", or a client of the package `redis`.
        ttl_seconds: Time without use after which a result is removed.
        max_bytes: Largest size of one result.
        namespace: Results of one namespace are not found in another.
        timeout_seconds: Longest wait for an answer of the server, if `server` is an address.

    Raises:
        ConfigurationError: An argument is out of range.
        MissingDependencyError: The package `redis` is not installed.

    Example:
        >>> results = RedisResults("redis://localhost:6379/0")  # doctest: +SKIP
        >>> embedder = leanrag.caching.CachedEmbedder(embedder, results)  # doctest: +SKIP
    """

    def __init__(
        self,
        server: str | Any,
        *,
        ttl_seconds: float = _WEEK,
        max_bytes: int = MAX_RESULT,
        namespace: str = "",
        timeout_seconds: float = 1.0,
    ) -> None:
        super().__init__(
            server, ttl_seconds=ttl_seconds, max_bytes=max_bytes, namespace=namespace, timeout_seconds=timeout_seconds
        )

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the results of the keys that are there; they are kept for `ttl_seconds` from now on."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        try:
            with self._client.pipeline(transaction=False) as commands:
                for key in wanted:
                    commands.getex(self._name_of(key), px=self._ttl_ms)
                values = commands.execute()
        except self._errors as error:
            logger.warning("results are computed without Redis: %s", error)
            return {}
        found = zip(wanted, values, strict=True)
        return {key: value[CHECKSUM_BYTES:] for key, value in found if is_whole(value)}

    def put_many(self, results: Mapping[bytes, bytes]) -> None:
        """Store results. One that is larger than `max_bytes` is not stored."""
        try:
            with self._client.pipeline(transaction=False) as commands:
                for key, value in results.items():
                    if len(value) <= self._max_bytes:
                        commands.set(self._name_of(key), with_checksum(value), px=self._ttl_ms)
                commands.execute()
        except self._errors as error:
            logger.warning("results are not stored in Redis: %s", error)

    def _name_of(self, key: bytes) -> str:
        return f"{self._prefix}result:{key.hex()}"


def _connect(server: str | Any, timeout_seconds: float) -> tuple[Any, tuple[type[BaseException], ...]]:
    """Return a client, and the errors that it raises when the server fails."""
    redis = require("redis", extra="redis", why="to keep results in Redis")
    if isinstance(server, str):
        backoff, retry = (require(f"redis.{name}", extra="redis", why="") for name in ("backoff", "retry"))
        server = redis.Redis.from_url(
            server,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=retry.Retry(backoff.NoBackoff(), 1),
        )
    return server, (redis.RedisError, OSError)


def _prefix_of(namespace: str) -> str:
    """Return what the keys of a namespace begin with."""
    return f"leanrag:{hashlib.sha256(namespace.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}:"


class _RedisLocks(KeyLocks):
    """Locks by name, for threads and for all that use the server."""

    def __init__(self, client: Any, prefix: str, errors: tuple[type[BaseException], ...]) -> None:
        super().__init__(None)
        self._client, self._prefix, self._errors = client, prefix, errors

    def acquire_shared(self, name: str, goes_on: Callable[[], bool]) -> str | None:
        """Return the token of the lock; None if the wait ended, or if the server fails."""
        token = secrets.token_hex(16)
        try:
            while not self._client.set(name + ":lock", token, nx=True, px=_LOCK_MS):
                if goes_on():
                    return None
                time.sleep(_POLL_SECONDS)
        except self._errors as error:
            logger.warning("the answer is computed without a lock in Redis: %s", error)
            return None
        return token

    def release_shared(self, name: str, handle: Any) -> None:
        """Release the lock, if it is still this one."""
        with contextlib.suppress(*self._errors):
            self._client.eval(_RELEASE, 1, name + ":lock", handle)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
