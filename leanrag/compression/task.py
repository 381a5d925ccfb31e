"""The first and the last step of every compressor: it checks the arguments, and joins the parts that are kept."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from leanrag.errors import BudgetError, ConfigurationError
from leanrag.protocols import CompressionSource, TokenCounter
from leanrag.spans import Span, join_spans, merge_spans, trim_span
from leanrag.types import Chunk, Compression, Document, DroppedSpan, Hit, Segment

__all__ = ["BETWEEN_SOURCES", "Part", "Task", "as_hits", "assemble"]

BETWEEN_SOURCES = "\n\n"


@dataclass(frozen=True, slots=True)
class Part:
    """A span of the text of a source that is kept, or that is dropped for `reason`.

    `note` is written behind a span that is kept; the source does not have it.
    """

    source: int
    start: int
    end: int
    score: float | None = None
    reason: str = "relevant"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """The checked arguments of a call of a compressor.

    Attributes:
        hits: The sources, in order.
        keep: For each source the spans of its text that were asked for, disjoint and in order.
        budget: Most tokens of the result.
        tokens_before: Tokens of the sources joined.
        count_tokens: Counts the tokens of a text, as the reader does.
        question: The question; "" if there is none.
        started: When the call began, by `time.perf_counter`.
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
        if not is_one and not isinstance(sources, Iterable):
            raise ConfigurationError(
                f"`sources` must be a string, Document, Chunk or Hit, or a sequence of them, got {sources!r:.100}"
            )
        hits = as_hits([sources] if is_one else sources)  # type: ignore[list-item,arg-type]
        if (budget is None) == (rate is None):
            raise ConfigurationError(f"pass exactly one of `budget` and `rate`, got {budget!r} and {rate!r}")
        if budget is not None and not (hasattr(budget, "__index__") and budget >= 0):
            raise ConfigurationError(f"`budget` must be a whole number of tokens, at least 0, got {budget!r}")
        if rate is not None and not 0 < rate <= 1:
            raise ConfigurationError(f"`rate`, the share of the tokens that stays, must be in (0, 1], got {rate!r}")
        tokens = count_tokens(BETWEEN_SOURCES.join(hit.chunk.text for hit in hits)) if hits else 0
        if budget is None:
            assert rate is not None
            budget = tokens if rate == 1 else math.floor(tokens * rate)
        return cls(hits, _keep(hits, keep, is_one), budget, tokens, count_tokens, question, started)

    @property
    def fits(self) -> bool:
        """Whether the sources fit the budget as they are."""
        return self.tokens_before <= self.budget

    def whole(self, method: str) -> Compression:
        """Return the sources as they are."""
        parts = [Part(i, 0, len(hit.chunk.text), None, "whole") for i, hit in enumerate(self.hits)]
        return self.finish(parts, method)

    def finish(self, parts: Iterable[Part], method: str, dropped: Iterable[Part] = ()) -> Compression:
        """Join the parts that are kept. `dropped` has scores and reasons; text that is in neither was dropped for the budget.

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
            dropped=tuple(_dropped(self.hits, parts, dropped)),
            sources=self.hits,
            tokens_before=self.tokens_before,
            tokens_after=tokens,
            method=method,
            seconds=time.perf_counter() - self.started,
        )

    def count(self, text: str) -> int:
        """Return the tokens of `text`; 0 for an empty text."""
        return self.count_tokens(text) if text else 0

    def too_small(self, needed: int) -> BudgetError:
        """Return the error for text that must stay and does not fit."""
        return BudgetError(
            f"the text that must be kept takes {needed:,} tokens, and the budget is {self.budget:,}."
            " Raise the budget, or protect less",
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
        raise ConfigurationError(f"a source must be a string, Document, Chunk or Hit, got {source!r:.100}")
    return Hit(source, score)


def assemble(hits: Sequence[Hit], parts: Sequence[Part]) -> tuple[str, tuple[Segment, ...]]:
    """Return the text of `parts` (disjoint, in order) and where each of them is in it; see `join_spans`."""
    pieces: list[str] = []
    segments: list[Segment] = []
    at = 0
    for source, group in itertools.groupby(parts, key=lambda part: part.source):
        parts_of_source = list(group)
        chunk = hits[source].chunk
        text, starts = join_spans(chunk.text, [(part.start, part.end) for part in parts_of_source])
        if any(part.note for part in parts_of_source):
            text, starts = _with_notes(text, starts, parts_of_source)
        if pieces:
            at += len(BETWEEN_SOURCES)
        for part, start in zip(parts_of_source, starts, strict=True):
            first, length = at + start, part.end - part.start
            offsets = (first, first + length, source, chunk.start + part.start, chunk.start + part.end)
            segments.append(Segment(*offsets, part.score, part.reason))
        pieces.append(text)
        at += len(text)
    return BETWEEN_SOURCES.join(pieces), tuple(segments)


def _with_notes(text: str, starts: Sequence[int], parts: Sequence[Part]) -> tuple[str, list[int]]:
    """Return the text with the notes behind its parts, and where the parts are in it."""
    pieces: list[str] = []
    shifted: list[int] = []
    at = added = 0
    for part, start in zip(parts, starts, strict=True):
        end = start + part.end - part.start
        shifted.append(start + added)
        pieces += [text[at:end], part.note]
        at, added = end, added + len(part.note)
    return "".join([*pieces, text[at:]]), shifted


def _keep(hits: Sequence[Hit], keep: Sequence[Span] | Sequence[Sequence[Span]], is_one: bool) -> tuple[list[Span], ...]:
    lists = [keep] if is_one else (keep or [()] * len(hits))
    if len(lists) != len(hits):
        raise ConfigurationError(
            f"`keep` must have a list of spans for each of the {len(hits)} sources, got {len(lists)}"
        )
    result = []
    for hit, spans in zip(hits, lists, strict=True):
        if not isinstance(spans, Iterable):
            raise ConfigurationError(f"`keep` must have a list of spans for each source, got {spans!r}")
        for span in spans:
            if not (
                isinstance(span, tuple) and len(span) == 2 and 0 <= span[0] < span[1] <= len(hit.chunk.text)  # type: ignore[operator]
            ):
                raise ConfigurationError(
                    f"a span in `keep` must be (start, end) inside the text of {len(hit.chunk.text):,} characters, got {span!r}"
                )
        result.append(merge_spans(spans))  # type: ignore[arg-type]
    return tuple(result)


def _dropped(hits: Sequence[Hit], kept: Iterable[Part], known: Iterable[Part]) -> Iterator[DroppedSpan]:
    """Yield the spans that are in none of `kept`, without white space.

    A span that `known` has keeps its score and reason; the others were dropped for the budget.
    """
    kept_of, known_of = _by_source(kept), _by_source(known)
    for source, hit in enumerate(hits):
        at, end = 0, len(hit.chunk.text)
        for part in [*kept_of[source], Part(source, end, end)]:
            for piece in _tile(known_of[source], at, part.start, source):
                if span := trim_span(hit.chunk.text, piece.start, piece.end):
                    first, last = (hit.chunk.start + offset for offset in span)
                    yield DroppedSpan(source, first, last, piece.score, piece.reason)
            at = part.end


def _by_source(parts: Iterable[Part]) -> defaultdict[int, deque[Part]]:
    groups: defaultdict[int, deque[Part]] = defaultdict(deque)
    for part in sorted(parts, key=lambda part: part.start):
        groups[part.source].append(part)
    return groups


def _tile(known: deque[Part], at: int, end: int, source: int) -> Iterator[Part]:
    """Yield parts that tile `at` to `end`: those of `known`, and between them others. Remove from `known` what ends there."""
    while known and known[0].start < end:
        part = known[0]
        first, last = max(at, part.start), min(end, part.end)
        if first < last:
            yield Part(source, at, first, None, "budget")
            yield Part(source, first, last, part.score, part.reason)
            at = last
        if part.end > end:
            break
        known.popleft()
    yield Part(source, at, end, None, "budget")
