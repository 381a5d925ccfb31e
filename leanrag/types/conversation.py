"""What was said before a question: the exchanges of a conversation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Exchange", "SourceText"]


@dataclass(frozen=True, slots=True)
class SourceText:
    """A source as a prompt showed it.

    Attributes:
        number: Its number in the prompt, from 1.
        title: Title of the document.
        text: The text that was shown.
        document_id: The document.
    """

    number: int
    title: str
    text: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question of a conversation and its answer.

    Attributes:
        question: The words of the user.
        answer: The answer as the model wrote it, without marks that were added; or the notice that the sources do not answer.
        standalone: The question in words that need no conversation; "" if the words of the user need none.
        sources: What the prompt showed.
        quotes: The quotes that support the answer, in the order of their marks.
        is_refusal: Whether the answer is that the sources do not answer.
    """

    question: str
    answer: str
    standalone: str = ""
    sources: tuple[SourceText, ...] = ()
    quotes: tuple[str, ...] = ()
    is_refusal: bool = False
