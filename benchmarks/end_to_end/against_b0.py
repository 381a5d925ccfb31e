"""The table of a data set: what each row brings and costs, and the last row beside B0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Figures, Question, Questions, read_nq, read_squad
from benchmarks.end_to_end.measuring import BASELINES, CACHES, Sample, choose_questions, measure_rows, stream_of
from benchmarks.end_to_end.observing import Load, Log, Observation
from benchmarks.end_to_end.peers import PEERS
from benchmarks.end_to_end.stages import FINAL, ROWS
from leanrag.evaluation import read_hotpot
from leanrag.metrics import bootstrap_interval, paired_bootstrap

__all__ = ["TABLE", "figures_of", "hotpot", "name_of", "nq", "squad"]

QUESTIONS, QUICK_QUESTIONS = 12, 1
QUICK_DOCUMENTS = 30
TABLE = (*BASELINES, *PEERS, *(row.name for row in ROWS))

RATIOS = (
    "latency_ratio",
    "cost_ratio",
    "throughput_ratio",
    "tokens_ratio",
    "accuracy_diff",
    "accuracy_diff_low",
)
"""The figures of the last row beside B0; those of `_compare` and the throughput."""


def squad(data: Path, is_quick: bool) -> Figures:
    """Measure on SQuAD."""
    return _measure(read_squad(data), is_quick)


def nq(data: Path, is_quick: bool) -> Figures:
    """Measure on Natural Questions."""
    return _measure(read_nq(data), is_quick)


def hotpot(data: Path, is_quick: bool) -> Figures:
    """Measure on HotpotQA, if the folder has it; the figures are None otherwise."""
    path = data / "hotpot.json.gz"
    if not path.exists():
        print(f"{path} is missing, so HotpotQA is not measured", flush=True)
        return dict.fromkeys(f"hotpot_{key}" for key in RATIOS)
    known = read_hotpot(path)
    questions = tuple(
        Question(each.text, each.answers or (), each.passages[0].document_id if each.passages else "")
        for each in known.questions
    )
    return _measure(Questions("hotpot", known.documents, questions), is_quick)


def _measure(source: Questions, is_quick: bool) -> Figures:
    sample = choose_questions(source, QUICK_QUESTIONS if is_quick else QUESTIONS)
    if is_quick:
        wanted = {question.document_id for question in sample.questions}
        about = tuple(document for document in source.documents if document.id in wanted)
        documents = about + source.documents[:QUICK_DOCUMENTS]
        sample = Sample(Questions(f"{source.name}-quick", documents, source.questions), sample.questions)
    return figures_of(source.name, sample, measure_rows(sample))


def name_of(row: str) -> str:
    """Return the name that the figures of a row begin with."""
    return row.lower().replace(" ", "_")


def figures_of(name: str, sample: Sample, log: Log) -> Figures:
    """Return the figures of each row, and of the last row beside B0."""
    texts = [question.text for question in sample.questions]
    rows = {row: [log.observations[row, text] for text in texts if (row, text) in log.observations] for row in TABLE}
    figures: Figures = {f"{name}_n": len(texts)}
    for row, observations in rows.items():
        figures |= {f"{name}_{name_of(row)}_{key}": value for key, value in _row_figures(observations).items()}
    batched = [load for (row, _), load in log.loads.items() if row == "batching"]
    throughput = sum(load.questions for load in batched) / sum(load.seconds for load in batched)
    figures |= _load_figures(f"{name}_batching", batched)
    for row in CACHES:
        load = log.loads[row, f"stream of {len(texts)}"]
        figures |= _load_figures(f"{name}_{name_of(row)}", [load])
        figures[f"{name}_{name_of(row)}_hits"] = load.hits / load.questions
        figures[f"{name}_{name_of(row)}_warm_seconds"] = load.hit_seconds
    asked = stream_of(len(texts))
    figures[f"{name}_stream_repeats"] = 1 - len({i for i, _ in asked}) / len(asked)
    figures |= {f"{name}_{key}": value for key, value in _compare(rows[BASELINES[0]], rows[FINAL.name]).items()}
    figures[f"{name}_throughput_ratio"] = throughput / (len(texts) / sum(each.seconds for each in rows[BASELINES[0]]))
    return figures


def _row_figures(observations: Sequence[Observation]) -> Mapping[str, float | None]:
    """Return the figures of a row; all are None if it was not measured."""
    columns: dict[str, Sequence[float | None]] = {
        "right": [each.right for each in observations],
        "em": [each.exact for each in observations],
        "f1": [each.f1 for each in observations],
        "context": [each.in_context for each in observations],
        "tokens": [each.prompt_tokens for each in observations],
        "cpu_seconds": [each.cpu_seconds for each in observations],
        "joules": [each.joules for each in observations],
        "large_calls": [each.large_calls for each in observations],
    }
    figures = {key: _mean(values) for key, values in columns.items()}
    seconds, first = (
        [each.seconds for each in observations],
        [each.first_token_seconds for each in observations],
    )
    figures |= {
        "p50": _quantile(seconds, 0.5),
        "p95": _quantile(seconds, 0.95),
        "first_token_p50": _quantile(first, 0.5),
        "throughput": len(seconds) / sum(seconds) if seconds else None,
    }
    right = sum(each.right for each in observations)
    figures["cpu_seconds_per_right"] = sum(each.cpu_seconds for each in observations) / right if right else None
    figures["right_low"], figures["right_high"] = (
        bootstrap_interval([each.right for each in observations]) if observations else (None, None)
    )
    return figures


def _load_figures(prefix: str, loads: Sequence[Load]) -> Figures:
    questions, right = sum(load.questions for load in loads), sum(load.right for load in loads)
    cpu_seconds = sum(load.cpu_seconds for load in loads)
    return {
        f"{prefix}_throughput": questions / sum(load.seconds for load in loads),
        f"{prefix}_cpu_seconds": cpu_seconds / questions,
        f"{prefix}_cpu_seconds_per_right": cpu_seconds / right if right else None,
        f"{prefix}_right": right / questions,
    }


def _compare(baseline: Sequence[Observation], ours: Sequence[Observation]) -> Figures:
    """Return how many times as much B0 takes, with 95 % intervals over questions, and the difference of right answers."""

    def of_means(rows: NDArray[np.float64]) -> float:
        return float(rows[:, 0].mean() / rows[:, 1].mean())

    def of_medians(rows: NDArray[np.float64]) -> float:
        return float(np.median(rows[:, 0]) / np.median(rows[:, 1]))

    figures: Figures = {}
    for key, field, ratio in (
        ("latency", "seconds", of_medians),
        ("cost", "cpu_seconds", of_means),
        ("tokens", "prompt_tokens", of_means),
    ):
        pairs = np.array([[getattr(each, field) for each in row] for row in (baseline, ours)], np.float64).T
        low, high = bootstrap_interval(pairs, statistic=ratio)
        figures |= {f"{key}_ratio": ratio(pairs), f"{key}_ratio_low": low, f"{key}_ratio_high": high}
    before, after = ([each.right for each in row] for row in (baseline, ours))
    low, high, _ = paired_bootstrap(before, after)
    difference = float(np.mean(after) - np.mean(before))
    return figures | {"accuracy_diff": difference, "accuracy_diff_low": low, "accuracy_diff_high": high}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _quantile(values: Sequence[float], share: float) -> float | None:
    return float(np.quantile(values, share)) if values else None
