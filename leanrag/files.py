"""Files that appear whole or not at all, what tells one from another, and where those that can be made again lie."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from leanrag.errors import StorageError

__all__ = ["cache_dir", "file_ends", "sha256_of", "unwritable", "whole_file"]

_BLOCK = 1 << 20


def cache_dir() -> Path:
    """Return the folder of the cache: `LEANRAG_CACHE_DIR`, or the user's cache directory of this system."""
    if folder := os.environ.get("LEANRAG_CACHE_DIR"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("leanrag", appauthor=False))


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """A hidden name beside `target` to write to; put in its place when all went well, removed otherwise.

    Raises:
        StorageError: It cannot be written.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        part.touch(exist_ok=False)
        yield part
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(target: Path, reason: object) -> StorageError:
    """Return the error for a file that cannot be written."""
    return StorageError(
        f"cannot write {str(target)!r} ({reason}). Check the folder, its permissions and the space left", path=target
    )


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, hexadecimal.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_ends(path: Path) -> bytes:
    """Return the first and the last MiB of a file, all of a smaller one: header, vocabulary, and weights of the last layer."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        ends = stream.read(_BLOCK)
        if size > _BLOCK:
            stream.seek(max(size - _BLOCK, _BLOCK))
            ends += stream.read(_BLOCK)
    return ends
