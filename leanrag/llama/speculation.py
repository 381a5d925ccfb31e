"""Speculation: drafted tokens are computed together with the last drawn token, where that is faster.

A batch of several rows reads the weights once. If the model itself draws the drafted tokens, the answer gets several tokens for
the time of one batch. What that saves depends on the machine, the model and the answer. So it is always measured: the seconds of
batches with one row and with more rows, the seconds of a draft, and the share of right drafts. Without a gain nothing is drafted.
The model's own draws decide, so a greedy answer stays the same.

The prompt itself proposes tokens (see `lookup`), and where it does not, a smaller model (see `draft`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.lookup import PromptLookup

__all__ = ["MAX_DRAFT", "Drafter", "Drafts", "Payoff", "ShareRight", "Speculation"]

MAX_DRAFT = 15  # drafted tokens in a batch; kernels for several rows compute 4, 8 or 16 of them together
_LENGTHS = (1, 2, 3, 7, MAX_DRAFT)
_WORTH_DRAFTING = 1.05  # tokens a second with a draft, against those without
_FIRST_GUESS = 0.5  # of the seconds of a row: what a further row takes, before it is measured
_SMOOTHING = 0.25  # weight of the newest measurement
_STALE = 256  # batches after which a measurement is forgotten, so that the length is tried again
_LIKELY = 0.8  # share of right tokens before any is known
_WEIGHT = 4.0  # tokens that it counts for
_FORGETTING = 0.95  # weight of what was known, at each new draft
_MANY = 64  # unread tokens from which on the time of a draft is the time of reading them
_TRIES_AGAIN = 32  # requests after which a draft model that did not pay is tried again


class Drafter(Protocol):
    """Proposes the tokens that may follow other tokens."""

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        """Return at most `at_most` tokens that may follow `tokens`."""

    def count_unread(self, tokens: Sequence[int]) -> int:
        """Return how many of `tokens` must be read before a proposal."""


class Payoff:
    """Chooses the length of a draft from the measured seconds of batches.

    Example:
        >>> payoff = Payoff()
        >>> for rows, seconds in ((1, 1.0), (2, 1.1), (4, 1.2), (8, 2.0)):
        ...     payoff.record(rows, seconds)
        >>> payoff.best_length(0.9)[0], payoff.best_length(0.02)
        (7, (0, 0.0))
    """

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        self._measured_at: dict[int, int] = {}
        self._n_batches = 0

    def record(self, n_rows: int, seconds: float) -> None:
        """Record the seconds of a batch that had only rows of one answer."""
        self._n_batches += 1
        self._seconds[n_rows] = _smooth(self._seconds.get(n_rows, 0.0), seconds)
        self._measured_at[n_rows] = self._n_batches
        for rows in [rows for rows, at in self._measured_at.items() if self._n_batches - at > _STALE]:
            del self._seconds[rows], self._measured_at[rows]

    def best_length(
        self, share_right: float, at_most: int = MAX_DRAFT, seconds_per_token: float = 0.0
    ) -> tuple[int, float]:
        """Return the length of the draft that gives most tokens a second, and the seconds that it saves for each token.

        The length is 0 if a draft does not pay.

        Args:
            share_right: Probability that a drafted token is right, if those before it are.
            at_most: Greatest length.
            seconds_per_token: Seconds to draft a token.
        """
        alone = self._seconds.get(1)
        if alone is None:
            return 0, 0.0
        best, most = 0, _WORTH_DRAFTING / alone
        for length in _LENGTHS:
            if length > at_most:
                break
            tokens = sum(share_right**i for i in range(length + 1))  # Leviathan et al., ICML 2023, equation 1
            speed = tokens / (self._estimate(length + 1) + length * seconds_per_token)
            if speed > most:
                best, most = length, speed
        return best, alone - 1 / most if best else 0.0

    def _estimate(self, n_rows: int) -> float:
        """Return the seconds of a batch: measured, or on the line through the nearest measured numbers of rows."""
        known = sorted(self._seconds)
        if n_rows in self._seconds:
            return self._seconds[n_rows]
        above = next((rows for rows in known if rows > n_rows), None)
        below = max(rows for rows in known if rows < n_rows)
        start = self._seconds[below]
        if above is None:
            first = self._seconds[1]
            slope = (start - first) / (below - 1) if below > 1 else _FIRST_GUESS * first
        else:
            slope = (self._seconds[above] - start) / (above - below)
        return start + max(0.0, slope) * (n_rows - below)


class ShareRight:
    """The share of drafted tokens that were right; newer drafts weigh more."""

    def __init__(self) -> None:
        self._right, self._judged = _WEIGHT * _LIKELY, _WEIGHT

    @property
    def value(self) -> float:
        """The probability that a drafted token is right, if those before it are."""
        return self._right / self._judged

    def record(self, *, drafted: int, accepted: int) -> None:
        """Record a draft; of its wrong tokens only the first is judged."""
        self._right = _FORGETTING * self._right + accepted
        self._judged = _FORGETTING * self._judged + accepted + (accepted < drafted)


class Speculation:
    """What all answers of an engine share: the draft model, the measured seconds, and how often the draft model is right.

    Args:
        drafter: A draft model; None drafts from the prompt alone.
    """

    def __init__(self, drafter: Drafter | None = None) -> None:
        self.payoff = Payoff()
        self._drafter = drafter
        self._share = ShareRight()
        self._token_seconds = self._read_seconds = 0.0  # to draft a token, and to read one
        self._n_useless = 0  # requests in a row for which the draft model was not asked

    def start(self, prompt: NDArray[np.int32]) -> Drafts:
        """Return the drafts of a new answer to a prompt of these tokens `(n,)`."""
        if self._n_useless > _TRIES_AGAIN:
            self._share, self._n_useless = ShareRight(), 0
        self._n_useless += 1
        return Drafts(prompt, self)

    def ask_drafter(self, tokens: Sequence[int], n_remaining: int) -> list[int]:
        """Return what the draft model proposes after `tokens`; nothing if there is none, or if it does not pay.

        Args:
            tokens: The prompt and the answer.
            n_remaining: Most tokens that the answer may still get. They must save the time in which the prompt is read.
        """
        if self._drafter is None:
            return []
        length, saved = self.payoff.best_length(self._share.value, min(n_remaining, MAX_DRAFT), self._token_seconds)
        n_unread = self._drafter.count_unread(tokens)
        if not length or saved * n_remaining < self._read_seconds * n_unread:
            return []
        started = time.perf_counter()
        draft = self._drafter.propose(tokens, length)
        seconds = time.perf_counter() - started
        if n_unread > _MANY:
            self._read_seconds = _smooth(self._read_seconds, seconds / n_unread)
        else:
            self._token_seconds = _smooth(self._token_seconds, seconds / max(1, len(draft)))
        self._n_useless = 0
        return draft

    def judge_drafter(self, *, drafted: int, accepted: int) -> None:
        """Record how many tokens of the draft model's proposal were right."""
        self._share.record(drafted=drafted, accepted=accepted)


class Drafts:
    """The drafts of one answer.

    Args:
        prompt: Tokens of the prompt `(n,)`.
        speculation: What all answers of the engine share.
    """

    def __init__(self, prompt: NDArray[np.int32], speculation: Speculation) -> None:
        self._prompt: list[int] = prompt.tolist()
        self._speculation = speculation
        self._lookup = PromptLookup(self._prompt)
        self._share = ShareRight()  # of tokens from the prompt
        self._watched: int | None = None  # proposed by the prompt, but not computed
        self._is_from_prompt = True
        self._started = 0.0

    def propose(self, answer: Sequence[int], n_remaining: int) -> list[int]:
        """Return at most `n_remaining` tokens to compute after the last token of `answer`; none if that does not pay."""
        if self._watched is not None:
            self._share.record(drafted=1, accepted=int(answer[-1] == self._watched))
            self._watched = None
        found = self._lookup.propose(answer, min(n_remaining, MAX_DRAFT))
        self._is_from_prompt = bool(found)
        if found:
            length, _ = self._speculation.payoff.best_length(self._share.value, len(found))
            draft = found[:length]
            if not draft:
                self._watched = found[0]  # costs nothing, and shows when the answer begins to quote the prompt
        else:
            draft = self._speculation.ask_drafter([*self._prompt, *answer], n_remaining)
        self._started = time.perf_counter()
        return draft

    def learn(self, *, drafted: int, accepted: int, is_alone: bool) -> None:
        """Record a computed proposal.

        Args:
            drafted: Number of drafted tokens, perhaps 0.
            accepted: How many of them were right.
            is_alone: Whether the batch had no rows of other requests, so that its time tells about drafts.
        """
        if is_alone:
            self._speculation.payoff.record(1 + drafted, time.perf_counter() - self._started)
        if drafted and self._is_from_prompt:
            self._share.record(drafted=drafted, accepted=accepted)
        elif drafted:
            self._speculation.judge_drafter(drafted=drafted, accepted=accepted)


def _smooth(known: float, measured: float) -> float:
    """Return a moving average; `known` is 0 before the first measurement."""
    return known + _SMOOTHING * (measured - known) if known else measured
