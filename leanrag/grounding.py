"""Does the answer stand in the sources, and where: verbatim citations, [n] marks, and a verdict.

Lexical on purpose: it costs microseconds, needs no model, and whatever it quotes is in the document, character for character.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from leanrag.text import content_words, split_sentences, without_marks
from leanrag.types import Citation, PackedItem, Segment

__all__ = ["Grounding", "ground"]

SUPPORT_THRESHOLD = 0.6
"""Least share of a sentence's information that a quote must hold to be cited for it."""

SUBJECT_THRESHOLD = 0.5
"""Least share of the question's information that the cited sources must speak of."""

_QUESTION_WORD_WEIGHT = 0.25  # words that the question already held say little about where an answer came from


@dataclass(frozen=True, slots=True)
class Grounding:
    """What `ground` found.

    Attributes:
        text: The answer, its supported sentences ending with [n] marks.
        citations: One quote a supported sentence, in order of the text, none twice.
        support: Share of the answer's information found in the sources, in [0, 1].
        subject: Share of the question's information that the sources speak of, in [0, 1].
        is_supported: Both are large enough.
    """

    text: str
    citations: tuple[Citation, ...]
    support: float
    subject: float
    is_supported: bool


def ground(question: str, answer: str, items: Sequence[PackedItem]) -> Grounding:
    """Look for the quotes that carry each sentence of `answer`.

    Marks that the model wrote itself are removed: a mark means that a quote was found. A sentence's support is the share of its
    content words, weighted by how rare they are in the sources, that stand in one source sentence or two adjacent ones. Words of
    the question count little, and a sentence of nothing else has no support; a number that is missing there makes it zero.

    Args:
        question: As asked.
        answer: The model's words.
        items: The sources that it read.
    """
    answer = without_marks(answer).strip()
    quotes = [quote for item in items for quote in _quotes(item)]
    question_words = frozenset(content_words(question))
    weights = _Weights(quotes, question_words)
    pieces: list[str] = []
    citations: dict[tuple[int, int, int], Citation] = {}
    supported = total = 0.0
    at = 0
    for start, end in split_sentences(answer):
        sentence = answer[start:end]
        stems = frozenset(content_words(sentence))
        says_something = not stems <= question_words
        quote, support = _best_quote(stems, quotes, weights) if says_something else (None, 0.0)
        information = weights.total(stems)
        supported += support * information
        total += information
        pieces.append(answer[at:start])
        at = end
        if quote is None or support < SUPPORT_THRESHOLD:
            pieces.append(sentence)
            continue
        citation = quote.cite(support)
        citations.setdefault((citation.number, citation.start, citation.end), citation)
        pieces.append(_mark(sentence, quote.item.number))
    pieces.append(answer[at:])
    support = supported / total if total else 0.0
    subject = _subject(question_words, [c.number for c in citations.values()], quotes, items)
    return Grounding(
        text="".join(pieces),
        citations=tuple(citations.values()),
        support=support,
        subject=subject,
        is_supported=bool(citations) and support >= SUPPORT_THRESHOLD and subject >= SUBJECT_THRESHOLD,
    )


@dataclass(frozen=True, slots=True)
class _Quote:
    """A span of a source: one sentence, or two adjacent ones."""

    item: PackedItem
    segment: Segment
    start: int  # in item.text, inside the segment
    end: int
    stems: frozenset[str]

    def cite(self, support: float) -> Citation:
        """The quote as a citation."""
        chunk = self.item.hit.chunk
        return Citation(
            number=self.item.number,
            document_id=chunk.document_id,
            title=chunk.title,
            source=chunk.source,
            start=self.segment.source_start + self.start - self.segment.start,
            end=self.segment.source_start + self.end - self.segment.start,
            quote=self.item.text[self.start : self.end],
            support=support,
        )


def _passages(item: PackedItem) -> Iterator[Segment]:
    """The segments of a source; those with only white space between them in the document, too, as one."""
    passage: Segment | None = None
    for segment in item.segments:
        if passage is not None and _follows(item, passage, segment):
            passage = replace(passage, end=segment.end, source_end=segment.source_end)
        else:
            if passage is not None:
                yield passage
            passage = segment
    if passage is not None:
        yield passage


def _follows(item: PackedItem, passage: Segment, segment: Segment) -> bool:
    """Whether what the source shows between the two is what stands between them in a chunk."""
    for chunk in (hit.chunk for hit in (item.hit, *item.more)):
        if chunk.start <= passage.source_start and segment.source_end <= chunk.end:
            between = chunk.text[passage.source_end - chunk.start : segment.source_start - chunk.start]
            return between == item.text[passage.end : segment.start]
    return False


def _quotes(item: PackedItem) -> Iterator[_Quote]:
    for segment in _passages(item):
        spans = split_sentences(item.text[segment.start : segment.end])
        pairs = [(a, d) for (a, _), (_, d) in pairwise(spans)]
        for low, high in [*spans, *pairs]:
            start, end = segment.start + low, segment.start + high
            yield _Quote(item, segment, start, end, frozenset(content_words(item.text[start:end])))


class _Weights:
    """How much a word tells: rare in the sources is much, in the question already is little."""

    def __init__(self, quotes: Sequence[_Quote], question_words: frozenset[str]) -> None:
        self._question_words = question_words
        self._frequency: dict[str, int] = {}
        for quote in quotes:
            for word in quote.stems:
                self._frequency[word] = self._frequency.get(word, 0) + 1
        self._n = len(quotes)

    def __call__(self, word: str) -> float:
        weight = math.log1p((self._n + 1) / (self._frequency.get(word, 0) + 0.5))
        return weight * _QUESTION_WORD_WEIGHT if word in self._question_words else weight

    def total(self, stems: frozenset[str]) -> float:
        return math.fsum(map(self, stems))  # exact: sets have no order


def _best_quote(stems: frozenset[str], quotes: Sequence[_Quote], weights: _Weights) -> tuple[_Quote | None, float]:
    """The quote that holds most of `stems`, the shortest of equals, and the share that it holds."""
    total = weights.total(stems)
    numbers = frozenset(word for word in stems if word[:1].isdigit())
    best, best_share = None, 0.0
    for quote in quotes:
        if not numbers <= quote.stems:
            continue
        share = weights.total(stems & quote.stems) / total if total else 0.0
        longer_by = 0 if best is None else (quote.end - quote.start) - (best.end - best.start)
        if share > best_share + 1e-9 or (best is not None and share > best_share - 1e-9 and longer_by < 0):
            best, best_share = quote, share
    return best, min(best_share, 1.0)


def _subject(
    question_words: frozenset[str], cited: Sequence[int], quotes: Sequence[_Quote], items: Sequence[PackedItem]
) -> float:
    """Share of the question's content words in the cited sources and their titles; 1 when it has none."""
    if not question_words:
        return 1.0
    found: set[str] = set()
    for quote in quotes:
        if quote.item.number in cited:
            found |= quote.stems
    for item in items:
        if item.number in cited:
            found.update(content_words(item.hit.chunk.title))
    return len(question_words & found) / len(question_words)


def _mark(sentence: str, number: int) -> str:
    """Put [number] before the punctuation that ends the sentence."""
    body = sentence.rstrip(".!?。！？")
    return f"{body} [{number}]{sentence[len(body) :]}"
