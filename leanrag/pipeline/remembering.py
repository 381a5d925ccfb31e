"""The cache on the way of one question: what is looked up when, and under which key an answer is stored."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from leanrag.abilities import ComputesOnce, FindsSimilar, FreshEvidence
from leanrag.grounding import ground
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.preparing import Prepared
from leanrag.pipeline.query import Query
from leanrag.pipeline.timing import StageTimer
from leanrag.pipeline.turn import answers_agree
from leanrag.protocols import Embedder, ResponseCache
from leanrag.types import Answer, AskKey, Hit, PackedItem, Usage

__all__ = ["Recall"]


@dataclass(slots=True)
class Recall:
    """What a cache knows of one question; it knows nothing without a key.

    Attributes:
        cache: The cache; None for none.
        key: The key that is known before the search; None if the answer must not be stored.
        query: The question.
        embedder: Embeds the question where similar ones are looked for.
    """

    cache: ResponseCache | None
    key: AskKey | None
    query: Query
    embedder: Lazy[Embedder]
    _prepared: Prepared | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is anything to look up."""
        return self.cache is not None and self.key is not None

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Let equal questions wait, if the cache can do that: then they find the answer that is computed now."""
        if self.is_on and isinstance(self.cache, ComputesOnce):
            assert self.key is not None
            return self.cache.computing(self.key, self.query.cancel)
        return contextlib.nullcontext()

    def find(self, timer: StageTimer) -> Answer | None:
        """Return the answer to the same question over the same documents."""
        if self.cache is None or self.key is None:
            return None
        with timer("cache") as details:
            answer = self.cache.get(self.key)
            details["found"] = answer is not None
            if answer is not None:
                details["tier"] = "exact"
        return None if answer is None else self._reused(answer, timer)

    def find_by_evidence(self, prepared: Prepared, timer: StageTimer) -> Answer | None:
        """Return the answer to the same question over the same evidence, or else to a similar question."""
        if self.cache is None or self.key is None or prepared.prompt is None or self._prepared is not None:
            return None
        self._prepared = prepared
        with timer("cache") as details:
            tier, answer = "evidence", self.cache.get(self._evidence_key(prepared))
            if answer is not None:
                self.cache.put(self.key, answer)
            elif isinstance(self.cache, FindsSimilar):
                tier, answer = "similar", self.cache.find_similar(self._evidence_key(prepared), self._fresh(prepared))
            details["found"] = answer is not None
            if answer is not None:
                details["tier"] = tier
        return None if answer is None else self._reused(answer, timer)

    def remember(self, answer: Answer) -> None:
        """Store an answer, unless another try might get a better one."""
        if self.cache is None or self.key is None or answer.stopped_by is not None:
            return
        self.cache.put(self.key, answer)
        if self._prepared is not None:
            key = self._evidence_key(self._prepared)
            self.cache.put(key, answer)
            if isinstance(self.cache, FindsSimilar):
                self.cache.put_similar(key, answer, self._fresh(self._prepared))

    def _reused(self, answer: Answer, timer: StageTimer) -> Answer:
        return replace(answer, question=self.query.words, usage=Usage(0, 0), cost=0.0, trace=timer.stages, steps=())

    def _evidence_key(self, prepared: Prepared) -> AskKey:
        assert self.key is not None
        return replace(self.key, documents="", evidence=_evidence_hash(prepared.hits, prepared.packing.items))

    def _fresh(self, prepared: Prepared) -> FreshEvidence:
        items = prepared.packing.items

        def adopt(answer: Answer) -> Answer | None:
            if answer.generation is None:
                return None
            grounding = ground(self.query.question, answer.generation.text, items)
            if not grounding.is_supported:
                return None
            return replace(
                answer,
                text=grounding.text,
                citations=grounding.citations,
                support=grounding.support,
                packing=prepared.packing,
            )

        return FreshEvidence(
            vector=lambda: self.embedder.get().embed_queries([self.query.question])[0],
            texts=frozenset(hit.chunk.text for item in items for hit in (item.hit, *item.more)),
            adopt=adopt,
            agrees=answers_agree,
        )


def _evidence_hash(hits: Sequence[Hit], items: Sequence[PackedItem]) -> str:
    """Return a hash of what was found and of what the prompt shows of it; the scores of the search do not enter."""
    digest = hashlib.sha256()
    for hit in hits:
        chunk = hit.chunk
        digest.update(repr((chunk.id, chunk.text, chunk.title, chunk.heading)).encode("utf-8", "surrogatepass"))
    for item in items:
        digest.update(repr((item.number, item.text)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
