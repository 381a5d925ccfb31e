"""The units that an extractive compressor keeps or drops whole: sentences, list items, table rows, code blocks, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from leanrag.text import split_sentences, trim_span

__all__ = ["Unit", "UnitKind", "split_clauses", "split_units"]

UnitKind = Literal["sentence", "item", "row", "code", "heading"]

_FENCE = re.compile(r"^[ \t]{0,3}(`{3,}|~{3,})[^\n]*\n?", re.MULTILINE)
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*\Z")
_RULE = re.compile(r"[ \t]*\|?[ \t]*:?-{3,}[-:| \t]*\Z")
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
    sentence before it.

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


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The span, cut into parts that are not too long."""
    while end - start > _LONGEST:
        cuts = (text.rfind(mark, start + _LONGEST // 2, start + _LONGEST) for mark in _BREAKS)
        cut = next((at + 1 for at in cuts if at >= 0), start + _LONGEST)
        if span := trim_span(text, start, cut):
            yield span
        start = cut
    if span := trim_span(text, start, end):
        yield span


_CLAUSE_END = re.compile(r"[,;:)]\s+|\s+(?=\()|\s+[–—-]\s+")
_CLAUSE_WORDS = 6  # a clause has at least as many


def split_clauses(text: str, unit: Unit) -> list[tuple[int, int]]:
    """Return the spans of the clauses of a sentence or list item, as punctuation tells them; of other units, their one span.

    Example:
        >>> text = "The tower, which Gustave Eiffel's company built in 1889, was the tallest building of its time."
        >>> [text[start:end] for start, end in split_clauses(text, Unit(0, len(text), "sentence"))]
        ["The tower, which Gustave Eiffel's company built in 1889,", 'was the tallest building of its time.']
    """
    spans, start = [], unit.start
    if unit.kind in ("sentence", "item"):
        words_before, last = 0, unit.start
        words_left = len(text[unit.start : unit.end].split())
        for pause in _CLAUSE_END.finditer(text, unit.start, unit.end):
            n = len(text[last : pause.end()].split())
            words_before, words_left, last = words_before + n, words_left - n, pause.end()
            if words_before >= _CLAUSE_WORDS <= words_left:
                spans.append((start, start + len(text[start : pause.end()].rstrip())))
                start, words_before = pause.end(), 0
    return [*spans, (start, unit.end)]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Fenced code and what is between it; an open fence reaches to the end."""
    at = 0
    while opening := _FENCE.search(text, at):
        if text[at : opening.start()].strip():
            yield at, opening.start(), False
        closing = re.compile(rf"^[ \t]{{0,3}}{re.escape(opening[1])}+[ \t]*$", re.MULTILINE).search(text, opening.end())
        end = closing.end() if closing else len(text.rstrip())
        yield opening.start() + len(opening[0]) - len(opening[0].lstrip(" \t")), max(end, opening.start() + 1), True
        at = max(end, opening.end())
    if text[at:].strip():
        yield at, len(text), False


def _split_prose(text: str, begin: int, stop: int, units: list[Unit]) -> None:
    header: int | None = None  # place of the row that names the columns
    previous: int | None = None  # place of the sentence before
    last_end = begin
    for low, high in split_sentences(text[begin:stop]):
        start, end = begin + low, begin + high
        if text.count("\n\n", last_end, start) or text.count("\n\r\n", last_end, start):
            header = previous = None
        span, last_end = text[start:end], end
        if all(_ROW.match(line) or _RULE.match(line) for line in span.splitlines()):
            if _RULE.match(span) and units and units[-1].kind == "row":  # the line under the head belongs to it
                units[-1] = Unit(units[-1].start, end, "row")
                continue
            units.append(Unit(start, end, "row", header))
            header = len(units) - 1 if header is None else header
            previous = None
            continue
        kind: UnitKind = "heading" if _HEADING.match(span) else "item" if _ITEM.match(span) else "sentence"
        needs = previous if kind == "sentence" and _leans_back(span) else None
        units += [Unit(low, high, kind, needs) for low, high in _pieces(text, start, end)]
        header, previous = None, None if kind == "heading" else len(units) - 1


_LEANING = re.compile(
    r"(?:[\"'“‘(]*)(?:it|its|he|his|she|her|they|their|them|this|these|those|that|such|both|neither|however|therefore|thus|"
    r"also|then|there|here|the (?:latter|former|same)|as a result|for (?:example|instance)|in (?:addition|contrast))\b",
    re.IGNORECASE,
)


def _leans_back(sentence: str) -> bool:
    return _LEANING.match(sentence) is not None
