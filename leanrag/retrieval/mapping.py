"""Files that the system maps into memory."""

from __future__ import annotations

import mmap
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["checksum_of", "map_file"]


def map_file(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file, which are read when they are used.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is empty.
    """
    return np.memmap(path, np.uint8, mode="r").view(np.ndarray)  # each slice of a memmap costs microseconds more


def checksum_of(data: NDArray[np.uint8], start: int, end: int) -> int:
    """Return the CRC-32 of a part of a mapped file. All its bytes are read, but do not stay in the memory of the process."""
    checksum = zlib.crc32(data[start:end].data)
    mapped = getattr(data.base, "base", None)  # of the memmap
    if isinstance(mapped, mmap.mmap) and hasattr(mapped, "madvise"):  # not on Windows
        mapped.madvise(mmap.MADV_DONTNEED)
    return checksum
