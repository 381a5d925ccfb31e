"""Bound a risk from a count of losses, and find the lowest confidence at which answers may be kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from leanrag.bounds import clopper_pearson_upper
from leanrag.checks import check_share
from leanrag.routing.calibration.arrays import as_scored, as_vector

__all__ = [
    "GuaranteedThreshold",
    "guaranteed_threshold",
    "least_escalation",
]


def least_escalation(risk: float, alpha: float, *, of: Literal["all", "kept"] = "all") -> float:
    """Return the share of questions that every method must pass on, even a method that knows the right answers.

    `risk` is the loss of keeping every answer of the smaller model. A method that passes on the share `e` avoids at most `e` of
    that loss. So it needs `risk - e <= alpha` over all questions, or `(risk - e) / (1 - e) <= alpha` among the kept ones.

    Args:
        risk: In [0, 1].
        alpha: Highest risk, in (0, 1).
        of: Whether `alpha` is a share of "all" questions, as in `guaranteed_threshold`, or of the "kept" questions.

    Example:
        >>> round(least_escalation(0.25, 0.05), 9), round(least_escalation(0.24, 0.05, of="kept"), 9)
        (0.2, 0.2)
    """
    check_share(risk=risk)
    check_share(open_ends="01", alpha=alpha)
    return max(0.0, risk - alpha) / (1.0 if of == "all" else 1 - alpha)


@dataclass(frozen=True, slots=True)
class GuaranteedThreshold:
    """The lowest confidence at which answers may be kept.

    Attributes:
        threshold: Keep answers with at least this confidence; None if no answer may be kept.
        kept: Share of the rows that are kept.
        losses: Number of kept rows with a loss.
        n: Number of rows.
        bound: Upper bound of the risk, at most `alpha`; 0 if nothing is kept.
        alpha: Highest risk.
        delta: Probability that the risk is above `alpha`, because the rows were misleading.
        least_escalated: Share that every method must pass on; see `least_escalation`.
    """

    threshold: float | None
    kept: float
    losses: int
    n: int
    bound: float
    alpha: float
    delta: float
    least_escalated: float


def guaranteed_threshold(
    confidences: ArrayLike,
    losses: ArrayLike,
    alpha: float,
    delta: float,
    grid: ArrayLike | None = None,
) -> GuaranteedThreshold:
    """Return the lowest threshold whose risk is at most `alpha`, with probability `1 - delta` over the draw of the rows.

    Fixed-sequence testing (Angelopoulos et al., Learn then Test, 2021, section 2.2): the thresholds are tried from the highest to
    the lowest, until the `clopper_pearson_upper` bound of a threshold exceeds `alpha`. The guarantee holds if the rows are
    exchangeable with future questions and were not used to fit the confidences.

    Args:
        confidences: `(n,)`, higher is better.
        losses: `(n,)`, each 0 or 1: the loss of keeping the answer.
        alpha: Highest risk, in (0, 1).
        delta: Probability of a wrong guarantee, in (0, 0.5].
        grid: Thresholds to try; None for all the confidences. As a threshold falls, the risk and the count of losses only
            grow, so no grid needs to be chosen beforehand (Bates et al., Journal of the ACM 2021, theorem 1).

    Raises:
        ConfigurationError: An argument cannot work.
    """
    x, y = as_scored(confidences, losses, ("confidences", "losses"))
    check_share(open_ends="01", alpha=alpha)
    check_share(highest=0.5, open_ends="0", delta=delta)
    n = len(x)
    order = np.argsort(-x, kind="stable")
    lost = np.concatenate([[0], np.cumsum(y[order])]).astype(np.int64)  # among the m most confident
    tried = np.unique(x if grid is None else as_vector("grid", grid))[::-1]
    kept = np.searchsorted(-x[order], -tried, side="right")
    best: int | None = None
    bounds: dict[int, float] = {}
    for i, count in enumerate(lost[kept].tolist()):
        if count not in bounds:
            bounds[count] = clopper_pearson_upper(count, n, delta)
        if bounds[count] > alpha:
            break
        best = i
    least = least_escalation(float(y.mean()), alpha)
    if best is None:
        return GuaranteedThreshold(None, 0.0, 0, n, 0.0, alpha, delta, least)
    count = int(lost[kept[best]])
    return GuaranteedThreshold(float(tried[best]), float(kept[best] / n), count, n, bounds[count], alpha, delta, least)
