from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.metrics import (
    answer_in_context,
    bootstrap_interval,
    contains_answer,
    exact_match,
    f1,
    mean,
    normalize_answer,
    recall_at_k,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat,  the\tdog", "cat dog"),
        ("A.B. an-other", "ab another"),  # punctuation goes first: "A.B." has no article, "an-other" is one word
        ("theatre", "theatre"),
        ("“quoted”", "“quoted”"),  # ASCII punctuation only, as in the official script
        ("the", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalize_answer(text) == expected


@given(st.text())
def test_normalisation_leaves_single_spaces(text):
    assert normalize_answer(text) == " ".join(normalize_answer(text).split())


def test_exact_match():
    assert exact_match("10th century.", ["the 10th century"])
    assert not exact_match("10th century", ["11th century", "10th"])
    assert not exact_match("anything", [])


def test_contains_answer_wants_whole_words():
    assert contains_answer("In the year 1066, it fell.", ["1067", "1066"])
    assert not contains_answer("In 10660", ["1066"])
    assert contains_answer("It is Duke William the Second.", ["duke william second"])
    assert not contains_answer("the anything", ["the", ""])


def test_f1_by_hand():
    # 2 shared words of 3 and 4: precision 2/3, recall 2/4, F1 = 2 * 2 / (3 + 4).
    assert f1("red green blue", ["green blue white black"]) == pytest.approx(4 / 7)
    assert f1("red red", ["red"]) == pytest.approx(2 / 3)  # a word counts as often as both have it
    assert f1("red", ["blue", "red"]) == 1.0
    assert f1("red", ["blue"]) == 0.0
    assert f1("the", [""]) == 1.0
    assert f1("", ["red"]) == 0.0
    assert f1("red", []) == 0.0


def test_recall_counts_distinct_entries():
    ranked = ["a", "a", "b", "c"]
    assert recall_at_k(ranked, "a", 1)
    assert not recall_at_k(ranked, "b", 1)
    assert recall_at_k(ranked, "b", 2)
    assert not recall_at_k(ranked, "c", 2)
    assert not recall_at_k([], "a", 5)
    with pytest.raises(ConfigurationError, match="`k` must be at least 1, got 0"):
        recall_at_k(ranked, "a", 0)


def test_answer_in_context():
    assert answer_in_context("one\n[2] Two: France.", ["Spain", "france"])
    assert not answer_in_context("one", ["two"])


def test_mean():
    assert mean([1, 2, 6]) == 3.0
    with pytest.raises(ConfigurationError, match="mean of an empty list"):
        mean([])


def test_bootstrap_interval_of_a_share():
    values = [1.0] * 80 + [0.0] * 20
    low, high = bootstrap_interval(values)
    # The normal approximation: 0.8 plus or minus 1.96 * sqrt(0.8 * 0.2 / 100) = 0.078.
    assert low == pytest.approx(0.722, abs=0.02)
    assert high == pytest.approx(0.878, abs=0.02)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    narrow = bootstrap_interval(values, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_keeps_rows_paired():
    rows = np.column_stack([np.arange(50.0), np.arange(50.0) + 1])
    low, high = bootstrap_interval(rows, statistic=lambda drawn: float((drawn[:, 1] - drawn[:, 0]).mean()))
    assert (low, high) == (1.0, 1.0)


def test_bootstrap_refuses_nonsense():
    with pytest.raises(ConfigurationError, match="interval of an empty list"):
        bootstrap_interval([])
    with pytest.raises(ConfigurationError, match="`level`"):
        bootstrap_interval([1.0], level=95)
