"""Does `tune` keep its bound on questions that it did not see, and how few of its points ask a model?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import leanrag
from benchmarks.common import read_squad
from leanrag.evaluation import Question, TunedSettings
from leanrag.evaluation.measures import RIGHT
from leanrag.evaluation.tuning import THRESHOLDS, choose, lost_against, measure_tables

MODELS, EMBEDDER = ("smollm2-135m", "qwen2.5-coder-0.5b"), "all-minilm-l6-v2"
QUESTIONS, QUICK_QUESTIONS = 400, 4
CONTEXT_TOKENS = (150, 400)
SPLITS = 50
MARGIN, DELTA = 0.1, 0.1


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Choose on one half of the questions, and count the losses on the other half, in 50 random splits."""
    dataset = read_squad(data)
    order = np.random.default_rng(0).permutation(len(dataset.questions))
    chosen = [dataset.questions[i] for i in order[: QUICK_QUESTIONS if is_quick else QUESTIONS]]
    questions = [Question(each.text, each.answers, f"{i}") for i, each in enumerate(chosen)]
    wanted = {question.document_id for question in chosen}
    singles = [
        TunedSettings(models=(model,), k=10, context_tokens=tokens, packer="evidence", threshold=None)
        for model in MODELS
        for tokens in CONTEXT_TOKENS
    ]
    with tempfile.TemporaryDirectory() as folder:
        with leanrag.open(folder, model=MODELS[0], embedder=EMBEDDER) as rag:
            rag.add(*(document for document in dataset.documents if document.id in wanted))
        tables = measure_tables(
            folder, questions, singles, MODELS, THRESHOLDS, "prompt tokens", RIGHT, embedder=EMBEDDER
        )
    reference, within, saved = len(singles) - 1, 0, []
    for seed in range(SPLITS):
        shuffled = np.random.default_rng(seed).permutation(len(questions))
        seen, unseen = np.array_split(shuffled, 2)
        first, second = np.array_split(seen, 2)
        i, bound = choose(tables, reference, first, second, MARGIN, DELTA)
        within += int(lost_against(tables[i], tables[reference])[unseen].mean() <= bound)
        saved.append(1 - tables[i].cost[unseen].mean() / tables[reference].cost[unseen].mean())
    print(f"{within} of {SPLITS} splits within the bound; prompt tokens saved: {np.mean(saved):.1%} on average")
    return {"tune_within_bound": within, "tune_share_generated": len(singles) / len(tables)}
