"""The way of one question, from the cache to the ledger. `Asking.answer` lists the stages in their order."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from leanrag.abilities import LimitsSpending
from leanrag.errors import BudgetError
from leanrag.evidence.greedy import GreedyPacker
from leanrag.generation import stream_pieces
from leanrag.grounding import Grounding, ground
from leanrag.ledger import Baseline, Cost, SpendingLimitError, add_costs, measured_baseline
from leanrag.pipeline.auditing import AuditCounter
from leanrag.pipeline.keys import describe, make_key
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.preparing import Prepared, Preparer
from leanrag.pipeline.query import Query, Settings
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.remembering import Recall
from leanrag.pipeline.rewriting import complete_query
from leanrag.pipeline.searching import Searcher
from leanrag.pipeline.stages import Stages
from leanrag.pipeline.timing import StageTimer
from leanrag.pipeline.turn import NO_ANSWER, AnswerStream, Event, Judged, Planned, Turn
from leanrag.prompting import ModelProfile
from leanrag.protocols import Embedder, EntailmentChecker, GenerateOptions, GenerationStream
from leanrag.retrieval.store import Store
from leanrag.routing.cascade import Cascade
from leanrag.routing.confidence import Confidence
from leanrag.routing.signals import Signals, signals_of
from leanrag.text import marked_numbers
from leanrag.types import Answer, AskKey, Explanation, Generation, Hit, TextPiece, Usage

__all__ = ["Asking"]

_NOTHING = Grounding(NO_ANSWER, citations=(), support=0.0, subject=0.0, is_supported=False)
"""What the sources have for a reply that they do not answer."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Answers questions; `ask`, `stream`, `explain`, `ask_many`, the async twins and `calibrate` all go this way.

    Attributes:
        store: The folder.
        stages: What the user replaced.
        settings: What holds for every question.
        cascade: Which model is asked, and when the next one. One model is a cascade of one.
        readers: The models of the cascade.
        searcher: Retrieves.
        preparer: Packs.
        embedder: Embeds questions.
        counter: Counts audited questions.
    """

    store: Store
    stages: Stages
    settings: Settings
    cascade: Cascade
    readers: Sequence[Reader]
    searcher: Searcher
    preparer: Preparer
    embedder: Lazy[Embedder]
    counter: AuditCounter

    def answer(
        self, query: Query, hits: Sequence[Hit] | None = None, *, has_reader: Callable[[], bool] = lambda: False
    ) -> Generator[Event, None, Answer]:
        """Answer a question, stage by stage.

        Args:
            query: The question.
            hits: What was retrieved for it; None to retrieve now.
            has_reader: Returns whether somebody reads the text of the last model as it comes. If not, this thread sleeps until the
                model has finished: to wake it for each token takes the time of the others.

        Yields:
            `Planned` before each model is asked, `Judged` after it has answered, and the text of the answer: of the last model as
            it comes with its thoughts, after an empty piece that says that this model has begun.

        Returns:
            The answer.
        """
        timer = StageTimer.of(self.stages.ledger)
        completed = complete_query(query, timer, self.readers)
        query = completed.query
        key = make_key(query, self.settings, self.stages, self.cascade, self.store)
        recall = Recall(self.stages.cache, key, query, self.embedder)
        with recall.alone():
            # 1. Cache: the same question was answered before, over the same documents.
            answer = recall.find(timer)
            if answer is None:
                answer = yield from self._compute(query, hits, timer, recall, has_reader)
            else:
                yield TextPiece(answer.text)
        # 9. Ledger.
        answer = completed.charge(answer)
        self._record(answer)
        return answer

    def _compute(
        self,
        query: Query,
        hits: Sequence[Hit] | None,
        timer: StageTimer,
        recall: Recall,
        has_reader: Callable[[], bool],
    ) -> Generator[Event, None, Answer]:
        """Answer a question that is not in the cache; see `answer`."""
        ledger = self.stages.ledger
        ends_question = isinstance(ledger, LimitsSpending) and ledger.ends_question
        turn = Turn(
            self.cascade, self.readers, query, timer, self.settings.abstain_below, ends_over_budget=ends_question
        )
        for i in turn.model_indices():
            reader, query = self.readers[i], turn.query_for(i)
            # 2. Budget: divide the window of the model.
            with turn.noting_failure(i), timer("budget") as details:
                reader.check_file(self.cascade)
                plan = reader.plan(query)
                details |= plan.history.details()
            if turn.has_failed:
                continue
            # 3. Retrieve, and rerank: once, for all models.
            if hits is None:
                hits = self.retrieve(query, timer)
            with turn.noting_failure(i):
                # 4. Pack, or compress where that pays.
                prepared = self.preparer.prepare(reader, query.question, hits, plan, timer)
                yield Planned(prepared, timer.stages)
                # Cache, once more: the same evidence, or a similar question.
                if (known := recall.find_by_evidence(prepared, timer)) is not None:
                    yield TextPiece(known.text)
                    return known
                if prepared.prompt is None or not turn.should_ask(i, prepared):
                    turn.add_unasked(i, _answer_without_model(query, prepared))
                    continue
                self._check_budget(reader, prepared, turn)
                check = self.stages.make_entailment(reader.model)
                # 5. Generate: show the words of the last model as they come.
                with timer("prompt"):
                    rendered, stream = reader.model.render(prepared.prompt), self._begin(prepared, query)
                turn.has_begun = True
                with timer("generate") as details, _stopping_early(stream):
                    if turn.is_final(i):
                        yield TextPiece("")
                    if turn.can_show(i):
                        for piece in _pieces(stream, reader.profile, as_they_come=has_reader()):
                            turn.has_shown_text |= not (piece.is_thought or piece.text.isspace())
                            yield piece
                    generation = stream.result
                    details["prompt_tokens"] = generation.usage.prompt_tokens
                    details["completion_tokens"] = generation.usage.completion_tokens
                    details["cached_tokens"] = generation.usage.cached_tokens
                    details["finish_reason"] = generation.finish_reason
                    details["prefill_seconds"] = generation.prefill_seconds
                    details |= {"model": generation.model, "is_remote": reader.is_remote}
                generated = details
                self.preparer.observe(generation)
                # 6. Ground: find the quotes that support the answer.
                with timer("ground"):
                    refuses = reader.profile.refuses(generation.text)
                    grounding = _NOTHING if refuses else _ground(query, prepared, generation, check)
                # 7. Judge: how sure is the answer, and is it kept?
                with timer("confidence") as details:
                    signals = self._signals(query, prepared, generation, grounding)
                    signals = replace(signals, refusal=1.0) if refuses else signals
                    confidence, is_sure = self.cascade.judge(i, signals)
                    details |= {name: value for name, value in signals.as_dict().items() if value is not None}
                cost = generated["cost"] = reader.cost(generation.usage, _seconds_of(generation, timer))
                answer = _answer_of_model(query, prepared, rendered, generation, grounding, confidence, cost)
                answer = replace(answer, abstained=refuses)
                yield Judged(answer, confidence)
                turn.add(i, answer, is_sure)

        # 8. Answer, audit counted: the best answer, and what all models cost.
        answer = turn.answer()
        if turn.audit_loss is not None:
            self.counter.record(turn.audit_loss)
        recall.remember(answer)
        yield TextPiece(turn.unseen_text)
        return answer

    def stream(self, query: Query) -> AnswerStream:
        """Return the answer as a stream that has not started."""
        return AnswerStream(lambda has_reader: self.answer(query, has_reader=has_reader), query.cancel)

    def explain(self, query: Query) -> Explanation:
        """Return what would be sent to the first model that the question fits."""
        bare = replace(self, stages=replace(self.stages, cache=None, ledger=None))
        with contextlib.closing(bare.answer(query)) as events:
            planned = next(event for event in events if isinstance(event, Planned))
        prepared = planned.prepared
        model = prepared.reader.model
        return Explanation(
            question=query.words,
            hits=tuple(prepared.hits),
            packing=prepared.packing,
            prompt=None if prepared.prompt is None else model.render(prepared.prompt),
            model=model.name,
            n_ctx=model.n_ctx,
            prompt_tokens=prepared.prompt_tokens,
            max_tokens=prepared.plan.budget.answer,
            cost=self._highest_cost(query, prepared),
            trace=planned.trace,
        )

    def key(self, query: Query) -> AskKey:
        """Return everything that the answer depends on."""
        return describe(query, self.settings, self.stages, self.cascade, self.store)

    def retrieve(self, query: Query, timer: StageTimer) -> tuple[Hit, ...]:
        """Return the hits for a question.

        Raises:
            ConfigurationError: The folder has no documents.
        """
        with timer("retrieve") as details:
            hits = tuple(self.searcher.search(query.question, query.k, query.where, details))
            details["hits"] = len(hits)
        if not hits:
            self.searcher.check_not_empty()
        return hits

    def for_model(self, i: int) -> Asking:
        """Return the way of a question to one model alone, whatever its answer is worth: nothing is cached or written down."""
        return replace(
            self,
            stages=replace(self.stages, cache=None, ledger=None),
            settings=replace(self.settings, abstain_below=None),
            cascade=Cascade(self.cascade.models[i : i + 1], context_tokens=self.cascade.context_tokens[i : i + 1]),
            readers=[self.readers[i]],
        )

    def measure_baseline(self, queries: Iterable[Query]) -> Baseline:
        """Return what the answers of the last model cost when it reads whole hits, as many as its window has room for.

        Nothing is cached or written down.
        """
        i = len(self.readers) - 1
        stages = replace(self.stages, packer=GreedyPacker(), compressor=None)
        alone = replace(
            self.for_model(i),
            cascade=Cascade(self.cascade.models[i:]),
            preparer=Preparer(self.store, self.embedder, stages),
        )
        answers = [alone.stream(replace(query, context_tokens=None)).answer for query in queries]
        return measured_baseline(answers, self.readers[i].model.name)

    # The stages that are more than one call

    def _highest_cost(self, query: Query, prepared: Prepared) -> Cost:
        """Return the most that a question can cost: what all models from this one on cost together.

        None when no model has a price, or when a cost is unknown.
        """
        first = self.readers.index(prepared.reader)
        costs: list[Cost] = []
        for i, reader in enumerate(self.readers[first:], first):
            if not reader.has_price:
                continue
            with contextlib.suppress(BudgetError):  # a question that does not fit a later model costs nothing there
                tokens, budget = prepared.prompt_tokens, prepared.plan.budget
                if i > first:
                    most = self.cascade.most_tokens(i, query.context_tokens)
                    budget = reader.plan(replace(query, context_tokens=most)).budget
                    tokens = budget.prompt
                costs.append(reader.cost(Usage(tokens, budget.answer) if prepared.prompt else Usage(0, 0)))
        return add_costs(costs) if costs else None

    def _check_budget(self, reader: Reader, prepared: Prepared, turn: Turn) -> None:
        """Check that the budget allows to ask a model.

        Raises:
            SpendingLimitError: It does not.
        """
        ledger = self.stages.ledger
        if not isinstance(ledger, LimitsSpending) or not reader.has_price:
            return
        most = reader.cost(Usage(prepared.prompt_tokens, prepared.plan.budget.answer))
        if reason := ledger.refusal(most, turn.least_cost):
            name = reader.model.name
            raise SpendingLimitError(
                f"{name} was not asked: {reason}. Raise the budget, or ask again later", model=name
            )

    def _begin(self, prepared: Prepared, query: Query) -> GenerationStream:
        assert prepared.prompt is not None
        return prepared.reader.model.stream(
            prepared.prompt,
            GenerateOptions(
                max_tokens=prepared.plan.max_tokens,
                thinking_tokens=query.thinking_tokens,
                temperature=query.temperature,
                seed=query.seed,
                stop=prepared.plan.template.stop,
                timeout_seconds=query.timeout_seconds,
                cancel=query.cancel,
            ),
        )

    def _signals(self, query: Query, prepared: Prepared, generation: Generation, grounding: Grounding) -> Signals:
        check = None
        if self.settings.self_check and prepared.prompt is not None:
            check = prepared.reader.self_check(
                prepared.prompt, generation.text, timeout_seconds=query.timeout_seconds, cancel=query.cancel
            )
        return signals_of(
            query.question, prepared.hits, prepared.packing, generation, support=grounding.support, self_check=check
        )

    def _record(self, answer: Answer) -> None:
        if self.stages.ledger is not None:
            self.stages.ledger.record(answer)


def _pieces(stream: GenerationStream, profile: ModelProfile, *, as_they_come: bool) -> Iterator[TextPiece]:
    """Yield the thoughts of a model as they come, then its answer without a refusal; or both at its end."""
    pieces = stream_pieces(stream) if as_they_come else _pieces_of(stream.result)
    first = ""
    for piece in pieces:
        if not piece.is_thought:
            first = piece.text
            break
        yield piece
    rest = (piece.text for piece in pieces if not piece.is_thought)
    for text in profile.withhold_refusal(itertools.chain([first], rest)):
        yield TextPiece(text)


def _pieces_of(generation: Generation) -> Iterator[TextPiece]:
    if generation.thoughts:
        yield TextPiece(generation.thoughts, is_thought=True)
    yield TextPiece(generation.text)


@contextlib.contextmanager
def _stopping_early(stream: GenerationStream) -> Generator[None, None, None]:
    """Stop a generation whose end nobody waits for: the stream was left, interrupted, or failed."""
    try:
        yield
    except BaseException:
        stream.close()
        raise


def _ground(query: Query, prepared: Prepared, generation: Generation, check: EntailmentChecker | None) -> Grounding:
    """Return the quotes that support a reply; of equal quotes, those from the sources that the model named."""
    cited = marked_numbers(generation.text) if prepared.plan.template.has_numbers else ()
    return ground(query.question, generation.text, prepared.packing.items, cited=cited, check=check)


def _seconds_of(generation: Generation, timer: StageTimer) -> float:
    """Return how long a model worked: as it says itself, or else as long as its words were waited for."""
    if generation.prefill_seconds is not None and generation.decode_seconds is not None:
        return generation.prefill_seconds + generation.decode_seconds
    return next(stage.seconds for stage in reversed(timer.stages) if stage.name == "generate")


def _answer_of_model(
    query: Query,
    prepared: Prepared,
    rendered: str,
    generation: Generation,
    grounding: Grounding,
    confidence: Confidence,
    cost: Cost,
) -> Answer:
    return Answer(
        question=query.words,
        text=grounding.text,
        citations=grounding.citations,
        is_supported=grounding.is_supported,
        support=grounding.support,
        model=generation.model,
        finish_reason=generation.finish_reason,
        usage=generation.usage,
        cost=cost,
        prompt=rendered,
        packing=prepared.packing,
        generation=generation,
        trace=(),
        confidence=confidence.value,
        calibrated=confidence.calibrated,
    )


def _answer_without_model(query: Query, prepared: Prepared) -> Answer:
    """Return the answer when nothing was found, or when what was found does not make a good answer likely."""
    return Answer(
        question=query.words,
        text=NO_ANSWER,
        citations=(),
        is_supported=False,
        support=0.0,
        model=None,
        finish_reason=None,
        usage=Usage(0, 0),
        cost=0.0,
        prompt="",
        packing=prepared.packing,
        generation=None,
        trace=(),
        abstained=prepared.prompt is not None,
    )
