"""How many tokens a text makes, without making them: most words were seen before."""

from __future__ import annotations

import re

import numpy as np

from leanrag.llama.chat import encode_text
from leanrag.llama.vocabulary import Vocabulary

__all__ = ["TokenCounts"]

_LONGEST = 64  # characters of a piece that is remembered
_MOST = 1 << 16  # pieces remembered


class TokenCounts:
    """Counts the tokens of texts word by word, and remembers words. Any thread may call.

    Exact, because it parts a text only where no token can reach across: `Vocabulary.parting`.

    Args:
        vocabulary: Of the model.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._known: dict[str, int] = {}
        self._parting = vocabulary.parting
        # The text of a control token changes how the rest is read; without what it begins with there is none.
        begins = "".join({vocabulary.text(token)[:1] for token in vocabulary.control_tokens})
        self._may_be_control = re.compile(f"[{re.escape(begins)}]" if begins else r"(?!)")

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
        """Return the tokens of pieces, in the order of their text; they can be read in one go, for each can be parted off."""
        tokens = encode_text("".join(pieces), self._vocabulary)
        ends = np.cumsum([len(self._vocabulary.piece(token)) for token in tokens])
        bounds = np.cumsum([len(piece.encode("utf-8", "replace")) for piece in pieces])
        places = np.searchsorted(ends, bounds)
        if len(tokens) and places[-1] < len(ends) and (ends[places] == bounds).all():  # nothing was left out or put in
            if len(self._known) + len(pieces) > _MOST:
                self._known = {}
            counts = np.diff(places, prepend=-1).tolist()
            self._known |= {piece: count for piece, count in zip(pieces, counts, strict=True) if len(piece) <= _LONGEST}
        return len(tokens)
