"""The cells of a row, each with the name of its column."""

from __future__ import annotations

import csv
import functools
import re
from dataclasses import dataclass

from leanrag.grounding.reading import Token
from leanrag.lines import COLUMN_GAP

__all__ = ["Cell", "part_cells", "part_labelled_cells", "split_cells"]

_DELIMITERS = "\t;,"
_MOST_WORDS = 4  # of the name of a column
_UNIT = re.compile(r"\s*[(\[][^()\[\]]*[)\]]|(?<=\w)(?:[ _]|, ?)(?:EUR|USD|GBP|CHF|€|\$|£|%)(?!\w)")


@dataclass(frozen=True)
class Cell:
    """One cell of a row, or one line of a record.

    Attributes:
        name: Content words of the name of the column or line.
        tokens: Of the cell, or of the line.
    """

    name: frozenset[str]
    tokens: tuple[Token, ...]

    @functools.cached_property
    def bases(self) -> frozenset[str]:
        """Content of it."""
        return frozenset(token.base for token in self.tokens if token.is_content)


_LABELLED = re.compile(r"[^\W\d][^\d:]{0,38}(?::\s|\s\S*\d)")


def part_labelled_cells(line: str) -> str:
    """Return a line with a semicolon between its columns if each begins with a label ("Due: 2 May   Net 14.00").

    Example:
        >>> part_labelled_cells("Due: 2 May    Net 14.00")
        'Due: 2 May; Net 14.00'
    """
    cells = COLUMN_GAP.split(line.strip()) if "  " in line and "\n" not in line.strip() else []
    return "; ".join(cells) if len(cells) > 1 and all(map(_LABELLED.match, cells)) else line


def part_cells(row: str, header: str) -> str:
    """Return a row of comma-separated cells with a space behind each comma, so that numbers stay apart.

    Example:
        >>> part_cells("P-7,90,2023-10-03", "sensor,battery,calibrated")
        'P-7, 90, 2023-10-03'
    """
    if not _TIGHT.search(row) or header.startswith("|"):
        return row
    cells = split_cells(row, header)
    is_by_commas = min(row.count(","), header.count(",")) >= len(cells) - 1 > 0
    return ", ".join(cell for _, cell in cells) if is_by_commas else row


_TIGHT = re.compile(r"\d,\S")


def split_cells(row: str, header: str) -> list[tuple[str, str]]:
    """Return the pairs (name of the column, cell) of a row; empty if the two lines are not of one table.

    Example:
        >>> split_cells("| Kiln | 12 EUR | 20 EUR |", "| Item | Members | Guests |")
        [('Item', 'Kiln'), ('Members', '12 EUR'), ('Guests', '20 EUR')]
        >>> split_cells("Kiln;12;20", "item;members;guests")
        [('item', 'Kiln'), ('members', '12'), ('guests', '20')]
        >>> split_cells("Kiln      12     20", "Item      Members (EUR)     Guests (EUR)")
        [('Item', 'Kiln'), ('Members', '12'), ('Guests', '20')]
    """
    row, header = row.strip(), header.strip()
    if "\n" in row or "\n" in header:
        return []
    if header.startswith("|") and row.startswith("|"):
        names, cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in (header, row))
    elif COLUMN_GAP.search(header):
        names, cells = ([cell.strip() for cell in COLUMN_GAP.split(line)] for line in (header, row))
    else:
        delimiter = max(_DELIMITERS, key=header.count)
        if delimiter not in header:
            return []
        names, cells = (
            next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) for line in (header, row)
        )
        if len(names) / 2 <= len(cells) < len(names):  # the last cells are empty, and left out
            names = names[: len(cells)]
    if sum(bool(name.strip("0123456789.,")) for name in names) < 2:
        return []  # lines with a name and a number each
    if header.startswith("-") or "=" in header or max(len(name.split()) for name in names) > _MOST_WORDS:
        return []  # options, settings and other terms, with what is said of them
    names = [_UNIT.sub("", name).replace("_", " ").strip() for name in names]
    return list(zip(names, cells, strict=True)) if len(names) == len(cells) > 1 else []
