"""The terms by which a question and a unit are compared: stems, identifiers, and pieces of words where spaces say little."""

from __future__ import annotations

import re
import unicodedata

from leanrag.text import STOP_WORDS, stem

__all__ = ["is_latin", "terms_of"]

# A word, with the vowel signs of Indic scripts, and with the marks inside numbers and contractions.
_WORD = re.compile(r"[\w\u0900-\u0963\u0966-\u0dff]+(?:[.,'’][\w\u0900-\u0963\u0966-\u0dff]+)*")
_IDENTIFIER = re.compile(r"(?<![0-9a-z])(?:[0-9a-z]+(?:[-_./:#+][0-9a-z]+)+|(?:[a-z]+\d|\d+[a-z])[0-9a-z]*)")
_DIGIT = re.compile("[0-9]")
_RUN = re.compile(r"\d+|[a-z]+")
_UNSPACED = re.compile(
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{2,}"  # kana, Han
    "|[\u0e00-\u0eff\u0f40-\u0fbc\u1000-\u109f\u1780-\u17dd]{2,}"  # Thai, Lao, Tibetan, Burmese, Khmer
)
_HANGUL = re.compile("[\uac00-\ud7a3]{2,}")
_OF_PAIRS = re.compile("[\u0e00-\u1fff\u3040-\uffff]")  # holds the scripts of which pairs are made
_LATIN_END = "\u0250"


def terms_of(text: str) -> frozenset[str]:
    """Return the terms of a text.

    These are the stems of its content words; identifiers whole ("P-017" as "p017", "1.2.3" as "1.2.3"); of scripts without
    spaces, and of Korean words, which end in particles, pairs of characters.

    Example:
        >>> sorted(terms_of("Where is part P-017?"))
        ['017', '=p017', 'p', 'part']
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    terms: set[str] = set()
    if _DIGIT.search(text):
        terms.update(f"={_joined(found)}" for found in _IDENTIFIER.findall(text) if _DIGIT.search(found))
    if not text.isascii() and _OF_PAIRS.search(text):
        for pattern in (_UNSPACED, _HANGUL):
            for run in pattern.findall(text):
                terms.update(run[i : i + 2] for i in range(len(run) - 1))
        text = _UNSPACED.sub(" ", text)
    terms.update(map(stem, set(_WORD.findall(text)) - STOP_WORDS))
    return frozenset(terms)


def _joined(identifier: str) -> str:
    """The runs of letters and of digits of an identifier, with a full stop between two runs of digits."""
    whole = ""
    for run in _RUN.findall(identifier):
        whole += "." + run if whole[-1:].isdigit() and run.isdigit() else run
    return whole


def is_latin(text: str) -> bool:
    """Return whether most letters of a text are of the Latin script."""
    letters = [character for character in text if character.isalpha()]
    return sum(character < _LATIN_END for character in letters) >= len(letters) / 2
