"""The default compressor: whole sentences, rows and blocks, chosen for the question. Only the embedder of the question runs."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from leanrag.checks import check_share
from leanrag.compression.task import BETWEEN_SOURCES, Part, Task
from leanrag.errors import BudgetError
from leanrag.evidence.protection import Protection
from leanrag.evidence.scoring import SentenceScorer
from leanrag.evidence.selection import Candidate, Promising, fill, select
from leanrag.protocols import CompressionSource, EvidenceScorer, TokenCounter
from leanrag.types import Compression, Evidence, Hit

__all__ = ["ExtractiveCompressor"]


class ExtractiveCompressor:
    """Keeps the units (sentences, list items, table rows, code blocks) that are worth most for their tokens.

    The result consists of verbatim spans in the order of the sources. They are whole units, or whole clauses of sentences, so a
    protected span in them is whole.

    Args:
        scorer: Says how much a unit is worth; by default `SentenceScorer()`, which reads only words. `SentenceScorer` with
            `SentenceVectors` of an embedder chooses better.
        protection: Its patterns are always in the result, and its kinds too if `everywhere` is set.
        power: 1 divides the worth of a unit by its tokens, 0 does not.
        least: Leave out units that are worth less than this share of the best unit; 0 fills the budget.

    Raises:
        ConfigurationError: `power` or `least` is not in [0, 1].

    Example:
        >>> compressor = ExtractiveCompressor()
        >>> text = "The tower stands in Paris. Tickets are cheap. It is 330 metres tall."
        >>> count = lambda text: len(text.split())
        >>> compressor.compress(text, budget=9, count_tokens=count, question="Where is the tower?").text
        'The tower stands in Paris. Tickets are cheap.'
    """

    name = "extractive"

    def __init__(
        self,
        scorer: EvidenceScorer | None = None,
        *,
        protection: Protection | None = None,
        power: float = 0.5,
        least: float = 0.0,
    ) -> None:
        check_share(power=power, least=least)
        self._scorer = scorer or SentenceScorer()
        self._protection = protection or Protection()
        self._power, self._least = power, least

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens; see `leanrag.protocols.Compressor`.

        Raises:
            BudgetError: The text that must stay does not fit, or no unit fits.
            ConfigurationError: An argument cannot work.
        """
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        if task.fits:
            return task.whole(self.name)
        units, repeats = self._scorer.score(question, task.hits)
        if not units:  # nothing but white space
            return task.finish([], self.name)
        required = self._required(task, units)
        return fill(
            units,
            task.budget,
            functools.partial(self._choose, task, required),
            lambda compression: compression.tokens_after,
            repeats=repeats,
            required=required,
            least=self._least,
        )

    def _choose(self, task: Task, required: Sequence[bool], looked_at: Promising) -> Compression:
        """Return the best units within the budget. A required unit stays alone if the unit that it needs does not fit."""
        candidates = [
            Candidate(unit.value, task.count(_text(unit, task.hits)), unit.hit, unit.needs, required[i])
            for i, unit in zip(looked_at.places, looked_at.units, strict=True)
        ]
        try:
            return self._select(task, looked_at, candidates)
        except BudgetError:
            if not any(candidate.required and candidate.needs is not None for candidate in candidates):
                raise
        loose = [replace(candidate, needs=None) if candidate.required else candidate for candidate in candidates]
        return self._select(task, looked_at, loose)

    def _select(self, task: Task, looked_at: Promising, candidates: Sequence[Candidate]) -> Compression:
        units, repeats = looked_at.units, looked_at.repeats
        between = max(0, task.count(f"a{BETWEEN_SOURCES}a") - 2 * task.count("a"))
        openings = [between] * len(task.hits)
        room, is_least = task.budget + between, False
        while True:
            try:
                chosen = select(
                    candidates, room, openings=openings, repeats=repeats, power=self._power, least=self._least
                ).chosen
            except BudgetError:
                chosen = ()
            if not chosen:  # the sum over the units may exceed the tokens of their text, so these may still fit
                chosen, is_least = _least_of(candidates, task.budget), True
            if not chosen:
                cheapest = min((candidate.cost for candidate in candidates), default=0)
                raise task.too_small(max(task.budget + 1, cheapest))
            kept = [_part(units[i], "kept" if candidates[i].required else "relevant") for i in chosen]
            dropped = [
                _part(units[i], "duplicate" if repeats is not None and repeats[i, chosen].max() >= 0.99 else "budget")
                for i in sorted(set(range(len(units))).difference(chosen))
            ]
            try:
                return task.finish(kept, self.name, dropped)
            except BudgetError as error:
                if is_least:
                    raise
                room -= max(1, error.needed - task.budget)

    def _required(self, task: Task, units: Sequence[Evidence]) -> list[bool]:
        """Return which units contain something that must be in the result."""
        spans = [
            self._protection.required(hit.chunk.text, keep) for hit, keep in zip(task.hits, task.keep, strict=True)
        ]
        ends = [[end for _, end in spans_of_hit] for spans_of_hit in spans]
        # the first span that ends in a unit or after it
        first = [bisect_right(ends[unit.hit], unit.start) for unit in units]
        return [
            i < len(spans[unit.hit]) and spans[unit.hit][i][0] < unit.end for i, unit in zip(first, units, strict=True)
        ]


def _least_of(candidates: Sequence[Candidate], budget: int) -> tuple[int, ...]:
    """Return the indices of the required units and of those that they need; if there are none, of the best unit that may fit."""
    found: set[int] = set()
    for i, candidate in enumerate(candidates):
        needed: int | None = i if candidate.required else None
        while needed is not None and needed not in found:
            found.add(needed)
            needed = candidates[needed].needs
    if not found:
        alone = [i for i, candidate in enumerate(candidates) if candidate.needs is None and candidate.cost <= budget]
        found.update(sorted(alone, key=lambda i: -candidates[i].value)[:1])
    return tuple(sorted(found))


def _text(unit: Evidence, hits: Sequence[Hit]) -> str:
    return hits[unit.hit].chunk.text[unit.start : unit.end]


def _part(unit: Evidence, reason: str) -> Part:
    return Part(unit.hit, unit.start, unit.end, unit.value, reason)
