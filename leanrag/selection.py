"""Which of many items to keep under a token budget: values, costs, what needs what, what repeats what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import BudgetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Candidate", "Selection", "select"]

_EXACT = 8  # candidates up to which all subsets are looked at
_SWAPS = 2  # passes over what was chosen


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to keep or leave.

    Attributes:
        value: What it is worth alone, at least 0.
        cost: Tokens.
        group: What it belongs to; the first of a group costs the group's opening, too.
        needs: Place of a candidate that must be kept with it; None for none.
        required: Whether it must be kept.
    """

    value: float
    cost: int
    group: int = 0
    needs: int | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """What was kept.

    Attributes:
        chosen: Places of the candidates kept, ascending.
        cost: Their tokens, openings included.
        value: What they are worth together.
    """

    chosen: tuple[int, ...]
    cost: int
    value: float


def select(
    candidates: Sequence[Candidate],
    budget: int,
    *,
    openings: Sequence[int] = (),
    repeats: NDArray[np.float32] | None = None,
    power: float = 1.0,
    least: float = 0.0,
) -> Selection:
    """Return the candidates that are worth most together within `budget`.

    Together, a candidate is worth its value times the share of it that no better chosen one repeats. Greedy by gain for
    `cost ** power`, then exchanges of one chosen for others as long as they gain; of eight candidates or fewer, the best of all
    subsets. Greedy by gain per token, or the best alone, is at least (1 - 1/e) / 2 of the best for such values without openings
    and needs (Leskovec et al., KDD 2007).

    Args:
        candidates: What there is.
        budget: Most tokens.
        openings: What opening each group costs; nothing when empty.
        repeats: `(n, n)`, symmetric: which share of one candidate the other repeats, in [0, 1]; None for nothing.
        power: 1 for gain per token, 0 for gain alone.
        least: Stop when the best gain left is below this share of the first; required ones do not count.

    Raises:
        BudgetError: The required ones do not fit.

    Example:
        >>> select([Candidate(3, 5), Candidate(2, 2), Candidate(2, 3)], 5).chosen
        (1, 2)
    """
    problem = _Problem(candidates, openings, repeats)
    chosen: set[int] = set()
    for i, candidate in enumerate(candidates):
        if candidate.required:
            chosen |= problem.closure(i)
    cost = problem.cost(chosen)
    if cost > budget:
        raise BudgetError(
            f"what must be kept takes {cost:,} tokens, and the budget is {budget:,}", needed=cost, available=budget
        )
    required = frozenset(chosen)
    if len(candidates) <= _EXACT and not least:
        chosen = problem.best_subset(budget, required)
    else:
        chosen = problem.greedy(chosen, budget, power, least)
        problem.exchange(chosen, budget, required)
    return Selection(tuple(sorted(chosen)), problem.cost(chosen), problem.value(chosen))


class _Problem:
    def __init__(
        self, candidates: Sequence[Candidate], openings: Sequence[int], repeats: NDArray[np.float32] | None
    ) -> None:
        self._candidates = candidates
        self._openings = openings or [0] * (max((c.group for c in candidates), default=0) + 1)
        n = len(candidates)
        self._values = np.array([candidate.value for candidate in candidates], np.float64)
        # Row i: what of i is repeated by those that come before it in the order of values.
        self._repeats = np.zeros((n, n)) if repeats is None else np.array(repeats, np.float64)
        order = np.argsort(-self._values, kind="stable")
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        self._repeats[rank[:, None] <= rank[None, :]] = 0.0
        self._order = order.tolist()
        self._closures: dict[int, frozenset[int]] = {}

    def closure(self, place: int) -> frozenset[int]:
        """A candidate and all that it needs."""
        known = self._closures.get(place)
        if known is None:
            found = {place}
            needs = self._candidates[place].needs
            while needs is not None and needs not in found:
                found.add(needs)
                needs = self._candidates[needs].needs
            known = self._closures[place] = frozenset(found)
        return known

    def cost(self, chosen: set[int] | frozenset[int]) -> int:
        """Tokens of the candidates and of the groups that they open."""
        groups = {self._candidates[i].group for i in chosen}
        return sum(self._candidates[i].cost for i in chosen) + sum(self._openings[group] for group in groups)

    def value(self, chosen: set[int] | frozenset[int]) -> float:
        """What the candidates are worth together."""
        if not chosen:
            return 0.0
        rows = np.fromiter(chosen, np.int64, len(chosen))
        repeated = self._repeats[np.ix_(rows, rows)].max(axis=1)
        return float(self._values[rows] @ (1.0 - repeated))

    def greedy(self, chosen: set[int], budget: int, power: float, least: float) -> set[int]:
        """Add what gains most for its tokens, one after another; or the best alone, if that is worth more."""
        start = frozenset(chosen)
        value, cost = self.value(chosen), self.cost(chosen)
        first = 0.0
        left = [i for i in self._order if i not in chosen]
        while left:
            best, best_rate, best_gain = None, 0.0, 0.0
            fitting = []
            for i in left:
                more = self.closure(i) - chosen
                if not more:
                    continue
                extra = self.cost(chosen | more) - cost
                if cost + extra > budget:
                    continue
                fitting.append(i)
                gain = self._gain(i, chosen, more, value)
                rate = gain / max(extra, 1) ** power
                if rate > best_rate:
                    best, best_rate, best_gain = i, rate, gain
            if best is None or best_gain < least * first:
                break
            first = first or best_gain
            chosen |= self.closure(best)
            value, cost = self.value(chosen), self.cost(chosen)
            left = [i for i in fitting if i not in chosen]
        alone = [(self.value(start | self.closure(i)), i) for i in range(len(self._candidates))]
        for worth, i in sorted(alone, reverse=True)[:8]:
            if worth > value and self.cost(start | self.closure(i)) <= budget:
                return set(start | self.closure(i))
        return chosen

    def _gain(self, place: int, chosen: set[int], more: frozenset[int], value: float) -> float:
        if len(more) == 1 and not self._repeats.any():
            return float(self._values[place])
        return self.value(chosen | more) - value

    def exchange(self, chosen: set[int], budget: int, required: frozenset[int]) -> None:
        """Put others in the place of single chosen ones as long as that gains."""
        for _ in range(_SWAPS):
            improved = False
            for out in sorted(chosen - required, key=lambda i: self._values[i]):
                if any(out in self.closure(i) and i != out for i in chosen):
                    continue  # another needs it
                rest = chosen - {out}
                value = self.value(chosen)
                filled = self._fill(rest, budget, {out})
                if self.value(filled) > value + 1e-12:
                    chosen.clear()
                    chosen |= filled
                    improved = True
                    break
            if not improved:
                return

    def _fill(self, chosen: set[int], budget: int, without: set[int]) -> set[int]:
        """Add the most valuable that still fit."""
        filled = set(chosen)
        cost = self.cost(filled)
        for i in self._order:
            more = self.closure(i) - filled
            if more and not more & without:
                total = self.cost(filled | more)
                if total <= budget:
                    filled |= more
                    cost = total
        assert cost <= budget
        return filled

    def best_subset(self, budget: int, required: frozenset[int]) -> set[int]:
        """The best of all subsets; of equals, the cheapest."""
        n = len(self._candidates)
        best: tuple[float, int, set[int]] = (-1.0, 0, set())
        for mask in range(1 << n):
            chosen = {i for i in range(n) if mask >> i & 1}
            if not required <= chosen or any(not self.closure(i) <= chosen for i in chosen):
                continue
            cost = self.cost(chosen)
            if cost <= budget:
                value = self.value(chosen)
                if (round(value, 12), -cost) > (round(best[0], 12), -best[1]) or best[0] < 0:
                    best = (value, cost, chosen)
        return best[2]
