"""Checks of arguments, and the check that an object is used in the process that made it.

Each `check_...` function takes the arguments by their names and raises a `ConfigurationError` that names the argument, its
value and what is allowed. With `optional=True`, None is allowed too.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    import pydantic

__all__ = [
    "ProcessGuard",
    "check_at_least",
    "check_choice",
    "check_positive",
    "check_seconds",
    "check_share",
    "check_whole",
    "first_problem",
]


def check_at_least(minimum: float, *, optional: bool = False, **values: float | None) -> None:
    """Raise unless each value is a finite number that is at least `minimum`."""
    _check(f"at least {minimum}", lambda value: minimum <= value < math.inf, values, optional)


def check_whole(minimum: int, maximum: int | None = None, *, optional: bool = False, **values: int | None) -> None:
    """Raise unless each value is an integer that is at least `minimum` and at most `maximum`."""
    allowed = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum:,}"
    highest = math.inf if maximum is None else maximum
    _check(f"a whole number, {allowed}", lambda value: value == int(value), values, optional)
    _check(allowed, lambda value: minimum <= value <= highest, values, optional)


def check_positive(*, optional: bool = False, **values: float | None) -> None:
    """Raise unless each value is a finite number above 0."""
    _check("positive and finite", lambda value: 0 < value < math.inf, values, optional)


def check_seconds(*, optional: bool = False, **values: float | None) -> None:
    """Raise unless each value is a time that a thread can wait: above 0 and not longer than Python allows."""
    _check("greater than 0 seconds", lambda value: 0 < value <= threading.TIMEOUT_MAX, values, optional)


def check_share(*, open_ends: str = "", highest: float = 1, optional: bool = False, **values: float | None) -> None:
    """Raise unless each value is between 0 and 1.

    Args:
        open_ends: The ends that are not allowed: "", "0", "1" or "01"; "1" is the upper end.
        highest: The upper end, when it is less than 1.
        optional: Whether None is allowed.
        values: The arguments, by name.
    """
    allowed = f"in {'(' if '0' in open_ends else '['}0, {highest:g}{')' if '1' in open_ends else ']'}"

    def is_share(value: float) -> bool:
        is_open_end = (value == 0 and "0" in open_ends) or (value == highest and "1" in open_ends)
        return 0 <= value <= highest and not is_open_end

    _check(allowed, is_share, values, optional)


def check_choice(allowed: Collection[str], *, optional: bool = False, **values: str | None) -> None:
    """Raise unless each value is one of `allowed`."""
    shown = ", ".join(map(repr, allowed))
    for name, value in values.items():
        if value not in allowed and not (optional and value is None):
            raise ConfigurationError(f"`{name}` must be one of {shown}, got {value!r}")


def _check(
    allowed: str, is_allowed: Callable[[float], bool], values: Mapping[str, float | None], optional: bool
) -> None:
    for name, value in values.items():
        if value is None and optional:
            continue
        try:
            fits = value is not None and is_allowed(value)
        except (TypeError, ValueError, OverflowError):  # text; NaN or infinity where an integer is needed
            fits = False
        if not fits:
            raise ConfigurationError(f"`{name}` must be {allowed}, got {value!r}")


def first_problem(error: pydantic.ValidationError) -> tuple[str, str, object]:
    """Return where the first wrong field is, such as "answers[0]" and "" for the whole, what is wrong, and its value."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ""
    for part in first["loc"]:
        where += f"[{part}]" if isinstance(part, int) else f"{'.' if where else ''}{part}"
    return where, first["msg"], first["input"]


class ProcessGuard:
    """Checks that an object is used in the process that made it: its threads and locks do not work in a forked child."""

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is the process that made the object, not a forked child of it."""
        return os.getpid() == self._pid

    def check(
        self, what: str, error: Callable[[str], Exception], *, advice: str = "Load it again in this process"
    ) -> None:
        """Raise `error(message)` in a forked child.

        Args:
            what: Name of the object, the subject of the message.
            error: Makes the exception from the message.
            advice: What the user can do, without a full stop.
        """
        if not self.is_here:
            raise error(
                f"{what} was opened in process {self._pid}, and process {os.getpid()} is a fork of it, which cannot use it. "
                f"{advice}, or start child processes with the multiprocessing method 'spawn'"
            )
