"""The units that are kept or dropped whole (sentences, list items, table rows, code blocks, headings), and what each needs."""

from __future__ import annotations

import functools
import re
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from leanrag.evidence.protection import ProtectedKind, Protection
from leanrag.spans import Span, trim_span
from leanrag.structure import LINE_LEVELS, Line, LineKind, paragraphs
from leanrag.text import fenced_blocks, split_sentences

__all__ = ["Unit", "UnitKind", "split_clauses", "split_units"]

UnitKind = Literal["sentence", "item", "row", "code", "heading", "lead", "line", "mark"]

_RULE = re.compile(r"(?=[^-\n]*-)[-:| \t]+$")


@dataclass(frozen=True, slots=True)
class Unit:
    """A span of a text.

    Attributes:
        start: First character.
        end: One past the last.
        kind: What it is. A "heading" (also a question over its answer) and a "lead" (a lead-in, a key, a turn that asks) stand
            over other units; a "mark" (a time code, the dashes under the names of columns) says nothing; a "line" is a line of a
            log, a chat or a configuration.
        needs: Index of the unit that this makes no sense without (the heading above it, a table's header, a sentence's
            antecedent); None for none.
        group: Number of the small group that it belongs to (the steps of a list, the fields of a record, an answer, a section of
            a few lines); None for none. The units of a group are read together.
    """

    start: int
    end: int
    kind: UnitKind
    needs: int | None = None
    group: int | None = None


_LONGEST = 600  # characters of a unit
_GROUP = 400  # characters of a group
_DEEPEST = 12  # heads over a unit
_ANSWERING = 3  # turns of a chat that may answer a turn that asks
_BREAKS = ("\n", "; ", ", ", " ")  # where longer units are cut, best first


def split_units(text: str, *, begins_inside: bool = False) -> list[Unit]:
    r"""Return the units of `text` in order; together they hold all of it but white space. Takes time linear in the text.

    What is longer than a long sentence (minified code, a list written as one sentence, base64) is cut at lines, clauses or words.

    What stands under a heading, a question, a lead-in or a key needs it; a row of a table needs the row that names the columns; a
    sentence that begins with a pronoun ("It was built in 1889.") needs the last one of its paragraph that does not.

    Args:
        text: The text of a chunk, or any other text.
        begins_inside: Whether the text begins inside a table or a section, so that its first row does not name the columns.

    Example:
        >>> text = "# Tower\n\nThe tower is tall. It was built in 1889.\n\n| a | b |\n|---|---|\n| 1 | 2 |"
        >>> [(unit.kind, unit.needs) for unit in split_units(text)]
        [('heading', None), ('sentence', 0), ('sentence', 1), ('row', 0), ('mark', None), ('row', 3)]
    """
    builder = _Builder(text, begins_inside=begins_inside)
    for start, end, is_code in _blocks(text):
        if is_code:
            builder.add_code(start, end)
        else:
            for lines in paragraphs(text, start, end):
                builder.add_paragraph(lines)
    return builder.finish()


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the parts of a span, none of them too long; short protected text is not cut."""
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
    """Return the protected spans in a part of a text."""
    return [(start + low, start + high) for low, high in _PROTECTION.spans(text[start:end])]


def _span_around(spans: Sequence[Span], position: int) -> Span | None:
    """Return the one of `spans` (disjoint, in order) that a cut at `position` would divide."""
    at = bisect_left(spans, (position, 0)) - 1  # of the last that begins before it
    return spans[at] if at >= 0 and spans[at][1] > position else None


_CLAUSE_END = re.compile(r"[,;:)]\s+|(?<=\S)\s+(?:(?=\()|[–—-]\s+)")
_CLAUSE_WORDS = 6  # a clause has at least as many


# What a protected span that a pause can lie in has to hold, and its kind; the other kinds hold no pause.
_PAUSING: tuple[tuple[re.Pattern[str], ProtectedKind], ...] = (
    (re.compile("`"), "code"),
    (re.compile(r"\\"), "path"),
    (re.compile(r"\(\d"), "identifier"),
    (re.compile('["“”„‟＂«»‹›「『《〈｢‘‚]'), "quotation"),
    (re.compile("\n"), "heading"),
)
_DATE_GOES_ON = re.compile(r"(?:del? )?\d")  # behind a pause inside a date


@functools.lru_cache(maxsize=16)
def _with_pauses(text: str) -> tuple[Span, ...]:
    """Protected spans of a text that a pause may lie in, dates aside: those of the kinds that can hold a pause."""
    kinds = tuple(kind for mark, kind in _PAUSING if mark.search(text))
    return tuple(_protection_of(kinds).spans(text)) if kinds else ()


@functools.lru_cache(maxsize=16)
def _dates(text: str) -> tuple[Span, ...]:
    return tuple(_protection_of(("date",)).spans(text))


def _is_protected(text: str, pause_end: int) -> bool:
    """Whether a pause lies in something that is protected."""
    if _span_around(_with_pauses(text), pause_end) is not None:
        return True
    return _DATE_GOES_ON.match(text, pause_end) is not None and _span_around(_dates(text), pause_end) is not None


@functools.cache
def _protection_of(kinds: tuple[ProtectedKind, ...]) -> Protection:
    return Protection(kinds)


def split_clauses(text: str, unit: Unit) -> list[Span]:
    """Return the spans of the clauses of a sentence or list item, found by punctuation; of other units, their whole span.

    Text that is protected in the whole text, or in the sentence alone, is not cut: a quotation, a date.

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
                and not _is_protected(text, pause.end())
                and not _is_protected(sentence, pause.end() - unit.start)
            ):
                spans.append((start, start + len(text[start : pause.end()].rstrip())))
                start, words_before = pause.end(), 0
    return [*spans, (start, unit.end)]


def _blocks(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the spans of fenced code and of what is between it, and whether each is code."""
    last_end = 0
    for start, end in fenced_blocks(text):
        if text[last_end:start].strip():
            yield last_end, start, False
        yield start, end, True
        last_end = end
    if text[last_end:].strip():
        yield last_end, len(text), False


_CLAUSE_NUMBER = re.compile(r"\d{1,3}(?:\.\d{1,3})+\.?\s")
_EMPTY_CELL = re.compile(r"\|\s*\|")
_CLOSES_SENTENCE = ".!?…。！？।؟"
_KINDS: Mapping[LineKind, UnitKind] = {"item": "item", "log": "line", "record": "line"}


class _Builder:
    """Puts the units of a text together, line by line, and keeps the heads that the next unit stands under."""

    def __init__(self, text: str, *, begins_inside: bool) -> None:
        self._text, self._begins_inside = text, begins_inside
        self._units: list[Unit] = []
        self._tags: list[Hashable | None] = []  # neighbours with the same tag may be a group
        self._heads: list[tuple[int, int]] = []  # level and unit, outermost first
        self._over: set[int] = set()  # units that were heads
        self._apart: set[int | None] = set()  # heads over entries, each of which is read alone
        self._n_paragraphs = self._n_lists = self._n_cues = 0
        self._header: int | None = None  # the row that names the columns of the table that is being read
        self._row: int | None = None  # the last row whose first cell is not empty
        self._has_entries = False  # whether each line of the paragraph is a text of its own
        self._turns_left = 0  # that may answer the turn that asked
        self._previous_kind: LineKind | None = None
        self._item: tuple[int, int] | None = None  # indent and unit of the list item that the last paragraph ended with

    def finish(self) -> list[Unit]:
        """Return the units with their groups."""
        return _with_groups(self._units, self._tags, self._over, self._over - self._apart, self._questions())

    def _questions(self) -> Iterator[list[int]]:
        """Yield the sentences of a paragraph that ask, each time with the sentence that answers."""
        asking: list[int] = []
        for i, unit in enumerate(self._units):
            if asking and self._tags[i] != self._tags[asking[-1]]:
                asking = []
            asks = unit.kind == "sentence" and self._text[unit.end - 1] in "?？؟"
            if asking and not asks:
                yield [*asking, i]
            asking = [*asking, i] if asks else []

    def add_code(self, start: int, end: int) -> None:
        """Add a fenced block."""
        self._add_pieces(start, end, "code", self._head)
        self._header = self._previous_kind = None

    def add_paragraph(self, lines: Sequence[Line]) -> None:
        """Add lines between which nothing is blank."""
        self._n_paragraphs += 1
        self._header = self._row = None
        self._has_entries = self._are_entries(lines)
        first = lines[0]
        is_list = first.kind in ("item", "row", "csv", "record", "log")
        if not is_list and not first.indent and self._head != len(self._units) - 1:
            self._leave(LINE_LEVELS["lead"])
        if self._item is not None and first.kind != "item" and first.indent > self._item[0] + 1:
            self._enter(LINE_LEVELS["indented"] + self._item[0], self._item[1])  # the item goes on below a blank line
        if not (is_list and first.kind == self._previous_kind):
            self._n_lists += 1
        i = 0
        while i < len(lines):
            line = lines[i]
            end = i + 1
            if line.kind in ("prose", "item", "log", "record"):  # what follows may go on with it
                while end < len(lines) and lines[end].kind == "prose" and not self._begins(lines, i, end):
                    end += 1
            elif end < len(lines) and lines[end].kind == "underline":
                end += 1
            self._add_lines(line, lines[i:end], lines[end] if end < len(lines) else None)
            self._previous_kind = line.kind
            i = end

    def _begins(self, lines: Sequence[Line], first: int, at: int) -> bool:
        """Whether a prose line begins a new text, and does not continue the text that begins at the line `first`."""
        line, begun, before = lines[at], lines[first], lines[at - 1]
        if self._has_entries and self._text[before.end - 1] in _CLOSES_SENTENCE:
            return True
        if self._text[before.end - 1] in ":：" or line.indent < begun.indent:
            return True
        is_head = at + 1 < len(lines) and lines[at + 1].indent > line.indent + 1 and line.indent <= begun.indent
        return is_head or (begun.kind == "prose" and line.indent > begun.indent + 1 and at == first + 1)

    def _are_entries(self, lines: Sequence[Line]) -> bool:
        """Whether nearly all lines begin and end as sentences do, as in a glossary, or all have numbers: wrapped prose has not."""
        prose = [line for line in lines if line.kind == "prose"]
        if len(prose) > 1 and all(_CLAUSE_NUMBER.match(self._text, line.start) for line in prose):
            return True
        closed = sum(
            self._text[line.end - 1] in _CLOSES_SENTENCE and not self._text[line.start].islower() for line in prose
        )
        return len(prose) > 2 and closed >= 0.8 * len(prose)

    @property
    def _head(self) -> int | None:
        return self._heads[-1][1] if self._heads else None

    def _leave(self, level: int) -> None:
        """End the scope of heads that are as deep as `level`, or deeper."""
        while self._heads and self._heads[-1][0] >= level:
            self._heads.pop()

    def _enter(self, level: int, unit: int) -> None:
        self._over.add(unit)
        if len(self._heads) < _DEEPEST:
            self._heads.append((level, unit))

    def _add_lines(self, line: Line, lines: Sequence[Line], after: Line | None) -> None:
        start, end = line.start, lines[-1].end
        self._item = None
        if line.kind not in ("row", "csv"):
            self._header = self._row = None
        if line.kind in ("heading", "question"):
            self._leave(line.level)
            self._add_head(start, end, "heading", line.level)
        elif line.kind == "lead":
            self._leave(line.level)
            self._add_head(start, end, "lead", line.level)
        elif line.kind == "cue":
            self._add_pieces(start, end, "mark", None)
            if line.end - line.start < 8:  # the number: a new cue
                self._n_cues += self._ends_sentence
        elif line.kind in ("row", "csv"):
            self._add_row(line, after)
        else:
            self._leave_indented(line.indent)
            self._add_text(line, lines, after)

    @property
    def _ends_sentence(self) -> bool:
        """Whether the last text ends a sentence."""
        said = next((unit for unit in reversed(self._units[-4:]) if unit.kind != "mark"), None)
        return said is None or self._text[said.end - 1] in '.?!…。？！"”'

    def _leave_indented(self, indent: int) -> None:
        kept = [
            (level, unit)
            for level, unit in self._heads
            if not LINE_LEVELS["indented"] <= level < LINE_LEVELS["turn"] or level - LINE_LEVELS["indented"] < indent
        ]
        self._heads[:] = kept

    def _add_head(self, start: int, end: int, kind: UnitKind, level: int) -> None:
        self._add_pieces(start, end, kind, self._head)
        self._enter(level, len(self._units) - 1)

    def _add_row(self, row: Line, after: Line | None) -> None:
        content = self._text[row.start : row.end]
        if self._header is not None and self._header == len(self._units) - 1 and self._is_rule(row):
            self._add_pieces(row.start, row.end, "mark", None)
            return
        over = self._head if self._header is None else self._header
        is_more = _EMPTY_CELL.match(content) is not None and self._row is not None  # of the row above
        is_first = self._row is None
        self._add_pieces(row.start, row.end, "row", self._row if is_more else over)
        if is_first and self._names_columns(row, after):
            self._header = len(self._units) - 1
        if not is_more:
            self._row = len(self._units) - 1

    def _names_columns(self, row: Line, after: Line | None) -> bool:
        """Whether the first row of a table names the columns: dashes follow it, or it has no number."""
        if after is not None and self._is_rule(after):
            return True
        is_inside = self._begins_inside and not self._units[:-1]
        return not is_inside and not any(map(str.isdigit, self._text[row.start : row.end]))

    def _is_rule(self, line: Line) -> bool:
        """Whether a line is the line of dashes under the names of the columns."""
        return line.kind == "row" and _RULE.match(self._text, line.start, line.end) is not None

    def _add_text(self, line: Line, lines: Sequence[Line], after: Line | None) -> None:
        """Add lines that belong together: a paragraph, an item, a turn."""
        content = self._text[line.start : lines[-1].end]
        kind = _KINDS.get(line.kind, "sentence")
        asks = kind == "line" and content.rstrip("\"'*”»").endswith(("?", "？", "؟"))
        if kind == "line" and not (self._turns_left and not asks):
            self._leave(LINE_LEVELS["turn"])
        elif kind == "line":
            self._turns_left -= 1
        first = len(self._units)
        if self._has_entries:
            self._apart.add(self._head)
        self._add_sentences(line.start, content, kind, self._tag_of(line))
        if line.kind == "item":
            self._item = (line.indent, first)
        if asks:
            self._enter(LINE_LEVELS["turn"], first)
            self._turns_left = _ANSWERING
        else:
            self._enter_text(line, lines[-1].indent, first, content, after)

    def _tag_of(self, line: Line) -> Hashable | None:
        if line.kind == "item":
            return ("list", self._n_lists)
        if line.kind == "record":
            return ("record", self._n_paragraphs, line.indent)
        if self._previous_kind == "cue":
            return ("cue", self._n_cues)
        return ("entry", line.start) if self._has_entries else ("paragraph", self._n_paragraphs)

    def _add_sentences(self, start: int, content: str, kind: UnitKind, tag: Hashable | None) -> None:
        """Add the sentences of a paragraph, item or turn, each with what it needs."""
        head, first = self._head, len(self._units)
        previous: int | None = None  # the last sentence that a pronoun may point back to
        spans = [part for span in split_sentences(content) for part in _parts_at_spaces(content, *span)]
        for number, (low, high) in enumerate(spans):
            leans = kind == "sentence" and previous is not None and _leans_back(content[low:high])
            needs = first if number and kind != "sentence" else previous if leans else head
            self._add_pieces(start + low, start + high, "sentence" if number else kind, needs, tag)
            if not leans:
                previous = len(self._units) - 1

    def _enter_text(self, line: Line, indent: int, first: int, content: str, after: Line | None) -> None:
        """Let a text that ends with a colon, or that stands over lines set deeper, be the head of what follows."""
        last = len(self._units) - 1
        is_over = after is not None and after.indent > indent + 1
        if content[-1] in ":：" or (is_over and line.kind != "item" and len(content) <= _LONGEST // 4):
            if self._units[last].kind != "item":
                self._units[last] = replace(self._units[last], kind="lead")
            level = LINE_LEVELS["indented"] + line.indent if is_over else LINE_LEVELS["lead"]
            self._leave(level)
            self._enter(level, last)
        elif is_over or (
            line.kind == "item" and after is not None and after.kind == "item" and after.indent > line.indent
        ):
            self._enter(LINE_LEVELS["indented"] + line.indent, first)

    def _add_pieces(self, start: int, end: int, kind: UnitKind, needs: int | None, tag: Hashable | None = None) -> None:
        content = self._text[start:end]
        if kind in ("line", "sentence") and content.isascii() and not any(map(str.isalnum, content)):
            kind, needs = "mark", None  # the end of a record or comment, a line of dashes
        for low, high in _pieces(self._text, start, end):
            self._units.append(Unit(low, high, kind, needs))
            self._tags.append(tag)


def _with_groups(
    units: list[Unit],
    tags: Sequence[Hashable | None],
    heads: set[int],
    grouping: set[int],
    questions: Iterable[list[int]],
) -> list[Unit]:
    """Return the units with their groups: a few lines under the same head of `grouping`, or neighbours with the same tag."""
    groups: list[int | None] = [None] * len(units)
    below: dict[int, list[int]] = {head: [] for head in sorted(grouping)}
    for i, unit in enumerate(units):
        head = None if unit.kind == "heading" else unit.needs
        while head is not None:
            if head in below:
                below[head].append(i)
            head = None if units[head].kind == "heading" else units[head].needs
    together = [members if units[head].kind == "heading" else [head, *members] for head, members in below.items()]
    runs: dict[tuple[Hashable, int | None], list[int]] = {}
    for i, (unit, tag) in enumerate(zip(units, tags, strict=True)):
        if tag is not None:
            head = unit.needs
            while head is not None and head not in heads:
                head = units[head].needs
            runs.setdefault((tag, head), []).append(i)
    for number, members in enumerate([*together, *runs.values(), *questions]):
        if any(units[i].kind == "row" for i in members):
            continue
        if all(groups[i] is None for i in members) and _is_small(units, members):
            for i in members:
                groups[i] = number
    return [unit if group is None else replace(unit, group=group) for unit, group in zip(units, groups, strict=True)]


_SPACES_END_SENTENCES = re.compile("[\u0e00-\u0eff\u1780-\u17ff]{4}")  # Thai, Lao, Khmer: no full stops
_SPACES = re.compile(r"\s+")
_PART = 24  # characters of a part, at least


def _parts_at_spaces(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the span of a sentence; in a script that ends sentences by spaces, the parts between spaces, short parts joined."""
    if not text.isascii() and _SPACES_END_SENTENCES.search(text, start, end):
        for space in _SPACES.finditer(text, start, end):
            if space.start() - start >= _PART <= end - space.end():
                yield start, space.start()
                start = space.end()
    yield start, end


def _is_small(units: Sequence[Unit], members: Sequence[int]) -> bool:
    return len(members) > 1 and sum(units[i].end - units[i].start for i in members) <= _GROUP


_LEANING = re.compile(
    r"(?:[\"'“‘(]*)(?:it|its|he|his|she|her|they|their|them|this|these|those|that|such|both|neither|however|therefore|thus|"
    r"also|then|there|here|the (?:latter|former|same)|as a result|for (?:example|instance)|in (?:addition|contrast))\b",
    re.IGNORECASE,
)


def _leans_back(sentence: str) -> bool:
    return _LEANING.match(sentence) is not None
