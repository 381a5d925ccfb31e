"""Chooses which candidates to keep under a token budget, by their values, their costs, what they need and what they repeat."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from leanrag.errors import BudgetError
from leanrag.types import Evidence

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Candidate", "Promising", "Selection", "fill", "promising", "select", "with_needs"]

T = TypeVar("T")

_EXACT = 6  # candidates up to which all subsets are looked at
_EXCHANGES = 6  # made at most, and tried of each
_FULL = 0.75  # share of a budget that promising units should fill; less means that most of them did not fit
_COUNTED = 16  # characters of units that are looked at for each token of the budget
_FITTING = 12  # characters of a unit for each token of the budget, at most: longer units cannot fit


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may be kept: a unit, or anything else that costs tokens.

    Attributes:
        value: Its value if nothing else is kept, at least 0.
        cost: Tokens.
        group: Number of its source. The first candidate that is kept of a source costs the opening of the source too.
        needs: Index of a candidate that must be kept with it, or None.
        required: Whether it must be kept.
        together: Number of its group. The candidates of a group are kept all or not at all. None if it belongs to no group.
    """

    value: float
    cost: int
    group: int = 0
    needs: int | None = None
    required: bool = False
    together: int | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """The candidates that are kept.

    Attributes:
        chosen: Indices of the candidates that are kept, ascending.
        cost: Their tokens, openings included.
        value: Their value together.
    """

    chosen: tuple[int, ...]
    cost: int
    value: float


@dataclass(frozen=True, slots=True)
class Promising:
    """The units that are worth counting.

    Attributes:
        places: Their indices among all units, ascending.
        units: The units themselves. `needs` is an index among them.
        repeats: `(n, n)`: the share of each unit that each other one repeats. None if nothing is known.
    """

    places: tuple[int, ...]
    units: tuple[Evidence, ...]
    repeats: NDArray[np.float32] | None


def promising(
    units: Sequence[Evidence],
    budget: int | None,
    *,
    repeats: NDArray[np.float32] | None = None,
    required: Sequence[bool] = (),
) -> Promising:
    """Return the units that a selection within `budget` tokens could come to: the best, several times what fits.

    Counting the tokens of a unit takes longer than all that is done with it afterwards; most units of ten hits are not worth it.

    Args:
        units: All units.
        budget: Most tokens; None to leave out nothing.
        repeats: `(n, n)`, which share of each unit the others repeat; None for nothing.
        required: For each unit, whether it is taken whatever it is worth; none when empty. What a taken unit needs is taken, too.
    """
    if budget is None:
        return Promising(tuple(range(len(units))), tuple(units), repeats)
    chosen = {place for place, is_required in enumerate(required) if is_required}
    left = _COUNTED * budget
    for place in sorted(range(len(units)), key=lambda place: -units[place].value):
        if left <= 0:
            break
        length = units[place].end - units[place].start
        if length <= _FITTING * budget:
            chosen.add(place)
            left -= length
    groups = {units[place].group for place in chosen}
    chosen.update(place for place, unit in enumerate(units) if unit.group is not None and unit.group in groups)
    places = tuple(sorted(with_needs(chosen, [unit.needs for unit in units])))
    place_of = {place: at for at, place in enumerate(places)}
    own = (units[place] for place in places)
    return Promising(
        places,
        tuple(unit if unit.needs is None else replace(unit, needs=place_of[unit.needs]) for unit in own),
        None if repeats is None else repeats[np.ix_(places, places)],
    )


def with_needs(chosen: Set[int], needs: Sequence[int | None]) -> set[int]:
    """Return the indices of the chosen units and of all that they need, directly or not.

    Args:
        chosen: Indices.
        needs: For each unit, the index of the unit that it needs; None for none.
    """
    found = set(chosen)
    for i in chosen:
        needed = needs[i]
        while needed is not None and needed not in found:
            found.add(needed)
            needed = needs[needed]
    return found


def fill(
    units: Sequence[Evidence],
    budget: int,
    choose: Callable[[Promising], T],
    tokens_of: Callable[[T], int],
    *,
    repeats: NDArray[np.float32] | None = None,
    required: Sequence[bool] = (),
    least: float = 0.0,
) -> T:
    """Return what `choose` makes of the promising units; of all units where those leave more than a quarter of the budget.

    Args:
        units: All units.
        budget: Most tokens.
        choose: Chooses among the units that it gets.
        tokens_of: Tokens of what was chosen.
        repeats: As in `promising`.
        required: As in `promising`.
        least: As `choose` gives it to `select`: room that is left for want of worth is no reason to look at more.

    Raises:
        BudgetError: `choose` did, about all units, or about promising ones with everything that is required among them.
    """
    found = promising(units, budget, repeats=repeats, required=required)
    if len(found.units) < len(units):
        try:
            chosen = choose(found)
        except BudgetError:
            if any(required):
                raise
        else:
            floor = least * max(unit.value for unit in units)
            tokens = tokens_of(chosen)
            if tokens >= _FULL * budget or (tokens and any(unit.value < floor for unit in found.units)):
                return chosen
        found = promising(units, None, repeats=repeats)
    return choose(found)


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
    `cost ** power`, or the best alone, then exchanges of one chosen for others as long as they gain; of six candidates or fewer,
    the best of all subsets. Where nothing repeats, needs or opens another, gain per token makes this worth at least half of the
    best (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, section 2.4).

    Args:
        candidates: What there is.
        budget: Most tokens.
        openings: What opening each group costs; nothing when empty.
        repeats: `(n, n)`, symmetric: the share of a candidate that another repeats, in [0, 1]; None if nothing repeats another.
        power: 1 for gain per token, 0 for gain alone.
        least: Leave out candidates that gain less than this share of the best candidate; required candidates always stay.

    Raises:
        BudgetError: The required candidates do not fit.

    Example:
        >>> select([Candidate(3, 5), Candidate(2, 2), Candidate(2, 3)], 5).chosen
        (1, 2)
    """
    problem = _Problem(candidates, openings, repeats)
    required = problem.state()
    for place, candidate in enumerate(candidates):
        if candidate.required:
            required.add(problem.closure(place))
    if required.cost > budget:
        raise BudgetError(
            f"The text that must be kept takes {required.cost:,} tokens, and the budget is {budget:,}."
            " Raise the budget, or keep less",
            needed=required.cost,
            available=budget,
        )
    floor = problem.floor(required, budget, least)
    if len(candidates) <= _EXACT:
        best = problem.best_subset(required, budget, floor)
    else:
        best = problem.exchange(problem.greedy(required, budget, power, floor), required, budget, floor)
    return Selection(tuple(np.flatnonzero(best.chosen).tolist()), best.cost, problem.value(best.chosen))


class _State:
    """The candidates that are chosen so far."""

    def __init__(self, problem: _Problem) -> None:
        self._problem = problem
        self.chosen = np.zeros(problem.n, bool)
        self.opened = np.zeros(len(problem.openings), bool)
        self.cost = 0
        self.repeated = np.zeros(problem.n)  # share of each candidate that a better chosen candidate repeats
        self._extra: NDArray[np.float64] | None = None  # what `extra` and `gains` return until one more is chosen
        self._gains: NDArray[np.float64] | None = None

    def copy(self) -> _State:
        other = _State(self._problem)
        other.chosen, other.opened = self.chosen.copy(), self.opened.copy()
        other.cost, other.repeated = self.cost, self.repeated.copy()
        other._extra, other._gains = self._extra, self._gains
        return other

    def extra(self) -> NDArray[np.float64]:
        """What adding each would cost, with all that it needs and what that opens; infinity for the chosen. Read-only."""
        if self._extra is None:
            problem = self._problem
            costs = problem.over_closures(np.where(self.chosen, 0, problem.costs))
            openings = problem.over_groups(np.where(self.opened, 0, problem.openings))
            self._extra = np.where(self.chosen, np.inf, costs + openings)
        return self._extra

    def gains(self) -> NDArray[np.float64]:
        """What adding each, with all that it needs, would be worth. Read-only."""
        if self._gains is not None:
            return self._gains
        problem = self._problem
        if problem.repeats is None:
            gains = np.where(self.chosen, 0.0, problem.values)
        else:
            gains = np.where(self.chosen, 0.0, problem.values * (1.0 - self.repeated))
            chosen = np.flatnonzero(self.chosen)
            more = np.maximum(problem.repeats[chosen] - self.repeated[chosen, None], 0.0)
            gains -= np.where(self.chosen, 0.0, problem.values[chosen] @ more)
        self._gains = problem.over_closures(gains)
        return self._gains

    def add(self, indices: Sequence[int]) -> None:
        problem = self._problem
        self._extra = self._gains = None
        new = [i for i in indices if not self.chosen[i]]
        groups = list({group for i in new if not self.opened[group := problem.group_of[i]]})
        self.cost += sum(problem.cost_of[i] for i in new) + sum(problem.opening_of[group] for group in groups)
        self.chosen[new] = True
        self.opened[groups] = True
        if problem.repeats is not None:
            self.repeated = np.maximum(self.repeated, problem.repeats[:, new].max(axis=1, initial=0.0))


class _Problem:
    def __init__(
        self, candidates: Sequence[Candidate], openings: Sequence[int], repeats: NDArray[np.float32] | None
    ) -> None:
        self.n = len(candidates)
        self.cost_of = [candidate.cost for candidate in candidates]
        self.group_of = [candidate.group for candidate in candidates]
        self.opening_of = openings or [0] * (max(self.group_of, default=0) + 1)
        self.values = np.array([candidate.value for candidate in candidates], np.float64)
        self.costs, self.openings = np.array(self.cost_of, np.int64), np.array(self.opening_of, np.int64)
        self._closures = _closures(candidates)
        self._members = np.array([i for closure in self._closures for i in closure], np.int64)
        self._starts = np.cumsum([0, *map(len, self._closures)])[:-1]
        self._rows = np.repeat(np.arange(self.n), [len(closure) for closure in self._closures])
        opened = [sorted({candidates[i].group for i in closure}) for closure in self._closures]
        self._opened = np.array([group for groups in opened for group in groups], np.int64)
        self._opened_starts = np.cumsum([0, *map(len, opened)])[:-1]
        self.repeats: NDArray[np.float64] | None = None
        if repeats is not None and repeats.any():
            rank = np.empty(self.n, np.int64)
            rank[np.argsort(-self.values, kind="stable")] = np.arange(self.n)
            # [i, j]: which share of i the better j repeats
            self.repeats = np.where(rank[:, None] > rank[None, :], repeats, 0.0).astype(np.float64)

    def state(self) -> _State:
        """Nothing chosen."""
        return _State(self)

    def closure(self, i: int) -> Sequence[int]:
        """A candidate and all that it needs."""
        return self._closures[i]

    def over_closures(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums `(n,)` of the values of each candidate and of all that it needs."""
        sums: NDArray[Any] = np.add.reduceat(values[self._members], self._starts) if self.n else values
        return sums

    def over_groups(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sums `(n,)` of the values of the groups of each candidate and of all that it needs."""
        sums: NDArray[Any] = np.add.reduceat(values[self._opened], self._opened_starts) if self.n else np.zeros(0)
        return sums

    def needing(self, i: int) -> NDArray[np.int64]:
        """A candidate and all that need it."""
        rows: NDArray[np.int64] = self._rows[self._members == i]
        return rows

    def value(self, chosen: NDArray[np.bool_]) -> float:
        """What the chosen are worth together."""
        if self.repeats is None or not chosen.any():
            return float(self.values[chosen].sum())
        repeated = self.repeats[np.ix_(chosen, chosen)].max(axis=1)
        return float(self.values[chosen] @ (1.0 - repeated))

    def floor(self, start: _State, budget: int, least: float) -> float:
        """What another must gain to be taken: a share of what the best gains alone."""
        if not self.n or not least:
            return 0.0
        return least * max(0.0, float(np.where(start.cost + start.extra() <= budget, start.gains(), -1.0).max()))

    def greedy(self, start: _State, budget: int, power: float, floor: float) -> _State:
        """Add what gains most for its tokens, one after another; or the best alone, if that is worth more."""
        state = start.copy()
        if not self.n:
            return state
        alone = np.where(start.cost + start.extra() <= budget, start.gains(), -1.0)
        while True:
            extra = state.extra()
            gains = state.gains()
            may_be = (state.cost + extra <= budget) & (gains >= floor)
            rates = np.where(may_be, gains / np.maximum(extra, 1.0) ** power, -1.0)
            best = int(rates.argmax())
            if rates[best] <= 0:
                break
            state.add(self.closure(best))
        if alone.max() > self.value(state.chosen) - self.value(start.chosen):
            single = start.copy()
            single.add(self.closure(int(alone.argmax())))
            state = max(state, single, key=lambda one: self.value(one.chosen))
        return state

    def exchange(self, state: _State, required: _State, budget: int, floor: float) -> _State:
        """Exchange a chosen candidate for others, as long as that gains."""
        for _ in range(_EXCHANGES):
            worth = self.value(state.chosen)
            out = np.flatnonzero(state.chosen & ~required.chosen)
            best = None
            for i in out[np.argsort(self.values[out])][:_EXCHANGES].tolist():
                kept = state.chosen.copy()
                kept[self.needing(i)] = False
                if (required.chosen & ~kept).any():
                    continue
                other = required.copy()
                valued = np.flatnonzero(kept & (self.values > 0)).tolist()
                other.add(sorted({member for j in valued for member in self.closure(j)}))
                self._fill(other, budget, floor, without=i)
                if self.value(other.chosen) > worth + 1e-12:
                    best, worth = other, self.value(other.chosen)
            if best is None:
                break
            state = best
        return state

    def _fill(self, state: _State, budget: int, floor: float, *, without: int) -> None:
        """Add the most valuable that still fit."""
        excluded = self.needing(without)
        while True:
            extra, gains = state.extra(), state.gains().copy()
            gains[(state.cost + extra > budget) | (gains < floor)] = -1.0
            gains[excluded] = -1.0
            best = int(gains.argmax())
            if gains[best] <= 0:
                return
            state.add(self.closure(best))

    def best_subset(self, required: _State, budget: int, floor: float) -> _State:
        """The best of all subsets of what reaches the floor, and of what that needs; of equals, the cheapest."""
        best, best_key = required, (round(self.value(required.chosen), 12), -required.cost)
        reaching = {place for place in range(self.n) if self.values[place] >= floor}
        wanted = {other for place in reaching for other in self.closure(place)}
        free = [place for place in sorted(wanted) if not required.chosen[place]]
        for mask in range(1, 1 << len(free)):
            places = [place for bit, place in enumerate(free) if mask >> bit & 1]
            state = required.copy()
            state.add(places)
            if state.cost > budget or any(not state.chosen[list(self.closure(place))].all() for place in places):
                continue
            needed = {other for place in places if place in reaching for other in self.closure(place)}
            if not needed.issuperset(places):
                continue
            key = (round(self.value(state.chosen), 12), -state.cost)
            if key > best_key:
                best, best_key = state, key
        return best


def _closures(candidates: Sequence[Candidate]) -> list[tuple[int, ...]]:
    """Of each candidate, itself and all that it needs, directly or not; what is read together needs each other."""
    together: dict[int, list[int]] = {}
    for i, candidate in enumerate(candidates):
        if candidate.together is not None:
            together.setdefault(candidate.together, []).append(i)
    closures: list[tuple[int, ...]] = []
    known: dict[int, tuple[int, ...]] = {}
    for i, candidate in enumerate(candidates):
        if candidate.together in known:
            others = known[candidate.together]
            closures.append((i, *(j for j in others if j != i)))
            continue
        found: dict[int, None] = {i: None}
        ahead = [i]
        while ahead:
            at = candidates[ahead.pop()]
            near = together[at.together] if at.together is not None else ()
            for j in (*near, *(() if at.needs is None else (at.needs,))):
                if j not in found:
                    found[j] = None
                    ahead.append(j)
        closures.append(tuple(found))
        if candidate.together is not None:
            known[candidate.together] = closures[-1]
    return closures
