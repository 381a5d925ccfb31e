"""From hits to the prompt of one model: choose a packer, pack within the budget, and count the whole prompt."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from leanrag.compression.gate import CostGate
from leanrag.errors import StorageError
from leanrag.evidence.budget import TokenBudget
from leanrag.evidence.packing import CompressingPacker, EvidencePacker
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.reader import Plan, Reader
from leanrag.pipeline.stages import Stages
from leanrag.pipeline.timing import StageTimer
from leanrag.prompting import PromptTemplate
from leanrag.protocols import ChunkFeature, ComputesAhead, Embedder, LanguageModel, Packer, ReadsLittle, TokenCounter
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Generation, Hit, Message, Packing, Prompt, Scalar

__all__ = ["Prepared", "Preparer", "fit_prompt_to_budget"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Hits, packed for one model.

    Attributes:
        reader: The model.
        hits: What was retrieved, best first.
        plan: How the question is answered: what makes its prompt, and how its window is divided.
        packing: The sources that fit.
        prompt: What to send; None when nothing was found.
        prompt_tokens: Size of the prompt.
    """

    reader: Reader
    hits: Sequence[Hit]
    plan: Plan
    packing: Packing
    prompt: Prompt | None
    prompt_tokens: int


class Preparer:
    """Packs hits for a model; any thread may call.

    Args:
        store: Has what was computed for chunks when they were added.
        embedder: Compares the question with sentences, in the library's own packer.
        stages: Packer or compressor, where they are not the library's own.
    """

    def __init__(self, store: Store, embedder: Lazy[Embedder], stages: Stages) -> None:
        self._store, self._embedder, self._stages = store, embedder, stages
        self._gate = CostGate()

    def features(self) -> list[ChunkFeature]:
        """Return what is to be computed for chunks when they are added, for the packers to use."""
        if isinstance(self._stages.compressor, ComputesAhead):
            return [self._stages.compressor.feature]
        return []

    def prepare(self, reader: Reader, question: str, hits: Sequence[Hit], plan: Plan, timer: StageTimer) -> Prepared:
        """Pack `hits` for a model.

        Raises:
            BudgetError: Nothing of the hits fits.
        """
        budget = plan.budget
        with timer("pack") as details:
            packer = self._choose_packer(reader, hits, budget, details)
            packing, prompt, tokens = fit_prompt_to_budget(
                question, hits, budget, packer, plan.template, reader.model, reader.count_tokens, plan.history.messages
            )
            if packing.compression is not None:
                self._gate.observe(packing.compression)
            n_kept = sum(item.action != "heading" for item in packing.items)
            details |= {"kept": n_kept, "dropped": len(packing.dropped)}
            if shown := sum(len(item.text) for item in packing.items):
                retrieved = sum(len(hit.chunk.text) for hit in hits)
                details["full_tokens"] = round(packing.tokens * max(1.0, retrieved / shown))
            details |= {"fixed_tokens": budget.fixed, "source_tokens": packing.tokens, "answer_tokens": budget.answer}
        return Prepared(reader, hits, plan, packing, prompt, tokens)

    def observe(self, generation: Generation) -> None:
        """Learn from a generation how fast its model reads: that decides whether compressing pays."""
        self._gate.observe(generation)

    def _choose_packer(
        self, reader: Reader, hits: Sequence[Hit], budget: TokenBudget, details: dict[str, Scalar]
    ) -> Packer:
        """Return the user's packer, or the compressor where compressing pays, or the library's own packer."""
        compressor = self._stages.compressor
        if self._stages.packer is not None or compressor is None:
            return self._stages.packer or self._evidence_packer(reader)
        tokens = sum(reader.count_tokens(hit.chunk.text) for hit in hits)
        decision = self._gate.decide(
            reader.model.name,
            compressor.name,
            tokens_before=tokens,
            tokens_after=min(tokens, budget.sources),
            price_per_token=reader.price_per_prompt_token,
        )
        details |= {"gate": decision.reason, "compress": decision.compress, "saved_tokens": decision.saved_tokens}
        details |= {"saved_seconds": decision.saved_seconds, "cost_seconds": decision.cost_seconds}
        details["saved_price"] = decision.saved_price
        return self._compressing_packer if decision.compress else self._evidence_packer(reader)

    @functools.cached_property
    def _scorer(self) -> SentenceScorer:
        vectors = SentenceVectors(self._embedder.get())
        stored = functools.partial(self._store.get_feature, vectors.name)
        return SentenceScorer(vectors, stored, store=functools.partial(self._keep, vectors.name))

    def _keep(self, name: str, values: Sequence[tuple[Chunk, bytes]]) -> None:
        """Store what was computed for chunks; a folder that cannot be written goes without."""
        if self._store.read_only:
            return
        try:
            self._store.put_feature(name, values)
        except StorageError as error:
            logger.info("sentence vectors are not kept: %s", error)

    def _evidence_packer(self, reader: Reader) -> EvidencePacker:
        floor = reader.model.evidence_floor if isinstance(reader.model, ReadsLittle) else 0.0
        return EvidencePacker(self._scorer, least=floor)

    @functools.cached_property
    def _compressing_packer(self) -> CompressingPacker:
        compressor = self._stages.compressor
        assert compressor is not None
        if isinstance(compressor, ComputesAhead):
            compressor = compressor.with_stored(functools.partial(self._store.get_feature, compressor.feature.name))
        return CompressingPacker(compressor)


def fit_prompt_to_budget(
    question: str,
    hits: Sequence[Hit],
    budget: TokenBudget,
    packer: Packer,
    template: PromptTemplate,
    model: LanguageModel,
    count_tokens: TokenCounter,
    history: Sequence[Message] = (),
) -> tuple[Packing, Prompt | None, int]:
    """Pack `hits` so that the rendered prompt keeps to the budget; return `(packing, prompt, tokens of the prompt)`.

    The tokens of the parts do not add up to those of the whole, so the whole prompt is counted last. When it is too long, the
    hits are packed again with so many tokens less.
    """

    def count_source(number: int, title: str, text: str) -> int:
        return count_tokens(template.render_source(number, title, text))

    room = budget.sources
    while True:
        packing = packer.pack(hits, room, count_source, question=question)
        if not packing.items:
            return packing, None, 0
        prompt = template.build(question, packing.items, history)
        tokens = model.count(prompt)
        if tokens <= budget.prompt:
            return packing, prompt, tokens
        room = min(room, packing.tokens) - (tokens - budget.prompt)
