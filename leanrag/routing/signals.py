"""Signals: named numbers that speak for or against an answer, from its tokens, the search and the sources.

They are computed in almost no time after the answer. A calibration turns them into a probability. Without a calibration,
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
    """Signals of one answer. None means unknown. Flags are 0 or 1. Logarithms are natural, so entropies are in nats.

    A content word is a word that is not a stop word. "Sources" are the texts in the prompt.

    Attributes:
        logprob_mean: Mean log-probability of the tokens ("Chow-Average" of Gupta et al., ICLR 2024).
        logprob_min: Lowest log-probability of a token ("Chow-Quantile" at 0, ibid.).
        logprob_p10: 10 % quantile of the log-probabilities, interpolated linearly.
        logprob_p25: 25 % quantile of the log-probabilities.
        logprob_first: Log-probability of the first token.
        margin_first: Log-probability of the first token minus that of the best alternative.
        margin_mean: Mean of these margins over all tokens.
        entropy_mean: Mean entropy.
        entropy_max: Largest entropy.
        log_length: `log(1 + n)` for `n` generated tokens.
        empty: The answer has no word.
        truncated: The answer was cut at `max_tokens`.
        repetition: The answer was stopped because it repeated itself.
        refusal: The answer says that it does not know; see `is_refusal`.
        dense_best: Highest cosine similarity of a hit.
        dense_gap: Highest minus second highest cosine similarity; the highest if there is only one.
        dense_mean: Mean cosine similarity of the hits.
        bm25_best: Highest BM25 score of a hit.
        bm25_gap: Difference of the two highest BM25 scores divided by their sum, in [0, 1]; 1 if there is only one.
        score_gap: Difference of the two highest fused scores divided by the sum of their absolute values, in [0, 1]; 1 if there
            is only one. (The scores themselves are comparable only within one search.)
        agreement: Share of pairs of hits that cosine and BM25 put in the same order; a tie counts half.
        log_hits: `log(1 + n)` for `n` hits.
        question_in_best: Share of the question's content words in the best hit, its title or its heading.
        question_in_sources: Share of the question's content words in the sources.
        question_in_sentence: Highest weighted share of the question's content words in one sentence of the sources. A word that
            is in `d` of `n` sentences has the weight `log((n + 1) / (d + 1/2))`.
        question_by_answer: The same share in the sentence that has most words of the answer; 0 if no sentence has any.
        evidence_best: Highest score that the packer gave to a span in the prompt.
        evidence_by_answer: Highest such score in the sentences that have most words of the answer; 0 if no sentence has any.
        kind_fits: The answer has a digit if the question asks for a number or a date, and a name if it asks for a name (by
            English question words); None if it asks for neither.
        span_share: Length of the longest run of the answer's words in one source, divided by the number of the answer's words.
        contained: The whole answer is such a run.
        words_in_sources: Share of the answer's content words in the sources.
        beyond_question: Share of the answer's content words that are not in the question.
        numbers_in_sources: Share of the answer's numbers in the sources; 1 if it has no number.
        names_in_sources: Share of the answer's capitalised content words in the sources; 1 if it has none.
        kept_share: Share of the characters of the hits that the prompt shows, without repetitions; 0 if there are no hits.
        support: `Answer.support`.
        self_check: How probable the model finds that its answer is right; None if it was not asked.
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
        """Return the input of a calibration: the columns `SIGNAL_NAMES`, float64 `(len(SIGNAL_NAMES),)`, all finite.

        If a signal is None, its column is 0 and the indicator of its family is 1. With the indicator, a linear model can learn
        another value for unknown signals.

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
"""Columns of `Signals.vector`: the signals, then an indicator for each family of signals that may be unknown."""

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
"""The columns of `SIGNAL_NAMES` that are known before a model is asked."""


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
        question: The question.
        hits: The hits of the search.
        packing: The sources in the prompt.
        generation: The answer of the model.
        support: `Answer.support`; None if it was not computed.
        self_check: How probable the model finds that its answer is right; None if it was not asked.
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
    """Return the signals before a model is asked: `SIGNALS_BEFORE`; all other signals are those of an empty answer."""
    return signals_of(question, hits, packing, Generation("", "", "stop", Usage(0, 0)))
