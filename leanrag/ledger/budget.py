"""A budget: how much money a day and a question may cost, whichever process asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from leanrag.checks import check_at_least, check_choice
from leanrag.errors import GenerationError

__all__ = ["Budget", "SpendingLimitError"]


class SpendingLimitError(GenerationError):
    """A model was not asked, because that could cost more than the budget allows. Tomorrow, or another budget, allows it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much money may be spent, in the currency of the prices. A model without a price is always allowed.

    A model is asked only if the most that it can cost (the whole prompt, and an answer of full length) fits into what is left. A
    cost that cannot be known beforehand does not fit. Questions that are under way at the same moment do not see each other's cost.

    Attributes:
        per_day: Most money a day, from midnight in UTC; None for any amount.
        per_question: Most money a question; None for any amount.
        otherwise: "refuse" ends the question with a `SpendingLimitError`; "local" goes on with the models that have no price.

    Raises:
        ConfigurationError: An amount is negative or not finite, or `otherwise` is unknown.
    """

    per_day: float | None = None
    per_question: float | None = None
    otherwise: Literal["refuse", "local"] = "refuse"

    def __post_init__(self) -> None:
        check_at_least(0, optional=True, per_day=self.per_day, per_question=self.per_question)
        check_choice(("refuse", "local"), otherwise=self.otherwise)

    def refusal(self, *, most: float | None, of_question: float, of_day: float) -> str | None:
        """Return why a model must not be asked; None if it may be.

        Args:
            most: The most that asking it can cost; None if that is unknown.
            of_question: What the question has cost so far.
            of_day: What all questions of the day have cost so far.
        """
        for name, limit, spent in (("per_question", self.per_question, of_question), ("per_day", self.per_day, of_day)):
            if limit is None:
                continue
            if most is None:
                return f"its cost is unknown, and the budget allows {limit:g} ({name})"
            if spent + most > limit:
                return f"it may cost {most:g}, {spent:g} are spent, and the budget allows {limit:g} ({name})"
        return None
