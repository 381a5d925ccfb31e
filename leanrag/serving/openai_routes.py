"""The endpoints of OpenAI's API."""

from __future__ import annotations

import base64
import functools
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from leanrag.serving.backends import Ask
from leanrag.serving.failures import ApiError
from leanrag.serving.keys import Client
from leanrag.serving.openai_api import (
    ChatRequest,
    ChatShape,
    CompletionRequest,
    CompletionShape,
    EmbeddingRequest,
    TextShape,
)
from leanrag.serving.responses_api import ResponsesRequest, ResponsesShape
from leanrag.serving.service import ClientDependency, Service, ServiceDependency
from leanrag.serving.streaming import EventStream
from leanrag.types import CancelToken

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["router"]

router = APIRouter(prefix="/v1")


@router.get("/models")
async def list_models(service: ServiceDependency, client: ClientDependency) -> dict[str, Any]:
    """List what can be asked."""
    names = [*service.names(client), *filter(client.sees, service.embedders)]
    return {"object": "list", "data": [_model(service, name) for name in names]}


@router.get("/models/{name:path}")
async def get_model(name: str, service: ServiceDependency, client: ClientDependency) -> dict[str, Any]:
    """Describe a folder or model."""
    service.check_exists(name, client)
    return _model(service, name)


def _model(service: Service, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": service.created, "owned_by": "leanrag"}


@router.post("/chat/completions")
async def chat(body: ChatRequest, request: Request, service: ServiceDependency, client: ClientDependency) -> Response:
    """Answer the last message."""
    shape = ChatShape(body.model, body.ignored, body.include_usage)
    return await _answer(body.ask(), shape, body.stream, request, service, client)


@router.post("/completions")
async def complete(
    body: CompletionRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> Response:
    """Complete a text; of a folder, answer a question."""
    shape = CompletionShape(body.model, body.ignored, body.include_usage)
    return await _answer(body.ask(), shape, body.stream, request, service, client)


@router.post("/responses")
async def respond(
    body: ResponsesRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> Response:
    """Answer the last message, in the shape of OpenAI's newer API."""
    shape = ResponsesShape(body.model, int(time.time()), body.ignored)
    return await _answer(body.ask(), shape, body.stream, request, service, client)


@router.post("/embeddings")
async def embed(
    body: EmbeddingRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> dict[str, Any]:
    """Embed texts."""
    embedder, texts = service.embedder(body.model, client), body.texts()
    if body.dimensions not in (None, embedder.dim):
        raise ApiError(
            400, f"The vectors of {body.model!r} have {embedder.dim} dimensions, got {body.dimensions}. Leave it out",
            code="unsupported_parameter", param="dimensions",
        )  # fmt: skip

    def work() -> tuple[Vectors, int]:
        embed = embedder.embed_queries if body.leanrag.kind == "query" else embedder.embed_documents
        return embed(texts), sum(map(embedder.count_tokens, texts))

    vectors, tokens = await service.workers.run(request.receive, CancelToken(), work)
    service.metrics.tokens.add(tokens, body.model, "prompt")
    data = [
        {"object": "embedding", "index": i, "embedding": _encode(row, body.encoding_format)}
        for i, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "model": body.model, "data": data, "usage": usage}


def _encode(row: Vectors, encoding: str) -> str | list[float]:
    """Return a vector as numbers, or as the bytes of its little-endian float32 numbers."""
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode()
    numbers: list[float] = row.tolist()
    return numbers


async def _answer(
    ask: Ask, shape: TextShape | ResponsesShape, is_streamed: bool, request: Request, service: Service, client: Client
) -> Response:
    """Return the response to a request for text, whole or as a stream."""
    backend, workers = service.backend(shape.model, client), service.workers
    if client.max_tokens is not None:
        ask = replace(ask, max_tokens=min(ask.max_tokens or client.max_tokens, client.max_tokens))
    shape = replace(shape, ignored=[*shape.ignored, *backend.ignores(ask)])
    count = functools.partial(service.count, shape.model)
    if is_streamed:
        started = time.monotonic()
        feed = await workers.open(request.receive, ask.cancel, lambda: backend.start(ask))
        return EventStream(
            feed,
            shape,
            write_seconds=service.write_seconds,
            on_first=lambda: service.metrics.first_word_seconds.observe(time.monotonic() - started),
            on_reply=count,
            ends_with_done=not isinstance(shape, ResponsesShape),
        )
    reply = await workers.run(request.receive, ask.cancel, lambda: backend.start(ask).reply())
    count(reply)
    return JSONResponse(shape.whole(reply))
