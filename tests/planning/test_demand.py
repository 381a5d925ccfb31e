"""When questions arrive, and how people write numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.planning import Demand, poisson_arrivals, read_trace
from leanrag.planning.demand import parse_count, parse_rate, parse_seconds


def test_poisson_arrivals_follow_the_profile():
    times = poisson_arrivals([(1000, 5.0), (100, 50.0), (1000, 0.0)], seed=1)
    assert (np.diff(times) >= 0).all()
    assert np.histogram(times, [0, 1000, 1100, 2100])[0] == pytest.approx([5000, 5000, 0], rel=0.05)
    gaps = np.diff(times[times < 1000])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # exponential


def test_the_peak_is_in_the_middle_of_each_hour():
    demand = Demand(1, 0.3, 1.0, peak=5, peak_seconds=600)
    assert demand.profile() == [(1500, 0.3), (600, 1.5), (1500, 0.3)] * 2
    times = np.array([0, 1499, 1501, 2099, 2101, 3600 + 1800, 7199])
    assert demand.is_peak(times).tolist() == [False, False, True, True, False, True, False]


@pytest.mark.parametrize(("rate", "seconds"), [(0.001, 556 * 3600), (1.0, 3600), (100.0, 1000), (10_000.0, 600)])
def test_an_even_demand_is_simulated_as_long_as_needed(rate, seconds):
    assert Demand(1, rate, 1.0).profile() == [(seconds, rate)]


@pytest.mark.parametrize(
    "fields",
    [
        {"documents": 0},
        {"documents": -5},
        {"documents": 10**13},
        {"questions_per_second": 0},
        {"questions_per_second": math.inf},
        {"p95_seconds": 0},
        {"p95_seconds": math.nan},
        {"peak": 0.5},
        {"peak_seconds": 0},
        {"peak_seconds": 3000},
        {"chunks_per_document": 0},
    ],
)
def test_a_demand_that_cannot_be(fields):
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        Demand(**{"documents": 1, "questions_per_second": 1.0, "p95_seconds": 1.0, **fields})


def test_a_trace_begins_at_zero(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text("100\n100.5\n\n 103\n", encoding="utf-8")
    assert read_trace(path).tolist() == [0.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("1\nnan\n", "line 2 of the trace must be a number of seconds, got 'nan'"),
        ("1\nsoon\n", "line 2 of the trace must be a number"),
        ("2\n1\n", r"line 2 of the trace is 1.0, which is earlier than 2.0 before it; sort the lines"),
        ("1,2\n", "line 1"),
        (b"\xff\xfe\x00", "cannot read the trace"),
    ],
)
def test_a_trace_that_cannot_be_read(tmp_path, text, message):
    path = tmp_path / "trace.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=message):
        read_trace(path)


def test_a_trace_that_is_missing(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read the trace"):
        read_trace(tmp_path / "missing.txt")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500", 500),
        ("10M", 10**7),
        ("2.5k", 2500),
        ("1B", 10**9),
        ("1,000,000", 10**6),
        ("1_000", 1000),
        ("1e6", 10**6),
    ],
)
def test_counts(text, value):
    assert parse_count(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("100/s", 100), ("60/min", 1), ("3.6k/h", 1), ("86400/day", 1), ("7", 7), ("1 / s", 1)]
)
def test_rates(text, value):
    assert parse_rate(text) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "value"), [("2s", 2), ("500ms", 0.5), ("1min", 60), ("2h", 7200), ("3", 3), ("1.5 s", 1.5)]
)
def test_lengths_of_time(text, value):
    assert parse_seconds(text) == value


@pytest.mark.parametrize("parse", [parse_count, parse_rate, parse_seconds])
@pytest.mark.parametrize("text", ["", "many", "-1", "1,5", "nan", "inf", "10Q", "1/parsec", "1e999", "12,34", "1..2"])
def test_what_is_not_a_number(parse, text):
    with pytest.raises(ConfigurationError, match="must be written such as"):
        parse(text)


@given(st.integers(1, 10**12))
def test_a_count_is_read_as_python_writes_it(count):
    assert parse_count(str(count)) == parse_count(f"{count:,}") == parse_count(f"{count:_}") == count
