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
        value: In [0, 1], higher is better; a probability only if `calibrated`.
        calibrated: Whether a calibration computed it.
        signals: The signals that it was computed from.
    """

    value: float
    calibrated: bool
    signals: Signals

    def __float__(self) -> float:
        return self.value


def uncalibrated_confidence(signals: Signals) -> Confidence:
    """Return a rough confidence by a fixed rule. It can compare answers; it is not a probability.

    The rule is `sqrt(t * g)`. `t` is the 10 % quantile of the token probabilities. `g` is the mean of those of
    `words_in_sources`, `numbers_in_sources`, `names_in_sources`, `question_by_answer`, `evidence_by_answer`, `support` and
    `self_check` that are known. If the token probabilities are unknown, the rule is `g`. An answer that is empty, a refusal or a
    repetition gets 0. An answer that was cut gets half. If one of these signals grows and the others stay the same, the
    confidence never falls.
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
