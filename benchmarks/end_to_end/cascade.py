"""How many calls of the largest model does a cascade save at equal accuracy?

The trained reader and the largest model answer the same questions. In each split, one half of the questions chooses the threshold:
the lowest with which the cascade is right at least as often as the largest model alone. The other half counts the saved calls.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import leanrag
from benchmarks.common import Figures, read_nq, read_squad
from benchmarks.end_to_end.measuring import Sample, choose_questions, make_database
from benchmarks.end_to_end.stages import CONTEXT_TOKENS, EMBEDDER, LARGE, READER, READER_TOKENS, Models
from leanrag.evaluation import Question, run
from leanrag.evaluation.measures import RIGHT

__all__ = ["measure", "saved_share"]

QUESTIONS, QUICK_QUESTIONS = 60, 1  # of each data set
SPLITS = 50
_THRESHOLDS = np.arange(0.0, 1.0001, 0.01)


def measure(data: Path, is_quick: bool) -> Figures:
    """Measure on Natural Questions and SQuAD together."""
    small, large, confidence = [], [], []
    with contextlib.ExitStack() as stack:
        models = Models(stack)
        for source in (read_nq(data), read_squad(data)):
            sample = choose_questions(source, QUICK_QUESTIONS if is_quick else QUESTIONS)
            first = _ask(sample, models, f"{READER}+reader", READER_TOKENS)
            second = _ask(sample, models, LARGE, CONTEXT_TOKENS)
            small += [right for right, _ in first]
            confidence += [value for _, value in first]
            large += [right for right, _ in second]
    saved, difference = [], []
    for seed in range(SPLITS):
        chosen, unseen = np.array_split(np.random.default_rng(seed).permutation(len(small)), 2)
        share, gain = saved_share(np.array(small), np.array(large), np.array(confidence), chosen, unseen)
        saved.append(share)
        difference.append(gain)
    return {
        "cascade_n": len(small),
        "cascade_small_right": float(np.mean(small)),
        "cascade_large_right": float(np.mean(large)),
        "cascade_right_diff": float(np.mean(difference)),
        "calls_saved_equal_accuracy": float(np.mean(saved)),
    }


def saved_share(
    small: NDArray[np.float64],
    large: NDArray[np.float64],
    confidence: NDArray[np.float64],
    chosen: NDArray[np.int64],
    unseen: NDArray[np.int64],
) -> tuple[float, float]:
    """Return the share of calls that is saved on the unseen questions, and the difference of right answers to the largest model.

    Args:
        small: Whether the small model is right, `(n,)`.
        large: Whether the largest model is right, `(n,)`.
        confidence: Of the small model's answers, `(n,)`.
        chosen: Indices of the questions that choose the threshold.
        unseen: Indices of the others.
    """
    threshold = next(
        (
            value
            for value in _THRESHOLDS
            if np.where(confidence >= value, small, large)[chosen].mean() >= large[chosen].mean()
        ),
        np.inf,
    )
    is_kept = confidence >= threshold
    right = np.where(is_kept, small, large)
    return float(is_kept[unseen].mean()), float(right[unseen].mean() - large[unseen].mean())


def _ask(sample: Sample, models: Models, name: str, tokens: int) -> Sequence[tuple[float, float]]:
    """Return for each question whether the model is right, and its confidence; the answers stay in a file for the next run."""
    model = models.load(name, type="q4_0" if name == LARGE else "")
    questions = [Question(each.text, each.answers, f"{i}") for i, each in enumerate(sample.questions)]
    database = make_database(sample)
    path = sample.folder / f"{name}-{tokens}-{len(questions)}.jsonl"
    with leanrag.open(database, model=model, embedder=EMBEDDER, context_tokens=tokens, style="phrase") as rag:
        result = run(rag, questions, path=path, name=name)
    return [
        (RIGHT.value(outcome) or 0.0, 0.0 if outcome.answer is None else outcome.answer.confidence or 0.0)
        for outcome in result.outcomes
    ]
