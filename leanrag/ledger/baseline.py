"""What the same questions would have cost with the largest model, the full context and no caches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from leanrag.ledger.prices import Prices, add_costs
from leanrag.types import Answer, Usage

__all__ = ["Baseline", "estimate_baseline", "measured_baseline"]

_MODEL_STAGES = ("prefill", "decode", "remote")


@dataclass(frozen=True, slots=True)
class Baseline:
    """What questions cost with the largest model, all retrieved text in the prompt, and no cache.

    Attributes:
        basis: "measured" if the questions were asked in this way; "estimated" if the numbers come from the rates of the model.
        model: The model.
        requests: Questions.
        prompt_tokens: Tokens read.
        completion_tokens: Tokens written.
        seconds: Wall time of the model (measured: of the whole question).
        cost: Money; None if it is unknown.
    """

    basis: Literal["estimated", "measured"]
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    cost: float | None


def estimate_baseline(
    rows: Iterable[Mapping[str, Any]], *, model: str | None = None, prices: Prices | None = None
) -> Baseline | None:
    """Estimate what the questions of a ledger would have cost without any saving.

    Each question reads as many tokens as all that was retrieved for it has, and writes as many as the model writes on average. A
    question from a cache, for which nothing was retrieved, counts as an average question.

    Args:
        rows: Rows of a ledger, as `CostLedger.rows` returns them.
        model: The model; by default the model in the rows that writes slowest.
        prices: Its prices. Without them the cost is unknown.

    Returns:
        None if the rows do not tell how fast the model is, or if nothing was retrieved.
    """
    rows = list(rows)
    answered = [row for row in rows if row["stage"] in _MODEL_STAGES and row["model"]]
    rates = {name: _Rates.of([row for row in answered if row["model"] == name]) for name in _names(answered)}
    known = {name: rates for name, rates in rates.items() if rates is not None}
    if model is None and known:
        model = max(known, key=lambda name: known[name].write_seconds)
    full: dict[str, int] = {}
    for row in rows:
        if row["full_tokens"] is not None:
            full[row["request"]] = max(full.get(row["request"], 0), row["full_tokens"])
    if model is None or model not in known or not full:
        return None
    requests = {row["request"] for row in rows if row["stage"] in (*_MODEL_STAGES, "cache", "pack", "retrieve")}
    n, its = len(requests), known[model]
    prompt = round(sum(full.values()) / len(full) * n)
    completion = round(its.written_per_request * n)
    seconds = prompt * its.read_seconds + completion * its.write_seconds
    cost = None if prices is None else prices.cost(Usage(prompt, completion), seconds)
    return Baseline("estimated", model, n, prompt, completion, seconds, cost)


def measured_baseline(answers: Sequence[Answer], model: str) -> Baseline:
    """Return what the answers of the largest model, to questions with the full context, cost."""
    return Baseline(
        "measured",
        model,
        len(answers),
        sum(answer.usage.prompt_tokens for answer in answers),
        sum(answer.usage.completion_tokens for answer in answers),
        math.fsum(answer.seconds for answer in answers),
        add_costs(answer.cost for answer in answers),
    )


@dataclass(frozen=True, slots=True)
class _Rates:
    """How fast a model is: seconds for each token that it reads and writes, and how much it writes."""

    read_seconds: float
    write_seconds: float
    written_per_request: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> _Rates | None:
        """Return the rates in the rows of one model; None if it wrote nothing."""
        written = sum(row["completion_tokens"] for row in rows)
        seconds = {stage: math.fsum(row["seconds"] for row in rows if row["stage"] == stage) for stage in _MODEL_STAGES}
        read = sum(row["prompt_tokens"] - row["cached_tokens"] for row in rows)
        if not written:
            return None
        per_request = written / len({row["request"] for row in rows})
        if seconds["prefill"] and read:
            return cls(seconds["prefill"] / read, seconds["decode"] / written, per_request)
        each = math.fsum(seconds.values()) / (read + written)
        return cls(each, each, per_request)


def _names(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["model"] for row in rows))
