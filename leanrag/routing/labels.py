"""What a cascade's models answered to questions, made into a `Calibration` for each of them.

The pipeline asks the models; here is what counts as right, and what is learnt from it.
"""

from __future__ import annotations

import datetime
import logging
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydantic

from leanrag.errors import ConfigurationError, DocumentError, GenerationError
from leanrag.metrics import contains_answer, f1
from leanrag.routing.calibration import CalibratedModel, Calibration, rows_needed
from leanrag.routing.signals import BEFORE, FEATURES, Signals, is_refusal
from leanrag.text import without_marks

__all__ = [
    "AGREEMENT_F1",
    "Failures",
    "LabelledQuestion",
    "Plan",
    "Question",
    "Sample",
    "agree",
    "fit_steps",
    "is_right_or_silent",
    "plan",
    "read_questions",
    "sample_text",
]

AGREEMENT_F1 = 0.6
"""Least word-level F1 of two answers that count as the same: a convention."""

MOST_FAILED = 0.1
"""Share of the questions that may fail before a calibration is given up: those that fail are not like the others."""

_log = logging.getLogger(__name__)

Question = str | tuple[str, Sequence[str]]
"""A question alone, or with the answers that are right; none of them where the sources do not answer it."""

IsRight = Callable[[str, Sequence[str]], bool]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model answered to one question: its words without marks, and the signals that go with them."""

    text: str
    signals: Signals


@dataclass(frozen=True, slots=True)
class Plan:
    """Questions to calibrate with, and what each step of the chain may lose.

    Attributes:
        questions: Plain texts.
        answers: Those that are right, for each question, none where the sources do not answer; None to compare with the last model.
        alpha: What the risk of one step may be.
        delta: Probability with which the risk of one step is more all the same.
    """

    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...] | None
    alpha: float
    delta: float


def plan(questions: Iterable[Question], *, models: int, alpha: float, delta: float, is_right: IsRight | None) -> Plan:
    """Check what `Rag.calibrate` was given, before a model is asked.

    A chain of several `models` has one step less, and each gets an equal part of `alpha` and `delta`: what the steps lose adds
    up at most, and so do the probabilities that one of them does not hold.

    Raises:
        ConfigurationError: An argument cannot work, or there are too few questions.
    """
    rows = [_row(number, row) for number, row in enumerate(questions, 1)]
    texts = tuple(row[0] for row in rows)
    if blank := [number for number, text in enumerate(texts, 1) if not text.strip()]:
        raise ConfigurationError(f"a question is a non-empty text; number {blank[0]} is {texts[blank[0] - 1]!r}")
    answers = tuple(tuple(own or ()) for _, own in rows)
    without = [number for number, (_, own) in enumerate(rows, 1) if own is None]
    if without and len(without) < len(rows):
        raise ConfigurationError(
            f"question {without[0]} has no answers, and others have; give answers to all of them, or to none"
        )
    if is_right is not None and without:
        raise ConfigurationError("`is_right` compares with the right answers; give the questions with theirs")
    if models == 1 and without:
        raise ConfigurationError("there is no larger model to compare one with; give the questions with their answers")
    if not 0 < delta <= 0.5:
        raise ConfigurationError(f"`delta` must be in (0, 0.5], got {delta!r}")
    steps = max(1, models - 1)
    needed = rows_needed(alpha / steps, delta / steps)
    if len(rows) < needed:
        raise ConfigurationError(
            f"{len(rows)} questions cannot certify a risk of at most {alpha:g} with probability {1 - delta:g}: at least "
            f"{needed} are needed, many more to keep much. Give more questions, or raise `alpha` or `delta`"
        )
    return Plan(texts, None if without else answers, alpha / steps, delta / steps)


def _row(number: int, row: object) -> tuple[str, Sequence[str] | None]:
    """A question with its answers, whatever the caller gave."""
    if isinstance(row, str):
        return row, None
    if isinstance(row, Sequence) and len(row) == 2 and isinstance(row[0], str):
        own = (row[1],) if isinstance(row[1], str) else row[1]
        if own is None or (isinstance(own, Sequence) and all(isinstance(one, str) and one.strip() for one in own)):
            return row[0], own
    raise ConfigurationError(
        f"a question is a text, or a pair of it and a list of answers, empty where there is none; number {number} is "
        f"{row!r:.100}. `leanrag.routing.labels.read_questions` reads a file of them"
    )


class Failures:
    """Counts the questions that failed, and gives up when they are too many. Any thread may call."""

    def __init__(self, questions: int) -> None:
        self._of, self._lock = questions, threading.Lock()
        self._messages: list[str] = []

    def add(self, question: str, error: Exception) -> None:
        """Take note of one.

        Raises:
            GenerationError: More than `MOST_FAILED` have failed.
        """
        with self._lock:
            self._messages.append(f"{question[:80]!r}: {error}")
            count = len(self._messages)
        if self.are_too_many:
            raise GenerationError(
                f"{count} of {self._of} questions failed, more than {MOST_FAILED:.0%}; the last was {self._messages[-1]}. "
                "Mend what fails, or leave these questions out",
                model=getattr(error, "model", ""),
            ) from error

    @property
    def are_too_many(self) -> bool:
        """Whether it gave up."""
        return len(self._messages) > MOST_FAILED * self._of

    def report(self) -> None:
        """Log a warning when there were some."""
        if self._messages:
            _log.warning(
                "%d of %d questions failed and are left out; the first was %s",
                len(self._messages),
                self._of,
                self._messages[0],
            )


def sample_text(text: str) -> str:
    """Return an answer without marks such as [1], which are no words of it.

    Example:
        >>> sample_text("In Oslo [1, 2].")
        'In Oslo.'
    """
    return without_marks(text).strip()


def agree(answer: str, other: str) -> bool:
    """Return whether two answers say the same: a word-level F1 of at least `AGREEMENT_F1`, marks aside.

    Example:
        >>> agree("Ada Park [1]", "It is Ada Park"), agree("Ada Park", "Lee Chen")
        (True, False)
    """
    return f1(sample_text(answer), [sample_text(other)]) >= AGREEMENT_F1


def is_right_or_silent(answer: str, answers: Sequence[str]) -> bool:
    """Return whether an answer contains one of those that are right or, where there is none, says that it does not know.

    Example:
        >>> is_right_or_silent("In Oslo.", ["Oslo"]), is_right_or_silent("The text does not say.", [])
        (True, True)
    """
    is_silent = is_refusal(answer)
    return is_silent if not answers else not is_silent and contains_answer(answer, answers)


def fit_steps(
    planned: Plan,
    samples: Sequence[Sequence[Sample | None]],
    models: Sequence[CalibratedModel],
    *,
    is_right: IsRight | None = None,
    created: datetime.date | None = None,
    seed: int = 0,
) -> tuple[Calibration, ...]:
    """Return a calibration for each model; with none for the last where nothing is known of it, or it is always right or never.

    Those before the last are made beside it: what they lose is what the last has right. Where some questions cannot be answered,
    what a model says counts after it has abstained (`Calibration.abstain_below`).

    Args:
        planned: From `plan`.
        samples: For each model, what it answered to each question; questions with a None are left out.
        models: The models, in the order of the chain.
        is_right: From an answer and those that are right; `is_right_or_silent` when None.
        created: The day; today when None.
        seed: Of the parts that `Calibration.fit` makes.

    Raises:
        ConfigurationError: Too few rows are left, or a model is always right, or never.
    """
    rows = [n for n, of_question in enumerate(zip(*samples, strict=True)) if None not in of_question]
    kept = [[sample for n in rows if (sample := own[n]) is not None] for own in samples]
    features = [np.array([s.signals.vector() for s in own]).reshape(len(rows), len(FEATURES)) for own in kept]
    last = models[-1]
    created = created or datetime.datetime.now(datetime.timezone.utc).date()

    def fit(place: int, right: Sequence[bool], **known: object) -> Calibration:
        model = models[place]
        try:
            return Calibration.fit(
                features[place],
                right,
                names=FEATURES,
                before=() if 0 < place < len(models) - 1 else BEFORE,  # those between are asked in any case
                models={model.name: model.sha256, last.name: last.sha256},
                created=created,
                alpha=planned.alpha,
                delta=planned.delta,
                seed=seed,
                **known,  # type: ignore[arg-type]
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"{model.name} cannot be calibrated: {error}") from error

    if planned.answers is None:
        agreement = [[agree(a.text, b.text) for a, b in zip(own, kept[-1], strict=True)] for own in kept[:-1]]
        source = f"agreement with {last.name}"
        return tuple(fit(place, right, label_source=source) for place, right in enumerate(agreement))
    judge = is_right or is_right_or_silent
    answers = [planned.answers[n] for n in rows]
    verdicts = [[bool(judge(s.text, a)) for s, a in zip(own, answers, strict=True)] for own in kept]
    silent = None if all(answers) else [not own for own in answers]
    larger, of_last, least = np.array(verdicts[-1]), None, None
    try:
        of_last = fit(len(models) - 1, verdicts[-1], unanswerable=silent)
    except ConfigurationError as error:
        if len(models) == 1:
            raise
        _log.info("%s", error)
    else:
        if silent is not None:
            larger = np.where(of_last.abstains(of_last.confidence(features[-1])), silent, larger)
            least = of_last.abstain_below or None
    steps = [
        fit(place, verdicts[place], larger_right=larger, unanswerable=silent, larger_abstain_below=least)
        for place in range(len(models) - 1)
    ]
    return (*steps, *([] if of_last is None else [of_last]))


class LabelledQuestion(pydantic.BaseModel):
    """A line of a file of questions; other fields are passed over.

    Attributes:
        question: Plain text.
        answers: Those that are right, none where the sources do not answer it; None when they are not known.
    """

    model_config = pydantic.ConfigDict(frozen=True, strict=True)

    question: str = pydantic.Field(pattern=r"\S")
    answers: list[str] | None = None


def read_questions(path: str | os.PathLike[str]) -> list[Question]:
    """Read questions from a file of JSON lines, `{"question": ..., "answers": [...]}`, the answers optional.

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
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise DocumentError(
                f"line {number} of {str(path)!r} is no question ({where}: {first['msg']}); a line is a JSON object such "
                'as {"question": "Who?", "answers": ["Ada Park"]}, the answers optional',
                path=path,
            ) from error
        questions.append(row.question if row.answers is None else (row.question, row.answers))
    return questions
