"""The measures of `benchmarks/routing` against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("benchmarks")  # a source archive has the tests and not the benchmarks

from benchmarks.routing import __main__ as routing
from benchmarks.routing.__main__ import ANSWER_CHECKS, Run


def run(scores, weak, strong):
    return Run(np.array(scores, np.float64), np.array(weak, np.float64), np.array(strong, np.float64))


def check(answer, name, question="Tom has 3 bags of 4 and 10% off."):
    return routing.answer_checks(question, answer)[ANSWER_CHECKS.index(name)]


def test_a_curve_goes_from_nothing_sent_to_everything():
    ten = run(range(10), [0] * 10, [1] * 10)
    shares, accuracies = routing.curve(ten)
    # Edges at 0, 0.9, 1.8, ..., 9: nine questions reach 0.9, eight 1.8, ...; the last edge is not reached.
    assert shares == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
    assert accuracies == pytest.approx(shares)
    assert routing.apgr(shares, accuracies, ten) == pytest.approx(0.5)
    assert routing.cpt(shares, accuracies, ten, 0.8) == pytest.approx(80)


def test_the_area_of_a_router_that_knows():
    # The larger model is right on all, the smaller on the first five: sending the last five recovers everything.
    known = run(range(10), [1] * 5 + [0] * 5, [1] * 10)
    points = routing.curve(known)
    # Accuracy rises from 0.5 to 1 by half of the calls, and stays: (0.5 / 2 + 0.5) of the gap.
    assert routing.apgr(*points, known) == pytest.approx(0.75)
    assert routing.cpt(*points, known, 0.5) == pytest.approx(25)
    against = run(range(10)[::-1], [1] * 5 + [0] * 5, [1] * 10)
    assert routing.apgr(*routing.curve(against), against) == pytest.approx(0.25)


def test_the_oracle_sends_only_what_helps():
    mixed = run(
        range(10), [1] * 6 + [0] * 4, [0] + [1] * 7 + [0] * 2
    )  # weak 0.6, strong 0.7, two only strong, one only weak
    shares, accuracies = routing.oracle_curve(mixed)
    assert accuracies == pytest.approx([0.6, 0.7] + [0.8] * 9)
    assert routing.apgr(shares, accuracies, mixed) == pytest.approx((0.05 * 0.1 + 0.15 * 0.1 + 0.2 * 0.8) / 0.1)


@given(st.integers(0, 1000))
def test_only_the_order_of_scores_counts(seed):
    random = np.random.default_rng(seed)
    one = run(random.permutation(41), random.random(41) < 0.4, random.random(41) < 0.8)
    other = Run(one.scores * 3 - 7, one.weak, one.strong)
    assert routing.curve(one)[0] == pytest.approx(routing.curve(other)[0])
    assert routing.curve(one)[1] == pytest.approx(routing.curve(other)[1])


def test_scores_that_are_all_the_same_send_nothing():
    shares, accuracies = routing.curve(run([1, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1]))
    assert (shares.tolist(), accuracies.tolist()) == ([0.0], [0.5])


def test_folds_hold_every_row_once_and_each_gap_evenly():
    gaps = np.array([-1.0] * 10 + [0.0] * 60 + [1.0] * 31)
    folds = routing.folds_of(gaps, 3)
    assert sorted(np.concatenate(folds)) == list(range(101))
    assert {int(np.sum(gaps[fold] == 0)) for fold in folds} == {12}
    assert {int(np.sum(gaps[fold] == -1)) for fold in folds} == {2}
    assert {int(np.sum(gaps[fold] == 1)) for fold in folds} <= {6, 7}
    assert any((a != b).any() for a, b in zip(folds[1:], routing.folds_of(gaps, 4)[1:], strict=True))


@pytest.mark.parametrize(
    ("left", "right", "holds"),
    [
        ("3*4", "12", True),
        ("3 x 4 ", " $12", True),
        ("$1,000 + 50", "1,050", True),
        ("10% * 50", "5", True),
        ("10/3", "3.33", True),
        ("3*4", "13", False),
        ("2-(-3)", "5", True),
        ("12", "12", None),
        ("1/0", "1", None),
        ("9**9**9", "1", None),
        ("__import__('os')", "1", None),
        ("3*4", "many", None),
    ],
)
def test_equations_are_recomputed(left, right, holds):
    assert routing._holds(left, right) is holds


def test_checks_of_a_whole_answer():
    answer = "Tom has 3 * 4 = <<3*4=12>>12 pieces.\n#### 12"
    found = dict(zip(ANSWER_CHECKS, routing.answer_checks("Tom has 3 bags of 4 and 10% off.", answer), strict=True))
    assert found["equations"] == pytest.approx(np.log1p(2))  # as annotation and as text
    assert (found["no_final"], found["any_wrong"], found["unfinished"], found["repetition"]) == (0, 0, 0, 0)
    assert (found["final_is_whole"], found["final_is_negative"], found["final_is_last"]) == (1, 0, 1)
    assert found["numbers_used"] == pytest.approx(2 / 3)
    assert found["final_in_question"] == 0


def test_checks_of_poor_answers():
    assert check("3 * 4 = <<3*4=13>>13 \n#### 13", "wrong_equations") == pytest.approx(np.log1p(2))
    assert check("So that 3 * 4 = <<3*", "no_final") == check("So that 3 * 4 = <<3*", "unfinished") == 1
    assert check("It is 12.", "unfinished") == 0
    assert check("a b c d " * 5, "repetition") > 0.7
    assert check("#### -2.5", "final_is_negative") == 1
    assert check("#### -2.5", "final_is_whole") == check("#### " + "9" * 400, "final_is_whole") == 0
    assert check("It is 7.\n#### 4", "final_is_last") == 0
    assert check("It is 7.\n#### 4", "final_in_question") == 1


@given(st.text(max_size=200), st.text(max_size=200))
def test_checks_of_any_text_are_finite(question, answer):
    assert np.isfinite(routing.answer_checks(question, answer)).all()
    assert np.isfinite(routing.answer_checks(question, f"{answer} <<{question}={answer}>> #### {question}")).all()
