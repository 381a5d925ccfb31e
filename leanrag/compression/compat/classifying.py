"""LLMLingua-2 with the parameters of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from leanrag.compression.compat.protecting import protect_tokens
from leanrag.compression.compat.tags import Segment
from leanrag.compression.lingua.classifier import TokenClassifier
from leanrag.compression.lingua.driver import Encoded, encode
from leanrag.compression.lingua.words import (
    TokenToWord,
    Word,
    chunk_tokens,
    document_value,
    filter_documents,
    find_strings,
    keep_words,
    read_words,
    word_values,
)
from leanrag.evidence.protection import Protection
from leanrag.protocols import TokenCounter
from leanrag.spans import Span, merge_spans

__all__ = ["ClassifierOptions", "LabelledDocument", "classify"]


@dataclass(frozen=True, slots=True)
class ClassifierOptions:
    """The parameters of `compress_prompt_llmlingua2`, with the names of the package."""

    rate: float = 0.5
    target_token: float = -1
    use_context_level_filter: bool = False
    use_token_level_filter: bool = True
    target_context: int = -1
    context_level_rate: float = 1.0
    context_level_target_token: float = -1
    force_context_ids: Sequence[int] = ()
    token_to_word: TokenToWord = "mean"  # noqa: S105 - no password
    force_tokens: Sequence[str] = ()
    force_reserve_digit: bool = False
    drop_consecutive: bool = False
    chunk_end_tokens: Sequence[str] = field(default=(".", "\n"))


@dataclass(frozen=True, slots=True)
class LabelledDocument:
    """The words of a document, which of them stay, and the spans of the document that stay."""

    words: tuple[str, ...]
    labels: tuple[bool, ...]
    spans: tuple[Span, ...]
    is_used: bool


def classify(
    classifier: TokenClassifier,
    documents: Sequence[str],
    segments: Sequence[Sequence[Segment]] | None,
    options: ClassifierOptions,
    protection: Protection | None,
    count_tokens: TokenCounter,
) -> list[LabelledDocument]:
    """Return what stays of each document."""
    encoded = encode(classifier.tokenizer, documents)
    family = classifier.family
    single = [t for t in options.force_tokens if t.strip() and len(classifier.tokenizer.tokenize(t)) == 1]
    strings = [t for t in options.force_tokens if t not in single]
    chunks = [_chunks(encoded, number, classifier, options) for number in range(len(documents))]
    probabilities = classifier.probabilities(encoded, [chunk for own in chunks for chunk in own])
    words = [
        [read_words(encoded, number, chunk, family, single, find_strings(text, strings)) for chunk in own]
        for number, (text, own) in enumerate(zip(encoded.texts, chunks, strict=True))
    ]
    counts = [count_tokens(text) for text in documents]
    used = _used(options, words, probabilities, counts)
    remaining = sum(counts[number] for number in used)
    rate = options.rate
    if options.target_token > 0 or (options.target_token == 0 and len(used) < len(documents)):
        rate = min(options.target_token / max(1, remaining), 1.0)
    rate = rate if options.use_token_level_filter else 1.0
    found = []
    for number, text in enumerate(documents):
        if number not in used:
            spellings = [text[word.start : word.end] for own in words[number] for word in own]
            found.append(LabelledDocument(tuple(spellings), (False,) * len(spellings), (), is_used=False))
            continue
        own_segments = None if segments is None else segments[number]
        labels = [
            label
            for own in words[number]
            for label in _labels(text, own, probabilities, own_segments, rate, options, count_tokens)
        ]
        own = [word for chunk in words[number] for word in chunk]
        if rate >= 1 and own_segments is None:
            spans: list[Span] = [(0, len(text))]
        else:
            if protection is not None:
                labels = _protected(text, own, labels, probabilities, own_segments, protection)
            spans = _spans(own, labels)
        found.append(
            LabelledDocument(tuple(text[w.start : w.end] for w in own), tuple(labels), tuple(spans), is_used=True)
        )
    return found


def _chunks(encoded: Encoded, number: int, classifier: TokenClassifier, options: ClassifierOptions) -> list[Span]:
    """Return the token ranges that the classifier reads at a time."""
    span = encoded.tokens_of(number)
    breaks = set()
    # White space is no token; it ends a chunk only if it is kept, as in the package.
    if ends := [end for end in options.chunk_end_tokens if not end.strip() and end in options.force_tokens]:
        for token, (before, after) in enumerate(pairwise(encoded.spans[span].tolist()), span.start):
            gap = encoded.texts[number][before[1] : after[0]]
            if any(end in gap for end in ends):
                breaks.add(token)
    ends_of_chunks = set(options.chunk_end_tokens)
    return list(chunk_tokens(encoded, number, classifier.chunk_tokens, classifier.family, ends_of_chunks, breaks))


def _used(
    options: ClassifierOptions,
    words: Sequence[Sequence[Sequence[Word]]],
    probabilities: NDArray[np.float64],
    counts: Sequence[int],
) -> list[int]:
    """Return the documents that the document filter leaves."""
    if not options.use_context_level_filter or len(words) < 2:
        return list(range(len(words)))
    rate, target = options.context_level_rate, options.context_level_target_token
    if options.target_context <= 0 and rate >= 1 and target <= 0:
        if options.target_token >= 0:
            target = options.target_token * (2 if options.use_token_level_filter else 1)
        elif options.rate < 1:
            rate = (options.rate + 1) / 2 if options.use_token_level_filter else options.rate
    if options.target_context >= 0:
        rate = min(options.target_context / len(words), 1.0)
    if target >= 0:
        rate = min(target / max(1, sum(counts)), 1.0)
    values = [document_value([word for chunk in own for word in chunk], probabilities) for own in words]
    return filter_documents(values, rate, options.force_context_ids)


def _labels(
    text: str,
    words: Sequence[Word],
    probabilities: NDArray[np.float64],
    segments: Sequence[Segment] | None,
    rate: float,
    options: ClassifierOptions,
    count_tokens: TokenCounter,
) -> list[bool]:
    """Return which words of a chunk stay; each segment has its own threshold."""
    spellings = [text[word.start : word.end] for word in words]
    sure = np.zeros(len(probabilities), np.bool_)
    if options.force_reserve_digit:
        for word, spelling in zip(words, spellings, strict=True):
            if any(map(str.isdigit, spelling)):
                sure[word.first : word.stop] = True
    values = word_values(words, probabilities, sure, options.token_to_word)
    labels = [True] * len(words)
    for share, indices in _groups(words, segments, rate):
        own = keep_words(
            [spellings[i] for i in indices],
            values[indices],
            share,
            count_tokens,
            [words[i].is_forced for i in indices],
            drop_consecutive=options.drop_consecutive,
        )
        for i, label in zip(indices, own, strict=True):
            labels[i] = label
    return labels


def _groups(words: Sequence[Word], segments: Sequence[Segment] | None, rate: float) -> list[tuple[float, list[int]]]:
    """Return the words by the share that stays of them."""
    if segments is None:
        return [(rate, list(range(len(words))))]
    groups: list[tuple[float, list[int]]] = []
    at = 0
    for segment in segments:
        end = at + len(segment.text)
        share = segment.rate if segment.compress else 1.0
        groups.append((share, [i for i, word in enumerate(words) if at <= word.start < end]))
        at = end
    return groups


def _protected(
    text: str,
    words: Sequence[Word],
    labels: Sequence[bool],
    probabilities: NDArray[np.float64],
    segments: Sequence[Segment] | None,
    protection: Protection,
) -> list[bool]:
    tiles = np.array([(word.start, word.end) for word in words], dtype=np.int64).reshape(-1, 2)
    sure = np.zeros(len(probabilities), np.bool_)
    values = word_values(words, probabilities, sure) if words else np.zeros(0)
    whole = np.array([word.is_forced for word in words], np.bool_)
    at = 0
    for segment in segments or ():
        if not segment.compress:
            whole |= (tiles[:, 0] < at + len(segment.text)) & (tiles[:, 1] > at)
        at += len(segment.text)
    kept = protect_tokens([text], [0], tiles, np.array(labels, np.bool_), values, whole, protection)
    return kept.tolist()  # type: ignore[no-any-return]


def _spans(words: Sequence[Word], labels: Sequence[bool]) -> list[Span]:
    """Return the spans of the words that stay; between two of them that are neighbours, what is between them."""
    spans: list[Span] = []
    last = -1
    for i, (word, label) in enumerate(zip(words, labels, strict=True)):
        if label:
            begin = spans.pop()[0] if spans and last == i - 1 else word.start
            spans.append((begin, word.end))
            last = i
    return merge_spans(spans)
