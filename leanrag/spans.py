"""Spans of a text: the index of the first character, and one past the last."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Span", "join_spans", "merge_neighbours", "merge_spans", "trim_span"]

Span: TypeAlias = tuple[int, int]


def trim_span(text: str, start: int, end: int) -> Span | None:
    """Return the span without the white space around it; None if it has nothing else."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    end -= len(piece) - len(piece.rstrip())
    return (start, end) if start < end else None


def merge_spans(spans: Iterable[Span], *, joins_touching: bool = True) -> list[Span]:
    """Return the union of `spans` as disjoint spans in order; empty spans are left out.

    Args:
        spans: The spans.
        joins_touching: Whether a span that begins where another ends is joined with it.

    Example:
        >>> merge_spans([(5, 9), (0, 2), (1, 3), (9, 9)])
        [(0, 3), (5, 9)]
    """
    merged: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start < merged[-1][1] + joins_touching:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def merge_neighbours(text: str, spans: Iterable[Span]) -> list[Span]:
    """Return spans of `text` (disjoint, in order); those with only white space between them become one span.

    Example:
        >>> merge_neighbours("One. Two. Three.", [(0, 4), (5, 9), (11, 16)])
        [(0, 9), (11, 16)]
    """
    merged: list[Span] = []
    for start, end in spans:
        if merged and not text[merged[-1][1] : start].strip():
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def join_spans(text: str, spans: Iterable[Span]) -> tuple[str, list[int]]:
    r"""Return the spans of `text` (disjoint, in order) as one text, and the offset of each span in it.

    White space between two spans is kept. Other text between them becomes a line break or a space, if it contains one.

    Example:
        >>> join_spans("One. Two. Three.\nFour.", [(0, 4), (5, 9), (17, 22)])
        ('One. Two.\nFour.', [0, 5, 10])
    """
    pieces: list[str] = []
    starts: list[int] = []
    at, last = 0, None
    for start, end in spans:
        if last is not None:
            joint = _joint(text[last:start])
            pieces.append(joint)
            at += len(joint)
        starts.append(at)
        pieces.append(text[start:end])
        at, last = at + end - start, end
    return "".join(pieces), starts


def _joint(gap: str) -> str:
    if not gap.strip():
        return gap
    if "\n" in gap or "\r" in gap:
        return "\n"
    return " " if any(map(str.isspace, gap)) else ""
