"""Documents, chunks and hits."""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

__all__ = [
    "Chunk",
    "Document",
    "DocumentKind",
    "Hit",
    "Mark",
    "MetadataValue",
    "Scalar",
    "Where",
    "locate",
    "plain_metadata",
]

Scalar = str | int | float | bool | None


MetadataValue = Scalar | date | Sequence[Scalar | date] | Set[Scalar | date]
"""A value to filter on, or several (tags). Dates become text in ISO form."""


Where = Mapping[str, object]
"""Conditions on documents; see `leanrag.retrieval.filters`."""


DocumentKind = Literal["text", "markdown", "code"]


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a page, slide, sheet or section of a file begins in the text of its document.

    Attributes:
        start: First character.
        label: What people call it: "page 12".
    """

    start: int
    label: str


def locate(marks: Sequence[Mark], start: int, end: int) -> str:
    """Return what people call the part of a document from `start` to `end`, "" if no mark is at or before `end`.

    Args:
        marks: In the order of their starts.
        start: First character.
        end: One past the last character.

    Example:
        >>> marks = [Mark(0, "page 1"), Mark(100, "page 2"), Mark(200, "page 3")]
        >>> locate(marks, 120, 150), locate(marks, 150, 201)
        ('page 2', 'page 2 to page 3')
    """
    first = bisect.bisect_right(marks, start, key=_start_of) - 1
    last = max(first, bisect.bisect_left(marks, end, key=_start_of) - 1)
    labels = dict.fromkeys(marks[i].label for i in (first, last) if i >= 0)
    return " to ".join(labels)


def _start_of(mark: Mark) -> int:
    return mark.start


@dataclass(frozen=True, slots=True)
class Document:
    """A text with an id.

    Attributes:
        text: The whole text; every offset elsewhere points into it.
        id: Stable id; a new text with the same id replaces the old text. Defaults to a hash of the text, the title and the
            metadata, so equal texts with different titles are two documents.
        title: The title for people; prompts and citations show it.
        source: Absolute path of the file; None if the text is not from a file.
        kind: Decides how the text is split into chunks.
        metadata: Values to filter on, and lists of values (tags). Dates become text in ISO form, sets become sorted lists.
        marks: Where its pages, slides, sheets or sections begin, in order; empty if the file has none.
    """

    text: str
    id: str = ""
    title: str = ""
    source: str | None = None
    kind: DocumentKind = "text"
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", plain_metadata(self.metadata))
        if not self.id:
            object.__setattr__(self, "id", "text:" + self._identity()[:16])

    def _identity(self) -> str:
        if not self.title and not self.metadata:
            return self.sha256
        named = json.dumps([self.sha256, self.title, self.metadata], sort_keys=True, default=repr)
        return hashlib.sha256(named.encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """Hash of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def plain_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, Scalar | list[Scalar]]:
    """Return `metadata` as values of JSON: dates as text in ISO form, sets as sorted lists, sequences as lists.

    Example:
        >>> plain_metadata({"day": date(2024, 3, 5), "tags": {"b", "a"}})
        {'day': '2024-03-05', 'tags': ['a', 'b']}
    """
    plain: dict[str, Scalar | list[Scalar]] = {}
    for name, value in metadata.items():
        if isinstance(value, Set):
            plain[name] = sorted(map(_plain_scalar, value), key=lambda scalar: (type(scalar).__name__, scalar))
        elif isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            plain[name] = _plain_scalar(value)
        else:
            plain[name] = [_plain_scalar(each) for each in value]
    return plain


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document: `text == document.text[start:end]`, always.

    Attributes:
        document_id: The id of the document.
        start: First character.
        end: One past the last character.
        text: The text of the span.
        title: The title of the document.
        heading: Headings above the span, outermost first, joined by " > "; "" if there are none.
        source: The file of the document, or None.
        lead: Verbatim text above the chunk that a reader needs to understand it: the header row of a table, the column names of a
            CSV file, or the nearest heading or first line of the section, record or question in which the chunk begins; "" if
            there is none.
        lead_start: First character of the lead: `lead == document.text[lead_start:lead_start + len(lead)]`.
        marks: The marks of the document that say where the span is: those in it, and the last one before it. Only a chunk that
            was read from a store has them.
    """

    document_id: str
    start: int
    end: int
    text: str
    title: str = ""
    heading: str = ""
    source: str | None = None
    lead: str = ""
    lead_start: int = 0
    marks: tuple[Mark, ...] = ()

    @property
    def id(self) -> str:
        """`document_id:start-end`: derived, never random."""
        return f"{self.document_id}:{self.start}-{self.end}"

    @property
    def full_text(self) -> str:
        """The text below its title, its headings and its lead: what a reranker reads."""
        names = " > ".join(filter(None, (self.title, self.heading)))
        return "\n".join(filter(None, (names, self.lead, self.text)))


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved chunk.

    Attributes:
        chunk: The chunk that was found.
        score: Higher is better; comparable only within one search.
        dense: Cosine similarity of question and chunk; None if vectors were not searched.
        bm25: BM25 score (higher is better); None if no term matched, or terms were not searched.
        copies: Other chunks that were found with the same text (except for case, white space and punctuation) under the same
            heading; best first. They are not hits themselves.
    """

    chunk: Chunk
    score: float
    dense: float | None = None
    bm25: float | None = None
    copies: tuple[Chunk, ...] = ()


def _plain_scalar(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value
