"""The contents of a batch, and the tokens that were drawn from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.run import Run
from leanrag.llama.sampling import TokenScore

__all__ = ["Drawn", "Part", "Parts"]


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
    """The contents of a batch: first a row for each run in `writing`, then the rows of `others`.

    Attributes:
        writing: Runs with one pending token, greedy sampling and no drafted tokens.
        cells: The cells of their rows `(len(writing),)`.
        others: All other runs: prompts, drafted tokens, random sampling.
    """

    writing: list[Run]
    cells: NDArray[np.int64]
    others: list[Part]


@dataclass(slots=True)
class Drawn:
    """Runs whose last token was drawn but not yet published; `scores` waits for the scores of these tokens."""

    runs: list[Run]
    scores: Callable[[], list[TokenScore]]
