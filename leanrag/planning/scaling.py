"""How many replicas there should be: the rule of an autoscaler, for simulated and real replicas."""

from __future__ import annotations

import collections
import math
from dataclasses import dataclass

from leanrag.checks import check_at_least, check_positive, check_whole
from leanrag.errors import ConfigurationError

__all__ = ["Autoscaler", "Scaling"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """When replicas start and stop. The rule is that of Ray Serve and KEDA: questions in the system, divided by a target.

    Attributes:
        least: Replicas that always run; 0 scales to zero while nobody asks.
        most: Replicas at the same time, without those that stop.
        target: Questions that a replica should have, waiting ones included. There are as many replicas as this needs.
        interval_seconds: Seconds between two decisions.
        window_seconds: Seconds over which the questions are averaged; 0 takes those of the moment.
        up_seconds: Seconds for which more replicas must be needed before they start.
        down_seconds: Seconds for which fewer replicas must be needed before some stop.
        start_seconds: Seconds from the decision until a new replica answers: a machine starts, a model is loaded.

    Raises:
        ConfigurationError: A number is negative, or `least` is above `most`.
    """

    least: int = 1
    most: int = 1
    target: float = 1.0
    interval_seconds: float = 10.0
    window_seconds: float = 0.0
    up_seconds: float = 0.0
    down_seconds: float = 300.0
    start_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_whole(0, least=self.least)
        check_whole(1, most=self.most)
        check_positive(target=self.target, interval_seconds=self.interval_seconds)
        check_at_least(
            0,
            window_seconds=self.window_seconds,
            up_seconds=self.up_seconds,
            down_seconds=self.down_seconds,
            start_seconds=self.start_seconds,
        )
        if self.least > self.most:
            raise ConfigurationError(
                f"`least` must be at most `most`, got {self.least!r} and {self.most!r}; lower `least` or raise `most`"
            )


class Autoscaler:
    """Decides how many replicas there should be, one decision after the other.

    Args:
        scaling: The rule.
    """

    def __init__(self, scaling: Scaling) -> None:
        self._scaling = scaling
        self._seen: collections.deque[tuple[float, int]] = collections.deque()
        self._since: float | None = None  # since when more, or fewer, replicas are needed
        self._direction = 0

    def decide(self, now: float, questions: int, replicas: int) -> int:
        """Return the number of replicas that there should be from now on.

        Args:
            now: Seconds on any clock; not less than at the decision before.
            questions: Questions in the system, waiting ones included.
            replicas: Replicas that answer or start, without those that stop.
        """
        scaling = self._scaling
        needed = min(max(math.ceil(self._average(now, questions) / scaling.target), scaling.least), scaling.most)
        if replicas < scaling.least:
            return max(needed, scaling.least)
        if replicas == 0 and questions:  # nothing would answer meanwhile
            return max(needed, 1)
        direction = (needed > replicas) - (needed < replicas)
        if direction != self._direction or self._since is None:
            self._direction, self._since = direction, now
        wait = scaling.up_seconds if direction > 0 else scaling.down_seconds
        if direction == 0 or now - self._since < wait:
            return replicas
        self._since = None
        return needed

    def _average(self, now: float, questions: int) -> float:
        self._seen.append((now, questions))
        while self._seen[0][0] < now - self._scaling.window_seconds:
            self._seen.popleft()
        return sum(count for _, count in self._seen) / len(self._seen)
