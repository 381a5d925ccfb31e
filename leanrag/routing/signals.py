"""What speaks for an answer and against it: signals of the tokens, the search and the sources, each a number with a name.

They cost next to nothing once the answer is there. A calibration turns their vector into a probability; without a calibration,
`leanrag.routing.confidence.uncalibrated_confidence` combines them by a fixed rule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError
from leanrag.routing.measures import (
    measure_answer,
    measure_overlap,
    measure_search,
    measure_sentences,
    measure_tokens,
)
from leanrag.text import without_marks
from leanrag.types import Generation, Hit, Packing, Usage

__all__ = ["SIGNALS_BEFORE", "SIGNAL_NAMES", "Signals", "signals_before", "signals_of"]


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
        """Return what a calibration reads: the columns `SIGNAL_NAMES`, float64 `(len(SIGNAL_NAMES),)`, all finite.

        A signal that is None counts as 0, and its family's indicator as 1. The indicator
        lets a linear model choose another number for it.

        Raises:
            ConfigurationError: A signal is not finite.
        """
        values = self.as_dict()
        for name, value in values.items():
            if value is not None and not math.isfinite(value):
                raise ConfigurationError(f"signals must be finite numbers or None, got {name}={value!r}")
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

SIGNAL_NAMES = (*(field.name for field in fields(Signals)), *_FAMILIES)
"""Columns of `Signals.vector`: the signals, then an indicator for each family that may be unknown."""

SIGNALS_BEFORE = (
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
"""Those of `SIGNAL_NAMES` that are known before a model is asked."""


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
    answer = without_marks(generation.text)
    return Signals(
        **measure_tokens(generation),
        **measure_answer(question, answer, generation),
        **measure_search(question, hits),
        **measure_sentences(question, answer, packing),
        **measure_overlap(question, answer, packing),
        support=support,
        self_check=self_check,
    )


def signals_before(question: str, hits: Sequence[Hit], packing: Packing) -> Signals:
    """Return the signals of a question before a model is asked: `SIGNALS_BEFORE`, and the other ones as of an empty answer."""
    return signals_of(question, hits, packing, Generation("", "", "stop", Usage(0, 0)))
