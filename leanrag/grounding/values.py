"""Numbers, dates, times and identifiers: whether two are the same, and from which side one is bounded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leanrag.grounding.lexicon import CLASS_WORDS, CLASSES
from leanrag.grounding.reading import Day, Token

__all__ = [
    "LOWER_BOUNDS",
    "OPERATORS",
    "UPPER_BOUNDS",
    "answer_kind",
    "VALUE_KINDS",
    "bound_of",
    "dimension_of",
    "has_value",
    "is_among",
    "is_end_of_path",
    "kind_of",
    "same_time",
    "same_value",
]

VALUE_KINDS = frozenset({"quantity", "day", "time", "identifier"})


def has_value(wanted: Token, tokens: Sequence[Token]) -> bool:
    """Whether one of the tokens has the value that is wanted."""
    return any(same_value(wanted, token, tokens) for token in tokens)


def same_value(wanted: Token, token: Token, tokens: Sequence[Token]) -> bool:
    """Whether a token has the value that is wanted; `tokens` are those around it, where the year of a date may stand."""
    if wanted.kind == "day" and wanted.day is not None:
        if token.day is not None:
            return wanted.day.agrees_with(token.day) and _year_is_there(wanted.day, token.day, tokens)
        return wanted.day.month is None and token.quantity is not None and token.quantity.number == wanted.day.year
    if wanted.quantity is not None:
        if token.quantity is not None:
            return wanted.quantity.agrees_with(token.quantity)
        if token.day is not None:
            return not wanted.quantity.dimension and wanted.quantity.number == token.day.year
        if token.kind == "time":
            return not wanted.quantity.dimension and token.base in _hours(wanted.quantity.number)
        return not wanted.quantity.dimension and token.kind == "identifier" and token.base == wanted.base
    if wanted.kind == "time":
        return same_time(wanted, token) or (
            token.quantity is not None and not token.quantity.dimension and wanted.base in _hours(token.quantity.number)
        )
    if _is_flag(wanted) and any(map(_is_flag, tokens)):
        return _is_flag(token) and token.base == wanted.base
    return wanted.base in (token.base, token.word) or is_end_of_path(wanted, token)


def same_time(time: Token, other: Token) -> bool:
    """Whether two times agree, as far as both name the seconds."""
    bases = (time.base, other.base)
    is_part = any(mine.startswith(f"{theirs}:") for mine, theirs in (bases, bases[::-1]))
    return time.kind == other.kind == "time" and (bases[0] == bases[1] or is_part)


def _is_flag(token: Token) -> bool:
    """Whether a token is an option of a command."""
    return token.kind == "identifier" and token.text.startswith(("-", "+"))


def is_end_of_path(name: Token, token: Token) -> bool:
    """Whether `name` is the file that a path leads to."""
    return name.kind == token.kind == "identifier" and token.base.endswith(f"/{name.base}")


def _hours(number: float) -> tuple[str, ...]:
    return (f"time:{number:g}:00", f"time:{number + 12:g}:00")


def _year_is_there(wanted: Day, found: Day, tokens: Sequence[Token]) -> bool:
    if wanted.year is None or found.year is not None:
        return True
    years = {token.day.year for token in tokens if token.day} | {t.quantity.number for t in tokens if t.quantity}
    return wanted.year in years


LOWER_BOUNDS = frozenset({"atleast", "morethan", "ormore"})
UPPER_BOUNDS = frozenset({"atmost", "lessthan", "orless"})
OPERATORS = frozenset("+ - / * ** = == != < > % && || atleast atmost".split())
"""What stands between two operands in code; >= and <= are read as bounds."""


def bound_of(tokens: Sequence[Token], i: int) -> int:
    """1 if the number is a lower bound, -1 if an upper one, 0 if it is neither."""
    words = [token.word for token in [*tokens[max(0, i - 2) : i], *tokens[i + 1 : i + 4]]]
    before, after = words[: min(2, i)], words[min(2, i) :]
    if LOWER_BOUNDS & set(before) or "ormore" in after:
        return 1
    return -1 if UPPER_BOUNDS & set(before) or "orless" in after else 0


def is_among(token: Token, tokens: Sequence[Token]) -> bool:
    """Whether a word, or the value of a number, date, time or identifier, is one of the tokens."""
    if token.kind in VALUE_KINDS:
        return has_value(token, tokens)
    return any(other.base == token.base for other in tokens)


def answer_kind(token: Token) -> str:
    """What an answer is: a value of some kind, a weekday, a colour or the like, or a name; "" for any other word."""
    if token.kind in VALUE_KINDS:
        return kind_of(token)[0]
    if token.word in CLASS_WORDS:
        return next(f"class {i}" for i, words in enumerate(_CLASS_WORDS) if token.word in words)
    return "name" if token.is_name else ""


_CLASS_WORDS = tuple(frozenset(word for member in members for word in member) for members in CLASSES)


def kind_of(token: Token) -> tuple[str, str]:
    """What a value is a value of; a number like that of a year is a date, and a version is a number."""
    if token.kind == "identifier" and _VERSION.fullmatch(token.base):
        return ("quantity", "")
    is_year = token.quantity is not None and not token.quantity.dimension and 1000 <= token.quantity.number < 2100
    return ("day", "") if is_year else (token.kind, dimension_of(token))


_VERSION = re.compile(r"\d+(?:\.\d+){2}")


def dimension_of(token: Token) -> str:
    """The dimension of a quantity's unit; "" of anything else."""
    return token.quantity.dimension if token.quantity else ""
