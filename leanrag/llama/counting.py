"""Counts of tokens without tokenizing again: most words were counted before."""

from __future__ import annotations

import re

import numpy as np

from leanrag.llama.chat import encode_text
from leanrag.llama.vocabulary import Vocabulary

__all__ = ["TokenCounts"]

_LONGEST = 64  # a longer piece is not remembered
_MOST = 1 << 16  # most remembered pieces


class TokenCounts:
    """Counts the tokens of texts and remembers the counts of words; any thread may call it.

    The counts are exact: a text is split only where no token can cover both sides, see `Vocabulary.parting`.

    Args:
        vocabulary: Vocabulary of the model.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, int] = {}
        self._parting = vocabulary.parting
        # The text of a control token changes how the text after it is split. A text without its first character has none.
        first_characters = "".join({vocabulary.text(token)[:1] for token in vocabulary.control_tokens})
        self._may_be_control = re.compile(f"[{re.escape(first_characters)}]" if first_characters else r"(?!)")

    def __call__(self, text: str) -> int:
        """Return the number of tokens that `encode_text` makes of `text`."""
        if self._parting is None or self._may_be_control.search(text):
            return len(encode_text(text, self._vocabulary))
        pieces = self._parting.split(text)
        counts = list(map(self._known.get, pieces))
        total = sum(filter(None, counts))
        if None in counts:
            total += self._learn([piece for piece, count in zip(pieces, counts, strict=True) if count is None])
        return total

    def _learn(self, pieces: list[str]) -> int:
        """Tokenize new pieces in one call, remember the count of each, and return the number of their tokens."""
        tokens = encode_text("".join(pieces), self._vocabulary)
        ends = np.cumsum([len(self._vocabulary.piece(token)) for token in tokens])
        bounds = np.cumsum([len(piece.encode("utf-8", "replace")) for piece in pieces])
        last_tokens = np.searchsorted(ends, bounds)  # index of the last token of each piece
        # The bounds of pieces are bounds of tokens unless the tokenizer dropped or added text.
        if len(tokens) and last_tokens[-1] < len(ends) and (ends[last_tokens] == bounds).all():
            if len(self._known) + len(pieces) > _MOST:
                self._known = {}
            counts = np.diff(last_tokens, prepend=-1).tolist()
            self._known |= {piece: count for piece, count in zip(pieces, counts, strict=True) if len(piece) <= _LONGEST}
        return len(tokens)
