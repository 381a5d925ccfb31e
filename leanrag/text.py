"""Words of a text, as the lexical parts of packing and grounding see them."""

from __future__ import annotations

import re

from leanrag.chunking import split_sentences  # TEMP

__all__ = ["STOP_WORDS", "content_words", "stem", "words"]

_WORD = re.compile(r"\w+(?:[.,'’]\w+)*")
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
