"""Fit probabilities: a logistic model on features, an isotonic model on scores."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from leanrag.checks import check_positive
from leanrag.errors import ConfigurationError
from leanrag.routing.calibration.arrays import Floats, as_matrix, as_rows, as_scored, as_vector, check_both_classes

__all__ = ["IsotonicModel", "LogisticModel", "Predictor", "cross_fit", "fit_isotonic", "fit_logistic"]

Predictor: TypeAlias = Callable[[Floats], Floats]
"""A function from features `(n, d)` to probabilities `(n,)`."""


@dataclass(frozen=True, slots=True)
class LogisticModel:
    """`p = 1 / (1 + exp(-(intercept + weights . (x - means) / scales)))`.

    Attributes:
        means: Mean of each feature over the fitted rows.
        scales: Standard deviation of each feature; 1 for a constant feature, whose weight is 0.
        weights: Weight of each standardised feature.
        intercept: Log-odds of a row whose features are equal to the means.
    """

    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float

    def predict(self, features: ArrayLike) -> Floats:
        """Return the probabilities `(n,)` for features `(n, d)`.

        Raises:
            ConfigurationError: `features` has another shape or holds a number that is not finite.
        """
        rows = as_matrix(features)
        if rows.shape[1] != len(self.weights):
            raise ConfigurationError(
                f"`features` must have {len(self.weights)} columns, as fitted, got {rows.shape[1]}"
            )
        standard = (rows - np.array(self.means)) / np.array(self.scales)
        return _sigmoid(self.intercept + standard @ np.array(self.weights))


def fit_logistic(features: ArrayLike, labels: ArrayLike, l2: float = 1.0) -> LogisticModel:
    """Fit a logistic regression by Newton's method, that is, iteratively reweighted least squares.

    Minimises the negative log-likelihood, summed over rows, plus `l2 / 2` times the squared norm of the weights of the
    standardised features; the intercept is free (Hastie, Tibshirani and Friedman, The Elements of Statistical Learning, 2009,
    sections 4.4.1 and 4.4.4). A step that would not decrease this is halved.

    Args:
        features: `(n, d)`, finite.
        labels: `(n,)`, each 0 or 1; both must occur.
        l2: Must be above 0, because separable rows have no optimum without a penalty.

    Raises:
        ConfigurationError: An argument cannot work.
    """
    rows, y = as_rows(features, labels)
    check_positive(l2=l2)
    check_both_classes(y)
    means, scales = rows.mean(axis=0), rows.std(axis=0)
    constant = (rows == rows[0]).all(axis=0)
    means[constant] = rows[0, constant]  # a rounded mean would give a constant feature values other than 0
    scales[constant | (scales == 0)] = 1.0
    design = np.column_stack([np.ones(len(y)), (rows - means) / scales])  # (n, d + 1)
    ridge = np.full(design.shape[1], float(l2))
    ridge[0] = 0.0

    def objective(beta: Floats) -> float:
        logits = design @ beta
        return float(np.sum(np.logaddexp(0.0, logits) - y * logits) + 0.5 * np.sum(ridge * beta**2))

    beta = np.zeros(design.shape[1])
    beta[0] = _logit(float(y.mean()))
    value = objective(beta)
    for _ in range(100):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (p - y) + ridge * beta
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        while objective(beta - step) > value + 1e-12 * abs(value):
            step /= 2
        beta = beta - step
        value = objective(beta)
        if np.abs(step).max() < 1e-10:
            break
    return LogisticModel(_floats(means), _floats(scales), _floats(beta[1:]), float(beta[0]))


@dataclass(frozen=True, slots=True)
class IsotonicModel:
    """A function that does not decrease: linear between knots, constant outside them.

    Attributes:
        scores: Scores of the knots, increasing.
        values: Probabilities at the knots, increasing.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]

    def predict(self, scores: ArrayLike) -> Floats:
        """Return the probabilities `(n,)` for scores `(n,)`."""
        return np.interp(as_vector("scores", scores), self.scores, self.values)


def fit_isotonic(scores: ArrayLike, labels: ArrayLike) -> IsotonicModel:
    """Fit the probability of a label as a function of a score that does not decrease.

    Rows with equal scores are pooled. Neighbouring blocks are pooled while the mean of the earlier block is not below that of the
    later block (pool adjacent violators: Ayer et al., Annals of Mathematical Statistics 1955). Each block becomes a knot at the
    mean score and the mean label of its rows, and the knots are connected by lines (centred isotonic regression: Oron and
    Flournoy, Statistics in Biopharmaceutical Research 2017). So scores between the outer knots keep their order. If the mean
    label increases with the score everywhere, the fit is the mean label.

    Args:
        scores: `(n,)`, finite.
        labels: `(n,)`, each 0 or 1.

    Raises:
        ConfigurationError: An argument cannot work.
    """
    x, y = as_scored(scores, labels)
    distinct, group = np.unique(x, return_inverse=True)
    counts = np.bincount(group)
    sums = np.bincount(group, weights=y)
    blocks: list[tuple[float, float, float]] = []  # rows, sum of labels, sum of scores
    for score, count, total in zip(distinct.tolist(), counts.tolist(), sums.tolist(), strict=True):
        block = (float(count), total, score * count)
        while blocks and blocks[-1][1] * block[0] >= block[1] * blocks[-1][0]:  # means, without a division
            before = blocks.pop()
            block = (before[0] + block[0], before[1] + block[1], before[2] + block[2])
        blocks.append(block)
    return IsotonicModel(
        scores=tuple(weighted / count for count, _, weighted in blocks),
        values=tuple(total / count for count, total, _ in blocks),
    )


def cross_fit(
    features: ArrayLike,
    labels: ArrayLike,
    fit: Callable[[Floats, Floats], Predictor],
    *,
    folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Return for each row the probability `(n,)` from a model that was fitted without this row.

    Each class is spread evenly over the folds, in a random order.

    Args:
        features: `(n, d)`, finite.
        labels: `(n,)`, each 0 or 1; each must occur at least twice.
        fit: Fits a `Predictor` on the features and labels of some rows.
        folds: At least 2.
        seed: Seed of the random order.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> x = np.arange(20.0)[:, None]
        >>> p = cross_fit(x, x[:, 0] > 9.5, lambda x, y: fit_logistic(x, y).predict)
        >>> bool(auroc(p, x[:, 0] > 9.5) > 0.9)
        True
    """
    rows, y = as_rows(features, labels)
    if not 2 <= folds <= len(y):
        raise ConfigurationError(f"`folds` must be in [2, {len(y)}] for {len(y)} rows, got {folds!r}")
    check_both_classes(y, each=2)
    random = np.random.default_rng(seed)
    order = np.concatenate([random.permutation(np.flatnonzero(y == label)) for label in (0.0, 1.0)])
    fold = np.empty(len(y), np.int64)
    fold[order] = np.arange(len(y)) % folds
    out = np.empty(len(y))
    for number in range(folds):
        is_unseen = fold == number
        out[is_unseen] = fit(rows[~is_unseen], y[~is_unseen])(rows[is_unseen])
    return out


def _sigmoid(logits: Floats) -> Floats:
    small = np.exp(-np.abs(logits))
    p: Floats = np.where(logits >= 0, 1.0, small) / (1 + small)
    return p


def _logit(p: float) -> float:
    return math.log(p) - math.log1p(-p)


def _floats(array: Floats) -> tuple[float, ...]:
    return tuple(array.tolist())
