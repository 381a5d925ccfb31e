"""Jupyter notebooks to Markdown: texts as they are, code and printed results as fenced blocks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.errors import DocumentError
from leanrag.text import fence_code
from leanrag.types import Document

__all__ = ["read_notebook"]

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MAX_OUTPUT_CHARS = 2000  # of one cell: longer output is a dump


def read_notebook(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read the cells of a notebook in order. Pictures and other rich results are left out.

    Raises:
        DocumentError: The file is damaged.
    """
    try:
        notebook = json.loads(decode(data, path, encoding))
        cells = notebook["cells"] if "cells" in notebook else [c for s in notebook["worksheets"] for c in s["cells"]]
        text = "\n\n".join(part for cell in cells for part in _parts(cell, _language(notebook)) if part.strip())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DocumentError(
            f"{str(path)!r} is a damaged notebook: {error}. Save it again with Jupyter", path=path
        ) from error
    return Document(f"{text}\n" if text else "", id=path.as_posix(), kind="markdown")


def _language(notebook: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    language = notebook.get("metadata", {}).get("language_info", {}).get("name", "")
    return language if re.fullmatch(r"[\w+#.-]{1,30}", str(language)) else ""


def _parts(cell: Mapping[str, object], language: str) -> Iterator[str]:
    source = _joined(cell.get("source", cell.get("input", ""))).strip("\n")
    if cell.get("cell_type") != "code":
        yield source
        return
    if source.strip():
        yield fence_code(source, language)
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        data = output.get("data", {})
        text = _ESCAPES.sub(
            "", _joined(output.get("text") or data.get("text/markdown") or data.get("text/plain") or "")
        )
        if text.strip() and len(text) <= _MAX_OUTPUT_CHARS:
            yield fence_code(text.strip("\n"))


def _joined(source: object) -> str:
    return "".join(map(str, source)) if isinstance(source, list) else str(source)
