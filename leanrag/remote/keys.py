"""Keys: read as late as possible, and never shown."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import re
import threading
import urllib.parse
import weakref
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import httpx

from leanrag.errors import ConfigurationError

__all__ = ["Credentials", "EnvironmentKey", "Secret", "Secrets", "env", "hide_in_logs"]

_SHORTEST_SECRET = 6  # characters; hiding a shorter header value would make messages unreadable
_PUBLIC_QUERY = re.compile(r"version", re.I)  # names of query parameters whose values error messages may show

# Loggers that write what servers send: httpcore the headers of responses, httpx the URL and the reason phrase.
_LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A key that is read from an environment variable when a request is sent."""

    variable: str

    def __repr__(self) -> str:
        return f"env({self.variable!r})"

    def __call__(self) -> str:
        """Return the key.

        Raises:
            ConfigurationError: The variable is not set, or empty.
        """
        if key := os.environ.get(self.variable, "").strip():
            return key
        raise ConfigurationError(
            f"the environment variable {self.variable} is not set or has no usable key. Set it, or pass another `api_key`"
        )


def env(variable: str) -> EnvironmentKey:
    """Return an `api_key` that is read from the environment variable of this name for each request."""
    return EnvironmentKey(variable)


class Secret:
    """A text that no representation shows. Anything else than a string counts as an empty text."""

    __slots__ = ("__weakref__", "_pattern", "_text")

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else ""
        self._pattern = _pattern(self._text)

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a key cannot be pickled, so that it is not written to a file. Pass it again in the other process"
        )

    @property
    def is_sendable(self) -> bool:
        """Whether a header can contain it: printable ASCII, no spaces around it, not empty."""
        return bool(re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", self._text))

    def hide_in(self, text: str) -> str:
        """Return `text` with stars instead of the secret, in any case and in the usual encodings."""
        return text if self._pattern is None else self._pattern.sub("***", text)

    def reveal(self) -> str:
        """Return the secret text."""
        return self._text


def _pattern(text: str) -> re.Pattern[str] | None:
    """Return what finds `text` as it is, escaped as in Python, JSON and URLs, and in base64; None if it is too short to hide."""
    if len(text) < _SHORTEST_SECRET:
        return None
    data = text.encode("utf-8", "replace")
    encoded = {base64.b64encode(data).decode().rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("=")}
    in_urls = {urllib.parse.quote(text, safe=""), urllib.parse.quote(text), urllib.parse.quote_plus(text)}
    forms = {text, repr(text)[1:-1], json.dumps(text)[1:-1], *in_urls, *encoded}
    return re.compile("|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True)), re.I)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a request must have and nobody may see.

    Attributes:
        key: The key, or a function that returns it.
        headers: Further headers.
        query: Parameters of the URL.
    """

    key: Secret | Callable[[], str] | None
    headers: Mapping[str, Secret]
    query: Mapping[str, Secret]

    def with_query(self, query: Mapping[str, str]) -> Secrets:
        """Return the same secrets with more parameters of the URL."""
        return dataclasses.replace(self, query={**{name: Secret(value) for name, value in query.items()}, **self.query})

    @property
    def hidden(self) -> list[Secret]:
        """The values that no message may show, without the key."""
        return [
            *self.headers.values(),
            *(value for name, value in self.query.items() if not _PUBLIC_QUERY.search(name)),
        ]


class Credentials(httpx.Auth):
    """Adds the key, the headers and the query to a request immediately before it is sent."""

    def __init__(self, key: Secret | None, secrets: Secrets) -> None:
        self._key, self._secrets = key, secrets

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with the key, the headers and the query, as `httpx.Auth` defines."""
        if self._secrets.query:
            values = {name: value.reveal() for name, value in self._secrets.query.items()}
            request.url = request.url.copy_merge_params(values)
        for field, secret in self._secrets.headers.items():
            request.headers[field] = secret.reveal()
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request


class _KeyFilter(logging.Filter):
    """Hides secrets in the records of the HTTP libraries: a server may echo a key, and they log what servers send."""

    def __init__(self) -> None:
        super().__init__()
        self._known: tuple[weakref.ref[Secret], ...] = ()
        self._lock = threading.Lock()  # for `add` only: a filter that locks could block a forked child for ever

    def add(self, secret: Secret) -> None:
        with self._lock:
            if not any(known() is secret for known in self._known):
                self._known = (*(known for known in self._known if known() is not None), weakref.ref(secret))
            for name in _LOGGERS:
                logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        message = hidden = record.getMessage()
        for known in self._known:
            if (secret := known()) is not None:
                hidden = secret.hide_in(hidden)
        if hidden != message:
            record.msg, record.args = hidden, ()
        return True


_filter = _KeyFilter()


def hide_in_logs(secret: Secret) -> None:
    """Hide `secret`, while it exists, in what httpx and httpcore log."""
    _filter.add(secret)
