"""Files that gzip compressed: `guide.md.gz` contains `guide.md`."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from leanrag.errors import DocumentError

__all__ = ["GZIP_SUFFIX", "unpack", "unpack_head"]

GZIP_SUFFIX = ".gz"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS  # 16: a gzip header and its checksum, as zlib defines


def unpack(data: bytes, path: Path, max_bytes: int) -> bytes:
    """Return the content of a compressed file. No more than `max_bytes` and one byte are unpacked.

    Raises:
        DocumentError: The file is damaged, or its content is larger than `max_bytes`.
    """
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(max_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(
            f"{str(path)!r} is damaged or not a gzip file ({error}). Compress the original file again, or add the original"
            " file",
            path=path,
        ) from error
    if len(content) > max_bytes:
        raise DocumentError(
            f"{str(path)!r} is too large: it has more than {max_bytes:,} bytes when it is unpacked. Split the original file,"
            " or read it with `leanrag.documents.load_file(path, max_bytes=...)` and add the document",
            path=path,
        )
    return content


def unpack_head(head: bytes, max_bytes: int) -> bytes:
    """Return up to `max_bytes` of the content of a compressed file, from its first bytes.

    Raises:
        zlib.error: The bytes do not begin a gzip file.
    """
    return zlib.decompressobj(_GZIP_WINDOW).decompress(head, max_bytes)
