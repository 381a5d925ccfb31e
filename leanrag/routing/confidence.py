"""How sure an answer is, and the rule for answers of models that have no calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

from leanrag.routing.signals import Signals

__all__ = ["Confidence", "uncalibrated_confidence"]


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


def uncalibrated_confidence(signals: Signals) -> Confidence:
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
