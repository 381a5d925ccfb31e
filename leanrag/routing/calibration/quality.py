"""How good probabilities are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from leanrag.checks import check_whole
from leanrag.routing.calibration.arrays import as_forecast, as_scored, check_both_classes

__all__ = ["auroc", "brier", "expected_calibration_error"]


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the probability that a row with label 1 scores higher than a row with label 0; a tie counts half.

    The area under the receiver operating characteristic, by ranks (Hanley and McNeil, Radiology 1982).

    Raises:
        ConfigurationError: An argument cannot work, or only one class occurs.

    Example:
        >>> auroc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1])
        0.875
    """
    x, y = as_scored(scores, labels)
    check_both_classes(y)
    _, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]  # from 1, ties share their mean
    ones = float(y.sum())
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 15) -> float:
    """Return the mean distance between probability and frequency over bins with equally many rows.

    `sum_b n_b / n * |mean label - mean probability|` (Naeini et al., AAAI 2015; bins of equal mass: Nguyen and O'Connor, EMNLP
    2015). Rows with equal probability are in the same bin, so their order does not matter. A perfect forecast does not give 0 but
    about `sqrt(bins / n)`, so report the number of rows with it.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> round(expected_calibration_error([0.2, 0.2, 0.8, 0.8], [0, 0, 1, 1], bins=2), 9)
        0.2
    """
    p, y = as_forecast(probabilities, labels)
    check_whole(1, bins=bins)
    order = np.argsort(p, kind="stable")
    p, y = p[order], y[order]
    ends = np.ceil(np.arange(1, bins + 1) * len(p) / bins).astype(np.int64)
    ends = np.unique(np.searchsorted(p, p[ends - 1], side="right"))
    starts = np.concatenate([[0], ends[:-1]])
    return float(np.abs(np.add.reduceat(y - p, starts)).sum() / len(p))


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean squared difference between probability and label (Brier, Monthly Weather Review 1950).

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> brier([0.5, 1.0], [0, 1])
        0.125
    """
    p, y = as_forecast(probabilities, labels)
    return float(np.mean((p - y) ** 2))
