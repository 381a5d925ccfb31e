"""PDF files: the text of each page, through PDFium."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.documents.formats.archives import encrypted_error
from leanrag.documents.formats.parts import join_parts
from leanrag.errors import DocumentError
from leanrag.types import Document

__all__ = ["page_text", "read_pdf"]

_HYPHEN = re.compile(r"[\ufffe\x02](?:\r?\n)?")  # how PDFium writes a hyphen at the end of a line
_LINE_END = re.compile(r"[ \t]*\r?\n")


def read_pdf(data: bytes, path: Path, _encoding: str | None = None) -> Document:
    """Read the text of each page; words that are cut at the end of a line are joined. Pictures are not read.

    Raises:
        DocumentError: The file is encrypted, or has no text.
        MissingDependencyError: The extra `files` is not installed.
    """
    pdfium = require("pypdfium2", extra="files", why="to read PDF files")
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        if error.err_code == pdfium.raw.FPDF_ERR_PASSWORD:
            raise encrypted_error(path) from error
        raise
    try:
        count, title = len(pdf), pdf.get_metadata_value("Title").strip("\0 \n")
        text, marks = join_parts(_pages(pdf))
    finally:
        pdf.close()
    if not text:
        raise DocumentError(
            f"{str(path)!r} has {count} pages without text; perhaps they are scanned pictures. Recognize their text first,"
            " for example with `ocrmypdf`, and add the result",
            path=path,
        )
    return Document(text, id=path.as_posix(), title=title, kind="text", marks=marks)


def _pages(pdf: Any) -> Iterator[tuple[str, str]]:
    for i in range(len(pdf)):
        page = pdf[i]
        text = page_text(page)
        page.close()
        yield f"page {i + 1}", text


def page_text(page: Any) -> str:
    """Return the text of a page of PDFium."""
    text_page = page.get_textpage()
    text = text_page.get_text_range()
    text_page.close()
    return _LINE_END.sub("\n", _HYPHEN.sub("", text)).replace("\0", "")
