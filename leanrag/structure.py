"""What the lines of a text are: headings, questions, list items, table rows, records, log lines, turns, subtitles, prose."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from leanrag.lines import count_column_gaps
from leanrag.spans import trim_span

__all__ = ["LINE_LEVELS", "Line", "LineKind", "paragraphs"]

LineKind = Literal["prose", "heading", "underline", "question", "item", "row", "record", "log", "cue", "lead", "csv"]

LINE_LEVELS = {
    "mail": 8,
    "numbered": 10,
    "title": 20,
    "question": 30,
    "stamp": 40,
    "section": 45,
    "indented": 50,
    "turn": 900,
    "lead": 1000,
}
"""How deep each kind of head stands; Markdown headings have the levels 1 to 6. A head ends the scope of all that are as deep."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a text without the white space around it.

    Attributes:
        start: First character.
        end: One past the last.
        indent: Columns before it.
        kind: What it is.
        level: How deep a heading stands, 0 for other lines; see `LINE_LEVELS`.
    """

    start: int
    end: int
    indent: int
    kind: LineKind = "prose"
    level: int = 0


_LINE = re.compile(r"[^\r\n]+")
_MARKDOWN = re.compile(r"(#{1,6})(?:[ \t]|$)")
_EQUALS = re.compile(r"(={1,6})[ \t]*[^=\s].*?[ \t]*=*\Z")
_UNDERLINE = re.compile(r"(?:={3,}|-{3,}|~{3,}|\^{3,}|\*{3,}|\"{3,})\Z")
_NUMBERED = re.compile(
    r"(?:(?:section|article|chapter|clause|part|art\.|abschnitt|artikel|kapitel|titre|artículo|capítulo)[ \t]+[\w.]{1,8}|"
    r"§+[ \t]*\d+\w*|"
    r"(?P<number>\d{1,3}(?:\.\d{1,3})*\.?))(?:[ \t:.–—-]+(?=\S)|\Z)",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(?:\*\*|__)[^*_\n]+(?:\*\*|__):?\Z")
_COUNTED = re.compile(r"([0-9]{1,3})\.[ \t]")
_CJK_NUMBERED = re.compile(r"第[一二三四五六七八九十百\d]+[章节節条條編]")
_MARKED = re.compile(r"[■◆◇□▼]|【[^】]*】\Z")
_RELEASE = re.compile(
    r"(?:(?:version|release|v)?[ \t]*\[?v?\d+\.\d+[\w.-]*\]?(?:[ \t(,:–—-].*)?|"
    r"[a-z][\w.+-]{1,40} (?:v?\d+\.\d|\([^()\s]*\d).{0,60})\Z",
    re.IGNORECASE,
)
_TICKET = re.compile(r"[^\W\d_]{2,16}[ \t-]?(?:#|no\.?|nr\.?|№)?[ \t]?\d{1,8}\Z", re.IGNORECASE)
_QUESTION = re.compile(
    r"(?:\*\*|__)?(?:q|question|frage|pregunta|domanda|问|問|質問|질문|سؤال|प्रश्न|คำถาม)[ \t]*\d{0,3}[ \t]*[.:：)].{0,300}\Z",
    re.IGNORECASE,
)
_ITEM = re.compile(
    r"(?:[-*+•‣◦–][ \t]|(?:\d{1,3}|[a-zA-Z])[.)][ \t]|\(\w{1,3}\)[ \t]|(?:step|schritt)[ \t]+\d+[.:][ \t])",
    re.IGNORECASE,
)
_ROW = re.compile(r"\|.*\|\Z")
_RULE = re.compile(r"(?=[^-]*-)[-:| \t+=]+\Z")
_CUE_TIME = re.compile(r"(?:\d{1,2}:)?\d{1,2}:\d{2}[.,]\d{1,3}[ \t]*-->")
_LOG = re.compile(
    r"[\[(<]?(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}[T \t]?[ \t]*(?:\d{1,2}:\d{2}|\S)|\d{1,2}[./]\d{1,2}[./]\d{2,4}[, \t]|"
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ \t]+\d{1,2}[, \t]+\d{1,2}:\d{2}|\d{1,2}:\d{2}(?::\d{2})?|"
    r"(?:debug|info|notice|warn|warning|error|fatal|critical|trace)\b)",
    re.IGNORECASE,
)
_RECORD = re.compile(
    r"[\[{}\]][,;]?\Z|\[[^\]\n]+\]\Z|[{\[].*[}\]],?\Z|<[\w .-]{1,30}>[ \t]|(?:export[ \t]+)?"
    r"[\"'*]{0,3}[^\W_](?:[\w.\-/ @#()+]|\[[^\]\n]*\]){0,40}[\"'*]{0,3}[ \t]*(?:[:：]|=>|=)"
    r"(?:[\"'*]{0,3}(?:[ \t]|\Z)|[\"'\w/\[{$-]|(?<=：))"
)
_SECTION = re.compile(r"\[{1,2}[^\W\d][^\]\n]*\]{1,2}\Z")
_MAIL = re.compile(r"(from|subject|von|betreff|de|objet|asunto)[ \t]*:[ \t]*\S", re.IGNORECASE)
_AUTHOR = re.compile(r"author[ \t]*:[ \t]*\S", re.IGNORECASE)
_COMMIT = re.compile(r"commit [0-9a-f]{7,64}\b")
_STAMP = re.compile(r"\b\d{1,2}:\d{2}\b")
_STAMPED = 48  # characters of a line with a name and a time over what was said
_NAME_AND_TIME = re.compile(r"[^\W\d_][^:=]*\b\d{1,2}:\d{2}(?::\d{2})?[ ]?(?:[AaPp]\.?[Mm]\.?)?[\])]?\Z")
_QUESTION_MARKS = "?？؟"
_CLOSES_SENTENCE = _QUESTION_MARKS + ".!…。！।"
_SENTENCE_END = ".,;!。！،؛۔।"
_SENTENCE = re.compile(r"[.!?…。！？؟۔।][\"'”’»)\]]*(?:\s|\Z)|[。！？]")
_SHORT = 72  # characters of a line that may be a title
_TITLE_WORDS = 5  # of a title right above a sentence
_COLUMNS = ("\t", ";", ",", "|")


def paragraphs(text: str, begin: int, stop: int) -> Iterator[list[Line]]:
    """Yield the paragraphs of a part of a text, without fenced code: lines between which nothing is blank, and what each is."""
    lines: list[Line] = []
    found: list[list[Line]] = []
    last_end = begin
    for match in _LINE.finditer(text, begin, stop):
        span = trim_span(text, match.start(), match.end())
        if span is None:
            continue
        gap = text[last_end : match.start()].replace("\r\n", "\n").replace("\r", "\n")
        if lines and gap.count("\n") > 1:
            found.append(lines)
            lines = []
        indent = len(text[_line_start(text, match.start()) : span[0]].expandtabs(4))
        lines.append(Line(*span, indent))
        last_end = match.end()
    if lines:
        found.append(lines)
    bare = [line for paragraph in found for line in paragraph]
    mostly = _common_kind([text[line.start : line.end] for line in bare], least=3)
    classified = (
        _classified(text, paragraph, found[at + 1][0] if at + 1 < len(found) else None, mostly)
        for at, paragraph in enumerate(found)
    )
    yield from _with_numbered_headings(text, classified)


def _with_numbered_headings(text: str, found: Iterable[list[Line]]) -> Iterator[list[Line]]:
    """Yield the paragraphs; an item that begins one is a heading if its number follows that of a heading just before.

    So "8. I found a bug." is a heading like "7. Why is it slow?".
    """
    last = level = 0  # of the last line that begins with a number; an item has the level 0
    for lines in found:
        for i, line in enumerate(lines):
            number = _number_of(text, line)
            if number is None:
                continue
            if not i and level and line.kind == "item" and number == last + 1:
                line = lines[i] = replace(line, kind="heading", level=level)
            last, level = number, line.level
        yield lines


def _line_start(text: str, position: int) -> int:
    """Return where the line of a position begins if only white space is between; else the position."""
    start = position
    while start and text[start - 1] in " \t":
        start -= 1
    return start if not start or text[start - 1] in "\r\n" else position


def _number_of(text: str, line: Line) -> int | None:
    """Return the number that a heading or an item begins with; None for other lines."""
    found = _COUNTED.match(text, line.start, line.end) if line.kind in ("heading", "item") else None
    return int(found[1]) if found else None


def _common_kind(lines: Sequence[str], least: int) -> LineKind | None:
    """What most of the lines are: log lines or records (settings, turns of a chat, JSON); None where most are neither."""
    if len(lines) < least:
        return None
    lines = [line for line in lines if not _MARKDOWN.match(line)] or lines
    n_logs = sum(_LOG.match(line) is not None for line in lines)
    if n_logs >= 0.6 * len(lines):
        return "log"
    n_records = sum(_RECORD.match(line) is not None for line in lines)
    return "record" if n_records + n_logs >= 0.6 * len(lines) else None


def _classified(text: str, lines: list[Line], following: Line | None, mostly: LineKind | None) -> list[Line]:
    contents = [text[line.start : line.end] for line in lines]
    if _is_csv(contents):
        return [replace(line, kind="csv") for line in lines]
    shared = _common_kind(contents, least=2) or mostly
    questions = _listed_questions(contents)
    is_list = sum(_ITEM.match(content) is not None for content in contents) > 1
    result: list[Line] = []
    for i, (line, content) in enumerate(zip(lines, contents, strict=True)):
        before = result[-1] if result else None
        is_last = i + 1 == len(lines)
        next_line = following if is_last else lines[i + 1]
        below = "" if next_line is None else text[next_line.start : next_line.end]
        goes_deeper = next_line is not None and next_line.indent > line.indent + 1
        seen = _Seen(content, before, below, is_last, goes_deeper, i in questions, is_list, shared)
        kind, level = next(filter(None, (rule(seen) for rule in _RULES)), ("prose", 0))
        result.append(replace(line, kind=kind, level=level))
    return result


def _listed_questions(lines: Sequence[str]) -> set[int]:
    """Which lines ask and have their answers below them; none if there is only one."""
    asking = {
        i
        for i, line in enumerate(lines)
        if line[-1] in _QUESTION_MARKS and i + 1 < len(lines) and (not i or lines[i - 1][-1] in _CLOSES_SENTENCE)
    }
    return asking if len(asking) > 1 else set()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the rules look at.

    Attributes:
        content: The line.
        before: The line before it in the paragraph, if any.
        below: The text of the next line, of this paragraph or of the next; "" for none.
        is_last: Whether it ends its paragraph.
        goes_deeper: Whether the next line is set deeper.
        is_listed_question: Whether it is one of several lines of its paragraph that ask, each after the end of a sentence.
        is_list: Whether several lines of its paragraph begin as items of a list do.
        shared: What most lines of the paragraph are, if they are log lines or records.
    """

    content: str
    before: Line | None
    below: str
    is_last: bool
    goes_deeper: bool
    is_listed_question: bool
    is_list: bool
    shared: LineKind | None

    @property
    def is_first(self) -> bool:
        """Whether it begins a paragraph, or follows a heading."""
        return self.before is None or self.before.kind in ("heading", "underline")

    @property
    def may_be_title(self) -> bool:
        """Whether it is short and does not end as a sentence does."""
        content = self.content
        return len(content) <= _SHORT and content[-1] not in _SENTENCE_END and any(map(str.isalnum, content))


_Found = tuple[LineKind, int] | None


def _markup(seen: _Seen) -> _Found:
    content, before = seen.content, seen.before
    if found := _MARKDOWN.match(content):
        return "heading", len(found[1])
    if (
        before is not None
        and before.kind == "heading"
        and before.level >= LINE_LEVELS["numbered"]
        and _UNDERLINE.match(content)
    ):
        return "underline", 0
    if _ROW.match(content) or ("|" in content and _RULE.match(content)):
        return "row", 0
    if _CUE_TIME.match(content) or (content.isdecimal() and _CUE_TIME.match(seen.below)):
        return "cue", 0
    return ("question", LINE_LEVELS["question"]) if _QUESTION.match(content) else None


def _marked_title(seen: _Seen) -> _Found:
    content = seen.content
    if not seen.may_be_title:
        return None
    if seen.is_first and not seen.is_last and len(seen.below) >= 3 and _UNDERLINE.match(seen.below):
        is_release = _RELEASE.match(content) is not None
        return "heading", LINE_LEVELS["numbered"] if is_release else LINE_LEVELS["title"] + (seen.below[0] != "=")
    if found := _EQUALS.match(content):
        return "heading", len(found[1])
    return ("heading", LINE_LEVELS["title"] + 2) if _BOLD.match(content) and "?" not in content[-4:] else None


def _record(seen: _Seen) -> _Found:
    content, before = seen.content, seen.before
    if seen.shared is None:
        return None
    if seen.is_first and not seen.is_last and len(content) <= _STAMPED and _NAME_AND_TIME.match(content):
        return "lead", LINE_LEVELS["stamp"]
    if _SECTION.match(content):
        return "lead", LINE_LEVELS["section"]
    if _COMMIT.match(content):
        return "lead", LINE_LEVELS["mail"]
    if _AUTHOR.match(content) and before is not None and before.level == LINE_LEVELS["mail"]:
        return "lead", LINE_LEVELS["mail"] + 1
    if _MAIL.match(content) and (before is None or before.kind == "record" or before.level):
        is_subject = content[0] not in "FfVvDd"
        return "lead", LINE_LEVELS["mail"] + is_subject
    if _LOG.match(content):
        return "log", 0
    return ("record", 0) if _RECORD.match(content) else None


def _plain_title(seen: _Seen) -> _Found:
    content = seen.content
    if not seen.may_be_title:
        return None
    if _begins_numbering(content, seen.below):
        return "heading", _level_of(content)
    if not seen.is_first:
        return None
    if _is_capitals(content) and (seen.is_last or not _is_capitals(seen.below)):
        return "heading", _level_of(content) or LINE_LEVELS["title"] + 1
    if not seen.below:
        return None
    if _MARKED.match(content):
        return "heading", LINE_LEVELS["title"] + 1
    if not seen.is_last and _TICKET.match(content) and _RECORD.match(seen.below):
        return "heading", LINE_LEVELS["title"] + 1
    if seen.is_last and (found := _NUMBERED.match(content)):
        number = (found["number"] or "").rstrip(".")
        if number.count(".") < 3 and not (number.isdecimal() and len(number) > 2):
            return "heading", LINE_LEVELS["numbered"] + number.count(".")
    if _RELEASE.match(content) or _CJK_NUMBERED.match(content):
        return "heading", LINE_LEVELS["numbered"]
    return ("heading", level) if (level := _level_over_text(seen)) else None


def _level_over_text(seen: _Seen) -> int:
    """Return the level of a short line right above a sentence ("3. How to apply", "Opening hours"), 0 if it is no title.

    The line is not the beginning of the sentence: its next word would have fitted, and the sentence has a beginning of its own.
    """
    content, below = seen.content, seen.below
    is_over = not (seen.is_last or seen.goes_deeper or seen.is_list or _begins_within(below)) and _SENTENCE.search(
        below
    )
    if not is_over or content[-1] in ":：" or _RECORD.match(content):
        return 0
    is_title = 2 * len(content) < len(below) and len(content.split()) <= _TITLE_WORDS and not _begins_within(content)
    return _level_of(content) or (LINE_LEVELS["title"] + 1 if is_title else 0)


def _begins_numbering(content: str, below: str) -> bool:
    """Whether a line has the number of a section, and the next line that of its first part ("2.1 Rail", "2.1.1 ...")."""
    found, first = _NUMBERED.match(content), _NUMBERED.match(below)
    if found is None or first is None or not found["number"]:
        return False
    return (first["number"] or "").rstrip(".") == f"{found['number'].rstrip('.')}.1"


def _level_of(content: str) -> int:
    """Return the level of a title by its number, 0 if it has none."""
    found = _NUMBERED.match(content)
    return LINE_LEVELS["numbered"] + (found["number"] or "").rstrip(".").count(".") if found else 0


def _begins_within(line: str) -> bool:
    """Whether a line begins as the rest of a sentence or as an item does."""
    return line[0].islower() or _ITEM.match(line) is not None


def _aligned(seen: _Seen) -> _Found:
    before, below = seen.before, seen.below
    if not count_column_gaps(seen.content):
        return None
    is_table = (before is not None and before.kind == "csv") or (not seen.is_last and count_column_gaps(below))
    return ("csv", 0) if is_table else None


def _item(seen: _Seen) -> _Found:
    return ("item", 0) if _ITEM.match(seen.content) else None


def _standing_over(seen: _Seen) -> _Found:
    content = seen.content
    if seen.is_listed_question and len(content) <= 2 * _SHORT:
        return "question", LINE_LEVELS["question"]
    if not seen.below:
        return None
    if not seen.is_first:
        is_lead = seen.may_be_title and not seen.is_last and not content[0].islower() and _ITEM.match(seen.below)
        return ("lead", LINE_LEVELS["lead"]) if is_lead else None
    if (
        content.rstrip("*_")[-1:] in tuple(_QUESTION_MARKS)
        and (seen.is_last or _BOLD.match(content))
        and len(content) <= 2 * _SHORT
    ):
        return "question", LINE_LEVELS["question"]
    if seen.may_be_title and content[-1] not in ":：?？؟" and (_ITEM.match(seen.below) or _ROW.match(seen.below)):
        return "heading", _level_of(content) or LINE_LEVELS["title"] + 3
    if len(content) <= _STAMPED and content[-1] not in ".,;:" and not seen.is_last and _STAMP.search(content):
        return "lead", LINE_LEVELS["stamp"]
    return None


_RULES: tuple[Callable[[_Seen], _Found], ...] = (
    _markup,
    _marked_title,
    _record,
    _aligned,
    _plain_title,
    _item,
    _standing_over,
)


def _is_capitals(content: str) -> bool:
    letters = [character for character in content if character.isalpha()]
    return (
        len(letters) >= 3
        and content.isupper()
        and len(content.split()) <= 8
        and not any(mark in content for mark in "=|{}")
        and not count_column_gaps(content)
    )


def _is_csv(lines: Sequence[str]) -> bool:
    """Whether the lines are a table with a mark between the columns: equally often in each, and no sentences."""
    if len(lines) < 3 or lines[0].startswith("|") or any(line.endswith(".") and line.count(" ") > 8 for line in lines):
        return False
    for mark in _COLUMNS:
        counts = [line.count(mark) for line in lines]
        most = max(set(counts), key=counts.count)
        if most and counts.count(most) >= 0.8 * len(lines) and (most > 1 or mark == "\t"):
            spaced = sum(line.count(mark + " ") for line in lines)
            if mark in "\t;|" or spaced < 0.5 * sum(counts):
                return True
    return False
