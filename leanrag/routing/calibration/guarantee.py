"""What a count of losses says about a risk, and from which confidence on answers may be kept."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from leanrag.errors import ConfigurationError
from leanrag.routing.calibration.checks import open_unit, scored, vector

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
    """Return the exact upper bound of an error rate of which `errors` in `n` were seen.

    The largest `p` with `P(Binomial(n, p) <= errors) >= delta` (Clopper and Pearson, Biometrika 1934): whatever the true rate, the
    bound falls short of it with probability `delta` at most. Found by bisection, and rounded up; 1 when all are errors.

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
    open_unit("delta", delta)
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
    """Return how many rows without any loss certify a risk of at most `alpha`: the least `n` with `(1 - alpha)^n <= delta`.

    With fewer no threshold can be certified, whatever they say.

    Example:
        >>> labels_needed(0.05, 0.1)
        45
    """
    open_unit("alpha", alpha)
    open_unit("delta", delta)
    return math.ceil(math.log(delta) / math.log1p(-alpha) - 1e-12)


def least_escalation(risk: float, alpha: float, *, of: Literal["all", "kept"] = "all") -> float:
    """Return the share of questions that any method, even one that knows the right answers, must pass on.

    `risk` is what keeping every answer of the smaller model would lose. A method that passes on the share `e` is rid of at most
    `e` of it, so that `risk - e <= alpha` is needed over all questions, and `(risk - e) / (1 - e) <= alpha` among those kept.

    Args:
        risk: In [0, 1].
        alpha: What may be lost, in (0, 1).
        of: What `alpha` is a share of: "all" questions, as in `guaranteed_threshold`, or those "kept".

    Example:
        >>> round(least_escalation(0.25, 0.05), 9), round(least_escalation(0.24, 0.05, of="kept"), 9)
        (0.2, 0.2)
    """
    if not 0 <= risk <= 1:
        raise ConfigurationError(f"`risk` must be in [0, 1], got {risk!r}")
    open_unit("alpha", alpha)
    return max(0.0, risk - alpha) / (1.0 if of == "all" else 1 - alpha)


@dataclass(frozen=True, slots=True)
class GuaranteedThreshold:
    """From which confidence on answers may be kept.

    Attributes:
        threshold: Keep what is at least this confident; None when nothing may be kept.
        kept: Share of the rows that this keeps.
        losses: Rows among them that lose something.
        n: All rows.
        bound: Upper bound of the risk, at most `alpha`; 0 when nothing is kept.
        alpha: What the risk may be.
        delta: Probability with which the rows misled and the risk is above `alpha` all the same.
        least_escalated: What any method would pass on; see `least_escalation`.
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

    Fixed-sequence testing (Angelopoulos et al., Learn then Test, 2021, section 2.2): beginning from "pass on everything", one
    threshold after the other is tried, and the first whose `clopper_pearson_upper` bound exceeds `alpha` ends it. It holds for
    rows that are exchangeable with the questions to come and were not used to fit the confidences.

    Args:
        confidences: `(n,)`, higher is better.
        losses: `(n,)`, each 0 or 1: what keeping the answer would lose.
        alpha: What the risk may be, in (0, 1).
        delta: Probability of a wrong guarantee, in (0, 0.5].
        grid: Thresholds to try. Left out, all the confidences: the risk and the count of losses both only grow as a threshold
            falls, so that no grid need be chosen beforehand (Bates et al., Journal of the ACM 2021, theorem 1).

    Raises:
        ConfigurationError: An argument cannot work.
    """
    x, y = scored(confidences, losses, ("confidences", "losses"))
    open_unit("alpha", alpha)
    if not 0 < delta <= 0.5:
        raise ConfigurationError(f"`delta` must be in (0, 0.5], got {delta!r}")
    n = len(x)
    order = np.argsort(-x, kind="stable")
    lost = np.concatenate([[0], np.cumsum(y[order])]).astype(np.int64)  # among the m most confident
    tried = np.unique(x if grid is None else vector("grid", grid))[::-1]
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
    """`P(Binomial(n, p) <= k)` for `0 <= k < n` and `0 < p < 1`, term by term: small ones keep their relative precision."""
    j = np.arange(1, k + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - j + 1) / j))])
    j = np.arange(k + 1)
    return min(1.0, math.fsum(np.exp(log_choose + j * math.log(p) + (n - j) * math.log1p(-p)).tolist()))
