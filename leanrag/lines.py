"""Rules for the lines of a text: which line ends also end sentences, and which lines are records."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

__all__ = ["COLUMN_GAP", "LineRules", "count_column_gaps", "find_records"]

_BULLET = re.compile(
    r"(?:[-*+•‣◦]|\d{1,3}[.)]|[a-zA-Z][.)]|#{1,6}|\|)(?:\s|$)|\||\.\. [a-z:]+::|:[A-Za-z][\w-]*(?: [\w.*]+){0,3}:(?:\s|$)"
    r"|@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly)\s"
)

# The beginning of a line that is a record: a log line, a message with its time, a cue of subtitles, a schedule of cron.
_RECORD = re.compile(
    r"[\[(<]?\d{4}[-/.]\d{1,2}[-/.]\d{1,2}[T _,-]{1,2}\d{1,2}[:.]\d{2}"
    r"|[\[(]?\d{1,2}[-/.](?:\d{1,2}|[A-Z][a-z]{2})[-/.]\d{2,4}[ :,-]{1,3}\d{1,2}[:.]\d{2}"
    r"|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} {1,2}\d{1,2},? (?:\d{4},? )?\d{1,2}:\d{2}"
    r"|\[?\d{1,3}(?::\d{2}){1,2}[.,]\d{3}|\[ *\d+\.\d{3,}\]|\[?1\d{9}(?:\d{3}|\.\d+)?[\] ]|[IWEF]\d{4} \d{2}:\d{2}"
    r"|(?=[\d,/* \t-]*\*)(?:[\d*][\d*/,-]{0,20}[ \t]+){3}(?:[\w*][\w*/,-]{0,40}[ \t]+){2}\S"
    r"|\S{1,64} \S{1,64} \S{1,64} \[\d{2}/[A-Z][a-z]{2}/\d{4}:"
)
_JSON_RECORD = re.compile(r"[{\[]\s*(?:[\"'{\[}\]]|-?\d+[,.\]])")
# Less certain beginnings: such a line is a record only if another line of its paragraph has such a beginning too.
_MAYBE_RECORD = re.compile(
    r"[\[(]?\d{1,3}(?::\d{2}){1,2}(?:[\])\s-]|$)|[\[(]?\d{4}-\d{2}-\d{2}\b|\d{1,3}(?:\.\d{1,3}){3}\b"
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|ERR|FATAL|CRITICAL|SEVERE)\b"
)
_KEY = re.compile(
    r"[\"']?[\w$.@/-]{1,40}(?: [\w.&/'()-]{1,24}){0,3}[\"']? {0,16}(?:\[[\d:]{4,8}\])?(?:[:：](?=\s|$|[\"'\[{])|=(?!=))"
    r"|<[\w@+ -]{1,32}> |[\w .'-]{1,40}[\[(]\d{1,2}:\d{2}"
)
_KEY_MARK = re.compile(r"[:：=<\[(]")
_DIGIT = re.compile(r"\d")
_SECTION = re.compile(r"\[[^\]\[]{1,80}\]$")
_CELL_BREAK = re.compile(r"(?<=\S)[,;](?!\d{3}(?!\d))(?=\S)|[,;]{2}|\t|\|")
COLUMN_GAP = re.compile(
    r"(?<=[^\s.!?]) {3,}(?=\S)|(?<=\d) {2,}(?=\S)|(?<=[^\s.!?]) {2,}(?=[\d$€£])|(?<=\S) ?\.{4,} ?(?=\S)"
)
"""What parts the columns of aligned text: several spaces, or a row of dots."""


def count_column_gaps(text: str) -> int:
    """Return how often `COLUMN_GAP` matches; most texts need no search for that."""
    return len(COLUMN_GAP.findall(text)) if "  " in text or "...." in text else 0


_PUNCTUATED = re.compile(r"[,;:.!?{}()\[\]。！？]\Z")
_FIRST_WORD = re.compile(r"\S+")
_SHORT_LINE = 40  # characters; prose with line breaks mostly has longer lines
_MIN_TURNS = 3  # least paragraphs that begin with a key, for them to be records
_LINE = re.compile(r"[^\r\n]*\S[^\r\n]*")


class _Line:
    """A line that is not blank, and its features."""

    __slots__ = ("end", "has_key", "is_indented", "is_record", "maybe_record", "start", "words")

    def __init__(self, found: re.Match[str]) -> None:
        self.start, self.end = found.span()
        self.words = found[0].strip()
        head = self.words[:200]
        self.is_indented = found[0][0].isspace()
        has_digit = _DIGIT.search(head) is not None
        self.is_record = (has_digit and _RECORD.match(head) is not None) or (
            head[0] in "{[" and self.words[-1] in "]}," and _JSON_RECORD.match(head) is not None
        )
        self.maybe_record = _MAYBE_RECORD.match(head) is not None
        self.has_key = _KEY_MARK.search(head) is not None and _KEY.match(head) is not None

    def cells(self) -> int:
        """Return the number of separators between values, as in a row of CSV or of aligned columns."""
        return len(_CELL_BREAK.findall(self.words)) or count_column_gaps(self.words)


class LineRules:
    """Finds the line ends at which sentences end, and the lines inside which no sentence ends.

    Attributes:
        breaks: Ends of lines at which a sentence ends too.
        records: Spans of the records, in order.
        turns: Spans of paragraphs that begin with a key and are not records.
    """

    def __init__(self, text: str) -> None:
        self.breaks: set[int] = set()
        self.records: list[tuple[int, int]] = []
        self.turns: list[tuple[int, int]] = []
        self._whole: list[tuple[int, int]] = []
        self._next = 0  # index in `_whole`; calls of `is_whole` have increasing positions
        paragraph: list[_Line] = []
        for found in _LINE.finditer(text):
            line = _Line(found)
            if paragraph and _is_blank_between(text, paragraph[-1].end, line.start):
                self.breaks.add(paragraph[-1].end)
                self._read(paragraph)
                paragraph = []
            paragraph.append(line)
        if paragraph:
            self._read(paragraph)
        self._whole.sort()

    def is_whole(self, position: int) -> bool:
        """Return whether `position` is inside a line that is a record; the positions of calls must not decrease."""
        while self._next < len(self._whole) and self._whole[self._next][1] <= position:
            self._next += 1
        return self._next < len(self._whole) and self._whole[self._next][0] <= position

    def _read(self, paragraph: list[_Line]) -> None:
        """Find the breaks, records and turns of a paragraph."""
        first = paragraph[0]
        if len(paragraph) == 1:
            if first.is_record:
                self._whole.append((first.start, first.end))
                self.records.append((first.start, first.end))
            elif first.has_key:
                self.turns.append((first.start, first.end))
            return
        certain = sum(line.is_record or line.maybe_record for line in paragraph) > 1
        keys = sum(line.has_key for line in paragraph) > 1
        wrap = _wrapping(paragraph)
        is_punctuated = _is_punctuated(paragraph)
        starts = set()
        for line in paragraph:
            is_entry = line.is_record or (certain and line.maybe_record)
            if is_entry:
                self._whole.append((line.start, line.end))
            if is_entry or (keys and line.has_key):
                starts.add(line.start)
        cells = [line.cells() for line in paragraph]
        for (line, following), (parts, next_parts) in zip(pairwise(paragraph), pairwise(cells), strict=True):
            if parts > 0 and (parts == next_parts or min(parts, next_parts) > 1):
                self._whole += [(line.start, line.end), (following.start, following.end)]
                self.breaks.add(line.end)
                starts |= {line.start, following.start}
            elif (
                following.start in starts
                or (is_punctuated and _PUNCTUATED.search(line.words))
                or _ends_line(line, following, wrap)
            ):
                self.breaks.add(line.end)
        end = paragraph[-1].end
        self.records += pairwise([*sorted(starts), end])
        if not starts and first.has_key:
            self.turns.append((first.start, end))


def _is_blank_between(text: str, start: int, end: int) -> bool:
    gap = text[start:end].replace("\r\n", "\n").replace("\r", "\n")
    return gap.count("\n") > 1


def _wrapping(paragraph: list[_Line]) -> tuple[int, Literal["wrapped", "lines", "unknown"]]:
    """Return the length of the longest line, and whether the paragraph was wrapped to this width.

    A line of wrapped prose ends because the next word did not fit. A line that ends earlier is separate on purpose.
    """
    width = max(len(line.words) for line in paragraph)
    starts_lower = any(line.words[0].islower() for line in paragraph[1:])
    early = sum(not _is_full(line, following, width) for line, following in pairwise(paragraph))
    if len(paragraph) > 3 and starts_lower and not early:
        return width, "wrapped"
    if len(paragraph) > 2 and not starts_lower and 3 * early > len(paragraph) - 1:
        return width, "lines"
    return width, "unknown"


def _is_punctuated(paragraph: list[_Line]) -> bool:
    """Return whether most lines end with punctuation, and many before the width, as in verse and code: such lines are separate."""
    ends = [_PUNCTUATED.search(line.words) is not None for line in paragraph[:-1]]
    if len(ends) < 3 or 3 * sum(ends) < 2 * len(ends):
        return False
    width = max(len(line.words) for line in paragraph)
    return 2 * sum(not _is_full(line, following, width) for line, following in pairwise(paragraph)) >= len(ends)


def _is_full(line: _Line, following: _Line, width: int) -> bool:
    """Return whether the first word of `following` would not have fitted into `line`."""
    word = _FIRST_WORD.match(following.words)
    return len(line.words) + 1 + (len(word[0]) if word else 0) > width


def _ends_line(line: _Line, following: _Line, wrap: tuple[int, str]) -> bool:
    """Return whether a sentence ends between two lines that are not records."""
    if _BULLET.match(following.words) or line.words.startswith(("#", ".. ")):
        return True
    if line.is_record or "-->" in (line.words + following.words):
        return not following.is_indented
    if _SECTION.match(line.words) or _SECTION.match(following.words) or _JSON_RECORD.match(following.words):
        return True
    if following.words[0].islower():
        return False
    width, kind = wrap
    if kind != "unknown":
        return kind == "lines"
    return len(line.words) <= _SHORT_LINE or not _is_full(line, following, width - width // 8)


def find_records(text: str) -> list[tuple[int, int]]:
    r"""Return the `(start, end)` spans of the records of `text`, in order: log lines, rows, turns of a chat.

    Records of a kind have similar beginnings: a time, the name of a speaker, a key. A record ends where the next record begins, or
    at the end of its paragraph. Prose has no records.

    Example:
        >>> text = "Ann: Is it on? I hope so.\nBob: Yes. On 4 May."
        >>> [text[start:end] for start, end in find_records(text)]
        ['Ann: Is it on? I hope so.', 'Bob: Yes. On 4 May.']
    """
    lines = LineRules(text)
    return sorted(lines.records + lines.turns * (len(lines.turns) >= _MIN_TURNS))
