"""The token budget of the sources of a prompt, and the hits that repeat better hits."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from leanrag.errors import BudgetError, ConfigurationError
from leanrag.text import content_words
from leanrag.types import Hit

__all__ = ["TokenBudget", "is_near_duplicate", "nothing_fits", "without_repetitions"]

_Shingles: TypeAlias = frozenset[tuple[str, str, str]]
_REMEMBERED_CHARS = 2048  # longest text whose sequences of words are remembered


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How the window of a model is divided, in tokens of that model.

    Attributes:
        n_ctx: The window.
        answer: Reserved for the answer.
        fixed: Template, instruction and question: the prompt with no sources.
        limit: Most tokens of the sources; None for all tokens that remain.
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


def without_repetitions(hits: Sequence[Hit], overlap: float, question: str = "") -> tuple[list[Hit], list[Hit]]:
    """Return the hits that do not nearly repeat a better hit, and those that do.

    A hit that holds words of the question, or words with digits, which the better hit lacks does not repeat it: sections and
    rows made after one pattern differ in little else.
    """
    kept: list[Hit] = []
    repeated: list[Hit] = []
    known: list[tuple[str, _Shingles]] = []
    asked = set(content_words(question))
    for hit in hits:
        text = hit.chunk.text
        shingles = _shingles(text)
        if any(
            _repeats(text, shingles, other, others, overlap) and not _adds(text, other, asked)
            for other, others in known
        ):
            repeated.append(hit)
        else:
            kept.append(hit)
            known.append((text, shingles))
    return kept, repeated


def _adds(text: str, other: str, asked: set[str]) -> bool:
    """Whether a text holds words of the question that the other lacks."""
    return not (asked & set(content_words(text))) <= set(content_words(other))


def nothing_fits(needed: int, budget: int) -> BudgetError:
    """Return the error for a budget that is too small for any text of the sources."""
    return BudgetError(
        f"the sources may take {budget:,} tokens, and the least that can be shown takes {needed:,}. Raise "
        "`context_tokens`, lower `max_tokens`, or use a model with a larger window",
        needed=needed,
        available=budget,
    )


def is_near_duplicate(text: str, other: str, overlap: float) -> bool:
    """Return whether at least `overlap` of the three-word sequences of `text` stand in `other` too."""
    return _repeats(text, _shingles(text), other, _shingles(other), overlap)


def _repeats(text: str, shingles: _Shingles, other: str, others: _Shingles, overlap: float) -> bool:
    if not shingles:
        return text.strip() in other
    shared = 0 if shingles.isdisjoint(others) else len(shingles & others)  # most texts share nothing
    return shared >= overlap * len(shingles)


def _shingles(text: str) -> _Shingles:
    return (_shingles_again if len(text) <= _REMEMBERED_CHARS else _shingles_anew)(text)


def _shingles_anew(text: str) -> _Shingles:
    sequence = text.casefold().split()
    return frozenset(zip(sequence, sequence[1:], sequence[2:], strict=False))


_shingles_again = functools.lru_cache(maxsize=512)(_shingles_anew)  # the same chunks are found for many questions
