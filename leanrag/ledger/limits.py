"""What was spent on a question, and the limits on it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from leanrag.checks import check_at_least
from leanrag.errors import ConfigurationError
from leanrag.ledger.prices import Cost, add_costs

__all__ = ["Limits", "Spent"]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a question, or a part of it, has used.

    Attributes:
        seconds: Wall time.
        tokens: Prompt and completion tokens of all models.
        cost: Money; None when a price is unknown.
        joules: Energy of local models; None when the power is unknown.
        known_cost: The part of `cost` whose prices are known, so the least it can be; None takes `cost`.
    """

    seconds: float = 0.0
    tokens: int = 0
    cost: Cost = 0.0
    joules: float | None = 0.0
    known_cost: Cost = None

    @property
    def least_cost(self) -> float:
        """What was spent at least: the costs that are known."""
        return self.known_cost if self.known_cost is not None else self.cost or 0.0

    @classmethod
    def total(cls, parts: Iterable[Spent]) -> Spent:
        """Return the sum of `parts`; what is unknown in one is unknown in the sum. The order does not change it."""
        parts = list(parts)
        cost = add_costs(part.cost for part in parts)
        return cls(
            seconds=math.fsum(part.seconds for part in parts),
            tokens=sum(part.tokens for part in parts),
            cost=cost,
            joules=add_costs(part.joules for part in parts),
            known_cost=math.fsum(part.least_cost for part in parts) if cost is None else None,
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What a question may use before no further model is asked; None for any amount.

    The first model is asked in any case. Limits are checked between models: they end a cascade, they never cut an answer short.

    Attributes:
        seconds: Wall time.
        tokens: Prompt and completion tokens of all models.
        cost: Money, in the currency of the prices. A model without prices is asked even when this limit is reached.
        joules: Energy of local models; needs `watts`.
        watts: Power that the machine draws while a local model works.

    Raises:
        ConfigurationError: A limit is negative or not finite, or `joules` is passed without `watts`.
    """

    seconds: float | None = None
    tokens: int | None = None
    cost: float | None = None
    joules: float | None = None
    watts: float | None = None

    def __post_init__(self) -> None:
        check_at_least(
            0,
            optional=True,
            seconds=self.seconds,
            tokens=self.tokens,
            cost=self.cost,
            joules=self.joules,
            watts=self.watts,
        )
        if self.joules is not None and self.watts is None:
            raise ConfigurationError(
                f"the limit of {self.joules!r} `joules` needs `watts`, the power that the machine draws while a model works. Pass "
                "`watts`"
            )

    def reached(self, spent: Spent, *, is_free: bool = False) -> str | None:
        """Return the name of the first limit that `spent` has reached, None when the next model may be asked.

        Of an unknown cost, the known part counts. An unknown energy reaches no limit.

        Args:
            spent: What was used so far.
            is_free: Whether the next model has no price, so that the limit of money does not matter.
        """
        pairs = (
            ("seconds", spent.seconds, self.seconds),
            ("tokens", spent.tokens, self.tokens),
            ("cost", None if is_free else spent.least_cost, self.cost),
            ("joules", spent.joules, self.joules),
        )
        return next(
            (name for name, used, limit in pairs if used is not None and limit is not None and used >= limit), None
        )
