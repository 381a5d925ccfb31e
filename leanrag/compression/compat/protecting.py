"""Protected spans among the tokens that the package keeps: whole ones, at the same number of tokens."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from leanrag.evidence.protection import Protection
from leanrag.evidence.units import split_units

__all__ = ["protect_tokens"]


def protect_tokens(
    texts: Sequence[str],
    starts: Sequence[int],
    tiles: NDArray[np.int64],
    kept: NDArray[np.bool_],
    values: NDArray[np.float64],
    whole: NDArray[np.bool_],
    protection: Protection,
) -> NDArray[np.bool_]:
    """Return the tokens that stay, with the protected spans of each sentence, row or block of which a word stays.

    As many tokens of least value as these spans add are dropped, as long as there are tokens that nothing protects.

    Args:
        texts: The documents.
        starts: Where each begins in the joined text.
        tiles: First character of each token in the joined text, and one past the last, `(n, 2)`.
        kept: The tokens that the package keeps, `(n,)`.
        values: The values of the tokens, `(n,)`.
        whole: The tokens that always stay, `(n,)`.
        protection: What is protected.
    """
    needed = np.zeros(len(tiles), np.bool_)
    for text, begin in zip(texts, starts, strict=True):
        units = split_units(text)
        unit_starts = [unit.start for unit in units]
        inside = (tiles[:, 0] < begin + len(text)) & (tiles[:, 1] > begin)
        alive = set()
        for low, high in tiles[inside & kept].tolist():
            if any(map(str.isalnum, text[max(0, low - begin) : high - begin])):
                alive.add(_unit_at(unit_starts, high - begin - 1))
        required = protection.required(text)
        for start, end in protection.spans(text):
            is_asked = any(low < end and start < high for low, high in required)
            if is_asked or alive.intersection(range(_unit_at(unit_starts, start), _unit_at(unit_starts, end - 1) + 1)):
                needed |= (tiles[:, 0] < begin + end) & (tiles[:, 1] > begin + start)
    result = kept | needed
    surplus = int(result.sum() - kept.sum())
    free = np.nonzero(kept & ~needed & ~whole)[0]
    result[free[np.argsort(values[free], kind="stable")[:surplus]]] = False
    return result


def _unit_at(starts: Sequence[int], position: int) -> int:
    return max(0, bisect.bisect_right(starts, position) - 1)
