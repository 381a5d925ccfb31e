"""What it takes, as values and as text."""

from __future__ import annotations

from dataclasses import dataclass

from leanrag.display import table_to_text
from leanrag.planning.demand import Demand

__all__ = ["Cost", "Plan", "Replicas", "Simulated", "Space"]


@dataclass(frozen=True, slots=True)
class Space:
    """What documents and models need, in bytes.

    Attributes:
        chunks: Chunks, each with a vector.
        vectors: Size of the vectors as numbers of four bytes.
        index: Memory of the indexes of vectors and words; the replicas of a machine share it.
        disk: Disk of a copy of the folder; each machine has one.
        weights: Size of the model's files; the replicas of a machine share it.
        replica: Memory of a replica beside what it shares.
    """

    chunks: int
    vectors: int
    index: int
    disk: int
    weights: int
    replica: int


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas there are.

    Attributes:
        least: Replicas that always run.
        most: Replicas in the peak.
        mean: Replicas on average in the simulation.
        at_once: Most questions that a replica answers at once.
        target: Questions for each replica that the autoscaler aims at.
        cores: Cores of all replicas in the peak.
        gpus: GPUs of all replicas in the peak.
    """

    least: int
    most: int
    mean: float
    at_once: int
    target: float
    cores: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the simulation says.

    Attributes:
        p50_seconds: Median of the seconds from a question to its answer.
        p95_seconds: 95th percentile of the same.
        peak_p95_seconds: The same for the questions that arrive in the peak.
        questions: Questions that were simulated.
        starts: Replicas that the autoscaler started.
        interruptions: Replicas that were taken away.
        repeated: Questions that had to begin again because of that.
        seed: The seed.
    """

    p50_seconds: float
    p95_seconds: float
    peak_p95_seconds: float
    questions: int
    starts: int
    interruptions: int
    repeated: int
    seed: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What the machines and disks cost.

    Attributes:
        machine: Name of the machine on which a replica costs least.
        machines: Number of these machines in the peak.
        month: Price of a month whose hours are as the simulated ones.
        most_month: Price of a month in which all replicas always run.
        currency: Currency of the prices.
    """

    machine: str
    machines: int
    month: float
    most_month: float
    currency: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What it takes to answer the questions in time.

    Attributes:
        demand: What users want.
        model: The model that answers.
        question_seconds: Seconds of a question that is alone in a replica, on average, the search of all chunks included.
        add_hours: Hours that a replica needs to add all documents, which several replicas can share; None if unknown.
        space: Memory and disk.
        replicas: Replicas.
        simulated: What the simulation says.
        meets_target: Whether the 95th percentiles are at most what users want.
        cost: What it costs; None without prices.
    """

    demand: Demand
    model: str
    question_seconds: float
    add_hours: float | None
    space: Space
    replicas: Replicas
    simulated: Simulated
    meets_target: bool
    cost: Cost | None

    def __str__(self) -> str:
        return table_to_text([*self._space_rows(), *self._replica_rows(), *self._result_rows()])

    def _space_rows(self) -> list[tuple[str, str]]:
        space = self.space
        return [
            ("chunks", f"{space.chunks:,}, {_size(space.vectors)} of vectors"),
            ("index", f"{_size(space.index)} of memory on each machine"),
            ("disk", f"{_size(space.disk)} on each machine"),
            ("adding", "unknown" if self.add_hours is None else f"{self.add_hours:,.1f} hours of a replica"),
        ]

    def _replica_rows(self) -> list[tuple[str, str]]:
        replicas, space, cost = self.replicas, self.space, self.cost
        lower = "" if replicas.least == replicas.most else f"{replicas.least:,} to "
        rows = [
            ("replicas", f"{lower}{replicas.most:,}, {replicas.mean:,.1f} on average"),
            (
                "a replica",
                f"{self.model or 'the model'}, {replicas.at_once} questions at once, {_size(space.replica)} of memory",
            ),
            ("computing", f"{replicas.gpus:,} GPUs" if replicas.gpus else f"{replicas.cores:,} cores"),
        ]
        if cost is None:
            return [*rows, ("a month", "unknown; --prices FILE tells what machines cost")]
        month = f"{cost.month:,.0f} {cost.currency}; {cost.most_month:,.0f} if all replicas always run"
        return [*rows, ("machines", f"{cost.machines:,} of {cost.machine}"), ("a month", month)]

    def _result_rows(self) -> list[tuple[str, str]]:
        demand, simulated = self.demand, self.simulated
        peak = f", in the peak {simulated.peak_p95_seconds:.3g} s" if demand.peak > 1 else ""
        taken = (
            [("taken away", f"{simulated.interruptions:,} replicas; {simulated.repeated:,} questions began again")]
            if simulated.interruptions
            else []
        )
        return [
            ("one question", f"{self.question_seconds:.3g} s alone in a replica"),
            *taken,
            (
                "simulated",
                f"p50 {simulated.p50_seconds:.3g} s, p95 {simulated.p95_seconds:.3g} s{peak} ({simulated.questions:,} questions)",
            ),
            ("target", f"p95 of {demand.p95_seconds:g} s is {'met' if self.meets_target else 'NOT met'}"),
        ]


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 2**30:,.1f} GiB" if size_bytes >= 2**30 else f"{size_bytes / 2**20:,.0f} MiB"
