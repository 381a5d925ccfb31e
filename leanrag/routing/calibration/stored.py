"""What labelled questions taught about a model, and how it is saved."""

from __future__ import annotations

import datetime
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray

from leanrag.bounds import clopper_pearson_upper, labels_needed
from leanrag.checks import check_share
from leanrag.errors import ConfigurationError
from leanrag.files import RecordFormat, read_record, write_record
from leanrag.routing.calibration.arrays import Floats, as_labels, as_matrix, as_rows, check_both_classes
from leanrag.routing.calibration.fitting import (
    IsotonicModel,
    LogisticModel,
    Predictor,
    cross_fit,
    fit_isotonic,
    fit_logistic,
)
from leanrag.routing.calibration.guarantee import guaranteed_threshold, least_escalation
from leanrag.routing.calibration.quality import auroc, brier, expected_calibration_error

__all__ = ["CalibratedModel", "Calibration", "rows_needed"]

MIN_FIT_ROWS = 20
"""Fewest rows for a logistic model."""

MIN_CLASS_ROWS = 5
"""Fewest rows of each class for a logistic model."""

ISOTONIC_ROWS = 300
"""Fewest fitted rows for an isotonic fit after the logistic fit; with fewer rows it follows the noise."""

_FORMAT = RecordFormat("leanrag calibration", version=1, noun="calibration", mend="Calibrate again")
_log = logging.getLogger(__name__)


class CalibratedModel(pydantic.BaseModel):
    """A model that a calibration is valid for.

    Attributes:
        name: Its name.
        sha256: Hash of its file; None for a remote model, which has only a name.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str | None = pydantic.Field(default=None, pattern="^[0-9a-f]{64}$")


class Calibration(pydantic.BaseModel):
    """What labelled questions taught about the answers of a smaller model, compared with a larger one.

    Attributes:
        features: Names of the columns, in order.
        right: Probability that the smaller model is right.
        isotonic: Corrects `right`; None if there were too few rows to fit it.
        gap: Probability that the larger model is right and the smaller model is wrong; None if there were too few such rows.
        abstain_below: The model abstains below this confidence; None if that was not learnt.
        before: Probability that the model will be right, from the signals before it is asked; None if that was not learnt.
        ask_from: The model is asked if `before` gives at least this value; None always asks it.
        larger_abstain_below: The larger model abstained below this confidence; None if it never abstained.
        threshold: An answer is kept if its `keep_score` is at least this; None if no answer may be kept.
        alpha: Highest risk.
        delta: Probability that the risk is higher than `alpha`.
        rows_fitted: Number of rows that the probabilities were fitted on.
        rows_certified: Number of the other rows. The threshold and the figures below were computed from them.
        kept: Share of these rows that the threshold keeps.
        losses: Number of kept rows with a loss.
        bound: Upper bound of the risk.
        least_escalated: Share that every method must pass on; see `least_escalation`.
        auroc: AUROC of `confidence` for a right answer; None if only one class occurred.
        ece: Expected calibration error of `confidence`.
        brier: Mean squared error of `confidence`.
        label_source: "labelled", or "agreement with <model>": then "right" means that the two models agree.
        models: The models that it is valid for: the smaller, then the larger.
        created: The date on which it was made.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: tuple[str, ...]
    right: LogisticModel
    isotonic: IsotonicModel | None
    gap: LogisticModel | None
    abstain_below: float | None = pydantic.Field(default=None, ge=0, le=1)
    before: LogisticModel | None = None
    ask_from: float | None = pydantic.Field(default=None, gt=0, le=1)
    larger_abstain_below: float | None = pydantic.Field(default=None, ge=0, le=1)
    threshold: float | None
    alpha: float = pydantic.Field(gt=0, lt=1)
    delta: float = pydantic.Field(gt=0, le=0.5)
    rows_fitted: int
    rows_certified: int
    kept: float = pydantic.Field(ge=0, le=1)
    losses: int = pydantic.Field(ge=0)
    bound: float = pydantic.Field(ge=0, le=1)
    least_escalated: float = pydantic.Field(ge=0, le=1)
    auroc: float | None
    ece: float
    brier: float
    label_source: str = pydantic.Field(pattern=r"^(labelled|agreement with \S.*)$")
    models: tuple[CalibratedModel, ...] = pydantic.Field(min_length=1)
    created: datetime.date

    @pydantic.model_validator(mode="after")
    def _check_shapes(self) -> Calibration:
        for head in (self.right, self.gap, self.before):
            if head and {len(head.means), len(head.scales), len(head.weights)} != {len(self.features)}:
                raise ValueError(f"a logistic model does not have one weight for each of {len(self.features)} features")
            if head and min(head.scales) <= 0:
                raise ValueError("a scale is not above 0")
        if self.isotonic is not None:
            scores, values = self.isotonic.scores, self.isotonic.values
            if (
                len(scores) != len(values)
                or not scores
                or list(scores) != sorted(scores)
                or list(values) != sorted(values)
            ):
                raise ValueError("the isotonic knots do not increase")
            if values[0] < 0 or values[-1] > 1:
                raise ValueError("an isotonic value is not a probability")
        return self

    @classmethod
    def fit(
        cls,
        features: ArrayLike,
        right: ArrayLike,
        larger_right: ArrayLike | None = None,
        unanswerable: ArrayLike | None = None,
        *,
        larger_abstain_below: float | None = None,
        names: Sequence[str],
        before: Sequence[str] = (),
        models: Mapping[str, str | None],
        created: datetime.date,
        label_source: str = "labelled",
        alpha: float = 0.05,
        delta: float = 0.1,
        l2: float | None = None,
        fit_share: float = 0.5,
        isotonic: bool | None = None,
        seed: int = 0,
    ) -> Calibration:
        """Learn from questions that the smaller model answered.

        The probabilities are fitted on a random part of the rows. The other rows, which the fit has not seen, set the threshold
        and show how good the probabilities are, so that the guarantee is exactly that of `guaranteed_threshold`. An isotonic
        correction is fitted on probabilities that are themselves cross-fitted. Answers are kept by the probability of a gap, or
        by that of being right if `larger_right` is None or has fewer than `MIN_CLASS_ROWS` gaps in the fitted part. Either way
        the guarantee is about the loss: `larger_right and not right`, or `not right`.

        With `unanswerable`, `abstain_below` is the confidence below which, among the fitted rows, it was more often right to say
        that the sources do not answer than to answer. An answer below it then counts as right if the sources do not answer, and
        as wrong otherwise. With `before` too, `ask_from` is the largest predicted probability below which, among the fitted rows,
        abstaining without asking was right as often as asking. A question below it is not passed on. `ask_from` is dropped if
        the fitted rows do not certify it, because the other rows would probably not certify it either.

        Args:
            features: `(n, d)`, finite: the signals of each answer.
            right: `(n,)`: whether the smaller model was right; for agreement labels, whether it agrees with the larger one.
            larger_right: `(n,)`: whether the larger model was right; None if that is unknown, or if its answers are the labels.
            unanswerable: `(n,)`: whether the sources do not answer; None never abstains.
            larger_abstain_below: The larger model abstained below this confidence in `larger_right`; None if it did not abstain.
            names: Names of the columns of `features`.
            before: Names of the signals that are known before the model is asked.
            models: Names of the smaller and the larger model, in this order, and sha256 of their files; None if there is no file.
            created: The date.
            label_source: "labelled", or "agreement with <model>".
            alpha: Highest risk, in (0, 1).
            delta: Probability of a wrong guarantee, in (0, 0.5].
            l2: See `fit_logistic`. None uses half the number of columns; the logits are then expected to vary by about 1.4 for
                any number of signals.
            fit_share: Share of the rows to fit on, in (0, 1).
            isotonic: Whether to correct by an isotonic fit; None corrects if there are at least `ISOTONIC_ROWS` fitted rows.
            seed: Seed of the random parts and folds.

        Raises:
            ConfigurationError: An argument cannot work, there are too few rows, or all rows have the same label.
        """
        rows, y = as_rows(features, right, "right")
        names = tuple(names)
        if len(names) != rows.shape[1] or len(set(names)) != len(names):
            raise ConfigurationError(
                f"`names` must name each of the {rows.shape[1]} columns of `features` once, got {len(names)}: {names!r}"
            )
        _check_source(label_source, larger_right)
        identities = _identities(models)
        larger = np.ones(len(y)) if larger_right is None else as_labels("larger_right", larger_right, len(y))
        is_unanswerable = None if unanswerable is None else as_labels("unanswerable", unanswerable, len(y))
        needed = rows_needed(alpha, delta, fit_share)
        if len(y) < needed:
            raise ConfigurationError(
                f"{len(y)} rows cannot certify a risk of at most {alpha} with probability {1 - delta:g}: at least {needed} are "
                f"needed, and many more to keep a large share. Label more questions, or raise `alpha` or `delta`"
            )
        order = np.random.default_rng(seed).permutation(len(y))
        n_fit = int(len(y) * fit_share)
        fitted, certified = order[:n_fit], order[n_fit:]
        check_both_classes(y[fitted], each=MIN_CLASS_ROWS, of=f"fitted rows, {fit_share:.0%} of {len(y)}")
        fitter = _Fitter(fitted, rows.shape[1] / 2 if l2 is None else l2, seed)
        head, unseen = fitter.fit(rows, y), fitter.cross_fit(rows, y)
        is_corrected = n_fit >= ISOTONIC_ROWS if isotonic is None else isotonic
        correction = fit_isotonic(unseen, y[fitted]) if is_corrected else None
        p = np.empty(len(y))
        p[fitted] = unseen if correction is None else correction.predict(unseen)
        p[certified] = _confidence(head, correction, rows[certified])
        abstain_below, good = None, y
        if is_unanswerable is not None:
            abstain_below = _cut(p[fitted], y[fitted], is_unanswerable[fitted])
            good = np.where(p < abstain_below, is_unanswerable, y)
        foresight, ask_from, is_asked = None, None, np.ones(len(y), np.bool_)
        if is_unanswerable is not None and before:
            early = rows * np.isin(names, before)  # the others weigh nothing
            foresight = fitter.fit(early, y)
            chances = foresight.predict(early)
            chances[fitted] = fitter.cross_fit(early, y)
            ask_from = _cut(chances[fitted], good[fitted], is_unanswerable[fitted], is_last=True)
            is_lost = larger * (1 - is_unanswerable) * (chances < ask_from)
            if clopper_pearson_upper(int(is_lost[fitted].sum()), n_fit, delta) <= alpha:
                is_asked = chances >= ask_from
                good = np.where(is_asked, good, is_unanswerable)
            else:
                ask_from = None
        loss = (1 - good) * larger
        _log.info("any method must pass on %.1f %% of the questions", 100 * least_escalation(float(loss.mean()), alpha))
        gap = None
        gaps = float(loss[fitted].sum())
        if larger_right is not None and MIN_CLASS_ROWS <= gaps <= n_fit - MIN_CLASS_ROWS:
            gap = fitter.fit(rows, loss)
        scores = np.where(is_asked, _keep_score(head, gap, rows), 2.0)  # what is not asked is not passed on
        found = guaranteed_threshold(scores[certified], loss[certified], alpha, delta)
        return cls(
            features=names,
            right=head,
            isotonic=correction,
            gap=gap,
            abstain_below=abstain_below,
            before=foresight,
            ask_from=None if found.threshold is None else ask_from or None,
            larger_abstain_below=larger_abstain_below,
            threshold=found.threshold,
            alpha=alpha,
            delta=delta,
            rows_fitted=n_fit,
            rows_certified=len(certified),
            kept=found.kept,
            losses=found.losses,
            bound=found.bound,
            least_escalated=found.least_escalated,
            auroc=auroc(p[certified], y[certified]) if 0 < y[certified].sum() < len(certified) else None,
            ece=expected_calibration_error(p[certified], y[certified]),
            brier=brier(p[certified], y[certified]),
            label_source=label_source,
            models=identities,
            created=created,
        )

    def confidence(self, features: ArrayLike) -> Floats:
        """Return for rows `(n, d)` the probabilities `(n,)` that the smaller model's answers are right."""
        return _confidence(self.right, self.isotonic, as_matrix(features))

    def asks(self, features: ArrayLike) -> NDArray[np.bool_]:
        """Return for rows `(n, d)` whether the model is worth asking, `(n,)`; only the signals `before` count."""
        rows = as_matrix(features)
        if self.before is None or self.ask_from is None:
            return np.ones(len(rows), np.bool_)
        return self.before.predict(rows) >= self.ask_from

    def abstains(self, confidence: ArrayLike) -> NDArray[np.bool_]:
        """Return for confidences `(n,)` whether it is better to say that the sources do not answer, `(n,)`."""
        values = np.asarray(confidence, np.float64)
        return np.zeros(len(values), np.bool_) if self.abstain_below is None else values < self.abstain_below

    def keep_score(self, features: ArrayLike) -> Floats:
        """Return for rows `(n, d)` the value that is compared with the threshold, `(n,)` in [0, 1].

        It is 1 minus the probability of a gap. If the gap was not learnt, it is the probability of being right, without the
        isotonic correction, because the correction gives the same value to different answers.
        """
        return _keep_score(self.right, self.gap, as_matrix(features))

    def keeps(self, features: ArrayLike) -> NDArray[np.bool_]:
        """Return for rows `(n, d)` whether to keep the smaller model's answers, `(n,)`."""
        scores = self.keep_score(features)
        return np.zeros(len(scores), np.bool_) if self.threshold is None else scores >= self.threshold

    def save(self, path: str | Path) -> None:
        """Write the calibration to `path`. An existing file is replaced only by a complete new file.

        Raises:
            StorageError: The file cannot be written.
        """
        write_record(Path(path), self, _FORMAT)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        models: Mapping[str, str | None] | None = None,
        features: Sequence[str] | None = None,
    ) -> Calibration:
        """Return the calibration that `save` wrote.

        Args:
            path: The file.
            models: The models in use, as for `fit`; None does not check them. If one of the two hashes is unknown, only the names
                are compared.
            features: Names of the columns that will be used; None does not check them.

        Raises:
            StorageError: The file cannot be read, is incomplete or edited, or was written by another version.
            ConfigurationError: It was made for other models or features.
        """
        path = Path(path)
        calibration = read_record(path, cls, _FORMAT)
        if models is not None and not _same_models(calibration.models, _identities(models)):
            raise ConfigurationError(
                f"the calibration {str(path)!r} was made for {_describe(calibration.models)}, but the models in use are "
                f"{_describe(_identities(models))}. Calibrate again for these models, or use the models of the calibration"
            )
        if features is not None and calibration.features != tuple(features):
            other = sorted(set(calibration.features) ^ set(features)) or "the same in another order"
            raise ConfigurationError(
                f"the calibration {str(path)!r} was made from other signals ({other}). Calibrate again"
            )
        return calibration


@dataclass(frozen=True, slots=True)
class _Fitter:
    """Fits logistic models on some of the rows.

    Attributes:
        fitted: Indices of these rows.
        penalty: As `l2` of `fit_logistic`.
        seed: Seed of the folds.
    """

    fitted: NDArray[np.int64]
    penalty: float
    seed: int

    def fit(self, rows: Floats, labels: Floats) -> LogisticModel:
        return fit_logistic(rows[self.fitted], labels[self.fitted], self.penalty)

    def cross_fit(self, rows: Floats, labels: Floats) -> Floats:
        """Return the probabilities of the fitted rows, each from a model that has not seen it."""

        def fit_rows(some: Floats, its_labels: Floats) -> Predictor:
            return fit_logistic(some, its_labels, self.penalty).predict

        return cross_fit(rows[self.fitted], labels[self.fitted], fit_rows, seed=self.seed)


def rows_needed(alpha: float, delta: float, fit_share: float = 0.5) -> int:
    """Return the fewest rows with which `Calibration.fit` can certify a threshold.

    Example:
        >>> rows_needed(0.05, 0.1)
        90
    """
    check_share(open_ends="01", fit_share=fit_share)
    return max(math.ceil(MIN_FIT_ROWS / fit_share), math.ceil(labels_needed(alpha, delta) / (1 - fit_share)))


def _confidence(right: LogisticModel, isotonic: IsotonicModel | None, rows: Floats) -> Floats:
    p = right.predict(rows)
    return p if isotonic is None else isotonic.predict(p)


def _cut(scores: Floats, right: Floats, is_unanswerable: Floats, *, is_last: bool = False) -> float:
    """Return the value below which abstaining gives the most right outcomes: the first such value, or the last. 0 for never."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    gains = np.concatenate([[0.0], np.cumsum((is_unanswerable - right)[order])])  # of abstaining on the first n
    is_cut = np.concatenate([[True], ordered[1:] > ordered[:-1], [True]])  # no cut between equal values
    best = np.flatnonzero(is_cut & (gains == gains[is_cut].max()))[-1 if is_last else 0]
    if best == 0:
        return 0.0
    if best == len(ordered):
        return 1.0
    below, above = float(ordered[best - 1]), float(ordered[best])
    middle = (below + above) / 2
    return middle if middle > below else above  # between adjacent floats, the middle may be rounded down to `below`


def _keep_score(right: LogisticModel, gap: LogisticModel | None, rows: Floats) -> Floats:
    return right.predict(rows) if gap is None else 1 - gap.predict(rows)


def _check_source(label_source: str, larger_right: ArrayLike | None) -> None:
    if label_source == "labelled":
        return
    if not label_source.removeprefix("agreement with ").strip() or not label_source.startswith("agreement with "):
        raise ConfigurationError(f"`label_source` must be 'labelled' or 'agreement with <model>', got {label_source!r}")
    if larger_right is not None:
        raise ConfigurationError(
            "if the labels come from agreement, the larger model is right by definition. Remove `larger_right`"
        )


def _identities(models: Mapping[str, str | None]) -> tuple[CalibratedModel, ...]:
    if not models:
        raise ConfigurationError("`models` is empty. Name the models that gave the answers")
    try:
        return tuple(
            CalibratedModel(name=name, sha256=None if sha256 is None else sha256.lower())
            for name, sha256 in models.items()
        )
    except pydantic.ValidationError as error:
        raise ConfigurationError(
            f"`models` must map names to sha256 hashes of 64 digits, got {dict(models)!r}"
        ) from error


def _same_models(made_for: Sequence[CalibratedModel], in_use: Sequence[CalibratedModel]) -> bool:
    """Return whether they are the same models, in the same order."""
    return len(made_for) == len(in_use) and all(
        a.name == b.name and (a.sha256 == b.sha256 or a.sha256 is None or b.sha256 is None)
        for a, b in zip(made_for, in_use, strict=True)
    )


def _describe(models: Sequence[CalibratedModel]) -> str:
    return ", ".join(f"{model.name!r} ({model.sha256[:12] if model.sha256 else 'no hash'})" for model in models)
