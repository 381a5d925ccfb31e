"""Do small readers answer right from the prompt, and does the verdict say so?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import leanrag
from benchmarks.kinds.material import Kind, contains_span, spread
from benchmarks.kinds.measuring import opened
from leanrag.errors import BudgetError
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve
from leanrag.protocols import Embedder, LanguageModel

__all__ = ["READERS", "Reading", "measure_reader"]

READERS: Mapping[str, str] = {"smollm2": "smollm2-135m", "qwen": "qwen2.5-coder-0.5b"}
"""Models by the name that the figures have."""

ANSWER_TOKENS = 48


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader made of one kind; an element a question.

    Attributes:
        kind: The kind.
        right: Whether the shortest answer stands in the reply.
        supported: Whether the verdict says that the sources carry the reply.
    """

    kind: Kind
    right: Sequence[bool]
    supported: Sequence[bool]

    @property
    def verdict_right(self) -> float:
        """Share of the replies that are right and supported, or wrong and not supported."""
        return statistics.fmean(a == b for a, b in zip(self.right, self.supported, strict=True))


def measure_reader(name: str, kinds: Sequence[Kind], embedder: Embedder, *, questions: int) -> list[Reading]:
    """Let a reader answer some questions of each kind, with the settings that a user gets, and print a line a kind.

    Raises:
        ModelLoadError: The model is not here.
    """
    readings = []
    with LlamaCppModel(resolve(READERS[name])) as model:
        for kind in kinds:
            readings.append(_read(kind, model, embedder, questions))
            right, verdict = statistics.fmean(readings[-1].right), readings[-1].verdict_right
            print(f"{name:8} {kind.name:15} {kind.half:9} right {right:.3f}  verdict right {verdict:.3f}", flush=True)
    return readings


def _read(kind: Kind, model: LanguageModel, embedder: Embedder, count: int) -> Reading:
    questions = spread(kind.questions, count)
    with opened(kind, model, embedder) as databases:
        answers = [_answer(databases["default"], question.text) for question in questions]
    right = [
        answer is not None and contains_span(answer.text.casefold(), question.answer.casefold())
        for answer, question in zip(answers, questions, strict=True)
    ]
    return Reading(kind, right, [answer is not None and answer.is_supported for answer in answers])


def _answer(database: leanrag.Rag, question: str) -> leanrag.Answer | None:
    """Return the answer; None when nothing fits the budget."""
    try:
        return database.ask(question, max_tokens=ANSWER_TOKENS)
    except BudgetError:
        return None
