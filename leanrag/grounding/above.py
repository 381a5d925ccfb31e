"""What stands above a sentence: headings, the question that it answers, lead-ins, the header of its table, speakers."""

from __future__ import annotations

import re
from collections import Counter

from leanrag.lines import count_column_gaps
from leanrag.structure import LINE_LEVELS, Line

__all__ = ["Above", "Speakers", "is_list_item", "is_question", "is_term", "text_below"]

_QUESTION = re.compile(r"\s*(?:Q|F|P|Question|Frage)\s?[:.]\s")
_ROW = re.compile(
    r"\s*\||[^;\n]*(?:;[^;\n]*){2,}\Z|[^\t\n]*(?:\t[^\t\n]*)+\Z"
    r'|(?:"[^"\n]*"|[^",\n][^,\n]*)(?:,(?:"[^"\n]*"|[^",\s][^,\n]*|(?=,|\Z))){2,}\Z'
)
_LIST_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s")
_TERM = re.compile(r"\S(?:[^.!?:;|\n]{0,58}[^\s.!?:;|,])?\Z")
_TERM_LEVEL = 60  # below headings that are marked as such
_SPACE = re.compile(r"\s*")
_BLANK_LINE = re.compile(r"\n[ \t]*\r?\n\s*\Z")
_TIME = re.compile(r"[\[(]?\b\d[\d:./-]*\b[\])]?(?: ?[AaPp][Mm]\b)?")
_MOST_SPACE = 200  # characters before a line that are looked at
_LABEL = re.compile(r"\s*(?:[-*+•]\s+)?(\S[^.!?:;|\n]{0,38}):\s+\S")
_DEFINED = re.compile(r"\s*([^\s.!?:;|][^.!?:;|\n]{0,38})\.\Z")
_TURN = re.compile(r"\s*(?:\[?\(?\d[\d/.:, -]{3,24}[apAP.mM]{0,4}\)?\]?[ -]*)?<?\s?[@+]?(\w[\w .'()-]{0,38})[:>]\s")
_COMMENT = re.compile(r"\s*(?:#|;|//)")
_SETTING = re.compile(r"\s*(?:(?:#|;|//)\s*)?(?:\w+:\s+)?[\w.-]+(?:\s*=\s*|\t+|\s{2,})\S")
_LONGEST_HEAD = 120  # characters of a line that stands over lines set deeper
_MOST_BELOW = 400  # characters of what a line stands over
_MAX_REPLIES = 3  # turns of a talk that may answer a question
_MAX_DEFINED = 3  # words of a term before a full stop


class Above:
    """What stands above the sentence that is being read."""

    def __init__(self) -> None:
        self.question = self.lead_in = ""
        self._headings: list[tuple[int, str]] = []
        self._over: list[tuple[int, str]] = []  # lines that stand over lines set deeper, with their indentation
        self._table = self._label = self._first_cell = ""
        self._header = ""
        self._comment: list[str] = []  # lines of a comment, which the settings below it are told by
        self._is_told = False  # whether the last line was a setting
        self._turns = 0  # that may still answer the question, if that is a turn of a talk
        self.speaker = ""  # of the turn that is being read, where a line above it names him or her with the time

    @property
    def headings(self) -> list[str]:
        """The headings, outermost first."""
        return [words for _, words in self._headings]

    @property
    def header(self) -> str:
        """The first row of the table that is being read; "" outside of tables."""
        return self._header

    def texts(self, sentence: str) -> list[str]:
        """Everything that is above a sentence."""
        over = [words for _, words in self._over if words not in self.lead_in]
        first_cell = self._first_cell if sentence.startswith("|") and not _first_cell(sentence) else ""
        texts = [
            *self.headings,
            self.speaker,
            *over,
            self.question,
            self.lead_in,
            self._table,
            self._label,
            first_cell,
            *(self._comment if self._comment and _SETTING.match(sentence) else ()),
        ]
        return [text for text in texts if text and text != sentence]

    def begin_line(self, text: str, start: int, end: int) -> bool:
        """Take note of the first sentence of a line; return whether it stands over lines that are set deeper."""
        self._label = ""
        if _BLANK_LINE.search(text, max(0, start - _MOST_SPACE), start):
            self._header = ""
            self._comment = []
        indent = _indent_of(text, start)
        while self._over and self._over[-1][0] >= indent:
            self._over.pop()
        below = _skip_space(text, end)
        is_option = text[start:end].startswith("-") and text.startswith("-", below)
        is_over = (
            not is_option and "\n" in text[end:below] and below < len(text) and _indent_of(text, below) > indent + 1
        )
        if not is_over or end - start > _LONGEST_HEAD or is_list_item(text[start:end]):
            return False
        self._over.append((indent, text[start:end]))
        return True

    def begin(self, sentence: str, head: Line | None) -> None:
        """Forget what does not stand over a sentence, or over a line that stands over others."""
        if _LABEL.match(sentence):
            self._label = ""
        if head is None:
            return
        if head.level == LINE_LEVELS["stamp"]:
            self._reply()
            self.speaker = _TIME.sub("", sentence)
        elif head.kind != "question" and head.level != LINE_LEVELS["lead"]:
            self.speaker = ""
            self._headings = [(level, words) for level, words in self._headings if level < head.level]
            self.question = self._table = ""
        self.lead_in = ""

    def read_head(self, text: str, line: Line) -> None:
        """Take note of a line that stands over the lines below it."""
        if is_question(text):
            self._ask(text)
        elif line.level == LINE_LEVELS["lead"]:
            self.lead_in = text
        elif line.level != LINE_LEVELS["stamp"]:
            self._enter(line.level, text)

    def leave_term(self) -> None:
        """Forget the last term; another one begins."""
        self._headings = [(level, words) for level, words in self._headings if level < _TERM_LEVEL]

    def read_term(self, text: str) -> None:
        """Take note of a short line that stands alone; the paragraph below tells about it."""
        self._enter(_TERM_LEVEL, text)

    def read(self, text: str) -> bool:
        """Take note of a sentence that later ones stand under; return whether something new begins with it."""
        if is_question(text):
            self._ask(text)
            return True
        if _is_turn(text):
            self._reply()
        if self._comment or text.startswith(("#", ";", "//")):
            self._read_comment(text)
        if text.rstrip().endswith((":", "：")):
            self.lead_in = text
        elif text.lstrip().startswith("|"):
            self._table = self._table or text
        elif not is_list_item(text):
            self._table = ""
        self._header = (self._header or text) if _ROW.match(text) or count_column_gaps(text) else ""
        self._first_cell = _first_cell(text) or self._first_cell if self._table else ""
        return False

    def _read_comment(self, text: str) -> None:
        """Take note of a line of a comment; one behind a setting begins another comment."""
        is_setting = _SETTING.match(text) is not None
        if _COMMENT.match(text) and not is_setting:
            self._comment = [text] if self._is_told else [*self._comment, text]
        self._is_told = is_setting

    def read_label(self, sentence: str, *, is_first: bool, rest: str) -> None:
        """Take note of a label ("Fee: 3 euros. ...") or a term ("Tenor. The heaviest bell. ...") before the rest of its line."""
        if label := _LABEL.match(sentence):
            self._label = label[1]
        elif is_first and (term := _DEFINED.match(sentence)) and len(term[1].split()) <= _MAX_DEFINED:
            self._label = term[1] if rest.lstrip(" \t")[:1].isalnum() else ""

    def _reply(self) -> None:
        """Begin a turn of a talk, which may answer the question if it is one of the next few."""
        if self._turns:
            self._turns -= 1
            self.question = self.question if self._turns else ""

    def _enter(self, level: int, text: str) -> None:
        self._headings = [(above, words) for above, words in self._headings if above < level] + [(level, text)]
        self.question = self.lead_in = self._table = ""

    def _ask(self, text: str) -> None:
        turn = _TURN.match(text) if _is_turn(text) else None
        self.question, self.lead_in = text[turn.end() :] if turn else text, ""
        self._turns = _MAX_REPLIES if turn or self.speaker else 0


class Speakers:
    """The names that turns of a talk begin with: those that recur in a text, all if it is nothing else, and those behind a time."""

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line.strip()]
        names = Counter(found[1] for found in map(_TURN.match, lines) if found)
        recurring = {name for name, count in names.items() if count > 1} if len(names) > 1 else set[str]()
        is_talk = names.total() == len(lines) and sum(map(_ends_sentence, lines)) > len(lines) / 2
        self._names = set(names) if recurring and is_talk else recurring

    def name_of(self, line: str) -> str:
        """Return the speaker of a turn; "" for anything else."""
        found = _TURN.match(line)
        if found is None:
            return ""
        has_time = any(map(str.isdigit, line[: found.start(1)]))
        return found[1] if has_time or found[1] in self._names else ""


def _ends_sentence(line: str) -> bool:
    return line.rstrip().endswith((".", "!", "?", "…"))


def is_question(text: str) -> bool:
    """Whether a sentence asks, or is marked as a question."""
    return text.rstrip("*_\"'”» \t\r\n").endswith(("?", "？", "؟")) or _QUESTION.match(text) is not None


def is_list_item(text: str) -> bool:
    """Whether a sentence is the item of a list."""
    return _LIST_ITEM.match(text) is not None


def is_term(text: str, start: int, end: int) -> bool:
    """Whether a line is short, begins a paragraph and is not a sentence: a term, with what is said of it below.

    What is said stands in the next paragraph, or in lines that are indented deeper.
    """
    line = text[start:end]
    if not _TERM.match(line) or len(line.split()) > 6 or (count_column_gaps(line) and not is_list_item(line)):
        return False
    before = start
    while before and text[before - 1] in " \t":
        before -= 1
    if before and not text.endswith("\n\n", 0, before):
        return False
    below = _skip_space(text, end)
    if below == len(text) or "\n" not in text[end:below]:
        return False
    return text.count("\n", end, below) > 1 or _indent_of(text, below) > _indent_of(text, start)


def text_below(text: str, start: int, end: int) -> str:
    """Return the lines below a line that are set deeper; without such lines, the paragraph below it or the rest of its own."""
    begin = _skip_space(text, end)
    stop = text.find("\n\n", begin)
    stop = min(stop if stop >= 0 else len(text), begin + _MOST_BELOW)
    indent = _indent_of(text, start)
    while stop < begin + _MOST_BELOW:
        following = _skip_space(text, stop)
        if following == len(text) or _indent_of(text, following) <= indent or _indent_of(text, begin) <= indent:
            break
        end_of_next = text.find("\n\n", following)
        stop = min(end_of_next if end_of_next >= 0 else len(text), begin + _MOST_BELOW)
    return text[begin:stop]


def _first_cell(row: str) -> str:
    """The first cell of a row of a Markdown table; "" for an empty cell."""
    cells = row.strip().split("|")
    return cells[1].strip() if not cells[0] and len(cells) > 1 else ""


def _is_turn(text: str) -> bool:
    """Whether a line is a turn of a talk, with the name of the speaker."""
    return _TURN.match(text) is not None and _QUESTION.match(text) is None


def _indent_of(text: str, position: int) -> int:
    """The columns between the beginning of a line and a position in it."""
    return len(text[text.rfind("\n", 0, position) + 1 : position].expandtabs(4))


def _skip_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
