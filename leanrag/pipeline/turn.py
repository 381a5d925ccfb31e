"""A question on its way to an answer: what was found for it, who was asked, what it cost so far, and what comes of it."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from leanrag.errors import BudgetError, GenerationCancelled, GenerationError, GenerationTimeout
from leanrag.ledger import Spent
from leanrag.pipeline.reader import Clock, Prepared, Reader
from leanrag.protocols import GenerationStream
from leanrag.routing.cascade import Cascade
from leanrag.routing.signals import Signals
from leanrag.types import Answer, CancelToken, Hit, Step, Usage

__all__ = ["NO_ANSWER", "AnswerStream", "Asked", "Attempt", "Options", "Turn", "abstained", "given"]

logger = logging.getLogger(__name__)

NO_ANSWER = "The sources do not answer this question."
"""The text of an answer for which nothing was found, or that was not sure enough to be given."""


class AnswerStream:
    """An answer under way: iterate for text as the model writes it, then read `answer`."""

    def __init__(
        self,
        generation: GenerationStream | None,
        finish: Callable[[], Answer],
        *,
        best: Answer | None = None,
        is_held: bool = False,
    ) -> None:
        self._generation, self._finish, self._best, self._is_held = generation, finish, best, is_held

    def __iter__(self) -> Iterator[str]:
        """Yield the model's words; leaving the loop early stops it.

        When the last of several models fails on the way, a notice and the best answer before it follow. Where the answer may not
        be given at all, nothing is shown before its end.
        """
        if self._generation is None or self._is_held:
            yield self.answer.text
            return
        try:
            yield from self._generation
        except GenerationCancelled:
            raise
        except GenerationError as error:
            if self._best is None:
                raise
            yield f"\n\n[{error.model or 'The model'} failed; {self._best.model} answered:]\n\n{self._best.text}"

    def close(self) -> None:
        """Stop the generation if it still runs."""
        if self._generation is not None:
            self._generation.close()

    @functools.cached_property
    def answer(self) -> Answer:
        """The whole answer with marks, citations and verdict; waits for its end."""
        return self._finish()


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what was found for it."""

    question: str
    hits: tuple[Hit, ...]
    clock: Clock


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for beside the question."""

    context_tokens: int | None
    max_tokens: int
    temperature: float
    seed: int | None
    timeout_seconds: float | None
    cancel: CancelToken | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A reader at work; `generation` is None when nothing was found."""

    reader: Reader
    asked: Asked
    prepared: Prepared
    generation: GenerationStream | None
    rendered: str
    options: Options


def abstained(answer: Answer) -> Answer:
    """Return an answer that gives none; what the model said stays in `generation`."""
    return replace(answer, text=NO_ANSWER, citations=(), is_supported=False, support=0.0, abstained=True)


def given(answer: Answer, least_confidence: float) -> Answer:
    """Return what the user gets of a model's answer: itself, or none where it is not sure enough."""
    is_unsure = answer.confidence is not None and answer.confidence < least_confidence
    return abstained(answer) if is_unsure else answer


class Turn:
    """A question on its way through a cascade: who was asked, what it cost, and the best answer so far."""

    def __init__(self, cascade: Cascade, asked: Asked, abstain_below: float | None = None) -> None:
        self.cascade, self.asked = cascade, asked
        self._abstain_below = abstain_below
        self.best: Answer | None = None
        self.first = cascade.first(asked.question)
        self._steps = [Step(name, "skipped", "by its question") for name in cascade.names[: self.first]]
        self._started = self._began = time.perf_counter()
        self._joules = 0.0
        self._error: Exception | None = None

    @contextlib.contextmanager
    def asking(self, place: int, reader: Reader) -> Iterator[None]:
        """Let a model fail without ending the question; a cancelled question ends."""
        self._began = time.perf_counter()
        try:
            yield
        except GenerationCancelled:
            raise
        except (GenerationError, BudgetError) as error:
            may_pass = isinstance(error, (BudgetError, GenerationTimeout)) or getattr(error, "retryable", False)
            logger.log(logging.INFO if may_pass else logging.WARNING, "%s failed: %s", self.cascade.names[place], error)
            self._error = error
            self._take(Step(self.cascade.names[place], "failed", str(error)), reader)

    def add(self, place: int, reader: Reader, answer: Answer, is_kept: bool) -> bool:
        """Take note of an answer; return whether it is kept."""
        is_kept = is_kept or answer.model is None  # nothing was found, or nothing will come of it
        reason = "sure enough" if is_kept else "not sure enough"
        if answer.model is None:
            reason = "not worth asking" if answer.abstained else "nothing was found"
        if place == len(self.cascade.names) - 1 and answer.model is not None:
            reason = "the last"
        outcome: Literal["kept", "escalated"] = "kept" if is_kept else "escalated"
        self._take(self._step(place, outcome, reason, answer), reader)
        if is_kept or self.best is None or (answer.confidence or 0.0) >= (self.best.confidence or 0.0):
            self.best = self.given(place, answer)
        return is_kept

    def is_worth(self, place: int) -> Callable[[Signals], bool] | None:
        """What says whether a model is worth asking; None where it is asked in any case.

        That is so where it is not the first, where nothing is known, and where the caller wants no fewer answers than were learnt
        to be worth giving.
        """
        calibration = self.cascade.calibration(place)
        if place != self.first or self.best is not None or calibration is None or calibration.ask_from is None:
            return None
        if self._abstain_below is not None and self._abstain_below <= (calibration.abstain_below or 0.0):
            return None
        return functools.partial(self.cascade.asks, place)

    def least_confidence(self, place: int) -> float:
        """The confidence below which a model's answer is not given."""
        calibration = self.cascade.calibration(place)
        learnt = calibration.abstain_below if calibration else None
        return self._abstain_below if self._abstain_below is not None else learnt or 0.0

    def given(self, place: int, answer: Answer) -> Answer:
        """What the user gets of a model's answer."""
        return given(answer, self.least_confidence(place))

    def add_audit(self, place: int, reader: Reader, answer: Answer, reason: str) -> None:
        """Take note of an answer that was asked for only to check the one that is kept."""
        self._take(self._step(place, "audited", reason, answer), reader)

    @property
    def is_audited(self) -> bool:
        """Whether the cascade's audit chooses the question."""
        audit = self.cascade.audit
        return audit is not None and audit.chooses(self.asked.question)

    def _step(self, place: int, outcome: Literal["kept", "escalated", "audited"], reason: str, answer: Answer) -> Step:
        name = self.cascade.names[place]
        return Step(name, outcome, reason, answer.confidence, answer.usage, cost=answer.cost, text=answer.text)

    def _take(self, step: Step, reader: Reader) -> None:
        seconds = time.perf_counter() - self._began
        self._steps.append(replace(step, seconds=seconds))
        if not reader.is_remote:
            self._joules += seconds * (self.cascade.limits.watts or 0.0)

    @property
    def _spent(self) -> Spent:
        return Spent(
            seconds=time.perf_counter() - self._started,
            tokens=sum(step.usage.total_tokens for step in self._steps),
            cost=math.fsum(step.cost or 0.0 for step in self._steps),
            joules=self._joules,
        )

    def limit(self, reader: Reader) -> str | None:
        """Which limit keeps a model from being asked; None for none, or while there is no answer. Money keeps from no free one."""
        if self.best is None:
            return None
        return self.cascade.limits.reached(self._spent, is_free=not reader.is_remote)

    def within(self, options: Options, place: int) -> Options:
        """The options for a model: its own share of tokens, and no more time than is left once there is an answer."""
        options = replace(options, context_tokens=self.cascade.most_tokens(place, options.context_tokens))
        seconds = self.cascade.limits.seconds
        if seconds is None or self.best is None:
            return options
        left = max(0.001, seconds - self._spent.seconds)
        given = options.timeout_seconds
        return replace(options, timeout_seconds=left if given is None else min(given, left))

    def answer(self, *, stopped_by: str | None = None) -> Answer:
        """The best answer, with what all models cost; the last error when there is none."""
        if self.best is None:
            assert self._error is not None
            raise self._error
        usages = [step.usage for step in self._steps]
        costs = [step.cost for step in self._steps if step.cost is not None]
        return replace(
            self.best,
            usage=Usage(
                sum(usage.prompt_tokens for usage in usages),
                sum(usage.completion_tokens for usage in usages),
                sum(usage.cached_tokens for usage in usages),
            ),
            cost=math.fsum(costs) if costs else None,
            trace=self.asked.clock.stages,
            steps=tuple(self._steps),
            stopped_by=stopped_by,
        )

    def stream(self, *, stopped_by: str | None = None) -> AnswerStream:
        """The same as a stream that is at its end."""
        answer = self.answer(stopped_by=stopped_by)
        return AnswerStream(None, lambda: answer)
