"""Text of scripts without spaces: whether two such texts contradict each other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from leanrag.grounding.lexicon import SCRIPT_BOUNDS, SCRIPT_HARMLESS, SCRIPT_NEGATIONS, SCRIPT_OPPOSITES
from leanrag.grounding.measures import SCRIPT_NUMERALS
from leanrag.grounding.reading import Token
from leanrag.grounding.values import LOWER_BOUNDS, UPPER_BOUNDS

__all__ = ["differs_in_script"]


def _script_text(tokens: Sequence[Token]) -> str:
    """The tokens as one text; numbers in Han numerals are in its words already."""
    pieces = ["，" if token.kind == "pause" else token.text for token in tokens if not _is_han_number(token)]
    return "".join(pieces) if any(token.kind == "script" for token in tokens) else ""


def _is_han_number(token: Token) -> bool:
    return token.kind == "quantity" and not any(character.isascii() for character in token.text)


_COUNTED = re.compile(rf"([{''.join(SCRIPT_NUMERALS)}]+|\d+)(\D)")


def differs_in_script(claim: Sequence[Token], passage: Sequence[Token], *, is_fragment: bool) -> bool:
    """In a script without spaces: another polarity, an opposite, or another bound."""
    mine = _script_text(claim)
    there = _script_text(passage)
    if not mine or not there:
        return False
    if is_fragment and len(mine) <= 4 and not _script_negations(mine):
        return False
    part = max(re.split("，", there), key=lambda piece: len(_pairs(piece) & _pairs(mine)), default=there)
    if bool(_script_negations(mine)) != bool(_script_negations(part)):
        return True
    counts = _COUNTED.findall(part)
    for number, counted in _COUNTED.findall(mine):
        if (number, counted) not in counts and any(other == counted for _, other in counts):
            return True
    for left, right in SCRIPT_OPPOSITES:
        for a, b in ((left, right), (right, left)):
            if a in mine and b not in mine and b in part and a not in part and mine.replace(a, b) in there:
                return True
            if len(a) > 1 and a in mine and b not in mine and b in there and a not in there:
                return True
    bounds = {kind for word, kind in SCRIPT_BOUNDS if word in mine}
    found = {kind for word, kind in SCRIPT_BOUNDS if word in there}
    return bool((bounds & LOWER_BOUNDS and found & UPPER_BOUNDS) or (bounds & UPPER_BOUNDS and found & LOWER_BOUNDS))


def _script_negations(text: str) -> int:
    for harmless in SCRIPT_HARMLESS:
        text = text.replace(harmless, "")
    return sum(text.count(negation) for negation in SCRIPT_NEGATIONS)


def _pairs(text: str) -> set[str]:
    return {text[i : i + 2] for i in range(len(text) - 1)}
