"""Word files (.docx): headings, paragraphs, lists and tables as Markdown."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.documents.formats.archives import open_archive
from leanrag.documents.formats.parts import join_parts, markdown_table
from leanrag.types import Document

__all__ = ["read_word"]

_HEADING = re.compile(r"Heading (\d)$")
_WRAPPERS = ("}sdt", "}sdtContent", "}smartTag", "}customXml", "}ins")  # elements around blocks


def read_word(data: bytes, path: Path, _encoding: str | None = None) -> Document:
    """Read the body of the document. Each heading begins a section; a row of a table is a line."""
    docx = require("docx", extra="files", why="to read Word files")
    open_archive(data, path).close()
    word = docx.Document(io.BytesIO(data))
    text, marks = join_parts(_parts(word))
    title = word.core_properties.title or ""
    return Document(text, id=path.as_posix(), title=title, kind="markdown", marks=marks)


def _parts(word: Any) -> Iterator[tuple[str, str]]:
    lines: list[str] = []  # of a list
    for block in _blocks(word.element.body, word):
        label, text = "", ""
        if hasattr(block, "rows"):
            text = _table(block)
        else:
            label, text, is_item = _paragraph(block)
            if is_item:
                lines.append(text)
                continue
        if lines:
            yield "", "\n".join(lines)
            lines = []
        yield label, text
    yield "", "\n".join(lines)


def _blocks(element: Any, word: Any) -> Iterator[Any]:
    """Yield the paragraphs and tables of an element in their order."""
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    for child in element:
        if not isinstance(child.tag, str):  # a comment
            continue
        if child.tag.endswith("}p"):
            yield Paragraph(child, word)
        elif child.tag.endswith("}tbl"):
            yield Table(child, word)
        elif child.tag.endswith(_WRAPPERS):
            yield from _blocks(child, word)


def _paragraph(paragraph: Any) -> tuple[str, str, bool]:
    """Return the label, the text and whether it is an item of a list."""
    text = paragraph.text.strip()
    style = (paragraph.style.name if paragraph.style is not None else "") or ""
    heading = _HEADING.match(style)
    if text and (heading or style == "Title"):
        words = " ".join(text.split())
        return f"section {words}", f"{'#' * min(int(heading[1]), 6) if heading else '#'} {words}", False
    properties = paragraph._p.pPr
    is_item = bool(text) and (style.startswith("List") or (properties is not None and properties.numPr is not None))
    return "", f"- {text}" if is_item else text, is_item


def _table(table: Any) -> str:
    rows = []
    for row in table.rows:
        cells = {id(cell._tc): cell.text for cell in row.cells}  # a cell over several columns comes several times
        rows.append(list(cells.values()))
    return markdown_table(rows)
