"""Answers of the models of a cascade to labelled questions, and the calibration that each model gets from them."""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leanrag.errors import ConfigurationError, GenerationError
from leanrag.routing.calibration import CalibratedModel, Calibration
from leanrag.routing.labels import is_right_or_silent, texts_agree
from leanrag.routing.questions import CalibrationPlan, IsRight
from leanrag.routing.signals import SIGNAL_NAMES, SIGNALS_BEFORE, Signals

__all__ = ["Failures", "Sample", "fit_calibrations"]

MOST_FAILED = 0.1
"""A calibration stops if a larger share of the questions failed, because the remaining questions may not be typical."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sample:
    """The answer of one model to one question: its text without marks, and its signals."""

    text: str
    signals: Signals


class Failures:
    """Counts the questions that failed, and raises if there are too many. Any thread may call."""

    def __init__(self, questions: int) -> None:
        self._of, self._lock = questions, threading.Lock()
        self._messages: list[str] = []

    def add(self, question: str, error: Exception) -> None:
        """Count a question that failed.

        Raises:
            GenerationError: A larger share than `MOST_FAILED` has failed.
        """
        with self._lock:
            self._messages.append(f"{question[:80]!r}: {error}")
            count = len(self._messages)
        if self.are_too_many:
            raise GenerationError(
                f"{count} of {self._of} questions failed, which is more than {MOST_FAILED:.0%}. The last failure was "
                f"{self._messages[-1]}. Correct the cause, or remove these questions",
                model=getattr(error, "model", ""),
            ) from error

    @property
    def are_too_many(self) -> bool:
        """Whether a larger share than `MOST_FAILED` has failed."""
        return len(self._messages) > MOST_FAILED * self._of

    def report(self) -> None:
        """Log a warning if a question failed."""
        if self._messages:
            _log.warning(
                "%d of %d questions failed and are not used; the first failure was %s",
                len(self._messages),
                self._of,
                self._messages[0],
            )


def fit_calibrations(
    plan: CalibrationPlan,
    samples: Sequence[Sequence[Sample | None]],
    models: Sequence[CalibratedModel],
    *,
    is_right: IsRight | None = None,
    created: datetime.date | None = None,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Return a calibration for each model.

    The last model gets no calibration if the questions have no labels, or if it is always right or always wrong. Each other model
    is compared with the last model: its answer is a loss if it is wrong and the last model is right. If some questions have no
    answer, each model first abstains below its `Calibration.abstain_below`, and the result is judged.

    Args:
        plan: From `plan_calibration`.
        samples: For each model, its answer to each question; a question with a None is not used.
        models: The models, in the order of the cascade.
        is_right: Compares an answer with the right answers; None for `is_right_or_silent`.
        created: The date; None for today.
        seed: Seed of the random parts of `Calibration.fit`.

    Raises:
        ConfigurationError: Too few questions remain, or a model is always right or always wrong.
    """
    rows = [n for n, answers in enumerate(zip(*samples, strict=True)) if None not in answers]
    kept = [[sample for n in rows if (sample := of_model[n]) is not None] for of_model in samples]
    features = [
        np.array([sample.signals.vector() for sample in of_model]).reshape(len(rows), len(SIGNAL_NAMES))
        for of_model in kept
    ]
    last = models[-1]
    created = created or datetime.datetime.now(datetime.timezone.utc).date()

    def fit(i: int, right: Sequence[bool], **known: object) -> Calibration:
        model = models[i]
        try:
            return Calibration.fit(
                features[i],
                right,
                names=SIGNAL_NAMES,
                before=() if 0 < i < len(models) - 1 else SIGNALS_BEFORE,  # models in the middle are asked in any case
                models={model.name: model.sha256, last.name: last.sha256},
                created=created,
                alpha=plan.alpha,
                delta=plan.delta,
                seed=seed,
                **known,  # type: ignore[arg-type]
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"{model.name} cannot be calibrated: {error}") from error

    if plan.answers is None:
        source = f"agreement with {last.name}"
        agreement = [
            [texts_agree(a.text, b.text) for a, b in zip(answers, kept[-1], strict=True)] for answers in kept[:-1]
        ]
        return tuple(fit(i, right, label_source=source) for i, right in enumerate(agreement))
    judge = is_right or is_right_or_silent
    gold = [plan.answers[n] for n in rows]
    verdicts = [
        [bool(judge(sample.text, right)) for sample, right in zip(of_model, gold, strict=True)] for of_model in kept
    ]
    unanswerable = None if all(gold) else [not right for right in gold]
    larger_right, larger_abstain_below, of_last = np.array(verdicts[-1]), None, None
    try:
        of_last = fit(len(models) - 1, verdicts[-1], unanswerable=unanswerable)
    except ConfigurationError as error:
        if len(models) == 1:
            raise
        _log.info("%s", error)
    else:
        if unanswerable is not None:
            abstains = of_last.abstains(of_last.confidence(features[-1]))
            larger_right = np.where(abstains, unanswerable, larger_right)
            larger_abstain_below = of_last.abstain_below or None
    calibrations = [
        fit(
            i,
            verdicts[i],
            larger_right=larger_right,
            unanswerable=unanswerable,
            larger_abstain_below=larger_abstain_below,
        )
        for i in range(len(models) - 1)
    ]
    return (*calibrations, *([] if of_last is None else [of_last]))
