"""What an embedder can read of a question: how much at once, and whether at all."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanrag.protocols import Embedder, Vectors

__all__ = ["is_read", "is_spelled", "split_question"]

_BREAKS = tuple(map(re.compile, (r"\n\s*\n", r"\n", r"(?<=[.!?])\s", r"\s", "")))  # from the best to any
_SAME = 0.999  # cosine above which two texts have the same vector
_LATIN_END = 0x250  # embedders read the letters below
_WITHOUT_WORDS = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\0-\uffff]"
)
_READABLE = ("Lo", "Ll", "Lu", "Lm", "Mn", "Mc", "So")  # letters, marks of vowels and tones, emoji


def split_question(question: str, embedder: Embedder) -> list[str]:
    """Return the question in parts that the embedder reads whole, in order; one part if all of it fits.

    It is cut between paragraphs, lines, sentences or words, near the middle.
    """
    if len(question) < 2 or embedder.count_tokens(question) <= embedder.max_tokens:
        return [question]
    middle, quarter = len(question) / 2, len(question) // 4
    first, last = len(question) - len(question.lstrip()), len(question.rstrip())  # neither part may be blank
    for pattern in _BREAKS:
        matches = pattern.finditer(question, quarter, len(question) - quarter + 1)
        cuts = [match.end() for match in matches if first < match.end() < last]
        if cuts:
            cut = min(cuts, key=lambda cut: abs(cut - middle))
            return [*split_question(question[:cut], embedder), *split_question(question[cut:], embedder)]
    return [question]


def is_spelled(question: str, embedder: Embedder) -> bool:
    """Return whether the embedder reads the question letter by letter, because it does not know the words of this language.

    Such vectors say which letters two texts share, and little of what they mean. Only a question whose letters are mostly of
    an alphabet beyond the Latin script, or of Hangul, is counted: a Chinese character is a token to those who know it, too.
    """
    if question.isascii():
        return False
    letters = [c for c in unicodedata.normalize("NFC", question) if unicodedata.category(c) in ("Ll", "Lu", "Lo")]
    spelled = [c for c in letters if ord(c) >= _LATIN_END and not _WITHOUT_WORDS.match(c)]
    if not spelled or 2 * len(spelled) < len(letters):
        return False
    tokens = embedder.count_tokens(question) - embedder.count_tokens("")
    usual = sum(1.0 if "\uac00" <= c <= "\ud7a3" else 0.5 for c in spelled)  # tokens, at most, where words are known
    return tokens >= usual


def is_read(question: str, vector: Vectors, embedder: Embedder) -> bool:
    """Return whether the embedder tells the question from another text of the same shape in the same script.

    An embedder whose vocabulary lacks a script sees unknown tokens in both texts. Only a question that is mostly of letters
    and pictures beyond the Latin script is put to this test, which costs one more text to embed.

    Args:
        question: Plain text that the embedder reads whole.
        vector: Its vector, `(dim,)`.
        embedder: The embedder of this vector.
    """
    if question.isascii():
        return True
    foreign = {c for c in question if ord(c) >= _LATIN_END and unicodedata.category(c) in _READABLE}
    if 2 * sum(c in foreign for c in question) < sum(map(str.isalnum, question)) or not foreign:
        return True
    other = "".join(chr(ord(c) ^ 1) if c in foreign else c for c in question)
    if embedder.count_tokens(other) > embedder.max_tokens:
        return True  # it has tokens for these letters
    return bool(embedder.embed_queries([other])[0] @ vector < _SAME)
