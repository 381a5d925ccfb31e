"""Records in text: some lines with a name and a value each, which say things about one subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Record", "RecordLine", "find_records"]

_LINE = re.compile(r"[^\r\n]*\S[^\r\n]*")
_NAMED = re.compile(
    r"\s*(?:-\s+)?[\"']?(?P<name>[^\W\d_][\w./-]{0,39}(?: [\w./()-]{1,24}){0,2})[\"']?(?:;[\w=,+-]{1,40}){0,3}"
    r"\s{0,12}(?:=>|=|：|:(?!\d{2,5}\b))\s{0,12}(?=\S)"  # a number right behind a colon is a port or a time
)
_NO_WORDS = re.compile(r"[\W_]+\Z")
_COMMENT = re.compile(r"\s*(?:[#;%]|//|--)")
_SECTION = re.compile(r"\s*(?:\[{1,2}[^\[\]\r\n]{1,80}\]{1,2}|@\w{1,30}\{[^\r\n]{0,80}|[\w.-]{1,40}\s*[=:]?\s*\{)\s*\Z")
_SENTENCE_END = re.compile(r"[.!?。！？][\"'”’»)]*\s*\Z")
_HEADER_NAMES = frozenset(
    "from to cc date subject author sent reply-to von an datum betreff gesendet de à objet date envoyé asunto fecha para".split()
)
_MAX_CHARS = 1600  # of a record
_MAX_BODY_PARAGRAPHS = 4


@dataclass(frozen=True, slots=True)
class RecordLine:
    """A line of a record: its span, and its name ("" for a line without one)."""

    start: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class Record:
    """The lines of a record, in order."""

    lines: tuple[RecordLine, ...]

    @property
    def start(self) -> int:
        """First character."""
        return self.lines[0].start

    @property
    def end(self) -> int:
        """One past the last."""
        return self.lines[-1].end


def find_records(text: str) -> list[Record]:
    r"""Return the records of a text, in order and without overlap.

    A paragraph is made of records if most of its lines have a name and few are sentences. The line whose name is that of the first
    line begins the next record, and so does the name of a section. A header ("From", "Date", "Subject") has its body in the
    paragraphs below.

    Example:
        >>> [[line.name for line in record.lines] for record in find_records("id = 1\nsize = 3\nid = 2\nsize = 5")]
        [['id', 'size'], ['id', 'size']]
    """
    records: list[Record] = []
    body = 0  # paragraphs that the header before may still have as its body
    for lines in _paragraphs(text):
        found = _split(text, lines)
        if found:
            records += found
            body = _MAX_BODY_PARAGRAPHS if _is_header(found[-1]) else 0
        elif body:
            body -= 1
            records[-1] = Record((*records[-1].lines, *lines))
    return [record for record in records if len(record.lines) > 1 and record.end - record.start <= _MAX_CHARS]


def _paragraphs(text: str) -> Iterator[list[RecordLine]]:
    lines: list[RecordLine] = []
    for found in _LINE.finditer(text):
        if lines and text[lines[-1].end : found.start()].replace("\r\n", "\n").count("\n") > 1:
            yield lines
            lines = []
        named = _NAMED.match(found[0])
        is_named = named is not None and not _COMMENT.match(found[0])
        lines.append(RecordLine(*found.span(), named[1] if named and is_named else ""))
    if lines:
        yield lines


def _split(text: str, lines: Sequence[RecordLine]) -> list[Record]:
    """Return the records of a paragraph; none if it is something else."""
    named = [line for line in lines if line.name]
    said = [line for line in lines if not _is_mark(text[line.start : line.end])]
    sentences = sum(_SENTENCE_END.search(text, line.start, line.end) is not None for line in named)
    if len(named) < 2 or len(named) < 0.6 * len(said) or 3 * sentences > len(named):
        return []
    first = named[0].name
    groups: list[list[RecordLine]] = [[]]
    for line in lines:
        is_section = _SECTION.match(text, line.start, line.end) is not None
        if groups[-1] and any(other.name for other in groups[-1]) and (line.name == first or is_section):
            groups.append([])
        groups[-1].append(line)
    if any(len({line.name for line in group if line.name}) < 2 for group in groups[:-1]):
        return []  # turns of a talk
    return [Record(tuple(group)) for group in groups]


def _is_mark(line: str) -> bool:
    """Whether a line is no part of what is said: brackets, a comment, the name of a section."""
    return (_NO_WORDS.match(line) or _COMMENT.match(line) or _SECTION.match(line)) is not None


def _is_header(record: Record) -> bool:
    return sum(line.name.casefold() in _HEADER_NAMES for line in record.lines) > 1
