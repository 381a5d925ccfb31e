"""Send a request, with retries. All code of this module runs in the event loop of a worker."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import httpx

from leanrag.errors import ConfigurationError, GenerationError, GenerationTimeout, RemoteError
from leanrag.remote.failures import TRANSPORT_ERRORS, Failures
from leanrag.remote.keys import Credentials, Secret, Secrets, hide_in_logs
from leanrag.remote.protocol import Reason, parse_object, parse_reason
from leanrag.remote.waiting import Breaker, Clock, Limit, retry_after_seconds

__all__ = ["Attempt", "Attempts", "Endpoint", "Operation"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 20.0
_MAX_ERROR_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The server, and how requests are sent; `leanrag.remote.RemoteModel` describes the fields."""

    name: str
    base_url: str
    n_ctx: int | None
    secrets: Secrets
    first_token_seconds: float
    max_retries: int
    parallel: int
    max_body_bytes: int


class Attempt:
    """What has arrived in an attempt.

    Attributes:
        failures: Makes its errors.
        sent: The body of the request.
        reason: Why the server refused the request, if it did.
        retry_after: Seconds that the server asks to wait.
        first_limit: The time limit of the first text.
        is_framed: Whether the response says how long it is, so that a cut is seen.
        has_text: Whether text was passed on, so that the request cannot be sent again.
        is_complete: Whether the whole answer has arrived.
    """

    def __init__(self) -> None:
        self.failures = Failures("", "", None, ())
        self.sent: Mapping[str, object] = {}
        self.reason = Reason("")
        self.retry_after: float | None = None
        self.first_limit: Limit | None = None
        self.is_framed = False
        self.has_text = False

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has arrived."""
        return False

    def end(self) -> None:
        """Do what remains after the last byte."""

    def refuse(self, status: int, reason: Reason) -> NoReturn:
        """Raise the error for a server that answered with an error."""
        self.reason = reason
        raise self.failures.refused(status, reason, self.retry_after)


A = TypeVar("A", bound=Attempt)


class Operation(abc.ABC, Generic[A]):
    """A request that may be sent several times, and how to read its response.

    Attributes:
        path: The end of the URL.
        seconds: Time limit for all attempts.
        is_streamed: Whether text comes before the end, so that the time limit of the first text applies.
    """

    path: str
    seconds: float
    is_streamed = True

    @abc.abstractmethod
    def begin(self) -> A:
        """Return a new attempt."""

    @abc.abstractmethod
    def body(self) -> dict[str, object]:
        """Return the body of the next request."""

    @abc.abstractmethod
    async def read(self, content_type: str, chunks: AsyncIterator[bytes], attempt: A) -> None:
        """Read the response into `attempt`."""

    def adapts(self, status: int | None, attempt: A) -> bool:
        """Return whether the next request differs, so that the server may accept it."""
        del status, attempt
        return False


class Attempts:
    """Sends requests to a server, and remembers how often it failed.

    Args:
        endpoint: The server, and how requests are sent.
        breaker: Counts the failures in a row.
        clock: Time and random numbers.
    """

    def __init__(self, endpoint: Endpoint, breaker: Breaker, clock: Clock) -> None:
        self._endpoint, self._breaker, self._clock = endpoint, breaker, clock
        self._name = endpoint.name
        self._slots = asyncio.Semaphore(endpoint.parallel)

    @property
    def monotonic(self) -> Callable[[], float]:
        """Seconds, for durations."""
        return self._clock.monotonic

    async def complete(self, connections: httpx.AsyncClient, operation: Operation[A]) -> A:
        """Return the attempt that succeeded.

        Raises:
            ContextOverflowError: The server says that the window is too small.
            GenerationTimeout: There was no text within `first_token_seconds`, or no end within `operation.seconds`.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
            ConfigurationError: The key is missing or invalid.
        """
        limit = Limit(operation.seconds)
        late = f"{self._name} did not answer within {operation.seconds:g} seconds"
        return await self._within(limit, self._repeat(connections, operation), late)

    async def _within(self, limit: Limit, work: Awaitable[T], late: str) -> T:
        try:
            with limit:
                return await work
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
        # outside `except`, because the interrupted code may refer to the key
        raise GenerationTimeout(late, model=self._name)

    async def _repeat(self, connections: httpx.AsyncClient, operation: Operation[A]) -> A:
        deadline = self._clock.monotonic() + operation.seconds
        retries = 0
        while True:
            if (seconds := self._breaker.seconds_to_wait()) > 0:
                raise RemoteError(
                    f"{self._name} failed {self._breaker.failures} times in a row; the next request can be sent in {seconds:.0f} "
                    "seconds. Use another model until then",
                    model=self._name,
                    retryable=True,
                )
            attempt = operation.begin()
            failure = await self._try(connections, operation, attempt)
            if failure is None:
                attempt.end()
                return attempt
            remote = failure if isinstance(failure, RemoteError) else None
            if remote and not attempt.has_text and operation.adapts(remote.status, attempt):
                continue
            backoff = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**retries)
            asked = attempt.retry_after or 0.0
            delay = asked + self._clock.random() * backoff
            if (
                not (remote and remote.retryable)
                or attempt.has_text
                or retries >= self._endpoint.max_retries
                or self._clock.monotonic() + delay >= deadline
                or asked
                > self._endpoint.first_token_seconds  # the caller does not want to wait so long for the first text
                or self._breaker.is_open
            ):
                raise failure
            retries += 1
            logger.info("%s: attempt %d in %.1f seconds: %s", self._name, retries + 1, delay, failure)
            await self._clock.sleep(delay)

    async def _try(self, connections: httpx.AsyncClient, operation: Operation[A], attempt: A) -> GenerationError | None:
        """Send the request once. Return the error, or None."""
        is_up: bool | None = None
        try:
            async with self._slots:
                seconds = self._endpoint.first_token_seconds if operation.is_streamed else operation.seconds
                late = f"{self._name} sent no text within {seconds:g} seconds"
                attempt.first_limit = Limit(seconds)
                await self._within(attempt.first_limit, self._send(connections, operation, attempt), late)
            is_up = True
        except GenerationError as error:
            is_lost = isinstance(error, RemoteError) and error.retryable and error.status != 429
            is_up = not (is_lost or isinstance(error, GenerationTimeout))
            return error.with_traceback(None)  # traceback frames refer to the request, and the request to the key
        finally:
            self._breaker.record(is_up)
        return None

    async def _send(self, connections: httpx.AsyncClient, operation: Operation[A], attempt: A) -> None:
        endpoint = self._endpoint
        key = await self._key()
        secrets = [*endpoint.secrets.hidden, *([key] if key else [])]
        for secret in secrets:
            hide_in_logs(secret)
        attempt.failures = Failures(endpoint.name, endpoint.base_url, endpoint.n_ctx, secrets)
        attempt.sent = operation.body()
        lost: RemoteError | None = None
        try:
            async with connections.stream(
                "POST",
                f"{endpoint.base_url}/{operation.path}",
                content=json.dumps(attempt.sent).encode(),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json"},
                auth=Credentials(key, endpoint.secrets),
            ) as response:
                await self._read(response, operation, attempt)
        except TRANSPORT_ERRORS as error:
            if not attempt.is_complete:
                lost = attempt.failures.lost(error)
        if lost is not None:
            raise lost  # outside `except`, because exceptions of httpx refer to the request, and the request to the key

    async def _key(self) -> Secret | None:
        source = self._endpoint.secrets.key
        if source is None or isinstance(source, Secret):
            return source
        problem = "must return printable ASCII without spaces around it, and not an empty text"
        try:
            key = Secret(await asyncio.to_thread(source))
            if key.is_sendable:
                return key
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a function of the caller; its message may contain the key
            problem = f"raised {type(error).__name__}"
        raise ConfigurationError(f"the function `api_key` of {self._name} {problem}")

    async def _read(self, response: httpx.Response, operation: Operation[A], attempt: A) -> None:
        status = response.status_code
        if 300 <= status < 400:
            raise attempt.failures.redirected(status, response.headers.get("Location", "nowhere").partition("?")[0])
        if not 200 <= status < 300:
            await self._refuse(response, attempt)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise attempt.failures.broken("is compressed, although the request did not allow that")
        attempt.is_framed = not {"content-length", "transfer-encoding"}.isdisjoint(response.headers)
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        await operation.read(content_type, self._bounded(response, attempt), attempt)

    async def _bounded(self, response: httpx.Response, attempt: Attempt) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._endpoint.max_body_bytes:
                raise attempt.failures.broken(f"is longer than {self._endpoint.max_body_bytes:,} bytes")
            yield chunk

    async def _refuse(self, response: httpx.Response, attempt: Attempt) -> NoReturn:
        attempt.retry_after = _wait_seconds(response.headers, self._clock.now())
        body = b""
        with contextlib.suppress(*TRANSPORT_ERRORS):  # the status says enough
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= _MAX_ERROR_BYTES:
                    break
        body = body[:_MAX_ERROR_BYTES]
        value, problem = parse_object(body)
        attempt.refuse(
            response.status_code, parse_reason({"error": body.decode("utf-8", "replace")} if problem else value)
        )


def _wait_seconds(headers: Mapping[str, Any], now: float) -> float | None:
    """Return the seconds that a server asks to wait; OpenAI and Azure say it in milliseconds too."""
    milliseconds = retry_after_seconds(headers.get("Retry-After-Ms"), now=now)
    return retry_after_seconds(headers.get("Retry-After"), now=now) if milliseconds is None else milliseconds / 1000
