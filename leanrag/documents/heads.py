"""Which lines of a text stand over the lines below them: headings, questions, lead-ins, turns that ask, heads of records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from leanrag.structure import LINE_LEVELS, Line, paragraphs

__all__ = ["MAX_LEAD", "Head", "find_heads", "heads_over"]

MAX_LEAD = 160  # characters of a head that is shown above a chunk
_MAX_OPEN = 8  # scopes inside each other
_MAX_REPLIES = 3  # turns that may answer a turn that asks
_QUESTION_MARKS = ("?", "？", "؟")
_KEY = re.compile(r"[\"'*<\[]{0,3}([^\W_][^:：=\r\n]{0,40}?)[\"'*>\]]{0,3}[ \t]*(?:[:：=])")
_DIGITS = re.compile(r"\d+")


@dataclass(slots=True)
class Head:
    """A line that stands over the text from its end to `stop`.

    Attributes:
        start: First character of the line.
        end: One past its last character.
        stop: Where its scope ends.
        is_item: Whether it is the item of a list, over the lines that continue it.
    """

    start: int
    end: int
    stop: int
    is_item: bool = False

    @property
    def is_lead(self) -> bool:
        """Whether a chunk that begins in its scope shows the line."""
        return self.end - self.start <= MAX_LEAD


def find_heads(text: str, spans: Iterable[tuple[int, int]]) -> list[Head]:
    r"""Return the heads in `spans` of `text`, in order. Scopes lie inside each other or apart.

    A head over the whole text is left out: it is the title of the document.

    Args:
        text: The text of a document.
        spans: The parts of a section that are neither fenced code nor tables, in order.

    Example:
        >>> text = "Q: Is it on?\nA: Yes. It is.\n\nQ: Is it red?\nA: No."
        >>> [(text[head.start : head.end], head.stop) for head in find_heads(text, [(0, len(text))])]
        [('Q: Is it on?', 29), ('Q: Is it red?', 49)]
    """
    lines: list[list[Line]] = []
    end = 0
    for start, end in spans:
        lines += paragraphs(text, start, end)
    return _Scopes(text, lines).heads(end)


def heads_over(heads: Sequence[Head], positions: Iterable[int]) -> Iterator[list[Head]]:
    """Yield for each position (in order) the heads whose scope it lies in, outermost first."""
    i = 0
    above: list[Head] = []
    for position in positions:
        while i < len(heads) and heads[i].start < position:
            above.append(heads[i])
            i += 1
        above = [head for head in above if position < head.stop]
        yield above


class _Scopes:
    """Reads the paragraphs of a text in order and keeps the heads whose scope is open."""

    def __init__(self, text: str, found: Sequence[Sequence[Line]]) -> None:
        self._text = text
        self._paragraphs = found
        self._keys = self._record_keys()
        self._heads: list[Head] = []
        self._open: list[tuple[int, Head]] = []  # with their levels, outermost first
        self._replies = 0  # that the turn that asked still waits for
        self._asked = False  # whether the last turn asked

    def heads(self, end: int) -> list[Head]:
        """Return all heads of the text, which ends at `end`."""
        for paragraph in self._paragraphs:
            self._read(paragraph)
        self._leave(0, end)
        text = self._text
        if self._heads and not (text[: self._heads[0].start] + text[self._heads[0].stop :]).strip():
            return self._heads[1:]
        return self._heads

    def _record_keys(self) -> set[str]:
        """Return the keys that begin several paragraphs of records and stand nowhere else: those of heads of records."""
        firsts: Counter[str] = Counter()
        others: set[str] = set()
        for paragraph in self._paragraphs:
            keys = [self._key(line) for line in paragraph if line.kind == "record"]
            if len(keys) > 1 and paragraph[0].kind == "record":
                firsts[keys.pop(0)] += 1
            others.update(keys)
        return {key for key, count in firsts.items() if key and count > 1 and key not in others}

    def _key(self, line: Line) -> str:
        found = _KEY.match(self._text, line.start, line.end)
        return _DIGITS.sub("0", found[1]).casefold() if found else ""

    def _read(self, paragraph: Sequence[Line]) -> None:
        first = paragraph[0]
        is_list = first.kind in ("item", "row", "csv", "record", "log")
        if not is_list and not first.indent and not self._follows_head(first):
            self._leave_items(first)
            self._leave(LINE_LEVELS["lead"], first.start)
        if first.kind == "csv" and not _DIGITS.search(self._text, first.start, first.end):
            self._enter(LINE_LEVELS["lead"], first, closes=False)  # the names of columns
        for i, line in enumerate(paragraph):
            if line.kind in ("item", "record", "log"):
                self._leave_items(line)
            if line.kind in ("heading", "question", "lead"):
                self._enter(line.level, line)
            elif line.kind in ("record", "log"):
                self._read_record(line, is_first=i == 0)
            elif line.kind == "item":
                is_item = self._text[line.end - 1] not in ":："
                self._enter(LINE_LEVELS["indented"] + line.indent, line, is_item=is_item, closes=False)
            elif line.kind == "prose" and self._text[line.end - 1] in ":：":
                self._enter(LINE_LEVELS["lead"], line)
        if paragraph[-1].kind == "csv":
            self._leave(LINE_LEVELS["lead"], paragraph[-1].end)

    def _read_record(self, line: Line, *, is_first: bool) -> None:
        asks = self._text[line.start : line.end].rstrip("\"'*”»").endswith(_QUESTION_MARKS)
        if is_first and self._key(line) in self._keys:
            self._enter(LINE_LEVELS["section"], line)
        elif asks:
            if not self._asked:
                self._leave(LINE_LEVELS["turn"], line.start)
            self._enter(LINE_LEVELS["turn"], line, closes=False)
            self._replies = _MAX_REPLIES
        elif self._replies:
            self._replies -= 1
        else:
            self._leave(LINE_LEVELS["turn"], line.start)
        self._asked = asks

    def _follows_head(self, line: Line) -> bool:
        heads = [head for _, head in self._open if not head.is_item]
        return bool(heads) and not self._text[heads[-1].end : line.start].strip()

    def _leave(self, level: int, position: int) -> None:
        """End the scopes of heads that stand as deep as `level`, or deeper."""
        while self._open and self._open[-1][0] >= level:
            self._open.pop()[1].stop = position

    def _leave_items(self, line: Line) -> None:
        """End the scopes of list items that do not stand further left than `line`."""
        levels = range(LINE_LEVELS["indented"] + line.indent, LINE_LEVELS["turn"])
        first = next((i for i, (level, _) in enumerate(self._open) if level in levels), len(self._open))
        for _, head in self._open[first:]:
            head.stop = line.start
        del self._open[first:]

    def _enter(self, level: int, line: Line, *, is_item: bool = False, closes: bool = True) -> None:
        if closes:
            self._leave(level, line.start)
        head = Head(line.start, line.end, line.end, is_item)
        self._heads.append(head)
        if len(self._open) < _MAX_OPEN:
            self._open.append((level, head))
