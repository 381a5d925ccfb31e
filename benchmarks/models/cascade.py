"""How much of the large reader's rightness does a cascade keep, and at what share of its cost?

Both readers answer all questions, the small one from half as many tokens of sources. A cascade keeps the small reader's answer if
its confidence reaches a threshold. The threshold is chosen on one half of the questions: the cheapest that keeps `KEPT_SHARE` of
the large reader's F1. The figures are of the other half. The cost of an answer is its tokens, those of the prompt and of the
answer, times the number of weights that compute each token: on an idle machine the seconds follow it, and a busy machine does not
change it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models.questions import Half, QuestionSet, open_database, read_sets, score
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve_model

__all__ = ["measure"]

_LARGE = "qwen2.5-coder-1.5b"
_SMALL = {"smollm2": "smollm2-135m", "reader": "smollm2-135m+reader", "qwen05": "qwen2.5-coder-0.5b"}
PAIRS = {pair: (small, _LARGE) for pair, small in _SMALL.items()}
"""The small and the large reader, by the name that the figures have."""

SMALL_TOKENS = 150
"""Most tokens of sources for a small reader; the large one reads as many as its profile says."""

KEPT_SHARE = 0.98
QUESTIONS, QUICK_QUESTIONS = 200, 4  # of each data set


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reader makes of one question.

    Attributes:
        half: Of the question.
        f1: Word-level F1 of the answer.
        confidence: Of the answer.
        cost: Tokens times weights.
    """

    half: Half
    f1: float
    confidence: float
    cost: float


@dataclass(frozen=True, slots=True)
class Shares:
    """A cascade beside its large reader alone."""

    f1: float
    cost: float
    escalated: float


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return the shares of each pair; those without the name of a pair are of the cheapest pair that keeps enough F1."""
    count = QUICK_QUESTIONS if is_quick else QUESTIONS
    sets = read_sets(data, count)
    names = dict.fromkeys(name for pair in PAIRS.values() for name in pair)
    outcomes = {name: _read(name, sets) for name in names}
    figures: dict[str, float | int | None] = {"cascade_n": count * len(sets) // 2}
    tuned: dict[str, tuple[Shares, float]] = {}
    for pair, (small, large) in PAIRS.items():
        tuned[pair] = choose_threshold(_of("tuned", outcomes[small]), _of("tuned", outcomes[large]))
        shares = run_cascade(_of("held-out", outcomes[small]), _of("held-out", outcomes[large]), tuned[pair][1])
        print(f"{pair}: threshold {tuned[pair][1]:.3f}, {shares}", flush=True)
        figures |= {f"cascade_{pair}_f1_share": shares.f1, f"cascade_{pair}_cost_share": shares.cost}
        figures |= {f"cascade_{pair}_escalated": shares.escalated}
    best = min(tuned, key=lambda pair: (tuned[pair][0].f1 < KEPT_SHARE, tuned[pair][0].cost))
    return figures | {f"cascade_{name}_share": figures[f"cascade_{best}_{name}_share"] for name in ("f1", "cost")}


def _read(name: str, sets: Sequence[QuestionSet]) -> list[Outcome]:
    files, limit = resolve_model(name), None if name == _LARGE else SMALL_TOKENS
    outcomes = []
    with LlamaCppModel(files.path, adapters=files.adapters, name=name, no_repeats=True) as model:
        for questions in sets:
            with open_database(questions.source, model=model, style="phrase") as rag:
                for question in questions.asked:
                    answer = rag.ask(question.text, context_tokens=limit)
                    cost = answer.usage.total_tokens * float(model.n_params)
                    right = score(answer, question.answers).f1
                    outcomes.append(Outcome(question.half, right, answer.confidence or 0.0, cost))
    return outcomes


def _of(half: Half, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.half == half]


def run_cascade(small: Sequence[Outcome], large: Sequence[Outcome], threshold: float) -> Shares:
    """Return what a cascade keeps and costs if it asks the large reader below a threshold of confidence."""
    escalates = [outcome.confidence < threshold for outcome in small]
    kept = sum(b.f1 if up else a.f1 for a, b, up in zip(small, large, escalates, strict=True))
    paid = sum(a.cost + (b.cost if up else 0.0) for a, b, up in zip(small, large, escalates, strict=True))
    best = sum(outcome.f1 for outcome in large)
    return Shares(
        kept / best if best else math.nan,
        paid / sum(outcome.cost for outcome in large),
        sum(escalates) / len(escalates),
    )


def choose_threshold(small: Sequence[Outcome], large: Sequence[Outcome]) -> tuple[Shares, float]:
    """Return the cheapest cascade that keeps `KEPT_SHARE` of the F1, and its threshold; all is escalated if none does."""
    thresholds = sorted({0.0, math.inf, *(outcome.confidence for outcome in small)})
    cascades = [(run_cascade(small, large, threshold), threshold) for threshold in thresholds]
    return min(cascades, key=lambda cascade: (cascade[0].f1 < KEPT_SHARE, cascade[0].cost))
