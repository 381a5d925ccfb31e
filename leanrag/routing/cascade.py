"""Which model answers: the smallest that is sure enough, and who is asked next when it is not.

`Cascade` holds the policy and decides on values; the pipeline asks the models, packing the sources anew for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from leanrag.errors import ConfigurationError
from leanrag.ledger import Limits, Prices
from leanrag.protocols import LanguageModel
from leanrag.routing.calibration import Calibration, DriftAudit
from leanrag.routing.signals import FEATURES, Confidence, Signals, uncalibrated

__all__ = ["THRESHOLD", "Cascade", "QuestionScorer", "model_name"]

THRESHOLD = 0.5
"""Confidence from which an answer is kept where nothing was calibrated: a convention, no probability."""

Model = str | os.PathLike[str] | LanguageModel


class QuestionScorer(Protocol):
    """Says before anything is generated how useful a larger model is; `leanrag.QueryRouter` does."""

    def score(self, question: str) -> float:
        """Return a score; higher means more useful."""


@dataclass(frozen=True)
class Cascade:
    """Several models, the smallest first, and when the next one is asked.

    Attributes:
        models: Names, GGUF files or loaded models, no two of one name.
        calibrations: For each model but the last, what says whether its answer is kept; None (or none at all) for `threshold`. One
            more for the last tells how sure that one is; it is needed where the others were made beside a last model that
            abstains. `Rag.calibrate` makes them. One for other models is refused: by names here, by the files' hashes when they
            are loaded.
        threshold: Confidence from which an answer is kept without a calibration.
        router: What scores the question before anything is generated; None to always begin with the first.
        skip_above: Score of `router` above which the first model is skipped.
        limits: What a question may cost.
        prices: For each model what it costs; None (or none at all) for what the model says itself, and for one that costs nothing.
            A local model can have a price too: that of the electricity.
        context_tokens: Most tokens of sources for each model, None for what `open` or `ask` says; none at all for all of them. A
            first model that reads few is cheap; the next one is given more.
        audit: Chooses a small share of questions that the last model answers too, although another one's answer was kept; that
            the two disagree counts as a loss. The user waits for it and gets the answer that was kept; `Rag.audit` tells how it
            stands. A disagreement is no loss where both are right, or the last is wrong: for calibrations from labelled
            questions, `alpha` is then to be the share of disagreements that is expected, not that of the calibrations.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> cascade = Cascade(["smollm2-135m", "gemma3-270m"])
        >>> with leanrag.open("kb", model=cascade) as rag:  # doctest: +SKIP
        ...     rag.ask("Who signs off releases?").steps
    """

    models: Sequence[Model]
    calibrations: Sequence[Calibration | None] = ()
    threshold: float = THRESHOLD
    router: QuestionScorer | None = None
    skip_above: float | None = None
    limits: Limits = field(default_factory=Limits)
    prices: Sequence[Prices | None] = ()
    context_tokens: Sequence[int | None] = ()
    audit: DriftAudit | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigurationError("a cascade needs a model at least, the smallest first, got none")
        if len(set(self.names)) < len(self.names):
            raise ConfigurationError(f"the models of a cascade need different names, got {', '.join(self.names)}")
        if self.calibrations and len(self.models) - len(self.calibrations) not in (0, 1):
            raise ConfigurationError(
                f"give a calibration (or None) for each of the {len(self.models)} models, or for each but the last, "
                f"got {len(self.calibrations)}"
            )
        if self.prices and len(self.prices) != len(self.models):
            raise ConfigurationError(
                f"`prices` needs prices (or None) for each of the {len(self.models)} models, got {len(self.prices)}"
            )
        if self.context_tokens and len(self.context_tokens) != len(self.models):
            raise ConfigurationError(
                f"`context_tokens` needs a number (or None) for each of the {len(self.models)} models, "
                f"got {len(self.context_tokens)}"
            )
        if few := [most for most in self.context_tokens if most is not None and most < 1]:
            raise ConfigurationError(f"`context_tokens` must be at least 1 for each model, got {few[0]!r}")
        for place, calibration in enumerate(self.calibrations):
            if calibration is not None:
                self._check_calibration(place, calibration)
        if not 0 <= self.threshold <= 1:
            raise ConfigurationError(f"`threshold` must be in [0, 1], got {self.threshold!r}")
        if (self.router is None) != (self.skip_above is None):
            raise ConfigurationError("`router` and `skip_above` belong together: give both or none")
        if self.router is not None and len(self.models) < 2:
            raise ConfigurationError(
                "`router` decides whether to skip the first model, so a cascade with a router needs at least two models, got "
                f"only {self.names[0]!r}; add a larger model, or leave `router` and `skip_above` out"
            )

    def _check_calibration(self, place: int, calibration: Calibration) -> None:
        own, *larger = (model_name(model) for model in self.models[place:])
        made_for = [model.name for model in calibration.models]
        if made_for[0] != own or not set(made_for[1:]) <= set(larger):
            raise ConfigurationError(
                f"calibration {place + 1} was made for {' and '.join(map(repr, made_for))}; the cascade has {own!r}, then "
                f"{', '.join(map(repr, larger)) or 'none'}. Calibrate again for these, or use the models that it was made for"
            )
        if tuple(calibration.features) != FEATURES:
            raise ConfigurationError(
                f"calibration {place + 1} was made from other signals ("
                f"{sorted(set(calibration.features) ^ set(FEATURES)) or 'the same in another order'}). Calibrate again"
            )
        if len(made_for) < 2 or calibration.label_source != "labelled":
            return
        beside = self.calibration(place + 1 + larger.index(made_for[-1]))
        abstains_below = beside.abstain_below if beside else None
        if (calibration.larger_abstain_below or 0.0) != (abstains_below or 0.0):
            raise ConfigurationError(
                f"calibration {place + 1} was made beside a {made_for[-1]!r} that abstains below a confidence of "
                f"{calibration.larger_abstain_below or 0.0:.3f}; in the cascade it does below {abstains_below or 0.0:.3f}. Give "
                "all the calibrations that were made together, that of the last model too"
            )

    def check_file(self, name: str, sha256: Callable[[], str | None]) -> None:
        """Refuse a model whose file is not the one that the calibrations were made for.

        Args:
            name: The model's.
            sha256: Computes the hash of its file, None without one; called only when a calibration knows a hash.

        Raises:
            ConfigurationError: The hashes differ.
        """
        models = (model for calibration in self.calibrations if calibration for model in calibration.models)
        wanted = {model.sha256 for model in models if model.name == name and model.sha256}
        if wanted and (found := sha256()) is not None and wanted != {found}:
            raise ConfigurationError(
                f"the calibrations were made for the file of {name!r} with sha256 {min(wanted - {found})[:12]}; the one that is "
                f"loaded has {found[:12]}. Calibrate again for it, or use the file that they were made for"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, or what was given to load them by."""
        return tuple(_name(model) for model in self.models)

    def first(self, question: str) -> int:
        """Return the place of the model that is asked first."""
        if self.router is None or self.skip_above is None:
            return 0
        return int(self.router.score(question) > self.skip_above)

    def judge(self, place: int, signals: Signals) -> tuple[Confidence, bool]:
        """Return how sure the answer of a model is, and whether it is kept; that of the last model always is."""
        is_last = place == len(self.models) - 1
        calibration = self.calibration(place)
        if calibration is None:
            confidence = uncalibrated(signals)
            return confidence, is_last or confidence.value >= self.threshold
        row = signals.vector()[np.newaxis]
        confidence = Confidence(float(calibration.confidence(row)[0]), calibrated=True, signals=signals)
        return confidence, is_last or bool(calibration.keeps(row)[0])

    def asks(self, place: int, signals: Signals) -> bool:
        """Return whether a model is worth asking, by the signals known before (`leanrag.routing.signals.BEFORE`)."""
        calibration = self.calibration(place)
        return calibration is None or bool(calibration.asks(signals.vector()[np.newaxis])[0])

    def most_tokens(self, place: int, context_tokens: int | None) -> int | None:
        """Return the most tokens of sources for a model, `context_tokens` where it has no number of its own."""
        own = self.context_tokens[place] if self.context_tokens else None
        return context_tokens if own is None else own

    def calibration(self, place: int) -> Calibration | None:
        """Return what was learnt of a model's answers, None for nothing."""
        return self.calibrations[place] if place < len(self.calibrations) else None


def model_name(model: Model) -> str:
    """Return the name that a model has, or will have once it is loaded: of a file its own without the ending."""
    if not isinstance(model, (str, os.PathLike)):
        return model.name
    return model if isinstance(model, str) and not Path(model).exists() else Path(model).stem


def _name(model: Model) -> str:
    return os.fspath(model) if isinstance(model, (str, os.PathLike)) else model.name
