"""The reader itself as a check of the verdict: does it say yes when it is asked whether a text says something?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from leanrag.protocols import ScoresText
from leanrag.types import Message, Prompt

__all__ = ["ReaderEntailment"]

QUESTION = "{text}\n\nDoes the text above say the following? {claim}\nAnswer with Yes or No."
"""What the model is asked."""


class ReaderEntailment:
    """Asks a language model whether a text carries a claim: an `EntailmentChecker`.

    The probability is that of "Yes" beside that of "No". The smallest models say little by it; measure yours before you rely on it.

    Args:
        model: The model.
        is_chat: Whether the model reads messages; False for a model that completes text.
    """

    def __init__(self, model: ScoresText, *, is_chat: bool) -> None:
        self._model = model
        self._is_chat = is_chat

    def check(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """Return for each `(text, claim)` the probability, in (0, 1), that the text says so.

        Raises:
            GenerationError: The model failed, or a text is longer than its window.
        """
        if not pairs:
            return []
        conditions = [self._prompt(text, claim) for text, claim in pairs]
        scores = self._model.score_many([(condition, word) for condition in conditions for word in ("Yes", "No")])
        return [
            1 / (1 + math.exp(min(700.0, no.total - yes.total)))
            for yes, no in zip(scores[::2], scores[1::2], strict=True)
        ]

    def _prompt(self, text: str, claim: str) -> Prompt:
        question = QUESTION.format(text=text, claim=claim)
        return [Message("user", question)] if self._is_chat else f"{question}\n"
