"""What every compressor does first and last: check what it was given, and put the parts that stay together."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from leanrag.compression.protection import Span, merge_spans
from leanrag.errors import BudgetError, ConfigurationError
from leanrag.protocols import CompressionSource, TokenCounter
from leanrag.text import join_spans
from leanrag.types import Chunk, Compression, Document, DroppedSpan, Hit, Segment

__all__ = ["BETWEEN_SOURCES", "Part", "Task", "as_hits", "assemble"]

BETWEEN_SOURCES = "\n\n"


@dataclass(frozen=True, slots=True)
class Part:
    """A span of a source's own text that stays (or, with such a reason, goes)."""

    source: int
    start: int
    end: int
    score: float | None = None
    reason: str = "relevant"


@dataclass(frozen=True, slots=True)
class Task:
    """What was asked of a compressor, checked.

    Attributes:
        hits: The sources, in order.
        keep: For each source the spans of its text that were asked for, disjoint and in order.
        budget: Most tokens of the result.
        tokens_before: Tokens of the sources joined.
        count_tokens: As given.
        question: As given.
        started: When, by `time.perf_counter`.
    """

    hits: tuple[Hit, ...]
    keep: tuple[list[Span], ...]
    budget: int
    tokens_before: int
    count_tokens: TokenCounter
    question: str
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None,
        rate: float | None,
        question: str,
        keep: Sequence[Span] | Sequence[Sequence[Span]],
    ) -> Task:
        """Check the arguments of `Compressor.compress`.

        Raises:
            ConfigurationError: One of them cannot work.
        """
        started = time.perf_counter()
        is_one = isinstance(sources, (str, Document, Chunk, Hit))
        hits = as_hits([sources] if is_one else sources)  # type: ignore[list-item,arg-type]
        if (budget is None) == (rate is None):
            raise ConfigurationError(f"give exactly one of `budget` and `rate`, got {budget!r} and {rate!r}")
        if budget is not None and budget < 0:
            raise ConfigurationError(f"`budget` must be at least 0 tokens, got {budget!r}")
        if rate is not None and not 0 < rate <= 1:
            raise ConfigurationError(f"`rate`, the share of the tokens that stays, must be in (0, 1], got {rate!r}")
        tokens = count_tokens(BETWEEN_SOURCES.join(hit.chunk.text for hit in hits)) if hits else 0
        if budget is None:
            assert rate is not None
            budget = tokens if rate == 1 else math.floor(tokens * rate)
        return cls(hits, _keep(hits, keep, is_one), budget, tokens, count_tokens, question, started)

    @property
    def fits(self) -> bool:
        """Whether nothing need be done."""
        return self.tokens_before <= self.budget

    def whole(self, method: str) -> Compression:
        """Return the sources as they are."""
        parts = [Part(i, 0, len(hit.chunk.text), None, "whole") for i, hit in enumerate(self.hits)]
        return self.finish(parts, method)

    def finish(self, parts: Iterable[Part], method: str, dropped: Iterable[Part] = ()) -> Compression:
        """Put together what stays. `dropped` tells scores and reasons; what neither speaks of was dropped for the budget.

        Raises:
            BudgetError: The parts exceed the budget.
        """
        parts = sorted(parts, key=lambda part: (part.source, part.start))
        text, segments = assemble(self.hits, parts)
        tokens = (
            self.tokens_before if text == BETWEEN_SOURCES.join(h.chunk.text for h in self.hits) else self.count(text)
        )
        if tokens > self.budget:
            raise self.too_small(tokens)
        return Compression(
            text=text,
            segments=segments,
            dropped=tuple(_dropped(self.hits, parts, list(dropped))),
            sources=self.hits,
            tokens_before=self.tokens_before,
            tokens_after=tokens,
            method=method,
            seconds=time.perf_counter() - self.started,
        )

    def count(self, text: str) -> int:
        """Return the tokens of `text`, 0 of none."""
        return self.count_tokens(text) if text else 0

    def too_small(self, needed: int) -> BudgetError:
        """The error for what must stay and does not fit."""
        return BudgetError(
            f"what must stay takes {needed:,} tokens, and the budget is {self.budget:,}. Raise the budget, or protect less",
            needed=needed,
            available=self.budget,
        )


def as_hits(sources: Sequence[CompressionSource]) -> tuple[Hit, ...]:
    """Return texts, documents and chunks as hits, the first the best."""
    return tuple(_as_hit(source, 1.0 / rank) for rank, source in enumerate(sources, start=1))


def _as_hit(source: CompressionSource, score: float) -> Hit:
    if isinstance(source, Hit):
        return source
    if isinstance(source, str):
        source = Document(source)
    if isinstance(source, Document):
        source = Chunk(source.id, 0, len(source.text), source.text, source.title, source=source.source)
    if not isinstance(source, Chunk):
        raise ConfigurationError(f"a source is a string, Document, Chunk or Hit, got {source!r:.100}")
    return Hit(source, score)


def assemble(hits: Sequence[Hit], parts: Sequence[Part]) -> tuple[str, tuple[Segment, ...]]:
    """Return the text of `parts` (disjoint, in order) and where each of them is in it; see `join_spans`."""
    pieces: list[str] = []
    segments: list[Segment] = []
    at = 0
    for number, group in itertools.groupby(parts, key=lambda part: part.source):
        own = list(group)
        chunk = hits[number].chunk
        text, starts = join_spans(chunk.text, [(part.start, part.end) for part in own])
        if pieces:
            at += len(BETWEEN_SOURCES)
        for part, start in zip(own, starts, strict=True):
            length = part.end - part.start
            place = (at + start, at + start + length, number, chunk.start + part.start, chunk.start + part.end)
            segments.append(Segment(*place, part.score, part.reason))
        pieces.append(text)
        at += len(text)
    return BETWEEN_SOURCES.join(pieces), tuple(segments)


def _keep(hits: Sequence[Hit], keep: Sequence[Span] | Sequence[Sequence[Span]], is_one: bool) -> tuple[list[Span], ...]:
    lists = [keep] if is_one else (keep or [()] * len(hits))
    if len(lists) != len(hits):
        raise ConfigurationError(
            f"`keep` must hold a list of spans for each of the {len(hits)} sources, got {len(lists)}"
        )
    result = []
    for hit, spans in zip(hits, lists, strict=True):
        for span in spans:
            if not (
                isinstance(span, tuple) and len(span) == 2 and 0 <= span[0] < span[1] <= len(hit.chunk.text)  # type: ignore[operator]
            ):
                raise ConfigurationError(
                    f"`keep` spans are (start, end) inside the text of {len(hit.chunk.text):,} characters, got {span!r}"
                )
        result.append(merge_spans(spans))  # type: ignore[arg-type]
    return tuple(result)


def _dropped(hits: Sequence[Hit], kept: Sequence[Part], known: Sequence[Part]) -> Iterable[DroppedSpan]:
    """What of the sources is in no part: as `known` describes it, the rest for the budget; white space alone is not told of."""
    for number, hit in enumerate(hits):
        text, start = hit.chunk.text, hit.chunk.start
        gaps, at = [], 0
        for part in [*(part for part in kept if part.source == number), Part(number, len(text), len(text))]:
            if text[at : part.start].strip():
                gaps.append((at, part.start))
            at = part.end
        told = [part for part in known if part.source == number]
        for low, high in gaps:
            inside = sorted((p for p in told if p.start < high and p.end > low), key=lambda part: part.start)
            if not inside:
                yield DroppedSpan(number, start + low, start + high)
            for part in inside:
                yield DroppedSpan(
                    number, start + max(low, part.start), start + min(high, part.end), part.score, part.reason
                )
