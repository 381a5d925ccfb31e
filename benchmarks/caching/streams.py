"""Streams of questions under an error bound: how many exceed it, with the library's rule and with vCache's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanrag.caching.similar import FIRST_CHECK, Comparison, error_share, lowest_threshold

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StreamOutcome", "share_exceeding"]

LENGTH = 2000  # questions of a stream
DELTA, AUDIT = 0.05, 0.05


@dataclass(frozen=True, slots=True)
class StreamOutcome:
    """Shares over streams: of streams that exceed their bound, of questions that hit, of questions that got a wrong answer."""

    exceeding: float
    hits: float
    wrong: float
    vcache_exceeding: float
    vcache_hits: float
    vcache_wrong: float


def share_exceeding(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], *, error: float, streams: int, seed: int = 0
) -> StreamOutcome:
    """Draw streams of pairs, with replacement, and count those that give a wrong answer to more than `error` of the questions."""
    draw = np.random.default_rng(seed)
    ours, theirs = [], []
    for _ in range(streams):
        chosen = draw.integers(len(scores), size=LENGTH)
        right = labels[chosen]
        ours.append(_ours(scores[chosen], right, error, draw))
        theirs.append(_vcache(chosen, scores[chosen], right, error, draw))
    wrong, their_wrong = (np.array([each[1] for each in runs]) / LENGTH for runs in (ours, theirs))
    hits, their_hits = (float(np.mean([each[0] for each in runs])) / LENGTH for runs in (ours, theirs))
    return StreamOutcome(
        float(np.mean(wrong > error)), hits, float(wrong.mean()),
        float(np.mean(their_wrong > error)), their_hits, float(their_wrong.mean()),
    )  # fmt: skip


def _ours(
    scores: NDArray[np.float64], right: NDArray[np.bool_], error: float, draw: np.random.Generator
) -> tuple[int, int]:
    """Return hits and wrong hits of the library's rule, which begins without a threshold."""
    known: list[Comparison] = []
    threshold: float | None = None
    hits = wrong = checked = 0
    for score, is_right, chance in zip(scores.tolist(), right.tolist(), draw.random(len(scores)).tolist(), strict=True):
        if threshold is not None and score >= threshold and chance >= AUDIT:
            hits += 1
            wrong += not is_right
            continue
        is_audit = threshold is not None and score >= threshold
        known.append(Comparison(score, is_right, 1 / AUDIT if is_audit else 1.0))
        checks = int(math.log2(len(known) / FIRST_CHECK)) + 1 if len(known) >= FIRST_CHECK else 0
        if checks > checked:
            checked = checks
            learnt = lowest_threshold(known, error=error, delta=DELTA / 2**checks)
            if (
                threshold is None
                or (learnt is not None and learnt < threshold)
                or error_share(known, threshold) > error
            ):
                threshold = learnt
    return hits, wrong


def _vcache(
    entries: NDArray[np.int64],
    scores: NDArray[np.float64],
    right: NDArray[np.bool_],
    error: float,
    draw: np.random.Generator,
) -> tuple[int, int]:
    """Return hits and wrong hits of a threshold an entry (Schroeder et al., 2026): no entry is used before it was seen to be right.

    The probability that an entry is right is that of a Beta(1, 1) prior after its comparisons at this score or below, taken at its
    lower end of 95 %; it is used with the chance that keeps the expected error at `error`.
    """
    seen: dict[int, list[bool]] = {}
    hits = wrong = 0
    for entry, is_right, chance in zip(
        entries.tolist(), right.tolist(), draw.random(len(scores)).tolist(), strict=True
    ):
        observed = seen.setdefault(entry, [])
        n = len(observed)
        mean = (1 + sum(observed)) / (2 + n)
        lowest = max(0.0, mean - 1.645 * math.sqrt(mean * (1 - mean) / (3 + n)))
        explore = 0.0 if lowest >= 1 - error else ((1 - error) - lowest) / (1 - lowest)
        if n and chance >= explore:
            hits += 1
            wrong += not is_right
        else:
            observed.append(is_right)
    return hits, wrong
