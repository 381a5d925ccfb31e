"""Spans for OpenTelemetry, with the names of its semantic conventions for generative AI."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from leanrag._optional import require
from leanrag.abilities import LimitsSpending, RecordsStages
from leanrag.protocols import Ledger
from leanrag.types import Answer, Stage

__all__ = ["SpanLedger"]

_OPERATIONS: Mapping[str, str] = {"generate": "chat", "retrieve": "retrieval"}
"""`gen_ai.operation.name` of the stages that the conventions have a name for."""

_DETAILS: Mapping[str, str] = {
    "model": "gen_ai.request.model",
    "prompt_tokens": "gen_ai.usage.input_tokens",
    "cached_tokens": "gen_ai.usage.cache_read.input_tokens",
    "completion_tokens": "gen_ai.usage.output_tokens",
}
"""Attributes for details of a stage; the others are `leanrag.NAME`."""


class SpanLedger:
    """A ledger that emits a span for each question, and a child span for each of its stages.

    Spans are made when the answer is there, with the times of its stages. They have no text of a question, an answer or a document.
    Attributes follow the semantic conventions for generative AI (`gen_ai.operation.name`, `gen_ai.request.model`,
    `gen_ai.usage.input_tokens`, ...); the library's own are called `leanrag.NAME`.

    Args:
        inner: A ledger that records the same, such as a `CostLedger`; its budget holds.
        tracer_provider: Makes the tracer; None takes the global provider of OpenTelemetry.

    Raises:
        MissingDependencyError: The package `opentelemetry-api` is not installed.
    """

    def __init__(self, inner: Ledger | None = None, *, tracer_provider: Any = None) -> None:
        self.inner = inner
        self._trace = require("opentelemetry.trace", extra="otel", why="to emit spans")
        self._tracer = self._trace.get_tracer("leanrag", tracer_provider=tracer_provider)

    def record(self, answer: Answer) -> None:
        """Emit the spans of an answered question, and tell the inner ledger."""
        end = time.time_ns()
        start = end - sum(map(_nanoseconds, answer.trace))
        span = self._tracer.start_span("leanrag.ask", start_time=start, attributes=_of_answer(answer))
        context = self._trace.set_span_in_context(span)
        for stage in answer.trace:
            start = self._emit(stage, start, context)
        span.end(end_time=end)
        if self.inner is not None:
            self.inner.record(answer)

    def record_stage(self, stage: Stage) -> None:
        """Emit the span of work that belongs to no question, and tell the inner ledger if it records such work."""
        self._emit(stage, time.time_ns() - _nanoseconds(stage), None)
        if isinstance(self.inner, RecordsStages):
            self.inner.record_stage(stage)

    def refusal(self, most: float | None, of_question: float) -> str | None:
        """Return why the budget of the inner ledger refuses a model; None if it may be asked, or if there is no budget."""
        if isinstance(self.inner, LimitsSpending):
            return self.inner.refusal(most, of_question)
        return None

    @property
    def ends_question(self) -> bool:
        """Whether a question ends when the budget of the inner ledger refuses a model."""
        return isinstance(self.inner, LimitsSpending) and self.inner.ends_question

    def _emit(self, stage: Stage, start: int, context: Any) -> int:
        """Emit the span of a stage, and return when it ended."""
        end = start + _nanoseconds(stage)
        attributes = _of_stage(stage)
        operation = attributes.get("gen_ai.operation.name")
        model = stage.details.get("model")
        name = f"{operation} {model}" if operation and model else str(operation or f"leanrag.{stage.name}")
        is_call = stage.name == "generate" and bool(stage.details.get("is_remote"))
        kind = self._trace.SpanKind.CLIENT if is_call else self._trace.SpanKind.INTERNAL
        span = self._tracer.start_span(name, context=context, kind=kind, start_time=start, attributes=attributes)
        span.end(end_time=end)
        return end


def _of_answer(answer: Answer) -> dict[str, Any]:
    attributes = {
        "gen_ai.response.model": answer.model,
        "gen_ai.usage.input_tokens": answer.usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": answer.usage.cached_tokens,
        "gen_ai.usage.output_tokens": answer.usage.completion_tokens,
        "gen_ai.response.finish_reasons": answer.finish_reason and (answer.finish_reason,),
        "leanrag.cost": answer.cost,
        "leanrag.confidence": answer.confidence,
        "leanrag.is_supported": answer.is_supported,
        "leanrag.abstained": answer.abstained,
        "leanrag.stopped_by": answer.stopped_by,
        "leanrag.outcomes": tuple(f"{step.model}: {step.outcome}" for step in answer.steps) or None,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _of_stage(stage: Stage) -> dict[str, Any]:
    details = dict(stage.details)
    attributes: dict[str, Any] = {"leanrag.stage": stage.name}
    if stage.name in _OPERATIONS:
        attributes["gen_ai.operation.name"] = _OPERATIONS[stage.name]
    if stage.name == "generate":
        attributes["gen_ai.response.model"] = details.get("model")
        reason = details.pop("finish_reason", None)
        attributes["gen_ai.response.finish_reasons"] = reason and (str(reason),)
        attributes["gen_ai.response.time_to_first_chunk"] = details.pop("prefill_seconds", None)
    attributes["leanrag.cpu_seconds"] = stage.cpu_seconds
    attributes |= {_DETAILS.get(name, f"leanrag.{name}"): value for name, value in details.items()}
    return {name: value for name, value in attributes.items() if value is not None}


def _nanoseconds(stage: Stage) -> int:
    return round(stage.seconds * 1e9)
