"""Costs: sums, what is unknown, and limits."""

import datetime
import functools
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.errors import ConfigurationError
from leanrag.ledger import Limits, Prices, Spent, add_costs
from leanrag.remote import RemoteUsage
from leanrag.types import Usage

DAY = datetime.date(2026, 1, 1)
COUNTS = st.integers(0, 10**9)
COSTS = st.none() | st.floats(0, 1e9)
PLAIN = st.builds(Usage, COUNTS, COUNTS, COUNTS)
REMOTE = st.builds(RemoteUsage, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans(), st.sampled_from([None, "fewer", "more"]))
USAGES = st.lists(PLAIN | REMOTE, max_size=6)
SPENT = st.builds(Spent, st.floats(0, 1e6), COUNTS, COSTS, st.none() | st.floats(0, 1e9))


def total(usages):
    return functools.reduce(operator.add, usages, Usage(0, 0))


# Usage


@given(USAGES, st.randoms())
def test_usages_add_up_in_any_order(usages, random):
    shuffled = random.sample(usages, len(usages))
    assert total(usages) == total(shuffled)
    for field in ("prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens"):
        assert getattr(total(usages), field) == sum(getattr(usage, field) for usage in usages)


@given(USAGES)
def test_a_sum_keeps_what_a_server_said(usages):
    remote = [usage for usage in usages if isinstance(usage, RemoteUsage)]
    found = total(usages)
    assert isinstance(found, RemoteUsage) is bool(remote)
    if remote:
        assert found.is_billed is all(usage.is_billed for usage in remote)
        mismatches = {usage.prompt_mismatch for usage in remote}
        assert found.prompt_mismatch == next((kind for kind in ("fewer", "more") if kind in mismatches), None)


def test_a_local_usage_counts_as_exact():
    remote = RemoteUsage(10, 2, 1, counted_prompt_tokens=9)
    assert remote + Usage(5, 3) == Usage(5, 3) + remote == RemoteUsage(15, 5, 1, counted_prompt_tokens=14)


@pytest.mark.parametrize("usage", [Usage(1, 2), RemoteUsage(1, 2)])
def test_a_usage_adds_to_usages_only(usage):
    with pytest.raises(TypeError):
        usage + 1


# Costs


@given(st.lists(COSTS), st.randoms())
def test_a_sum_with_an_unknown_cost_is_unknown(costs, random):
    found = add_costs(costs)
    assert (found is None) is (None in costs)
    assert found == add_costs(random.sample(costs, len(costs)))
    if found is not None:
        assert found == pytest.approx(sum(costs))


def test_nothing_costs_zero():
    assert add_costs([]) == 0.0
    assert add_costs([0.0, 0.0]) == 0.0


def test_prices_of_tokens():
    usage = Usage(1_000_000, 500_000, 250_000)
    assert Prices(2.0, 8.0, DAY, 0.5).cost(usage) == pytest.approx(0.75 * 2 + 0.25 * 0.5 + 4)
    assert Prices(2.0, 8.0).cost(usage) == Prices(2.0, 8.0).cost(usage, seconds=1e6) == pytest.approx(6)
    assert Prices().cost(usage) == 0.0


def test_prices_of_electricity():
    electricity = Prices(watts=100, per_kwh=0.36)
    assert electricity.cost(Usage(7, 7), seconds=3600) == pytest.approx(0.036)
    assert electricity.cost(Usage(7, 7)) is None
    both = Prices(1.0, 1.0, watts=100, per_kwh=0.36)
    assert both.cost(Usage(500_000, 500_000), seconds=3600) == pytest.approx(1.036)


@pytest.mark.parametrize("name", ["input_per_million", "output_per_million", "cached_input_per_million"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "1"])
def test_a_price_is_at_least_zero_and_finite(name, value):
    with pytest.raises(ConfigurationError, match=f"`{name}` must be at least 0"):
        Prices(**{name: value})


@pytest.mark.parametrize("half", [{"watts": 15}, {"per_kwh": 0.3}])
def test_electricity_needs_power_and_price(half):
    with pytest.raises(ConfigurationError, match="both `watts` and `per_kwh`"):
        Prices(**half)


@pytest.mark.parametrize(("second", "is_refused"), [("EUR", True), ("USD", False), ("", False)])
def test_a_cascade_refuses_prices_in_two_currencies(second, is_refused):
    prices = [Prices(1.0, 2.0, currency="USD"), None, Prices(1.0, 2.0, currency=second)]
    if is_refused:
        with pytest.raises(ConfigurationError, match="one currency, got 'EUR', 'USD'"):
            leanrag.Cascade(["a", "b", "c"], prices=prices)
    else:
        assert leanrag.Cascade(["a", "b", "c"], prices=prices).prices == prices


# What was spent


@given(st.lists(SPENT, max_size=6), st.randoms())
def test_what_was_spent_adds_up_in_any_order(parts, random):
    found = Spent.total(parts)
    assert found == Spent.total(random.sample(parts, len(parts)))
    assert found.tokens == sum(part.tokens for part in parts)
    assert found.seconds == pytest.approx(sum(part.seconds for part in parts))
    assert (found.cost is None) is any(part.cost is None for part in parts)
    assert (found.joules is None) is any(part.joules is None for part in parts)
    assert found.least_cost == pytest.approx(sum(part.cost or 0.0 for part in parts))


@given(st.lists(SPENT, max_size=4), st.lists(SPENT, max_size=4))
def test_a_total_of_totals_is_the_total(first, second):
    found, nested = Spent.total([*first, *second]), Spent.total([Spent.total(first), Spent.total(second)])
    assert (found.tokens, found.cost is None) == (nested.tokens, nested.cost is None)
    assert found.least_cost == pytest.approx(nested.least_cost)


# Limits


def test_which_limit_is_reached():
    limits = Limits(seconds=1, tokens=100, cost=2, joules=5, watts=1)
    assert limits.reached(Spent(0.5, 99, 1.99, 4.9)) is None
    assert limits.reached(Spent(1.0, 99, 0, 0)) == "seconds"
    assert limits.reached(Spent(0, 100, 0, 0)) == "tokens"
    assert limits.reached(Spent(0, 0, 2, 0)) == "cost"
    assert limits.reached(Spent(0, 0, 0, 5)) == "joules"
    assert limits.reached(Spent(0, 0, None, None)) is None
    assert Limits().reached(Spent(1e9, 10**9, 1e9, 1e9)) is None


def test_a_limit_of_money_does_not_matter_for_a_model_without_prices():
    limits = Limits(cost=2, joules=5, watts=1)
    assert limits.reached(Spent(cost=3.0), is_free=True) is None
    assert limits.reached(Spent(cost=3.0, joules=5), is_free=True) == "joules"


def test_an_unknown_cost_does_not_hide_the_known_ones():
    spent = Spent.total([Spent(cost=3.0), Spent(cost=None)])
    assert (spent.cost, spent.least_cost) == (None, 3.0)
    assert Limits(cost=3).reached(spent) == "cost"
    assert Limits(cost=3.1).reached(spent) is None


@pytest.mark.parametrize("name", ["seconds", "tokens", "cost", "joules", "watts"])
def test_a_limit_is_at_least_zero_and_finite(name):
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match=f"`{name}` must be at least 0"):
            Limits(**{"watts": 1, name: value})


def test_the_names_at_the_top():
    assert (leanrag.Prices, leanrag.Limits) == (Prices, Limits)
