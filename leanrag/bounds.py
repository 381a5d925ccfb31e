"""Exact bounds of a rate of errors, from a count of them."""

from __future__ import annotations

import functools
import math

import numpy as np

from leanrag.checks import check_share
from leanrag.errors import ConfigurationError

__all__ = ["binomial_cdf", "clopper_pearson_upper", "labels_needed"]


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


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Return `P(Binomial(n, p) <= k)` for `0 <= k < n` and `0 < p < 1`, as a sum of terms: small values stay precise."""
    j = np.arange(1, k + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - j + 1) / j))])
    j = np.arange(k + 1)
    return min(1.0, math.fsum(np.exp(log_choose + j * math.log(p) + (n - j) * math.log1p(-p)).tolist()))
