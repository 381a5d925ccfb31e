"""Which text the prompt holds: a token budget, a packer that keeps to it, and a report of what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from leanrag.errors import BudgetError, ConfigurationError
from leanrag.protocols import SourceCounter
from leanrag.text import split_sentences, words
from leanrag.types import DroppedItem, Hit, PackedItem, Packing

__all__ = ["GreedyPacker", "TokenBudget", "drop_last", "is_near_duplicate"]


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How a model's window is shared out, in tokens of that model.

    Attributes:
        n_ctx: The window.
        answer: Reserved for the answer.
        fixed: Template, instruction and question: the prompt with no sources.
        limit: Most that the sources may take; None for all that is left.
    """

    n_ctx: int
    answer: int
    fixed: int
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("answer", self.answer), ("limit", self.limit)):
            if value is not None and value < 1:
                raise ConfigurationError(f"the `{name}` share of the budget must be at least 1 token, got {value}")
        if self.fixed + self.answer > self.n_ctx:
            raise BudgetError(
                f"question and template take {self.fixed:,} tokens and {self.answer:,} are reserved for the answer, which is "
                f"more than the window of {self.n_ctx:,}. Shorten the question, lower `max_tokens`, or use a larger window",
                needed=self.fixed + self.answer,
                available=self.n_ctx,
            )

    @property
    def prompt(self) -> int:
        """Most tokens of the whole prompt."""
        return self.fixed + self.sources

    @property
    def sources(self) -> int:
        """Most tokens of the sources."""
        left = self.n_ctx - self.answer - self.fixed
        return left if self.limit is None else min(left, self.limit)


class GreedyPacker:
    """Packs hits by relevance: what does not fit is skipped, what comes after it still may.

    The best hit is always in, trimmed to its leading sentences when it does not fit. A hit that nearly repeats a packed one
    is dropped. Room that is left at the end takes the leading sentences of the best hit that did not fit.

    Args:
        duplicate_overlap: Share of a hit's three-word sequences that a packed hit may hold before it counts as a repetition.
        min_trim_tokens: Do not fill the rest with less than this.
    """

    def __init__(self, *, duplicate_overlap: float = 0.8, min_trim_tokens: int = 32) -> None:
        if not 0 < duplicate_overlap <= 1:
            raise ConfigurationError(f"`duplicate_overlap` must be in (0, 1], got {duplicate_overlap!r}")
        self._duplicate_overlap = duplicate_overlap
        self._min_trim_tokens = min_trim_tokens

    def pack(self, hits: Sequence[Hit], budget: int, count_source: SourceCounter) -> Packing:
        """Return a packing of at most `budget` tokens.

        Args:
            hits: Best first.
            budget: Tokens for all sources together.
            count_source: Tokens of one source as the prompt shows it.

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
            raise BudgetError(
                f"the sources may take {budget:,} tokens, and the first sentence of the best one takes {needed:,}. Raise "
                "`context_tokens`, lower `max_tokens`, or use a model with a larger window",
                needed=needed,
                available=budget,
            )
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


def drop_last(packing: Packing) -> Packing:
    """Return the packing without its last item, for a prompt that turned out larger than the sum of its parts."""
    *kept, last = packing.items
    return replace(
        packing,
        items=tuple(kept),
        dropped=(DroppedItem(last.hit, "budget", last.tokens), *packing.dropped),
        tokens=packing.tokens - last.tokens,
    )


def is_near_duplicate(text: str, other: str, overlap: float) -> bool:
    """Return whether at least `overlap` of the three-word sequences of `text` stand in `other` too."""
    shingles = _shingles(text)
    return len(shingles & _shingles(other)) >= overlap * len(shingles) if shingles else text.strip() in other


def _shingles(text: str) -> set[tuple[str, ...]]:
    sequence = words(text)
    return set(zip(sequence, sequence[1:], sequence[2:], strict=False))


def _item(number: int, hit: Hit, length: int, tokens: int, action: str) -> PackedItem:
    chunk = hit.chunk
    return PackedItem(
        number=number,
        hit=hit,
        start=chunk.start,
        end=chunk.start + length,
        text=chunk.text[:length],
        tokens=tokens,
        action="kept" if action == "kept" else "trimmed",
    )
