"""The default compressor: whole sentences, rows and blocks, chosen for the question. No model runs but the query's embedding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from leanrag.compression.evidence import SentenceScorer
from leanrag.compression.protection import Protection
from leanrag.compression.task import Part, Task
from leanrag.errors import BudgetError, ConfigurationError
from leanrag.protocols import CompressionSource, EvidenceScorer, TokenCounter
from leanrag.selection import Candidate, select
from leanrag.types import Compression, Evidence, Hit

__all__ = ["ExtractiveCompressor"]

_COUNTED = 24  # characters of units that are looked at for each token of the budget


class ExtractiveCompressor:
    """Keeps the units (sentences, list items, table rows, code blocks) that are worth most for their tokens.

    The result is made of verbatim spans in the order of the sources; no unit is cut, so that whatever is protected in one is whole.

    Args:
        scorer: What says how much a unit is worth; by default `SentenceScorer()`, which looks at words alone. Give it
            `SentenceVectors` of an embedder for better choices.
        protection: Its patterns, and its kinds when `everywhere` is set, are always in the result.
        power: 1 for worth per token, 0 for worth alone.
        least: Stop filling the budget at units below this share of the best one's worth; 0 fills it.

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
        for name, value in (("power", power), ("least", least)):
            if not 0 <= value <= 1:
                raise ConfigurationError(f"`{name}` must be in [0, 1], got {value!r}")
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
            BudgetError: What must stay does not fit, or not one unit does.
            ConfigurationError: An argument cannot work.
        """
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        if task.fits:
            return task.whole(self.name)
        all_units, all_repeats = self._scorer.score(question, task.hits)
        is_required = self._required(task, all_units)
        places = _promising(all_units, is_required, task.budget)
        units = [all_units[i] for i in places]
        repeats = None if all_repeats is None else all_repeats[np.ix_(places, places)]
        required = [is_required[i] for i in places]
        place_of = {place: i for i, place in enumerate(places)}
        candidates = [
            Candidate(
                unit.value,
                task.count(_text(unit, task.hits)),
                unit.hit,
                None if unit.needs is None else place_of[unit.needs],
                must_stay,
            )
            for unit, must_stay in zip(units, required, strict=True)
        ]
        room = task.budget
        while True:
            try:
                chosen = select(candidates, room, repeats=repeats, power=self._power, least=self._least).chosen
            except BudgetError as error:
                raise task.too_small(max(error.needed, task.budget + 1)) from None
            if not chosen:
                raise task.too_small(max(task.budget + 1, min(candidate.cost for candidate in candidates)))
            kept = [_part(units[i], "kept" if required[i] else "relevant") for i in chosen]
            repeated = np.zeros(len(units), bool) if repeats is None else repeats[:, list(chosen)].max(axis=1) >= 0.99
            dropped = [
                _part(unit, "duplicate" if repeated[i] else "budget")
                for i, unit in enumerate(units)
                if i not in set(chosen)
            ]
            try:
                return task.finish(kept, self.name, dropped)
            except BudgetError as error:  # tokens do not add up over parts
                room -= max(1, error.needed - task.budget)

    def _required(self, task: Task, units: Sequence[Evidence]) -> list[bool]:
        """Which units hold something that must be in the result."""
        spans = [
            self._protection.required(hit.chunk.text, keep) for hit, keep in zip(task.hits, task.keep, strict=True)
        ]
        return [any(start < unit.end and end > unit.start for start, end in spans[unit.hit]) for unit in units]


def _promising(units: Sequence[Evidence], required: Sequence[bool], budget: int) -> list[int]:
    """Places, ascending, of the units that are worth counting: the best, several times what fits, and those that must stay."""
    chosen = {i for i, must_stay in enumerate(required) if must_stay}
    left = _COUNTED * budget
    for i in sorted(range(len(units)), key=lambda i: -units[i].value):
        if left < 0:
            break
        chosen.add(i)
        left -= units[i].end - units[i].start
    for i in list(chosen):
        while (needs := units[i].needs) is not None and needs not in chosen:
            chosen.add(needs)
            i = needs
    return sorted(chosen)


def _text(unit: Evidence, hits: Sequence[Hit]) -> str:
    return hits[unit.hit].chunk.text[unit.start : unit.end]


def _part(unit: Evidence, reason: str) -> Part:
    return Part(unit.hit, unit.start, unit.end, unit.value, reason)
