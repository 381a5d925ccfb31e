"""Choosing under a budget: never over it, closed under needs, and as good as brute force where that can be told."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leanrag.errors import BudgetError
from leanrag.evidence.selection import Candidate, _Problem, fill, promising, select
from leanrag.types import Evidence
from tests.examples import max_examples

many = max_examples(60)


def closure(candidates, place):
    """A candidate and all that it needs."""
    found = []
    while place is not None and place not in found:
        found.append(place)
        place = candidates[place].needs
    return set(found)


def cost_of(candidates, chosen, openings=()):
    groups = {candidates[i].group for i in chosen}
    return sum(candidates[i].cost for i in chosen) + sum(openings[g] for g in groups if openings)


def value_of(candidates, chosen, repeats=None):
    """Each chosen one's value, less the share of it that the better chosen one that repeats most of it repeats."""
    total = 0.0
    for i in chosen:
        better = [
            j
            for j in chosen
            if j != i and (candidates[j].value, -j) > (candidates[i].value, -i) and repeats is not None
        ]
        total += candidates[i].value * (1 - max((float(repeats[i, j]) for j in better), default=0.0))
    return total


def allowed_subsets(candidates, budget, openings=()):
    """Every set within the budget that is closed under needs and holds the required ones."""
    must = {i for i, c in enumerate(candidates) if c.required}
    for size in range(len(candidates) + 1):
        for chosen in map(set, itertools.combinations(range(len(candidates)), size)):
            is_closed = all(candidates[i].needs is None or candidates[i].needs in chosen for i in chosen)
            if must <= chosen and is_closed and cost_of(candidates, chosen, openings) <= budget:
                yield chosen


@st.composite
def problems(draw, min_size=0, max_size=8, groups=3, needs=True, repeats=True, required=True):
    """Candidates, what their groups' openings cost, and what they repeat of each other."""
    n = draw(st.integers(min_size, max_size))
    candidates = [
        Candidate(
            value=draw(st.integers(0, 20)) / 4,
            cost=draw(st.integers(0, 12)),
            group=draw(st.integers(0, groups - 1)),
            needs=draw(st.none() | st.integers(0, n - 1)) if needs else None,
            required=required and draw(st.integers(0, 7)) == 0,
        )
        for _ in range(n)
    ]
    openings = draw(st.just([]) | st.lists(st.integers(0, 5), min_size=groups, max_size=groups)) if groups > 1 else []
    shares = None
    if repeats and draw(st.booleans()):
        upper = np.triu(
            np.array([[draw(st.sampled_from([0, 0, 0.25, 0.5, 1])) for _ in range(n)] for _ in range(n)]), 1
        )
        shares = (upper + upper.T).astype(np.float32).reshape(n, n)
    return candidates, openings, shares


@many
@given(
    problems(),
    st.integers(0, 50),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 1.0]),
)
def test_within_the_budget_closed_and_with_what_is_required(problem, budget, power, least):
    candidates, openings, repeats = problem
    options = {"openings": openings, "repeats": repeats, "power": power, "least": least}
    must = set().union(*(closure(candidates, i) for i, c in enumerate(candidates) if c.required))
    try:
        selection = select(candidates, budget, **options)
    except BudgetError as error:
        assert (error.needed, error.available) == (cost_of(candidates, must, openings), budget)
        assert error.needed > budget
        return
    chosen = set(selection.chosen)
    assert list(selection.chosen) == sorted(chosen)
    assert selection.cost == cost_of(candidates, chosen, openings) <= budget
    assert selection.value == pytest.approx(value_of(candidates, chosen, repeats))
    assert must <= chosen
    assert all(closure(candidates, i) <= chosen for i in chosen)
    assert select(candidates, budget, **options) == selection


@many
@given(problems(max_size=6), st.integers(0, 40))
def test_few_candidates_are_chosen_best_and_cheapest(problem, budget):
    candidates, openings, repeats = problem
    subsets = list(allowed_subsets(candidates, budget, openings))
    assume(subsets)
    selection = select(candidates, budget, openings=openings, repeats=repeats)
    best = max(value_of(candidates, chosen, repeats) for chosen in subsets)
    assert selection.value == pytest.approx(best)
    cheapest = min(
        cost_of(candidates, chosen, openings)
        for chosen in subsets
        if value_of(candidates, chosen, repeats) > best - 1e-9
    )
    assert selection.cost == cheapest


@many
@given(problems(max_size=6), st.integers(0, 40), st.integers(1, 20))
def test_more_budget_never_lowers_the_value_of_few(problem, budget, more):
    candidates, openings, repeats = problem
    assume(any(True for _ in allowed_subsets(candidates, budget, openings)))
    less = select(candidates, budget, openings=openings, repeats=repeats)
    assert select(candidates, budget + more, openings=openings, repeats=repeats).value >= less.value - 1e-9


@many
@given(problems(min_size=7, max_size=8, groups=1, needs=False, repeats=False, required=False), st.integers(0, 40))
def test_many_candidates_are_worth_at_least_half_of_the_best(problem, budget):
    candidates, _, _ = problem
    best = max(value_of(candidates, chosen) for chosen in allowed_subsets(candidates, budget))
    assert best / 2 <= select(candidates, budget).value <= best + 1e-9


@many
@given(problems(min_size=7), st.integers(0, 40))
def test_many_candidates_are_never_worth_more_than_the_best(problem, budget):
    candidates, openings, repeats = problem
    subsets = list(allowed_subsets(candidates, budget, openings))
    assume(subsets)
    best = max(value_of(candidates, chosen, repeats) for chosen in subsets)
    assert select(candidates, budget, openings=openings, repeats=repeats).value <= best + 1e-9


@many
@given(problems(repeats=False), st.integers(0, 40), st.data())
def test_repetitions_lower_the_worth_of_what_is_chosen(problem, budget, data):
    candidates, openings, _ = problem
    assume(any(True for _ in allowed_subsets(candidates, budget, openings)))
    n = len(candidates)
    repeats = np.full((n, n), data.draw(st.sampled_from([0.5, 1.0])), np.float32)
    selection = select(candidates, budget, openings=openings, repeats=repeats)
    assert selection.value <= value_of(candidates, selection.chosen) + 1e-9
    if sum(candidates[i].value > 0 for i in selection.chosen) > 1:
        assert selection.value < value_of(candidates, selection.chosen)


# By hand

FILLERS = [Candidate(0.0, 1)] * 7  # worth nothing: more than are looked at subset by subset


@pytest.mark.parametrize("others", [[], FILLERS], ids=["exact", "greedy"])
@pytest.mark.parametrize(
    ("candidates", "budget", "chosen", "value"),
    [
        ([Candidate(3, 5), Candidate(2, 2), Candidate(2, 3)], 5, (1, 2), 4),
        ([Candidate(1, 1), Candidate(9, 10)], 10, (1,), 9),  # best for its tokens first would leave no room for the other
        ([Candidate(5, 6), Candidate(4, 5), Candidate(4, 5)], 10, (1, 2), 8),  # an exchange
        ([Candidate(0, 3), Candidate(5, 3, needs=0), Candidate(4, 4)], 6, (0, 1), 5),
        ([Candidate(0, 3), Candidate(5, 3, needs=0), Candidate(4, 4)], 5, (2,), 4),
        ([Candidate(0, 1, needs=1), Candidate(0, 1, needs=2), Candidate(0, 1), Candidate(5, 1, needs=0)], 4, (0, 1, 2, 3), 5),
        ([Candidate(1, 2, needs=1), Candidate(1, 2, needs=0)], 4, (0, 1), 2),  # each needs the other
        ([Candidate(1, 2, needs=1), Candidate(1, 2, needs=0)], 3, (), 0),
        ([Candidate(1, 5, required=True), Candidate(9, 5)], 5, (0,), 1),
        ([Candidate(0, 2), Candidate(1, 2, needs=0, required=True), Candidate(9, 5)], 5, (0, 1), 1),
        ([Candidate(3, 0)], 0, (0,), 3),
        ([Candidate(3, 1)], 0, (), 0),
    ],
)  # fmt: skip
def test_by_hand(candidates, budget, chosen, value, others):
    selection = select([*candidates, *others], budget)
    assert (selection.chosen, selection.value) == (chosen, value)


def test_nothing_to_choose_from():
    assert select([], 5).chosen == ()


def test_the_first_of_a_group_opens_it():
    candidates = [Candidate(3, 4, group=0), Candidate(2, 4, group=0), Candidate(2.5, 4, group=1)]
    assert select(candidates, 10, openings=[2, 2]).chosen == (0, 1)
    assert select(candidates, 12, openings=[2, 2]).chosen == (0, 2)
    selection = select([*candidates, *FILLERS], 10, openings=[2, 2])
    assert (selection.chosen, selection.cost) == ((0, 1), 10)


@pytest.mark.parametrize("others", [[], FILLERS], ids=["exact", "greedy"])
def test_a_repetition_makes_room_for_what_is_new(others):
    candidates = [Candidate(5, 5), Candidate(4, 5), Candidate(2, 5), *others]
    repeats = np.zeros((len(candidates),) * 2, np.float32)
    assert select(candidates, 10, repeats=repeats).chosen == (0, 1)
    repeats[0, 1] = repeats[1, 0] = 0.75
    selection = select(candidates, 10, repeats=repeats)
    assert (selection.chosen, selection.value) == ((0, 2), 7)


@pytest.mark.parametrize(("power", "chosen"), [(0, (0,)), (1, (1, 2))])
def test_power_weighs_worth_against_tokens(power, chosen):
    candidates = [Candidate(6, 9), Candidate(4, 4), Candidate(3, 4)]
    problem = _Problem(candidates, (), None)
    greedy = problem.greedy(problem.state(), 9, power, 0.0)  # exchanges make up for a bad start
    assert tuple(np.flatnonzero(greedy.chosen)) == chosen
    assert select(candidates, 9, power=power).chosen == (1, 2)


def test_least_leaves_room_unused():
    candidates = [Candidate(10, 2), Candidate(4, 2), Candidate(3, 2), Candidate(1, 1, required=True)]
    assert select(candidates, 10).chosen == (0, 1, 2, 3)
    assert select(candidates, 10, least=0.35).chosen == (0, 1, 3)
    assert select(candidates, 10, least=1).chosen == (0, 3)


def test_least_compares_with_the_most_valuable_not_with_the_first_taken():
    candidates = [Candidate(1, 1), Candidate(10, 20), Candidate(8, 20)]  # the first is worth most for its tokens
    assert select(candidates, 41).chosen == (0, 1, 2)
    assert select(candidates, 41, least=0.5).chosen == (1, 2)


def test_what_must_be_kept_and_does_not_fit():
    candidates = [Candidate(1, 4, group=1), Candidate(1, 3, needs=0, required=True)]
    with pytest.raises(BudgetError, match="takes 9 tokens, and the budget is 8") as caught:
        select(candidates, 8, openings=[1, 1])
    assert (caught.value.needed, caught.value.available) == (9, 8)
    assert select(candidates, 9, openings=[1, 1]).chosen == (0, 1)


# What is worth counting

evidence = st.lists(
    st.tuples(st.integers(0, 60), st.floats(0, 1), st.none() | st.integers(0, 30), st.integers(0, 9)), max_size=30
).map(
    lambda rows: [
        Evidence(0, 100 * i, 100 * i + length, value, None if needs is None or needs >= len(rows) else needs)
        for i, (length, value, needs, _) in enumerate(rows)
    ]
)


@many
@given(evidence, st.integers(0, 40), st.data())
def test_promising_units_are_the_best_and_what_they_need(units, budget, data):
    n = len(units)
    required = data.draw(st.lists(st.booleans(), min_size=n, max_size=n) | st.just([]))
    repeats = np.arange(n * n, dtype=np.float32).reshape(n, n)
    found = promising(units, budget, repeats=repeats, required=required)
    assert list(found.places) == sorted(set(found.places))
    assert {i for i, is_required in enumerate(required) if is_required} <= set(found.places)
    for at, (place, unit) in enumerate(zip(found.places, found.units, strict=True)):
        assert (unit.hit, unit.start, unit.end, unit.value) == (
            0,
            units[place].start,
            units[place].end,
            units[place].value,
        )
        needs = units[place].needs
        assert unit.needs == (None if needs is None else found.places.index(needs))
        assert found.repeats[at].tolist() == [place * n + other for other in found.places]
    left_out = [i for i in range(n) if i not in found.places and units[i].end - units[i].start <= 12 * budget]
    if left_out:
        best_left = max(units[i].value for i in left_out)
        better = [i for i in found.places if units[i].value >= best_left]
        assert sum(units[i].end - units[i].start for i in better) >= 16 * budget


def test_promising_when_all_of_it_is():
    units = [Evidence(0, 0, 10, 0.5), Evidence(0, 11, 20, 0.5, 0)]
    assert promising(units, 10).units == tuple(units)
    assert promising([], 10).units == ()
    assert promising(units, 0).units == ()
    assert promising(units, None).places == (0, 1)
    assert promising(units, 10).repeats is None


# Looking at the promising first, and at all where that leaves room

LONG_AND_SHORT = [*(Evidence(0, 100 * i, 100 * i + 12, 0.9) for i in range(20)), Evidence(1, 0, 12, 0.1)]


def fill_with(tokens, required=(), units=LONG_AND_SHORT, budget=8):
    """Fill with what takes `tokens`, one look after another; an error for None. Returns how many units each look saw."""
    looks, left = [], iter(tokens)

    def choose(looked_at):
        looks.append(len(looked_at.units))
        found = next(left)
        if found is None:
            raise BudgetError("too small", needed=9, available=8)
        return found

    return fill(units, budget, choose, lambda found: found, required=required), looks


@pytest.mark.parametrize(
    ("tokens", "looks"), [([6], [11]), ([5, 7], [11, 21]), ([5, 2], [11, 21]), ([None, 7], [11, 21])]
)
def test_all_units_are_looked_at_where_the_promising_leave_more_than_a_quarter(tokens, looks):
    assert fill_with(tokens) == (tokens[-1], looks)


def test_all_units_are_looked_at_once_where_all_promise():
    assert fill_with([1], units=LONG_AND_SHORT[:3]) == (1, [3])


def test_what_is_required_and_does_not_fit_is_not_looked_at_again():
    required = [False] * 20 + [True]
    with pytest.raises(BudgetError):
        fill_with([None, 7], required=required)
    assert fill_with([5, 7], required=required) == (7, [12, 21])


def test_nothing_fits_at_the_second_look():
    with pytest.raises(BudgetError):
        fill_with([5, None])
