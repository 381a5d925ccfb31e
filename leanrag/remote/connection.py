"""The connection to a server that models, embedders and rerankers share: its options, its thread and its requests."""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypedDict, TypeVar, cast

import httpx

from leanrag.checks import ProcessGuard, check_whole
from leanrag.errors import ConfigurationError, GenerationError
from leanrag.remote.attempts import Attempt, Attempts, Endpoint, Operation
from leanrag.remote.keys import Secret, Secrets
from leanrag.remote.safety import Safety, check_secrets, check_url
from leanrag.remote.waiting import Breaker, Clock, Retry, Timeouts
from leanrag.remote.worker import Call, Work, Worker

if TYPE_CHECKING:
    from leanrag.types import CancelToken

__all__ = ["Connection", "ConnectionKeywords", "ConnectionOptions", "take_secrets"]

T = TypeVar("T")
A = TypeVar("A", bound=Attempt)


class ConnectionOptions(TypedDict, total=False):
    """The keywords of `ConnectionKeywords` that need not be kept secret."""

    timeouts: Timeouts | None
    retry: Retry | None
    safety: Safety | None
    parallel: int
    transport: httpx.AsyncBaseTransport | None
    clock: Clock | None


class ConnectionKeywords(ConnectionOptions, total=False):
    """How a server is reached: keywords of `RemoteModel`, `RemoteEmbedder` and `RemoteReranker`.

    Attributes:
        api_key: The key, a function that returns it (called for each request), or `env("NAME")`; None for servers without keys.
        headers: Further headers, such as Azure's `api-key`; they are kept secret like the key.
        query: Parameters of the URL, such as Azure's `api-version`; they are kept secret like the key, except for versions.
        timeouts: How long a request may take.
        retry: How often to try again.
        safety: What may be sent where, and what is accepted from the server.
        parallel: Most requests that are sent at the same time; others wait. 8 by default.
        transport: Replaces the network, for tests.
        clock: Replaces time and random numbers, for tests.
    """

    api_key: str | Callable[[], str] | None
    headers: Mapping[str, str] | None
    query: Mapping[str, str] | None


def take_secrets(keywords: ConnectionKeywords) -> tuple[Secrets, ConnectionOptions]:
    """Remove the secrets from `keywords`, so that no traceback shows them. Return the secrets, and what remains."""
    key = keywords.pop("api_key", None)
    secrets = Secrets(
        Secret(key) if isinstance(key, str) else key,
        {name: Secret(value) for name, value in (keywords.pop("headers", None) or {}).items()},
        {name: Secret(value) for name, value in (keywords.pop("query", None) or {}).items()},
    )
    return secrets, cast(ConnectionOptions, keywords)


class Connection:
    """Sends requests to a server from a thread of its own, which the first request starts. Any thread may call.

    Args:
        owner: Name of the class that has the connection, for messages.
        name: Name of the model, for messages.
        base_url: URL of the API; its query is sent with each request.
        secrets: Key, headers and query.
        n_ctx: Window of the model in tokens; None if it is unknown.
        timeouts: See `ConnectionKeywords`, as for all further arguments.
        retry: See there.
        safety: See there.
        parallel: See there.
        transport: See there.
        clock: See there.

    Raises:
        ConfigurationError: An argument cannot work.
    """

    def __init__(
        self,
        owner: str,
        name: str,
        base_url: str,
        secrets: Secrets,
        *,
        n_ctx: int | None = None,
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        safety: Safety | None = None,
        parallel: int = 8,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        timeouts, retry, safety, clock = timeouts or Timeouts(), retry or Retry(), safety or Safety(), clock or Clock()
        check_whole(1, optional=True, n_ctx=n_ctx)
        check_whole(1, parallel=parallel)
        address = check_url(base_url, safety.allowed_hosts)
        secrets = secrets.with_query(address.query)
        check_secrets(secrets, address.url, is_safe=safety.allow_insecure or address.is_local)
        self.base_url = address.url
        self.timeouts, self.safety, self.parallel = timeouts, safety, parallel
        self._owner, self._name = owner, name
        self._is_local = address.is_local
        self._transport = transport
        self._attempts = Attempts(
            Endpoint(
                name=name,
                base_url=address.url,
                n_ctx=n_ctx,
                secrets=secrets,
                first_token_seconds=timeouts.first_token_seconds,
                max_retries=retry.max_retries,
                parallel=parallel,
                max_body_bytes=safety.max_body_bytes,
            ),
            Breaker(retry.breaker_failures, retry.breaker_seconds, clock.monotonic),
            clock,
        )
        self._lock = threading.Lock()
        self._guard = ProcessGuard()
        self._closed = False
        self._worker: Worker | None = None

    @property
    def monotonic(self) -> Callable[[], float]:
        """Seconds, for durations."""
        return self._attempts.monotonic

    async def complete(self, client: httpx.AsyncClient, operation: Operation[A]) -> A:
        """Return the attempt that succeeded. Runs in the event loop of the worker; see `Attempts.complete` for the errors."""
        return await self._attempts.complete(client, operation)

    def submit(self, work: Work[T], cancel: CancelToken | None = None) -> Call[T]:
        """Start `work` in the thread of the connection."""
        with self._lock:  # `close` takes it too, so every submitted call has begun before the worker stops
            self.check_usable()
            if self._worker is None:
                self._worker = Worker(self._open_client(), self._name)
                weakref.finalize(self, self._worker.stop)
            call = Call(self._worker, work, self._name)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return call

    def check_usable(self) -> None:
        """Raise `GenerationError` after `close`, or in a forked child."""
        error = functools.partial(GenerationError, model=self._name)
        self._guard.check(self._name, error, advice=f"Make a {self._owner} in this process")
        if self._closed:
            raise error(f"{self._name} is closed. Make a new {self._owner} to use it")

    def close(self) -> None:
        """Stop all requests and close the connections. May be called twice; does nothing in a forked child."""
        if not self._guard.is_here:
            return
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def _open_client(self) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                timeout=httpx.Timeout(None, connect=self.timeouts.connect_seconds),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=self.parallel),
                headers={"User-Agent": "leanrag", "Accept-Encoding": "identity"},
                follow_redirects=False,
                trust_env=not self._is_local,  # a proxy cannot reach this machine
                # reading certificates takes time; the variables that name them are used for this machine too
                verify=httpx.create_ssl_context() if self.base_url.lower().startswith("https:") else not self._is_local,
                transport=self._transport,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            problem = type(error).__name__  # its message may contain a proxy's password
        raise ConfigurationError(
            f"connections cannot be set up ({problem}). Check the environment variables HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        )
