"""Errors of the HTTP API: what a client gets when something fails, in the shape of OpenAI's errors."""

from __future__ import annotations

import math

from leanrag.errors import (
    BudgetError,
    ConfigurationError,
    ContextOverflowError,
    DocumentError,
    GenerationCancelled,
    GenerationTimeout,
    LeanRAGError,
    MissingDependencyError,
    ModelLoadError,
    QueueFullError,
    RemoteError,
    StorageError,
)
from leanrag.ledger import SpendingLimitError

__all__ = ["ApiError", "to_api_error"]

_DEFAULT_RETRY_SECONDS = 1.0

# The first class that matches counts: HTTP status, and the code by which programs tell errors apart.
_STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (QueueFullError, 429, "queue_full"),
    (SpendingLimitError, 429, "insufficient_quota"),
    (ContextOverflowError, 400, "context_length_exceeded"),
    (BudgetError, 400, "context_length_exceeded"),
    (ConfigurationError, 400, "invalid_value"),
    (DocumentError, 400, "invalid_document"),
    (MissingDependencyError, 501, "missing_dependency"),
    (GenerationTimeout, 504, "timeout"),
    (GenerationCancelled, 503, "cancelled"),
    (RemoteError, 502, "remote_error"),
    (ModelLoadError, 503, "model_unavailable"),
    (StorageError, 503, "storage_unavailable"),
    (LeanRAGError, 500, "server_error"),
)


class ApiError(LeanRAGError):
    """A request that is refused, or that failed.

    Attributes:
        status: HTTP status.
        code: Name of the error, for programs.
        param: The field of the request that is wrong; None if it is no field.
        retry_after: Seconds after which the same request may succeed; None if it will not, or if that is unknown.
    """

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after

    @property
    def type(self) -> str:
        """The kind of error, in OpenAI's words."""
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
        return kinds.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        """The error as JSON."""
        return {"error": {"message": str(self), "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        headers = {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return headers


def to_api_error(error: Exception, *, retry_after: float = _DEFAULT_RETRY_SECONDS) -> ApiError:
    """Return what a client gets for an exception; an unknown exception says nothing about its cause.

    Args:
        error: What was raised.
        retry_after: Seconds to wait if the server is busy.
    """
    if isinstance(error, ApiError):
        return error
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            is_busy = code in ("queue_full", "storage_unavailable", "model_unavailable")
            return ApiError(status, str(error), code=code, retry_after=retry_after if is_busy else None)
    return ApiError(500, "The server failed. Its log says why", code="server_error")
