"""What a question costs: prices, the sum of costs, what was spent, and the limits on it.

A cost is a number in the currency of the prices; no currency is converted, so all prices of a cascade need the same one.
An unknown cost is None, and a sum that includes an unknown cost is None too. A model without prices costs 0.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from leanrag.checks import check_at_least
from leanrag.errors import ConfigurationError
from leanrag.types import Usage

__all__ = ["Cost", "Limits", "Prices", "Spent", "add_costs"]

Cost: TypeAlias = float | None
"""An amount of money in the currency of the prices; None when it is unknown."""

JOULES_PER_KWH = 3.6e6


def add_costs(costs: Iterable[Cost]) -> Cost:
    """Return the sum, None when a cost is unknown. The order of the costs does not change it.

    Example:
        >>> add_costs([0.1, 0.2]), add_costs([0.1, None]), add_costs([])
        (0.30000000000000004, None, 0.0)
    """
    known = list(costs)
    return None if None in known else math.fsum(cost for cost in known if cost is not None)


@dataclass(frozen=True, slots=True)
class Prices:
    """What a model costs: what a provider charges for tokens, or what electricity costs while a local model works, or both.

    Attributes:
        input_per_million: Price of a million prompt tokens.
        output_per_million: Price of a million completion tokens.
        as_of: The day on which the prices were read; None when nobody noted it.
        cached_input_per_million: Price of a million prompt tokens that were reused; None when they cost as much as others.
        watts: Power that the machine draws while the model works.
        per_kwh: Price of a kilowatt-hour; given together with `watts`.

    Raises:
        ConfigurationError: A price is negative or not finite, or only one of `watts` and `per_kwh` is given.

    Example:
        >>> Prices(0.5, 1.5).cost(Usage(2_000_000, 1_000_000))
        2.5
        >>> Prices(watts=60, per_kwh=0.30).cost(Usage(500, 100), seconds=10)
        5e-05
    """

    input_per_million: float = 0.0
    output_per_million: float = 0.0
    as_of: datetime.date | None = None
    cached_input_per_million: float | None = None
    watts: float | None = None
    per_kwh: float | None = None

    def __post_init__(self) -> None:
        check_at_least(0, input_per_million=self.input_per_million, output_per_million=self.output_per_million)
        check_at_least(
            0,
            optional=True,
            cached_input_per_million=self.cached_input_per_million,
            watts=self.watts,
            per_kwh=self.per_kwh,
        )
        if (self.watts is None) != (self.per_kwh is None):
            raise ConfigurationError(
                f"a price of electricity needs both `watts` and `per_kwh`, got {self.watts!r} and {self.per_kwh!r}"
            )

    def cost(self, usage: Usage, seconds: float | None = None) -> Cost:
        """Return what a request costs.

        Args:
            usage: Its tokens.
            seconds: How long the model worked; None when unknown.

        Returns:
            None when the price of electricity counts and `seconds` is unknown.
        """
        cached = self.input_per_million if self.cached_input_per_million is None else self.cached_input_per_million
        tokens = (
            (usage.prompt_tokens - usage.cached_tokens) * self.input_per_million
            + usage.cached_tokens * cached
            + usage.completion_tokens * self.output_per_million
        ) / 1e6
        if self.watts is None or self.per_kwh is None:
            return tokens
        return None if seconds is None else tokens + self.watts * seconds / JOULES_PER_KWH * self.per_kwh


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
        ConfigurationError: A limit is negative or not finite, or `joules` is given without `watts`.
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
                "a limit of `joules` needs `watts`, the power that the machine draws while a model works"
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
