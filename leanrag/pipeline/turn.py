"""The state of one question: which model is asked next, what each one cost, and the best answer so far."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from leanrag.errors import BudgetError, GenerationCancelled, GenerationError, GenerationTimeout, RemoteError
from leanrag.ledger import Cost, SpendingLimitError, Spent, add_costs
from leanrag.pipeline.preparing import Prepared
from leanrag.pipeline.query import Query
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.timing import StageTimer
from leanrag.routing.cascade import Cascade
from leanrag.routing.confidence import Confidence
from leanrag.routing.labels import texts_agree
from leanrag.routing.refusals import is_refusal
from leanrag.routing.signals import signals_before
from leanrag.types import Answer, CancelToken, Stage, Step, TextPiece, Usage

__all__ = ["NO_ANSWER", "UNFINISHED", "AnswerStream", "Event", "Judged", "Planned", "Turn"]

logger = logging.getLogger(__name__)

NO_ANSWER = "The sources do not answer this question."
"""The text of an answer when nothing was found, or when the model's answer was not sure enough."""

UNFINISHED = (
    "The model used up its tokens on thoughts before it answered. Allow more with `max_tokens` or `thinking_tokens`."
)
"""The text of an answer when a reasoning model did not come to an end of its thoughts."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A model's prompt is ready, and the model is asked next."""

    prepared: Prepared
    trace: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A model has answered, and this is how sure its answer is."""

    answer: Answer
    confidence: Confidence


Event: TypeAlias = Planned | Judged | TextPiece
"""What happens while a question is answered; a `TextPiece` is a piece of the answer or of the thoughts, as it comes."""


class AnswerStream:
    """An answer under way: iterate for its text as the model writes it, then read `answer`. Any thread may call.

    When the last of several models fails while it writes, a notice and the best answer before it follow. When the answer may
    turn out not to be sure enough, no text comes before its end.

    Args:
        run: Begins the work. It gets a function that tells whether somebody reads the text as it comes.
        cancel: Stops it.
    """

    def __init__(
        self, run: Callable[[Callable[[], bool]], Generator[Event, None, Answer]], cancel: CancelToken
    ) -> None:
        self._has_reader = threading.Event()
        self._run, self._cancel = run(self._has_reader.is_set), cancel
        self._lock = threading.Lock()
        self._pieces: list[TextPiece] = []
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def start(self) -> AnswerStream:
        """Work until the last model has begun to answer, or the answer is there; return the stream itself."""
        if not self._pieces:
            self._advance()
        return self

    def __iter__(self) -> Iterator[str]:
        """Yield the text, always from its beginning; leaving the loop early stops the work."""
        return (piece.text for piece in self.pieces() if not piece.is_thought)

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts of a reasoning model, and the text, always from the beginning; leaving the loop early stops the work.

        Thoughts are not checked, and are no part of the answer.
        """
        self._has_reader.set()
        i = 0
        try:
            while i < len(self._pieces) or self._advance():
                if self._pieces[i].text:
                    yield self._pieces[i]
                i += 1
        finally:
            if self._answer is None:
                self.close()

    def close(self) -> None:
        """Stop the work if it is not finished."""
        self._cancel.cancel()

    @property
    def is_over(self) -> bool:
        """Whether the answer is there, the work has failed, or nobody waits for it any more."""
        return self._answer is not None or self._error is not None or self._cancel.cancelled

    @property
    def answer(self) -> Answer:
        """The whole answer with marks, citations and verdict; waits for its end."""
        while self._advance():
            pass
        assert self._answer is not None
        return self._answer

    def _advance(self) -> bool:
        """Work until there is one more piece of text; return False when there is none."""
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._answer is not None:
                return False
            try:
                while not isinstance(event := next(self._run), TextPiece):
                    pass
            except StopIteration as end:
                self._answer = end.value
                return False
            except BaseException as error:
                self._error = error
                raise
            self._pieces.append(event)
            return True


class Turn:
    """One question on its way through the models of a cascade.

    Args:
        cascade: The policy.
        readers: Its models.
        query: The question.
        timer: Times its stages.
        abstain_below: What the user chose; None for what the calibrations learned.
        ends_over_budget: Whether a model that the budget refuses ends a question that has no answer yet.

    Attributes:
        best: The answer that the user gets as things stand; None before the first.
        has_begun: Whether the model that is asked has begun to work.
        has_shown_text: Whether the user has seen words of the last model.
        audit_loss: What the audit found: whether keeping the answer lost something; None when the question was not audited.
    """

    def __init__(
        self,
        cascade: Cascade,
        readers: Sequence[Reader],
        query: Query,
        timer: StageTimer,
        abstain_below: float | None,
        *,
        ends_over_budget: bool = False,
    ) -> None:
        self._cascade, self._readers, self._query, self._timer = cascade, readers, query, timer
        self._abstain_below, self._ends_over_budget = abstain_below, ends_over_budget
        self._last = len(readers) - 1
        self._first = cascade.first(query.question)
        self._steps = [Step(name, "skipped", "by its question") for name in cascade.names[: self._first]]
        self._costs: list[Cost] = []
        self._has_price = False
        self._joules = 0.0
        self._started = self._step_started = time.perf_counter()
        self._step_seconds = 0.0
        self._is_kept = self._is_audit = self._is_ended = False
        self._failed_model: str | None = None
        self._stopped_by: str | None = None
        self.best: Answer | None = None
        self.has_begun = self.has_shown_text = False
        self.audit_loss: bool | None = None

    # Which model is asked

    def model_indices(self) -> Iterator[int]:
        """Yield the index of each model to ask: up to the first answer that is kept, or to a limit.

        When the audit chooses the question, the last model follows although an answer was kept.
        """
        for i in range(self._first, self._last + 1):
            self._step_seconds = 0.0
            if self._is_ended:
                return
            limit = self._reached_limit(i)
            if limit is None:
                yield i
                if self._is_kept:
                    break
            else:
                self._stopped_by = limit
                if limit != "cost":  # after the limit of the cost, a later model may be free
                    return
        if self._is_kept and self._should_audit():
            self._is_audit, self._step_seconds = True, 0.0
            yield self._last

    def is_final(self, i: int) -> bool:
        """Return whether this model's answer is kept in any case."""
        return i == self._last and not self._is_audit

    def query_for(self, i: int) -> Query:
        """Return the question for a model: with its share of tokens, and with the time that the limits leave."""
        query = replace(self._query, context_tokens=self._cascade.most_tokens(i, self._query.context_tokens))
        seconds = self._cascade.limits.seconds
        if seconds is None or self.best is None:
            return query
        remaining = max(0.001, seconds - self._spent.seconds)
        timeout = remaining if query.timeout_seconds is None else min(query.timeout_seconds, remaining)
        return replace(query, timeout_seconds=timeout)

    def should_ask(self, i: int, prepared: Prepared) -> bool:
        """Return whether asking a model is worthwhile, by what was found.

        Only the first model can be not worth asking, only where its calibration learned when that is so, and only when the user
        does not want more answers than the calibration would give.
        """
        calibration = self._cascade.calibration(i)
        if i != self._first or self.best is not None or calibration is None or calibration.ask_from is None:
            return True
        if self._abstain_below is not None and self._abstain_below <= (calibration.abstain_below or 0.0):
            return True
        with self._timer("before") as details:
            signals = signals_before(self._query.question, prepared.hits, prepared.packing)
            details["asks"] = should_ask = self._cascade.asks(i, signals)
        return should_ask

    def can_show(self, i: int) -> bool:
        """Return whether the words of a model can be shown before its answer is judged."""
        return self.is_final(i) and self._least_confidence(i) == 0

    @contextlib.contextmanager
    def noting_failure(self, i: int) -> Iterator[None]:
        """Let a model fail without ending the question, unless no other model can answer; a cancelled question ends."""
        self._step_started = time.perf_counter() - self._step_seconds
        self._failed_model, self.has_begun = None, False
        try:
            yield
        except GenerationCancelled:
            raise
        except SpendingLimitError as error:
            if self.best is None and (i == self._last or self._ends_over_budget):
                raise
            self._failed_model = self._cascade.names[i]
            self._add_step(i, Step(self._cascade.names[i], "skipped", str(error), cost=0.0))
            self._stopped_by = "cost"
            if self._ends_over_budget:
                self._is_ended = True
        except (GenerationError, BudgetError) as error:
            if self.best is None and i == self._last:
                raise
            level = logging.INFO if _may_pass(error) else logging.WARNING
            logger.log(level, "%s failed: %s", self._cascade.names[i], error)
            self._failed_model = (isinstance(error, GenerationError) and error.model) or self._cascade.names[i]
            cost = None if self.has_begun and not _was_refused(error) else 0.0
            self._add_step(i, Step(self._cascade.names[i], "failed", str(error), cost=cost))
            self._stopped_by = self._reached_limit(i) or self._stopped_by or "outage"
        self._step_seconds = time.perf_counter() - self._step_started

    @property
    def has_failed(self) -> bool:
        """Whether the model that was asked last has failed."""
        return self._failed_model is not None

    # What came of it

    def add_unasked(self, i: int, answer: Answer) -> None:
        """Note that no model needs to be asked: nothing was found, or no good answer can be expected."""
        if self._is_audit:
            return
        reason = "not worth asking" if answer.abstained else "nothing was found"
        self._add_step(i, self._step_of(i, answer, "kept", reason))
        self.best, self._is_kept = answer, True

    def add(self, i: int, answer: Answer, is_sure: bool) -> None:
        """Note the answer of a model: it is kept, or the next model is asked, or it checks the one that was kept."""
        if self._is_audit:
            assert self.best is not None
            self.audit_loss = not answers_agree(self.best, self._apply_abstention(i, answer))
            reason = "it disagrees" if self.audit_loss else "it agrees"
            self._add_step(i, self._step_of(i, answer, "audited", reason))
            return
        is_last = i == self._last
        self._is_kept = is_last or (is_sure and not _is_empty(answer))
        reason = "the last model" if is_last else "sure enough" if self._is_kept else "not sure enough"
        if _is_empty(answer):
            reason = "only thoughts, no answer" if _is_unfinished(answer) else "no text"
        self._add_step(i, self._step_of(i, answer, "kept" if self._is_kept else "escalated", reason))
        if self._is_kept or self.best is None or _worth(answer) >= _worth(self.best):
            self.best = self._apply_abstention(i, answer)
        if is_last and self._is_chosen_for_audit:
            self.audit_loss = False  # the last model has answered: nothing was lost

    def answer(self) -> Answer:
        """Return the best answer, with what all models cost."""
        assert self.best is not None
        return replace(
            self.best,
            usage=sum((step.usage for step in self._steps), Usage(0, 0)),
            cost=add_costs(self._costs) if self._has_price else None,
            trace=self._timer.stages,
            steps=tuple(self._steps),
            stopped_by=None if self._is_kept else self._stopped_by,
        )

    @property
    def unseen_text(self) -> str:
        """What the user has yet to see of the answer: all of it, or, after words of a model that failed, a notice and all."""
        assert self.best is not None
        if not self.has_shown_text:
            return self.best.text
        if self.has_failed:
            return f"\n\n[{self._failed_model} failed; {self.best.model} answered:]\n\n{self.best.text}"
        return ""

    @property
    def least_cost(self) -> float:
        """What the question has cost at least: the costs that are known."""
        return self._spent.least_cost

    # Helpers

    @property
    def _spent(self) -> Spent:
        return Spent(
            seconds=time.perf_counter() - self._started,
            tokens=sum(step.usage.total_tokens for step in self._steps),
            cost=add_costs(self._costs),
            joules=self._joules,
            known_cost=math.fsum(cost for cost in self._costs if cost is not None),
        )

    def _reached_limit(self, i: int) -> str | None:
        """Return the limit that keeps a model from being asked; None when there is none, or no answer yet."""
        if self.best is None:
            return None
        return self._cascade.limits.reached(self._spent, is_free=not self._readers[i].has_price)

    @property
    def _is_chosen_for_audit(self) -> bool:
        audit = self._cascade.audit
        return audit is not None and audit.chooses(self._query.question)

    def _should_audit(self) -> bool:
        best = self.best
        if best is None or (best.model is None and not best.abstained) or self.audit_loss is not None:
            return False
        return self._is_chosen_for_audit and self._reached_limit(self._last) is None

    def _least_confidence(self, i: int) -> float:
        """Return the confidence below which the answer of a model is not shown."""
        if self._abstain_below is not None:
            return self._abstain_below
        calibration = self._cascade.calibration(i)
        return (calibration.abstain_below if calibration else None) or 0.0

    def _apply_abstention(self, i: int, answer: Answer) -> Answer:
        """Return what the user gets of a model's answer: the answer, or that there is none when it is empty or not sure enough."""
        is_sure = answer.confidence is None or answer.confidence >= self._least_confidence(i)
        if is_sure and not _is_empty(answer):
            return answer
        text = UNFINISHED if _is_unfinished(answer) else NO_ANSWER
        return replace(answer, text=text, citations=(), is_supported=False, support=0.0, abstained=True)

    def _step_of(self, i: int, answer: Answer, outcome: Literal["kept", "escalated", "audited"], reason: str) -> Step:
        return Step(
            self._cascade.names[i], outcome, reason, answer.confidence, answer.usage, cost=answer.cost, text=answer.text
        )

    def _add_step(self, i: int, step: Step) -> None:
        reader, seconds = self._readers[i], time.perf_counter() - self._step_started
        self._has_price = self._has_price or reader.has_price
        self._costs.append(step.cost if reader.has_price else 0.0)
        self._steps.append(replace(step, seconds=seconds, cost=step.cost if reader.has_price else None))
        if not reader.is_remote:
            self._joules += seconds * (self._cascade.limits.watts or 0.0)


def _is_empty(answer: Answer) -> bool:
    """Return whether the model wrote nothing, or thoughts only."""
    return answer.generation is not None and not answer.generation.text.strip()


def _is_unfinished(answer: Answer) -> bool:
    """Return whether the model was stopped before the end of its thoughts."""
    generation = answer.generation
    return _is_empty(answer) and generation is not None and generation.thoughts is not None


def _worth(answer: Answer) -> float:
    """Return how much an answer is worth beside those of other models."""
    return -1.0 if _is_empty(answer) else answer.confidence or 0.0


def _may_pass(error: Exception) -> bool:
    """Return whether the same model may answer the next question; otherwise somebody must look at it."""
    return error.retryable if isinstance(error, RemoteError) else isinstance(error, (BudgetError, GenerationTimeout))


def _was_refused(error: Exception) -> bool:
    """Return whether a server answered that it does not do the work, which then costs nothing."""
    return isinstance(error, RemoteError) and error.status is not None


def answers_agree(kept: Answer, other: Answer) -> bool:
    """Return whether two answers say the same; to abstain is the same as to say that the sources have no answer."""
    if kept.abstained or other.abstained:
        return all(answer.abstained or is_refusal(answer.text) for answer in (kept, other))
    return texts_agree(kept.text, other.text)
