"""Keys, and where they come from: read at the last moment, shown nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import httpx

from leanrag.errors import ConfigurationError

__all__ = ["Credentials", "EnvironmentKey", "Secret", "env"]

_SHORTEST_SECRET = 6  # characters; a shorter header value says nothing, and replacing it would garble messages


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
    """A text that no representation shows; what is no string counts as an empty one."""

    __slots__ = ("_text",)

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else ""

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")

    @property
    def is_sendable(self) -> bool:
        """Whether a header can hold it: printable ASCII, no spaces around it, not empty."""
        return bool(re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", self._text))

    def hide_in(self, text: str) -> str:
        """Return `text` with stars in its place."""
        return text.replace(self._text, "***") if len(self._text) >= _SHORTEST_SECRET else text

    def reveal(self) -> str:
        """Return it."""
        return self._text


class Credentials(httpx.Auth):
    """Writes key and headers into the request at the last moment."""

    def __init__(self, key: Secret | None, headers: Mapping[str, Secret]) -> None:
        self._key, self._headers = key, headers

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """As httpx wants it."""
        for field, secret in self._headers.items():
            request.headers[field] = secret.reveal()
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request
