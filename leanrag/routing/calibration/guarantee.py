"""Bound a risk from a count of losses, and find the lowest confidence at which answers may be kept."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from leanrag.checks import check_share
from leanrag.errors import ConfigurationError
from leanrag.routing.calibration.arrays import as_scored, as_vector

__all__ = [
    "GuaranteedThreshold",
    "binomial_cdf",
    "clopper_pearson_upper",
    "guaranteed_threshold",
    "labels_needed",
    "least_escalation",
]


@functools.lru_cache(maxsize=4096)
def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """Return the exact upper bound of an error rate after `errors` errors in `n` trials.

    The bound is the largest `p` with `P(Binomial(n, p) <= errors) >= delta` (Clopper and Pearson, Biometrika 1934). For any true
    rate, the probability that the bound is below it is at most `delta`. The bound is found by bisection and rounded up. It is 1 if
    all trials are errors.

    Args:
        errors: In [0, n].
        n: Independent trials, at least 0.
        delta: In (0, 1).

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> round(clopper_pearson_upper(0, 300, 0.05), 4)
        0.0099
    """
    if not 0 <= errors <= n:
        raise ConfigurationError(f"`errors` must be in [0, n], got {errors!r} of {n!r}")
    check_share(open_ends="01", delta=delta)
    if errors == n:
        return 1.0
    below, above = 0.0, 1.0
    while below < (middle := (below + above) / 2) < above:
        if binomial_cdf(errors, n, middle) >= delta:
            below = middle
        else:
            above = middle
    return above


def labels_needed(alpha: float, delta: float) -> int:
    """Return how many rows without a loss certify a risk of at most `alpha`: the smallest `n` with `(1 - alpha)^n <= delta`.

    With fewer rows no threshold can be certified.

    Example:
        >>> labels_needed(0.05, 0.1)
        45
    """
    check_share(open_ends="01", alpha=alpha)
    check_share(open_ends="01", delta=delta)
    return math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-12)


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


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return `P(Binomial(n, p) <= k)` for `0 <= k < n` and `0 < p < 1`, as a sum of terms: small values stay precise."""
    j = np.arange(1, k + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - j + 1) / j))])
    j = np.arange(k + 1)
    return min(1.0, math.fsum(np.exp(log_choose + j * math.log(p) + (n - j) * math.log1p(-p)).tolist()))
