"""Time limits, retries, and the breaker that stops requests to a server that is down."""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from leanrag.checks import check_at_least, check_seconds, check_whole

__all__ = ["Breaker", "Clock", "Limit", "Retry", "Timeouts", "retry_after_seconds"]


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and random numbers; tests replace them.

    Attributes:
        monotonic: Seconds, for durations.
        now: Seconds since 1970, for dates that servers send.
        sleep: Waits between attempts, in an event loop.
        random: Uniform in [0, 1).
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a request may take, in seconds.

    Attributes:
        connect_seconds: Limit to open a connection.
        first_token_seconds: Limit from sending the request to the first text.
        total_seconds: Limit from the call to the end, retries included; `timeout_seconds` of a call replaces it.

    Raises:
        ConfigurationError: A limit is not greater than 0.
    """

    connect_seconds: float = 10.0
    first_token_seconds: float = 60.0
    total_seconds: float = 300.0

    def __post_init__(self) -> None:
        check_seconds(
            connect_seconds=self.connect_seconds,
            first_token_seconds=self.first_token_seconds,
            total_seconds=self.total_seconds,
        )


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to try again, and when to stop sending requests to a server that is down.

    Temporary failures (no connection, 408, 409, 429, 5xx, a broken stream) are tried again with exponential backoff and full
    jitter (Brooker, AWS Architecture Blog, 2015), but never after the first text arrived. A Retry-After header is obeyed if the
    time limit allows it.

    Attributes:
        max_retries: Most attempts after the first.
        breaker_failures: After this many outages in a row, requests fail at once.
        breaker_seconds: How long requests fail at once; after that, a single request is tried.

    Raises:
        ConfigurationError: A value cannot work.
    """

    max_retries: int = 3
    breaker_failures: int = 5
    breaker_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_whole(0, max_retries=self.max_retries)
        check_whole(1, breaker_failures=self.breaker_failures)
        check_at_least(0, breaker_seconds=self.breaker_seconds)


class Limit:
    """A context that cancels its task after some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.lift()

    def start(self) -> None:
        """Cancel the current task after the seconds from now."""
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            self.is_over = True
            task.cancel()

        self._timer = asyncio.get_running_loop().call_later(self._seconds, end)

    def lift(self) -> None:
        """Remove the limit."""
        if self._timer is not None:
            self._timer.cancel()


class Breaker:
    """Stops requests to a server that failed several times in a row. Only one thread may use it."""

    def __init__(self, most_failures: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._most_failures, self._seconds, self._monotonic = most_failures, seconds, monotonic
        self._opened_at = 0.0
        self._is_probed = False
        self.failures = 0

    @property
    def is_open(self) -> bool:
        """Whether requests are stopped."""
        return self.failures >= self._most_failures

    def seconds_to_wait(self) -> float:
        """Return the seconds until a request may be sent. After 0, the caller must send its request and `record` the end."""
        if not self.is_open:
            return 0.0
        remaining = self._opened_at + self._seconds - self._monotonic()
        if remaining > 0 or self._is_probed:
            return max(remaining, 1.0)
        self._is_probed = True
        return 0.0

    def record(self, is_up: bool | None) -> None:
        """Record whether a request showed that the server is up; None if it showed nothing."""
        self._is_probed = False
        if is_up:
            self.failures = 0
        elif is_up is False:
            self.failures += 1
            self._opened_at = self._monotonic()


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Return the seconds to wait from a Retry-After header, at least 0; None if it has no valid value (RFC 9110, 10.2.3).

    Args:
        value: Seconds, or a date.
        now: Seconds since 1970.

    Example:
        >>> retry_after_seconds("Thu, 01 Jan 1970 00:01:00 GMT", now=20.0)
        40.0
    """
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.timezone.utc)
        return max(0.0, date.timestamp() - now)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
