"""Does `tune` keep its bound on questions that it did not see, and how few of its points ask a model?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.common import Figures, read_squad
from benchmarks.end_to_end.measuring import choose_questions, make_database
from benchmarks.end_to_end.stages import EMBEDDER, READER
from leanrag.evaluation import Question, TunedSettings
from leanrag.evaluation.measures import RIGHT
from leanrag.evaluation.tuning import THRESHOLDS, choose, lost_against, measure_tables

__all__ = ["measure"]

MODELS = (READER, f"{READER}+reader")
QUESTIONS, QUICK_QUESTIONS = 160, 4
CONTEXT_TOKENS = (100, 200, 300)
SPLITS = 50
MARGIN, DELTA = 0.1, 0.1


def measure(data: Path, is_quick: bool) -> Figures:
    """Choose on one half of the questions, and count the losses on the other half, in 50 random splits."""
    sample = choose_questions(read_squad(data), QUICK_QUESTIONS if is_quick else QUESTIONS)
    questions = [Question(each.text, each.answers, f"{i}") for i, each in enumerate(sample.questions)]
    singles = [
        TunedSettings(models=(model,), k=10, context_tokens=(tokens,), packer="evidence", threshold=None)
        for model in MODELS
        for tokens in CONTEXT_TOKENS
    ]
    tables = measure_tables(
        make_database(sample),
        questions,
        singles,
        MODELS,
        THRESHOLDS,
        "prompt tokens",
        RIGHT,
        out=sample.folder / f"tune-{len(questions)}",
        embedder=EMBEDDER,
        style="phrase",
    )
    reference, within, changed, saved = len(singles) - 1, 0, 0, []
    for seed in range(SPLITS):
        shuffled = np.random.default_rng(seed).permutation(len(questions))
        seen, unseen = np.array_split(shuffled, 2)
        first, second = np.array_split(seen, 2)
        i, bound = choose(tables, reference, first, second, MARGIN, DELTA)
        within += int(lost_against(tables[i], tables[reference])[unseen].mean() <= bound)
        changed += int(i != reference)
        saved.append(1 - tables[i].cost[unseen].mean() / tables[reference].cost[unseen].mean())
    return {
        "tune_n": len(questions),
        "tune_splits": SPLITS,
        "tune_within_bound": within,
        "tune_changed": changed,
        "tune_tokens_saved": float(np.mean(saved)),
        "tune_share_generated": len(singles) / len(tables),
    }
