"""Whether compression pays: it saves seconds and money, and it takes seconds."""

from __future__ import annotations

import statistics
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from leanrag.checks import check_at_least, check_positive, check_whole
from leanrag.types import Compression, Generation

__all__ = ["CostGate", "GateDecision", "Rates", "decide"]

_MIN_TOKENS = 16  # with fewer tokens, the fixed costs of a call take most of the time


@dataclass(frozen=True, slots=True)
class Rates:
    """The measured speed of a model and of a compressor on this machine; None if it was not measured.

    Attributes:
        prefill_tokens_per_second: Prompt tokens that the model computes in a second, cached ones not counted.
        compression_seconds: Seconds that the compressor takes for 1,000 tokens of sources.
    """

    prefill_tokens_per_second: float | None = None
    compression_seconds: float | None = None

    def __post_init__(self) -> None:
        check_positive(optional=True, prefill_tokens_per_second=self.prefill_tokens_per_second)
        check_at_least(0, optional=True, compression_seconds=self.compression_seconds)


@dataclass(frozen=True, slots=True)
class GateDecision:
    """Whether to compress, and the figures behind the decision. All of them are scalars, as a trace needs them.

    Attributes:
        compress: Whether to compress.
        saved_tokens: Prompt tokens that compressing saves.
        saved_seconds: Prefill time of these tokens; None if the speed of the model is unknown.
        saved_price: Price of these tokens; None if the model has no price.
        cost_seconds: Time that compression takes; None if the speed of the compressor is unknown.
        reason: "fits" (nothing would be saved), "too long" (the prompt must be compressed), "unknown" (no known speed), "faster",
            "slower" (local models), "cheaper" or "dearer" (models with a price).
    """

    compress: bool
    saved_tokens: int
    saved_seconds: float | None
    saved_price: float | None
    cost_seconds: float | None
    reason: str


def decide(
    rates: Rates,
    *,
    tokens_before: int,
    tokens_after: int,
    limit: int | None = None,
    price_per_token: float | None = None,
    price_per_second: float | None = None,
) -> GateDecision:
    """Say whether to compress `tokens_before` prompt tokens to `tokens_after`.

    A model without a price is local: compressing pays if it takes fewer seconds than the prefill of the tokens that it saves. A
    model with a price is remote: compressing pays if the tokens that it saves cost more than the seconds that it adds. Seconds
    that a remote model saves are only counted if its speed is known.

    When a rate that matters is unknown, the answer is to compress: extractive methods take milliseconds for what a local model
    reads in seconds, and a compressor's rate is only learnt by running it.

    Args:
        rates: See `CostGate.rates`.
        tokens_before: Prompt tokens to compute without compression, except those that a cache has.
        tokens_after: Prompt tokens to compute with compression.
        limit: Most tokens that may be sent; more must be compressed.
        price_per_token: Price of a prompt token, None for a local model.
        price_per_second: What a second of waiting is worth, in the same currency; only for models with a price.

    Raises:
        ConfigurationError: A number is negative, or not a number.

    Example:
        >>> rates = Rates(prefill_tokens_per_second=200, compression_seconds=0.02)
        >>> decision = decide(rates, tokens_before=2000, tokens_after=500)
        >>> decision.compress, decision.saved_seconds, decision.cost_seconds, decision.reason
        (True, 7.5, 0.04, 'faster')
    """
    check_at_least(0, tokens_before=tokens_before, tokens_after=tokens_after)
    check_at_least(0, optional=True, limit=limit, price_per_token=price_per_token, price_per_second=price_per_second)
    saved = max(0, tokens_before - tokens_after)
    prefill, compression = rates.prefill_tokens_per_second, rates.compression_seconds
    saved_seconds = None if prefill is None else saved / prefill
    saved_price = None if price_per_token is None else saved * price_per_token
    cost_seconds = None if compression is None else tokens_before / 1000 * compression
    if limit is not None and tokens_before > limit:
        compress, reason = True, "too long"
    elif not saved:
        compress, reason = False, "fits"
    elif saved_price is None:
        compress, reason = _saves_time(saved_seconds, cost_seconds)
    else:
        compress, reason = _saves_money(saved_price, saved_seconds, cost_seconds, price_per_second)
    return GateDecision(compress, saved, saved_seconds, saved_price, cost_seconds, reason)


def _saves_time(saved_seconds: float | None, cost_seconds: float | None) -> tuple[bool, str]:
    if saved_seconds is None or cost_seconds is None:
        return True, "unknown"
    return (True, "faster") if cost_seconds < saved_seconds else (False, "slower")


def _saves_money(
    saved_price: float, saved_seconds: float | None, cost_seconds: float | None, price_per_second: float | None
) -> tuple[bool, str]:
    if price_per_second:
        if cost_seconds is None:
            return True, "unknown"
        saved_price -= price_per_second * (cost_seconds - (saved_seconds or 0.0))
    return (True, "cheaper") if saved_price > 0 else (False, "dearer")


class CostGate:
    """Remembers how fast models and compressors are, and decides whether compression pays. Any thread may call.

    Rates are medians of the last runs that the application made; nothing is run only to measure it.

    Args:
        prefill: Known prompt tokens per second, by model. Observations replace them.
        compression: Known seconds for 1,000 tokens, by method. Observations replace them.
        window: Number of the last observations that count.

    Raises:
        ConfigurationError: A rate or `window` cannot work.

    Example:
        >>> gate = CostGate(prefill={"smollm2-135m": 400.0}, compression={"extractive": 0.005})
        >>> gate.decide("smollm2-135m", "extractive", tokens_before=3000, tokens_after=1000).compress
        True
    """

    def __init__(
        self,
        *,
        prefill: Mapping[str, float] | None = None,
        compression: Mapping[str, float] | None = None,
        window: int = 9,
    ) -> None:
        check_whole(1, window=window)
        self._known_prefill, self._known_compression = dict(prefill or {}), dict(compression or {})
        for rate in self._known_prefill.values():
            Rates(prefill_tokens_per_second=rate)
        for rate in self._known_compression.values():
            Rates(compression_seconds=rate)
        self._window = window
        self._prefill: dict[str, deque[float]] = {}
        self._compression: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def observe(self, seen: Generation | Compression) -> None:
        """Learn the rate of a run. Runs without times, with few tokens, or with text that fitted unchanged are ignored."""
        if isinstance(seen, Generation):
            tokens = seen.usage.prompt_tokens - seen.usage.cached_tokens
            if seen.prefill_seconds and tokens >= _MIN_TOKENS:
                self._add(self._prefill, seen.model, tokens / seen.prefill_seconds)
        elif seen.tokens_before >= _MIN_TOKENS and seen.tokens_after < seen.tokens_before:
            self._add(self._compression, seen.method, seen.seconds / seen.tokens_before * 1000)

    def rates(self, model: str, method: str) -> Rates:
        """Return the rates of a model and a compression method."""
        return Rates(self.prefill.get(model), self.compression.get(method))

    @property
    def prefill(self) -> dict[str, float]:
        """Prompt tokens per second, by model; a later gate takes them as `prefill`."""
        return self._medians(self._known_prefill, self._prefill)

    @property
    def compression(self) -> dict[str, float]:
        """Seconds for 1,000 tokens, by method; a later gate takes them as `compression`."""
        return self._medians(self._known_compression, self._compression)

    def decide(
        self,
        model: str,
        method: str,
        *,
        tokens_before: int,
        tokens_after: int,
        limit: int | None = None,
        price_per_token: float | None = None,
        price_per_second: float | None = None,
    ) -> GateDecision:
        """Say whether to compress for `model` with `method`; see the function `decide`."""
        return decide(
            self.rates(model, method),
            tokens_before=tokens_before,
            tokens_after=tokens_after,
            limit=limit,
            price_per_token=price_per_token,
            price_per_second=price_per_second,
        )

    def _add(self, observations: dict[str, deque[float]], name: str, rate: float) -> None:
        with self._lock:
            observations.setdefault(name, deque(maxlen=self._window)).append(rate)

    def _medians(self, known: Mapping[str, float], observations: Mapping[str, deque[float]]) -> dict[str, float]:
        with self._lock:
            return {**known, **{name: statistics.median(rates) for name, rates in observations.items()}}
