"""B0 and leanrag on the same questions: latency, CPU seconds, tokens, throughput, and the paired difference of right answers."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.common import Questions, read_nq, read_squad
from leanrag.evaluation import Question, run
from leanrag.evaluation.measures import RIGHT, cpu_seconds
from leanrag.metrics import contains_answer, paired_bootstrap
from leanrag.models import resolve_model

LARGE, SMALL, EMBEDDER = "qwen2.5-coder-1.5b", "qwen2.5-coder-0.5b", "all-minilm-l6-v2"
QUESTIONS, QUICK_QUESTIONS = 100, 3
CALLERS = 8
MAX_TOKENS = 48
_PROMPT = "{context}\n\nBased only on the text above, answer this question: {question}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What happened to each question, arrays `(n,)`, and how many questions a second eight callers get answered."""

    right: Sequence[float]
    seconds: Sequence[float]
    cpu_seconds: Sequence[float]
    prompt_tokens: Sequence[float]
    throughput: float


def squad(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Measure on SQuAD."""
    return _measure("squad", read_squad(data), is_quick)


def nq(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Measure on Natural Questions."""
    return _measure("nq", read_nq(data), is_quick)


def _measure(name: str, dataset: Questions, is_quick: bool) -> dict[str, float | int | None]:
    order = np.random.default_rng(0).permutation(len(dataset.questions))
    chosen = [dataset.questions[i] for i in order[: QUICK_QUESTIONS if is_quick else QUESTIONS]]
    documents = dataset.documents
    if is_quick:
        wanted = {question.document_id for question in chosen}
        documents = tuple(document for document in documents if document.id in wanted) + documents[:40]
    questions = [Question(each.text, each.answers, f"{i}") for i, each in enumerate(chosen)]
    with tempfile.TemporaryDirectory() as folder:
        with leanrag.open(folder, model=SMALL, embedder=EMBEDDER) as rag:
            rag.add(*{document.id: document for document in documents}.values())
        ours, baseline = _ask_leanrag(folder, questions), _ask_b0(folder, questions)
    low, high, _ = paired_bootstrap(baseline.right, ours.right)
    print(
        f"right: B0 {np.mean(baseline.right):.3f}, leanrag {np.mean(ours.right):.3f}, difference [{low:+.3f}, {high:+.3f}]"
    )
    return {
        f"{name}_n": len(questions),
        f"{name}_latency_ratio": float(np.median(baseline.seconds) / np.median(ours.seconds)),
        f"{name}_cost_ratio": float(np.mean(baseline.cpu_seconds) / np.mean(ours.cpu_seconds)),
        f"{name}_throughput_ratio": ours.throughput / baseline.throughput,
        f"{name}_tokens_ratio": float(np.mean(baseline.prompt_tokens) / np.mean(ours.prompt_tokens)),
        f"{name}_accuracy_diff": float(np.mean(ours.right) - np.mean(baseline.right)),
        f"{name}_accuracy_diff_low": low,
    }


def _ask_leanrag(folder: str, questions: Sequence[Question]) -> Measured:
    """Ask one at a time, then all again from eight callers, in a folder that is opened anew: nothing is cached."""
    with leanrag.open(folder, model=SMALL, embedder=EMBEDDER, create=False) as rag:
        rag.ask("Is the model loaded?")
        result = run(rag, questions, name="leanrag")
    answers = [outcome.answer for outcome in result.outcomes if outcome.answer is not None]
    with leanrag.open(folder, model=SMALL, embedder=EMBEDDER, create=False) as rag:
        rag.ask("Is the model loaded?")
        started = time.perf_counter()
        rag.ask_many([question.text for question in questions], parallel=CALLERS)
        throughput = len(questions) / (time.perf_counter() - started)
    return Measured(
        [RIGHT.value(outcome) or 0.0 for outcome in result.outcomes],
        [outcome.seconds for outcome in result.outcomes],
        [
            cpu_seconds(outcome.question, outcome.answer) or 0.0
            for outcome in result.outcomes
            if outcome.answer is not None
        ],
        [answer.usage.prompt_tokens for answer in answers],
        throughput,
    )


def _ask_b0(folder: str, questions: Sequence[Question]) -> Measured:
    """Ask as most programs do. Requests wait for each other, so that eight callers are answered no sooner than one."""
    import llama_cpp

    model = llama_cpp.Llama(str(resolve_model(LARGE).path), n_ctx=4096, verbose=False)
    right, seconds, cpu, tokens = [], [], [], []
    with leanrag.open(folder, model=SMALL, embedder=EMBEDDER, create=False) as rag:
        rag.search("Is the index loaded?")
        for question in tqdm(questions, desc="B0", leave=False):
            started, cpu_started = time.perf_counter(), time.process_time()
            context = "\n\n".join(hit.chunk.text for hit in rag.search(question.text, 10))
            message = {"role": "user", "content": _PROMPT.format(context=context, question=question.text)}
            reply: Any = model.create_chat_completion([message], max_tokens=MAX_TOKENS, temperature=0.0)
            seconds.append(time.perf_counter() - started)
            cpu.append(time.process_time() - cpu_started)
            tokens.append(float(reply["usage"]["prompt_tokens"]))
            right.append(float(contains_answer(reply["choices"][0]["message"]["content"], question.answers or ())))
    model.close()
    return Measured(right, seconds, cpu, tokens, len(questions) / sum(seconds))
