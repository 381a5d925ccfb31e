"""Greedy draws for many sequences at once: the most probable token of each row of logits, and how sure the model was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.sampling import TokenScore, score_tokens

__all__ = ["Rows"]

T = TypeVar("T")

_MAX_THREADS = 8
_WORTH_SHARING = 2**17  # logits: for fewer, waking another thread takes longer than the work
_BLOCK = 4  # rows scored by one call: threads wait less for the interpreter's lock, and a core's cache holds them


class Rows:
    """Works on rows of logits with several threads where there are many; NumPy lets them run together.

    What a row gives does not depend on the rows beside it, nor on the threads.

    Args:
        n_vocab: Columns of a row.
        capacity: Most rows of one draw.
        threads: Threads that may be used.
    """

    def __init__(self, n_vocab: int, capacity: int, threads: int) -> None:
        self._n_vocab, self._capacity = n_vocab, capacity
        self._threads = min(_MAX_THREADS, threads)
        self._kept: NDArray[np.float32] | None = None
        self._pool: ThreadPoolExecutor | None = None

    def draw(self, logits: NDArray[np.float32], n: int) -> list[int]:
        """Return the most probable token, the first of equals, of each of the first `n` rows of `logits`."""

        def work(part: range) -> list[int]:
            tokens: list[int] = logits[part.start : part.stop].argmax(axis=1).tolist()
            return tokens

        return self._share(work, range(n))

    def draw_and_keep(self, logits: NDArray[np.float32], n: int) -> tuple[list[int], NDArray[np.float32]]:
        """Return what `draw` does, and a copy of the rows, valid until the next call."""
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
        """Return the scores of `tokens`, one for each of `rows` of `logits`."""

        def work(part: range) -> list[TokenScore]:
            scores = []
            for start in range(part.start, part.stop, _BLOCK):
                block = slice(start, min(start + _BLOCK, part.stop))
                scores += score_tokens(logits[list(rows[block])], tokens[block])
            return scores

        return self._share(work, range(len(rows)))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    def _share(self, work: Callable[[range], list[T]], rows: range) -> list[T]:
        """Do `work` on parts of the rows, and return what they gave, in order."""
        n = len(rows)
        n_parts = min(self._threads, n, n * self._n_vocab // _WORTH_SHARING)
        if n_parts < 2:
            return work(rows)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads - 1, "leanrag rows")
        parts = [rows[n * part // n_parts : n * (part + 1) // n_parts] for part in range(n_parts)]
        try:
            others = [self._pool.submit(work, part) for part in parts[1:]]
        except RuntimeError:  # the interpreter ends, and takes no more work
            return work(rows)
        return work(parts[0]) + [value for other in others for value in other.result()]
