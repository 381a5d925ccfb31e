"""The units that an extractive compressor keeps or drops whole: sentences, list items, table rows, code blocks, headings."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from leanrag.evidence.protection import ProtectedKind, Protection, Span
from leanrag.text import split_sentences, trim_span

__all__ = ["Unit", "UnitKind", "split_clauses", "split_units"]

UnitKind = Literal["sentence", "item", "row", "code", "heading"]

_FENCE = re.compile(r"^[ \t]{0,3}(?:(`{3,})[^`\n]*$|(~{3,}))", re.MULTILINE)  # CommonMark 0.31, 4.5
_ROW = re.compile(r"\|.*\|\Z")
_RULE = re.compile(r"(?=[^-]*-)[-:| \t]+\Z")
_HEADING = re.compile(r"#{1,6}[ \t]")
_ITEM = re.compile(r"(?:[-*+•‣◦]|\d{1,3}[.)])[ \t]")


@dataclass(frozen=True, slots=True)
class Unit:
    """A span of a text.

    Attributes:
        start: First character.
        end: One past the last.
        kind: What it is.
        needs: Place of the unit that this makes no sense without (a table's head, a sentence's antecedent); None for none.
    """

    start: int
    end: int
    kind: UnitKind
    needs: int | None = None


_LONGEST = 600  # characters of a unit
_BREAKS = ("\n", "; ", ", ", " ")  # where longer ones are cut, best first


def split_units(text: str) -> list[Unit]:
    r"""Return the units of `text` in order; together they hold all of it but white space. Takes time linear in the text.

    What is longer than a long sentence (minified code, a list written as one sentence, base64) is cut at lines, clauses or words.

    A row of a table needs the row that names the columns; a sentence that begins with a pronoun ("It was built in 1889.") needs the
    last one of its paragraph that does not.

    Example:
        >>> text = "The tower is tall. It was built in 1889.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        >>> [(unit.kind, unit.needs) for unit in split_units(text)]
        [('sentence', None), ('sentence', 0), ('row', None), ('row', 2)]
    """
    units: list[Unit] = []
    for start, end, is_code in _blocks(text):
        if is_code:
            units += [Unit(low, high, "code") for low, high in _pieces(text, start, end)]
        else:
            _split_prose(text, start, end, units)
    return units


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    """The span, cut into parts that are not too long; what is short and protected stays in one part."""
    if end - start > _LONGEST:
        protected = [span for span in _protected(text, start, end) if span[1] - span[0] <= _LONGEST // 2]
        while end - start > _LONGEST:
            cuts = (text.rfind(mark, start + _LONGEST // 2, start + _LONGEST) for mark in _BREAKS)
            cut = next((at + 1 for at in cuts if at >= 0), start + _LONGEST)
            around = _span_around(protected, cut)
            if around is not None and around[0] > start:
                cut = around[0]
            if span := trim_span(text, start, cut):
                yield span
            start = cut
    if span := trim_span(text, start, end):
        yield span


_PROTECTION = Protection()


def _protected(text: str, start: int, end: int) -> list[Span]:
    """What is protected in a part of a text."""
    return [(start + low, start + high) for low, high in _PROTECTION.spans(text[start:end])]


def _span_around(spans: Sequence[Span], place: int) -> Span | None:
    """Which of `spans` (disjoint, in order) would be cut at `place`."""
    at = bisect_left(spans, (place, 0)) - 1  # of the last that begins before it
    return spans[at] if at >= 0 and spans[at][1] > place else None


_CLAUSE_END = re.compile(r"[,;:)]\s+|(?<=\S)\s+(?:(?=\()|[–—-]\s+)")
_CLAUSE_WORDS = 6  # a clause has at least as many


# What a protected span that a pause can lie in has to hold, and its kind; the other kinds hold no pause.
_PAUSING: tuple[tuple[re.Pattern[str], ProtectedKind], ...] = (
    (re.compile("`"), "code"),
    (re.compile(r"\\"), "path"),
    (re.compile(r"\d"), "date"),
    (re.compile(r"\(\d"), "identifier"),
    (re.compile("[\"'“”„‟＂«»‹›「『《〈｢‘‚]"), "quotation"),
    (re.compile("\n"), "heading"),
)


@functools.lru_cache(maxsize=16)
def _with_pauses(text: str) -> tuple[Span, ...]:
    """Protected spans of a text that a pause may lie in: of those that `Protection` finds, the kinds that can hold one."""
    kinds = tuple(kind for mark, kind in _PAUSING if mark.search(text))
    return tuple(_protection_of(kinds).spans(text)) if kinds else ()


@functools.cache
def _protection_of(kinds: tuple[ProtectedKind, ...]) -> Protection:
    return Protection(kinds)


def split_clauses(text: str, unit: Unit) -> list[Span]:
    """Return the spans of the clauses of a sentence or list item, as punctuation tells them; of other units, their one span.

    What is protected in the text, or in the sentence alone, is not cut: a quotation, a date.

    Example:
        >>> text = "The tower, which Gustave Eiffel's company built in 1889, was the tallest building of its time."
        >>> [text[start:end] for start, end in split_clauses(text, Unit(0, len(text), "sentence"))]
        ["The tower, which Gustave Eiffel's company built in 1889,", 'was the tallest building of its time.']
    """
    spans, start = [], unit.start
    if unit.kind in ("sentence", "item"):
        sentence = text[unit.start : unit.end]
        words_before, last = 0, unit.start
        words_left = len(sentence.split())
        for pause in _CLAUSE_END.finditer(text, unit.start, unit.end):
            n = len(text[last : pause.end()].split())
            words_before, words_left, last = words_before + n, words_left - n, pause.end()
            if (
                words_before >= _CLAUSE_WORDS <= words_left
                and _span_around(_with_pauses(text), pause.end()) is None
                and _span_around(_with_pauses(sentence), pause.end() - unit.start) is None
            ):
                spans.append((start, start + len(text[start : pause.end()].rstrip())))
                start, words_before = pause.end(), 0
    return [*spans, (start, unit.end)]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Fenced code and what is between it; an open fence reaches to the end."""
    at = 0
    while opening := _FENCE.search(text, at):
        fence = opening[1] or opening[2]
        if text[at : opening.start()].strip():
            yield at, opening.start(), False
        closing = re.compile(rf"^[ \t]{{0,3}}{fence}{fence[0]}*[ \t]*\r?$", re.MULTILINE).search(text, opening.end())
        end = closing.end() if closing else len(text)
        yield opening.start(), end, True
        at = end
    if text[at:].strip():
        yield at, len(text), False


def _split_prose(text: str, begin: int, stop: int, units: list[Unit]) -> None:
    header: int | None = None  # place of the row that names the columns
    header_end = -1
    previous: int | None = None  # place of the last sentence that a pronoun may point back to
    last_end = begin
    for low, high in split_sentences(text[begin:stop]):
        start, end = begin + low, begin + high
        gap = text[last_end:start].replace("\r\n", "\n").replace("\r", "\n")
        if gap.count("\n") > 1:
            header = previous = None
        span = text[start:end]
        lines = [line.strip() for line in span.splitlines()]
        is_under_header = header is not None and last_end == header_end and end - units[-1].start <= _LONGEST
        last_end = end
        if is_under_header and len(lines) == 1 and _RULE.match(lines[0]):  # this line belongs to it
            units[-1] = Unit(units[-1].start, end, "row", units[-1].needs)
        elif all(_ROW.match(line) or ("|" in line and _RULE.match(line)) for line in lines):
            needs, previous = header, None
            if header is None:
                header, header_end = len(units), end
            units += [Unit(low, high, "row", needs) for low, high in _pieces(text, start, end)]
        else:
            kind: UnitKind = "heading" if _HEADING.match(span) else "item" if _ITEM.match(span) else "sentence"
            needs = previous if kind == "sentence" and _leans_back(span) else None
            units += [Unit(low, high, kind, needs) for low, high in _pieces(text, start, end)]
            header = None
            if kind == "heading":
                previous = None
            elif needs is None:
                previous = len(units) - 1


_LEANING = re.compile(
    r"(?:[\"'“‘(]*)(?:it|its|he|his|she|her|they|their|them|this|these|those|that|such|both|neither|however|therefore|thus|"
    r"also|then|there|here|the (?:latter|former|same)|as a result|for (?:example|instance)|in (?:addition|contrast))\b",
    re.IGNORECASE,
)


def _leans_back(sentence: str) -> bool:
    return _LEANING.match(sentence) is not None
