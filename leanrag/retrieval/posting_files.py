"""Files of posting segments: arrays that the system maps into memory. They are derived: a missing or damaged file is made again."""

from __future__ import annotations

import json
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np

from leanrag.files import whole_file
from leanrag.retrieval.mapping import checksum_of, map_file
from leanrag.retrieval.postings import Segment

__all__ = ["read_segment", "write_segment"]

_MAGIC = b"leanrag postings 2\n"
_ALIGNMENT = 64
_MOST_HEADER = 4096
_TYPES = {"ids": "<i8", "sizes": "<i4", "keys": "<u8", "starts": "<i8", "rows": "<i4"}
_FREQUENCIES = ("|u1", "<u2", "<u4", "<u8")  # by what the chunks need


def write_segment(path: Path, segment: Segment) -> None:
    """Write a segment; the file appears only when it is complete.

    Raises:
        StorageError: The file cannot be written.
    """
    types = {
        **_TYPES,
        "frequencies": next(kind for kind in _FREQUENCIES if segment.frequencies.itemsize == int(kind[-1])),
    }
    parts = [np.ascontiguousarray(getattr(segment, name), kind).tobytes() for name, kind in types.items()]
    body = b"".join(part + bytes(-len(part) % _ALIGNMENT) for part in parts)
    facts = {
        "lengths": [len(getattr(segment, name)) for name in types],
        "frequencies": types["frequencies"],
        "crc32": zlib.crc32(body),
    }
    header = _MAGIC + json.dumps(facts).encode() + b"\n"
    with whole_file(path, durable=False) as part_path:
        part_path.write_bytes(header.ljust(_MOST_HEADER, b"\0") + body)


def read_segment(path: Path) -> Segment:
    """Map a segment into memory, after its bytes were checked once.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not the whole file of a segment.
    """
    data = map_file(path)
    header = data[:_MOST_HEADER].tobytes()
    if not header.startswith(_MAGIC):
        raise ValueError("it is not a file of postings of this version")
    facts = json.loads(header[len(_MAGIC) :].rstrip(b"\0"))
    if checksum_of(data, _MOST_HEADER, len(data)) != facts["crc32"]:
        raise ValueError("its checksum does not match")
    if facts["frequencies"] not in _FREQUENCIES:
        raise ValueError("its frequencies have an unknown type")
    arrays, offset = {}, _MOST_HEADER
    types = {**_TYPES, "frequencies": facts["frequencies"]}
    for (name, kind), length in zip(types.items(), facts["lengths"], strict=True):
        size = length * np.dtype(kind).itemsize
        arrays[name] = data[offset : offset + size].view(kind)
        offset += size + -size % _ALIGNMENT
    assert set(arrays) == {field.name for field in fields(Segment)}
    return Segment(**arrays)
