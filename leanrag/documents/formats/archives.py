"""Files that are zip archives of parts: Office files, OpenDocument files and books."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from zipfile import ZipFile

from leanrag.errors import DocumentError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["MAX_UNPACKED_BYTES", "encrypted_error", "open_archive", "read_xml"]

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
_MAX_PARTS = 100_000
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # of encrypted Office files, and of those from before 2007
_ENCRYPTED = 0x1  # in the flags of a part


def open_archive(data: bytes, path: Path) -> ZipFile:
    """Open an archive whose parts are not encrypted and have a bounded size. Nothing can be read beyond the sizes that it says.

    Raises:
        DocumentError: The file is no such archive.
    """
    if data.startswith(_COMPOUND_FILE):
        raise encrypted_error(path, "or has a format from before 2007")
    archive = ZipFile(io.BytesIO(data))
    parts = archive.infolist()
    if any(part.flag_bits & _ENCRYPTED for part in parts):
        raise encrypted_error(path)
    size = sum(part.file_size for part in parts)
    if size > MAX_UNPACKED_BYTES or len(parts) > _MAX_PARTS:
        raise DocumentError(
            f"{str(path)!r} is too large: its {len(parts):,} parts have {size:,} bytes when they are unpacked, at most"
            f" {MAX_UNPACKED_BYTES:,} bytes in {_MAX_PARTS:,} parts are read. Split the file",
            path=path,
        )
    return archive


def encrypted_error(path: Path, alternative: str = "") -> DocumentError:
    """Return the error for a file that needs a password."""
    also = f", {alternative}" if alternative else ""
    return DocumentError(
        f"{str(path)!r} is encrypted{also}. Open it with its password, save a copy without a password in the format that"
        f" its name says ({path.suffix.lower()}), and add the copy",
        path=path,
    )


def read_xml(archive: ZipFile, name: str) -> Element:
    """Return the root element of a part."""
    return ElementTree.fromstring(archive.read(name))  # noqa: S314 - expat bounds what entities expand to
