"""The shapes of the library's own endpoints: search, explain, add, documents."""

from __future__ import annotations

import bisect
import re
import unicodedata
from typing import Annotated, Any

import pydantic

from leanrag.documents.pictures import find_page
from leanrag.retrieval.store import DocumentRecord
from leanrag.serving.failures import ApiError
from leanrag.serving.openai_api import FolderOptions, Tokens
from leanrag.types import AddReport, Document, Explanation, Hit, MetadataValue, locate

__all__ = [
    "AddRequest",
    "ExplainRequest",
    "SearchRequest",
    "check_file_name",
    "describe_document",
    "describe_explanation",
    "describe_hit",
    "describe_passage",
    "describe_report",
]

_MOST_NAME_BYTES = 200
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows
_SHOWN_AROUND = 2000  # characters before and after a passage, if its document has no pages
_MOST_AROUND = 20_000

Name = Annotated[str, pydantic.Field(max_length=512)]


class SearchRequest(pydantic.BaseModel):
    """The body of `/search`."""

    model_config = pydantic.ConfigDict(extra="forbid")

    question: str
    folder: Name = "leanrag"
    k: Annotated[int, pydantic.Field(ge=1, le=1000)] | None = None
    where: dict[str, Any] | None = None


class ExplainRequest(FolderOptions):
    """The body of `/explain`."""

    question: str
    folder: Name = "leanrag"
    max_tokens: Tokens | None = None


class AddRequest(pydantic.BaseModel):
    """The body of `/add`: a text."""

    model_config = pydantic.ConfigDict(extra="forbid")

    text: str
    folder: Name = "leanrag"
    title: Name = ""
    id: Name = ""
    metadata: dict[str, MetadataValue] | None = None


def check_file_name(name: str) -> str:
    """Return the name of a file to add.

    Raises:
        ApiError: It is not a plain name: it has a folder, control characters, or a meaning for the system.
    """
    is_plain = (
        0 < len(name.encode("utf-8", "surrogatepass")) <= _MOST_NAME_BYTES
        and not name.startswith(".")
        and not name.endswith((".", " "))
        and not any(char in '/\\:*?"<>|' or unicodedata.category(char)[0] == "C" for char in name)
        and not _RESERVED.fullmatch(name)
    )
    if not is_plain:
        raise ApiError(
            400, f"The name {name!r:.100} cannot be used. Send the plain name of a file, such as 'report.pdf'",
            code="invalid_value", param="name",
        )  # fmt: skip
    return name


def describe_hit(hit: Hit) -> dict[str, Any]:
    """Return a hit as JSON."""
    chunk = hit.chunk
    return {
        "document_id": chunk.document_id,
        "title": chunk.title,
        "heading": chunk.heading,
        "location": locate(chunk.marks, chunk.start, chunk.end),
        "start": chunk.start,
        "end": chunk.end,
        "text": chunk.text,
        "score": hit.score,
    }


def describe_explanation(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON."""
    packing = explanation.packing
    sources = [
        {
            "number": item.number,
            "document_id": item.hit.chunk.document_id,
            "title": item.hit.chunk.title,
            "text": item.text,
            "tokens": item.tokens,
            "action": item.action,
        }
        for item in packing.items
    ]
    dropped = [
        {"document_id": item.hit.chunk.document_id, "tokens": item.tokens, "reason": item.reason}
        for item in packing.dropped
    ]
    return {
        "question": explanation.question,
        "prompt": explanation.prompt,
        "model": explanation.model,
        "n_ctx": explanation.n_ctx,
        "prompt_tokens": explanation.prompt_tokens,
        "max_tokens": explanation.max_tokens,
        "cost": explanation.cost,
        "sources": {"tokens": packing.tokens, "budget": packing.budget, "shown": sources, "dropped": dropped},
    }


def describe_report(report: AddReport) -> dict[str, Any]:
    """Return a report as JSON; what failed is an error of its own."""
    return {
        "added": report.added,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "chunks": report.chunks,
        "seconds": report.seconds,
    }


def describe_document(record: DocumentRecord) -> dict[str, Any]:
    """Return a record of a document as JSON."""
    return {
        "id": record.id,
        "title": record.title,
        "chunks": record.chunks,
        "size_bytes": record.size,
        "metadata": record.metadata,
    }


def describe_passage(document: Document, start: int, end: int) -> dict[str, Any]:
    """Return a passage of a document with the text around it: the page that it is on, if the document has pages.

    `page` is the number of the page of a PDF file, None for other documents.

    Offsets count characters; programs whose strings have other units can join the three texts instead.

    Raises:
        ApiError: The passage is not in the document.
    """
    if not 0 <= start <= end <= len(document.text):
        raise ApiError(
            400, f"The document has {len(document.text):,} characters, so it has no passage from {start} to {end}",
            code="invalid_value", param="start",
        )  # fmt: skip
    first, last = max(0, start - _SHOWN_AROUND), min(len(document.text), end + _SHOWN_AROUND)
    if document.marks:
        starts = [mark.start for mark in document.marks]
        i, j = bisect.bisect_right(starts, start), bisect.bisect_left(starts, end)
        first = max(starts[i - 1] if i else 0, start - _MOST_AROUND)
        last = min(starts[j] if j < len(starts) else len(document.text), end + _MOST_AROUND)
    return {
        "id": document.id,
        "title": document.title,
        "location": locate(document.marks, start, end),
        "start": first,
        "before": document.text[first:start],
        "quote": document.text[start:end],
        "after": document.text[end:last],
        "end": last,
        "length": len(document.text),
        "page": find_page(document, start),
    }
