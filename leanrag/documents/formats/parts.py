"""What readers of files with pages, slides or sheets share: joined parts with their marks, and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from leanrag.types import Mark

__all__ = ["join_parts", "markdown_table"]

_BETWEEN = "\n\n"


def join_parts(parts: Iterable[tuple[str, str]]) -> tuple[str, tuple[Mark, ...]]:
    r"""Return the texts of the parts as one text, and a mark for each label.

    Args:
        parts: The label of each part, "" for none, and its text. Parts without text are left out.

    Example:
        >>> join_parts([("page 1", "One."), ("page 2", " "), ("page 3", "Three.")])
        ('One.\n\nThree.\n', (Mark(start=0, label='page 1'), Mark(start=6, label='page 3')))
    """
    texts: list[str] = []
    marks: list[Mark] = []
    start = 0
    for label, text in parts:
        text = text.strip("\n")
        if not text.strip():
            continue
        if label:
            marks.append(Mark(start, label))
        texts.append(text)
        start += len(text) + len(_BETWEEN)
    return _BETWEEN.join(texts) + "\n" * bool(texts), tuple(marks)


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    r"""Return rows as a table of Markdown, the first of them as its head; empty rows and columns at the end are left out.

    Example:
        >>> markdown_table([["a", "b", ""], ["", "", ""], ["1", "2|3", ""]])
        '| a | b |\n| --- | --- |\n| 1 | 2\\|3 |'
    """
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    filled = [row for row in cells if any(row)]
    width = max((i + 1 for row in filled for i, cell in enumerate(row) if cell), default=0)
    lines = [f"| {' | '.join([*row, *[''] * width][:width])} |" for row in filled]
    return "\n".join([*lines[:1], *["|" + " --- |" * width][: len(lines)], *lines[1:]])
