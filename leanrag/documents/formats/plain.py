"""Plain text and source code, kept exactly as decoded, so that offsets are the file's own."""

from __future__ import annotations

from pathlib import Path

from leanrag.documents.decoding import decode
from leanrag.types import Document

__all__ = ["read_code", "read_text"]


def read_text(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read a text without markup."""
    return Document(decode(data, path, encoding), id=path.as_posix(), kind="text")


def read_code(data: bytes, path: Path, encoding: str | None = None) -> Document:
    """Read source code or a configuration."""
    return Document(decode(data, path, encoding), id=path.as_posix(), kind="code")
