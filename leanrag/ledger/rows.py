"""One row a stage: what each part of a question took."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from leanrag.types import Answer, Stage, Usage

__all__ = ["KINDS", "STAGES", "Row", "row_of", "rows_of"]

STAGES: Mapping[str, str] = {
    "cache": "cache",
    "before": "route",
    "budget": "pack",
    "retrieve": "retrieve",
    "pack": "pack",
    "prompt": "pack",
    "ground": "verify",
    "confidence": "verify",
}
"""The stage of the ledger for each stage of a trace; "generate" becomes "prefill" and "decode", or "remote"."""

KINDS: Mapping[str, str] = {
    "train": "training",
    "ingest": "data",
    "infrastructure": "infrastructure",
    "cache": "maintenance",
    "route": "maintenance",
    "compress": "maintenance",
    "audit": "maintenance",
}
"""The part of the total cost that a stage belongs to; all other stages are "inference", and audited answers "maintenance"."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one stage took. The rows of a question sum to the question.

    Attributes:
        stage: "cache", "route", "embed", "retrieve", "rerank", "pack", "prefill", "decode", "remote", "verify", "ingest", "train",
            or any name of the user's.
        model: The model that worked; "" if none did.
        prompt_tokens: Tokens read, those from a KV cache included.
        cached_tokens: Tokens of them that were not computed again.
        completion_tokens: Tokens written.
        full_tokens: Estimate of the tokens that all that was retrieved would have had; None if nothing was packed.
        seconds: Wall time.
        cpu_seconds: CPU time of the whole process meanwhile; None if it was not measured.
        cost: Money; None if it is unknown.
        joules: Energy of the whole machine meanwhile; None if it was not measured.
        energy_method: How `joules` was found: "rapl", "nvml", "rapl+nvml", or "watts" (constant power times CPU seconds); "" if
            it was not.
        tier: What a cache found: "exact", "evidence", "similar" or "miss"; "" for other stages.
        outcome: What became of the model's answer, as in `Step.outcome`; "" for other stages.
    """

    stage: str
    model: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    full_tokens: int | None = None
    seconds: float = 0.0
    cpu_seconds: float | None = None
    cost: float | None = 0.0
    joules: float | None = None
    energy_method: str = ""
    tier: str = ""
    outcome: str = ""


def rows_of(answer: Answer) -> tuple[Row, ...]:
    """Return the rows of an answered question.

    Their tokens sum to `answer.usage`, their seconds to `answer.seconds`, and their costs to `answer.cost`, or to 0 where no model
    has a price.
    """
    outcomes = [
        step
        for step in answer.steps
        if step.outcome in ("kept", "escalated", "audited") or (step.usage.total_tokens and step.outcome != "rewrote")
    ]
    rows: list[Row] = []
    asked = 0
    for stage in answer.trace:
        if stage.name == "follow-up" and "model" in stage.details:
            rows += _rows_of_generation(stage, "rewrote")
            continue
        if stage.name != "generate":
            rows += _rows_of_stage(stage)
            continue
        outcome = outcomes[asked].outcome if asked < len(outcomes) else ""
        asked += 1
        rows += _rows_of_generation(stage, outcome)
    return (*rows, *_unaccounted(answer, rows))


def row_of(stage: Stage) -> Row:
    """Return the row of a stage that asks no model, such as an "ingest"."""
    details = stage.details
    return Row(
        STAGES.get(stage.name, stage.name),
        seconds=stage.seconds,
        cpu_seconds=stage.cpu_seconds,
        full_tokens=_whole(details.get("full_tokens")),
        tier=str(details.get("tier", "miss")) if stage.name == "cache" else "",
        **_energy_of(stage),
    )


def _rows_of_stage(stage: Stage) -> list[Row]:
    """Return the row of a stage; what embedding and reranking took of a retrieval are rows of their own."""
    row, parts = row_of(stage), []
    for name in ("embed", "rerank"):
        seconds = stage.details.get(f"{name}_seconds")
        if isinstance(seconds, float):
            row, part = _split(row, replace(row, stage=name), row.seconds - seconds)
            parts.append(part)
    return [row, *parts]


def _energy_of(stage: Stage) -> dict[str, Any]:
    joules = stage.details.get("joules")
    method = str(stage.details.get("energy_method", ""))
    return {"joules": float(joules), "energy_method": method} if isinstance(joules, (int, float)) else {}


def _split(first: Row, second: Row, seconds: float) -> list[Row]:
    """Return two rows that share the time and the energy of `first`, which took `seconds` of it."""
    seconds = min(max(0.0, seconds), first.seconds)
    share = seconds / first.seconds if first.seconds else 0.0

    def part(row: Row, seconds: float, share: float) -> Row:
        cpu_seconds = None if first.cpu_seconds is None else first.cpu_seconds * share
        joules = None if first.joules is None else first.joules * share
        return replace(row, seconds=seconds, cpu_seconds=cpu_seconds, joules=joules)

    return [part(first, seconds, share), part(second, first.seconds - seconds, 1 - share)]


def _rows_of_generation(stage: Stage, outcome: str) -> list[Row]:
    """Return the rows for reading and writing; one for both if the model does not tell them apart."""
    details = stage.details
    cost = details.get("cost", 0.0)
    row = Row(
        "remote" if details.get("is_remote") else "decode",
        str(details.get("model", "")),
        _whole(details["prompt_tokens"]) or 0,
        _whole(details.get("cached_tokens")) or 0,
        _whole(details["completion_tokens"]) or 0,
        seconds=stage.seconds,
        cpu_seconds=stage.cpu_seconds,
        cost=None if cost is None else float(cost),
        outcome=outcome,
        **_energy_of(stage),
    )
    reading = details.get("prefill_seconds")
    if not isinstance(reading, float) or details.get("is_remote"):
        return [row]
    prefill = replace(row, stage="prefill", completion_tokens=0, cost=0.0)
    return _split(prefill, replace(row, prompt_tokens=0, cached_tokens=0), reading)


def _unaccounted(answer: Answer, rows: list[Row]) -> list[Row]:
    """Return a row for what models that failed have used, whose stages did not end."""
    rest = Usage(
        answer.usage.prompt_tokens - sum(row.prompt_tokens for row in rows),
        answer.usage.completion_tokens - sum(row.completion_tokens for row in rows),
        answer.usage.cached_tokens - sum(row.cached_tokens for row in rows),
    )
    failed = [step for step in answer.steps if step.outcome == "failed"]
    cost = _missing_cost(answer, rows)
    if not failed or (rest == Usage(0, 0) and cost == 0):
        return []
    return [
        Row(
            "decode",
            model=failed[0].model,
            prompt_tokens=rest.prompt_tokens,
            cached_tokens=rest.cached_tokens,
            completion_tokens=rest.completion_tokens,
            cost=cost,
            outcome="failed",
        )
    ]


def _missing_cost(answer: Answer, rows: list[Row]) -> float | None:
    """Return what the rows lack of the cost of the answer; None if that is unknown."""
    known = [row.cost for row in rows if row.cost is not None]
    if answer.cost is not None:
        return answer.cost - math.fsum(known)
    has_price = any(step.cost is not None for step in answer.steps)
    return None if has_price and len(known) == len(rows) else 0.0


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
