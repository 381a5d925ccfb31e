"""Compute the values of `Signals`, one family in each function: tokens, answer, search, sentences, overlap.

The docstring of `Signals` defines each value.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from leanrag.routing.refusals import is_refusal
from leanrag.text import answer_kind, content_words, split_sentences, words
from leanrag.types import Generation, Hit, Packing

__all__ = ["measure_answer", "measure_overlap", "measure_search", "measure_sentences", "measure_tokens"]

_LIMIT = 100.0  # nats; a token that was impossible, or forced, says no more than this
_REMEMBERED_CHARS = 2048  # longest text whose stems are remembered: the same sentences are looked at for many questions
_CAPITALISED = re.compile(r"[^\W\d_][\w'’]*")


def measure_tokens(generation: Generation) -> dict[str, Any]:
    """Return the signals of the token probabilities; tokens of thoughts do not count."""
    start = generation.thought_tokens
    logprobs = _clipped(generation.logprobs, start)
    margins = _clipped(generation.margins, start)
    entropies = _clipped(generation.entropies, start)
    return {
        "logprob_mean": _mean(logprobs),
        "logprob_min": _quantile(logprobs, 0.0),
        "logprob_p10": _quantile(logprobs, 0.1),
        "logprob_p25": _quantile(logprobs, 0.25),
        "logprob_first": logprobs[0] if logprobs else None,
        "margin_first": margins[0] if margins else None,
        "margin_mean": _mean(margins),
        "entropy_mean": _mean(entropies),
        "entropy_max": _quantile(entropies, 1.0),
        "log_length": math.log1p(max(0, generation.usage.completion_tokens - start)),
    }


def measure_answer(question: str, answer: str, generation: Generation) -> dict[str, Any]:
    """Return the signals of the answer's text, and of how its generation ended."""
    return {
        "empty": float(not words(answer)),
        "truncated": float(generation.finish_reason == "length"),
        "repetition": float(generation.finish_reason == "repetition"),
        "refusal": float(is_refusal(answer)),
        "kind_fits": _kind_fits(question, answer),
    }


def measure_search(question: str, hits: Sequence[Hit]) -> dict[str, Any]:
    """Return the signals of the search."""
    dense = sorted((hit.dense for hit in hits if hit.dense is not None), reverse=True)
    bm25 = sorted((hit.bm25 for hit in hits if hit.bm25 is not None), reverse=True)
    best = hits[0].chunk if hits else None
    in_best = _stems(f"{best.title}\n{best.heading}\n{best.text}") if best else frozenset()
    return {
        "dense_best": dense[0] if dense else None,
        "dense_gap": dense[0] - (dense[1] if len(dense) > 1 else 0.0) if dense else None,
        "dense_mean": _mean(dense),
        "bm25_best": bm25[0] if bm25 else None,
        "bm25_gap": _relative_gap(bm25),
        "score_gap": _relative_gap(sorted((hit.score for hit in hits), reverse=True)),
        "agreement": _agreement(hits),
        "log_hits": math.log1p(len(hits)),
        "question_in_best": _share(_stems(question), in_best),
    }


def measure_sentences(question: str, answer: str, packing: Packing) -> dict[str, Any]:
    """Return how much of the question is in the packed sentences: in the best one, and in those with most of the answer."""
    question_stems = _stems(question)
    shown = [
        (_stems(item.text[segment.start + start : segment.start + end]), segment.score)
        for item in packing.items
        for segment in item.segments
        for start, end in split_sentences(item.text[segment.start : segment.end])
    ]
    sentences = [sentence for sentence, _ in shown]
    coverage = _coverage(question_stems, sentences)
    scores = [score for _, score in shown if score is not None]
    worth = scores if scores and len(scores) == len(shown) else None
    by_answer = _holding_most(_stems(answer) - question_stems, sentences)
    return {
        "question_in_sentence": None if coverage is None else max(coverage, default=0.0),
        "question_by_answer": None if coverage is None else max((coverage[i] for i in by_answer), default=0.0),
        "evidence_best": None if worth is None else max(worth),
        "evidence_by_answer": None if worth is None else max((worth[i] for i in by_answer), default=0.0),
    }


def measure_overlap(question: str, answer: str, packing: Packing) -> dict[str, Any]:
    """Return how much of the question and of the answer is in the sources, and how much of the hits the sources show."""
    question_stems, stems = _stems(question), _stems(answer)
    sources = frozenset(
        stem for item in packing.items for stem in content_words(f"{item.text}\n{item.hit.chunk.title}")
    )
    numbers = frozenset(stem for stem in stems if stem[:1].isdigit())
    capitalised = (word for word in _CAPITALISED.findall(answer) if word[0].isupper())
    names = frozenset(stem for word in capitalised for stem in content_words(word))
    answer_words = words(answer)
    longest = _longest_run(answer_words, [words(item.text) for item in packing.items])
    span_share = longest / len(answer_words) if answer_words else 0.0
    return {
        "question_in_sources": _share(question_stems, sources),
        "span_share": span_share,
        "contained": float(span_share == 1.0),
        "words_in_sources": _share_or(0.0, stems, sources),
        "beyond_question": _share_or(0.0, stems, stems - question_stems),
        "numbers_in_sources": _share_or(1.0, numbers, sources),
        "names_in_sources": _share_or(1.0, names, sources),
        "kept_share": _kept_share(packing),
    }


def _clipped(values: Sequence[float] | None, start: int) -> list[float]:
    """Return the known values from index `start` on, clipped to [-_LIMIT, _LIMIT]."""
    return [max(-_LIMIT, min(_LIMIT, value)) for value in (values or ())[start:] if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    """Return the quantile of a few values, as `numpy.quantile` does, only sooner."""
    if not values:
        return None
    ordered = sorted(values)
    position = (len(ordered) - 1) * q
    i = int(position)
    low, high, share = ordered[i], ordered[min(i + 1, len(ordered) - 1)], position - i
    step = high - low
    return high - step * (1 - share) if share >= 0.5 else low + step * share


def _relative_gap(best_first: Sequence[float]) -> float | None:
    """Return the difference of the first two values divided by the sum of their absolute values, in [0, 1]."""
    if not best_first:
        return None
    if len(best_first) == 1:
        return 1.0
    first, second = best_first[:2]
    size = abs(first) + abs(second)
    return (first - second) / size if size else 0.0


def _agreement(hits: Sequence[Hit]) -> float | None:
    """Return the share of pairs of hits that cosine and BM25 put in the same order. A hit without a matching term has BM25 0."""
    if all(hit.bm25 is None for hit in hits):
        return None
    both = [(hit.dense, hit.bm25 or 0.0) for hit in hits if hit.dense is not None]
    orders = [(a - b) * (c - d) for (a, c), (b, d) in combinations(both, 2)]
    return _mean([0.5 if order == 0 else float(order > 0) for order in orders])


def _stems(text: str) -> frozenset[str]:
    return _stems_again(text) if len(text) <= _REMEMBERED_CHARS else frozenset(content_words(text))


@functools.lru_cache(maxsize=512)
def _stems_again(text: str) -> frozenset[str]:
    return frozenset(content_words(text))


def _share(part: frozenset[str], whole: frozenset[str]) -> float | None:
    return len(part & whole) / len(part) if part else None


def _share_or(empty: float, part: frozenset[str], whole: frozenset[str]) -> float:
    share = _share(part, whole)
    return empty if share is None else share


def _coverage(question: frozenset[str], sentences: Sequence[frozenset[str]]) -> list[float] | None:
    """Return how much of the question each sentence contains; None if the question has no content words."""
    if not question:
        return None
    n = len(sentences)
    weights = {stem: math.log((n + 1) / (sum(stem in sentence for sentence in sentences) + 0.5)) for stem in question}
    total = math.fsum(weights.values())
    return [math.fsum(weights[stem] for stem in question & sentence) / total for sentence in sentences]


def _holding_most(answer: frozenset[str], sentences: Sequence[frozenset[str]]) -> list[int]:
    """Return the indices of the sentences with most words of the answer; empty if no sentence has any."""
    counts = [len(answer & sentence) for sentence in sentences]
    highest = max(counts, default=0)
    return [i for i, count in enumerate(counts) if highest and count == highest]


def _kind_fits(question: str, answer: str) -> float | None:
    kind = answer_kind(question)
    if kind is None:
        return None
    if kind == "name":
        return float(any(word[0].isupper() and content_words(word) for word in _CAPITALISED.findall(answer)))
    return float(any(character.isdigit() for character in answer))


def _longest_run(answer: Sequence[str], sources: Sequence[Sequence[str]]) -> int:
    """Return the number of words in the longest run of `answer` that occurs in a source."""
    positions: dict[str, list[int]] = {}
    for position, word in enumerate(word for source in sources for word in ("", *source)):  # no run crosses a ""
        positions.setdefault(word, []).append(position)
    longest = 0
    lengths: dict[int, int] = {}  # by position in the sources: words of the run that ends there
    for word in answer:
        lengths = {position: lengths.get(position - 1, 0) + 1 for position in positions.get(word, ())}
        longest = max(longest, *lengths.values(), 0)
    return longest


def _kept_share(packing: Packing) -> float:
    hits = [hit for item in packing.items for hit in (item.hit, *item.more)]
    hits += [dropped.hit for dropped in packing.dropped if dropped.reason != "duplicate"]
    whole = sum(len(hit.chunk.text) for hit in hits)
    shown = sum(len(item.text) for item in packing.items if item.action != "heading")
    return min(1.0, shown / whole) if whole else 0.0
