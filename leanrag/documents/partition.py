"""Consecutive atoms of a text to groups of even size: the dynamic programme that breaks paragraphs into lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["partition"]


def partition(
    sizes: Sequence[float],
    bounds: Sequence[int],
    costs: Sequence[float],
    limit: float,
    max_chars: int,
    openings: Sequence[float],
) -> list[tuple[int, int]]:
    """Group consecutive atoms: the least sum of squared deviations from even sizes plus the costs of the cuts.

    The dynamic programme that breaks paragraphs into lines in TeX (Knuth and Plass, Software: Practice and Experience
    1981), with chunks for lines.

    Args:
        sizes: Tokens of each atom.
        bounds: Where each atom starts, and the end of the last.
        costs: Cost of a cut before each atom.
        limit: Most tokens of a group of more than one atom.
        max_chars: Most characters of a group of more than one atom.
        openings: Tokens that a group takes beside those of its atoms when it begins with this atom.

    Returns:
        `(first, past_last)` of each group, in order.
    """
    total = sum(sizes)
    groups = max(math.ceil(total / limit), math.ceil((bounds[-1] - bounds[0]) / max_chars), 1)
    scale = groups / max(total, 1)  # of a size, relative to the even size
    best = [0.0] + [math.inf] * len(sizes)
    first = [0] * (len(sizes) + 1)
    for j in range(1, len(sizes) + 1):
        size = 0.0
        for i in range(j - 1, -1, -1):
            size += sizes[i]
            if i < j - 1 and (size > limit or bounds[j] - bounds[i] > max_chars):
                break
            if i < j - 1 and size + openings[i] > limit:
                continue
            cost = best[i] + (costs[i] if i else 0.0) + (size * scale - 1) ** 2
            if cost < best[j]:
                best[j], first[j] = cost, i
    found = []
    j = len(sizes)
    while j:
        found.append((first[j], j))
        j = first[j]
    return found[::-1]
