"""Excel files (.xlsx): the rows of each sheet as a table of Markdown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.documents.formats.archives import open_archive
from leanrag.documents.formats.parts import join_parts, markdown_table
from leanrag.types import Document

__all__ = ["read_sheets"]


def read_sheets(data: bytes, path: Path, _encoding: str | None = None) -> Document:
    """Read all sheets: the values, not the formulas. The first row of a sheet is the head of its table."""
    openpyxl = require("openpyxl", extra="files", why="to read Excel files")
    open_archive(data, path).close()
    workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    try:
        text, marks = join_parts(_parts(workbook))
        title = workbook.properties.title or ""
    finally:
        workbook.close()
    return Document(text, id=path.as_posix(), title=title, kind="markdown", marks=marks)


def _parts(workbook: Any) -> Iterator[tuple[str, str]]:
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # what a file says of its size may be wrong
        table = markdown_table([_shown(value) for value in row] for row in sheet.iter_rows(values_only=True))
        yield f"sheet {sheet.title}", f"## {sheet.title}\n\n{table}" if table else ""


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)
