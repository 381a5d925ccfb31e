"""Keys: read as late as possible, and never shown."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import httpx

from leanrag.errors import ConfigurationError

__all__ = ["Credentials", "EnvironmentKey", "Secret", "env"]

_SHORTEST_SECRET = 6  # characters; hiding a shorter header value would make messages unreadable


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

    __slots__ = ("_text",)

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else ""

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
        """Return `text` with stars instead of the secret."""
        return text.replace(self._text, "***") if len(self._text) >= _SHORTEST_SECRET else text

    def reveal(self) -> str:
        """Return the secret text."""
        return self._text


class Credentials(httpx.Auth):
    """Adds the key and the headers to a request immediately before it is sent."""

    def __init__(self, key: Secret | None, headers: Mapping[str, Secret]) -> None:
        self._key, self._headers = key, headers

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Yield the request with the key and the headers, as `httpx.Auth` defines."""
        for field, secret in self._headers.items():
            request.headers[field] = secret.reveal()
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request
