"""Does a small model answer better from few packed tokens than from everything that was found?

Each question is asked twice of the same index and model: with the whole top 10 in the prompt, and with a context packed to 300
tokens. Order alternates from question to question. "EM" is a gold answer standing in the reply after SQuAD's normalisation: small
models answer in sentences.

    python -m benchmarks.reading --data DIR --json FILE [--quick]
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.common import Questions, finish, parse_arguments, read_nq, read_squad
from leanrag.llama.model import LlamaCppModel
from leanrag.metrics import bootstrap_interval, contains_answer, f1
from leanrag.models import resolve

MODEL, EMBEDDER = "smollm2-135m", "all-minilm-l6-v2"
QUESTIONS, QUICK_QUESTIONS = 50, 1  # of each set; the full top 10 takes a small machine ten seconds a question
PACKED_TOKENS = 300
EVERYTHING = 1_000_000  # more than any window: the whole top 10


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer, measured."""

    em: float
    f1: float
    prompt_tokens: int
    seconds: float


def read(rag: leanrag.Rag, question: str, answers: tuple[str, ...], context_tokens: int) -> Reading:
    started = time.perf_counter()
    answer = rag.ask(question, context_tokens=context_tokens)
    seconds = time.perf_counter() - started
    assert answer.generation is not None
    reply = answer.generation.text
    return Reading(float(contains_answer(reply, answers)), f1(reply, answers), answer.usage.prompt_tokens, seconds)


def measure(questions: Questions, count: int, model: LlamaCppModel) -> dict[str, float]:
    asked = questions.questions[:: max(1, len(questions.questions) // count)][:count]
    readings: dict[str, list[Reading]] = {"full": [], "packed": []}
    with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, model=model, embedder=EMBEDDER, k=10) as rag:
        wanted = {question.document_id for question in asked}
        is_small = count <= QUICK_QUESTIONS  # embed few passages when a minute must do
        rag.add(*[d for i, d in enumerate(questions.documents) if not is_small or d.id in wanted or i % 20 == 0])
        rag.ask(asked[0].text, max_tokens=1)  # warm: the index is filled at the first search
        for number, question in enumerate(tqdm(asked, desc=questions.name, disable=None)):
            order = ("full", "packed") if number % 2 else ("packed", "full")
            for name in order:
                budget = EVERYTHING if name == "full" else PACKED_TOKENS
                readings[name].append(read(rag, question.text, question.answers, budget))
    name = questions.name
    figures: dict[str, float] = {f"{name}_n": len(asked)}
    for way, rows in readings.items():
        figures |= {
            f"{name}_em_{way}": float(np.mean([row.em for row in rows])),
            f"{name}_f1_{way}": float(np.mean([row.f1 for row in rows])),
            f"{name}_tokens_{way}": float(np.mean([row.prompt_tokens for row in rows])),
            f"{name}_seconds_{way}": float(np.median([row.seconds for row in rows])),
        }
        low, high = bootstrap_interval([row.em for row in rows])
        print(
            f"{name:6} {way:7} EM {figures[f'{name}_em_{way}']:.3f} [{low:.3f}, {high:.3f}]  F1 {figures[f'{name}_f1_{way}']:.3f}"
        )
    full, packed = readings["full"], readings["packed"]
    gain = [b.em - a.em for a, b in zip(full, packed, strict=True)]
    low, high = bootstrap_interval(gain)
    latency = [b.seconds / a.seconds for a, b in zip(full, packed, strict=True)]
    print(
        f"{name:6} packed - full, EM: {np.mean(gain):+.3f} [{low:+.3f}, {high:+.3f}]; seconds, ratio: {np.median(latency):.3f}"
    )
    return figures | {
        f"{name}_em_gain": float(np.mean(gain)),
        f"{name}_em_gain_low": low,
        f"{name}_em_gain_high": high,
        f"{name}_tokens_ratio": figures[f"{name}_tokens_packed"] / figures[f"{name}_tokens_full"],
        f"{name}_latency_ratio": float(np.median(latency)),
    }


def main() -> None:
    arguments = parse_arguments(__doc__)
    count = QUICK_QUESTIONS if arguments.is_quick else QUESTIONS
    figures: dict[str, float] = {"n": 2 * count}
    with LlamaCppModel(resolve(MODEL), name=MODEL) as model:
        for questions in (read_nq(arguments.data), read_squad(arguments.data)):
            figures |= measure(questions, count, model)
    models = {name: resolve(name) for name in (MODEL, EMBEDDER)}
    finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick)


if __name__ == "__main__":
    main()
