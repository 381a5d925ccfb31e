"""The simulation against formulas of queueing theory, and what has to hold for every run."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.planning import Autoscaler, Scaling, Spot, poisson_arrivals, simulate
from leanrag.planning.demand import Demand
from tests.examples import max_examples


def exponential_questions(rate, mean, seconds, seed=0):
    arrivals = poisson_arrivals([(seconds, rate)], seed=seed)
    return arrivals, np.random.default_rng(seed + 1).exponential(mean, len(arrivals))


def fixed(count, **delays):
    return Scaling(count, count, **delays)


def erlang_c(servers, load):
    """Return the probability that a question waits in M/M/c (Erlang, 1917)."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_replica_is_m_m_1(load):
    arrivals, work = exponential_questions(load, 1.0, 60_000)
    run = simulate(arrivals, work, scaling=fixed(1, interval_seconds=100))
    assert run.seconds.mean() == pytest.approx(1 / (1 - load), rel=0.06)
    # the time in the system is exponential
    assert run.percentile(0.95) == pytest.approx(-math.log(0.05) / (1 - load), rel=0.1)


@pytest.mark.parametrize(("servers", "load"), [(2, 1.5), (5, 4.0), (20, 17.0)])
@pytest.mark.slow
def test_several_replicas_are_m_m_c(servers, load):
    arrivals, work = exponential_questions(load, 1.0, 60_000 / load)
    run = simulate(arrivals, work, scaling=fixed(servers, interval_seconds=100))
    waits = run.seconds - work
    chance = erlang_c(servers, load)
    assert waits.mean() == pytest.approx(chance / (servers - load), rel=0.1)
    assert (waits > 1e-9).mean() == pytest.approx(chance, rel=0.05)


def test_slots_that_do_not_slow_down_are_replicas():
    arrivals, work = exponential_questions(4.0, 1.0, 2000)
    one = simulate(arrivals, work, scaling=fixed(1), speeds=[1.0] * 5)
    five = simulate(arrivals, work, scaling=fixed(5))
    assert one.seconds == pytest.approx(five.seconds)


def test_a_shared_replica_is_processor_sharing():
    """M/M/1 with processor sharing has the mean of M/M/1 (Kleinrock, 1967), and so has one with any spread of the work."""
    arrivals = poisson_arrivals([(40_000, 0.7)], seed=3)
    work = np.where(np.random.default_rng(4).random(len(arrivals)) < 0.9, 0.5, 5.5)
    run = simulate(arrivals, work, scaling=fixed(1, interval_seconds=100), speeds=[1 / n for n in range(1, 201)])
    assert run.seconds.mean() == pytest.approx(1 / (1 - 0.7), rel=0.08)


def test_a_batch_by_hand():
    """Two questions at once advance at 0.75 each: the first has 4 s done at 6 s, the second then 1.5 s less to do alone."""
    run = simulate([0.0, 2.0], [5.0, 4.0], scaling=fixed(1), speeds=[1.0, 0.75])
    assert run.seconds.tolist() == [6.0, 5.0]


@pytest.mark.parametrize("peak", [1.0, 4.0])
def test_littles_law(peak):
    demand = Demand(1, 5.0, 9.0, peak=peak)
    arrivals = poisson_arrivals(demand.profile(), seed=1)
    work = np.random.default_rng(2).gamma(2, 0.4, len(arrivals))
    run = simulate(arrivals, work, scaling=Scaling(4, 30, interval_seconds=1, start_seconds=20), speeds=[1.0, 0.8])
    assert run.questions.mean() == pytest.approx(run.seconds.sum() / run.end, rel=0.03)


QUESTIONS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 20)), max_size=60)


@max_examples(150)
@given(
    questions=QUESTIONS,
    least=st.integers(0, 3),
    more=st.integers(0, 4),
    speeds=st.sampled_from([[1.0], [1.0, 0.7], [1.0, 1.0, 0.4]]),
    spot=st.none() | st.builds(Spot, st.sampled_from([1.0, 100.0, 2000.0]), st.sampled_from([0.0, 5.0])),
    max_waiting=st.none() | st.integers(0, 5),
    start_seconds=st.sampled_from([0.0, 3.0, 200.0]),
    seed=st.integers(0, 99),
)
def test_no_question_is_lost_and_the_seed_repeats(
    questions, least, more, speeds, spot, max_waiting, start_seconds, seed
):
    arrivals = sorted(time for time, _ in questions)
    work = [seconds for _, seconds in questions]
    scaling = Scaling(least, max(least + more, 1), start_seconds=start_seconds, interval_seconds=2, down_seconds=4)
    runs = [
        simulate(arrivals, work, scaling=scaling, speeds=speeds, spot=spot, max_waiting=max_waiting, seed=seed)
        for _ in range(2)
    ]
    run = runs[0]
    assert run.answered + run.waiting + run.refused == len(questions)
    answered = np.isfinite(run.seconds)
    assert (run.seconds[answered] >= np.array(work)[answered] / max(speeds) - 1e-6).all()
    assert run.seconds.tobytes() == runs[1].seconds.tobytes()
    assert run.replica_seconds == runs[1].replica_seconds
    assert max_waiting is not None or not run.refused
    assert spot is not None or not (run.interruptions or run.repeated or run.waiting)
    if spot is None:  # replicas that were taken away may still answer their last questions beside the new ones
        assert run.ready.max(initial=0) <= scaling.most


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_more_replicas_never_make_answers_later(seed):
    arrivals, work = exponential_questions(8.0, 1.0, 1500, seed)
    p95 = [simulate(arrivals, work, scaling=fixed(count)).percentile(0.95) for count in range(8, 16)]
    assert all(more <= fewer * 1.02 for fewer, more in itertools.pairwise(p95))


def test_a_full_queue_refuses():
    run = simulate([0.0, 0.1, 0.2, 0.3], [1.0] * 4, scaling=fixed(1), max_waiting=1)
    assert run.refused == 2
    assert run.seconds[:2].tolist() == [1.0, pytest.approx(1.9)]
    assert np.isnan(run.seconds[2:]).all()


def test_scale_to_zero_and_a_cold_start():
    scaling = Scaling(0, 2, start_seconds=30, interval_seconds=10, down_seconds=60)
    run = simulate([100.0, 1000.0], [2.0, 2.0], scaling=scaling)
    assert run.seconds.tolist() == [32.0, 32.0]
    assert run.starts == 2
    # each replica starts for 30 s, works for 2 s, and stops a minute after the next look; the last look is not waited for
    assert run.replica_seconds < 2 * (30 + 2 + 60 + 20)
    assert run.ready[(run.times > 300) & (run.times < 900)].max() == 0


def test_scaling_up_and_down_follows_the_peak():
    arrivals = poisson_arrivals([(600, 1.0), (600, 20.0), (1200, 1.0)], seed=0)
    scaling = Scaling(2, 40, target=1.0, start_seconds=20, down_seconds=120)
    run = simulate(arrivals, np.ones(len(arrivals)), scaling=scaling)
    in_peak = (run.times > 800) & (run.times < 1200)
    assert run.ready[run.times < 600].mean() < 4
    assert run.ready[in_peak].mean() >= 20
    assert run.ready[run.times > 1700].max() <= 8


def test_interrupted_questions_begin_again():
    run = simulate(np.zeros(200), np.full(200, 10.0), scaling=fixed(5, start_seconds=5), spot=Spot(100, 0), seed=2)
    assert run.interruptions > 3
    assert 0 < run.repeated <= run.interruptions
    assert run.answered == 200
    assert run.most_replicas >= 5


def test_a_notice_lets_questions_finish():
    run = simulate(np.zeros(200), np.full(200, 10.0), scaling=fixed(5, start_seconds=5), spot=Spot(100, 30), seed=2)
    assert run.interruptions > 3
    assert run.repeated == 0


def test_questions_that_no_replica_can_finish_still_wait_at_the_end():
    run = simulate([0.0], [1e6], scaling=fixed(1), patience_seconds=50)
    assert (run.answered, run.waiting, run.end) == (0, 1, 50.0)
    assert run.percentile(0.95) == math.inf


def test_nobody_asks():
    run = simulate([], [], scaling=fixed(1))
    assert (run.answered, run.waiting, run.refused, run.mean_replicas) == (0, 0, 0, 0.0)
    assert math.isnan(run.percentile(0.95))


@pytest.mark.parametrize(
    ("arrivals", "work", "options"),
    [
        ([1.0, 0.5], [1.0, 1.0], {}),
        ([1.0], [1.0, 1.0], {}),
        ([math.nan], [1.0], {}),
        ([-1.0], [1.0], {}),
        ([0.0], [0.0], {}),
        ([0.0], [math.inf], {}),
        ([0.0], [1.0], {"speeds": []}),
        ([0.0], [1.0], {"speeds": [1.0, 0.0]}),
        ([0.0], [1.0], {"max_waiting": -1}),
        ([0.0], [1.0], {"patience_seconds": math.nan}),
    ],
)
def test_arguments_that_cannot_work(arrivals, work, options):
    with pytest.raises(ConfigurationError):
        simulate(arrivals, work, scaling=fixed(1), **options)


@pytest.mark.parametrize(
    "fields",
    [
        {"least": -1},
        {"most": 0},
        {"least": 3, "most": 2},
        {"target": 0},
        {"interval_seconds": 0},
        {"start_seconds": -1},
    ],
)
def test_scaling_that_cannot_work(fields):
    with pytest.raises(ConfigurationError):
        Scaling(**fields)


@pytest.mark.parametrize("fields", [(0,), (math.inf,), (1.0, -1.0)])
def test_interruptions_that_cannot_be(fields):
    with pytest.raises(ConfigurationError):
        Spot(*fields)


def test_the_autoscaler_waits_before_it_changes_anything():
    scaler = Autoscaler(Scaling(1, 9, target=2, up_seconds=20, down_seconds=60))
    looks = [
        (0, 10, 1),
        (10, 12, 1),
        (20, 8, 1),
        (30, 8, 4),
        (40, 1, 4),
        (80, 9, 5),
        (90, 1, 5),
        (140, 1, 5),
        (150, 1, 5),
    ]
    assert [scaler.decide(*look) for look in looks] == [1, 1, 4, 4, 4, 5, 5, 5, 1]


def test_the_autoscaler_averages():
    scaler = Autoscaler(Scaling(1, 9, target=1, window_seconds=20, down_seconds=0))
    assert [scaler.decide(now, questions, 1) for now, questions in [(0, 9), (10, 0), (20, 0), (30, 6), (40, 0)]] == [
        9,
        5,
        3,
        2,
        2,
    ]


def test_the_autoscaler_replaces_what_is_missing_at_once():
    scaler = Autoscaler(Scaling(3, 9, up_seconds=100))
    assert scaler.decide(0.0, 0, 1) == 3


@pytest.mark.slow
def test_a_hundred_replicas_for_an_hour():
    arrivals, work = exponential_questions(100.0, 0.8, 3600)
    run = simulate(arrivals, work, scaling=fixed(100))
    assert run.answered == len(arrivals) > 350_000
    assert run.percentile(0.95) < 3
