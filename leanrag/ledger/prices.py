"""What a question costs: prices, and the sum of costs.

A cost is a number in the currency of the prices; no currency is converted, so all prices of a cascade need the same one.
An unknown cost is None, and a sum that includes an unknown cost is None too. A model without prices costs 0.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from leanrag._optional import require
from leanrag.checks import check_at_least
from leanrag.errors import ConfigurationError
from leanrag.types import Usage

__all__ = ["JOULES_PER_KWH", "Cost", "Prices", "add_costs"]

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
        per_kwh: Price of a kilowatt-hour; pass it together with `watts`.
        currency: The currency, such as "USD"; "" if nobody noted it. A cascade refuses prices in two currencies.

    Raises:
        ConfigurationError: A price is negative or not finite, or only one of `watts` and `per_kwh` is passed.

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
    currency: str = ""

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

    @classmethod
    def of(cls, model: str, *, provider: str | None = None) -> Prices:
        """Return the list prices of a remote model in US dollars, from the data that the package `genai-prices` ships.

        Args:
            model: Name of the model, as its provider writes it.
            provider: Name of the provider, such as "openai"; needed where several have a model of this name.

        Raises:
            MissingDependencyError: The package is not installed.
            ConfigurationError: The package does not know the model.
        """
        genai_prices = require("genai_prices", extra="prices", why="to look up list prices")
        million = genai_prices.Usage(input_tokens=1_000_000), genai_prices.Usage(output_tokens=1_000_000)
        cached = genai_prices.Usage(input_tokens=1_000_000, cache_read_tokens=1_000_000)
        try:
            prices = [
                float(genai_prices.calc_price(usage, model_ref=model, provider_id=provider).total_price)
                for usage in (*million, cached)
            ]
        except LookupError as error:
            raise ConfigurationError(
                f"genai-prices does not know the model {model!r} of provider {provider!r} ({error}). "
                "Check both names, or pass the prices: Prices(input_per_million, output_per_million)"
            ) from error
        return cls(prices[0], prices[1], cached_input_per_million=prices[2], currency="USD")

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
