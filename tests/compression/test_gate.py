import dataclasses
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.compression.gate import CostGate, Rates, decide
from leanrag.errors import ConfigurationError
from leanrag.types import Compression, Generation, Usage

TOKENS = st.integers(0, 100_000)
RATES = st.builds(Rates, st.none() | st.floats(1, 1e5), st.none() | st.floats(0, 100))
PRICES = st.none() | st.floats(0, 1e-3)


def generation(model="m", *, prompt=100, cached=0, seconds=0.5):
    return Generation("x", model, "stop", Usage(prompt, 1, cached), prefill_seconds=seconds)


def compression(method="c", *, before=1000, after=500, seconds=0.1):
    return Compression("", (), (), (), before, after, method, seconds)


@pytest.mark.parametrize(
    ("rates", "arguments", "expected"),
    [
        (Rates(200, 0.02), {}, (True, "faster", 7.5, 0.04, None)),
        (Rates(200, 4.0), {}, (False, "slower", 7.5, 8.0, None)),
        (Rates(200, 3.75), {}, (False, "slower", 7.5, 7.5, None)),  # as long is not less
        (Rates(200, None), {}, (True, "unknown", 7.5, None, None)),
        (Rates(None, 4.0), {}, (True, "unknown", None, 8.0, None)),
        (Rates(200, 4.0), {"limit": 1999}, (True, "too long", 7.5, 8.0, None)),
        (Rates(200, 4.0), {"limit": 2000}, (False, "slower", 7.5, 8.0, None)),
        (Rates(200, 0.02), {"tokens_after": 2000}, (False, "fits", 0.0, 0.04, None)),
        (Rates(200, 0.02), {"tokens_after": 3000}, (False, "fits", 0.0, 0.04, None)),
        (Rates(None, 4.0), {"price_per_token": 0.001}, (True, "cheaper", None, 8.0, 1.5)),
        (Rates(None, 4.0), {"price_per_token": 0.0}, (False, "dearer", None, 8.0, 0.0)),
        (Rates(None, 4.0), {"price_per_token": 0.001, "price_per_second": 0.1}, (True, "cheaper", None, 8.0, 1.5)),
        (Rates(None, 4.0), {"price_per_token": 0.001, "price_per_second": 0.2}, (False, "dearer", None, 8.0, 1.5)),
        (Rates(200, 4.0), {"price_per_token": 0.001, "price_per_second": 0.2}, (True, "cheaper", 7.5, 8.0, 1.5)),
        (Rates(None, None), {"price_per_token": 0.001, "price_per_second": 0.2}, (True, "unknown", None, None, 1.5)),
        (Rates(None, None), {"price_per_token": 0.001}, (True, "cheaper", None, None, 1.5)),
    ],
)
def test_decisions(rates, arguments, expected):
    decision = decide(rates, **({"tokens_before": 2000, "tokens_after": 500} | arguments))
    assert decision.compress is expected[0]
    found = (decision.reason, decision.saved_seconds, decision.cost_seconds, decision.saved_price)
    assert found == pytest.approx(expected[1:])
    assert decision.saved_tokens == max(0, 2000 - arguments.get("tokens_after", 500))


@given(RATES, TOKENS, TOKENS, st.none() | TOKENS, PRICES, PRICES)
def test_the_same_numbers_decide_the_same_and_a_trace_can_hold_it(rates, before, after, limit, price, second):
    arguments = {"tokens_before": before, "tokens_after": after, "limit": limit}
    prices = {"price_per_token": price, "price_per_second": second}
    decision = decide(rates, **arguments, **prices)
    assert decision == decide(rates, **arguments, **prices)
    assert all(value is None or isinstance(value, (str, int, float)) for value in dataclasses.asdict(decision).values())
    assert decision.compress == (decision.reason in {"too long", "unknown", "faster", "cheaper"})
    assert (decision.saved_seconds is None) == (rates.prefill_tokens_per_second is None)
    assert (decision.cost_seconds is None) == (rates.compression_seconds is None)
    assert (decision.saved_price is None) == (price is None)


@given(RATES, TOKENS, TOKENS, TOKENS, PRICES, PRICES)
def test_saving_more_never_speaks_against(rates, before, after, more, price, second):
    prices = {"price_per_token": price, "price_per_second": second}
    decision = decide(rates, tokens_before=before, tokens_after=after, **prices)
    smaller = decide(rates, tokens_before=before, tokens_after=max(0, after - more), **prices)
    assert smaller.compress >= decision.compress


@given(st.floats(1, 1e5), st.floats(0, 100), st.floats(1, 10), TOKENS, TOKENS)
def test_a_slower_model_or_a_faster_compressor_never_speaks_against(prefill, seconds, factor, before, after):
    decision = decide(Rates(prefill, seconds), tokens_before=before, tokens_after=after)
    slower = decide(Rates(prefill / factor, seconds), tokens_before=before, tokens_after=after)
    faster = decide(Rates(prefill, seconds / factor), tokens_before=before, tokens_after=after)
    assert slower.compress >= decision.compress
    assert faster.compress >= decision.compress


@given(st.lists(st.tuples(st.integers(16, 5000), st.floats(0.001, 60)), min_size=1, max_size=20), st.integers(1, 9))
def test_rates_are_medians_of_the_last(runs, window):
    gate = CostGate(window=window)
    for tokens, seconds in runs:
        gate.observe(generation(prompt=tokens + 7, cached=7, seconds=seconds))
        gate.observe(compression(before=tokens, after=tokens - 1, seconds=seconds))
    last = runs[-window:]
    rates = gate.rates("m", "c")
    assert rates.prefill_tokens_per_second == pytest.approx(statistics.median(n / s for n, s in last))
    assert rates.compression_seconds == pytest.approx(statistics.median(s / n * 1000 for n, s in last))


@pytest.mark.parametrize(
    "seen",
    [
        generation(seconds=None),
        generation(seconds=0.0),
        generation(prompt=15),
        generation(prompt=1000, cached=990),
        compression(before=15, after=5),
        compression(before=500, after=500),
    ],
)
def test_what_tells_no_rate_is_passed_over(seen):
    gate = CostGate()
    gate.observe(seen)
    assert gate.rates("m", "c") == Rates(None, None)


def test_models_and_methods_are_told_apart_and_the_next_gate_knows_them():
    gate = CostGate(prefill={"m": 1.0, "old": 50.0})
    gate.observe(generation("m", prompt=300, cached=100, seconds=0.5))
    gate.observe(generation("n", prompt=100, seconds=0.1))
    gate.observe(compression("c", before=2000, after=1000, seconds=0.5))
    assert gate.prefill == pytest.approx({"m": 400.0, "old": 50.0, "n": 1000.0})
    assert gate.compression == pytest.approx({"c": 0.25})
    following = CostGate(prefill=gate.prefill, compression=gate.compression)
    assert following.rates("n", "c") == gate.rates("n", "c") == Rates(1000.0, 0.25)
    assert following.rates("x", "y") == Rates(None, None)


def test_a_gate_decides_with_what_it_saw():
    gate = CostGate()
    question = {"tokens_before": 2000, "tokens_after": 1000}
    assert gate.decide("m", "c", **question).reason == "unknown"
    gate.observe(generation(prompt=500, seconds=1.0))  # saves 2 s
    gate.observe(compression(before=1000, after=400, seconds=1.5))  # takes 3 s
    decision = gate.decide("m", "c", **question)
    assert (decision.compress, decision.reason, decision.saved_seconds, decision.cost_seconds) == (
        False,
        "slower",
        2.0,
        3.0,
    )
    assert gate.decide("m", "c", **question, limit=1500).compress
    assert gate.decide("m", "c", **question, price_per_token=1e-6).reason == "cheaper"
    assert gate.decide("m", "c", **question, price_per_token=1e-6, price_per_second=0.1).reason == "dearer"


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"tokens_before": -1}, "tokens_before"),
        ({"tokens_after": -1}, "tokens_after"),
        ({"limit": -1}, "limit"),
        ({"price_per_token": -0.1}, "price_per_token"),
        ({"price_per_token": math.nan}, "price_per_token"),
        ({"price_per_second": math.inf}, "price_per_second"),
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments, name):
    with pytest.raises(ConfigurationError, match=f"`{name}` must be at least 0"):
        decide(Rates(), **({"tokens_before": 10, "tokens_after": 5} | arguments))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"prefill": {"m": 0.0}}, "prefill_tokens_per_second"),
        ({"prefill": {"m": math.nan}}, "prefill_tokens_per_second"),
        ({"compression": {"c": -1.0}}, "compression_seconds"),
        ({"window": 0}, "window"),
    ],
)
def test_a_gate_refuses_rates_that_cannot_be(arguments, name):
    with pytest.raises(ConfigurationError, match=f"`{name}` must be"):
        CostGate(**arguments)
