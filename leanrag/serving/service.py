"""What the routes of a server share: what answers, who may ask, and the figures."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from leanrag.pipeline.rag import Rag
from leanrag.protocols import Embedder
from leanrag.serving.backends import Backend, FolderBackend, Reply
from leanrag.serving.failures import ApiError
from leanrag.serving.keys import Client
from leanrag.serving.metrics import Metrics
from leanrag.serving.workers import Workers

__all__ = ["DEFAULT_MODEL", "ClientDependency", "Service", "ServiceDependency"]

DEFAULT_MODEL = "leanrag"
"""Name of the first folder beside its own name."""


@dataclass(frozen=True, slots=True)
class Service:
    """What answers, and the figures.

    Attributes:
        backends: Folders and models, by the names that clients use.
        embedders: Embedders, by name.
        workers: Threads that answer.
        lookups: Threads for what takes no model, so that it need not wait for answers.
        uploads: Held while a file is put into its folder.
        metrics: Figures.
        can_add: Whether clients may add documents.
        write_seconds: Longest wait for a client that does not read its stream.
        created: When the server was started, in seconds since 1970.
    """

    backends: Mapping[str, Backend]
    embedders: Mapping[str, Embedder] = field(default_factory=dict)
    workers: Workers = field(default_factory=Workers)
    lookups: Workers = field(default_factory=lambda: Workers(parallel=4))
    uploads: threading.Lock = field(default_factory=threading.Lock)
    metrics: Metrics = field(default_factory=Metrics)
    can_add: bool = True
    write_seconds: float = 60.0
    created: int = field(default_factory=lambda: int(time.time()))

    def names(self, client: Client) -> list[str]:
        """Return the names of the folders and models that a client sees."""
        names = [name for name in self.backends if client.sees(name)]
        return [DEFAULT_MODEL, *names] if self._default(client) is not None else names

    def backend(self, name: str, client: Client) -> Backend:
        """Return the folder or model of a name.

        Raises:
            ApiError: It does not exist for this client.
        """
        known = self._default(client) if name == DEFAULT_MODEL else name
        if known is None or known not in self.backends or not client.sees(known):
            raise _unknown(name, self.names(client))
        return self.backends[known]

    def embedder(self, name: str, client: Client) -> Embedder:
        """Return the embedder of a name.

        Raises:
            ApiError: It does not exist for this client.
        """
        if name not in self.embedders or not client.sees(name):
            raise _unknown(name, list(filter(client.sees, self.embedders)))
        return self.embedders[name]

    def check_exists(self, name: str, client: Client) -> None:
        """Check that something has this name.

        Raises:
            ApiError: Nothing has.
        """
        if name not in self.embedders or not client.sees(name):
            self.backend(name, client)

    def folder(self, name: str, client: Client) -> Rag:
        """Return the folder of a name.

        Raises:
            ApiError: It does not exist for this client, or is not a folder.
        """
        backend = self.backend(name, client)
        if not isinstance(backend, FolderBackend):
            raise ApiError(
                400,
                f"{name!r} is a model without documents. Use the name of a folder",
                code="invalid_value",
                param="folder",
            )
        return backend.rag

    def folders(self, client: Client) -> list[str]:
        """Return the names of the folders that a client sees."""
        return [name for name, each in self.backends.items() if isinstance(each, FolderBackend) and client.sees(name)]

    def count(self, name: str, reply: Reply) -> None:
        """Count what a finished text has used."""
        usage, metrics = reply.usage, self.metrics
        for kind in ("prompt_tokens", "completion_tokens", "cached_tokens"):
            metrics.tokens.add(getattr(usage, kind), name, kind.removesuffix("_tokens"))
        if reply.cost is not None:
            metrics.cost.add(reply.cost, name)
        if "is_supported" in reply.details:
            metrics.answers.add(1, name, str(reply.details["is_supported"]).lower())

    def _default(self, client: Client) -> str | None:
        """Return the first folder that a client sees."""
        return next(iter(self.folders(client)), None)


def _unknown(name: str, known: Sequence[str]) -> ApiError:
    names = ", ".join(map(repr, known)) or "none"
    return ApiError(
        404, f"The model {name!r:.100} does not exist. These do: {names}", code="model_not_found", param="model"
    )


def _service_of(request: Request) -> Service:
    return cast(Service, request.app.state.service)


def _client_of(request: Request) -> Client:
    return cast(Client, request.state.client)


ServiceDependency = Annotated[Service, Depends(_service_of)]
ClientDependency = Annotated[Client, Depends(_client_of)]
