"""Questions to calibrate with: read from a file, and checked before a model is asked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pydantic

from leanrag.checks import check_share, first_problem
from leanrag.errors import ConfigurationError, DocumentError
from leanrag.routing.calibration import rows_needed

__all__ = ["CalibrationPlan", "IsRight", "LabelledQuestion", "Question", "plan_calibration", "read_questions"]

Question = str | tuple[str, Sequence[str]]
"""A question, alone or with its right answers. An empty list says that the sources do not answer it."""

IsRight = Callable[[str, Sequence[str]], bool]
"""Whether an answer is right, given the right answers."""


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """Questions to calibrate with, and the risk of each step of a cascade.

    Attributes:
        questions: The texts of the questions.
        answers: The right answers to each question; an empty tuple if the sources do not answer it. None uses the answers of the
            last model as the right answers.
        alpha: Highest risk of each step.
        delta: Probability that the risk of a step is higher than `alpha`.
    """

    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None
    alpha: float
    delta: float


def plan_calibration(
    questions: Iterable[Question], *, models: int, alpha: float, delta: float, is_right: IsRight | None
) -> CalibrationPlan:
    """Check the arguments of `Rag.calibrate`, before a model is asked.

    A cascade of n models has n - 1 steps. Each step gets an equal part of `alpha` and `delta`, because the losses of the steps add
    up at most, and so do the probabilities that a bound does not hold.

    Raises:
        ConfigurationError: An argument cannot work, or there are too few questions.
    """
    rows = [_row(number, row) for number, row in enumerate(questions, 1)]
    texts = tuple(row[0] for row in rows)
    if blank := [number for number, text in enumerate(texts, 1) if not text.strip()]:
        raise ConfigurationError(f"a question must not be empty; question {blank[0]} is {texts[blank[0] - 1]!r}")
    answers = tuple(tuple(right or ()) for _, right in rows)
    without = [number for number, (_, right) in enumerate(rows, 1) if right is None]
    if without and len(without) < len(rows):
        raise ConfigurationError(
            f"question {without[0]} has no answers, but other questions have. Give answers for all questions, or for no question"
        )
    if is_right is not None and without:
        raise ConfigurationError("`is_right` compares with right answers. Give the questions with their answers")
    if models == 1 and without:
        raise ConfigurationError(
            "a single model has no larger model to compare with. Pass each question with its answers"
        )
    check_share(open_ends="0", highest=0.5, delta=delta)
    steps = max(1, models - 1)
    needed = rows_needed(alpha / steps, delta / steps)
    if len(rows) < needed:
        raise ConfigurationError(
            f"{len(rows)} questions cannot certify a risk of at most {alpha:g} with probability {1 - delta:g}: at least "
            f"{needed} are needed, and many more to keep a large share. Give more questions, or raise `alpha` or `delta`"
        )
    return CalibrationPlan(texts, None if without else answers, alpha / steps, delta / steps)


def _row(number: int, row: object) -> tuple[str, Sequence[str] | None]:
    """Return a question and its right answers, None if the caller passed no answers."""
    if isinstance(row, str):
        return row, None
    if isinstance(row, Sequence) and len(row) == 2 and isinstance(row[0], str):
        right = (row[1],) if isinstance(row[1], str) else row[1]
        if right is None or (isinstance(right, Sequence) and all(isinstance(a, str) and a.strip() for a in right)):
            return row[0], right
    raise ConfigurationError(
        f"a question must be a text, or a pair of a text and a list of right answers (empty if the sources do not answer it); "
        f"question {number} is {row!r:.100}. `leanrag.routing.read_questions` reads questions from a file"
    )


class LabelledQuestion(pydantic.BaseModel):
    """A line of a file of questions; other fields are ignored.

    Attributes:
        question: Plain text.
        answers: The right answers; an empty list if the sources do not answer the question; None if they are unknown.
    """

    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    question: str = pydantic.Field(pattern=r"\S")
    answers: list[str] | None = None


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Read questions from a file of JSON lines, `{"question": ..., "answers": [...]}`. The answers are optional.

    Raises:
        DocumentError: The file cannot be read, or a line is not such an object.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise DocumentError(f"cannot read the questions {str(path)!r}: {error}", path=path) from error
    questions: list[Question] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = LabelledQuestion.model_validate_json(line)
        except pydantic.ValidationError as error:
            where, problem, _ = first_problem(error)
            raise DocumentError(
                f"line {number} of {str(path)!r} is not a question ({where or 'the line'}: {problem}). A line must be a JSON "
                'object such as {"question": "Who?", "answers": ["Ada Park"]}; the answers are optional',
                path=path,
            ) from error
        questions.append(row.question if row.answers is None else (row.question, row.answers))
    return questions
