"""Limits of clients: requests at the same time and requests in a minute."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from leanrag.serving.failures import ApiError
from leanrag.serving.keys import Client

__all__ = ["ClientLimits"]

_MINUTE = 60.0


class ClientLimits:
    """Counts the requests of each client; any thread may call.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._now, self._lock = clock, threading.Lock()
        self._running: collections.Counter[str] = collections.Counter()
        self._started: dict[str, collections.deque[float]] = collections.defaultdict(collections.deque)

    @contextlib.contextmanager
    def counting(self, client: Client) -> Iterator[None]:
        """Count a request of a client while the block runs.

        Raises:
            ApiError: The client has too many requests; the error says when to try again.
        """
        self._begin(client)
        try:
            yield
        finally:
            with self._lock:
                self._running[client.name] -= 1

    def _begin(self, client: Client) -> None:
        with self._lock:
            now = self._now()
            if client.parallel is not None and self._running[client.name] >= client.parallel:
                raise _refusal(f"{client.name} has {client.parallel} requests under way, which is its limit", 1.0)
            if client.requests_per_minute is not None:
                started = self._started[client.name]
                while started and started[0] <= now - _MINUTE:
                    started.popleft()
                if len(started) >= client.requests_per_minute:
                    raise _refusal(
                        f"{client.name} has sent {client.requests_per_minute} requests in a minute, which is its limit",
                        started[0] + _MINUTE - now,
                    )
                started.append(now)
            self._running[client.name] += 1


def _refusal(reason: str, retry_after: float) -> ApiError:
    return ApiError(429, f"{reason}. Try again later", code="rate_limit_exceeded", retry_after=retry_after)
