"""The frontier of cost and quality: the points that no other point beats in both."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["non_dominated"]


def non_dominated(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """Return the indices of the points that no other point dominates, from the cheapest to the best.

    A point dominates another if it costs no more, is at least as good, and differs in one of them. Of equal points the first is
    kept.

    Example:
        >>> non_dominated([1, 2, 3, 3], [0.5, 0.4, 0.9, 0.8])
        [0, 2]
    """
    front: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: (costs[i], -qualities[i], i)):
        if not front or qualities[i] > qualities[front[-1]]:
            front.append(i)
    return front
