"""A kind of document: its files, and questions with the text that a prompt must hold to answer them."""

from __future__ import annotations

import functools
import random
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Draft", "Generator", "Half", "Kind", "KindQuestion", "contains_span", "draw", "pick", "plain", "spread"]

Half = Literal["tuned", "held-out"]

_EMPHASIS = re.compile(r"[*_`]")
_SPACE = re.compile(r"[\s|#>]+")


@dataclass(frozen=True, slots=True)
class KindQuestion:
    """A question about one kind of document.

    Attributes:
        text: The question. It paraphrases the text that answers it.
        answer: The shortest right answer.
        spans: Verbatim pieces of the files. A prompt can answer the question if it holds all of them.
        files: Names of the files that the spans are from.
        key: The span that no other section has; search has found the answer when a hit holds it. Defaults to the last span.
        least: The least text that is understood and holds the spans: whole sentences. Defaults to the spans. A budget that is
            too small for it is not measured.
    """

    text: str
    answer: str
    spans: tuple[str, ...]
    files: tuple[str, ...]
    key: str = ""
    least: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", self.key or self.spans[-1])
        object.__setattr__(self, "least", self.least or "\n".join(self.spans))


Draft: TypeAlias = tuple[Mapping[str, str], Sequence[KindQuestion]]
"""What a generator makes: the text of each file by its name, and all questions that it knows about them."""

Generator: TypeAlias = Callable[[random.Random], Draft]


@dataclass(frozen=True, slots=True)
class Kind:
    """Documents of one kind.

    Attributes:
        name: Of the kind.
        half: Whether constants of the library may be tuned on it.
        files: Text by file name. The suffix chooses the loader.
        questions: About these files.
    """

    name: str
    half: Half
    files: Mapping[str, str]
    questions: tuple[KindQuestion, ...]


def draw(name: str, half: Half, generate: Generator, *, n: int, seed: int) -> Kind:
    """Return a kind with `n` of the questions that its generator makes, spread over the files; the same for the same seed."""
    files, questions = generate(random.Random(f"{name}/{seed}"))
    return Kind(name, half, files, spread(questions, n))


def spread(questions: Sequence[KindQuestion], n: int) -> tuple[KindQuestion, ...]:
    """Return `n` of the questions at equal distances, all if there are fewer."""
    if len(questions) <= n:
        return tuple(questions)
    return tuple(questions[i * len(questions) // n] for i in range(n))


def pick(source: random.Random, values: Iterable[str], count: int) -> list[str]:
    """Return `count` different values in random order."""
    return source.sample(list(values), count)


@functools.lru_cache(1 << 16)
def plain(text: str) -> str:
    """Return `text` without markup signs and with single spaces: how a span and a prompt are compared."""
    return _SPACE.sub(" ", _EMPHASIS.sub("", unicodedata.normalize("NFC", text))).strip()


def contains_span(text: str, span: str) -> bool:
    """Return whether `span` stands in `text`, both without markup, and not as a part of longer words or numbers."""
    text, span = plain(text), plain(span)
    start = text.find(span)
    while start >= 0:
        end = start + len(span)
        if not _joins(text[start - 1 : start], span[0]) and not _joins(span[-1], text[end : end + 1]):
            return True
        start = text.find(span, start + 1)
    return False


def _joins(before: str, after: str) -> bool:
    """Return whether two characters belong to one word of a script that separates words by spaces."""
    return before.isascii() and after.isascii() and before.isalnum() and after.isalnum()
