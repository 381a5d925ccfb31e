"""From demand and rates to what it takes: the fewest replicas with which a simulation meets the target, and their price."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError, TargetError
from leanrag.planning.demand import Demand, poisson_arrivals
from leanrag.planning.machines import MachinePrices, cheapest_packing
from leanrag.planning.rates import Rates
from leanrag.planning.report import Cost, Plan, Replicas, Simulated, Space
from leanrag.planning.scaling import Scaling
from leanrag.planning.simulation import SimulatedRun, Spot, simulate
from leanrag.retrieval.growing_index import vector_index_bytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from leanrag.planning.simulation import Seconds

__all__ = ["plan"]

_P95 = 0.95
_HOURS_MONTH = 730
_MOST_REPLICAS = 1_000_000
_STEADY_QUESTIONS = 20_000  # questions of a simulated peak that does not end, at least ...
_STEADY_ANSWERS = 30  # ... and so many times the seconds of a question
_MOST_LOOKS = 200_000  # of the autoscaler in a simulation
_FEW_LOOKS = 5000  # the same, if the number of replicas never changes
_MOST_STEADY = 1000 * 3600  # seconds
_MOST_INTERRUPTIONS = 20  # of a replica in an hour
_MOST_QUESTIONS = 700_000  # of a simulation; more are divided over several fleets
_MOST_FLEET = 400  # replicas of a simulation; as above


@dataclass(frozen=True, slots=True, eq=False)
class _Load:
    """Questions of a simulation: when they arrive, what they need, and which the target is about in particular."""

    arrivals: Seconds
    work: Seconds
    chosen: NDArray[np.bool_]

    def percentile(self, seconds: Seconds) -> float:
        """Return the 95th percentile of all questions or of the chosen ones, whichever is higher."""
        parts = (seconds, seconds[self.chosen])
        return max(float(np.quantile(part, _P95, method="higher")) for part in parts if len(part))


@dataclass(frozen=True, slots=True)
class _Trial:
    """Runs simulations with what they have in common."""

    p95_seconds: float
    speeds: list[float]
    scaling: Scaling
    spot: Spot | None
    seed: int

    def run(self, load: _Load, least: int, most: int, target: float = 1.0) -> SimulatedRun:
        scaling = replace(self.scaling, least=least, most=most, target=target)
        patience = max(3600.0, 20 * float(load.work.max()))
        looks = _FEW_LOOKS if least == most and self.spot is None else _MOST_LOOKS
        interval = max(scaling.interval_seconds, (float(load.arrivals[-1]) + patience) / looks)
        return simulate(
            load.arrivals,
            load.work,
            scaling=replace(scaling, interval_seconds=interval),
            speeds=self.speeds,
            spot=self.spot,
            patience_seconds=patience,
            seed=self.seed,
        )

    def meets(self, run: SimulatedRun, load: _Load) -> bool:
        return load.percentile(run.seconds) <= self.p95_seconds


def plan(
    demand: Demand,
    rates: Rates,
    *,
    prices: MachinePrices | None = None,
    replicas: int | None = None,
    least_replicas: int | None = None,
    scaling: Scaling | None = None,
    spot: Spot | None = None,
    arrivals: ArrayLike | None = None,
    seed: int = 0,
) -> Plan:
    """Return what it takes to answer the questions in time.

    First the fewest replicas are searched with which a peak that does not end meets the target; then the fewest that have to run
    outside of the peak, so that the autoscaler starts the others in time.

    Args:
        demand: What users want.
        rates: What a replica does.
        prices: Machines and their prices; None leaves the costs unknown.
        replicas: Replicas in the peak; None searches for the fewest that meet the target.
        least_replicas: Replicas that always run, 0 to scale to zero; None searches for the fewest that meet the target.
        scaling: The delays of the autoscaler; its `least`, `most` and `target` are not used.
        spot: Interruptions, if machines may be taken away; then their price is that of such machines.
        arrivals: When questions arrive, in seconds, ascending, instead of the rate and the peak of `demand`.
        seed: Of arrivals, work and interruptions. The same seed gives the same plan.

    Raises:
        TargetError: No number of replicas meets the target.
        ConfigurationError: An argument cannot work, or a replica fits on no machine.

    Example:
        >>> demand = Demand(documents=100_000, questions_per_second=2, p95_seconds=3)
        >>> print(plan(demand, Rates(question_seconds=1.0, variation=0.5)).replicas.most)
        4
    """
    check_whole(1, _MOST_REPLICAS, optional=True, replicas=replicas)
    check_whole(0, _MOST_REPLICAS, optional=True, least_replicas=least_replicas)
    if replicas is not None and least_replicas is not None and least_replicas > replicas:
        raise ConfigurationError(
            f"`least_replicas` must be at most `replicas`, got {least_replicas!r} and {replicas!r}; lower `least_replicas`"
        )
    if spot is not None and spot.per_hour > min(_MOST_INTERRUPTIONS, 3600 / rates.alone_seconds(demand.chunks)):
        raise ConfigurationError(
            f"`spot.per_hour` must be at most {_MOST_INTERRUPTIONS}, and a replica must last longer than a question, got "
            f"{spot.per_hour!r}; take machines that are taken away less often"
        )
    speedups = rates.speedups()
    fleets = 1 if arrivals is not None else _count_fleets(demand, rates, max(speedups))
    load, steady = _make_loads(demand, rates, arrivals, fleets, seed)
    at_once = _choose_at_once(demand, (load, steady), speedups)
    speeds = [speedup / n for n, speedup in enumerate(speedups[:at_once], 1)]
    trial = _Trial(demand.p95_seconds, speeds, scaling or Scaling(), spot, seed)
    if replicas is None:
        busy = float(steady.work.sum()) / max(float(np.ptp(steady.arrivals)), float(steady.work.mean()))
        most = _search_most(trial, steady, math.ceil(busy / speedups[at_once - 1]))
    else:
        most = math.ceil(replicas / fleets)
    questions = trial.run(steady, most, most).questions
    target = min(max(float(questions.mean()) / most, 0.1), float(at_once)) if len(questions) else 1.0
    is_even = arrivals is None and demand.peak == 1
    if least_replicas is None and not is_even:
        least = _search_least(trial, load, most, target)
    else:
        least = most if least_replicas is None else min(math.ceil(least_replicas / fleets), most)
    run = trial.run(load, least, most, target)
    if replicas is None and least_replicas is None and not trial.meets(run, load):  # interruptions
        most = _search_most(trial, load, most + 1)
        least, run = most, trial.run(load, most, most, target)
    counted = Replicas(
        least=least * fleets,
        most=most * fleets,
        mean=run.mean_replicas * fleets,
        at_once=at_once,
        target=target,
        cores=most * fleets * rates.cores,
        gpus=most * fleets * rates.gpus,
    )
    simulated = Simulated(
        p50_seconds=run.percentile(0.5),
        p95_seconds=run.percentile(_P95),
        peak_p95_seconds=run.percentile(_P95, load.chosen),
        questions=len(load.arrivals),
        starts=run.starts,
        interruptions=run.interruptions,
        repeated=run.repeated,
        seed=seed,
    )
    space = _measure_space(demand, rates)
    return Plan(
        demand=demand,
        model=rates.model,
        question_seconds=rates.alone_seconds(demand.chunks),
        add_hours=None if rates.add_seconds_chunk is None else demand.chunks * rates.add_seconds_chunk / 3600,
        space=space,
        replicas=counted,
        simulated=simulated,
        meets_target=trial.meets(run, load),
        cost=None if prices is None else _price(prices, rates, space, counted, is_spot=spot is not None),
    )


def _count_fleets(demand: Demand, rates: Rates, speedup: float) -> int:
    """Return into how many equal parts the questions are divided, so that a simulation takes seconds.

    Replicas that share a queue need less reserve the more they are, so the plan has rather too many replicas than too few.
    """
    replicas = demand.peak_rate * rates.alone_seconds(demand.chunks) / speedup
    questions = sum(seconds * rate for seconds, rate in demand.profile())
    return math.ceil(max(questions / _MOST_QUESTIONS, replicas / _MOST_FLEET, 1))


def _make_loads(
    demand: Demand, rates: Rates, arrivals: ArrayLike | None, fleets: int, seed: int
) -> tuple[_Load, _Load]:
    """Return the questions of the simulated hours, and those of a peak that does not end; a trace is both."""
    if arrivals is not None:
        times = np.asarray(arrivals, np.float64)
        if not times.size:
            raise ConfigurationError("`arrivals` must have a time for each question, got none")
        load = _Load(times, rates.draw_work(times.size, demand.chunks, seed=seed), np.ones(times.size, np.bool_))
        return load, load
    times = _draw_arrivals([(seconds, rate / fleets) for seconds, rate in demand.profile()], seed)
    load = _Load(times, rates.draw_work(len(times), demand.chunks, seed=seed), demand.is_peak(times))
    rate, alone = demand.peak_rate / fleets, rates.alone_seconds(demand.chunks)
    seconds = max(min(_STEADY_QUESTIONS / rate, _MOST_STEADY), _STEADY_ANSWERS * alone)
    steady = _draw_arrivals([(seconds, rate)], seed)
    work = rates.draw_work(len(steady), demand.chunks, seed=seed)
    return load, _Load(steady, work, steady > _STEADY_ANSWERS / 6 * alone)


def _draw_arrivals(profile: list[tuple[float, float]], seed: int) -> Seconds:
    """Return Poisson arrivals, at least one question."""
    times = poisson_arrivals(profile, seed=seed)
    return times if len(times) else np.zeros(1)


def _choose_at_once(demand: Demand, loads: tuple[_Load, ...], speedups: list[float]) -> int:
    """Return how many questions a replica takes at once: as many as raise its rate, while a full replica meets the target.

    Raises:
        TargetError: A question that is alone in a replica takes longer.
    """
    alone = max(load.percentile(load.work) for load in loads)
    if alone > demand.p95_seconds:
        nearest = _round_up(alone)
        raise TargetError(
            f"`p95_seconds` of {demand.p95_seconds:g} cannot be met: 95 of 100 questions take up to {nearest:g} s when each has a "
            f"replica to itself. Ask for {nearest:g} s or more, or take a faster model, a shorter context or a GPU",
            target=demand.p95_seconds,
            nearest=nearest,
        )
    able = [n for n, speedup in enumerate(speedups, 1) if alone * n / speedup <= demand.p95_seconds]
    return max(able, key=lambda n: speedups[n - 1])


def _round_up(seconds: float) -> float:
    """Return the next higher number of three digits."""
    if not math.isfinite(seconds):
        return seconds
    unit = 10.0 ** (math.floor(math.log10(seconds)) - 2)
    return math.ceil(seconds / unit) * unit


def _search_most(trial: _Trial, load: _Load, first: int) -> int:
    """Return the fewest replicas, all of them always running, that meet the target; about `first` replicas can do the work.

    Raises:
        TargetError: Even many times as many do not meet it.
    """

    def meets(count: int) -> bool:
        return trial.meets(trial.run(load, count, count), load)

    low, high, step = first - 1, max(first, 1), 1
    while not meets(high):
        if high > 4 * first + 16:
            nearest = _round_up(load.percentile(trial.run(load, high, high).seconds))
            raise TargetError(
                f"`p95_seconds` of {trial.p95_seconds:g} cannot be met: {high:,} replicas reach {nearest:g} s. Ask for that, or "
                "take a faster model, a shorter context, a GPU or machines that are taken away less often",
                target=trial.p95_seconds,
                nearest=nearest,
            )
        low, high, step = high, high + step, 2 * step
    return _bisect(meets, low, high, 1)


def _search_least(trial: _Trial, load: _Load, most: int, target: float) -> int:
    """Return the fewest replicas that have to run always, to a twentieth of `most`."""
    precision = max(1, most // 20)

    def meets(count: int) -> bool:
        return trial.meets(trial.run(load, count, most, target), load)

    return _bisect(meets, 0, most - precision, precision) if most > precision and meets(most - precision) else most


def _bisect(meets: Callable[[int], bool], low: int, high: int, precision: int) -> int:
    """Return a number that meets, at most `precision` above one that does not; `high` meets, `low` does not."""
    while high - low > precision:
        middle = (low + high) // 2
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def _measure_space(demand: Demand, rates: Rates) -> Space:
    chunks = demand.chunks
    index = vector_index_bytes(chunks, rates.dim) + round(chunks * rates.terms_bytes_chunk)
    disk = index + round(chunks * rates.disk_bytes_chunk)
    return Space(chunks, 4 * chunks * rates.dim, index, disk, rates.weights_bytes, rates.replica_bytes)


def _price(prices: MachinePrices, rates: Rates, space: Space, replicas: Replicas, *, is_spot: bool) -> Cost:
    packing = cheapest_packing(
        prices,
        cores=rates.cores,
        gpus=rates.gpus,
        shared_bytes=space.index + space.weights,
        replica_bytes=space.replica,
        is_spot=is_spot,
    )
    disk = space.disk / 2**30 * prices.disk_gib_month
    machines = math.ceil(replicas.most / packing.replicas)
    month = packing.hour * _HOURS_MONTH
    mean = max(replicas.mean, replicas.least) / packing.replicas
    return Cost(
        machine=packing.machine.name,
        machines=machines,
        month=mean * month + machines * disk,
        most_month=machines * (month + disk),
        currency=prices.currency,
    )
