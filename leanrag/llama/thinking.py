"""A budget for the thoughts of a reasoning model: when they have used it up, they are ended, and the model answers."""

from __future__ import annotations

import collections
import copy

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.sampling import Chooser
from leanrag.llama.vocabulary import TextDecoder, Vocabulary
from leanrag.pending import ThoughtFilter
from leanrag.protocols import GenerateOptions

__all__ = ["ThoughtBudget"]

_ANSWER_OPENINGS = {  # text of a control token of the model: what stands between a thought and its answer
    "<|channel|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|begin|>": "<|end|><|begin|>assistant<|content|>",
    "<|open|>": "<|close|>think<|sep|><|open|>response<|sep|>",
}


class ThoughtBudget:
    """Draws tokens for a model that may think, and ends its thoughts with the model's own closing tag.

    Thoughts end after `options.thinking_tokens`, tag included; or, if that is None, after half of `options.max_tokens`. A thought
    also ends when the model would end its text inside it. Thoughts are not ended if there are no tokens for the tag.

    Args:
        choose: Draws each token.
        vocabulary: The vocabulary of the model.
        options: The limits.
        closing: The closing tag of the thought that the prompt opens; None if it opens none.
        choose_answer: Draws the tokens after the thought that the prompt opens, under a grammar. Then the answer begins with the
            first token after the closing tag.
    """

    def __init__(
        self,
        choose: Chooser,
        vocabulary: Vocabulary,
        options: GenerateOptions,
        closing: str | None,
        choose_answer: Chooser | None = None,
    ) -> None:
        self._choose, self._vocabulary, self._options = choose, vocabulary, options
        self._choose_answer, self._is_answering = choose_answer, False
        budget = options.thinking_tokens
        self._budget = options.max_tokens // 2 if budget is None else budget
        self._thoughts = ThoughtFilter(begins_in_thought=closing is not None, closing=closing or "</think>")
        self._decode = TextDecoder()
        self._forced: collections.deque[int] = collections.deque()
        self._n_drawn = self._n_thoughts = 0

    @property
    def n_allowed(self) -> int:
        """Most tokens of the text, by what is known now: an answer without thoughts cannot use their tokens."""
        if not (self._thoughts.has_answer or self._is_answering):
            return self._options.reserved_tokens
        return min(self._options.reserved_tokens, self._n_thoughts + self._options.max_tokens)

    def __call__(self, logits: NDArray[np.float32]) -> int:
        """Return the chosen token for `logits` `(n_vocab,)`."""
        self._n_drawn += 1
        if self._choose_answer is not None and self._thoughts.closing is None and not self._forced:
            self._is_answering = True
            return self._choose_answer(logits)
        token = self._forced.popleft() if self._forced else self._draw(logits)
        self._thoughts.part(self._decode(self._vocabulary.piece(token)))
        if not self._thoughts.has_answer:
            self._n_thoughts = self._n_drawn
        return token

    def _draw(self, logits: NDArray[np.float32]) -> int:
        closing = self._thoughts.closing
        if closing is None:
            return self._choose(logits)
        ending = self._ending(closing)
        n_tokens = self._n_drawn - 1 + len(ending)
        is_possible = n_tokens < self._options.reserved_tokens
        if is_possible and n_tokens >= self._budget:
            self._forced.extend(ending)
        else:
            token = self._draw_thought(logits)
            if not (is_possible and self._vocabulary.is_end(token)):
                return token
            self._forced.extend(ending)
        return self._forced.popleft()

    def _draw_thought(self, logits: NDArray[np.float32]) -> int:
        """Return a token; under a grammar, not a token that has the end of the closing tag and the beginning of an answer."""
        token = self._choose(logits)
        while self._choose_answer is not None and self._begins_answer(token):
            logits = logits.copy()
            logits[token] = -np.inf
            token = self._choose(logits)
        return token

    def _begins_answer(self, token: int) -> bool:
        thoughts = copy.copy(self._thoughts)
        thoughts.part(self._vocabulary.piece(token).decode("utf-8", "replace"))
        return thoughts.has_answer

    def _ending(self, closing: str) -> list[int]:
        """Return the tokens that end a thought and begin the answer."""
        vocabulary = self._vocabulary
        text = f"\n{closing}\n\n"
        for token, opening in _ANSWER_OPENINGS.items():
            if opening.startswith(closing) and vocabulary.is_control_text(token):
                text = opening
        return vocabulary.tokenize(text, parse_special=True)
