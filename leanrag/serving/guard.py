"""What stands before every request: the origin, the key, limits of size and number, and headers of the response."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from leanrag.serving.failures import ApiError, to_api_error
from leanrag.serving.keys import Keys
from leanrag.serving.limits import ClientLimits
from leanrag.serving.metrics import Metrics

__all__ = ["CONTENT_SECURITY_POLICY", "Guard", "GuardSettings", "is_loopback"]

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_UPLOADS = "/add/file"


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """What is allowed.

    Attributes:
        public: Paths that need no key.
        hosts: Names in the `Host` header that are allowed; None for all. A server without keys allows only its own, so that a web
            page of a foreign name that leads to this machine cannot use it.
        origins: Web pages of other origins that may use the server, besides its own page.
        body_bytes: Most bytes of a request.
        upload_bytes: Most bytes of a file that is added.
    """

    public: Collection[str]
    hosts: Collection[str] | None = None
    origins: Collection[str] = ()
    body_bytes: int = 4 * 2**20
    upload_bytes: int = 64 * 2**20


class Guard:
    """ASGI middleware: checks a request before anybody reads its body, and counts it.

    Args:
        app: What answers.
        settings: What is allowed.
        keys: The API keys.
        limits: Counts requests of each client.
        metrics: Figures of the server.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GuardSettings,
        keys: Keys,
        limits: ClientLimits,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._settings, self._keys = app, settings, keys
        self._limits, self._metrics, self._now = limits, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange, started = _Exchange(receive, send), self._now()
        try:
            with contextlib.ExitStack() as counted:
                try:
                    self._check(scope, exchange, counted)
                    await self._app(scope, exchange.receive, exchange.send)
                except ClientDisconnect:  # while it sent its body
                    pass
                except Exception as error:
                    if exchange.has_begun:
                        raise
                    if not isinstance(error, ApiError):
                        logger.exception("%s %s failed", scope["method"], scope["path"])
                    failure = to_api_error(error)
                    response = JSONResponse(failure.body, failure.status, failure.headers)
                    await response(scope, exchange.receive, exchange.send)
        finally:
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.add(1, endpoint, str(exchange.status))
            self._metrics.request_seconds.observe(self._now() - started, endpoint)
            self._metrics.refused.add(exchange.status == 429)
            self._metrics.cancelled.add(exchange.is_abandoned)

    def _check(self, scope: Scope, exchange: _Exchange, counted: contextlib.ExitStack) -> None:
        """Check a request, and limit its body.

        Raises:
            ApiError: It is refused.
        """
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(headers)
        if scope["path"] not in self._settings.public:
            client = self._keys.client(headers.get("authorization"))
            counted.enter_context(self._limits.counting(client))
            scope.setdefault("state", {})["client"] = client
        most = self._settings.upload_bytes if scope["path"] == _UPLOADS else self._settings.body_bytes
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > most):
            raise _too_large(most)
        exchange.most_bytes = most

    def _check_host(self, headers: Headers) -> None:
        allowed, host = self._settings.hosts, _host_of(headers.get("host", ""))
        if allowed is not None and host not in allowed:
            raise ApiError(
                403, f"The host {host!r:.80} is not a name of this server. Use one of: {', '.join(sorted(allowed))}",
                code="wrong_host",
            )  # fmt: skip

    def _check_origin(self, headers: Headers) -> None:
        """Refuse requests that a web page of another origin makes in a browser."""
        origin = headers.get("origin")
        if origin is None or origin in self._settings.origins:
            return
        if origin.partition("://")[2] != headers.get("host"):
            raise ApiError(
                403, f"A web page of the origin {origin!r:.80} may not use this server. Allow it with --allow-origin",
                code="wrong_origin",
            )  # fmt: skip


class _Exchange:
    """Receives a request within a limit, and sends its response with the headers that all have.

    Attributes:
        status: Status of the response; 500 before it begins.
        has_begun: Whether the response has begun.
        is_abandoned: Whether the client went away before the end of the response.
        most_bytes: Most bytes of the body; None for any number.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._n_bytes = 0
        self._is_complete = False
        self.status = 500
        self.has_begun = self.is_abandoned = False
        self.most_bytes: int | None = None

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_abandoned = not self._is_complete
        self._n_bytes += len(message.get("body", b""))
        if self.most_bytes is not None and self._n_bytes > self.most_bytes:
            raise _too_large(self.most_bytes)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun, self.status = True, message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
        self._is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)


def is_loopback(host: str) -> bool:
    """Return whether a name or address reaches only this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The body is larger than {most:,} bytes. Send less", code="body_too_large")


def _host_of(header: str) -> str:
    """Return the name in a `Host` header, without its port."""
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0].lower()
