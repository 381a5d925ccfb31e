"""OpenDocument files: texts (.odt), presentations (.odp) and spreadsheets (.ods) as Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

from leanrag.documents.formats.archives import encrypted_error, open_archive, read_xml
from leanrag.documents.formats.parts import join_parts, markdown_table
from leanrag.types import Document

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["read_opendocument"]

_OFFICE, _TEXT, _TABLE, _DRAWING = (
    f"{{urn:oasis:names:tc:opendocument:xmlns:{name}:1.0}}" for name in ("office", "text", "table", "drawing")
)
_LEFT_OUT = frozenset((f"{_TEXT}tracked-changes", f"{_TEXT}table-of-content", f"{_OFFICE}annotation"))
_MAX_REPEATED = 1000  # equal cells or rows: empty ones fill a sheet up to its largest size


def read_opendocument(data: bytes, path: Path, _encoding: str | None = None) -> Document:
    """Read headings, paragraphs, lists and tables; each section, slide or sheet begins with its mark."""
    with open_archive(data, path) as archive:
        names = set(archive.namelist())
        if "META-INF/manifest.xml" in names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise encrypted_error(path)
        text, marks = join_parts(_parts(read_xml(archive, "content.xml"), itertools.count(1)))
        title = _title(archive) if "meta.xml" in names else ""
    return Document(text, id=path.as_posix(), title=title, kind="markdown", marks=marks)


def _title(archive: ZipFile) -> str:
    titles = read_xml(archive, "meta.xml").iter("{http://purl.org/dc/elements/1.1/}title")
    return " ".join("".join(element.itertext()) for element in titles)


def _parts(parent: Element, slides: Iterator[int], *, is_sheet: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each block below an element."""
    for element in parent:
        tag = element.tag
        if tag in _LEFT_OUT:
            continue
        if tag == f"{_TEXT}h":
            words = " ".join(_words(element).split())
            level = element.get(f"{_TEXT}outline-level", "1")
            yield f"section {words}" if words else "", f"{'#' * min(int(level), 6)} {words}" if words else ""
        elif tag == f"{_TEXT}p":
            yield "", _words(element).strip()
        elif tag == f"{_TEXT}list":
            items = (" ".join(_words(item).split()) for item in element.iter(f"{_TEXT}p"))
            yield "", "\n".join(f"- {item}" for item in items if item)
        elif tag == f"{_TABLE}table":
            name, table = element.get(f"{_TABLE}name", ""), markdown_table(_rows(element))
            yield (f"sheet {name}", f"## {name}\n\n{table}" if table else "") if is_sheet else ("", table)
        elif tag == f"{_DRAWING}page":
            texts = (text for _, text in _parts(element, slides))
            yield f"slide {next(slides)}", "\n\n".join(text for text in texts if text)
        else:
            yield from _parts(element, slides, is_sheet=tag == f"{_OFFICE}spreadsheet")


def _words(element: Element) -> str:
    """Return the text of an element with its spaces, tabs and line breaks; a note stands in brackets."""
    parts = [element.text or ""]
    for child in element:
        if child.tag == f"{_TEXT}s":
            parts.append(" " * min(int(child.get(f"{_TEXT}c", "1")), _MAX_REPEATED))
        elif child.tag == f"{_TEXT}tab":
            parts.append("\t")
        elif child.tag == f"{_TEXT}line-break":
            parts.append("\n")
        elif child.tag == f"{_TEXT}note":
            parts += [f" [{_words(body).strip()}]" for body in child.iter(f"{_TEXT}note-body")]
        elif child.tag not in _LEFT_OUT:
            parts.append(_words(child))
        parts.append(child.tail or "")
    return "".join(parts)


def _rows(table: Element) -> Iterator[list[str]]:
    for row in table.iter(f"{_TABLE}table-row"):
        cells: list[str] = []
        for cell in row:
            text = " ".join(_words(part) for part in cell.iter(f"{_TEXT}p"))
            cells += [text] * min(int(cell.get(f"{_TABLE}number-columns-repeated", "1")), _MAX_REPEATED)
        repeated = int(row.get(f"{_TABLE}number-rows-repeated", "1"))
        yield from [cells] * (min(repeated, _MAX_REPEATED) if any(cells) else 1)
