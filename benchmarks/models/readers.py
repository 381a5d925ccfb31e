"""How well do the readers of the registry answer, from 300 packed tokens of sources and from all ten hits?

Every reader answers the same questions of Natural Questions and SQuAD 2.0, half of which the documents do not answer, with the
shortest phrase. No profile was chosen by these questions.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.models.questions import Asked, QuestionSet, Score, open_database, read_sets, score
from leanrag import Rag
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve

__all__ = ["READERS", "measure"]

READERS = {"smollm2": "smollm2-135m", "qwen05": "qwen2.5-coder-0.5b", "qwen15": "qwen2.5-coder-1.5b"}
"""Models by the name that the figures have."""

WAYS = {"packed": 300, "full": 1_000_000}
"""Most tokens of sources. The second is more than any window: the whole text of all ten hits."""

QUESTIONS, QUICK_QUESTIONS = 100, 2  # of each data set


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer, measured."""

    score: Score
    prompt_tokens: int
    seconds: float


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return EM, F1, tokens and seconds of each reader, data set and way; `tokens_ratio` is packed tokens by those of all hits."""
    count = QUICK_QUESTIONS if is_quick else QUESTIONS
    sets = read_sets(data, 2 * count)
    figures: dict[str, float | int | None] = {"readers_n": count}
    ratios = []
    for reader, name in READERS.items():
        with LlamaCppModel(resolve(name), name=name, no_repeats=True) as model:
            for questions in sets:
                readings = _read(model, questions)
                for way, rows in readings.items():
                    figures |= _summarize(f"{questions.name}_{reader}", way, rows)
                ratios.append(_tokens(readings["packed"]) / _tokens(readings["full"]))
    return figures | {"tokens_ratio": statistics.fmean(ratios)}


def _read(model: LlamaCppModel, questions: QuestionSet) -> dict[str, list[Reading]]:
    """Ask the questions that no choice was made by, each in both ways; which way is first alternates."""
    readings: dict[str, list[Reading]] = {way: [] for way in WAYS}
    asked = [question for question in questions.asked if question.half == "held-out"]
    with open_database(questions.source, model=model, style="phrase") as rag:
        for i, question in enumerate(asked):
            for way in list(WAYS)[:: 1 if i % 2 else -1]:
                readings[way].append(_ask(rag, question, WAYS[way]))
    return readings


def _ask(rag: Rag, question: Asked, context_tokens: int) -> Reading:
    started = time.perf_counter()
    answer = rag.ask(question.text, context_tokens=context_tokens)
    seconds = time.perf_counter() - started
    return Reading(score(answer, question.answers), answer.usage.prompt_tokens, seconds)


def _summarize(name: str, way: str, rows: Sequence[Reading]) -> dict[str, float]:
    figures = {
        f"{name}_em_{way}": statistics.fmean(row.score.em for row in rows),
        f"{name}_f1_{way}": statistics.fmean(row.score.f1 for row in rows),
        f"{name}_tokens_{way}": _tokens(rows),
        f"{name}_seconds_{way}": statistics.median(row.seconds for row in rows),
    }
    print("  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)
    return figures


def _tokens(rows: Sequence[Reading]) -> float:
    return statistics.fmean(row.prompt_tokens for row in rows)
