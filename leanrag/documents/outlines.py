"""The outline of a text: a tree of sections, made from headings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["MAX_DEPTH", "Heading", "Section", "clean_label", "iter_lines", "nest_headings"]

Heading: TypeAlias = tuple[int, int, str]
"""Where it starts, its level (1 is outermost), its words."""

MAX_DEPTH = 8
_MAX_LABEL = 200  # characters
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_MARKS = re.compile(r"\{#[^}]*\}\s*$|[*`]|(?<!\w)_|_(?!\w)")


@dataclass(slots=True)
class Section:
    """A span with a name; `children` lie in it, in order and without overlap."""

    start: int
    end: int
    label: str = ""
    children: list[Section] = field(default_factory=list)


def nest_headings(headings: Iterable[Heading], end: int) -> Section:
    """Nest headings by level; a section ends where the next of its level or a lower one starts."""
    root = Section(0, end)
    open_sections: list[tuple[int, Section]] = [(0, root)]
    for start, level, label in headings:
        while open_sections[-1][0] >= level:
            open_sections.pop()[1].end = start
        section = Section(start, end, label)
        open_sections[-1][1].children.append(section)
        open_sections.append((level, section))
    return root


def iter_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the `(start, end)` of each line, its newline included."""
    start = 0
    for newline in re.finditer(r"\r\n|\r|\n", text):
        yield start, newline.end()
        start = newline.end()
    if start < len(text):
        yield start, len(text)


def clean_label(label: str) -> str:
    """Return the words of a heading without marks of Markdown."""
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", label[: 2 * _MAX_LABEL])).split())[:_MAX_LABEL]
