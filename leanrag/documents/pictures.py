"""Pages of PDF files as pictures. A child process draws each of them, within bounds of time and memory."""

from __future__ import annotations

import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanrag._optional import require
from leanrag.children import first_line, function_command
from leanrag.documents.formats.pdf import page_text
from leanrag.documents.parsing import limit_memory
from leanrag.errors import DocumentError
from leanrag.types import Document, locate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["draw_page", "find_page", "serve"]

_MOST_WIDTH, _MOST_HEIGHT = 1000, 1400  # pixels; an A4 page fills them
_SECONDS = 20.0
_PAGE = re.compile(r"page ([1-9]\d*)")


def find_page(document: Document, offset: int) -> int | None:
    """Return the number of the page of a PDF file that has an offset, from 1; None for other documents."""
    found = _PAGE.fullmatch(locate(document.marks, offset, offset + 1))
    return int(found[1]) if found and document.source and document.source.lower().endswith(".pdf") else None


def draw_page(document: Document, page: int) -> bytes:
    """Return a page of the file of a document as a PNG picture of at most 1000 by 1400 pixels.

    Raises:
        DocumentError: The file is gone, has other text than the document, cannot be drawn, or `pypdfium2` is not installed.
    """
    assert document.source is not None
    starts = [mark.start for mark in document.marks] + [len(document.text)]
    i = [mark.label for mark in document.marks].index(f"page {page}")
    text = document.text[starts[i] : starts[i + 1]].strip()
    try:
        child = subprocess.run(
            function_command("leanrag.documents.pictures", "serve"),
            input=first_line(path=document.source, page=page, text=text).encode("ascii"),
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failure(document, page, f"it takes more than {_SECONDS:g} seconds") from None
    if child.returncode or not child.stdout:
        reason = child.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise _failure(document, page, reason[:300] or "the process that draws it ended")
    return child.stdout


def _failure(document: Document, page: int, reason: str) -> DocumentError:
    return DocumentError(
        f"Page {page} of {document.id!r} cannot be drawn: {reason}. Its text can still be read", path=document.source
    )


# In the child process


def serve(path: str, page: int, text: str) -> None:
    """Write the picture of a page to standard output, if the page has this text; else end with the reason."""
    limit_memory()
    pdfium = require("pypdfium2", extra="files", why="to draw PDF files")
    try:
        pdf = pdfium.PdfDocument(Path(path).read_bytes())
        if not 1 <= page <= len(pdf) or page_text(pdf[page - 1]).strip() != text:
            sys.exit("the file has changed since it was added")
        picture = _draw(pdf[page - 1])
    except (OSError, MemoryError, pdfium.PdfiumError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.stdout.buffer.write(_to_png(picture))


def _draw(page: Any) -> NDArray[np.uint8]:
    """Return the pixels of a page: `(height, width, 3)`, red, green and blue."""
    width, height = page.get_size()
    scale = min(_MOST_WIDTH / max(width, 1), _MOST_HEIGHT / max(height, 1))
    pixels: NDArray[np.uint8] = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False).to_numpy()
    return pixels[:_MOST_HEIGHT, :_MOST_WIDTH]  # PDFium rounds up


def _to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return 8-bit RGB pixels as a PNG file (W3C, PNG specification, section 5)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + pixels[y].tobytes() for y in range(height))  # a row begins with its filter: none
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    blocks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in blocks
    )
