"""Where the text of an HTML page is collected: lines with collapsed white space, and tables."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Cell", "Table", "Writer"]

_MAX_COLUMNS = 200


class Writer:
    """Collects text with collapsed white space; breaks and leading marks wait for the next text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._newlines = 0
        self._space = False
        self.lead = ""

    def break_line(self, newlines: int) -> None:
        """Begin a new line before the next text, after a blank line if `newlines` is 2."""
        self._newlines = max(self._newlines, newlines)
        self._space = False

    def write(self, text: str) -> None:
        """Add inline text."""
        words = text.split()
        if not words:
            self._space = self._space or bool(text)
            return
        self._space = self._space or text[0].isspace()
        if self._parts and self._newlines:
            self._parts.append("\n" * self._newlines)
        elif self._parts and self._space and not self.lead:
            self._parts.append(" ")
        self._parts.append(self.lead + " ".join(words))
        self._newlines, self.lead, self._space = 0, "", text[-1].isspace()

    def write_block(self, block: str) -> None:
        """Add `block` as it is, with blank lines around it."""
        self.break_line(2)
        if self._parts:
            self._parts.append("\n" * self._newlines)
        self._parts.append(self.lead + block)
        self._newlines, self.lead, self._space = 2, "", False

    def word_before(self) -> str:
        """Return the end of the text if the next text would touch it, else ""."""
        if self._newlines or self._space or self.lead or not self._parts:
            return ""
        return self._parts[-1].rsplit(None, 1)[-1][-32:]

    def text(self) -> str:
        """Return what was written."""
        return "".join(self._parts)


@dataclass(slots=True)
class Cell:
    """A cell of a table and how many columns and rows it spans."""

    writer: Writer
    is_header: bool
    columns: int = 1
    rows: int = 1


class Table:
    """The rows of a table. `has_blocks`: it lays out a page, with blocks in its cells."""

    def __init__(self) -> None:
        self.rows: list[list[Cell]] = []
        self.header_rows = 0
        self.in_cell = False
        self.has_blocks = False

    def open_row(self, *, is_header: bool) -> None:
        """Begin a row; those of a table's head are `is_header`."""
        self.rows.append([])
        self.header_rows += is_header and self.header_rows == len(self.rows) - 1
        self.in_cell = False

    def open_cell(self, cell: Cell) -> None:
        """Begin a cell of the last row."""
        if not self.rows:
            self.rows.append([])
        self.rows[-1].append(cell)
        self.in_cell = True

    def write_to(self, out: Writer) -> None:
        """Write the rows as lines of Markdown; a table that lays out a page is written as the blocks in its cells."""
        if self.has_blocks:
            for cell in (cell.writer.text() for row in self.rows for cell in row):
                if cell:
                    out.write_block(cell)
            return
        headers = self.header_rows
        if not headers and self.rows and self.rows[0] and all(cell.is_header for cell in self.rows[0]):
            headers = max(1, min(max(cell.rows for cell in self.rows[0]), len(self.rows)))
        grid = self._grid(headers)
        head, body = grid[:headers], [row for row in grid[headers:] if any(row)]
        lines = [_line(row) for row in body]
        if any(map(any, head)):
            titles = _join_headers(head)
            lines = [_line(titles), "|" + " --- |" * len(titles), *lines]
        if lines:
            out.write_block("\n".join(lines))

    def _grid(self, headers: int) -> list[list[str]]:
        """Return the texts of the rows; a cell that spans rows stands in each of them, so that each row can be read alone."""
        grid: list[list[str]] = []
        spans: dict[int, tuple[int, str]] = {}  # column -> rows that a cell above still covers, its text
        for i, cells in enumerate(self.rows):
            row: list[str] = []
            for cell in cells:
                _take_spans(row, spans)
                text = " ".join(cell.writer.text().split()).replace("|", "\\|")
                for j in range(min(cell.columns, _MAX_COLUMNS - len(row))):
                    shown = text if j == 0 or i < headers else ""
                    if cell.rows > 1:
                        spans[len(row)] = (cell.rows - 1, shown)
                    row.append(shown)
            _take_spans(row, spans)
            grid.append(row)
        return grid


def _take_spans(row: list[str], spans: dict[int, tuple[int, str]]) -> None:
    while len(row) in spans:
        column = len(row)
        rows, text = spans.pop(column)
        if rows > 1:
            spans[column] = (rows - 1, text)
        row.append(text)


def _join_headers(rows: list[list[str]]) -> list[str]:
    """Return one title a column: the titles of all header rows above it, without repeats."""
    columns = max(map(len, rows))
    return [" ".join(dict.fromkeys(row[j] for row in rows if j < len(row) and row[j])) for j in range(columns)]


def _line(row: list[str]) -> str:
    return f"| {' | '.join(row)} |"
