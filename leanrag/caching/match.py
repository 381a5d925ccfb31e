"""How probable it is that two questions ask for the same thing, from their vectors and their words."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from leanrag.caching.guards import RULES, read_question

__all__ = ["FEATURES", "MatchModel", "match_features"]

FEATURES = (
    "constant", "cosine", "cosine squared", "cosine above .9", "common content words", "contained content words", "common words",
    "difference in length", "length", *(name for name, _ in RULES),
)  # fmt: skip
"""Names of the features, in the order of the weights."""


def match_features(question: str, other: str, cosine: float) -> list[float]:
    """Return the features of a pair of questions, in the order of `FEATURES`."""
    left, right = read_question(question), read_question(other)
    mine, there = set(left.content), set(right.content)
    all_mine, all_there = set(left.lower), set(right.lower)
    shorter, longer = sorted((len(left.lower), len(right.lower)))
    return [
        1.0,
        cosine,
        cosine * cosine,
        max(0.0, cosine - 0.9),
        len(mine & there) / max(1, len(mine | there)),
        len(mine & there) / max(1, min(len(mine), len(there))),
        len(all_mine & all_there) / max(1, len(all_mine | all_there)),
        (longer - shorter) / max(1, longer),
        math.sqrt(shorter) / 4,
        *(float(differs(left, right)) for _, differs in RULES),
    ]


@dataclass(frozen=True, slots=True)
class MatchModel:
    """A logistic model over `match_features`.

    Attributes:
        weights: One a feature.
        source: What it was learnt from.
    """

    weights: tuple[float, ...]
    source: str = ""

    def probability(self, question: str, other: str, cosine: float) -> float:
        """Return the probability that the questions ask for the same thing, in (0, 1)."""
        logit = math.fsum(w * x for w, x in zip(self.weights, match_features(question, other, cosine), strict=True))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))

    @classmethod
    def shipped(cls) -> MatchModel:
        """Return the model that ships with leanrag, made by `python -m benchmarks.caching --write`."""
        return _shipped()

    @classmethod
    def fit(
        cls, rows: Sequence[Sequence[float]], labels: Sequence[bool], *, ridge: float = 3.0, source: str = ""
    ) -> MatchModel:
        """Return the model of the highest penalised likelihood, found by Newton's method.

        Args:
            rows: `match_features` of each pair.
            labels: Whether each pair asks for the same thing.
            ridge: Weight of the penalty on standardised weights; the constant has none.
            source: What the pairs are.
        """
        x, y = np.asarray(rows, np.float64), np.asarray(labels, np.float64)
        mean, scale = x.mean(0), x.std(0)
        mean[0], scale[0] = 0.0, 1.0
        scale[scale == 0] = 1.0
        z = (x - mean) / scale
        penalty = np.full(z.shape[1], ridge)
        penalty[0] = 1e-9
        weights: NDArray[np.float64] = np.zeros(z.shape[1])
        for _ in range(50):
            p = 1 / (1 + np.exp(-z @ weights))
            hessian = (z * (p * (1 - p))[:, None]).T @ z + np.diag(penalty)
            step = np.linalg.solve(hessian, z.T @ (p - y) + penalty * weights)
            weights -= step
            if np.abs(step).max() < 1e-9:
                break
        plain = weights / scale
        plain[0] -= float((plain * mean).sum())
        return cls(tuple(plain.tolist()), source)


@functools.cache
def _shipped() -> MatchModel:
    fields = json.loads((resources.files("leanrag.caching") / "match.json").read_text(encoding="utf-8"))
    weights = [fields["weights"][name] for name in FEATURES]
    return MatchModel(tuple(weights), fields["source"])
