"""What is compared: a claim of an answer, and a passage of a source."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from leanrag.grounding.cells import Cell
from leanrag.grounding.clauses import fine_segments
from leanrag.grounding.lexicon import NAME_QUESTIONS
from leanrag.grounding.measures import BOUNDS
from leanrag.grounding.reading import Token

__all__ = ["Claim", "Passage", "holds", "is_form"]


@dataclass(frozen=True)
class Claim:
    """What an answer says, with the question that it answers.

    Attributes:
        tokens: Of the answer's clause.
        question: Of the question.
        is_fragment: Whether the answer is no whole sentence, so that it says something only with the question.
        statement: The question as a statement with the answer in it, of a fragment; else the same as `tokens`.
    """

    tokens: tuple[Token, ...]
    question: tuple[Token, ...] = ()
    is_fragment: bool = False
    statement: tuple[Token, ...] = ()

    @functools.cached_property
    def whole(self) -> tuple[Token, ...]:
        """What is said, in one sentence."""
        return self.statement or self.tokens

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """All words of the answer's clause."""
        return frozenset(token.word for token in self.tokens)

    @functools.cached_property
    def segments(self) -> list[list[Token]]:
        """The stretches of what is said between pauses and conjunctions."""
        return fine_segments(self.whole)

    @property
    def asks_for_name(self) -> bool:
        """Whether the question asks who or what does something, or to whom it is done."""
        return bool(self.question) and self.question[0].word in NAME_QUESTIONS

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        """Content of the question."""
        return frozenset(token.base for token in self.question if token.is_content and token.word not in BOUNDS)


@dataclass(frozen=True)
class Passage:
    """Text of a source that may carry a claim.

    Attributes:
        tokens: Of the sentence, and of the sentence before it if this one speaks of it.
        context: Of what stands above it: headings, title, the question that it answers, the header of its table.
        elsewhere: Bases of content words of the other sentences of the sources.
        reply: -1 if it begins with "No", 1 if with "Yes", 0 otherwise.
        record: Of the lines of its record; empty for anything else.
        line: Which of them it is.
        cells: Of a row, under the names of their columns; empty for anything else.
        speaker: Content of the name that a turn of a talk begins with.
    """

    tokens: tuple[Token, ...]
    context: tuple[Token, ...] = ()
    elsewhere: frozenset[str] = frozenset()
    reply: int = 0
    record: tuple[Cell, ...] = ()
    line: int = 0
    cells: tuple[Cell, ...] = ()
    speaker: frozenset[str] = frozenset()

    @functools.cached_property
    def everything(self) -> tuple[Token, ...]:
        """The tokens and those of the context."""
        return (*self.tokens, *self.context)

    @functools.cached_property
    def all_bases(self) -> frozenset[str]:
        """What stands for all its words, those of the context and the names of its columns."""
        bases = (token.base for token in self.everything if token.kind != "pause")
        return frozenset(bases).union(*(cell.name for cell in self.cells))

    @functools.cached_property
    def record_bases(self) -> frozenset[str]:
        """Content of the other lines of its record."""
        others = (line for i, line in enumerate(self.record) if i != self.line)
        return frozenset[str]().union(*(line.name | line.bases for line in others))

    @functools.cached_property
    def segments(self) -> list[list[Token]]:
        """The stretches of its words between pauses and conjunctions."""
        return fine_segments(self.tokens)

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """All its words."""
        return frozenset(token.word for token in self.tokens)


def holds(bases: frozenset[str], token: Token) -> bool:
    """Whether a word, or another form of it, is among `bases`."""
    base = token.base
    if base in bases:
        return True
    if token.kind == "script" or token.is_name or len(base) < 4:
        return False
    return any(is_form(base, other) for other in bases)


def is_form(left: str, right: str) -> bool:
    """Whether two stems are forms of one word: "approv" and "approval"."""
    shared = min(len(left), len(right))
    if shared < 4 or left[:4] != right[:4] or left[-1:].isdigit() or right[-1:].isdigit():
        return False
    while left[:shared] != right[:shared]:
        shared -= 1
    return len(left) - shared <= 3 and len(right) - shared <= 3 and shared >= 0.6 * max(len(left), len(right))
