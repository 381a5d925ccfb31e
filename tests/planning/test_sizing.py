"""What it takes: the plan meets its target in another simulation, and says what cannot be met."""

import dataclasses
import math

import numpy as np
import pytest

from leanrag.errors import ConfigurationError, TargetError
from leanrag.planning import (
    Demand,
    Machine,
    MachinePrices,
    Rates,
    Scaling,
    Spot,
    plan,
    poisson_arrivals,
    simulate,
)
from leanrag.planning.machines import cheapest_packing
from leanrag.planning.sizing import _count_fleets

RATES = Rates(
    model="small",
    question_seconds=0.5,
    variation=0.4,
    speedup={1: 1, 4: 2.5, 8: 3.2},
    search_seconds_million=0.01,
    add_seconds_chunk=0.01,
    cores=2,
    weights_bytes=500_000_000,
    replica_bytes=1_000_000_000,
)
PRICES = MachinePrices(
    machines=[
        Machine(name="large", cores=64, memory_gib=256, hour=3.0, spot_hour=1.0),
        Machine(name="small", cores=8, memory_gib=32, hour=0.4),
        Machine(name="tiny", cores=2, memory_gib=4, hour=0.01),  # the index of ten million chunks does not fit
    ],
    disk_gib_month=0.1,
)


def simulate_again(result, demand, rates, seed, **delays):
    """Simulate a plan with other questions: `(p95, p95 in the peak, mean replicas)`."""
    arrivals = poisson_arrivals(demand.profile(), seed=seed)
    work = rates.draw_work(len(arrivals), demand.chunks, seed=seed)
    replicas = result.replicas
    run = simulate(
        arrivals,
        work,
        scaling=Scaling(replicas.least, replicas.most, target=replicas.target, **delays),
        speeds=[speedup / n for n, speedup in enumerate(rates.speedups()[: replicas.at_once], 1)],
        seed=seed,
    )
    return run.percentile(0.95), run.percentile(0.95, demand.is_peak(arrivals)), run.mean_replicas


@pytest.mark.slow
def test_a_hundred_replicas_over_ten_million_chunks_meet_their_target_in_the_peak():
    demand = Demand(10_000_000, 6.0, 10.0, peak=5)
    rates = RATES.model_copy(update={"question_seconds": 2.0})
    result = plan(demand, rates, prices=PRICES, replicas=100)
    assert result.meets_target
    assert result.replicas.most == 100
    assert result.simulated.peak_p95_seconds <= 10
    assert max(simulate_again(result, demand, rates, 7)[:2]) <= 10 * 1.03
    assert result.cost.machine == "large"
    # replicas.mean of the simulated hours, 32 on a machine; four disks
    disk = 4 * result.space.disk / 2**30 * 0.1
    mean = max(result.replicas.mean, result.replicas.least)
    assert result.cost.month == pytest.approx(mean / 32 * 3.0 * 730 + disk)
    assert result.cost.machines == 4
    assert result.cost.most_month == pytest.approx(4 * 3.0 * 730 + disk)
    text = str(result)
    assert "10,000,000, 14.3 GiB of vectors" in text
    assert f"{result.cost.month:,.0f} USD; {result.cost.most_month:,.0f} if all replicas always run" in text
    assert text.endswith("p95 of 10 s is met")


def test_the_fewest_replicas_are_found():
    demand = Demand(1000, 10.0, 2.0)
    result = plan(demand, RATES)
    assert result.meets_target
    fewer = plan(demand, RATES, replicas=result.replicas.most - 2)
    assert not fewer.meets_target
    assert fewer.simulated.p95_seconds > 2
    assert "NOT met" in str(fewer)


@pytest.mark.slow
def test_replicas_that_start_fast_do_not_run_outside_of_the_peak():
    demand = Demand(1000, 4.0, 4.0, peak=5)
    slow = plan(demand, RATES, scaling=Scaling(start_seconds=300))
    fast = plan(demand, RATES, scaling=Scaling(start_seconds=1, interval_seconds=1))
    assert slow.meets_target
    assert fast.meets_target
    assert fast.replicas.least < fast.replicas.most
    assert fast.replicas.mean < slow.replicas.mean
    assert simulate_again(fast, demand, RATES, 3, start_seconds=1, interval_seconds=1)[1] <= 4 * 1.1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_plan():
    demand = Demand(1000, 3.0, 3.0, peak=2)
    assert plan(demand, RATES, seed=5) == plan(demand, RATES, seed=5)
    assert plan(demand, RATES, seed=5).simulated != plan(demand, RATES, seed=6).simulated


def test_a_target_below_the_time_of_a_question_says_the_nearest():
    demand = Demand(1000, 3.0, 0.3)
    with pytest.raises(TargetError, match=r"`p95_seconds` of 0.3 cannot be met") as caught:
        plan(demand, RATES)
    error = caught.value
    assert error.target == 0.3
    assert f"Ask for {error.nearest:g} s or more" in str(error)
    assert error.nearest == pytest.approx(np.quantile(RATES.draw_work(100_000, 1000), 0.95), rel=0.05)
    assert plan(dataclasses.replace(demand, p95_seconds=error.nearest), RATES).meets_target


def test_a_replica_takes_as_many_at_once_as_the_target_allows():
    at_once = [plan(Demand(1000, 3.0, seconds), RATES).replicas.at_once for seconds in (1.0, 2.0, 20.0)]
    assert at_once == sorted(at_once)
    assert at_once[0] < at_once[-1] == 8


def test_the_search_of_more_chunks_takes_longer():
    few, many = (plan(Demand(count, 3.0, 9.0), RATES) for count in (1000, 100_000_000))
    assert few.question_seconds == pytest.approx(0.50001)
    assert many.question_seconds == pytest.approx(1.5)
    assert many.replicas.most > few.replicas.most


def test_space_is_that_of_the_chunks():
    space = plan(Demand(100_000, 1.0, 9.0, chunks_per_document=2.5), RATES).space
    assert space.chunks == 250_000
    assert space.vectors == 250_000 * 384 * 4
    assert space.index == 250_000 * (384 + 256 + 24 + 400)
    assert space.disk == space.index + 250_000 * 4000


def test_spot_machines_cost_less_and_questions_begin_again():
    demand = Demand(1000, 4.0, 4.0)
    spot = plan(demand, RATES, prices=PRICES, spot=Spot(20, 0.2))
    assert spot.meets_target
    assert spot.simulated.interruptions > 10
    assert spot.simulated.repeated > 0
    assert "began again" in str(spot)
    assert spot.cost.most_month / spot.cost.machines < 3.0 * 730


def test_a_trace_takes_the_role_of_rate_and_peak():
    arrivals = poisson_arrivals([(300, 1.0), (60, 20.0), (300, 1.0)], seed=1)
    result = plan(Demand(1000, 1.0, 3.0), RATES, arrivals=arrivals)
    assert result.simulated.questions == len(arrivals)
    assert result.meets_target
    even = plan(Demand(1000, 1.0, 3.0), RATES, arrivals=np.linspace(0, 660, len(arrivals)))
    assert even.replicas.most < result.replicas.most


def test_scale_to_zero():
    arrivals = [0.0, 5000.0, 10_000.0]
    result = plan(Demand(1000, 1.0, 90.0), RATES, arrivals=arrivals, replicas=1, least_replicas=0)
    assert result.meets_target
    assert result.replicas.mean < 0.2
    assert "0 to 1" in str(result)


def test_more_questions_than_a_simulation_holds():
    demand = Demand(1000, 20_000.0, 9.0, peak=1.5, peak_seconds=20)
    rates = Rates(question_seconds=0.05, variation=0.1)
    assert _count_fleets(demand, rates, 1.0) == math.ceil((72e6 + 200_000) / 700_000)
    slow = Rates(question_seconds=5.0)
    assert _count_fleets(Demand(1000, 100.0, 9.0), slow, 1.0) == 2
    result = plan(Demand(1000, 300.0, 20.0), slow, replicas=1701)
    assert result.meets_target
    assert result.simulated.questions < 100_000
    assert result.replicas.most == 1704  # equal fleets


def test_rare_questions_are_simulated_for_many_hours():
    result = plan(Demand(1000, 0.001, 9.0), RATES)
    assert result.simulated.questions > 1500
    assert result.replicas.most == 1


def test_without_prices_the_cost_is_unknown():
    result = plan(Demand(1000, 1.0, 9.0), RATES)
    assert result.cost is None
    assert "unknown; --prices FILE" in str(result)


def test_a_replica_that_fits_on_no_machine():
    with pytest.raises(ConfigurationError, match=r"needs 2 cores, 0 GPUs and 1,1[.\d]* GiB of memory"):
        plan(Demand(10**9, 1.0, 90.0), RATES.model_copy(update={"search_seconds_million": 0}), prices=PRICES)
    with pytest.raises(ConfigurationError, match="1 GPUs"):
        plan(Demand(1000, 1.0, 9.0), RATES.model_copy(update={"gpus": 1}), prices=PRICES)


def test_replicas_are_packed_by_cores_memory_and_gpus():
    def pack(machine, **needs):
        prices = MachinePrices(machines=[Machine(name="one", hour=1, **machine)])
        needs = {"cores": 1, "gpus": 0, "shared_bytes": 0, "replica_bytes": 2**30, **needs}
        return cheapest_packing(prices, **needs).replicas

    assert pack({"cores": 8, "memory_gib": 100}, cores=3) == 2
    assert pack({"cores": 64, "memory_gib": 10}, shared_bytes=4 * 2**30) == 5
    assert pack({"cores": 64, "memory_gib": 100, "gpus": 4}, gpus=2) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"replicas": 0},
        {"least_replicas": -1},
        {"replicas": 2, "least_replicas": 3},
        {"arrivals": []},
        {"arrivals": [2, 1]},
    ],
)
def test_arguments_that_cannot_work(options):
    with pytest.raises(ConfigurationError):
        plan(Demand(1000, 1.0, 9.0), RATES, **options)


@pytest.mark.parametrize("per_hour", [21.0, 1e6])
def test_machines_that_are_taken_away_too_often(per_hour):
    with pytest.raises(ConfigurationError, match=r"`spot.per_hour` must be at most 20"):
        plan(Demand(1000, 1.0, 9.0), RATES, spot=Spot(per_hour))


@pytest.mark.parametrize(
    ("rate", "seconds", "peak"), [(1e-6, 1e-6, 1), (1e-6, 40.0, 1e5), (1e-3, 1e-6, 1e5), (0.1, 1e9, 5), (1e7, 1e-6, 1)]
)
@pytest.mark.slow
def test_extreme_demands_have_a_plan(rate, seconds, peak):
    rates = Rates(question_seconds=seconds, variation=0.3, search_seconds_million=0)
    result = plan(Demand(1000, rate, 1e10, peak=peak, peak_seconds=1), rates)
    assert result.meets_target
    assert result.simulated.questions <= 1_000_000
