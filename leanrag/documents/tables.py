"""Tables in text: where they are, their header row, and the rows of files of separated values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from leanrag.documents.markdown_outline import FENCE, closes_fence
from leanrag.documents.outlines import iter_lines
from leanrag.spans import trim_span

__all__ = ["end_of_block", "iter_rows", "markdown_header", "values_header"]

_DELIMITER_ROW = re.compile(r"\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)+\|?\s*$")
_SIMPLE_RULE = re.compile(r"[ \t]*={2,}(?:[ \t]+={2,})+\s*$")  # of a simple table of reStructuredText
_SAMPLE_LINES = 40
_MIN_LINES = 4  # of a table that its file's name does not announce
_QUOTED = re.compile(r'"(?:[^"\r\n]|"")*"')
_VALUE = re.compile(r"[\"']?\s*(?:[-+]?[\d.,:/%€$£-]*\d[\d.,:/%€$£T Z-]*)?\s*[\"']?$")
_MAX_ROW_LINES = 20


def end_of_block(lines: Sequence[tuple[int, int, str]], i: int) -> int:
    """Return the line after the fenced block or table that starts at line `i`, `i` itself when none does."""
    if fence := FENCE.match(lines[i][2].rstrip("\r\n")):
        for j in range(i + 1, len(lines)):
            if closes_fence(fence[1], lines[j][2]):
                return j + 1
        return len(lines)
    if _is_simple_rule(lines[i][2]):
        rules = list(islice((j for j in range(i, len(lines)) if _is_simple_rule(lines[j][2])), 3))
        return rules[-1] + 1 if len(rules) > 1 else i
    is_table = lines[i][2].lstrip().startswith("|")
    if not is_table and "|" in lines[i][2] and i + 1 < len(lines):
        is_table = _is_delimiter(lines[i + 1][2])
    j = i
    while is_table and j < len(lines) and "|" in lines[j][2]:
        j += 1
    return j


def markdown_header(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the span of the header row of the block `start:end`, None if the block is not a table or has no header row."""
    lines = [(start + low, start + high) for low, high in iter_lines(text[start : min(end, start + 20_000)])]
    if lines and _is_simple_rule(text[slice(*lines[0])]):
        rules = [i for i, line in enumerate(lines) if _is_simple_rule(text[slice(*line)])]
        return trim_span(text, lines[0][1], lines[rules[1]][0]) if len(rules) > 2 else None
    if len(lines) < 2 or not _is_delimiter(text[slice(*lines[1])]):
        return None
    return trim_span(text, *lines[0])


def _is_simple_rule(line: str) -> bool:
    return len(line) < 1000 and _SIMPLE_RULE.match(line) is not None


def _is_delimiter(line: str) -> bool:
    return len(line) < 1000 and _DELIMITER_ROW.match(line) is not None


def values_header(text: str, name: str) -> tuple[int, int] | None:
    """Return the span of the row of column names, None if the text is not a table of separated values with such a row.

    Args:
        text: The whole text.
        name: Its file name or title: `.csv` and `.tsv` announce a table.
    """
    is_announced = name.lower().endswith((".csv", ".tsv", ".tab"))
    lines = []
    for start, end in iter_lines(text):
        if text[start:end].strip() and not text.startswith("#", start):
            lines.append((start, end))
        if len(lines) == _SAMPLE_LINES:
            break
    if len(lines) < (2 if is_announced else _MIN_LINES):
        return None
    rows = [_QUOTED.sub("", text[start:end].rstrip("\r\n")) for start, end in lines]
    separator = max("\t;|,", key=rows[0].count)
    columns = rows[0].count(separator)
    if not columns or (separator == "|" and text.lstrip().startswith("|")):
        return None
    if not is_announced:
        even = sum(row.count(separator) == columns for row in rows)
        is_prose = separator == "," and any(", " in row for row in rows)
        if is_prose or even < 0.9 * len(rows):
            return None
    header = text[lines[0][0] : lines[0][1]]
    if any(_VALUE.match(cell.strip()) for cell in header.strip("\r\n").split(separator)[: columns + 1] if cell.strip()):
        return None  # the first row has numbers: it is data
    return trim_span(text, *lines[0])


def iter_rows(text: str, start: int, end: int) -> Iterator[int]:
    """Yield where the rows of separated values begin; a quoted cell may hold line breaks."""
    lines = [(start + low, start + high) for low, high in iter_lines(text[start:end])]
    is_odd = [text.count('"', low, high) % 2 == 1 for low, high in lines]
    i = 0
    while i < len(lines):
        yield lines[i][0]
        closing = i
        if is_odd[i]:
            closing = next((j for j in range(i + 1, min(i + _MAX_ROW_LINES, len(lines))) if is_odd[j]), i)
        i = closing + 1
