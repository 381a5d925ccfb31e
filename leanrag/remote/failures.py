"""The errors of a request to a server: what went wrong, whether it may pass, and what to do."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from leanrag.errors import ContextOverflowError, GenerationError, RemoteError
from leanrag.remote.keys import Secret
from leanrag.remote.protocol import Reason, parse_overflow

__all__ = ["TRANSPORT_ERRORS", "Failures"]

# The statuses that the client of OpenAI tries again, and 529, which gateways send when they are overloaded.
_RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_OVERFLOW_STATUSES = frozenset({200, 400, 413, 422, 500})
_OUT_OF_MONEY = re.compile(r"insufficient_(?:quota|credits?|balance|funds)|billing", re.I)
_MAX_CHARS = 300

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
"""What httpx raises for a connection that failed."""
_PASSING_ERRORS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError, OSError)


@dataclass(frozen=True, slots=True)
class Failures:
    """Makes the errors of one attempt. Their messages are short lines without secrets.

    Attributes:
        name: Name of the model.
        url: URL of the API.
        n_ctx: Window of the model in tokens; None if it is unknown.
        secrets: What no message may show.
    """

    name: str
    url: str
    n_ctx: int | None
    secrets: Sequence[Secret]

    def scrub(self, text: str) -> str:
        """Return `text` as a short line without control characters and secrets."""
        for secret in self.secrets:
            text = secret.hide_in(text)
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "..."

    def refused(self, status: int, reason: Reason, retry_after: float | None) -> GenerationError:
        """Return the error for a server that answered with an error."""
        said = self.scrub(reason.words)
        overflow = parse_overflow(reason.words, reason.code) if status in _OVERFLOW_STATUSES else None
        if overflow is not None and self.n_ctx is not None:
            needed, available = overflow
            return ContextOverflowError(
                f"the server says that the prompt does not fit into the window of {self.name}: {said}. Shorten the prompt, "
                "or correct `n_ctx`",
                needed=needed or self.n_ctx + 1,
                available=available or self.n_ctx,
                model=self.name,
            )
        is_out_of_money = status == 402 or bool(_OUT_OF_MONEY.search(reason.code))
        hint = _hint(status, is_out_of_money=is_out_of_money, is_too_long=overflow is not None)
        wait = f" It asks to wait {retry_after:g} seconds." if retry_after else ""
        return RemoteError(
            f"{self.name} answered {status}{f' ({said})' if said else ''}.{wait} {hint}",
            model=self.name,
            status=status,
            retryable=status in _RETRYABLE and not is_out_of_money and overflow is None,
            retry_after=retry_after,
        )

    def redirected(self, status: int, target: str) -> RemoteError:
        """Return the error for a redirect."""
        return RemoteError(
            f"{self.name} answered {status}, a redirect to {self.scrub(target):.120}. Redirects are not followed, so that the "
            "key and the prompt are not sent to another server. If the target is right, use it as `base_url`",
            model=self.name,
            status=status,
        )

    def withheld(self, reason: str, *, retryable: bool) -> RemoteError:
        """Return the error for an answer that the server withheld or did not finish."""
        advice = "Ask again" if retryable else "Ask in another way, or use another model"
        return RemoteError(
            f"{self.name} did not finish its answer (`finish_reason` {self.scrub(reason)!r:.60}). {advice}",
            model=self.name,
            status=200,
            retryable=retryable,
        )

    def declined(self, words: str) -> RemoteError:
        """Return the error for a model that refuses to answer."""
        return RemoteError(
            f"{self.name} refuses to answer ({self.scrub(words)}). Ask in another way, or use another model",
            model=self.name,
            status=200,
        )

    def cut(self, advice: str = "Ask again") -> RemoteError:
        """Return the error for an answer without its end."""
        return RemoteError(
            f"the answer of {self.name} ended too early. {advice}", model=self.name, status=200, retryable=True
        )

    def broken(self, problem: str) -> RemoteError:
        """Return the error for a response that does not keep to the API."""
        return RemoteError(f"the response of {self.name} {self.scrub(problem)}", model=self.name, status=200)

    def lost(self, error: Exception) -> RemoteError:
        """Return the error for a connection that failed."""
        words = self.scrub(str(error)) or type(error).__name__
        chain: BaseException | None = error
        while chain is not None and not isinstance(chain, ssl.SSLError):
            chain = chain.__cause__ or chain.__context__
        if chain is not None:
            problem = (
                f"cannot open a secure connection to {self.url} ({words}). Check that the server supports https and has a "
                "trusted certificate. The environment variable SSL_CERT_FILE can name a file of trusted authorities"
            )
        elif isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            problem = f"cannot connect to {self.url} ({words}). Check `base_url`, and that the server is running"
        else:
            problem = f"the connection to {self.name} broke ({words}). Ask again"
        return RemoteError(problem, model=self.name, retryable=chain is None and isinstance(error, _PASSING_ERRORS))


def _hint(status: int, *, is_out_of_money: bool, is_too_long: bool) -> str:
    if is_out_of_money:
        return "The account has no credit. Add credit, or use another account"
    if is_too_long:
        return "Shorten the text, or start the server with a larger window and batch"
    if status in (401, 403):
        return "Check `api_key` and its permissions"
    if status == 404:
        return "Check `base_url` (it usually ends in /v1) and `model`"
    if status == 429:
        return "Send fewer requests, or lower `parallel`"
    if status in _RETRYABLE:
        return "The server may recover. Ask again later"
    return "Change the request. The same request will fail again"
