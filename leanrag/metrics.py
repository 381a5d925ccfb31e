"""Measures of retrieval and answers, as pure functions that use no model."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_share, check_whole
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "answer_in_context",
    "bootstrap_interval",
    "contains_answer",
    "exact_match",
    "f1",
    "mcnemar",
    "mean",
    "ndcg",
    "normalize_answer",
    "paired_bootstrap",
    "recall_at_k",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return `text` in lower case without punctuation, articles and extra spaces.

    The order of the steps is SQuAD's (Rajpurkar et al., EMNLP 2016, official evaluation script): case, punctuation,
    articles, spaces. Only ASCII punctuation is removed, and no space replaces it.

    Example:
        >>> normalize_answer("The  Eiffel-Tower, in Paris!")
        'eiffeltower in paris'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
    """Return whether `prediction` equals one of `answers`, normalised.

    Example:
        >>> exact_match("The Normans.", ["Vikings", "normans"])
        True
    """
    return normalize_answer(prediction) in {normalize_answer(answer) for answer in answers}


def contains_answer(prediction: str, answers: Iterable[str]) -> bool:
    """Return whether `prediction` contains one of `answers` as whole words, normalised.

    "Lost in the Middle" (Liu et al., TACL 2024) looks for a substring. This measure looks for whole words, so "12" does not
    contain "2". An answer that is empty after normalisation is never contained.

    Example:
        >>> contains_answer("It was built in 1889, in Paris.", ["1889"])
        True
    """
    words = f" {normalize_answer(prediction)} "
    return any(f" {answer} " in words for answer in map(normalize_answer, answers) if answer)


def f1(prediction: str, answers: Iterable[str]) -> float:
    """Return the best word-level F1 of `prediction` and any of `answers`, in [0, 1].

    As in SQuAD 2.0 (Rajpurkar et al., ACL 2018): when either side normalises to nothing, 1 if both do, else 0. With no
    `answers` at all it is 0.

    Example:
        >>> f1("the tall iron tower", ["iron tower"])
        0.8
    """
    words = normalize_answer(prediction).split()
    return max((_f1(words, normalize_answer(answer).split()) for answer in answers), default=0.0)


def _f1(prediction: list[str], answer: list[str]) -> float:
    if not prediction or not answer:
        return float(prediction == answer)
    shared = (Counter(prediction) & Counter(answer)).total()
    return 2 * shared / (len(prediction) + len(answer))


def recall_at_k(ranked: Iterable[Hashable], relevant: Hashable, k: int) -> bool:
    """Return whether `relevant` is among the first `k` distinct entries of `ranked`.

    If `ranked` has document ids, several chunks of one document count once.

    Example:
        >>> recall_at_k(["a", "a", "b"], "b", 2)
        True
    """
    check_whole(1, k=k)
    return relevant in list(dict.fromkeys(ranked))[:k]


def answer_in_context(context: str, answers: Iterable[str]) -> bool:
    """Return whether the context of a reader still contains an answer: `contains_answer` of the context.

    Example:
        >>> answer_in_context("[1] Rollo led the Normans.", ["rollo"])
        True
    """
    return contains_answer(context, answers)


def ndcg(gains: Sequence[float], relevant: Iterable[float]) -> float:
    """Return the normalised discounted cumulative gain of a ranking, in [0, 1] (Järvelin and Kekäläinen, TOIS 2002).

    Args:
        gains: The gain of each entry of the ranking, best rank first; 0 for an entry that is not relevant.
        relevant: The gains of everything that is relevant, found or not. The best ranking has them first, in order.

    Returns:
        The discounted gain divided by that of the best ranking of the same length; 0 if nothing is relevant.

    Example:
        >>> round(ndcg([0.0, 1.0, 1.0], [1.0, 1.0]), 4)
        0.6934
    """
    best = sorted(relevant, reverse=True)[: len(gains)]
    ideal = _discounted(best)
    return _discounted(gains) / ideal if ideal else 0.0


def _discounted(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def mean(values: Iterable[float]) -> float:
    """Return the mean.

    Raises:
        ConfigurationError: There are no values.

    Example:
        >>> mean([True, False, False, True])
        0.5
    """
    array = np.fromiter(values, np.float64)
    if not len(array):
        raise ConfigurationError("the mean of an empty list is not defined. Pass at least one value")
    return float(array.mean())


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64],
    *,
    statistic: Callable[[NDArray[np.float64]], float] | None = None,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a statistic (Efron and Tibshirani, 1993, chapter 13).

    Args:
        values: A row for each question, `(n,)` or `(n, columns)`. Whole rows are drawn, so paired columns stay paired.
        statistic: A function from rows to a number; None uses the mean.
        level: Share of the resamples inside the interval.
        resamples: Number of samples; each draws `n` rows with replacement.
        seed: Seed of the draws.

    Returns:
        `(low, high)`.

    Raises:
        ConfigurationError: There are no values, or `level` is not in (0, 1).

    Example:
        >>> bootstrap_interval([1.0, 1.0, 1.0])
        (1.0, 1.0)
    """
    rows = np.asarray(values, np.float64)
    if not len(rows):
        raise ConfigurationError("the interval of an empty list is not defined. Pass at least one value")
    check_share(open_ends="01", level=level)
    draws = _resample(rows, resamples, seed)
    return _middle([float(statistic(draw) if statistic else draw.mean()) for draw in draws], level)


def paired_bootstrap(
    before: Sequence[float] | NDArray[np.float64],
    after: Sequence[float] | NDArray[np.float64],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Return `(low, high, p)` of the mean difference `after - before` over the same questions.

    `p` is two-sided: twice the smaller share of the resamples whose mean difference is at most 0, or at least 0 (Efron and
    Tibshirani, 1993, chapter 15). It is never 0, because a resample more could differ.

    Args:
        before: A value for each question, `(n,)`.
        after: The other values of the same questions, in the same order, `(n,)`.
        level: Share of the resamples inside the interval.
        resamples: Number of samples; each draws `n` differences with replacement.
        seed: Seed of the draws.

    Raises:
        ConfigurationError: There are no values, `before` and `after` have different lengths, or `level` is not in (0, 1).

    Example:
        >>> paired_bootstrap([0.0, 1.0, 0.0], [0.0, 1.0, 0.0])
        (0.0, 0.0, 1.0)
    """
    if len(before) != len(after):
        raise ConfigurationError(f"pairs need as many values before as after, got {len(before)} and {len(after)}")
    differences = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    if not len(differences):
        raise ConfigurationError("the difference of two empty lists is not defined. Pass at least one pair")
    check_share(open_ends="01", level=level)
    means = np.array([draw.mean() for draw in _resample(differences, resamples, seed)])
    low, high = _middle(means, level)
    tail = min(int((means <= 0).sum()), int((means >= 0).sum()))
    return low, high, min(1.0, 2 * (tail + 1) / (resamples + 1))


def _resample(rows: NDArray[np.float64], resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Yield samples of as many rows, drawn with replacement."""
    random = np.random.default_rng(seed)
    for _ in range(resamples):
        yield rows[random.integers(0, len(rows), len(rows))]


def _middle(values: Sequence[float] | NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the bounds of the middle `level` of some values."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mcnemar(only_before: int, only_after: int) -> float:
    """Return the exact two-sided p-value of McNemar's test (McNemar, Psychometrika 1947): the binomial test of the changes.

    Args:
        only_before: Questions that only the first run has right.
        only_after: Questions that only the second run has right.

    Example:
        >>> mcnemar(1, 5)
        0.21875
    """
    check_whole(0, only_before=only_before, only_after=only_after)
    changes = only_before + only_after
    tail = sum(math.comb(changes, i) for i in range(min(only_before, only_after) + 1))
    return min(1.0, float(Fraction(2 * tail, 2**changes)))
