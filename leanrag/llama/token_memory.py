"""Tokens of texts without tokenizing again: most words were tokenized before."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence

__all__ = ["TokenMemory"]

_LONGEST = 64  # characters: a longer piece is not remembered
_MOST = 1 << 16  # most remembered pieces
_MOST_SPECIAL = 64  # pieces that are tokenized one by one

_Tokens = tuple[int, ...]


class TokenMemory:
    """Tokenizes texts and remembers the tokens of their words; any thread may call it.

    The tokens are exact: a text is cut only where no token can cover both sides, see `Vocabulary.parting`.

    Args:
        tokenize: Tokenizes a text anew, with or without control tokens.
        piece: Returns the bytes of a token.
        parting: Matches where a text is cut.
        control_texts: The texts of the control tokens.
    """

    def __init__(
        self,
        tokenize: Callable[[str, bool], list[int]],
        piece: Callable[[int], bytes],
        parting: re.Pattern[str],
        control_texts: Iterable[str],
    ) -> None:
        self._tokenize, self._piece, self._parting = tokenize, piece, parting
        self._known: dict[bool, dict[str, _Tokens]] = {False: {}, True: {}}  # with and without control tokens
        # The text of a control token changes how the text after it is split. A piece without its first character has none.
        first_characters = "".join({text[:1] for text in control_texts})
        self._may_be_control = re.compile(f"[{re.escape(first_characters)}]" if first_characters else r"(?!)")

    def __call__(self, text: str, parse_special: bool) -> list[int]:
        """Return the tokens of `text`, as `tokenize` returns them."""
        pieces = self._parting.split(text)
        if len(pieces) == 1 and len(text) > _LONGEST:  # as in scripts without spaces
            return self._tokenize(text, parse_special)
        found = list(map(self._known[parse_special].get, pieces))
        if None in found:
            learned = self._learn(
                [piece for piece, tokens in zip(pieces, found, strict=True) if tokens is None], parse_special
            )
            if learned is None:
                return self._tokenize(text, parse_special)
            found = [tokens or learned[piece] for piece, tokens in zip(pieces, found, strict=True)]
        return list(itertools.chain.from_iterable(filter(None, found)))

    def _learn(self, pieces: Sequence[str], parse_special: bool) -> dict[str, _Tokens] | None:
        """Tokenize new pieces and return their tokens; None if the whole text must be tokenized.

        Pieces without control tokens are tokenized in one call, the others one by one.
        """
        plain: list[str] = []
        special: list[str] = []
        for piece in dict.fromkeys(pieces):
            (special if self._may_be_control.search(piece) else plain).append(piece)
        if len(special) > _MOST_SPECIAL:
            return None
        learned: dict[str, _Tokens] = {}
        for group in [plain, *([piece] for piece in special)]:
            tokens = self._tokenize("".join(group), parse_special) if group else []
            # The bounds of pieces are bounds of tokens unless the tokenizer drops or adds text.
            stops = {end: i for i, end in enumerate(itertools.accumulate(map(len, map(self._piece, tokens))), 1)}
            start = end = 0
            for piece in group:
                end += len(piece.encode("utf-8", "replace"))
                stop = stops.get(end)
                if stop is None:
                    return None
                learned[piece] = tuple(tokens[start:stop])
                start = stop
            if start != len(tokens):
                return None
        self._remember({piece: learned[piece] for piece in plain}, (False, True))
        self._remember({piece: learned[piece] for piece in special}, (parse_special,))
        return learned

    def _remember(self, learned: dict[str, _Tokens], kinds: Iterable[bool]) -> None:
        short = {piece: tokens for piece, tokens in learned.items() if len(piece) <= _LONGEST}
        for kind in kinds:
            if len(self._known[kind]) + len(short) > _MOST:
                self._known[kind] = {}
            self._known[kind] |= short
