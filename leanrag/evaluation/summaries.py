"""Figures of a run with their intervals, and the comparison of two runs question by question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.checks import check_share
from leanrag.errors import ConfigurationError
from leanrag.evaluation.measures import METRICS, RIGHT, Metric, MetricFunction, to_metric
from leanrag.evaluation.running import Run
from leanrag.evaluation.tables import text_table
from leanrag.metrics import bootstrap_interval, mcnemar, paired_bootstrap

__all__ = ["Comparison", "Figure", "Summary", "compare", "questions_for", "summarize"]

FEW = 30
"""A figure from fewer questions says little, and its interval is too narrow: a convention."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a run.

    Attributes:
        name: Name of the metric.
        n: Questions that it is computed from.
        value: Its value; None if no question has the metric.
        low: Lower end of its bootstrap interval.
        high: Upper end.
        is_share: Whether it is from 0 to 1.
    """

    name: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    is_share: bool = True

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return "-"
        if self.is_share:
            return f"{self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run. Print it to see a table.

    Attributes:
        name: Name of the run.
        questions: Number of questions.
        failed: Number of questions that failed. They count as wrong.
        figures: The figures, in the order of the metrics.
        notes: What the reader must know about the figures.
    """

    name: str
    questions: int
    failed: int
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()

    def figure(self, name: str) -> Figure:
        """Return the figure with this name.

        Raises:
            ConfigurationError: There is no such figure.
        """
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise ConfigurationError(f"`name` must be one of {', '.join(f.name for f in self.figures)}, got {name!r}")

    def __str__(self) -> str:
        rows = [(figure.name, str(figure.n), str(figure)) for figure in self.figures if figure.n]
        head = f"{self.name}: {self.questions} questions, {self.failed} failed"
        return "\n".join([head, text_table(("metric", "n", "value [95 %]"), rows), *self.notes])


def summarize(
    run: Run,
    metrics: Sequence[Metric | MetricFunction] = (),
    *,
    right: Metric | MetricFunction = RIGHT,
    level: float = 0.95,
    seed: int = 0,
) -> Summary:
    """Return the metrics of a run, each with its bootstrap interval over questions.

    Args:
        run: The run.
        metrics: Further metrics, after those in `METRICS`.
        right: When an answer counts as right, for the cost of a right answer.
        level: Share of the resamples inside an interval.
        seed: Seed of the resamples.

    Example:
        >>> summarize(run).figure("F1").value  # doctest: +SKIP
        0.61
    """
    check_share(open_ends="01", level=level)
    chosen = [*METRICS, *map(to_metric, metrics)]
    figures = [_figure(run, metric, level, seed) for metric in chosen]
    figures += [_quantile(run, share, level, seed) for share in (0.5, 0.95)]
    figures.append(_cost_of_right(run, to_metric(right), level, seed))
    notes = []
    if len(run.outcomes) < FEW:
        notes.append(
            f"{len(run.outcomes)} questions say little: with fewer than {FEW}, the intervals are too narrow. A share is known to "
            f"within 10 points from {questions_for(0.1)} questions on, to within 5 points from {questions_for(0.05)} on."
        )
    if run.failed:
        notes.append(f"The first failure: {run.failed[0].question.text[:80]!r}: {run.failed[0].error}")
    return Summary(run.name, len(run.outcomes), len(run.failed), tuple(figures), tuple(notes))


def questions_for(half_width: float) -> int:
    """Return how many questions are needed to know any share to within `half_width`, in 95 of 100 samples.

    Example:
        >>> questions_for(0.05)
        385
    """
    check_share(open_ends="0", half_width=half_width)
    return math.ceil((1.96 * 0.5 / half_width) ** 2)


def _figure(run: Run, metric: Metric, level: float, seed: int) -> Figure:
    values = [value for outcome in run.outcomes if (value := metric.value(outcome)) is not None]
    if not values:
        return Figure(metric.name, 0, None, None, None, metric.is_share)
    low, high = bootstrap_interval(values, level=level, seed=seed)
    return Figure(metric.name, len(values), math.fsum(values) / len(values), low, high, metric.is_share)


def _quantile(run: Run, share: float, level: float, seed: int) -> Figure:
    name = f"seconds p{share * 100:.0f}"
    values = [outcome.seconds for outcome in run.outcomes if outcome.answer is not None]
    if not values:
        return Figure(name, 0, None, None, None, is_share=False)

    def quantile(rows: NDArray[np.float64]) -> float:
        return float(np.quantile(rows, share))

    low, high = bootstrap_interval(values, statistic=quantile, level=level, seed=seed)
    return Figure(name, len(values), quantile(np.asarray(values)), low, high, is_share=False)


def _cost_of_right(run: Run, right: Metric, level: float, seed: int) -> Figure:
    """Return the cost of all answers divided by the number of right answers; unknown if a cost is unknown or none is right."""
    rows = [(outcome.answer.cost, right.value(outcome)) for outcome in run.outcomes if outcome.answer is not None]
    known = np.array([(cost, value) for cost, value in rows if cost is not None and value is not None], np.float64)
    if len(known) < len(rows) or not len(known) or not known[:, 1].any():
        return Figure("cost of a right answer", 0, None, None, None, is_share=False)

    def ratio(sample: NDArray[np.float64]) -> float:
        return float(sample[:, 0].sum() / max(sample[:, 1].sum(), 0.5))  # a resample may have no right answer

    low, high = bootstrap_interval(known, statistic=ratio, level=level, seed=seed)
    return Figure("cost of a right answer", len(known), ratio(known), low, high, is_share=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two runs over the same questions.

    Attributes:
        metric: Name of the metric.
        n: Questions that have the metric in both runs.
        before: Mean of the first run.
        after: Mean of the second run.
        difference: `after - before`.
        low: Lower end of the paired bootstrap interval of the difference.
        high: Upper end.
        p: Two-sided p-value of the paired bootstrap.
        mcnemar_p: Two-sided p-value of McNemar's exact test; None if a value is neither 0 nor 1.
        needed: Questions needed to find a difference of this size in 80 of 100 samples; None if the runs are equal.
    """

    metric: str
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    mcnemar_p: float | None
    needed: int | None

    def __str__(self) -> str:
        test = "" if self.mcnemar_p is None else f", McNemar p = {self.mcnemar_p:.3g}"
        text = (
            f"{self.metric}: {self.before:.4g} -> {self.after:.4g}, difference {self.difference:+.4g} "
            f"[{self.low:+.4g}, {self.high:+.4g}], p = {self.p:.3g}{test}, {self.n} questions"
        )
        if self.low <= 0 <= self.high and self.needed is not None and self.needed > self.n:
            text += (
                f". This is no evidence of a difference; about {self.needed:,} questions would show one of this size"
            )
        return text


def compare(
    before: Run, after: Run, metric: Metric | MetricFunction = RIGHT, *, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare two runs question by question.

    Args:
        before: The run to compare with.
        after: The other run, over the same questions.
        metric: What is compared, such as `leanrag.evaluation.METRICS`, or a function of a question and its answer.
        level: Probability of the interval, in (0, 1).
        seed: Seed of the bootstrap.

    Raises:
        ConfigurationError: The runs have other questions, or no question has the metric in both.
    """
    chosen = to_metric(metric)
    if before.header.sha256 != after.header.sha256:
        raise ConfigurationError(
            f"{before.name!r} and {after.name!r} are runs over different questions. Compare runs over the same questions"
        )
    pairs = [
        (x, y)
        for old, new in zip(before.outcomes, after.outcomes, strict=True)
        if (x := chosen.value(old)) is not None and (y := chosen.value(new)) is not None
    ]
    if not pairs:
        raise ConfigurationError(f"no question has the metric {chosen.name!r} in both runs. Choose another metric")
    x, y = np.array(pairs, np.float64).T
    low, high, p = paired_bootstrap(x, y, level=level, seed=seed)
    is_binary = bool(np.isin([x, y], (0.0, 1.0)).all())
    difference, deviation = float((y - x).mean()), float((y - x).std())
    return Comparison(
        metric=chosen.name,
        n=len(pairs),
        before=float(x.mean()),
        after=float(y.mean()),
        difference=difference,
        low=low,
        high=high,
        p=p,
        mcnemar_p=mcnemar(int((x > y).sum()), int((x < y).sum())) if is_binary else None,
        needed=math.ceil(((1.96 + 0.84) * deviation / difference) ** 2) if difference else None,
    )
