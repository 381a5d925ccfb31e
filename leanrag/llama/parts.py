"""The contents of a batch, and the tokens that were drawn from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.run import Run, Sequence
from leanrag.llama.sampling import TokenScore

__all__ = ["Computing", "Drawn", "Part", "Parts", "keep_shape"]


@dataclass(slots=True)
class Part:
    """The rows of one run in a batch."""

    run: Run
    tokens: NDArray[np.int32] | list[int]
    first_output: int  # index in `tokens` of the first token with logits
    outputs_start: int  # index of its logits among all outputs of the batch
    cells: NDArray[np.int64]


@dataclass(slots=True)
class Parts:
    """The contents of a batch: first a row for each of `sequences`, then the rows of `others`.

    Attributes:
        sequences: Those that have a row for one token.
        writing: The rows of runs with one pending token, greedy sampling and no drafted tokens. The other rows are pads, of
            sequences whose run has ended: they only keep the shape of the batch.
        cells: The cells of these rows `(len(sequences),)`.
        others: All other runs: prompts, drafted tokens, random sampling.
    """

    sequences: list[Sequence]
    writing: list[tuple[int, Run]]
    cells: NDArray[np.int64]
    others: list[Part]

    @classmethod
    def of(cls, sequences: list[Sequence], cells: NDArray[np.int64]) -> Parts:
        """Return the contents of a batch with a row for each of `sequences`, and no others yet."""
        writing = [(row, sequence.run) for row, sequence in enumerate(sequences) if sequence.run is not None]
        return cls(sequences, writing, cells, [])


@dataclass(frozen=True, slots=True)
class Computing:
    """A batch that was handed to llama.cpp, which returned this code and these error messages."""

    parts: Parts
    code: int
    complaint: str


@dataclass(slots=True)
class Drawn:
    """Runs whose last token was drawn but not yet published; `scores` waits for the scores of these tokens."""

    runs: list[Run]
    scores: Callable[[], list[TokenScore]]


def keep_shape(last: list[Sequence], writing: list[Sequence], n_free: int) -> list[Sequence]:
    """Return the sequences that get a row in a batch of rows that write one token each.

    If most sequences of the last such batch still write, they are all returned: a GPU computes a batch of another shape with a new
    graph, which takes longer than some rows that nobody needs.

    Args:
        last: The sequences of the last batch; of none if it had other rows.
        writing: The sequences that write.
        n_free: Cells that no run needs.
    """
    n_pads = len(last) - len(writing)
    if not 0 < n_pads <= min(len(writing), n_free):
        return writing
    return last if sum(sequence.run is not None for sequence in last) == len(writing) else writing
