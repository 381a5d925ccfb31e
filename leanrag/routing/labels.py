"""What counts as a right answer, and as the same answer."""

from __future__ import annotations

from collections.abc import Sequence

from leanrag.metrics import contains_answer, f1
from leanrag.routing.refusals import is_refusal
from leanrag.text import without_marks

__all__ = ["AGREEMENT_F1", "answer_text", "texts_agree", "is_right_or_silent"]

AGREEMENT_F1 = 0.6
"""Two answers count as the same if their word-level F1 is at least this: a convention."""


def answer_text(text: str) -> str:
    """Return the words of an answer: its text without marks such as [1].

    Example:
        >>> answer_text("In Oslo [1, 2].")
        'In Oslo.'
    """
    return without_marks(text).strip()


def texts_agree(answer: str, other: str) -> bool:
    """Return whether two answers say the same: their word-level F1, without marks, is at least `AGREEMENT_F1`.

    Example:
        >>> texts_agree("Ada Park [1]", "It is Ada Park"), texts_agree("Ada Park", "Lee Chen")
        (True, False)
    """
    return f1(answer_text(answer), [answer_text(other)]) >= AGREEMENT_F1


def is_right_or_silent(answer: str, answers: Sequence[str]) -> bool:
    """Return whether an answer contains a right answer or, if no right answer exists, says that it does not know.

    Example:
        >>> is_right_or_silent("In Oslo.", ["Oslo"]), is_right_or_silent("The text does not say.", [])
        (True, True)
    """
    is_silent = is_refusal(answer)
    return is_silent if not answers else not is_silent and contains_answer(answer, answers)
