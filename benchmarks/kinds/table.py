"""The table of the benchmark `kinds`, and its other figures in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.cells import cell, later, percent

__all__ = ["kinds_lines"]


def kinds_lines(figures: Mapping[str, Any], origin: str) -> str:
    """Return the text for the documentation.

    Args:
        figures: What the benchmark wrote.
        origin: Which program measured them, and where.
    """
    rows = [
        "Manuals, tables, mails, code, languages and other kinds of document on which nothing was tuned: the share of questions",
        f"whose whole answer is in the prompt, the mean over the kinds and the worst kind ({origin}):",
        "",
        "| tokens of sources | packed: mean, worst | whole chunks (`GreedyPacker`): mean, worst |",
        "|---|---|---|",
    ]
    for budget in (100, 200, 300):
        cells = (
            ", ".join(cell(figures.get(f"kinds_{packer}_{part}@{budget}")) for part in ("mean", "worst"))
            for packer in ("prompt", "greedy")
        )
        rows.append(f"| {budget} | {' | '.join(cells)} |")
    sentences = (
        f"The passage is the first hit for {percent(figures.get('kinds_found@1'))} of the questions, and among the first ten for",
        f"{percent(figures.get('kinds_found@10'))}. Questions that name an identifier find it first in",
        f"{percent(figures.get('identifiers_found@1'))}. The verdict accepts {percent(figures.get('verdict_false_supported'))}",
        "of the answers that a small change made false, and refuses",
        f"{percent(figures.get('verdict_true_refused'))} of the true answers. Of {figures.get('kinds_right_n', '–')} questions,",
        f"SmolLM2-135M answers {percent(figures.get('kinds_right_smollm2'))} right,",
        f"and Qwen2.5-Coder-0.5B {percent(figures.get('kinds_right_qwen'))}; the verdict on these answers is right for",
        f"{percent(figures.get('kinds_verdict_right_smollm2'))} and",
        f"{percent(figures.get('kinds_verdict_right_qwen'))}{later(figures, 'readers')}.",
    )
    return "\n".join([*rows, "", " ".join(sentences)])
