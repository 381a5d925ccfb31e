"""Drafts of the next tokens, copied from the prompt: an answer often quotes it, and then continues as the prompt does.

This is prompt lookup decoding (Saxena, 2023). A draft costs extra rows in the batch. The model's own draws check it, so the answer
is the same as without drafts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_DRAFT", "PromptLookup"]

_NGRAM = 3  # tokens that must agree
MAX_DRAFT = 4  # tokens proposed
_TRIAL = 8  # proposals before drafting may stop
_MIN_ACCEPTED = 0.3  # share of drafted tokens that must be right


class PromptLookup:
    """Proposes the next tokens of an answer; each request has its own object.

    Args:
        prompt: Tokens of the prompt `(n,)`.
    """

    def __init__(self, prompt: NDArray[np.int32]) -> None:
        self._tokens: list[int] = prompt.tolist()
        self._n_prompt = len(self._tokens)
        self._ends: dict[tuple[int, ...], int] = {}  # an n-gram to where it last ended
        self._indexed = _NGRAM - 1
        self._proposals = self._drafted = self._accepted = 0

    def propose(self, answer: Sequence[int]) -> list[int]:
        """Return tokens that may follow `answer`; none if its last tokens occur nowhere before, or if most drafts were wrong."""
        if self._proposals >= _TRIAL and self._accepted < _MIN_ACCEPTED * self._drafted:
            return []
        self._tokens += answer[len(self._tokens) - self._n_prompt :]
        for end in range(self._indexed + 1, len(self._tokens)):  # all but the last n-gram, which is looked up
            self._ends[tuple(self._tokens[end - _NGRAM : end])] = end
        self._indexed = max(self._indexed, len(self._tokens) - 1)
        found = self._ends.get(tuple(self._tokens[-_NGRAM:]))
        return [] if found is None else self._tokens[found : found + MAX_DRAFT]

    def learn(self, *, drafted: int, accepted: int) -> None:
        """Record how many drafted tokens of a proposal were right."""
        self._proposals += drafted > 0
        self._drafted += drafted
        self._accepted += accepted
