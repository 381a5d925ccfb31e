"""Drafts of the next tokens, copied from the prompt: an answer often quotes it, and then continues as the prompt does.

This is prompt lookup decoding (Saxena, 2023).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["PromptLookup"]

_NGRAM = 3  # tokens that must agree


class PromptLookup:
    """Proposes the next tokens of an answer; each request has its own object.

    Args:
        prompt: Tokens of the prompt.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens = list(prompt)
        self._n_prompt = len(self._tokens)
        self._ends: dict[tuple[int, ...], int] = {}  # an n-gram to where it last ended
        self._indexed = _NGRAM - 1

    def propose(self, answer: Sequence[int], at_most: int) -> list[int]:
        """Return at most `at_most` tokens that may follow `answer`; none if its last tokens occur nowhere before."""
        self._tokens += answer[len(self._tokens) - self._n_prompt :]
        for end in range(self._indexed + 1, len(self._tokens)):  # all but the last n-gram, which is looked up
            self._ends[tuple(self._tokens[end - _NGRAM : end])] = end
        self._indexed = max(self._indexed, len(self._tokens) - 1)
        found = self._ends.get(tuple(self._tokens[-_NGRAM:]))
        return [] if found is None else self._tokens[found : found + at_most]
