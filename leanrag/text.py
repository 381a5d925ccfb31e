"""Words and sentences of a text, as the lexical parts of several stages see them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Literal

__all__ = [
    "STOP_WORDS",
    "answer_kind",
    "content_words",
    "join_spans",
    "split_sentences",
    "stem",
    "trim_span",
    "without_marks",
    "words",
]

_WORD = re.compile(r"\w+(?:[.,'’]\w+)*")
_MARK = re.compile(r"\s*\[\d+(?:\s*,\s*\d+)*\]")
_SUFFIXES = ("ingly", "edly", "ings", "ing", "ies", "ied", "ed", "es", "ly", "s", "e")

STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by can
    could did do does doing done down during each few for from further had has have having he her here hers him his how i if in
    into is it its itself just many me more most much my name no nor not of off on once one only or other our out over own same
    she should so some such than that the their them then there these they this those through to too under until up use used
    very was we were what when where which while who whom whose why will with would you your""".split()
)


def words(text: str) -> list[str]:
    """Return the words of `text` in order, case folded; "3,000" and "don't" are one word each."""
    return [word.casefold() for word in _WORD.findall(text)]


def without_marks(text: str) -> str:
    """Return `text` without marks of sources, such as [1] and [2, 3], and the space before them."""
    return _MARK.sub("", text)


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """Return `word` less one common English ending: crude, but the same for both sides of a comparison."""
    if word[-1:].isdigit():
        return word.replace(",", "")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word


def content_words(text: str) -> list[str]:
    """Return the stems of the words of `text` that carry content, in order."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


_ASKS_WHEN = re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century))\b", re.IGNORECASE)
_ASKS_HOW_MANY = re.compile(
    r"\bhow (?:many|much|long|far|tall|high|large|big|fast|old|often)\b|\bwhat (?:percent\w*|number|population)\b",
    re.IGNORECASE,
)
_ASKS_WHO_OR_WHERE = re.compile(
    r"\b(?:who|whom|whose|where)\b|\b(?:what|which) (?:city|country|state|place|town|continent|river|person)\b",
    re.IGNORECASE,
)


def answer_kind(question: str) -> Literal["date", "number", "name"] | None:
    """Return what kind of answer an English question asks for, by its question words; None when that is not clear.

    Example:
        >>> answer_kind("In what year did it fall?"), answer_kind("Who built it?"), answer_kind("What is it for?")
        ('date', 'name', None)
    """
    if _ASKS_WHEN.search(question):
        return "date"
    if _ASKS_HOW_MANY.search(question):
        return "number"
    return "name" if _ASKS_WHO_OR_WHERE.search(question) else None


# Never the end of a sentence ...
_TITLES = frozenset(
    "adm approx brig capt cf col dept dr ed eds eq eqs esp fig figs fr gen gov hon lt maj messrs mme mr mrs ms mt no nos"
    " nr op p pp prof ref refs rep rev resp sec sen sgt sr st tab v viz vol vols vs e.g i.e cf. al".split()
)
# ... and only before a word that begins sentences.
_MAYBE_LAST = frozenset(
    "a.m co corp est etc inc jr ltd p.m ph.d dist ave blvd jan feb mar apr aug sept oct nov dec".split()
)
_STARTERS = frozenset(
    "a after all also although an and another as at because before but by each even for from he her here his how however"
    " i if in instead it its many most my no not now on one our she since so some such that the their then there these"
    " they this those though thus to today two unlike until we what when where while who why with yet you your".split()
)
_PAUSE = re.compile(
    r"(?P<wide>[。！？｡．।॥።။។]+[」』”’）】》〉\"')\]]*)"
    r"|(?P<end>[.!?…؟۔։]+[\"'”’»)\]}*_]*)"
    r"|(?P<line>[\r\n]\s*)"
)
_WORD_BEFORE = re.compile(r"[^\s(\[{\"'“‘]*\Z")
_NEXT_WORD = re.compile(r"[\s\"'“‘«(\[*_]*([^\W\d_]+)")
_BULLET = re.compile(r"(?:[-*+•‣◦]|\d{1,3}[.)]|[a-zA-Z][.)]|#{1,6}|\|)(?:\s|$)|\|")
_LIST_NUMBER = re.compile(r"[ \t]*(?:\d{1,3}|[a-zA-Z])\Z")
_SHORT_LINE = 40  # characters; prose that is wrapped by hand has longer lines


def split_sentences(text: str) -> list[tuple[int, int]]:
    r"""Return the `(start, end)` spans of the sentences of `text`, in order.

    Spans are trimmed; only white space lies between them. Blank lines, list items and headings end a sentence as full
    stops do; abbreviations ("e.g.", "Dr."), initials, decimals and list numbers do not. Text of languages that this
    misjudges still comes back whole. Takes time linear in the text.

    Example:
        >>> text = "Dr. Smith paid $3.50. He left, e.g. by train."
        >>> [text[start:end] for start, end in split_sentences(text)]
        ['Dr. Smith paid $3.50.', 'He left, e.g. by train.']
    """
    spans = []
    start = 0
    for pause in _PAUSE.finditer(text):
        if not _ends_sentence(text, start, pause):
            continue
        span = trim_span(text, start, pause.start() if pause["line"] else pause.end())
        if span:
            spans.append(span)
        start = pause.end()
    if span := trim_span(text, start, len(text)):
        spans.append(span)
    return spans


def _ends_sentence(text: str, start: int, pause: re.Match[str]) -> bool:
    if pause["line"]:
        return _ends_line(text, start, pause)
    following = text[pause.end() : pause.end() + 1]
    if pause["wide"]:
        return not (following.isdecimal() and pause["wide"] == "．")
    if following and not following.isspace():
        return False
    if pause["end"][0] not in ".…":
        return not _next_is_lower(text, pause.end())
    return _is_full_stop(text, start, pause)


def _is_full_stop(text: str, start: int, pause: re.Match[str]) -> bool:
    at = pause.start()
    head = text[max(start, at - 24) : at]
    found = _WORD_BEFORE.search(head)
    word = found[0] if found else ""
    lower = word.lower()
    next_word = _NEXT_WORD.match(text, pause.end(), pause.end() + 64)
    follows = next_word[1] if next_word else ""
    if lower in _TITLES:
        return False
    line_start = max(text.rfind("\n", max(start, at - 24), at), text.rfind("\r", max(start, at - 24), at)) + 1
    if _LIST_NUMBER.fullmatch(text, max(start, line_start), at):
        return False  # "1. First"
    is_acronym = "." in word and all(len(part) == 1 for part in word.split("."))
    if lower in _MAYBE_LAST or is_acronym or (len(word) == 1 and word.isupper()):
        return follows.lower() in _STARTERS and follows[0].isupper()
    if follows[:1].islower():
        # An unknown abbreviation, a trailing thought; casual prose without capitals has longer words too.
        return pause["end"][0] == "." and pause["end"][:2] != ".." and len(word) > 4
    return True


def _next_is_lower(text: str, position: int) -> bool:
    following = _NEXT_WORD.match(text, position, position + 64)
    return following is not None and following[1][0].islower()


def _ends_line(text: str, start: int, pause: re.Match[str]) -> bool:
    gap = pause["line"].replace("\r\n", "\n").replace("\r", "\n")
    if gap.count("\n") > 1 or pause.end() == len(text):
        return True
    if _BULLET.match(text, pause.end()):
        return True
    floor = max(start, pause.start() - 5 * _SHORT_LINE)
    line_start = max(text.rfind("\n", floor, pause.start()) + 1, text.rfind("\r", floor, pause.start()) + 1, floor)
    line = text[line_start : pause.start()].strip()
    if line.startswith("#"):
        return True  # a heading
    return len(line) <= _SHORT_LINE and not text[pause.end()].islower()


def trim_span(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the span without the white space around it, None when nothing is left."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    return (start, end) if start < end else None


def join_spans(text: str, spans: Iterable[tuple[int, int]]) -> tuple[str, list[int]]:
    r"""Return the spans of `text` (disjoint, in order) as one text, and where in it each begins.

    White space between two spans stays. Where more was left out, a line break or a space stands for it if it held one.

    Example:
        >>> join_spans("One. Two. Three.\nFour.", [(0, 4), (5, 9), (17, 22)])
        ('One. Two.\nFour.', [0, 5, 10])
    """
    pieces: list[str] = []
    starts: list[int] = []
    at, last = 0, None
    for start, end in spans:
        if last is not None:
            joint = _joint(text[last:start])
            pieces.append(joint)
            at += len(joint)
        starts.append(at)
        pieces.append(text[start:end])
        at, last = at + end - start, end
    return "".join(pieces), starts


def _joint(gap: str) -> str:
    if not gap.strip():
        return gap
    if "\n" in gap or "\r" in gap:
        return "\n"
    return " " if any(map(str.isspace, gap)) else ""
