"""The ASGI application: routes, the guard before them, and errors in the shape of OpenAI's API."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, PlainTextResponse

import leanrag
from leanrag.errors import ConfigurationError, LeanRAGError
from leanrag.pipeline.rag import Rag
from leanrag.protocols import Embedder, LanguageModel
from leanrag.serving import library_routes, openai_routes, page
from leanrag.serving.backends import Backend, FolderBackend, ModelBackend
from leanrag.serving.failures import ApiError, to_api_error
from leanrag.serving.guard import Guard, GuardSettings
from leanrag.serving.keys import Keys
from leanrag.serving.limits import ClientLimits
from leanrag.serving.metrics import CONTENT_TYPE
from leanrag.serving.service import DEFAULT_MODEL, Service, ServiceDependency
from leanrag.serving.workers import Workers

__all__ = ["create_app"]

logger = logging.getLogger(__name__)

_PUBLIC = ("/health", *page.PATHS)


def create_app(
    folders: Mapping[str, Rag] | None = None,
    *,
    models: Sequence[LanguageModel] = (),
    embedders: Mapping[str, Embedder] | None = None,
    keys: Keys | None = None,
    hosts: Sequence[str] | None = None,
    origins: Sequence[str] = (),
    body_bytes: int = 4 * 2**20,
    upload_bytes: int = 64 * 2**20,
    can_add: bool = True,
    workers: Workers | None = None,
    write_seconds: float = 60.0,
) -> FastAPI:
    """Return the application that `leanrag serve` runs. Folders and models stay open at its end: whoever opened them closes them.

    Args:
        folders: Folders of documents, by the names that clients use as `model`. The first is also called "leanrag".
        models: Models that answer without documents, by their `name`.
        embedders: Embedders for `/v1/embeddings`, by name.
        keys: Keys that clients need; None or no keys for a server that anybody may ask.
        hosts: Names of this server that requests may use; None allows all names.
        origins: Origins of other web pages that may use the server.
        body_bytes: Most bytes of a request.
        upload_bytes: Most bytes of a file that is added.
        can_add: Whether clients may add documents.
        workers: Threads that answer; their queue decides how many requests wait.
        write_seconds: Longest wait for a client that does not read its stream.

    Raises:
        ConfigurationError: Two of them have the same name, or a key is limited to a name that does not exist.
    """
    backends: dict[str, Backend] = {name: FolderBackend(rag) for name, rag in (folders or {}).items()}
    for model in models:
        if model.name in backends:
            raise ConfigurationError(f"two folders or models have the name {model.name!r}; rename one of them")
        backends[model.name] = ModelBackend(model)
    if DEFAULT_MODEL in backends:
        first = next(iter(backends))
        if first != DEFAULT_MODEL:
            raise ConfigurationError(
                f"{DEFAULT_MODEL!r} is the name of the first folder; rename the other folder or model"
            )
    keys = keys or Keys({})
    if unknown := sorted(keys.names_of_models() - backends.keys() - (embedders or {}).keys()):
        raise ConfigurationError(f"a key is limited to {unknown[0]!r}, which does not exist; use {', '.join(backends)}")
    service = Service(backends, embedders or {}, workers or Workers(), can_add=can_add, write_seconds=write_seconds)
    settings = GuardSettings(
        public=_PUBLIC, hosts=hosts, origins=origins, body_bytes=body_bytes, upload_bytes=upload_bytes
    )
    guard = Middleware(Guard, settings=settings, keys=keys, limits=ClientLimits(), metrics=service.metrics)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
    )
    app = FastAPI(
        title="leanrag",
        version=leanrag.__version__,
        docs_url=None,  # the pages of FastAPI load scripts from other servers
        redoc_url=None,
        middleware=[cors, guard] if origins else [guard],
        exception_handlers={
            LeanRAGError: _on_error,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http_error,
        },
        lifespan=_lifespan,
    )
    app.state.service = service
    for routes in (openai_routes, library_routes, page):
        app.include_router(routes.router)
    app.add_api_route("/health", _health, methods=["GET"])
    app.add_api_route("/metrics", _metrics, methods=["GET"])
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    service: Service = app.state.service
    service.workers.close()
    service.lookups.close()


async def _health() -> dict[str, str]:
    """Say that the server lives; needs no key."""
    return {"status": "ok", "version": leanrag.__version__}


def _metrics(service: ServiceDependency) -> PlainTextResponse:
    """Return the figures of the server for Prometheus."""
    service.metrics.active.set(service.workers.active + service.lookups.active)
    for name, backend in service.backends.items():
        if isinstance(backend, FolderBackend):
            service.metrics.documents.set(backend.rag.stats().documents, name)
    return PlainTextResponse(service.metrics.text(), media_type=CONTENT_TYPE)


# Errors


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    service: Service = request.app.state.service
    failure = to_api_error(error, retry_after=service.workers.retry_after)
    if failure.status >= 500:
        logger.warning("%s %s failed: %s", request.method, request.url.path, failure, exc_info=error)
    return _response(failure)


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ApiError):  # of the guard, while the body was read
        return _response(error.__cause__)
    messages = {404: "This address does not exist", 405: "This address has another method"}
    default = "The body is not JSON that the server can read" if error.status_code == 400 else str(error.detail)
    return _response(ApiError(error.status_code, messages.get(error.status_code, default), code="invalid_request"))


async def _on_invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: Mapping[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        return _response(ApiError(400, "The body is not complete JSON. Send a JSON object", code="invalid_json"))
    where = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    param = ".".join(where) or None
    subject = f"'{param}'" if param else "The body"
    return _response(ApiError(400, f"{subject} is wrong: {first['msg']}", code="invalid_value", param=param))


def _response(failure: ApiError) -> JSONResponse:
    return JSONResponse(failure.body, failure.status, failure.headers)
