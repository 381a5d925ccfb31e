"""The questions that readers are asked, and the databases that answer them."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import leanrag
from benchmarks.common import Questions, read_nq, read_squad
from leanrag.metrics import exact_match, f1
from leanrag.routing.labels import answer_text
from leanrag.types import Answer

__all__ = ["EMBEDDER", "Asked", "Half", "QuestionSet", "Score", "open_database", "read_sets", "score"]

EMBEDDER = "all-minilm-l6-v2"

Half = Literal["tuned", "held-out"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question.

    Attributes:
        text: The question.
        answers: The accepted answers; none if the documents do not answer it.
        document_id: The passage that it was asked about.
        half: Whether a choice may be made by it. The figures are of the other half.
    """

    text: str
    answers: tuple[str, ...]
    document_id: str
    half: Half


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """A data set, and those of its questions that are asked."""

    source: Questions
    asked: tuple[Asked, ...]

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.source.name


@dataclass(frozen=True, slots=True)
class Score:
    """How good an answer is; if there is no right answer, 1 for the answer that the documents do not say.

    Attributes:
        em: Exact match.
        f1: Word-level F1.
    """

    em: float
    f1: float


def read_sets(data: Path, count: int) -> tuple[QuestionSet, ...]:
    """Return `count` questions of Natural Questions and of SQuAD 2.0, unanswerable ones included. Every second is of each half."""
    return tuple(_choose(questions, count) for questions in (read_nq(data), read_squad(data, answerable=None)))


def _choose(questions: Questions, count: int) -> QuestionSet:
    rows = questions.questions
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    halves: tuple[Half, Half] = ("tuned", "held-out")
    return QuestionSet(
        questions, tuple(Asked(row.text, row.answers, row.document_id, halves[i % 2]) for i, row in enumerate(chosen))
    )


@contextlib.contextmanager
def open_database(questions: Questions, **options: object) -> Iterator[leanrag.Rag]:
    """Open the database of all documents of a data set. It stays in the folder of temporary files for the next run."""
    ids = "\n".join(document.id for document in questions.documents)
    digest = hashlib.sha256(f"{leanrag.__version__}\n{ids}".encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"leanrag-readers-{questions.name}-{digest}"
    with leanrag.open(folder, embedder=EMBEDDER, k=10, **options) as rag:  # type: ignore[arg-type]
        if rag.stats().documents < len(questions.documents):
            rag.add(*questions.documents)
        yield rag


def score(answer: Answer, answers: Sequence[str]) -> Score:
    """Return how good an answer is."""
    is_silent = answer.abstained or answer.generation is None
    if not answers or is_silent:
        return Score(float(is_silent == (not answers)), float(is_silent == (not answers)))
    text = answer_text(answer.text)
    return Score(float(exact_match(text, answers)), f1(text, answers))
