"""The packer of whole hits: the best first, as long as they fit."""

from __future__ import annotations

from collections.abc import Sequence

from leanrag.checks import check_share
from leanrag.evidence.budget import is_near_duplicate, nothing_fits
from leanrag.protocols import SourceCounter
from leanrag.text import split_sentences
from leanrag.types import DroppedItem, Hit, PackAction, PackedItem, Packing, Segment

__all__ = ["GreedyPacker", "trim"]


class GreedyPacker:
    """Packs whole hits by relevance: what does not fit is skipped, what comes after it still may.

    The best hit is always in, trimmed to its leading sentences when it does not fit. A hit that nearly repeats a packed one
    is dropped. Room that is left at the end takes the leading sentences of the best hit that did not fit.

    Args:
        duplicate_overlap: Share of a hit's three-word sequences that a packed hit may hold before it counts as a repetition.
        min_trim_tokens: Do not fill the rest with less than this.
    """

    def __init__(self, *, duplicate_overlap: float = 0.8, min_trim_tokens: int = 32) -> None:
        check_share(open_ends="0", duplicate_overlap=duplicate_overlap)
        self._duplicate_overlap = duplicate_overlap
        self._min_trim_tokens = min_trim_tokens

    def pack(
        self,
        hits: Sequence[Hit],
        budget: int,
        count_source: SourceCounter,
        *,
        question: str = "",  # noqa: ARG002 - hits come in the order of their worth for it
    ) -> Packing:
        """Return a packing of at most `budget` tokens.

        Args:
            hits: Best first.
            budget: Tokens for all sources together.
            count_source: Tokens of one source as the prompt shows it.
            question: Not looked at.

        Raises:
            BudgetError: Not even the first sentence of the best hit fits.
        """
        items: list[PackedItem] = []
        dropped: list[DroppedItem] = []
        left = budget
        for hit in hits:
            tokens = count_source(len(items) + 1, hit.chunk.title, hit.chunk.text)
            if any(is_near_duplicate(hit.chunk.text, item.text, self._duplicate_overlap) for item in items):
                dropped.append(DroppedItem(hit, "duplicate", tokens))
            elif tokens <= left:
                items.append(_item(len(items) + 1, hit, len(hit.chunk.text), tokens, "kept"))
                left -= tokens
            elif not items:
                items.append(self._trim_best(hit, left, count_source))
                left -= items[0].tokens
            else:
                dropped.append(DroppedItem(hit, "budget", tokens))
        skipped = next((d for d in dropped if d.reason == "budget"), None)
        if skipped is not None and left >= self._min_trim_tokens:
            trimmed = trim(skipped.hit, len(items) + 1, left, count_source)
            if trimmed is not None and trimmed.tokens >= self._min_trim_tokens:
                items.append(trimmed)
                dropped.remove(skipped)
                left -= trimmed.tokens
        return Packing(tuple(items), tuple(dropped), budget, budget - left)

    def _trim_best(self, hit: Hit, budget: int, count_source: SourceCounter) -> PackedItem:
        item = trim(hit, 1, budget, count_source)
        if item is None:
            _, end = split_sentences(hit.chunk.text)[0]
            needed = count_source(1, hit.chunk.title, hit.chunk.text[:end])
            raise nothing_fits(needed, budget)
        return item


def trim(hit: Hit, number: int, budget: int, count_source: SourceCounter) -> PackedItem | None:
    """Return the most leading sentences of `hit` that fit `budget` tokens, None when not even one does."""
    ends = [end for _, end in split_sentences(hit.chunk.text)]
    best, low, high = None, 0, len(ends) - 1
    while low <= high:  # tokens grow with the text
        middle = (low + high) // 2
        tokens = count_source(number, hit.chunk.title, hit.chunk.text[: ends[middle]])
        if tokens <= budget:
            best, low = _item(number, hit, ends[middle], tokens, "trimmed"), middle + 1
        else:
            high = middle - 1
    return best


def _item(number: int, hit: Hit, length: int, tokens: int, action: PackAction) -> PackedItem:
    chunk = hit.chunk
    segment = Segment(0, length, number - 1, chunk.start, chunk.start + length)
    return PackedItem(number, hit, chunk.text[:length], (segment,), tokens, action)
