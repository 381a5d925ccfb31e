"""The figures as tables for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["table_of"]

_SETS = {"nq": "NQ", "squad": "SQuAD", "hotpot": "HotpotQA"}
_ROWS = {
    "b0": "B0: Qwen2.5-Coder-1.5B, ten whole passages",
    "b1": "B1: the same with 0.5B",
    "langchain": "LangChain, 1.5B",
    "llamaindex": "LlamaIndex, 1.5B",
    "packing": "leanrag, 1.5B: packing",
    "compression": "+ compression",
    "int4_format": "+ INT4 format",
    "prefix_reuse": "+ prefix reuse",
    "cascade": "+ cascade, 0.5B first",
    "trained_reader": "**+ trained reader, 135M first**",
    "batching": "+ batching, 8 callers",
    "exact_cache": "+ exact cache, a stream with repeats",
    "semantic_cache": "+ semantic cache, the same stream",
}
_COLUMNS = {
    "right": 2,
    "em": 2,
    "f1": 2,
    "context": 2,
    "tokens": 0,
    "p50": 2,
    "p95": 2,
    "first_token_p50": 2,
    "throughput": 2,
    "cpu_seconds": 2,
    "cpu_seconds_per_right": 2,
    "joules": 0,
}
_HEAD = (
    "right", "EM", "F1", "answer in context", "prompt tokens", "p50, s", "p95, s", "first token, s", "questions a second",
    "CPU seconds", "CPU seconds of a right answer", "joules",
)  # fmt: skip
_RATIOS = {
    "latency": "latency",
    "cost": "CPU seconds",
    "throughput": "throughput, 8 callers",
    "tokens": "prompt tokens",
}


def table_of(figures: Mapping[str, Any], origin: str) -> str:
    """Return the tables.

    Args:
        figures: What the benchmark wrote.
        origin: Which program measured them, and where.
    """
    measured = [name for name in _SETS if figures.get(f"{name}_n")]
    about = (
        f"The same questions, in turn, on the same machine ({origin}). B0 is the usual way: a large model reads ten whole "
        "passages. Each row of leanrag adds a stage to the row above. The first table compares B0 with the trained reader."
    )
    parts = [about, _ratios(figures, measured)]
    parts += [_rows(figures, name) for name in measured]
    if figures.get("cascade_n"):
        parts.append(
            f"A cascade saves {100 * figures['calls_saved_equal_accuracy']:.0f} % of the calls of the largest model at equal "
            f"accuracy on unseen questions ({figures['cascade_n']} questions, 50 random halves; difference of right answers "
            f"{100 * figures['cascade_right_diff']:+.1f} points)."
        )
    if figures.get("tune_n"):
        parts.append(
            f"`tune`: the chosen settings kept their bound on unseen questions in {figures['tune_within_bound']} of "
            f"{figures['tune_splits']} random splits of {figures['tune_n']} questions. Of the points that it looked at, "
            f"{100 * figures['tune_share_generated']:.1f} % asked a model."
        )
    return "\n\n".join(parts)


def _ratios(figures: Mapping[str, Any], measured: list[str]) -> str:
    rows = [f"| B0 / leanrag | {' | '.join(_SETS[name] for name in measured)} |", "|---|" + "---|" * len(measured)]
    for key, label in _RATIOS.items():
        rows.append(f"| {label} | {' | '.join(_ratio(figures, f'{name}_{key}_ratio') for name in measured)} |")
    gains = [
        f"{figures[f'{name}_accuracy_diff']:+.2f} [{figures[f'{name}_accuracy_diff_low']:+.2f}, "
        f"{figures[f'{name}_accuracy_diff_high']:+.2f}]"
        for name in measured
    ]
    return "\n".join([*rows, f"| difference of right answers [95 %] | {' | '.join(gains)} |"])


def _ratio(figures: Mapping[str, Any], key: str) -> str:
    low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
    return f"{figures[key]:.1f}" + ("" if low is None else f" [{low:.1f}, {high:.1f}]")


def _rows(figures: Mapping[str, Any], name: str) -> str:
    repeats = f"{100 * figures[f'{name}_stream_repeats']:.0f} % of the stream repeat an earlier question"
    head = f"{_SETS[name]}, {figures[f'{name}_n']} questions; {repeats}:"
    rows = [f"| | {' | '.join(_HEAD)} |", "|---|" + "---|" * len(_HEAD)]
    for row, label in _ROWS.items():
        values = [figures.get(f"{name}_{row}_{column}") for column in _COLUMNS]
        if any(value is not None for value in values):
            cells = ["–" if v is None else f"{v:.{n}f}" for v, n in zip(values, _COLUMNS.values(), strict=True)]
            rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([head, "", *rows])
