"""Questions with what is known about their right answers, and data sets of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError
from leanrag.types import Document
from leanrag.types.codec import to_json

__all__ = ["Dataset", "Passage", "Question", "digest_of", "to_questions"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that helps to answer a question.

    Attributes:
        document_id: The document.
        start: First character of the part; None for the whole document.
        end: One past the last character; None for the whole document.
        gain: How much it helps, above 0; only nDCG uses it.
    """

    document_id: str
    start: int | None = None
    end: int | None = None
    gain: float = 1.0

    def overlaps(self, document_id: str, start: int, end: int) -> bool:
        """Return whether the span of a document shares a character with this passage."""
        if document_id != self.document_id:
            return False
        return self.start is None or self.end is None or (start < self.end and self.start < end)


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a data set.

    Attributes:
        text: The question.
        answers: The right answers; an empty tuple if the sources do not answer it; None if they are unknown.
        id: Its name, different from the names of the other questions.
        passages: The passages that help to answer it; empty if they are unknown.
        hidden: Paths of files that the search must not find. The question is asked as if the folder did not hold them.
    """

    text: str
    answers: tuple[str, ...] | None = None
    id: str = ""
    passages: tuple[Passage, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def is_answerable(self) -> bool | None:
        """Whether the sources answer it; None if that is unknown."""
        return None if self.answers is None else bool(self.answers)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Questions, and the documents that they are about.

    Attributes:
        name: Name of the data set.
        questions: The questions.
        documents: The documents; empty if the questions are about documents that are elsewhere.
    """

    name: str
    questions: tuple[Question, ...]
    documents: tuple[Document, ...] = ()

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Return the data set with `n` of its questions drawn at random, in their order; with all if there are fewer."""
        check_whole(1, n=n)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.questions))[:n])
        return Dataset(self.name, tuple(self.questions[i] for i in chosen), self.documents)


def to_questions(questions: Dataset | Iterable[Question | str | tuple[str, Sequence[str]]]) -> tuple[Question, ...]:
    """Return questions with ids that differ: a question without an id is named by its number, from 1.

    Args:
        questions: A data set; or questions, as values, texts, or pairs of a text and its right answers.

    Raises:
        ConfigurationError: There are no questions, a question is empty, or two questions have the same id.
    """
    rows = questions.questions if isinstance(questions, Dataset) else questions
    named = tuple(_to_question(number, row) for number, row in enumerate(rows, 1))
    if not named:
        raise ConfigurationError("there are no questions. Pass at least one question")
    first: dict[str, int] = {}
    for number, question in enumerate(named, 1):
        if first.setdefault(question.id, number) != number:
            raise ConfigurationError(
                f"questions {first[question.id]} and {number} have the same id {question.id!r}. Give each question its own id"
            )
    return named


def _to_question(number: int, row: object) -> Question:
    if isinstance(row, str):
        row = Question(row)
    elif isinstance(row, tuple) and len(row) == 2:
        text, answers = row
        row = Question(text, (answers,) if isinstance(answers, str) else tuple(answers))
    if not isinstance(row, Question):
        raise ConfigurationError(
            f"question {number} must be a `Question`, a text, or a pair of a text and its right answers, got {row!r:.100}"
        )
    if not row.text.strip():
        raise ConfigurationError(f"question {number} is empty: {row.text!r}. Remove it, or write the question")
    if any(not answer.strip() for answer in row.answers or ()):
        raise ConfigurationError(
            f"question {number} has an empty answer: {row.answers!r}. Remove the answer; if the sources do not answer the "
            "question, use an empty list"
        )
    return row if row.id else Question(row.text, row.answers, str(number), row.passages, row.hidden)


def digest_of(questions: Iterable[Question]) -> str:
    """Return a hash of the questions and everything that is known about them, hexadecimal."""
    digest = hashlib.sha256()
    for question in questions:
        digest.update(to_json(question).encode() + b"\n")
    return digest.hexdigest()
