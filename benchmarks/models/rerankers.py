"""Does a reranker pay: is the right passage nearer the top, and does the packed prompt hold the answer more often?

The questions are those of Natural Questions and SQuAD 2.0 that their documents answer. The reader is the smallest of the registry:
the others take longer in proportion to their size.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.models.questions import QuestionSet, open_database, read_sets
from leanrag.llama import LlamaCppModel
from leanrag.metrics import answer_in_context, recall_at_k
from leanrag.models import resolve
from leanrag.protocols import Reranker
from leanrag.retrieval import CrossEncoderReranker, ReaderReranker

__all__ = ["measure"]

READER, CROSS_ENCODER = "smollm2-135m", "ms-marco-minilm-l12-v2"
CONTEXT_TOKENS = 300
KS = (1, 3, 5)
QUESTIONS, QUICK_QUESTIONS = 200, 6  # of each data set, with those that cannot be answered


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return recall, answers in context and milliseconds a question, for each data set and reranker."""
    figures: dict[str, float | int | None] = {}
    with LlamaCppModel(resolve(READER), name=READER) as model:
        rerankers: Mapping[str, Reranker | None] = {
            "none": None,
            "cross_encoder": CrossEncoderReranker(resolve(CROSS_ENCODER)),
            "reader": ReaderReranker(model, is_chat=True),
        }
        for questions in read_sets(data, QUICK_QUESTIONS if is_quick else QUESTIONS):
            for name, reranker in rerankers.items():
                measured = _measure(questions, model, reranker)
                print(questions.name, name, *(f"{key} {value:.3f}" for key, value in measured.items()), flush=True)
                figures |= {f"rerank_{questions.name}_{name}_{key}": value for key, value in measured.items()}
    return figures


def _measure(questions: QuestionSet, model: LlamaCppModel, reranker: Reranker | None) -> dict[str, float]:
    ranks: list[dict[int, bool]] = []
    holds: list[bool] = []
    seconds: list[float] = []
    with open_database(questions.source, model=model, reranker=reranker) as rag:
        for question in questions.asked:
            if question.answers:
                started = time.perf_counter()
                plan = rag.explain(question.text, context_tokens=CONTEXT_TOKENS)
                seconds.append(time.perf_counter() - started)
                found = [hit.chunk.document_id for hit in plan.hits]
                ranks.append({k: recall_at_k(found, question.document_id, k) for k in KS})
                holds.append(answer_in_context("\n".join(item.text for item in plan.packing.items), question.answers))
    recall = {f"recall_{k}": statistics.fmean(row[k] for row in ranks) for k in KS}
    return recall | {"in_context": statistics.fmean(holds), "ms": 1000 * statistics.median(seconds)}
