"""Choose the model that answers: the smallest model whose confidence is high enough.

`Cascade` is the policy: it decides from values. The pipeline asks the models, and packs the sources again for each model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from leanrag.checks import check_share, check_whole
from leanrag.errors import ConfigurationError
from leanrag.ledger import Limits, Prices
from leanrag.models import split_name
from leanrag.protocols import LanguageModel
from leanrag.routing.calibration import Calibration, DriftAudit
from leanrag.routing.confidence import Confidence, uncalibrated_confidence
from leanrag.routing.signals import SIGNAL_NAMES, Signals

__all__ = ["THRESHOLD", "Cascade", "QuestionScorer", "model_name"]

THRESHOLD = 0.5
"""An answer of a model without calibration is kept from this confidence on: a convention, not a probability."""

Model = str | os.PathLike[str] | LanguageModel
T = TypeVar("T")


class QuestionScorer(Protocol):
    """Scores how useful a larger model is for a question, before anything is generated. An example is `leanrag.QueryRouter`."""

    def score(self, question: str) -> float:
        """Return a score; higher means more useful."""


@dataclass(frozen=True)
class Cascade:
    """One or several models, the smallest first, and when the next model is asked.

    Attributes:
        models: Names, GGUF files or loaded models; the names must differ.
        calibrations: A calibration for each model except the last: it decides whether the model's answer is kept. None uses
            `threshold`. An empty sequence uses the calibrations that ship with readers, and `threshold` for other models. The
            last model may have a calibration too, which computes its confidence. It is required if the other calibrations were
            made together with a last model that abstains. `Rag.calibrate` makes calibrations. Calibrations for other models are
            refused: the names are compared here, and the hashes of the files when the models are loaded.
        threshold: An answer of a model without calibration is kept from this confidence on.
        router: Scores the question before anything is generated; None always begins with the first model.
        skip_above: If the score of `router` is higher than this, the first model is skipped.
        limits: The most that a question may use.
        prices: The prices of each model; None, or an empty sequence, uses the prices of the model itself. A local model can
            have a price too: that of the electricity.
        context_tokens: Most tokens of sources for each model; None uses the number of `open` or `ask`. A first model that reads
            few tokens is fast, and the next model can read more.
        audit: Chooses a small share of questions that the last model answers too, although another model's answer was kept. If
            the two answers disagree, that counts as a loss. The user waits for the second answer and gets the kept answer.
            `Rag.audit` returns the state. Two answers can disagree although nothing is lost: both may be right, or the last
            model may be wrong. So with calibrations from labelled questions, set the `alpha` of the audit to the share of
            disagreements that you expect, not to the `alpha` of the calibrations.

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
            raise ConfigurationError("a cascade needs at least one model, got none")
        if len(set(self.names)) < len(self.names):
            raise ConfigurationError(f"the models of a cascade need different names, got {', '.join(self.names)}")
        if self.calibrations and len(self.models) - len(self.calibrations) not in (0, 1):
            raise ConfigurationError(
                f"`calibrations` needs a calibration (or None) for each of the {len(self.models)} models, or for each model except "
                f"the last, got {len(self.calibrations)}"
            )
        if self.prices and len(self.prices) != len(self.models):
            raise ConfigurationError(
                f"`prices` needs prices (or None) for each of the {len(self.models)} models, got {len(self.prices)}"
            )
        currencies = sorted({prices.currency for prices in self.prices if prices is not None and prices.currency})
        if len(currencies) > 1:
            raise ConfigurationError(
                f"the `prices` of a cascade must have one currency, got {', '.join(map(repr, currencies))}. Convert them first"
            )
        if self.context_tokens and len(self.context_tokens) != len(self.models):
            raise ConfigurationError(
                f"`context_tokens` needs a number (or None) for each of the {len(self.models)} models, "
                f"got {len(self.context_tokens)}"
            )
        for tokens in self.context_tokens:
            check_whole(1, optional=True, context_tokens=tokens)
        for i, calibration in enumerate(self.calibrations):
            if calibration is not None:
                self._check_calibration(i, calibration)
        check_share(threshold=self.threshold)
        if (self.router is None) != (self.skip_above is None):
            raise ConfigurationError("`router` and `skip_above` work only together. Pass both, or neither")
        if self.router is not None and len(self.models) < 2:
            raise ConfigurationError(
                "`router` decides whether to skip the first model, so a cascade with a router needs at least two models, got "
                f"only {self.names[0]!r}. Add a larger model, or remove `router` and `skip_above`"
            )

    def _check_calibration(self, i: int, calibration: Calibration) -> None:
        name, *larger = (model_name(model) for model in self.models[i:])
        made_for = [model.name for model in calibration.models]
        if made_for[0] != name or not set(made_for[1:]) <= set(larger):
            raise ConfigurationError(
                f"calibration {i + 1} was made for {' and '.join(map(repr, made_for))}, but the cascade has {name!r}, then "
                f"{', '.join(map(repr, larger)) or 'no model'}. Calibrate again for these models, or use the models of the "
                "calibration"
            )
        if tuple(calibration.features) != SIGNAL_NAMES:
            raise ConfigurationError(
                f"calibration {i + 1} was made from other signals ("
                f"{sorted(set(calibration.features) ^ set(SIGNAL_NAMES)) or 'the same in another order'}). Calibrate again"
            )
        if len(made_for) < 2 or calibration.label_source != "labelled":
            return
        beside = self.calibration(i + 1 + larger.index(made_for[-1]))
        abstains_below = (beside.abstain_below if beside else None) or 0.0
        made_below = calibration.larger_abstain_below or 0.0
        if made_below != abstains_below:
            raise ConfigurationError(
                f"calibration {i + 1} was made with a model {made_for[-1]!r} that abstains below a confidence of "
                f"{made_below:.3f}, but in this cascade it abstains below {abstains_below:.3f}. Pass all calibrations that were "
                "made together, including the calibration of the last model"
            )

    def check_file(self, name: str, sha256: Callable[[], str | None]) -> None:
        """Refuse a model whose file is not the file that the calibrations were made for.

        Args:
            name: Name of the model.
            sha256: Returns the hash of its file, None if it has no file; called only when a calibration knows a hash.

        Raises:
            ConfigurationError: The hashes differ.
        """
        models = (model for calibration in self.calibrations if calibration for model in calibration.models)
        expected = {model.sha256 for model in models if model.name == name and model.sha256}
        if expected and (found := sha256()) is not None and expected != {found}:
            raise ConfigurationError(
                f"the calibrations were made for the file of {name!r} with sha256 {min(expected - {found})[:12]}, but the loaded "
                f"file has {found[:12]}. Calibrate again for this file, or use the file of the calibrations"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models; for a model that is not loaded, the name or file that was passed."""
        return tuple(_name(model) for model in self.models)

    def first(self, question: str) -> int:
        """Return the index of the model that is asked first."""
        if self.router is None or self.skip_above is None:
            return 0
        return int(self.router.score(question) > self.skip_above)

    def judge(self, i: int, signals: Signals) -> tuple[Confidence, bool]:
        """Return the confidence of the answer of model `i`, and whether it is kept. The answer of the last model is always kept."""
        is_last = i == len(self.models) - 1
        calibration = self.calibration(i)
        if calibration is None:
            confidence = uncalibrated_confidence(signals)
            return confidence, is_last or confidence.value >= self.threshold
        row = signals.vector()[np.newaxis]
        confidence = Confidence(float(calibration.confidence(row)[0]), calibrated=True, signals=signals)
        return confidence, is_last or bool(calibration.keeps(row)[0])

    def asks(self, i: int, signals: Signals) -> bool:
        """Return whether model `i` is worth asking, from the signals that are known before (`SIGNALS_BEFORE`)."""
        calibration = self.calibration(i)
        return calibration is None or bool(calibration.asks(signals.vector()[np.newaxis])[0])

    def most_tokens(self, i: int, context_tokens: T) -> int | T:
        """Return the most tokens of sources for model `i`; `context_tokens` if the cascade has no number for it."""
        tokens = self.context_tokens[i] if self.context_tokens else None
        return context_tokens if tokens is None else tokens

    def calibration(self, i: int) -> Calibration | None:
        """Return the calibration of model `i`, None if it has none."""
        return self.calibrations[i] if i < len(self.calibrations) else None


def model_name(model: Model) -> str:
    """Return the name of a model, or the name that it gets when it is loaded: for files, their names without the suffix."""
    if not isinstance(model, (str, os.PathLike)):
        return _name(model)
    parts = split_name(model)
    return "+".join(Path(part).stem if Path(part).exists() else part for part in parts)


def _name(model: Model) -> str:
    if isinstance(model, (str, os.PathLike)):
        return os.fspath(model)
    try:
        return model.name
    except AttributeError as error:
        raise ConfigurationError(
            f"a model must be a name, a GGUF file or a `LanguageModel`, got {model!r:.80}. For several models, pass "
            "`leanrag.Cascade([...])`"
        ) from error
