"""Greedy draws for many sequences at once: the most probable token of each row of logits, and its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.sampling import TokenScore, score_token, score_tokens

__all__ = ["Rows"]

T = TypeVar("T")

_MAX_THREADS = 8
_WORTH_SHARING = 2**19  # logits: with fewer, waking another thread takes longer than the work
_BLOCK = 3 * 2**18  # logits scored by one NumPy call: with fewer, threads wait for the interpreter's lock


class Rows:
    """Draws and scores tokens of many rows of logits, with several threads if there are many rows.

    NumPy releases the interpreter's lock, so the threads run at the same time. The result of a row depends neither on the other
    rows nor on the number of threads.

    Args:
        n_vocab: Number of logits in a row.
        capacity: Most rows of a call of `draw_and_keep`.
        threads: Threads that may be used.
    """

    def __init__(self, n_vocab: int, capacity: int, threads: int) -> None:
        self._n_vocab, self._capacity = n_vocab, capacity
        self._threads = min(_MAX_THREADS, threads)
        self._kept: NDArray[np.float32] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def draw(self, logits: NDArray[np.float32], n: int) -> list[int]:
        """Return the most probable token of each of the first `n` rows of `logits`; among equal tokens, the lowest id."""
        if n == 1:  # after a computation the caches are cold: each further call takes longer than its work
            return [int(logits[0].argmax())]

        def work(part: range) -> list[int]:
            tokens: list[int] = logits[part.start : part.stop].argmax(axis=1).tolist()
            return tokens

        return self._share(work, range(n))

    def draw_and_keep(self, logits: NDArray[np.float32], n: int) -> tuple[list[int], NDArray[np.float32]]:
        """Return the tokens that `draw` returns, and a copy of the rows, valid until the next call."""
        if self._kept is None:
            self._kept = np.empty((self._capacity, self._n_vocab), np.float32)
        kept = self._kept

        def work(part: range) -> list[int]:
            rows = kept[part.start : part.stop]
            rows[:] = logits[part.start : part.stop]
            tokens: list[int] = rows.argmax(axis=1).tolist()
            return tokens

        return self._share(work, range(n)), kept[:n]

    def score(self, logits: NDArray[np.float32], rows: Sequence[int], tokens: Sequence[int]) -> list[TokenScore]:
        """Return the scores of `tokens`; `rows` has the row of `logits` for each token."""
        if len(rows) == 1:
            return [score_token(logits[rows[0]], tokens[0])]
        return self._share(lambda part: _score(logits, rows, tokens, part), range(len(rows)))

    def score_meanwhile(
        self, logits: NDArray[np.float32], rows: Sequence[int], tokens: Sequence[int]
    ) -> Callable[[], list[TokenScore]]:
        """Start `score` in other threads if there are many rows, and return a function that waits for the scores."""
        n = len(rows)
        n_parts = min(self._threads, n * self._n_vocab // _WORTH_SHARING)
        futures = self._submit(lambda part: _score(logits, rows, tokens, part), _split(range(n), n_parts))
        if futures is None:
            return lambda: _score(logits, rows, tokens, range(n))
        return lambda: [score for future in futures for score in future.result()]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _share(self, work: Callable[[range], list[T]], rows: range) -> list[T]:
        """Do `work` on parts of the rows in several threads, and return all results in order."""
        parts = _split(rows, min(self._threads, len(rows), len(rows) * self._n_vocab // _WORTH_SHARING))
        others = self._submit(work, parts[1:])
        if others is None:
            return work(rows)
        return work(parts[0]) + [value for other in others for value in other.result()]

    def _submit(self, work: Callable[[range], list[T]], parts: Sequence[range]) -> list[Future[list[T]]] | None:
        """Start `work` on each part in threads; return None if `parts` is empty or the interpreter exits."""
        if not parts:
            return None
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, "leanrag rows")
        try:
            return [self._pool.submit(work, part) for part in parts]
        except RuntimeError:  # the interpreter exits and starts no new threads
            return None


def _split(rows: range, n_parts: int) -> list[range]:
    """Cut `rows` into `n_parts` ranges of about the same length."""
    n = len(rows)
    return [rows[n * part // n_parts : n * (part + 1) // n_parts] for part in range(n_parts)]


def _score(logits: NDArray[np.float32], rows: Sequence[int], tokens: Sequence[int], part: range) -> list[TokenScore]:
    """Return the scores of `part` of the tokens."""
    scores = []
    n_rows = max(1, _BLOCK // logits.shape[1])
    for start in range(part.start, part.stop, n_rows):
        numbers = rows[start : min(start + n_rows, part.stop)]
        first, last = numbers[0], numbers[-1]
        is_consecutive = list(numbers) == list(range(first, last + 1))  # a slice avoids a copy
        block = logits[first : last + 1] if is_consecutive else logits[list(numbers)]
        scores += score_tokens(block, tokens[start : start + len(numbers)])
    return scores
