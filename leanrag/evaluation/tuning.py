"""Find the cheapest settings that keep the quality: models, passages, tokens of sources, packer and threshold of a cascade.

Each model answers each question once for each number of passages, budget and packer. Cascades of two models are computed from these
answers, for every threshold and every pair of budgets, without asking a model again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import leanrag
from leanrag.bounds import clopper_pearson_upper, labels_needed
from leanrag.checks import check_choice, check_share, check_whole
from leanrag.errors import ConfigurationError
from leanrag.evaluation.bench import folder_for
from leanrag.evaluation.frontier import non_dominated
from leanrag.evaluation.measures import RIGHT, Metric, MetricFunction, to_metric
from leanrag.evaluation.pictures import Dot, scatter_svg
from leanrag.evaluation.questions import Dataset, Question, to_questions
from leanrag.evaluation.running import Run, run
from leanrag.evaluation.tables import text_table
from leanrag.pipeline.configuration import PackerName, TunedSettings
from leanrag.pipeline.query import AutoTokens
from leanrag.routing.cascade import Model, model_name
from leanrag.types import Answer

__all__ = [
    "CostMeasure",
    "Point",
    "Table",
    "Tuning",
    "choose",
    "lost_against",
    "measure_tables",
    "tune",
]

CostMeasure = Literal["seconds", "prompt tokens", "cost"]
THRESHOLDS = tuple(n / 20 for n in range(1, 20))

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """Settings, and what they bring and cost.

    Attributes:
        settings: The settings.
        quality: Share of right answers.
        cost: Mean cost of a question.
        lost: Share of the questions that the reference answers rightly and these settings do not.
        is_computed: Whether the point was computed from the answers of single models.
    """

    settings: TunedSettings
    quality: float
    cost: float
    lost: float
    is_computed: bool


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a search found. Print it to see the front.

    Attributes:
        points: All points, over all questions.
        front: Indices of the points that no other point beats in both cost and quality, from the cheapest to the best.
        chosen: Index of the chosen point.
        reference: Index of the point that must not be lost against: the last value of each argument.
        bound: The chosen point loses at most this share of the questions against the reference, with probability `1 - delta`.
        margin: Highest share that it was allowed to lose.
        delta: Probability that the share is higher.
        cost: What counts as cost.
        runs: Number of runs that asked a model; all other points were computed from them.
    """

    points: tuple[Point, ...]
    front: tuple[int, ...]
    chosen: int
    reference: int
    bound: float
    margin: float
    delta: float
    cost: CostMeasure
    runs: int

    @property
    def settings(self) -> TunedSettings:
        """The chosen settings."""
        return self.points[self.chosen].settings

    def __str__(self) -> str:
        shown = sorted({*self.front, self.chosen, self.reference}, key=lambda i: self.points[i].cost)
        marks = {self.reference: "reference", self.chosen: "chosen"}
        rows = [
            (str(point.settings), f"{point.cost:.4g}", f"{point.quality:.1%}", f"{point.lost:.1%}", marks.get(i, ""))
            for i, point in ((i, self.points[i]) for i in shown)
        ]
        table = text_table(("settings", self.cost, "right", "lost", ""), rows)
        verdict = (
            f"The chosen settings lose at most {self.bound:.1%} of the questions against the reference, with probability "
            f"{1 - self.delta:g}."
            if self.chosen != self.reference
            else f"No cheaper settings are shown to lose at most {self.margin:.1%} against the reference, so it stays."
        )
        return f"{len(self.points)} points from {self.runs} runs\n\n{table}\n\n{verdict}"

    def to_svg(self) -> str:
        """Return the picture of all points: the front, the chosen point and the reference have names."""
        dots = []
        for i, point in enumerate(self.points):
            kind: Literal["plain", "front", "chosen", "baseline"] = "front" if i in self.front else "plain"
            kind = "chosen" if i == self.chosen else "baseline" if i == self.reference else kind
            name = {"chosen": "chosen", "baseline": "reference"}.get(kind, "")
            dots.append(Dot(name, point.cost, point.quality, kind=kind))
        return scatter_svg(dots, x_label=f"{self.cost} of a question", y_label="right answers")


def tune(
    folder: str | os.PathLike[str],
    questions: Dataset | Iterable[Question | tuple[str, Sequence[str]]],
    *,
    models: Sequence[Model],
    k: Sequence[int] = (5, 10),
    context_tokens: Sequence[AutoTokens | None] = ("auto",),
    packers: Sequence[PackerName] = ("evidence",),
    thresholds: Sequence[float] = THRESHOLDS,
    cost: CostMeasure = "seconds",
    right: Metric | MetricFunction = RIGHT,
    margin: float = 0.05,
    delta: float = 0.1,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: bool | None = None,
    **settings: Any,
) -> Tuning:
    """Find the cheapest settings that lose at most `margin` of the questions against the reference.

    The reference is the last model with the last value of each argument. A random half of the questions orders the points: the
    front of cost and losses, from the fewest losses on. The other half tests them in this order, each with the exact bound of
    Clopper and Pearson, and stops at the first that fails. So the bound of the chosen point holds although many points were looked
    at (fixed-sequence testing: Angelopoulos et al., "Learn then Test", 2021, section 3).

    Args:
        folder: The database.
        questions: Questions with right answers.
        models: Names, files or models, the smallest first.
        k: Numbers of chunks to try.
        context_tokens: Budgets of sources to try.
        packers: Packers to try.
        thresholds: Thresholds of cascades to try.
        cost: What to save: seconds, prompt tokens, or money.
        right: When an answer counts as right: a metric whose value is then at least 0.5.
        margin: Highest share of the questions that may be lost, in (0, 1).
        delta: Probability that more are lost, in (0, 1).
        out: A folder for the runs, which resume from it after a kill; None keeps nothing.
        seed: Seed of the halves.
        progress: Show a bar on standard error; by default only if that is a terminal.
        settings: Further arguments of `leanrag.open`, such as `embedder`.

    Raises:
        ConfigurationError: There are too few questions with right answers, a cost is unknown, or an argument cannot work.
        GenerationError: A model cannot be loaded, or too many questions failed.
    """
    rows = _check(questions, models, k, context_tokens, packers, thresholds, cost, margin, delta)
    singles = _single_settings(models, k, context_tokens, packers)
    tables = measure_tables(
        folder, rows, list(singles), models, thresholds, cost, to_metric(right), out=out, progress=progress, **settings
    )
    runs = sum(table.settings.threshold is None for table in tables)
    reference = runs - 1
    order = np.random.default_rng(seed).permutation(len(rows))
    first, second = order[: len(rows) // 2], order[len(rows) // 2 :]
    chosen, bound = choose(tables, reference, first, second, margin, delta)
    points = tuple(
        Point(
            t.settings,
            float(t.right.mean()),
            float(t.cost.mean()),
            float(lost_against(t, tables[reference]).mean()),
            i >= runs,
        )
        for i, t in enumerate(tables)
    )
    front = tuple(non_dominated([point.cost for point in points], [point.quality for point in points]))
    return Tuning(points, front, chosen, reference, bound, margin, delta, cost, runs)


def _check(
    questions: Dataset | Iterable[Question | tuple[str, Sequence[str]]],
    models: Sequence[Model],
    k: Sequence[int],
    context_tokens: Sequence[AutoTokens | None],
    packers: Sequence[PackerName],
    thresholds: Sequence[float],
    cost: CostMeasure,
    margin: float,
    delta: float,
) -> tuple[Question, ...]:
    """Return the questions that have right answers, or that are known to have none; check the arguments."""
    check_choice(get_args(CostMeasure), cost=cost)
    check_share(open_ends="01", margin=margin)
    check_share(open_ends="01", delta=delta)
    for number in k:
        check_whole(1, k=number)
    for threshold in thresholds:
        check_share(open_ends="0", threshold=threshold)
    for packer in packers:
        check_choice(get_args(PackerName), packers=packer)
    for name, values in (("models", models), ("k", k), ("context_tokens", context_tokens), ("packers", packers)):
        if not values:
            raise ConfigurationError(f"`{name}` must have at least one value, got {values!r}")
    rows = tuple(question for question in to_questions(questions) if question.answers is not None)
    needed = 2 * labels_needed(margin, delta)
    if len(rows) < needed:
        raise ConfigurationError(
            f"{len(rows)} questions with right answers cannot show that at most {margin:.1%} are lost, with probability "
            f"{1 - delta:g}: at least {needed} are needed. Give more questions, or raise `margin` or `delta`"
        )
    return rows


@dataclass(frozen=True, slots=True)
class Table:
    """Settings, and what happened to each question: arrays `(n,)`."""

    settings: TunedSettings
    right: Bools
    cost: Floats
    confidence: Floats


def _single_settings(
    models: Sequence[Model],
    k: Sequence[int],
    context_tokens: Sequence[AutoTokens | None],
    packers: Sequence[PackerName],
) -> Iterator[TunedSettings]:
    for model, packer, number, tokens in itertools.product(models, packers, k, context_tokens):
        yield TunedSettings(
            models=(model_name(model),), k=number, context_tokens=(tokens,), packer=packer, threshold=None
        )


def measure_tables(
    folder: str | os.PathLike[str],
    questions: Sequence[Question],
    singles: Sequence[TunedSettings],
    models: Sequence[Model],
    thresholds: Sequence[float],
    cost: CostMeasure,
    right: Metric,
    *,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> list[Table]:
    """Ask each question with each of `singles`; return what happened, then the cascades that are computed from it."""
    tables = []
    names = [model_name(model) for model in models]
    with folder_for(out) as target:
        for each in singles:
            model = models[names.index(each.models[0])]
            with leanrag.open(folder, create=False, **{**settings, **each.arguments([model])}) as rag:
                path = target / f"{str(each).replace(os.sep, '_').replace(' ', '-')}.jsonl"
                tables.append(_measure(each, run(rag, questions, path=path, progress=progress), cost, right))
    return [*tables, *_cascades(tables, names, thresholds)]


def _measure(settings: TunedSettings, result: Run, measure: CostMeasure, right: Metric) -> Table:
    """Return what happened in a run; a failure is wrong, costs nothing, and is never kept by a cascade."""
    costs: list[float] = []
    confidence: list[float] = []
    for outcome in result.outcomes:
        answer = outcome.answer
        cost = None if answer is None else _cost_of(answer, measure)
        if cost is None and answer is not None:
            raise ConfigurationError(
                f"the cost of an answer of {settings.models[0]} is unknown. Give the models prices, or tune by 'seconds' or "
                "'prompt tokens'"
            )
        costs.append(cost or 0.0)
        is_unasked = answer is not None and answer.confidence is None  # nothing was found
        confidence.append(0.0 if answer is None else 1.0 if is_unasked else answer.confidence or 0.0)
    values = [(right.value(outcome) or 0.0) >= 0.5 for outcome in result.outcomes]
    return Table(settings, np.array(values), np.array(costs), np.array(confidence))


def _cost_of(answer: Answer, measure: CostMeasure) -> float | None:
    if measure == "seconds":
        return answer.seconds
    return answer.usage.prompt_tokens if measure == "prompt tokens" else answer.cost


def _cascades(singles: Sequence[Table], names: Sequence[str], thresholds: Sequence[float]) -> list[Table]:
    """Return the cascades of two models, computed from the answers of each alone; each model may read its own number of tokens."""
    cascades = []
    for small, large in itertools.permutations(singles, 2):
        first, second = small.settings, large.settings
        tokens = (*first.context_tokens, *second.context_tokens)
        is_ordered = names.index(first.models[0]) < names.index(second.models[0])
        if not is_ordered or (first.k, first.packer) != (second.k, second.packer) or {"auto", None} <= set(tokens):
            continue
        for threshold in thresholds:
            is_kept = small.confidence >= threshold
            settings = TunedSettings(
                models=(*first.models, *second.models),
                k=first.k,
                context_tokens=tokens,
                packer=first.packer,
                threshold=threshold,
            )
            right = np.where(is_kept, small.right, large.right)
            cascades.append(Table(settings, right, small.cost + np.where(is_kept, 0.0, large.cost), large.confidence))
    return cascades


def lost_against(table: Table, reference: Table) -> Bools:
    """Return which questions the reference answers rightly and these settings do not."""
    return reference.right & ~table.right


def choose(
    tables: Sequence[Table],
    reference: int,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    margin: float,
    delta: float,
) -> tuple[int, float]:
    """Return the index of the cheapest point that passes, and the bound of its losses; see `tune`."""
    lost = [lost_against(table, tables[reference]) for table in tables]
    costs = [float(table.cost[first].mean()) for table in tables]
    front = non_dominated(costs, [-float(each[first].mean()) for each in lost])
    chosen, bound = reference, 0.0
    for i in reversed(front):
        limit = clopper_pearson_upper(int(lost[i][second].sum()), len(second), delta)
        if limit > margin:
            break
        if costs[i] < costs[reference]:
            chosen, bound = i, limit
    return chosen, bound
