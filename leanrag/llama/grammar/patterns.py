r"""Reads the regular expressions of JSON Schema: a subset of ECMA-262.

JavaScript, Python and pydantic differ in details. Only texts that match in all of them are allowed: `\d` and `\w` are ASCII, and so
are `\D` and `\W`; `.` is not a line break.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from leanrag.llama.grammar.automata import (
    ALPHABET,
    MAX_STATES,
    Expressions,
    Ranges,
    State,
    TooManyStatesError,
    complement,
    measure,
    union,
)

__all__ = ["PatternError", "read_patterns"]

MAX_PATTERN_CHARS = 500
MAX_GROUPS = 20  # nested
MAX_COUNT = 100_000


class PatternError(ValueError):
    """A regular expression cannot be turned into a grammar; the message names the construct."""


class _Set(NamedTuple):
    """A character of a set. Dialects differ, so there are two sets.

    Attributes:
        sure: Characters that match in every dialect.
        possible: Characters that match in some dialect.
    """

    sure: Ranges
    possible: Ranges


class _Sequence(NamedTuple):
    items: list[_Item]


class _Choice(NamedTuple):
    options: list[_Item]


class _Repeat(NamedTuple):
    item: _Item
    least: int
    most: int | None


class _Anchor(NamedTuple):
    is_start: bool


class _Ahead(NamedTuple):
    item: _Item
    is_positive: bool


_Item = _Set | _Sequence | _Choice | _Repeat | _Anchor | _Ahead


def read_patterns(patterns: Sequence[str], least: int, most: int | None) -> list[State]:
    """Return the states of a machine for the texts in which each pattern is found, and whose length is within the bounds.

    As JSON Schema has it, a pattern may be found anywhere in the text, unless it has the anchors `^` and `$`.

    Raises:
        PatternError: A pattern is wrong, has an unsupported construct or needs too many states, or no text fits.
    """
    expressions = Expressions()
    any_character = expressions.characters(ALPHABET)
    before = expressions.repeat(any_character, 1, None)
    parts = []
    for pattern in patterns:
        item = _Parser(pattern).parse()
        builder = _Builder(expressions)
        first = builder.follow(item, expressions.everything, at_start=True, is_positive=True)
        later = builder.follow(item, expressions.everything, at_start=False, is_positive=True)
        parts.append(expressions.either(first, expressions.then(before, later)))
    try:
        states = expressions.states(expressions.both(*parts))
        if states:
            shortest, longest = measure(states)
            if least > shortest or (most is not None and (longest is None or longest > most)):
                states = _limit(expressions, parts, least, most)
    except TooManyStatesError:
        raise PatternError(
            f"its grammar would need more than {MAX_STATES:,} states. Use smaller repetitions or lengths, or the anchors ^ and $"
        ) from None
    if not states:
        raise PatternError("no text without control characters fits")
    return states


def _limit(expressions: Expressions, parts: list[int], least: int, most: int | None) -> list[State]:
    """Return the states for texts whose length is within the bounds; only for shorter texts if there are too many states."""
    while True:
        length = expressions.repeat(expressions.characters(ALPHABET), least, most)
        try:
            return expressions.states(expressions.both(*parts, length))
        except TooManyStatesError:
            if most is None or most // 4 < max(least, 1):
                raise
            most //= 4


def _single(point: int) -> _Set:
    return _Set(((point, point),), ((point, point),))


_BEYOND_ASCII = (0x80, 0x10FFFF)
_DIGIT = ((0x30, 0x39),)
_WORD = (*_DIGIT, (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE = ((0x09, 0x0D), (0x20, 0x20))
_OTHER_SPACES = [0x1C, 0x1D, 0x1E, 0x1F, 0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000, 0xFEFF]
_CLASSES = {
    "d": _Set(_DIGIT, (*_DIGIT, _BEYOND_ASCII)),
    "w": _Set(_WORD, (*_WORD, _BEYOND_ASCII)),
    "s": _Set(_SPACE, union([*_SPACE, (0x2000, 0x200A), *((point, point) for point in _OTHER_SPACES)])),
}
_DOT = _Set(complement(((0x0A, 0x0A), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029))), complement(((0x0A, 0x0A),)))
_CONTROLS = {"t": 0x09, "n": 0x0A, "v": 0x0B, "f": 0x0C, "r": 0x0D}
_COUNT = re.compile(r"\{([0-9]{1,9})(?:(,)([0-9]{0,9}))?\}")
_HEX = re.compile(r"x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|u\{([0-9A-Fa-f]{1,6})\}")
_GROUP = re.compile(r"\((?:\?(?::|P?<[A-Za-z_]\w*>|(?P<ahead>[=!])))?(?!\?)")
_GROUP_NAMES = {"(?<=": "a lookbehind", "(?<!": "a lookbehind", "(?>": "an atomic group", "(?P": "a backreference"}
_ESCAPE_NAMES = {
    **dict.fromkeys("bB", "a word boundary"),
    **dict.fromkeys("123456789k", "a backreference"),
    **dict.fromkeys("pP", "a Unicode property"),
    **dict.fromkeys("AzZG", "an anchor other than ^ and $"),
}


def _invert(found: _Set) -> _Set:
    return _Set(complement(found.possible), complement(found.sure))


class _Parser:
    def __init__(self, pattern: str) -> None:
        self._text, self._position = pattern, 0
        if len(pattern) > MAX_PATTERN_CHARS:
            raise PatternError(f"it has {len(pattern):,} characters, and at most {MAX_PATTERN_CHARS} are allowed")

    def parse(self) -> _Item:
        item = self._choice(0)
        if self._position < len(self._text):
            self._refuse("a `)` without its `(`")
        return item

    def _refuse(self, construct: str, start: int | None = None) -> NoReturn:
        start = self._position if start is None else start
        raise PatternError(f"{construct} is not supported (character {start + 1}: {self._text[start : start + 10]!r})")

    def _peek(self, size: int = 1) -> str:
        return self._text[self._position : self._position + size]

    def _choice(self, depth: int) -> _Item:
        options = [self._sequence(depth)]
        while self._peek() == "|":
            self._position += 1
            options.append(self._sequence(depth))
        return options[0] if len(options) == 1 else _Choice(options)

    def _sequence(self, depth: int) -> _Item:
        items: list[_Item] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._repeated(self._item(depth)))
        return items[0] if len(items) == 1 else _Sequence(items)

    def _item(self, depth: int) -> _Item:
        character = self._peek()
        if character == "(":
            return self._group(depth)
        if character == "[":
            return self._class()
        if character == "\\":
            return self._escape()
        if character in "*+?" or _COUNT.match(self._text, self._position):
            self._refuse("a repetition of nothing, or of a repetition")
        self._position += 1
        if character in "^$":
            return _Anchor(character == "^")
        return _DOT if character == "." else _single(ord(character))

    def _group(self, depth: int) -> _Item:
        start = self._position
        opening = _GROUP.match(self._text, start)
        if opening is None:
            names = (name for prefix, name in _GROUP_NAMES.items() if self._text.startswith(prefix, start))
            self._refuse(next(names, "a group with flags"))
        if depth == MAX_GROUPS:
            self._refuse(f"more than {MAX_GROUPS} groups within each other")
        self._position = opening.end()
        item = self._choice(depth + 1)
        if self._peek() != ")":
            self._refuse("a `(` without its `)`", start)
        self._position += 1
        return _Ahead(item, opening["ahead"] == "=") if opening["ahead"] else item

    def _repeated(self, item: _Item) -> _Item:
        start = self._position
        count = _COUNT.match(self._text, start)
        if count:
            least = int(count[1])
            most = least if not count[2] else int(count[3]) if count[3] else None
            self._position = count.end()
        elif self._peek() and self._peek() in "*+?":
            least, most = {"*": (0, None), "+": (1, None), "?": (0, 1)}[self._peek()]
            self._position += 1
        else:
            return item
        if isinstance(item, _Anchor | _Ahead):
            self._refuse("a repetition of an anchor or a lookahead", start)
        if max(least, most or 0) > MAX_COUNT or (most is not None and most < least):
            self._refuse(f"a repetition outside 0 to {MAX_COUNT:,}, or with falling bounds,", start)
        if self._peek() == "?":  # lazy: the same texts
            self._position += 1
        elif self._peek() == "+":
            self._refuse("a possessive repetition", start)
        return _Repeat(item, least, most)

    def _escape(self) -> _Set:
        """Read a backslash and what belongs to it."""
        start = self._position
        letter = self._text[start + 1 : start + 2]
        self._position += 2
        if letter.lower() in _CLASSES and letter:
            found = _CLASSES[letter.lower()]
            return found if letter.islower() else _invert(found)
        if letter in _CONTROLS:
            return _single(_CONTROLS[letter])
        code = _HEX.match(self._text, start + 1)
        if code:
            self._position = code.end()
            point = int(code[code.lastindex or 0], 16)
            if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
                self._refuse("a surrogate or a number that is not a character", start)
            return _single(point)
        if not letter or letter.isalnum() or letter == "_":
            self._refuse(_ESCAPE_NAMES.get(letter, "this escape"), start)
        return _single(ord(letter))

    def _class(self) -> _Set:
        start = self._position
        self._position += 1
        is_negated = self._peek() == "^"
        self._position += is_negated
        sure: list[tuple[int, int]] = []
        possible: list[tuple[int, int]] = []
        while self._peek() != "]":
            low = self._class_item(start)
            if self._peek() == "-" and self._peek(2) != "-]":
                self._position += 1
                high = self._class_item(start)
                if len(low.possible) > 1 or len(high.possible) > 1 or low.sure[0][0] > high.sure[0][0]:
                    self._refuse("a range that does not ascend", start)
                between = (low.sure[0][0], high.sure[0][0])
                low = _Set((between,), (between,))
            sure += low.sure
            possible += low.possible
        self._position += 1
        found = _Set(union(sure), union(possible))
        if not sure:
            self._refuse("an empty class", start)
        return _invert(found) if is_negated else found

    def _class_item(self, start: int) -> _Set:
        if not self._peek():
            self._refuse("a `[` without its `]`", start)
        if self._peek(2) in ("[:", "&&", "--", "~~"):
            self._refuse("a named class or an operation on classes")
        if self._peek(2) == r"\b":
            self._position += 2
            return _single(0x08)
        if self._peek() == "\\":
            return self._escape()
        self._position += 1
        return _single(ord(self._text[self._position - 1]))


class _Builder:
    """Turns a parsed pattern into an expression."""

    def __init__(self, expressions: Expressions) -> None:
        self._expressions = expressions

    def follow(self, item: _Item, rest: int, at_start: bool | None, is_positive: bool) -> int:
        """Return the expression of `item` followed by `rest`, which is everything up to the end of the text.

        Args:
            item: Part of a pattern.
            rest: What follows; anchors and lookaheads restrict it.
            at_start: Whether the item is at the start of the text; None if both can be.
            is_positive: Whether to use the `sure` sets; within a negative lookahead these are the `possible` ones.
        """
        build = self._expressions
        if isinstance(item, _Anchor):
            if not item.is_start:
                return build.both(rest, build.empty)
            if at_start is None:
                raise PatternError("`^` behind something that may be empty is not supported")
            return rest if at_start else build.none
        if isinstance(item, _Ahead):
            found = self.follow(item.item, build.everything, at_start, is_positive == item.is_positive)
            return build.both(rest, found if item.is_positive else build.negate(found))
        if not _looks_around(item):
            return build.then(self._plain(item, is_positive), rest)
        if isinstance(item, _Choice):
            return build.either(*(self.follow(option, rest, at_start, is_positive) for option in item.options))
        if isinstance(item, _Repeat):
            if (item.least, item.most) != (0, 1):
                raise PatternError("an anchor or a lookahead within a repetition is not supported")
            return build.either(rest, self.follow(item.item, rest, at_start, is_positive))
        assert isinstance(item, _Sequence)
        starts: list[bool | None] = []
        for part in item.items:
            starts.append(at_start)
            if _most_characters(part) != 0 and at_start is not False:
                at_start = None if _may_be_empty(part) else False
        for part, start in zip(reversed(item.items), reversed(starts), strict=True):
            rest = self.follow(part, rest, start, is_positive)
        return rest

    def _plain(self, item: _Item, is_positive: bool) -> int:
        """Return the expression of an item without anchors and lookaheads."""
        build = self._expressions
        if isinstance(item, _Set):
            return build.characters(item.sure if is_positive else item.possible)
        if isinstance(item, _Choice):
            return build.either(*(self._plain(option, is_positive) for option in item.options))
        if isinstance(item, _Repeat):
            return build.repeat(self._plain(item.item, is_positive), item.least, item.most)
        assert isinstance(item, _Sequence)
        found = build.empty
        for part in reversed(item.items):
            found = build.then(self._plain(part, is_positive), found)
        return found


def _parts(item: _Item) -> list[_Item]:
    if isinstance(item, _Sequence):
        return item.items
    if isinstance(item, _Choice):
        return item.options
    return [item.item] if isinstance(item, _Repeat) else []


def _looks_around(item: _Item) -> bool:
    return isinstance(item, _Anchor | _Ahead) or any(map(_looks_around, _parts(item)))


def _may_be_empty(item: _Item) -> bool:
    if isinstance(item, _Repeat):
        return item.least == 0 or _may_be_empty(item.item)
    if isinstance(item, _Choice):
        return any(map(_may_be_empty, item.options))
    return not isinstance(item, _Set) and all(map(_may_be_empty, _parts(item)))


def _most_characters(item: _Item) -> int:
    """Return 0 if the item is always empty, else another number."""
    return int(isinstance(item, _Set)) + sum(map(_most_characters, _parts(item)))
