"""Rich text files (.rtf)."""

from __future__ import annotations

from pathlib import Path

from leanrag._optional import require
from leanrag.errors import DocumentError
from leanrag.types import Document

__all__ = ["read_rich_text"]


def read_rich_text(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read the text without its formatting; a row of a table is a line with its cells between `|`.

    Raises:
        DocumentError: The file is not rich text.
        MissingDependencyError: The extra `files` is not installed.
    """
    striprtf = require("striprtf.striprtf", extra="files", why="to read rich text files")
    if not data.lstrip().startswith(b"{\\rtf"):
        raise DocumentError(
            f"{str(path)!r} is not rich text: it does not begin with '{{\\rtf'. Give it the suffix of its format",
            path=path,
        )
    text = striprtf.rtf_to_text(data.decode("latin-1"), encoding=encoding or "cp1252", errors="replace")
    return Document(text.replace("\0", "").strip("\n") + "\n", id=path.as_posix(), kind="text")
