"""The benchmark of readers: scores, and the choice of a cascade."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.models.cascade import KEPT_SHARE, Outcome, Shares, choose_threshold, run_cascade
from benchmarks.models.prompts import PROMPTS
from benchmarks.models.questions import Score, score


def answer(text, *, abstained=False):
    return SimpleNamespace(text=text, abstained=abstained, generation=object())


@pytest.mark.parametrize(
    ("given_answer", "answers", "expected"),
    [
        (answer("Oslo [1]."), ["Oslo", "in Oslo"], Score(1.0, 1.0)),
        (answer("The city of Oslo"), ["Oslo"], Score(0.0, 0.5)),
        (answer("No answer.", abstained=True), ["Oslo"], Score(0.0, 0.0)),
        (answer("No answer.", abstained=True), [], Score(1.0, 1.0)),
        (answer("Oslo"), [], Score(0.0, 0.0)),
    ],
)
def test_an_answer_is_scored_as_in_squad(given_answer, answers, expected):
    assert score(given_answer, answers) == expected


SMALL = [Outcome("tuned", 1.0, 0.9, 1.0), Outcome("tuned", 0.0, 0.2, 1.0), Outcome("tuned", 1.0, 0.6, 1.0)]
LARGE = [dataclasses.replace(outcome, f1=1.0, cost=10.0) for outcome in SMALL]


def test_a_cascade_asks_the_large_reader_below_the_threshold():
    assert run_cascade(SMALL, LARGE, 0.5) == Shares(f1=1.0, cost=13 / 30, escalated=1 / 3)
    assert run_cascade(SMALL, LARGE, 0.0) == Shares(f1=2 / 3, cost=3 / 30, escalated=0.0)
    assert run_cascade(SMALL, LARGE, math.inf) == Shares(f1=1.0, cost=33 / 30, escalated=1.0)


def test_the_cheapest_threshold_that_keeps_enough_is_chosen():
    shares, threshold = choose_threshold(SMALL, LARGE)
    assert shares == Shares(f1=1.0, cost=13 / 30, escalated=1 / 3)
    assert threshold == 0.6


rows = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


@given(rows)
def test_a_chosen_cascade_keeps_enough_or_asks_always(rows):
    small = [Outcome("tuned", f1, confidence, 1.0) for f1, confidence, _ in rows]
    large = [Outcome("tuned", 0.1 + f1, 1.0, 5.0) for *_, f1 in rows]
    shares, threshold = choose_threshold(small, large)
    assert shares.f1 >= KEPT_SHARE
    assert run_cascade(small, large, threshold) == shares


def test_every_prompt_can_be_asked():
    for profile in PROMPTS.values():
        assert "Who?" in str(profile.template("phrase").build("Who?", []))
