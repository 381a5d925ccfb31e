"""Packings and compressions: which parts of the hits a prompt shows, and which were dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leanrag.types.documents import Hit

__all__ = ["Compression", "DroppedItem", "DroppedSpan", "Evidence", "PackAction", "PackedItem", "Packing", "Segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a compressed text and the span of a source that it repeats.

    Attributes:
        start: First character in the compressed text.
        end: One past the last.
        source: Index of the source, from 0.
        source_start: First character in the source's document.
        source_end: One past the last.
        score: Highest score of its units; None if they were not scored.
        reason: Why it was kept: "whole" (the whole source was kept), "relevant", "context" (a neighbouring unit needs it),
            "protected", "kept" (`keep=` or a pattern named it) or "surprising" (the model did not expect it).
    """

    start: int
    end: int
    source: int
    source_start: int
    source_end: int
    score: float | None = None
    reason: str = "whole"


@dataclass(frozen=True, slots=True)
class DroppedSpan:
    """A span of a source that is not in the compressed text.

    Attributes:
        source: Index of the source, from 0.
        source_start: First character in the source's document.
        source_end: One past the last.
        score: As in `Segment`.
        reason: "budget", "duplicate" or "irrelevant".
    """

    source: int
    source_start: int
    source_end: int
    score: float | None = None
    reason: str = "budget"


@dataclass(frozen=True, slots=True)
class Compression:
    """A compressed text, and the source of each part.

    For each segment `s` of a verbatim method, `text[s.start:s.end]` equals the text of the source's document at
    `s.source_start:s.source_end`. Between segments the compressor puts only white space; in a log, also how often a line occurs.

    Attributes:
        text: The compressed text.
        segments: The kept parts, in order.
        dropped: The dropped parts, by source and offset.
        sources: The sources before the compression.
        tokens_before: Tokens of the sources, joined by blank lines, counted by the tokenizer of the reader.
        tokens_after: Tokens of `text`, counted in the same way; at most the budget.
        method: Name of the compressor.
        seconds: Time that the compression took.
    """

    text: str
    segments: tuple[Segment, ...]
    dropped: tuple[DroppedSpan, ...]
    sources: tuple[Hit, ...]
    tokens_before: int
    tokens_after: int
    method: str
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens after the compression divided by tokens before; 1 if there were none."""
        return self.tokens_after / self.tokens_before if self.tokens_before else 1.0

    def restore(self) -> str:
        """Return the text before the compression."""
        return "\n\n".join(hit.chunk.text for hit in self.sources)

    def map(self, offset: int) -> tuple[str, int] | None:
        """Return `(document id, offset in the document)` of the character at `offset`; None between segments."""
        for segment in self.segments:
            if segment.start <= offset < segment.end:
                document_id = self.sources[segment.source].chunk.document_id
                return document_id, segment.source_start + min(
                    offset - segment.start, segment.source_end - segment.source_start - 1
                )
        return None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A unit of a hit (a sentence, a row, a block of code) and its worth for a question.

    Attributes:
        hit: Index of the hit, from 0.
        start: First character in the chunk's text.
        end: One past the last.
        value: At least 0, higher is better; comparable among the units of one question.
        needs: Index of the unit that must be shown with this unit; None if there is no such unit.
        group: Number of the group of units that are kept or dropped together (the steps of a list, the fields of a record); None
            if the unit is in no group.
    """

    hit: int
    start: int
    end: int
    value: float
    needs: int | None = None
    group: int | None = None


PackAction = Literal["kept", "extracted", "trimmed", "pruned", "heading"]


@dataclass(frozen=True, slots=True)
class PackedItem:
    """A source in the prompt: verbatim spans of a hit (see `Segment`), or only its heading.

    Attributes:
        number: The [n] mark, from 1.
        hit: The hit that it shows.
        text: The text in the prompt.
        segments: The spans of the document that `text` consists of, in order; only white space is between them. Empty for a
            heading, which may not be verbatim.
        tokens: Tokens of the rendered source, header included.
        action: "kept" (the whole hit), "extracted" (some of its units), "trimmed" (its beginning), "pruned" (shortened by a
            compressor) or "heading" (only its heading or title, to say where the document has more).
        more: Further hits of the same document that it shows.
    """

    number: int
    hit: Hit
    text: str
    segments: tuple[Segment, ...]
    tokens: int
    action: PackAction = "kept"
    more: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """A hit that is not in the prompt, and why: the budget is full, it repeats another hit, or it is worth too little."""

    hit: Hit
    reason: Literal["budget", "duplicate", "irrelevant"]
    tokens: int


@dataclass(frozen=True, slots=True)
class Packing:
    """The sources of a prompt, and the hits that were dropped.

    Attributes:
        items: The sources, in the order of the prompt.
        dropped: The dropped hits, best first.
        budget: Tokens that were available for the sources.
        tokens: Tokens that the sources take; at most `budget`.
        compression: The result of the compressor; None if no compressor was used.
    """

    items: tuple[PackedItem, ...]
    dropped: tuple[DroppedItem, ...]
    budget: int
    tokens: int
    compression: Compression | None = None
