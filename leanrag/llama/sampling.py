"""Logits to a token, in NumPy: no native sampler that could abort the process, and log-probabilities at no extra pass."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError

__all__ = ["Chooser", "Sampler", "SamplingOptions", "TokenScore", "log_probabilities", "score_token", "score_tokens"]


class Chooser(Protocol):
    """Draws one token after another; one instance a request."""

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Return the chosen token for `logits` `(n_vocab,)`."""


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How to choose a token.

    Attributes:
        temperature: 0 takes the most probable token; higher is more varied.
        top_k: Sample among the `top_k` most probable; 0 for all.
        top_p: Sample among the fewest whose probabilities reach `top_p` (Holtzman et al., ICLR 2020, section 3.1).
        min_p: Drop tokens less probable than `min_p` times the most probable (Nguyen et al., ICLR 2025, section 3).
        seed: Repeats the draw; None takes a fresh one, recorded in `Generation.seed`.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        checks = [
            (0 <= self.temperature < float("inf"), "temperature", "a finite number of at least 0", self.temperature),
            (self.top_k >= 0, "top_k", "at least 0", self.top_k),
            (0 < self.top_p <= 1, "top_p", "in (0, 1]", self.top_p),
            (0 <= self.min_p <= 1, "min_p", "in [0, 1]", self.min_p),
            (self.seed is None or 0 <= self.seed < 2**64, "seed", "None or in [0, 2**64)", self.seed),
        ]
        for is_valid, name, allowed, value in checks:
            if not is_valid:
                raise ConfigurationError(f"`{name}` must be {allowed}, got {value!r}")


class Sampler:
    """Draws one token after another; one instance a request."""

    def __init__(self, options: SamplingOptions) -> None:
        self._options = options
        self.seed: int | None = None
        if options.temperature > 0:
            self.seed = secrets.randbits(63) if options.seed is None else options.seed
            self._random = np.random.Generator(np.random.Philox(self.seed))

    @property
    def is_greedy(self) -> bool:
        """Whether it takes the most probable token; then it has no state, and rows of many requests may be drawn at once."""
        return self._options.temperature == 0

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Return the chosen token for `logits` `(n_vocab,)`."""
        options = self._options
        if options.temperature == 0:
            return int(np.argmax(logits))
        scaled = (logits.astype(np.float64) - float(logits.max())) / options.temperature
        if options.top_k and options.top_k < scaled.size:
            candidates = np.argpartition(scaled, -options.top_k)[-options.top_k :]
        else:
            candidates = np.arange(scaled.size)
        order = candidates[np.argsort(-scaled[candidates], kind="stable")]  # most probable first
        probabilities = np.exp(scaled[order])
        probabilities /= probabilities.sum()
        keep = probabilities >= options.min_p * probabilities[0]
        if options.top_p < 1:
            # up to and including the one that reaches it
            keep &= np.cumsum(probabilities) - probabilities < options.top_p
        sums = np.cumsum(np.where(keep, probabilities, 0.0))
        threshold = self._random.random() * sums[-1]
        return int(order[np.searchsorted(sums, threshold, side="right")])


class TokenScore(NamedTuple):
    """How sure the model was of a token, under the untempered distribution; natural logarithms.

    Attributes:
        logprob: Log-probability of the token.
        margin: `logprob` less that of the best other token; below 0 when the token was not the most probable.
        entropy: Of the whole distribution.
    """

    logprob: float
    margin: float
    entropy: float


def score_token(logits: NDArray[np.float32], token: int) -> TokenScore:
    """Return the scores of `token` under `logits` `(n_vocab,)`."""
    others = [part.max() for part in (logits[:token], logits[token + 1 :]) if part.size]
    best_other = max(others, default=_NOTHING)
    top = max(logits[token], best_other)
    ((shifted,), (weights,)) = _scratch_rows((1, logits.size))  # fresh rows would cost as much as the arithmetic
    np.subtract(logits, top, out=shifted)
    np.exp(shifted, out=weights)
    total = weights.sum()
    np.multiply(weights, shifted, out=weights)  # for a dot product BLAS would wake all of its threads
    return _score(logits[token] - top, best_other - top, total, weights.sum())


def score_tokens(logits: NDArray[np.float32], tokens: Sequence[int]) -> list[TokenScore]:
    """Return the scores of `tokens` `(n,)`, each under its row of `logits` `(n, n_vocab)`, whatever the rows beside it are."""
    if len(tokens) == 1:
        return [score_token(logits[0], tokens[0])]
    shifted, weights = _scratch_rows(logits.shape)
    np.subtract(logits, logits.max(axis=1, keepdims=True), out=shifted)
    np.exp(shifted, out=weights)
    totals = weights.sum(axis=1)
    chosen = [row[token] for row, token in zip(shifted, tokens, strict=True)]
    np.multiply(weights, shifted, out=weights)
    products = weights.sum(axis=1)
    for row, token in zip(shifted, tokens, strict=True):
        row[token] = -np.inf
    return list(map(_score, chosen, shifted.max(axis=1), totals, products))


def _score(chosen: np.float32, best_other: np.float32, total: np.float32, product: np.float32) -> TokenScore:
    """Return the scores of a token.

    Args:
        chosen: Its logit less the highest logit.
        best_other: The highest logit of another token, less the highest logit.
        total: The sum of the exponentials of all logits less the highest.
        product: The sum of each such exponential times its exponent.
    """
    log_total = math.log(total)
    margin = float(chosen) - float(best_other)
    return TokenScore(float(chosen) - log_total, margin, max(0.0, log_total - float(product) / float(total)))


def _scratch_rows(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Two arrays of `shape` that only this thread uses."""
    n_rows, n_vocab = shape
    rows: NDArray[np.float32] | None = getattr(_scratch, "rows", None)
    if rows is None or rows.shape[1] < n_rows or rows.shape[2] != n_vocab:
        rows = _scratch.rows = np.empty((2, n_rows, n_vocab), np.float32)
    return rows[:, :n_rows]


_scratch = threading.local()
_NOTHING = np.float32(-np.inf)  # the best of no logits


def log_probabilities(logits: NDArray[np.float32], tokens: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return the natural-log probabilities `(n,)` of `tokens` `(n,)` under `logits` `(n, n_vocab)`; overwrites `logits`."""
    rows = np.arange(len(tokens))
    logits -= logits.max(axis=1, keepdims=True)
    chosen: NDArray[np.float64] = logits[rows, tokens].astype(np.float64)
    np.exp(logits, out=logits)
    chosen -= np.log(logits.sum(axis=1, dtype=np.float64))
    return chosen
