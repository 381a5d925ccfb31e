"""Compressors to compare with: free ones, rankings of sentences by words, and Selective-Context."""

from __future__ import annotations

import bisect
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from leanrag.compression.task import Part, Task, assemble
from leanrag.protocols import CompressionSource, TextScorer, TokenCounter
from leanrag.text import STOP_WORDS, content_words, split_sentences
from leanrag.types import CancelToken, Compression, Prompt, Scores

__all__ = [
    "Baseline",
    "RememberingScorer",
    "bm25_sentences",
    "cut",
    "random_sentences",
    "selective_context",
    "whole_passages",
]

_K1, _B = 1.2, 0.75  # Robertson and Zaragoza, 2009, section 3.5
_TOKEN = re.compile(r"\w+(?:[-'’.,]\w+)*|[^\w\s]")
_DETERMINERS = frozenset("a an the this that these those his her its their our my your".split())


@dataclass(frozen=True, slots=True)
class Baseline:
    """A compressor made of a function that chooses what stays; it knows nothing of `keep`."""

    name: str
    choose: Callable[[Task], Iterable[Part]]

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens; see `leanrag.protocols.Compressor`."""
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        return task.whole(self.name) if task.fits else task.finish(self.choose(task), self.name)


def cut(task: Task) -> list[Part]:
    """The sources in their order, cut where the budget ends."""
    ends = [0]
    for hit in task.hits:
        ends.append(ends[-1] + len(hit.chunk.text))

    def first(n_chars: int) -> list[Part]:
        shares = [(i, min(end, n_chars) - start) for i, (start, end) in enumerate(pairwise(ends))]
        return [Part(i, 0, length) for i, length in shares if length > 0]

    low, high = 0, ends[-1]
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _fits(task, first(middle)) else (low, middle - 1)
    return first(low)


def whole_passages(task: Task) -> list[Part]:
    """The first sources, as many as fit whole."""
    parts: list[Part] = []
    for number, hit in enumerate(task.hits):
        if not _fits(task, [*parts, Part(number, 0, len(hit.chunk.text))]):
            break
        parts.append(Part(number, 0, len(hit.chunk.text)))
    return parts


def random_sentences(task: Task) -> list[Part]:
    """Sentences in random order, those that fit; the same ones for the same question."""
    sentences = _sentences(task)
    random.Random(task.question).shuffle(sentences)
    return _filled(task, sentences)


def bm25_sentences(task: Task) -> list[Part]:
    """Sentences by BM25 of the question, those that fit; a sentence is a document, and the sources are the collection."""
    sentences = _sentences(task)
    terms = [Counter(content_words(task.hits[s.source].chunk.text[s.start : s.end])) for s in sentences]
    length = [own.total() for own in terms]
    mean = sum(length) / max(1, len(length)) or 1.0
    scores = np.zeros(len(sentences))
    for term in set(content_words(task.question)):
        holding = sum(term in own for own in terms)
        idf = math.log(1 + (len(terms) - holding + 0.5) / (holding + 0.5))
        for place, own in enumerate(terms):
            frequency = own[term]
            scores[place] += (
                idf * frequency * (_K1 + 1) / (frequency + _K1 * (1 - _B + _B * length[place] / mean) or 1.0)
            )
    return _filled(task, [sentences[place] for place in np.argsort(-scores, kind="stable")])


def selective_context(scorer: TextScorer) -> Callable[[Task], list[Part]]:
    """Phrases by self-information (Li et al., EMNLP 2023), one threshold over all sources; the question is not read.

    As in the authors' program a sentence is scored alone, and a phrase is worth the mean of its tokens. Its phrases are spaCy's
    noun chunks and single words; here a noun chunk is a run of content words with the determiner before it.
    """

    def choose(task: Task) -> list[Part]:
        phrases: list[Part] = []
        pairs: list[tuple[Prompt | None, list[int]]] = []
        located: list[tuple[list[Part], list[int]]] = []
        for number, hit in enumerate(task.hits):
            for start, end in split_sentences(hit.chunk.text):
                sentence = hit.chunk.text[start:end]
                tokens = scorer.tokenize(sentence)
                own = [Part(number, start + low, start + high) for low, high in _phrases(sentence)]
                pairs.append(("\n", [token for token, _ in tokens]))
                located.append((own, [start + at for _, at in tokens]))
                phrases += own
        values: list[float] = []
        for (own, starts), scores in zip(located, scorer.score_many(pairs), strict=True):
            values += _means(own, starts, [-(logprob or 0.0) for logprob in scores.logprobs])
        order = np.argsort(-np.array(values), kind="stable").tolist()
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            fits = _fits(task, [phrases[i] for i in order[:middle]])
            low, high = (middle, high) if fits else (low, middle - 1)
        return [phrases[i] for i in order[:low]]

    return choose


def _phrases(text: str) -> list[tuple[int, int]]:
    phrases: list[tuple[int, int]] = []
    is_open = False  # the last one may go on
    for match in _TOKEN.finditer(text):
        word = match[0].lower()
        is_content = word[0].isalnum() and word not in STOP_WORDS
        if is_open and is_content:
            phrases[-1] = (phrases[-1][0], match.end())
        else:
            phrases.append(match.span())
        is_open = is_content or word in _DETERMINERS
    return phrases


def _means(phrases: Sequence[Part], starts: Sequence[int], information: Sequence[float]) -> list[float]:
    """Mean information of the tokens of each phrase; the space before a phrase is its own."""
    ends = [phrase.end for phrase in phrases]
    found: list[list[float]] = [[] for _ in phrases]
    for start, value in zip(starts, information, strict=True):
        place = bisect.bisect_right(ends, start)
        if place < len(found):
            found[place].append(value)
    return [sum(own) / len(own) if own else 0.0 for own in found]


def _sentences(task: Task) -> list[Part]:
    return [
        Part(number, start, end)
        for number, hit in enumerate(task.hits)
        for start, end in split_sentences(hit.chunk.text)
    ]


def _filled(task: Task, ranked: Iterable[Part]) -> list[Part]:
    """The parts in their order of rank that fit beside those before."""
    kept: list[Part] = []
    left = task.budget
    for part in ranked:
        if task.count(task.hits[part.source].chunk.text[part.start : part.end]) > left + 2:
            continue  # joints save a token or two, no more
        if _fits(task, [*kept, part]):
            kept.append(part)
            left = task.budget - _count(task, kept)
    return kept


def _fits(task: Task, parts: Sequence[Part]) -> bool:
    return _count(task, parts) <= task.budget


def _count(task: Task, parts: Sequence[Part]) -> int:
    return task.count(assemble(task.hits, sorted(parts, key=lambda part: (part.source, part.start)))[0])


class RememberingScorer:
    """Scores each pair once: one question at several budgets costs one computation."""

    def __init__(self, scorer: TextScorer) -> None:
        self.name, self.n_ctx, self.tokenize = scorer.name, scorer.n_ctx, scorer.tokenize
        self._scorer = scorer
        self._known: dict[tuple[object, object], Scores] = {}

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`."""
        keys = [(condition, text if isinstance(text, str) else tuple(text)) for condition, text in pairs]
        missing = [key for key in dict.fromkeys(keys) if key not in self._known]
        self._known.update(
            zip(missing, self._scorer.score_many(missing, timeout_seconds=timeout_seconds, cancel=cancel), strict=True)
        )
        return [self._known[key] for key in keys]
