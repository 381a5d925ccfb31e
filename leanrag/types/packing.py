"""What of the hits a prompt holds, and what was left out."""

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
        source: Which of the sources, from 0.
        source_start: First character in the source's document.
        source_end: One past the last.
        score: How much the best unit of it was worth to the compressor or packer, None when it was not asked.
        reason: Why it is here: "whole" (the source was kept as it is), "relevant", "context" (a neighbour needs it),
            "protected", "kept" (`keep=` or a pattern asked for it) or "surprising" (the model did not expect it).
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
        source: Which of the sources, from 0.
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
    """A compressed text, and where each part of it came from.

    `text[s.start:s.end]` is the source's document at `s.source_start:s.source_end`, character for character, for each segment
    `s` of a verbatim method; what lies between segments is white space that the compressor put there.

    Attributes:
        text: The compressed text.
        segments: Its parts, in order.
        dropped: What was left out, by source and place.
        sources: What was compressed, as it was.
        tokens_before: Tokens of the sources, joined by blank lines, as the reader counts them.
        tokens_after: Tokens of `text`, counted alike; at most the budget.
        method: The compressor's name.
        seconds: Time it took.
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
        """Share of the tokens that is left; 1 when there were none."""
        return self.tokens_after / self.tokens_before if self.tokens_before else 1.0

    def restore(self) -> str:
        """Return the text before the compression."""
        return "\n\n".join(hit.chunk.text for hit in self.sources)

    def map(self, offset: int) -> tuple[str, int] | None:
        """Return `(document id, place in the document)` of the character at `offset`, None for one that joins segments."""
        for segment in self.segments:
            if segment.start <= offset < segment.end:
                document_id = self.sources[segment.source].chunk.document_id
                return document_id, segment.source_start + min(
                    offset - segment.start, segment.source_end - segment.source_start - 1
                )
        return None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A unit of a hit (a sentence, a row, a block of code) and what it is worth for a question.

    Attributes:
        hit: Which of the hits, from 0.
        start: First character in the chunk's text.
        end: One past the last.
        value: At least 0, higher is better; comparable among the units of one question.
        needs: Index, among the units, of the unit that this makes no sense without; None for none.
        group: Number of the units that are read together with this one (the steps of a list, the fields of a record); None for
            none.
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
    """A source as the prompt shows it, made of verbatim spans (see `Segment`), or only named.

    Attributes:
        number: The [n] mark, from 1.
        hit: Where it came from.
        text: What the prompt shows of it.
        segments: The spans of the hit's document that `text` is made of, in order; only white space lies between them. None of
            a heading: its words need not stand in the document as they stand here.
        tokens: Tokens of the rendered source, its header included.
        action: "kept" whole, "extracted" (some of its units), "trimmed" (its beginning), "pruned" (thinned by a compressor) or
            "heading" (nothing of it: `text` is the chunk's heading, or title, and says where more would stand).
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
    """A hit that is not in the prompt, and why: no room, a repetition, or worth too little beside the others."""

    hit: Hit
    reason: Literal["budget", "duplicate", "irrelevant"]
    tokens: int


@dataclass(frozen=True, slots=True)
class Packing:
    """What was packed and what was left out.

    Attributes:
        items: In prompt order.
        dropped: Hits left out, best first.
        budget: Tokens that were available for the sources.
        tokens: Tokens that the sources take; at most `budget`.
        compression: What a compressor made of the hits, None when none was asked.
    """

    items: tuple[PackedItem, ...]
    dropped: tuple[DroppedItem, ...]
    budget: int
    tokens: int
    compression: Compression | None = None
