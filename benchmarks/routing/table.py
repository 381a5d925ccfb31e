"""The tables of the benchmark `routing`, and its other figures in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import cell, later, percent

__all__ = ["routing_lines"]

_ROUTERS = {
    "random": "random",
    "length": "length of the question",
    "oracle": "oracle",
    "zero": "without labels (unseen half of the questions)",
    "query": "`QueryRouter`, from the question",
    "cascade": "question and checks of the answer",
}


def routing_lines(figures: Mapping[str, Any], origin: str) -> str:
    """Return the text for the documentation.

    Args:
        figures: What the benchmark wrote.
        origin: Which program measured them, and where.
    """
    rows = [
        "Which questions to send to a larger model: the average performance gap recovered (APGR; a random router has 0.5) with its",
        "95 % bootstrap interval, and the calls of the larger model that recover 50 % and 80 % of the gap (CPT50, CPT80; in %)",
        f"({origin}):",
        "",
        "| | GSM8K APGR | CPT50 / CPT80 | MMLU APGR | CPT50 / CPT80 |",
        "|---|---|---|---|---|",
    ]
    for row, label in _ROUTERS.items():
        cells = []
        for task in ("gsm8k", "mmlu"):
            base = f"{task}_{row}"
            low, high = (cell(figures.get(f"{base}_apgr_{end}"), 3) for end in ("low", "high"))
            is_known = f"{base}_apgr" in figures
            cells.append(f"{cell(figures.get(f'{base}_apgr'), 3)} [{low}, {high}]" if is_known else "–")
            cells.append(
                " / ".join(cell(figures.get(f"{base}_cpt{part}"), 1) for part in (50, 80)) if is_known else "–"
            )
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", *_calibration(figures), "", *_cascade(figures)])


def _calibration(figures: Mapping[str, Any]) -> list[str]:
    return [
        f"The calibration error on questions outside of the training data is {cell(figures.get('ece'), 3)}; a perfect forecast",
        f"would have {cell(figures.get('ece_floor'), 3)}.",
        f"In the worst case, {percent(figures.get('ltt_violation_rate'))} of 200 random splits exceeded the guaranteed risk;",
        "10 % are allowed.",
        f"A decision takes {cell(figures.get('decision_ms_p50'))} ms (median).",
    ]


def _cascade(figures: Mapping[str, Any]) -> list[str]:
    def figure(name: str) -> str:
        return cell(figures.get(name), 3)

    def share(name: str) -> str:
        return percent(figures.get(name))

    rows = [
        f"Two models answer {figures.get('cascade_n', '–')} questions of SQuAD 2.0: SmolLM2-135M with 100 tokens of sources, and",
        f"Gemma 3 270M with 300. {share('cascade_unanswerable')} of the questions have no answer in the sources. Calibration and",
        f"test use different paragraphs{later(figures, 'cascade')}.",
        "",
        "| | right | AUROC of confidence | best single signal | rule without labels | answerable? macro F1 | best single signal |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in (("small", "SmolLM2-135M"), ("large", "Gemma 3 270M")):
        gain = f"{figure(f'{name}_auroc_gain')} [{figure(f'{name}_auroc_gain_low')}, {figure(f'{name}_auroc_gain_high')}] more"
        cells = [
            figure(f"{name}_right"),
            f"{figure(f'{name}_fused_auroc')} ({gain})",
            *(figure(f"{name}_{measure}") for measure in ("single_auroc", "rule_auroc", "answerable_macro_f1")),
            figure(f"{name}_answerable_single_macro_f1"),
        ]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return [
        *rows,
        "",
        f"If the models always answer, their F1 is {figure('small_f1_plain')} and {figure('large_f1_plain')}. If they abstain",
        f"below the learnt confidence, it is {figure('small_f1')} and {figure('large_f1')}. A model that always abstains has",
        f"{figure('cascade_unanswerable')}.",
        f"A cascade asks the small model for {share('small_asked')} of the questions, and then the larger model for",
        f"{share('large_escalated')}. It reaches {figure('large_cascade_f1_part')} of the larger model's F1 and saves",
        f"{share('cpu_saved_share')} [{share('cpu_saved_share_low')}, {share('cpu_saved_share_high')}] of the CPU time of",
        f"always asking the larger model. (SmolLM2 takes {cell(figures.get('small_cpu_seconds'))} CPU seconds for a question,",
        f"because it writes sentences; Gemma takes {cell(figures.get('large_cpu_seconds'))}.) With a larger model that is always",
        f"right, the cascade must ask it for {share('perfect_escalated')} of the questions to reach",
        f"{figure('perfect_cascade_f1_part')} of its F1.",
    ]
