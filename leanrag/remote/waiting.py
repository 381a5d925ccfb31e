"""When to stop waiting, when to try again, and when to leave a server alone."""

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
        connect_seconds: Limit for a connection.
        first_token_seconds: Limit from sending to the first text.
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
    """How often to try again, and when to stop asking a server that is down.

    Failures that may pass (no connection, 408, 409, 429, 5xx, a stream that breaks) are tried again with exponential backoff
    and full jitter (Brooker, AWS Architecture Blog, 2015), never after the first text arrived. A Retry-After is waited out if
    the time limit allows.

    Attributes:
        max_retries: Further attempts after one that failed.
        breaker_failures: After this many outages in a row, requests fail at once.
        breaker_seconds: For so long; then one request may try.

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
    """Cancels the task that entered it after some seconds of the event loop's time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            self.is_over = True
            task.cancel()

        self._timer = asyncio.get_running_loop().call_later(self._seconds, end)

    def __exit__(self, *_: object) -> None:
        self.lift()

    def lift(self) -> None:
        """Let it go on without limit."""
        if self._timer is not None:
            self._timer.cancel()


class Breaker:
    """Leaves a server alone that failed several times in a row; touched by one thread only."""

    def __init__(self, most_failures: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._most_failures, self._seconds, self._monotonic = most_failures, seconds, monotonic
        self._opened_at = 0.0
        self._is_probed = False
        self.failures = 0

    @property
    def is_open(self) -> bool:
        """Whether the server is left alone."""
        return self.failures >= self._most_failures

    def seconds_to_wait(self) -> float:
        """Seconds until a request may be sent; 0 for now, and then the asking request is the one that may try."""
        if not self.is_open:
            return 0.0
        left = self._opened_at + self._seconds - self._monotonic()
        if left > 0 or self._is_probed:
            return max(left, 1.0)
        self._is_probed = True
        return 0.0

    def record(self, is_up: bool | None) -> None:
        """Note how a request ended; None for one that says nothing."""
        self._is_probed = False
        if is_up:
            self.failures = 0
        elif is_up is False:
            self.failures += 1
            self._opened_at = self._monotonic()


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, at least 0; None when it says nothing (RFC 9110, 10.2.3).

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
