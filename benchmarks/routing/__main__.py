"""Does a router send on the questions that a larger model gets right and a smaller one does not?

The data of RouteLLM (Ong et al., ICLR 2025): GSM8K and MMLU, answered by Mixtral-8x7B and GPT-4. Its measures, as its program
takes them (routellm/evals): a router's scores are cut at their deciles, which gives eleven shares of questions that go to the
larger model, and the quality at each. PGR is the part of the gap between the models that is recovered, APGR its mean over the
shares (0.5 for a random router), CPT50 and CPT80 the share of calls, in %, at which 50 and 80 % are recovered.

Rows, each with a 95 % bootstrap interval over the questions and the seeds:

- random, the length of the prompt, and the oracle, which sends only what the larger model alone gets right;
- query: `QueryRouter`, from the question alone. GSM8K by five-fold cross-validation, MMLU from 1,500 labels and tested on the
  rest, several seeds each;
- zero: the rule without labels, on the half of the questions that was not looked at when it was written (`_is_unseen`), and
  the length of the prompt on the same half;
- cascade: the question and checks of the smaller model's answer as text (`answer_checks`), five-fold. Answers without a final
  line are a good part of what it finds; "cascade_final" is its order among the others alone.

Then the error of calibrated probabilities that only the larger model is right, on rows that neither the router nor the
calibration saw, beside the error that a perfect forecast would show on as many ("ece" on MMLU, "ece_cascade" on GSM8K); the
thresholds with a guarantee over random splits; and the time of a decision.

Last, two real models on SQuAD 2.0 (`_cascade.py`): how well confidence tells right answers and unanswerable questions, what a
cascade passes on for 95 % of the larger model's F1, and its CPU seconds beside always asking the larger one.

    python -m benchmarks.routing --data DIR --json FILE [--quick] [--only routers|cascade]
"""

from __future__ import annotations

import ast
import gzip
import json
import math
import operator
import re
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import finish, parse_arguments
from benchmarks.routing import cascade as _cascade
from leanrag.routing.calibration import auroc, expected_calibration_error, fit_isotonic, guaranteed_threshold
from leanrag.routing.query_router import QueryRouter

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDS = 5
MMLU_LABELS = 1500
DELTA = 0.1
ALPHAS = (0.05, 0.08)
CALIBRATION_ROWS = (300, 500, 1000)  # labels that a threshold is chosen on; the headline is the worst rate of all
NO_SCORES_SEED = 10_000  # apart from the seeds of folds


@dataclass(frozen=True, slots=True)
class Task:
    """Questions that both models answered.

    Attributes:
        name: Of the data set.
        prompts: The questions.
        weak: 1.0 where the smaller model is right, `(n,)`.
        strong: 1.0 where the larger one is.
        answers: The smaller model's; none when they were not kept.
    """

    name: str
    prompts: tuple[str, ...]
    weak: NDArray[np.float64]
    strong: NDArray[np.float64]
    answers: tuple[str, ...]

    @property
    def gaps(self) -> NDArray[np.float64]:
        """What the larger model adds: -1, 0 or 1."""
        return self.strong - self.weak

    @property
    def losses(self) -> NDArray[np.float64]:
        """1 where keeping the smaller model's answer loses one that the larger has right."""
        return self.strong * (1 - self.weak)


@dataclass(frozen=True, slots=True)
class Run:
    """Scores of questions that the router was not fitted on, and what the models make of these questions."""

    scores: NDArray[np.float64]
    weak: NDArray[np.float64]
    strong: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is computed."""

    seeds: int
    resamples: int
    splits: int


def read_task(data: Path, name: str) -> Task:
    """Return one of the two data sets."""
    with gzip.open(data / f"routellm-{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return Task(
        name,
        tuple(row["prompt"] for row in rows),
        np.array([row["weak_correct"] for row in rows], np.float64),
        np.array([row["strong_correct"] for row in rows], np.float64),
        tuple(row["weak_response"] for row in rows if "weak_response" in row),
    )


# RouteLLM's measures


def curve(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of questions that go to the larger model, increasing, and the accuracy at each.

    The thresholds are the eleven edges of the deciles; a score at the edge goes on, except at the last. Edges that scores
    share count once.
    """
    edges = np.unique(np.quantile(run.scores, np.linspace(0, 1, 11)))[::-1]
    is_sent = run.scores >= edges[:, None]  # (edges, n)
    is_sent[0] = run.scores > edges[0]
    return is_sent.mean(axis=1), run.weak.mean() + is_sent @ (run.strong - run.weak) / len(run.scores)


def oracle_curve(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the curve of a router that sends the questions first that only the larger model has right, and no other ones."""
    shares = np.linspace(0, 1, 11)
    return shares, run.weak.mean() + np.minimum(shares, np.mean(run.strong * (1 - run.weak)))


def apgr(shares: NDArray[np.float64], accuracies: NDArray[np.float64], run: Run) -> float:
    """Return the average performance gap recovered: the area above the smaller model over that between both."""
    weak, strong = run.weak.mean(), run.strong.mean()
    area = np.sum(np.diff(shares) * (accuracies[1:] + accuracies[:-1]) / 2)
    width = shares[-1] - shares[0]
    return float((area - weak * width) / ((strong - weak) * width))


def cpt(shares: NDArray[np.float64], accuracies: NDArray[np.float64], run: Run, part: float) -> float:
    """Return the share of calls, in %, at which `part` of the gap is recovered (interpolated, as RouteLLM does)."""
    weak, strong = run.weak.mean(), run.strong.mean()
    return float(np.interp(weak + part * (strong - weak), accuracies, 100 * shares))


def report(
    name: str,
    runs: Sequence[Run],
    effort: Effort,
    curve_of: Callable[[Run], tuple[NDArray[np.float64], NDArray[np.float64]]] = curve,
) -> dict[str, float]:
    """Print a row and return its figures; a resample draws one of the runs, then its questions with replacement."""
    curves = [curve_of(run) for run in runs]
    values = [apgr(*points, run) for points, run in zip(curves, runs, strict=True)]
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(effort.resamples):
        run = runs[int(random.integers(len(runs)))]
        rows = random.integers(0, len(run.weak), len(run.weak))
        sample = Run(run.scores[rows], run.weak[rows], run.strong[rows])
        drawn.append(apgr(*curve_of(sample), sample))
    low, high = np.quantile(drawn, [0.025, 0.975])
    recovered = np.mean(
        [
            np.interp(
                np.linspace(0.1, 0.9, 9), shares, (found - run.weak.mean()) / (run.strong.mean() - run.weak.mean())
            )
            for (shares, found), run in zip(curves, runs, strict=True)
        ],
        axis=0,
    )
    figures = {
        f"{name}_apgr": float(np.mean(values)),
        f"{name}_apgr_low": float(low),
        f"{name}_apgr_high": float(high),
        f"{name}_apgr_sd": float(np.std(values)),
        f"{name}_cpt50": float(np.mean([cpt(*points, run, 0.5) for points, run in zip(curves, runs, strict=True)])),
        f"{name}_cpt80": float(np.mean([cpt(*points, run, 0.8) for points, run in zip(curves, runs, strict=True)])),
    }
    print(
        f"{name:24s} APGR {figures[f'{name}_apgr']:.3f} [{low:.3f}, {high:.3f}], sd over {len(runs)} runs "
        f"{figures[f'{name}_apgr_sd']:.3f}; CPT50 {figures[f'{name}_cpt50']:.1f}, CPT80 {figures[f'{name}_cpt80']:.1f}; "
        f"PGR at 10 to 90 % {' '.join(f'{value:.2f}' for value in recovered)}"
    )
    return figures


# Scores


def fit_and_score(
    task: Task, known: NDArray[np.int64], asked: NDArray[np.int64], extra: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the scores of the rows `asked` by a router fitted on the rows `known`."""
    router = QueryRouter.fit(
        [task.prompts[i] for i in known], task.gaps[known], extra=None if extra is None else extra[known]
    )
    return router.score_many([task.prompts[i] for i in asked], None if extra is None else extra[asked])


def cross_scores(
    task: Task, rows: NDArray[np.int64], seed: int, extra: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return a score for each of `rows`, in their order, from a router that was fitted on the other folds of them."""
    scores = np.empty(len(rows))
    for places in folds_of(task.gaps[rows], seed):
        scores[places] = fit_and_score(task, np.delete(rows, places), rows[places], extra)
    return scores


def folds_of(gaps: NDArray[np.float64], seed: int) -> list[NDArray[np.int64]]:
    """Return the places of the rows of each fold; each gap is spread evenly over them.

    Were it not, a fold with more gaps than its share would be scored by a router that saw fewer, and put too low among the
    others.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(gaps)), gaps))
    return [order[number::FOLDS] for number in range(FOLDS)]


def run_of(task: Task, scores: NDArray[np.float64], rows: NDArray[np.int64] | NDArray[np.bool_] | None = None) -> Run:
    """Return the run of scores that belong to `rows` (all of them when None)."""
    if rows is None:
        return Run(scores, task.weak, task.strong)
    return Run(scores, task.weak[rows], task.strong[rows])


def lengths(task: Task) -> NDArray[np.float64]:
    """Return the characters of each prompt."""
    return np.array([len(prompt) for prompt in task.prompts], np.float64)


def _is_unseen(task: Task) -> NDArray[np.bool_]:
    """Return which questions were never looked at when the rule without labels was written: about half, by their hash."""
    return np.array([zlib.crc32(prompt.encode()) % 2 == 1 for prompt in task.prompts])


def measure_rows_of_every_router(task: Task, effort: Effort) -> dict[str, float]:
    """Return the figures of the routers that learn nothing."""
    random = np.random.default_rng(NO_SCORES_SEED)
    unseen = _is_unseen(task)
    zero = QueryRouter.zero_label().score_many(task.prompts)
    name = task.name
    return {
        **report(f"{name}_random", [run_of(task, random.random(len(task.prompts))) for _ in range(100)], effort),
        **report(f"{name}_length", [run_of(task, lengths(task))], effort),
        **report(f"{name}_oracle", [run_of(task, task.gaps)], effort, oracle_curve),
        **report(f"{name}_zero", [run_of(task, zero[unseen], unseen)], effort),
        **report(f"{name}_zero_length", [run_of(task, lengths(task)[unseen], unseen)], effort),
        **report(f"{name}_zero_all", [run_of(task, zero)], effort),
    }


# Checks of an answer

_ANNOTATION = re.compile(r"<<([^<>=]*)=([^<>]*)>>")
_EQUATION = re.compile(r"((?:[\d(][\d.,()$%/*+\-x×÷ ]*))=\s*\$?(-?\d[\d,]*\.?\d*)")
_NUMBER = re.compile(r"-?\d[\d,]*\.?\d*")
_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
ANSWER_CHECKS = (
    "no_final",
    "characters",
    "equations",
    "wrong_equations",
    "any_wrong",
    "unfinished",
    "repetition",
    "final_is_whole",
    "final_is_negative",
    "final_is_last",
    "numbers_used",
    "final_in_question",
    "longer_than_question",
)


def answer_checks(question: str, answer: str) -> NDArray[np.float64]:
    """Return what an answer to a word problem shows as text, `(len(ANSWER_CHECKS),)`; nothing knows the right answer.

    The final line begins with "####", the mark that the prompt's examples have.
    """
    body, mark, final_line = answer.partition("####")
    plain = re.sub(r"<<[^<>]*>>", "", body)
    equations = [*_ANNOTATION.findall(body), *_EQUATION.findall(plain)]
    is_right = [right for left, value in equations if (right := _holds(left, value)) is not None]
    final = _number(final_line)
    last = next((value for found in reversed(_NUMBER.findall(plain)) if (value := _number(found)) is not None), None)
    asked = {value for found in _NUMBER.findall(question) if (value := _number(found)) is not None}
    used = {value for found in _NUMBER.findall(body) if (value := _number(found)) is not None}
    tokens = answer.split()
    grams = Counter(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False))
    wrong = is_right.count(False)
    return np.array(
        [
            not mark,
            np.log1p(len(answer)),
            np.log1p(len(is_right)),
            np.log1p(wrong),
            wrong > 0,
            answer.count("<<") != answer.count(">>") or (not mark and not answer.rstrip().endswith((".", "!", ")"))),
            1 - len(grams) / max(1, sum(grams.values())),
            final is not None and final.is_integer(),
            final is not None and final < 0,
            final is not None and last is not None and abs(final - last) < 0.01,
            len(asked & used) / max(1, len(asked)),
            final is not None and final in asked,
            np.log1p(len(answer)) - np.log1p(len(question)),
        ],
        np.float64,
    )


def _number(text: str) -> float | None:
    found = _NUMBER.search(text)
    value = float(found[0].replace(",", "")) if found else math.inf
    return value if math.isfinite(value) else None


def _holds(left: str, right: str) -> bool | None:
    """Return whether an equation is right to 1 %, None when its left side is not one operation or more on numbers."""
    value, claimed = _evaluate(left), _number(right)
    if value is None or claimed is None:
        return None
    return abs(value - claimed) <= max(0.01, 0.01 * abs(value))


def _evaluate(text: str) -> float | None:
    for old, new in ((",", ""), ("$", ""), ("%", "/100"), ("x", "*"), ("×", "*"), ("÷", "/")):
        text = text.replace(old, new)
    try:
        tree = ast.parse(text.strip()[:200], mode="eval").body
        return _value(tree) if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError("not arithmetic")


# What each data set is for


def measure_gsm8k(task: Task, effort: Effort) -> dict[str, float]:
    """Return the figures of cross-validated routers and cascades, and how well calibrated the cascade is."""
    rows = np.arange(len(task.prompts))
    checks = np.stack([answer_checks(*pair) for pair in zip(task.prompts, task.answers, strict=True)])
    has_final = checks[:, ANSWER_CHECKS.index("no_final")] == 0
    cascade = [cross_scores(task, rows, seed, checks) for seed in range(effort.seeds)]
    figures = {
        **report("gsm8k_query", [run_of(task, cross_scores(task, rows, seed)) for seed in range(effort.seeds)], effort),
        **report("gsm8k_cascade", [run_of(task, scores) for scores in cascade], effort),
        **report("gsm8k_cascade_final", [run_of(task, scores[has_final], has_final) for scores in cascade], effort),
        "gsm8k_cascade_auroc": float(np.mean([auroc(scores, 1 - task.weak) for scores in cascade])),
        "gsm8k_no_final_share": float(1 - has_final.mean()),
    }
    forecasts = []
    for seed in range(effort.seeds):
        forecast = np.empty(len(rows))
        for fold in folds_of(task.gaps, seed):
            known = np.setdiff1d(rows, fold)
            forecast[fold] = calibrated(task, known, fit_and_score(task, known, fold, checks), seed, checks)
        forecasts.append((forecast, task.losses))
    return {**figures, **report_calibration("ece_cascade", forecasts)}


def measure_mmlu(task: Task, effort: Effort) -> dict[str, float]:
    """Return the figures of routers fitted on 1,500 labels: order, calibration, thresholds with a guarantee, time."""
    runs, forecasts = [], []
    for seed in range(effort.seeds):
        known, asked = labels_and_rest(task, seed)
        runs.append(run_of(task, fit_and_score(task, known, asked, None), asked))
        forecasts.append((calibrated(task, known, runs[-1].scores, seed), task.losses[asked]))
    return {
        **report("mmlu_query", runs, effort),
        **report_calibration("ece", forecasts),
        **measure_guarantee(runs[0], effort),
        **measure_time(task),
    }


def labels_and_rest(task: Task, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that a router may learn from and the others."""
    order = np.random.default_rng(seed).permutation(len(task.prompts))
    return order[:MMLU_LABELS], order[MMLU_LABELS:]


def calibrated(
    task: Task,
    known: NDArray[np.int64],
    scores: NDArray[np.float64],
    seed: int,
    extra: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return for the scores of other rows the probability that only the larger model is right.

    Learnt from `known` alone, as the router of the scores was: from scores by routers that had left the rows out.
    """
    return fit_isotonic(cross_scores(task, known, seed, extra), task.losses[known]).predict(scores)


def report_calibration(
    name: str, forecasts: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]
) -> dict[str, float]:
    """Print and return the calibration error, and what labels drawn from the forecast itself would show."""
    random = np.random.default_rng(0)
    errors = [expected_calibration_error(forecast, labels) for forecast, labels in forecasts]
    floors = [
        expected_calibration_error(forecast, (random.random(len(forecast)) < forecast).astype(np.float64))
        for forecast, _ in forecasts
        for _ in range(50)
    ]
    rows = len(forecasts[0][1])
    print(f"{name}: {np.mean(errors):.4f} on {rows} rows; a perfect forecast would show {np.mean(floors):.4f}")
    return {name: float(np.mean(errors)), f"{name}_floor": float(np.mean(floors)), f"{name}_n": rows}


def measure_guarantee(run: Run, effort: Effort) -> dict[str, float]:
    """Return how often the realised risk is above what was guaranteed, over random splits, and what it took.

    The guarantee is of the risk over all questions to come; the rest of a split is a sample of these, and the less calm the more
    rows the threshold took from it, so that a bound that is met exactly shows a rate a little above `DELTA` here.
    """
    losses = run.strong * (1 - run.weak)
    figures: dict[str, float] = {}
    for alpha in ALPHAS:
        for labels in CALIBRATION_ROWS:
            random = np.random.default_rng(0)
            risks, kept = [], []
            for _ in range(effort.splits):
                order = random.permutation(len(losses))
                seen, rest = order[:labels], order[labels:]
                threshold = guaranteed_threshold(-run.scores[seen], losses[seen], alpha, DELTA).threshold
                is_kept = np.zeros(len(rest), bool) if threshold is None else -run.scores[rest] >= threshold
                risks.append(float(np.mean(losses[rest] * is_kept)))
                kept.append(float(is_kept.mean()))
            name = f"ltt_{round(100 * alpha)}_{labels}"
            figures[f"{name}_violation_rate"] = float(np.mean(np.array(risks) > alpha))
            figures[f"{name}_escalated"] = 1 - float(np.mean(kept))
            print(
                f"{name}: risk above {alpha} in {100 * figures[f'{name}_violation_rate']:.1f} % of {effort.splits} splits; "
                f"{labels} labels, {100 * figures[f'{name}_escalated']:.1f} % escalated, mean risk {np.mean(risks):.4f}; "
                f"any method escalates {100 * max(0.0, losses.mean() - alpha):.1f} %"
            )
    figures["ltt_violation_rate"] = max(value for name, value in figures.items() if name.endswith("_violation_rate"))
    return figures


def measure_time(task: Task) -> dict[str, float]:
    """Return the time of a decision, question by question, in milliseconds."""
    known, asked = labels_and_rest(task, 0)
    router = QueryRouter.fit([task.prompts[i] for i in known], task.gaps[known])
    seconds = []
    for i in asked[:2000]:
        start = time.perf_counter()
        router.score(task.prompts[i])
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.quantile(seconds, [0.5, 0.95]) * 1000
    print(f"decision: {p50:.3f} ms (p50), {p95:.3f} ms (p95)")
    return {"decision_ms_p50": float(p50), "decision_ms_p95": float(p95)}


def main() -> None:
    arguments = parse_arguments(__doc__, sections=("routers", "cascade"))
    figures: dict[str, float] = {"n": 0}
    if arguments.only in (None, "routers"):
        effort = Effort(seeds=2, resamples=100, splits=50) if arguments.is_quick else Effort(5, 1000, 200)
        gsm8k, mmlu = read_task(arguments.data, "gsm8k"), read_task(arguments.data, "mmlu")
        figures = {
            "n": len(gsm8k.prompts) + len(mmlu.prompts),
            **measure_rows_of_every_router(gsm8k, effort),
            **measure_gsm8k(gsm8k, effort),
            **measure_rows_of_every_router(mmlu, effort),
            **measure_mmlu(mmlu, effort),
        }
    if arguments.only in (None, "cascade"):
        figures |= _cascade.measure(arguments.data, is_quick=arguments.is_quick)
    finish(figures, arguments.json_path, models=_cascade.models(), is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
