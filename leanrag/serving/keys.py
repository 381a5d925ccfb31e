"""API keys: who may ask what. They come from an environment variable and are never shown."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import pydantic

from leanrag.checks import first_problem
from leanrag.errors import ConfigurationError
from leanrag.serving.failures import ApiError

__all__ = ["ANYONE", "Client", "Keys"]

_LEAST_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class Client:
    """What the holder of a key may do.

    Attributes:
        name: Name in logs and metrics; never the key.
        models: Names of the folders and models that it sees; None for all.
        can_add: Whether it may add documents.
        parallel: Most requests at the same time; None for any number.
        requests_per_minute: Most requests in a minute; None for any number.
        max_tokens: Most tokens of an answer; None for any number.
    """

    name: str
    models: frozenset[str] | None = None
    can_add: bool = True
    parallel: int | None = None
    requests_per_minute: int | None = None
    max_tokens: int | None = None

    def sees(self, model: str) -> bool:
        """Return whether a folder or model exists for this client."""
        return self.models is None or model in self.models


ANYONE = Client("anyone")
"""The client of a server without keys."""


_Count = Annotated[int, pydantic.Field(ge=1)]


class _KeySettings(pydantic.BaseModel):
    """One key, as the environment variable describes it."""

    model_config = pydantic.ConfigDict(extra="forbid", hide_input_in_errors=True)

    key: Annotated[pydantic.SecretStr, pydantic.Field(min_length=_LEAST_CHARACTERS)]
    models: list[str] | None = None
    can_add: bool = True
    parallel: _Count | None = None
    requests_per_minute: _Count | None = None
    max_tokens: _Count | None = None


_ALL_SETTINGS = pydantic.TypeAdapter(dict[str, _KeySettings])


class Keys:
    """The keys of a server. Only their hashes are kept.

    Args:
        clients: The client of each key, by the SHA-256 hash of the key.
    """

    def __init__(self, clients: Mapping[bytes, Client]) -> None:
        self._clients = dict(clients)

    def __repr__(self) -> str:
        return f"Keys({', '.join(sorted(client.name for client in self._clients.values()))})"

    def __bool__(self) -> bool:
        return bool(self._clients)

    @classmethod
    def parse(cls, text: str, *, variable: str = "the keys") -> Keys:
        """Return the keys that a text describes.

        Args:
            text: Keys with commas between them; or a JSON object: by the name of each client its `key` and, if they are limited,
                `models`, `can_add`, `parallel`, `requests_per_minute` and `max_tokens`. "" means no keys.
            variable: Where the text is from, for errors.

        Raises:
            ConfigurationError: The text cannot be read. The message does not contain it.

        Example:
            >>> Keys.parse('{"ada": {"key": "correct-horse", "models": ["manuals"], "can_add": false}}')
            Keys(ada)
        """
        if text.lstrip().startswith("{"):
            try:
                settings = _ALL_SETTINGS.validate_python(json.loads(text))
            except pydantic.ValidationError as error:
                where, problem, _ = first_problem(error)
                raise ConfigurationError(f"{variable} has a wrong value at {where!r}: {problem}") from None
            except ValueError:
                raise ConfigurationError(f"{variable} must be a JSON object or keys with commas between them") from None
        else:
            keys = [key.strip() for key in text.split(",") if key.strip()]
            if any(len(key) < _LEAST_CHARACTERS for key in keys):
                raise ConfigurationError(f"each key in {variable} must have at least {_LEAST_CHARACTERS} characters")
            settings = {f"key-{i}": _KeySettings(key=pydantic.SecretStr(key)) for i, key in enumerate(keys, 1)}
        clients = {_hash(each.key.get_secret_value()): _client_of(name, each) for name, each in settings.items()}
        if len(clients) < len(settings):
            raise ConfigurationError(f"two clients in {variable} have the same key; give each client its own")
        return cls(clients)

    def client(self, authorization: str | None) -> Client:
        """Return the client of an `Authorization` header. All keys are compared, each in constant time.

        Raises:
            ApiError: There are keys, and the header has none of them.
        """
        if not self._clients:
            return ANYONE
        scheme, _, key = (authorization or "").partition(" ")
        hashed, found = _hash(key.strip()), None
        for known, client in self._clients.items():
            if hmac.compare_digest(known, hashed):
                found = client
        if scheme.lower() != "bearer" or found is None:
            problem = "The API key is wrong" if authorization else "The request has no API key"
            raise ApiError(
                401, f"{problem}. Send the header 'Authorization: Bearer KEY' with a key of this server",
                code="invalid_api_key",
            )  # fmt: skip
        return found

    def names_of_models(self) -> frozenset[str]:
        """Return the names of models that keys are limited to."""
        return frozenset(name for client in self._clients.values() for name in client.models or ())


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def _client_of(name: str, settings: _KeySettings) -> Client:
    models: Sequence[str] | None = settings.models
    return Client(
        name,
        models=None if models is None else frozenset(models),
        can_add=settings.can_add,
        parallel=settings.parallel,
        requests_per_minute=settings.requests_per_minute,
        max_tokens=settings.max_tokens,
    )
