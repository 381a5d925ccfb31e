"""PowerPoint files (.pptx): the text, the tables and the notes of each slide."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.documents.formats.archives import open_archive
from leanrag.documents.formats.parts import join_parts, markdown_table
from leanrag.types import Document

__all__ = ["read_slides"]


def read_slides(data: bytes, path: Path, _encoding: str | None = None) -> Document:
    """Read all slides. The title of a slide is a heading; its notes stand below its text."""
    pptx = require("pptx", extra="files", why="to read PowerPoint files")
    open_archive(data, path).close()
    presentation = pptx.Presentation(io.BytesIO(data))
    text, marks = join_parts(
        (f"slide {number}", "\n\n".join(filter(None, _blocks(slide))))
        for number, slide in enumerate(presentation.slides, start=1)
    )
    title = presentation.core_properties.title or ""
    return Document(text, id=path.as_posix(), title=title, kind="markdown", marks=marks)


def _blocks(slide: Any) -> Iterator[str]:
    title = slide.shapes.title
    if title is not None and title.text_frame.text.strip():
        yield f"## {' '.join(title.text_frame.text.split())}"
    for shape in _shapes(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if getattr(shape, "has_table", False):
            yield markdown_table([cell.text for cell in row.cells] for row in shape.table.rows)
        elif shape.has_text_frame:
            yield "\n".join(filter(None, (paragraph.text.strip() for paragraph in shape.text_frame.paragraphs)))
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text.strip()
        yield f"Notes: {notes}" if notes else ""


def _shapes(shapes: Any) -> Iterator[Any]:
    """Yield the shapes, those of groups too."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from _shapes(shape.shapes)
        else:
            yield shape
