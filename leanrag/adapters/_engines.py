"""The errors that engines have in common, whatever serves them."""

from __future__ import annotations

from leanrag.errors import EngineError

__all__ = ["late_error", "refused_error", "unreachable_error"]


def late_error(name: str, seconds: float) -> EngineError:
    """Return the error of an engine that did not answer in time."""
    message = f"{name} did not answer within {seconds:g} s. Look at its load, or raise `timeout_seconds`"
    return EngineError(message, engine=name, retryable=True)


def unreachable_error(name: str, problem: object) -> EngineError:
    """Return the error of an engine that cannot be reached."""
    message = f"{name} cannot be reached: {problem}. Start the server, or correct the address"
    return EngineError(message, engine=name, retryable=True)


def refused_error(name: str, problem: object) -> EngineError:
    """Return the error of an engine that refuses a request."""
    return EngineError(f"{name} refuses: {problem}. The log of the server says more", engine=name)
