"""The simulation of `leanrag plan` against a real run with the same arrivals, and a plan of a hundred replicas."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np

from benchmarks.common import Figures
from benchmarks.scale_out.local_replicas import TOKEN_SECONDS, LocalReplicas, Observed, question
from leanrag.planning import (
    Demand,
    Machine,
    MachinePrices,
    Plan,
    Rates,
    Scaling,
    SimulatedRun,
    plan,
    poisson_arrivals,
    rates_of_this_machine,
    simulate,
)

__all__ = ["compare", "measure", "planned"]

_SLOTS = 2
_PROFILE = [(60.0, 1.5), (60.0, 6.0), (60.0, 1.5)]
_QUICK_PROFILE = [(15.0, 1.5), (15.0, 6.0), (10.0, 1.5)]
_SCALING = Scaling(2, 10, target=1.5, interval_seconds=2, window_seconds=4, down_seconds=20)
_SEED = 5
_ALONE = 12  # questions that are asked one by one, to measure them

PRICES = MachinePrices(
    machines=(
        Machine(name="8 cores", cores=8, memory_gib=32, hour=0.40, spot_hour=0.15),
        Machine(name="16 cores", cores=16, memory_gib=64, hour=0.75, spot_hour=0.28),
    ),
    disk_gib_month=0.08,
)
"""An example: about what such machines cost."""


def measure(_data: Path, is_quick: bool) -> Figures:
    """Return the figures of both."""
    return {**_compare_with_real(is_quick), **_plan_replicas()}


def _compare_with_real(is_quick: bool) -> Figures:
    arrivals = poisson_arrivals(_QUICK_PROFILE if is_quick else _PROFILE, seed=_SEED)
    tokens = np.random.default_rng(_SEED).integers(10, 50, len(arrivals))
    more_seconds, speeds, start_seconds = _measure_replica()
    texts = [question(i, int(count)) for i, count in enumerate(tokens)]
    observed = LocalReplicas(_SCALING, _SLOTS).run(arrivals.tolist(), texts)
    scaling = Scaling(
        _SCALING.least,
        _SCALING.most,
        target=_SCALING.target,
        interval_seconds=_SCALING.interval_seconds,
        window_seconds=_SCALING.window_seconds,
        down_seconds=_SCALING.down_seconds,
        start_seconds=start_seconds,
    )
    simulated = simulate(arrivals, tokens * TOKEN_SECONDS + more_seconds, scaling=scaling, speeds=speeds)
    return {
        "simulation_questions": len(arrivals),
        "simulation_start_s": start_seconds,
        "simulation_real_start_s": statistics.fmean(observed.start_seconds),
        "simulation_speed_of_two": speeds[1],
        **compare(simulated, observed),
    }


def compare(simulated: SimulatedRun, observed: Observed) -> Figures:
    """Return how far the simulation is from the real run, as shares of the real one."""
    figures: Figures = {}
    for share, name in ((0.5, "p50"), (0.95, "p95")):
        real = float(np.quantile(observed.seconds, share, method="higher"))
        figures[f"simulation_{name}_s"] = simulated.percentile(share)
        figures[f"simulation_real_{name}_s"] = real
        figures[f"simulation_{name}_error"] = abs(simulated.percentile(share) - real) / real
    times = np.array(observed.times)
    steps = np.maximum(np.searchsorted(simulated.times, times, side="right") - 1, 0)
    real_ready = np.array(observed.ready)
    figures["simulation_replicas_error"] = float(np.abs(simulated.ready[steps] - real_ready).mean() / real_ready.mean())
    return figures


def _measure_replica() -> tuple[float, list[float], float]:
    """Measure replicas without a queue.

    Returns:
        Seconds of a question beyond those of its tokens; the speeds of one and two at once; seconds of a start.
    """
    tokens = 30
    texts = [question(i, tokens) for i in range(_ALONE)]
    fixed = Scaling(1, 1, interval_seconds=1000)
    apart = LocalReplicas(fixed, 1).run([2.0 * i for i in range(_ALONE)], texts)
    alone = statistics.fmean(apart.seconds)
    together = LocalReplicas(fixed, _SLOTS).run([3.0 * (i // _SLOTS) for i in range(_ALONE)], texts)
    several = LocalReplicas(Scaling(3, 3, interval_seconds=1000), 1).run([0.0], texts[:1])
    return (
        alone - tokens * TOKEN_SECONDS,
        [1.0, alone / statistics.fmean(together.seconds)],
        statistics.fmean(several.start_seconds),
    )


def _plan_replicas() -> Figures:
    """Plan a hundred replicas over ten million chunks with the rates of this machine."""
    result = planned(rates_of_this_machine("smollm2-135m", again=True))
    print(result, flush=True)
    assert result.cost is not None
    return {
        "planned_chunks": result.space.chunks,
        "planned_replicas": result.replicas.most,
        "planned_questions_s": result.demand.questions_per_second,
        "planned_peak": result.demand.peak,
        "planned_target_s": result.demand.p95_seconds,
        "planned_p95_s": max(result.simulated.p95_seconds, result.simulated.peak_p95_seconds),
        "planned_meets_target": int(result.meets_target),
        "planned_cost_month": result.cost.month,
    }


def planned(rates: Rates) -> Plan:
    """Return the plan of a hundred replicas that are at seven tenths of their rate in a peak of five times the questions."""
    chunks, replicas, peak = 10_000_000, 100, 5
    alone = rates.alone_seconds(chunks)
    questions = 0.7 * replicas / alone / peak
    demand = Demand(chunks, questions, 4 * alone, peak=peak)
    return plan(demand, rates, prices=PRICES, replicas=replicas)
