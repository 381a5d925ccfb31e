"""A simulation of replicas that answer questions: event by event, with a seed.

Questions wait in one queue. The ready replica with the fewest questions takes the next one, up to its number of slots. The
questions in a replica share it: with n of them, each advances at the speed `speeds[n - 1]`, as in an engine that computes them in
one batch.
"""

from __future__ import annotations

import collections
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from leanrag.checks import check_at_least, check_positive, check_whole
from leanrag.errors import ConfigurationError
from leanrag.planning.scaling import Autoscaler, Scaling

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Seconds: TypeAlias = NDArray[np.float64]

__all__ = ["SimulatedRun", "Spot", "simulate"]


@dataclass(frozen=True, slots=True)
class Spot:
    """Machines that the provider may take away.

    Attributes:
        per_hour: Interruptions of a replica in an hour, on average; the times between them are exponential.
        notice_seconds: Seconds from the notice to the end. The replica takes no question meanwhile; questions that it has at the
            end go back to the front of the queue.

    Raises:
        ConfigurationError: A number is not positive, or not finite.
    """

    per_hour: float
    notice_seconds: float = 30.0

    def __post_init__(self) -> None:
        check_positive(per_hour=self.per_hour)
        check_at_least(0, notice_seconds=self.notice_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedRun:
    """What happened to the questions, and which replicas ran. Every question was answered, refused, or still waits at the end.

    Attributes:
        seconds: From arrival to answer, for each question, float64 `(n,)`: NaN if it was refused, inf if it still waits or is
            computed at the end.
        refused: Questions that found the queue full.
        times: When the autoscaler looked, in seconds, `(m,)`.
        questions: Questions in the system at these times, `(m,)`.
        ready: Replicas that took questions at these times, `(m,)`.
        replica_seconds: Seconds of all replicas from the first decision to the end of each; starting and stopping count.
        most_replicas: Replicas at the same time, starting and stopping ones included.
        starts: Replicas that were started after the beginning.
        interruptions: Replicas that were taken away.
        repeated: Questions that had to begin again, because their replica was taken away.
        end: When the simulation ended, in seconds.
    """

    seconds: Seconds
    refused: int
    times: Seconds
    questions: NDArray[np.int64]
    ready: NDArray[np.int64]
    replica_seconds: float
    most_replicas: int
    starts: int
    interruptions: int
    repeated: int
    end: float

    @property
    def answered(self) -> int:
        """Questions that were answered."""
        return int(np.isfinite(self.seconds).sum())

    @property
    def waiting(self) -> int:
        """Questions that still waited or were computed at the end."""
        return int(np.isinf(self.seconds).sum())

    @property
    def mean_replicas(self) -> float:
        """Replicas on average, starting and stopping ones included."""
        return self.replica_seconds / self.end if self.end else 0.0

    def percentile(self, share: float, chosen: NDArray[np.bool_] | None = None) -> float:
        """Return the seconds within which this share of the questions was answered; refused questions do not count.

        Args:
            share: In [0, 1], such as 0.95.
            chosen: Which questions count, `(n,)`; None for all.

        Returns:
            inf if too many still wait; NaN if no question counts.
        """
        seconds = self.seconds if chosen is None else self.seconds[chosen]
        seconds = seconds[~np.isnan(seconds)]
        return float(np.quantile(seconds, share, method="higher")) if len(seconds) else math.nan


def simulate(
    arrivals: ArrayLike,
    work: ArrayLike,
    *,
    scaling: Scaling,
    speeds: Sequence[float] = (1.0,),
    spot: Spot | None = None,
    max_waiting: int | None = None,
    patience_seconds: float = 3600.0,
    seed: int = 0,
) -> SimulatedRun:
    """Simulate replicas that answer questions. The same arguments give the same run.

    Args:
        arrivals: When each question arrives, in seconds, ascending, `(n,)`. At the beginning, `scaling.least` replicas are ready.
        work: Seconds that each question needs in a replica of its own, `(n,)`.
        scaling: How many replicas there are.
        speeds: How fast each question advances when a replica has 1, 2, ... of them; alone it is 1. A replica takes as many
            questions at once as there are speeds.
        spot: Interruptions of replicas; None for none.
        max_waiting: Questions that may wait; further ones are refused. None for any number.
        patience_seconds: The simulation ends so long after the last arrival, if questions still wait.
        seed: Of the interruptions.

    Raises:
        ConfigurationError: The arrivals are not ascending or not finite, or an argument has another wrong value.
    """
    arrival_times, work_seconds = checked_questions(arrivals, work)
    for speed in speeds:
        check_positive(speeds=speed)
    if not speeds:
        raise ConfigurationError("`speeds` must have a number for each question that a replica takes at once, got none")
    check_whole(0, optional=True, max_waiting=max_waiting)
    check_at_least(0, patience_seconds=patience_seconds)
    most = math.inf if max_waiting is None else max_waiting
    last = float(arrival_times[-1]) if len(arrival_times) else 0.0
    fleet = _Fleet(arrival_times.tolist(), work_seconds.tolist(), scaling, speeds, spot, most, seed)
    return fleet.run(last + patience_seconds)


def checked_questions(arrivals: ArrayLike, work: ArrayLike) -> tuple[Seconds, Seconds]:
    """Return arrivals and work as arrays.

    Raises:
        ConfigurationError: They are not two lists of finite numbers of the same length, the arrivals ascending.
    """
    times, seconds = np.asarray(arrivals, np.float64), np.asarray(work, np.float64)
    if times.ndim != 1 or times.shape != seconds.shape:
        raise ConfigurationError(
            f"`arrivals` and `work` must have a number for each question, got shapes {times.shape!r} and {seconds.shape!r}"
        )
    if not np.isfinite(times).all() or (times < 0).any() or (np.diff(times) < 0).any():
        raise ConfigurationError("`arrivals` must be ascending finite numbers of seconds from 0 on; sort them")
    if not np.isfinite(seconds).all() or (seconds <= 0).any():
        raise ConfigurationError("`work` must be positive finite numbers of seconds")
    return times, seconds


class _Event(IntEnum):
    """Kinds of events; of those at the same time, the lower come first."""

    FINISH = 0
    START = 1
    NOTICE = 2
    TAKE = 3
    DECIDE = 4


class _Replica:
    """A replica and its questions.

    `progress` is how much work a question that was here from the beginning would have got. A question that came at progress p and
    needs w ends at p + w, so all that is kept of a question is that sum.
    """

    __slots__ = ("accepts", "ends", "is_ready", "progress", "started", "updated", "version")

    def __init__(self, now: float) -> None:
        self.started = self.updated = now
        self.is_ready, self.accepts = False, True
        self.progress = 0.0
        self.ends: list[tuple[float, int]] = []  # heap of (progress at its end, question)
        self.version = 0  # of the next end: an event of an older version is passed over


class _Fleet:
    """The state of a simulation."""

    def __init__(
        self,
        arrivals: list[float],
        work: list[float],
        scaling: Scaling,
        speeds: Sequence[float],
        spot: Spot | None,
        most_waiting: float,
        seed: int,
    ) -> None:
        self._arrivals, self._work = arrivals, work
        self._scaling, self._scaler, self._spot = scaling, Autoscaler(scaling), spot
        self._slots, self._speeds = len(speeds), [0.0, *speeds]
        self._most_waiting, self._random = most_waiting, np.random.default_rng(seed)
        self._events: list[tuple[float, int, int, int]] = []  # heap of (time, kind, replica, version)
        self._waiting: collections.deque[int] = collections.deque()
        self._replicas: dict[int, _Replica] = {}
        self._free: list[dict[int, None]] = [{} for _ in speeds]  # replicas that take questions, by how many they have
        self._wanted = self._ready = 0  # replicas that are not told to stop; of them, those that take questions
        self._running = self._refused = self._made = self._starts = self._interruptions = self._repeated = 0
        self._replica_seconds, self._most_replicas = 0.0, 0
        self._seconds = np.full(len(arrivals), np.inf)
        self._seen: list[tuple[float, int, int]] = []

    def run(self, stop: float) -> SimulatedRun:
        now = 0.0
        for _ in range(self._scaling.least):
            self._start(0.0, 0.0)
        self._events.append((0.0, _Event.DECIDE, 0, 0))
        heapq.heapify(self._events)
        arrivals, events, n, i = self._arrivals, self._events, len(self._arrivals), 0
        while i < n or self._waiting or self._running:
            if i < n and arrivals[i] <= events[0][0]:
                now = arrivals[i]
                self._arrive(now, i)
                i += 1
                continue
            time, kind, key, version = heapq.heappop(events)
            if time > stop:
                now = stop
                break
            if kind == _Event.FINISH:
                replica = self._replicas.get(key)
                if replica is not None and replica.version == version:
                    now = time
                    self._finish(now, key, replica)
            else:
                now = time
                self._handle(now, kind, key)
        return self._result(now)

    def _result(self, end: float) -> SimulatedRun:
        times, questions, ready = zip(*self._seen, strict=True) if self._seen else ((), (), ())
        return SimulatedRun(
            seconds=self._seconds,
            refused=self._refused,
            times=np.array(times, np.float64),
            questions=np.array(questions, np.int64),
            ready=np.array(ready, np.int64),
            replica_seconds=self._replica_seconds + sum(end - replica.started for replica in self._replicas.values()),
            most_replicas=self._most_replicas,
            starts=self._starts,
            interruptions=self._interruptions,
            repeated=self._repeated,
            end=end,
        )

    # Questions

    def _arrive(self, now: float, question: int) -> None:
        if not self._waiting:
            for load, keys in enumerate(self._free):
                if keys:
                    self._take(now, next(iter(keys)), load, question)
                    return
        if len(self._waiting) >= self._most_waiting:
            self._refused += 1
            self._seconds[question] = math.nan
            return
        self._waiting.append(question)
        if not self._wanted:
            self._decide(now)

    def _take(self, now: float, key: int, load: int, question: int) -> None:
        """Let a replica that has `load` questions begin another."""
        replica = self._replicas[key]
        replica.progress += (now - replica.updated) * self._speeds[load]
        replica.updated = now
        heapq.heappush(replica.ends, (replica.progress + self._work[question], question))
        self._running += 1
        del self._free[load][key]
        if load + 1 < self._slots:
            self._free[load + 1][key] = None
        self._expect(now, key, replica)

    def _finish(self, now: float, key: int, replica: _Replica) -> None:
        load = len(replica.ends)
        replica.progress, question = heapq.heappop(replica.ends)
        replica.updated = now
        self._seconds[question] = now - self._arrivals[question]
        self._running -= 1
        if replica.accepts:
            if load < self._slots:
                del self._free[load][key]
            self._free[load - 1][key] = None
            if self._waiting:
                self._take(now, key, load - 1, self._waiting.popleft())
                return
        elif load == 1:
            self._stop(now, key)
            return
        self._expect(now, key, replica)

    def _expect(self, now: float, key: int, replica: _Replica) -> None:
        """Schedule the end of the question of a replica that ends first."""
        replica.version += 1
        if replica.ends:
            seconds = (replica.ends[0][0] - replica.progress) / self._speeds[len(replica.ends)]
            heapq.heappush(self._events, (now + max(seconds, 0.0), _Event.FINISH, key, replica.version))

    # Replicas

    def _handle(self, now: float, kind: int, key: int) -> None:
        if kind == _Event.DECIDE:
            self._decide(now)
            heapq.heappush(self._events, (now + self._scaling.interval_seconds, _Event.DECIDE, 0, 0))
            self._seen.append((now, len(self._waiting) + self._running, self._ready))
            return
        replica = self._replicas.get(key)
        if replica is None:
            return
        if kind == _Event.START:
            replica.is_ready = True
            self._ready += 1
            self._free[0][key] = None
            while self._waiting and len(replica.ends) < self._slots:
                self._take(now, key, len(replica.ends), self._waiting.popleft())
        elif kind == _Event.NOTICE:
            self._interruptions += 1
            if replica.accepts:
                self._retire(now, key)
            if key in self._replicas and self._spot is not None:
                heapq.heappush(self._events, (now + self._spot.notice_seconds, _Event.TAKE, key, 0))
        else:
            self._take_away(now, key, replica)

    def _decide(self, now: float) -> None:
        change = self._scaler.decide(now, len(self._waiting) + self._running, self._wanted) - self._wanted
        for _ in range(change):
            self._start(now, self._scaling.start_seconds)
            self._starts += 1
        if change < 0:
            able = [
                (replica.is_ready, len(replica.ends), key) for key, replica in self._replicas.items() if replica.accepts
            ]
            for _, _, key in sorted(able)[:-change]:
                self._retire(now, key)

    def _start(self, now: float, seconds: float) -> None:
        key = self._made
        self._made += 1
        self._wanted += 1
        self._replicas[key] = _Replica(now)
        self._most_replicas = max(self._most_replicas, len(self._replicas))
        heapq.heappush(self._events, (now + seconds, _Event.START, key, 0))
        if self._spot is not None:
            lifetime = seconds + self._random.exponential(3600 / self._spot.per_hour)
            heapq.heappush(self._events, (now + lifetime, _Event.NOTICE, key, 0))

    def _retire(self, now: float, key: int) -> None:
        """Let a replica take no further questions, and stop when it has none."""
        replica = self._replicas[key]
        replica.accepts = False
        self._wanted -= 1
        self._ready -= replica.is_ready
        load = len(replica.ends)
        if load < self._slots:
            self._free[load].pop(key, None)
        if not load:
            self._stop(now, key)

    def _take_away(self, now: float, key: int, replica: _Replica) -> None:
        questions = sorted(question for _, question in replica.ends)
        self._waiting.extendleft(reversed(questions))
        self._running -= len(questions)
        self._repeated += len(questions)
        self._stop(now, key)
        self._spread(now)

    def _spread(self, now: float) -> None:
        """Give waiting questions to the replicas that have a free slot."""
        for load, keys in enumerate(self._free):
            while keys and self._waiting:
                self._take(now, next(iter(keys)), load, self._waiting.popleft())

    def _stop(self, now: float, key: int) -> None:
        self._replica_seconds += now - self._replicas.pop(key).started
