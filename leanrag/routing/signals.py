"""What speaks for an answer and against it: signals of the tokens, the search and the sources, each a number with a name.

They cost next to nothing once the answer is there. A calibration turns their vector into a probability; without one,
`uncalibrated` makes a rough figure of them by a fixed rule.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError
from leanrag.text import answer_kind, content_words, split_sentences, without_marks, words
from leanrag.types import Generation, Hit, Packing, Usage

__all__ = ["BEFORE", "FEATURES", "Confidence", "Signals", "is_refusal", "signals_before", "signals_of", "uncalibrated"]

_LIMIT = 100.0  # nats; a token that was impossible, or forced, says no more than this
_CAPITALISED = re.compile(r"[^\W\d_][\w'’]*")

_TEXT = r"(?:texts?|passages?|contexts?|documents?|sources?|articles?|information|excerpts?|paragraphs?)"
_SAID = r"(?:mention|state|specif|provide|give|say|contain|include|discuss|indicate|tell|answer|explain|describe)\w*"
_REFUSAL = re.compile(
    r"\bunanswerable\b"
    r"|\bi(?:'m| am) (?:sorry|unable|not sure|not able)\b"
    r"|\bi (?:do not|don't|cannot|can't|could not|couldn't) (?:know|answer|find|determine|tell|provide|have)\b"
    r"|\b(?:cannot|can't|could not) be (?:answered|determined|found)\b"
    r"|\b(?:not enough|no|insufficient) (?:relevant )?information (?:is |was )?(?:about|on|in|to|provided|given|available)\b"
    rf"|\b{_TEXT}(?: \w+){{0,3}} (?:do|does|did)(?: not|n't) {_SAID}"
    rf"|\bnot (?:explicitly |directly |clearly )?{_SAID} (?:in|by|from) (?:the|this|that|any|these)(?: \w+){{0,2}} {_TEXT}\b"
)


@dataclass(frozen=True, slots=True)
class Signals:
    """Signals of one answer. None is unknown; flags are 0 or 1; log-probabilities are natural, entropies in nats.

    Attributes:
        logprob_mean: Mean log-probability of the tokens ("Chow-Average" of Gupta et al., ICLR 2024).
        logprob_min: Least log-probability ("Chow-Quantile" at 0, ibid.).
        logprob_p10: Quantile at 10 %, interpolated linearly.
        logprob_p25: Quantile at 25 %.
        logprob_first: Of the first token.
        margin_first: Log-probability of the first token less that of the best other one.
        margin_mean: Mean of these.
        entropy_mean: Mean entropy.
        entropy_max: Largest entropy.
        log_length: Natural logarithm of one more than the tokens generated.
        empty: The answer holds no word.
        truncated: It was cut at the most tokens allowed.
        repetition: It was stopped because it repeated itself.
        refusal: It says that it does not know; see `is_refusal`.
        dense_best: Best cosine similarity of a hit.
        dense_gap: By how much the second best is less; the best itself when there is no second.
        dense_mean: Mean over the hits.
        bm25_best: Best BM25 score of a hit.
        bm25_gap: Difference of the two best over their sum, in [0, 1]; 1 when there is no second.
        score_gap: Difference of the two best fused scores over the sum of their sizes, in [0, 1]; 1 when there is no second. (The
            scores themselves are comparable within one search only.)
        agreement: Share of pairs of hits that cosine and BM25 put in the same order, ties half.
        log_hits: Natural logarithm of one more than the hits.
        question_in_best: Share of the question's content words that the best hit, its title or heading holds.
        question_in_sources: Share of them that the packed sources hold.
        question_in_sentence: Most that one packed sentence holds of them, each weighted by `log((n + 1) / (d + 1/2))` where `d` of
            the `n` packed sentences hold it.
        question_by_answer: The same of the sentence that holds most of the answer; 0 when none holds any of it.
        evidence_best: Most that the packer found a packed span worth.
        evidence_by_answer: The same of the spans of the sentences that hold most of the answer; 0 when none holds any of it.
        kind_fits: The answer has a digit where the question asks for a number or a date, a name where it asks for one (by English
            question words; None when it asks for neither).
        span_share: Longest run of the answer's words that stands in one packed source, over the answer's words.
        contained: The whole answer is such a run.
        words_in_sources: Share of the answer's content words that the packed sources hold.
        beyond_question: Share of the answer's content words that the question does not hold.
        numbers_in_sources: Share of the answer's numbers that the packed sources hold; 1 when it has none.
        names_in_sources: Share of its capitalised content words that they hold; 1 when it has none.
        kept_share: Share of the characters of the hits that the prompt shows, repetitions not counted; 0 of nothing.
        support: `Answer.support`.
        self_check: Probability that the model gives to its answer being right, when it was asked.
    """

    logprob_mean: float | None
    logprob_min: float | None
    logprob_p10: float | None
    logprob_p25: float | None
    logprob_first: float | None
    margin_first: float | None
    margin_mean: float | None
    entropy_mean: float | None
    entropy_max: float | None
    log_length: float
    empty: float
    truncated: float
    repetition: float
    refusal: float
    dense_best: float | None
    dense_gap: float | None
    dense_mean: float | None
    bm25_best: float | None
    bm25_gap: float | None
    score_gap: float | None
    agreement: float | None
    log_hits: float
    question_in_best: float | None
    question_in_sources: float | None
    question_in_sentence: float | None
    question_by_answer: float | None
    evidence_best: float | None
    evidence_by_answer: float | None
    kind_fits: float | None
    span_share: float
    contained: float
    words_in_sources: float
    beyond_question: float
    numbers_in_sources: float
    names_in_sources: float
    kept_share: float
    support: float | None
    self_check: float | None

    def as_dict(self) -> dict[str, float | None]:
        """Return the signals by name, in order."""
        return asdict(self)

    def vector(self) -> NDArray[np.float64]:
        """Return what a calibration reads: the columns `FEATURES`, float64 `(len(FEATURES),)`, all finite.

        A signal that is None counts as 0, and its family's indicator as 1. Which number stands for it is of no consequence to a
        linear model that knows the indicator.

        Raises:
            ConfigurationError: A signal is not finite.
        """
        values = self.as_dict()
        if odd := [name for name, value in values.items() if value is not None and not math.isfinite(value)]:
            raise ConfigurationError(f"signals must be finite numbers or None, got {odd[0]}={values[odd[0]]!r}")
        known = [0.0 if value is None else float(value) for value in values.values()]
        missing = [float(any(values[name] is None for name in family)) for family in _FAMILIES.values()]
        return np.array(known + missing)


_FAMILIES = {
    "no_logprobs": ("logprob_mean", "logprob_min", "logprob_p10", "logprob_p25", "logprob_first"),
    "no_margins": ("margin_first", "margin_mean"),
    "no_entropies": ("entropy_mean", "entropy_max"),
    "no_dense": ("dense_best", "dense_gap", "dense_mean"),
    "no_bm25": ("bm25_best", "bm25_gap"),
    "no_hits": ("score_gap",),
    "no_agreement": ("agreement",),
    "no_question_words": (
        "question_in_best",
        "question_in_sources",
        "question_in_sentence",
        "question_by_answer",
    ),
    "no_evidence": ("evidence_best", "evidence_by_answer"),
    "no_kind": ("kind_fits",),
    "no_support": ("support",),
    "no_self_check": ("self_check",),
}

FEATURES = (*(field.name for field in fields(Signals)), *_FAMILIES)
"""Columns of `Signals.vector`: the signals, then an indicator for each family that may be unknown."""

BEFORE = (
    "dense_best",
    "dense_gap",
    "dense_mean",
    "bm25_best",
    "bm25_gap",
    "score_gap",
    "agreement",
    "log_hits",
    "question_in_best",
    "question_in_sources",
    "question_in_sentence",
    "evidence_best",
    "kept_share",
    "no_dense",
    "no_bm25",
    "no_hits",
    "no_agreement",
    "no_question_words",
    "no_evidence",
)
"""Those of `FEATURES` that are known before a model is asked."""


def signals_of(
    question: str,
    hits: Sequence[Hit],
    packing: Packing,
    generation: Generation,
    *,
    support: float | None = None,
    self_check: float | None = None,
) -> Signals:
    """Return the signals of one answer.

    Marks such as [1] in the answer are not counted as its words.

    Args:
        question: As asked.
        hits: What retrieval found.
        packing: What the model read.
        generation: What it answered.
        support: Share of the answer's information found in the sources; None when it was not looked for.
        self_check: Probability that the model gives to its answer being right; None when it was not asked.
    """
    text = without_marks(generation.text)
    answer = words(text)
    stems = frozenset(content_words(text))
    question_stems = frozenset(content_words(question))
    sources = [words(item.text) for item in packing.items]
    held = frozenset(stem for item in packing.items for stem in content_words(f"{item.text}\n{item.hit.chunk.title}"))
    shown = [
        (frozenset(content_words(item.text[segment.start + start : segment.start + end])), segment.score)
        for item in packing.items
        for segment in item.segments
        for start, end in split_sentences(item.text[segment.start : segment.end])
    ]
    coverage = _coverage(question_stems, [sentence for sentence, _ in shown])
    scores = [score for _, score in shown if score is not None]
    worth = scores if scores and len(scores) == len(shown) else None
    by_answer = _holding_most(stems - question_stems, [sentence for sentence, _ in shown])
    numbers = frozenset(stem for stem in stems if stem[:1].isdigit())
    capitalised = (word for word in _CAPITALISED.findall(text) if word[0].isupper())
    names = frozenset(stem for word in capitalised for stem in content_words(word))
    span_share = _longest_run(answer, sources) / len(answer) if answer else 0.0
    best = hits[0].chunk if hits else None
    in_best = frozenset(content_words(f"{best.title}\n{best.heading}\n{best.text}")) if best else frozenset()
    logprobs = _clipped(generation.logprobs)
    margins = _clipped(generation.margins)
    entropies = _clipped(generation.entropies)
    dense = sorted((hit.dense for hit in hits if hit.dense is not None), reverse=True)
    bm25 = sorted((hit.bm25 for hit in hits if hit.bm25 is not None), reverse=True)
    return Signals(
        logprob_mean=_mean(logprobs),
        logprob_min=_quantile(logprobs, 0.0),
        logprob_p10=_quantile(logprobs, 0.1),
        logprob_p25=_quantile(logprobs, 0.25),
        logprob_first=logprobs[0] if logprobs else None,
        margin_first=margins[0] if margins else None,
        margin_mean=_mean(margins),
        entropy_mean=_mean(entropies),
        entropy_max=_quantile(entropies, 1.0),
        log_length=math.log1p(generation.usage.completion_tokens),
        empty=float(not answer),
        truncated=float(generation.finish_reason == "length"),
        repetition=float(generation.finish_reason == "repetition"),
        refusal=float(is_refusal(text)),
        dense_best=dense[0] if dense else None,
        dense_gap=dense[0] - (dense[1] if len(dense) > 1 else 0.0) if dense else None,
        dense_mean=_mean(dense),
        bm25_best=bm25[0] if bm25 else None,
        bm25_gap=_relative_gap(bm25),
        score_gap=_relative_gap(sorted((hit.score for hit in hits), reverse=True)),
        agreement=_agreement(hits),
        log_hits=math.log1p(len(hits)),
        question_in_best=_share(question_stems, in_best),
        question_in_sources=_share(question_stems, held),
        question_in_sentence=None if coverage is None else max(coverage, default=0.0),
        question_by_answer=None if coverage is None else max((coverage[i] for i in by_answer), default=0.0),
        evidence_best=None if worth is None else max(worth),
        evidence_by_answer=None if worth is None else max((worth[i] for i in by_answer), default=0.0),
        kind_fits=_kind_fits(question, text),
        span_share=span_share,
        contained=float(span_share == 1.0),
        words_in_sources=_share_or(0.0, stems, held),
        beyond_question=_share_or(0.0, stems, stems - question_stems),
        numbers_in_sources=_share_or(1.0, numbers, held),
        names_in_sources=_share_or(1.0, names, held),
        kept_share=_kept_share(packing),
        support=support,
        self_check=self_check,
    )


def signals_before(question: str, hits: Sequence[Hit], packing: Packing) -> Signals:
    """Return the signals of a question before a model is asked: `BEFORE` are as they will be, the others those of no answer."""
    return signals_of(question, hits, packing, Generation("", "", "stop", Usage(0, 0)))


def is_refusal(text: str) -> bool:
    """Return whether an English answer says that it does not know, or that the sources do not say.

    It knows the phrases that small instruction models use; another wording is missed.

    Example:
        >>> is_refusal("The text does not mention who built it."), is_refusal("It does not rain there.")
        (True, False)
    """
    return _REFUSAL.search(" ".join(text.replace("’", "'").casefold().split())) is not None


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure an answer is.

    Attributes:
        value: In [0, 1], higher is better; a probability only when `calibrated`.
        calibrated: Whether it comes from a calibration.
        signals: What it was made of.
    """

    value: float
    calibrated: bool
    signals: Signals

    def __float__(self) -> float:
        return self.value


def uncalibrated(signals: Signals) -> Confidence:
    """Return a rough confidence by a fixed rule: to compare answers with, not a probability.

    `sqrt(t * g)`, where `t` is the probability of a token at the 10 % quantile, and `g` the mean of those of `words_in_sources`,
    `numbers_in_sources`, `names_in_sources`, `question_by_answer`, `evidence_by_answer`, `support` and `self_check` that are
    known. Where token probabilities are unknown it is `g`. It is 0 for an answer that is empty, a refusal or a repetition, and
    half of it for one that was cut. More of any of these numbers, the rest being the same, never makes it less.
    """
    grounds = (
        signals.words_in_sources,
        signals.numbers_in_sources,
        signals.names_in_sources,
        signals.question_by_answer,
        signals.evidence_by_answer,
        signals.support,
        signals.self_check,
    )
    known = [value for value in grounds if value is not None]
    value = math.fsum(known) / len(known)
    if signals.logprob_p10 is not None:
        value = math.sqrt(math.exp(signals.logprob_p10) * value)
    if signals.empty or signals.refusal or signals.repetition:
        value = 0.0
    return Confidence(value / 2 if signals.truncated else value, calibrated=False, signals=signals)


def _clipped(values: Iterable[float] | None) -> list[float]:
    """The known of `values`, none farther from 0 than `_LIMIT`."""
    return [max(-_LIMIT, min(_LIMIT, value)) for value in values or () if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    return float(np.quantile(values, q)) if values else None


def _relative_gap(best_first: Sequence[float]) -> float | None:
    """Difference of the first two over the sum of their sizes, in [0, 1]."""
    if not best_first:
        return None
    if len(best_first) == 1:
        return 1.0
    first, second = best_first[:2]
    size = abs(first) + abs(second)
    return (first - second) / size if size else 0.0


def _agreement(hits: Sequence[Hit]) -> float | None:
    """Share of pairs that both sides put in the same order; a hit that no term of the question matched has a BM25 of 0."""
    if all(hit.bm25 is None for hit in hits):
        return None
    both = [(hit.dense, hit.bm25 or 0.0) for hit in hits if hit.dense is not None]
    orders = [(a - b) * (c - d) for (a, c), (b, d) in combinations(both, 2)]
    return _mean([0.5 if order == 0 else float(order > 0) for order in orders])


def _share(part: frozenset[str], whole: frozenset[str]) -> float | None:
    return len(part & whole) / len(part) if part else None


def _share_or(empty: float, part: frozenset[str], whole: frozenset[str]) -> float:
    share = _share(part, whole)
    return empty if share is None else share


def _coverage(question: frozenset[str], sentences: Sequence[frozenset[str]]) -> list[float] | None:
    """How much of the question each sentence holds; None when it has no content words."""
    if not question:
        return None
    n = len(sentences)
    weights = {stem: math.log((n + 1) / (sum(stem in one for one in sentences) + 0.5)) for stem in question}
    total = math.fsum(weights.values())
    return [math.fsum(weights[stem] for stem in question & sentence) / total for sentence in sentences]


def _holding_most(answer: frozenset[str], sentences: Sequence[frozenset[str]]) -> list[int]:
    """Places of the sentences that hold most of the answer; none when none holds any of it."""
    own = [len(answer & sentence) for sentence in sentences]
    most = max(own, default=0)
    return [place for place, count in enumerate(own) if most and count == most]


def _kind_fits(question: str, answer: str) -> float | None:
    kind = answer_kind(question)
    if kind is None:
        return None
    if kind == "name":
        return float(any(word[0].isupper() and content_words(word) for word in _CAPITALISED.findall(answer)))
    return float(any(character.isdigit() for character in answer))


def _longest_run(answer: Sequence[str], sources: Sequence[Sequence[str]]) -> int:
    """Words of the longest run of `answer` that stands in one of `sources`."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(word for source in sources for word in ("", *source)):  # no run crosses a ""
        places.setdefault(word, []).append(place)
    best = 0
    ends: dict[int, int] = {}  # place in the sources -> words of the run that ends there
    for word in answer:
        ends = {place: ends.get(place - 1, 0) + 1 for place in places.get(word, ())}
        best = max(best, *ends.values(), 0)
    return best


def _kept_share(packing: Packing) -> float:
    hits = [hit for item in packing.items for hit in (item.hit, *item.more)]
    hits += [dropped.hit for dropped in packing.dropped if dropped.reason != "duplicate"]
    whole = sum(len(hit.chunk.text) for hit in hits)
    shown = sum(len(item.text) for item in packing.items if item.action != "heading")
    return min(1.0, shown / whole) if whole else 0.0
