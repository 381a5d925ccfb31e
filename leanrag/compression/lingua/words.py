"""LLMLingua-2 after the classifier: words from tokens, the documents that stay, and the words that stay.

Formulas are those of LLMLingua-2 (Pan et al., Findings of ACL 2024) as release 0.2.2 of the package computes them: the probability
of a word is the mean of its tokens, and a percentile of these probabilities, weighted by the tokens of the reader, is the
threshold of each chunk.
"""

from __future__ import annotations

import re
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from leanrag.compression.lingua.driver import Encoded
from leanrag.protocols import TokenCounter
from leanrag.spans import Span, trim_span

__all__ = [
    "Family",
    "TokenToWord",
    "Word",
    "chunk_tokens",
    "document_value",
    "filter_documents",
    "find_strings",
    "keep_words",
    "read_words",
    "word_values",
]

Family: TypeAlias = Literal["bert", "xlm-roberta"]
"""How a tokenizer marks words: WordPiece marks what continues a word, SentencePiece what begins it."""

TokenToWord: TypeAlias = Literal["mean", "first"]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text.

    Attributes:
        start: First character in the text.
        end: One past the last.
        first: Index of its first token in `Encoded`.
        stop: One past its last token; equal to `first` for white space that the tokenizer passes over.
        is_forced: Whether it is one of the words that always stay.
    """

    start: int
    end: int
    first: int
    stop: int
    is_forced: bool = False


def _pure(token: str, family: Family) -> str:
    return token.removeprefix("##") if family == "bert" else token.lstrip("▁")


def _begins_word(token: str, family: Family, forced: Collection[str]) -> bool:
    if _pure(token, family) in forced:
        return True
    return not token.startswith("##") if family == "bert" else token.startswith("▁") or token in string.punctuation


def chunk_tokens(
    encoded: Encoded, text: int, size: int, family: Family, ends: Collection[str] = (), breaks: Collection[int] = ()
) -> Iterator[Span]:
    """Yield the token ranges of a text that the classifier reads at a time, cut behind one of `ends` if possible.

    Args:
        encoded: The texts.
        text: Index of the text.
        size: Most tokens of a chunk.
        family: Of the tokenizer.
        ends: Tokens that may end a chunk.
        breaks: Indices of further tokens that may end a chunk.
    """
    span = encoded.tokens_of(text)
    start = span.start
    while span.stop - start > size:
        stop = start + size
        while stop > start and not (_pure(encoded.tokens[stop - 1], family) in ends or stop - 1 in breaks):
            stop -= 1
        stop = stop if stop > start else start + size
        yield start, stop
        start = stop
    if start < span.stop:
        yield start, span.stop


def read_words(
    encoded: Encoded, text: int, chunk: Span, family: Family, forced: Sequence[str] = (), strings: Sequence[Span] = ()
) -> list[Word]:
    """Return the words of a chunk in order.

    Args:
        encoded: The texts.
        text: Index of the text of the chunk.
        chunk: First token, and one past the last.
        family: Of the tokenizer.
        forced: Tokens that are words and always stay.
        strings: Spans of the text (disjoint, in order) that are words and always stay, whatever the tokenizer makes of them.
    """
    first, stop = chunk
    whole = encoded.texts[text]
    low = 0 if first == encoded.bounds[text] else int(encoded.spans[first - 1, 1])
    high = len(whole) if stop == encoded.bounds[text + 1] else int(encoded.spans[stop - 1, 1])
    inside = [span for span in strings if low <= span[0] < high]
    words: list[Word] = []
    at = 0
    for token in range(first, stop):
        start, end = encoded.spans[token].tolist()
        while at < len(inside) and inside[at][1] <= start:
            words = _with_string(words, inside[at], token)
            at += 1
        in_string = at < len(inside) and inside[at][0] < end
        if in_string and words and words[-1].is_forced and words[-1].stop == token and words[-1].start == inside[at][0]:
            words[-1] = Word(words[-1].start, max(words[-1].end, end), words[-1].first, token + 1, is_forced=True)
        elif in_string:
            words.append(Word(inside[at][0], max(end, inside[at][1]), token, token + 1, is_forced=True))
        elif not words or words[-1].is_forced or _begins_word(encoded.tokens[token], family, forced):
            is_forced = _pure(encoded.tokens[token], family) in forced
            words.append(Word(start, end, token, token + 1, is_forced))
        else:
            words[-1] = Word(words[-1].start, end, words[-1].first, token + 1)
    for span in inside[at:]:
        words = _with_string(words, span, stop)
    return [word if word.is_forced else _trimmed(word, whole) for word in words]


def _with_string(words: list[Word], span: Span, token: int) -> list[Word]:
    """Add a forced string without tokens, unless its tokens are there already."""
    if words and words[-1].is_forced and words[-1].start == span[0]:
        return words
    return [*words, Word(*span, token, token, is_forced=True)]


def _trimmed(word: Word, text: str) -> Word:
    start, end = trim_span(text, word.start, word.end) or (word.start, word.end)
    return Word(start, end, word.first, word.stop)


def word_values(
    words: Sequence[Word], probabilities: NDArray[np.float64], sure: NDArray[np.bool_], how: TokenToWord = "mean"
) -> NDArray[np.float64]:
    """Return the probability of each word `(words,)`; forced words and `sure` tokens count as 1."""
    certain = np.where(sure, 1.0, probabilities)
    return np.array(
        [
            1.0 if word.is_forced else certain[word.first] if how == "first" else certain[word.first : word.stop].mean()
            for word in words
        ]
    )


def document_value(words: Sequence[Word], probabilities: NDArray[np.float64]) -> float:
    """Return the mean probability of the first tokens of the words; 0 without words."""
    values = [probabilities[word.first] for word in words if word.stop > word.first]
    return float(np.mean(values)) if values else 0.0


def filter_documents(values: Sequence[float], rate: float, forced: Collection[int]) -> list[int]:
    """Return the indices of the best documents, about the share `rate` of them, and of those that are forced."""
    threshold = np.percentile(values, int(100 * (1 - rate)))
    return [i for i, value in enumerate(values) if value >= threshold or i in forced]


def keep_words(
    texts: Sequence[str],
    values: NDArray[np.float64],
    rate: float,
    count_tokens: TokenCounter,
    forced: Sequence[bool] = (),
    *,
    drop_consecutive: bool = False,
) -> list[bool]:
    """Return which words of a chunk stay, about the share `rate` of their tokens.

    Args:
        texts: The words.
        values: Their probabilities, `(words,)`.
        rate: Share of the tokens, in [0, 1].
        count_tokens: Tokens of a word, as the reader counts them.
        forced: Which words always stay.
        drop_consecutive: Whether a forced word is dropped if it repeats the forced word before it and no word between them stays.
    """
    if rate >= 1 or not texts:
        return [True] * len(texts)
    forced = forced or [False] * len(texts)
    reduction = 1 - rate
    values = values.copy()
    if drop_consecutive:
        threshold = np.percentile(values, int(100 * reduction))
        is_between, last = False, None
        for i, (text, value) in enumerate(zip(texts, values.tolist(), strict=True)):
            if not forced[i]:
                is_between |= value > threshold
                continue
            if not is_between and text == last:
                values[i] = 0.0
            is_between, last = False, text
    weights = [count_tokens(text) if text else 0 for text in texts]
    weighted = np.repeat(values, weights)
    threshold = np.percentile(weighted if len(weighted) else values, min(100, int(100 * reduction + 1)))
    kept: list[bool] = []
    last = None
    for text, value, is_forced in zip(texts, values.tolist(), forced, strict=True):
        stays = bool(value > threshold or (threshold == value == 1.0))
        if stays and drop_consecutive and is_forced and text == last:
            stays = False
        kept.append(stays)
        last = text if stays else last
    return kept


def find_strings(text: str, strings: Sequence[str]) -> list[Span]:
    """Return where `strings` stand in a text, disjoint and in order; longer strings first."""
    if not strings:
        return []
    pattern = "|".join(re.escape(each) for each in sorted(strings, key=len, reverse=True))
    return [match.span() for match in re.finditer(pattern, text)]
