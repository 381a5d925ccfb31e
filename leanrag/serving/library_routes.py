"""The library's own endpoints: search, explain, add, documents."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from leanrag.documents.pictures import draw_page, find_page
from leanrag.errors import ConfigurationError, DocumentError, LeanRAGError
from leanrag.pipeline.query import AskOptions
from leanrag.pipeline.rag import Rag
from leanrag.serving.failures import ApiError
from leanrag.serving.keys import Client
from leanrag.serving.library_api import (
    AddRequest,
    ExplainRequest,
    Name,
    SearchRequest,
    check_file_name,
    describe_document,
    describe_explanation,
    describe_hit,
    describe_passage,
    describe_report,
)
from leanrag.serving.service import ClientDependency, Service, ServiceDependency
from leanrag.types import AddReport, CancelToken, Document

__all__ = ["UPLOADS", "router"]

UPLOADS = "uploads"
"""Folder of added files, in the folder of the database."""

_PAGE = 1000  # documents of one response

router = APIRouter()

Folder = Annotated[Name, Query()]


@router.get("/folders")
async def list_folders(service: ServiceDependency, client: ClientDependency) -> dict[str, Any]:
    """List the folders."""
    folders = [{"name": name, "can_add": service.can_add and client.can_add} for name in service.folders(client)]
    return {"folders": folders}


@router.post("/search")
async def search(
    body: SearchRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> dict[str, Any]:
    """Find text for a question, without a model that answers."""
    rag = service.folder(body.folder, client)
    work = functools.partial(rag.search, body.question, body.k, where=body.where)
    hits = await service.lookups.run(request.receive, CancelToken(), work)
    return {"hits": [describe_hit(hit) for hit in hits]}


@router.post("/explain")
async def explain(
    body: ExplainRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> dict[str, Any]:
    """Show what a question would send to the model."""
    rag, cancel = service.folder(body.folder, client), CancelToken()
    options: AskOptions = {**body.options(), "max_tokens": body.max_tokens, "cancel": cancel}
    work = functools.partial(rag.explain, body.question, **options)
    return describe_explanation(await service.lookups.run(request.receive, cancel, work))


@router.post("/add")
async def add_text(
    body: AddRequest, request: Request, service: ServiceDependency, client: ClientDependency
) -> dict[str, Any]:
    """Add a text."""
    rag = _writable(service, client, body.folder)
    work = functools.partial(rag.add_text, body.text, title=body.title, id=body.id, metadata=body.metadata)
    return describe_report(await service.lookups.run(request.receive, CancelToken(), work))


@router.post("/add/file")
async def add_file(
    name: Annotated[str, Query()],
    request: Request,
    service: ServiceDependency,
    client: ClientDependency,
    folder: Folder = "leanrag",
) -> dict[str, Any]:
    """Add a file: its bytes are the body. A file of the same name is replaced, unless the new one cannot be read."""
    rag, name = _writable(service, client, folder), check_file_name(name)
    uploads = rag.path / UPLOADS
    await asyncio.to_thread(uploads.mkdir, exist_ok=True)
    descriptor, part = await asyncio.to_thread(tempfile.mkstemp, prefix=".part-", dir=uploads)
    try:
        with os.fdopen(descriptor, "wb") as file:
            async for block in request.stream():
                await asyncio.to_thread(file.write, block)
        work = functools.partial(_replace_and_add, rag, Path(part), uploads / name, service.uploads)
        return describe_report(await service.lookups.run(request.receive, CancelToken(), work))
    finally:
        await asyncio.to_thread(Path(part).unlink, missing_ok=True)


def _replace_and_add(rag: Rag, part: Path, target: Path, lock: threading.Lock) -> AddReport:
    """Move a new file to its name and add it; if that fails, put the file that was there back.

    Raises:
        ApiError: The file cannot be read.
    """
    previous = part.with_name(part.name + ".previous")
    with lock:
        if target.exists():
            target.replace(previous)
        part.replace(target)
        try:
            return rag.add(target)
        except LeanRAGError as error:
            target.unlink()
            if previous.exists():
                previous.replace(target)
            if not isinstance(error, DocumentError):
                raise
            if target.exists():  # `add` has removed its document
                rag.add(target)
            message = str(error).replace(str(target), target.name)  # clients need not know where the folder is
            raise ApiError(400, message, code="invalid_document", param="name") from error
        finally:
            previous.unlink(missing_ok=True)


@router.get("/documents")
async def list_documents(
    request: Request,
    service: ServiceDependency,
    client: ClientDependency,
    folder: Folder = "leanrag",
    offset: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = _PAGE,
) -> dict[str, Any]:
    """List the documents of a folder, without their texts."""
    rag = service.folder(folder, client)

    def work() -> dict[str, Any]:
        records = itertools.islice(rag.documents(), offset, offset + limit)
        return {"total": rag.stats().documents, "documents": [describe_document(record) for record in records]}

    return await service.lookups.run(request.receive, CancelToken(), work)


@router.get("/documents/passage")
async def read_passage(
    id: Annotated[str, Query(max_length=4096)],  # noqa: A002 - the word of the API
    request: Request,
    service: ServiceDependency,
    client: ClientDependency,
    folder: Folder = "leanrag",
    start: Annotated[int, Query(ge=0)] = 0,
    end: Annotated[int | None, Query(ge=0)] = None,
) -> dict[str, Any]:
    """Show a passage of a document with the text around it. The id is looked up in the folder; it is never a path."""
    rag = service.folder(folder, client)

    def work() -> dict[str, Any]:
        return describe_passage(_find_document(rag, id), start, start if end is None else end)

    return await service.lookups.run(request.receive, CancelToken(), work)


@router.get("/documents/page", response_class=Response, responses={200: {"content": {"image/png": {}}}})
async def draw_document_page(
    id: Annotated[str, Query(max_length=4096)],  # noqa: A002 - the word of the API
    page: Annotated[int, Query(ge=1, lt=10**6)],
    request: Request,
    service: ServiceDependency,
    client: ClientDependency,
    folder: Folder = "leanrag",
) -> Response:
    """Show a page of a PDF file as a PNG picture."""
    rag = service.folder(folder, client)

    def work() -> bytes:
        document = _find_document(rag, id)
        if page not in (find_page(document, mark.start) for mark in document.marks):
            raise ApiError(404, f"The document has no page {page} of a PDF file", code="page_not_found", param="page")
        try:
            return draw_page(document, page)
        except DocumentError as error:
            message = str(error).replace(str(document.source), "the file")  # clients need not know where it is
            raise ApiError(404, message, code="page_not_drawn", param="page") from error

    picture = await service.lookups.run(request.receive, CancelToken(), work)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})


def _find_document(rag: Rag, document_id: str) -> Document:
    """Return a document.

    Raises:
        ApiError: The folder does not have it.
    """
    try:
        return rag.get_document(document_id)
    except ConfigurationError as error:
        raise ApiError(
            404, f"The folder has no document {document_id!r:.200}", code="document_not_found", param="id"
        ) from error


def _writable(service: Service, client: Client, folder: str) -> Rag:
    """Return a folder that the client may add to.

    Raises:
        ApiError: The client may not add documents, or the folder does not exist.
    """
    rag = service.folder(folder, client)
    if not (service.can_add and client.can_add):
        raise ApiError(403, f"{client.name} may not add documents to {folder!r}", code="not_allowed")
    return rag
