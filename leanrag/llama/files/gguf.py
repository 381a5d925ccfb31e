"""Reads the header of a GGUF file in pure Python, and checks that all of its parts are inside the file.

llama.cpp ends the process on some malformed files, and Python cannot catch that. Here such a file raises a `ModelLoadError`. The
format is described in ggml's `docs/gguf.md`: versions 2 and 3, little-endian. Only the header is read, not the weights. Whether
the values make sense is checked in `preflight` and `adapters`.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import os
import re
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

from leanrag.errors import ModelLoadError

__all__ = ["STRING_ITEMS", "TENSOR_TYPES", "GGUFArray", "GGUFHeader", "GGUFInfo", "read_header", "refuse"]

Value: TypeAlias = "int | float | bool | str | GGUFArray"

TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}
"""Types of ggml.h by number: name, weights a block, bytes a block. A test compares them with the installed library."""

# gguf.h, enum gguf_type: number -> struct code; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
STRING_ITEMS = _STRING
"""`GGUFArray.item_type` of a list of strings."""

# Limits far above any published model, and far below what fills the memory or fails an assertion in llama.cpp.
_MAX_KEYS, _MAX_TENSORS = 16_384, 65_536
_MAX_KEY_BYTES, _MAX_STRING_BYTES, _MAX_ITEMS = 65_535, 16 * 2**20, 2 * 2**20
_POINTER_ALIGNMENT = 32  # ggml-backend.cpp asserts it
_MAX_READ_NUMBERS = 4096  # of an array; longer arrays belong to the vocabulary
_LOOKS_LIKE = (
    (re.compile(rb"(?i)\s*<(?:!doctype|html)"), "a web page: an error page was saved in place of the model"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer: run `git lfs pull` where it came from"),
    (re.compile(rb"PK\x03\x04"), "a zip archive: extract the .gguf file from it"),
    (re.compile(rb"\x1f\x8b"), "a gzip file: decompress it"),
    (re.compile(rb"(?s).{8}\{\""), "a safetensors file: convert it to GGUF with llama.cpp's convert_hf_to_gguf.py"),
    (re.compile(rb"ggml|ggjt|lmgg|tjgg"), "a model in llama.cpp's format of 2023: convert it to GGUF"),
)


@dataclass(frozen=True, slots=True)
class GGUFArray:
    """An array in the metadata.

    Attributes:
        item_type: Number of the type of its items, as in gguf.h.
        length: Number of its items.
        offset: Where the items begin in the file.
        numbers: The items, if they are numbers, and at most 4,096; else empty.
    """

    item_type: int
    length: int
    offset: int
    numbers: tuple[int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class GGUFInfo:
    """The header of a GGUF file.

    Attributes:
        path: The file; of a model in several files, the first one.
        parts: All files of the model.
        size_bytes: Size of all files together.
        version: Version of the format.
        metadata: Keys and values; an array is a `GGUFArray`.
        tensor_types: Number of tensors of each type.
        n_params: Number of weights.
        tensor_bytes: Size of each tensor by name.
        header_bytes: Size of the header of the first file, which is before the weights.
        shapes: Shape of each tensor by name, in llama.cpp's order: the length of a row comes first.
    """

    path: Path
    parts: tuple[Path, ...]
    size_bytes: int
    version: int
    metadata: Mapping[str, Value]
    tensor_types: Mapping[str, int]
    n_params: int
    tensor_bytes: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    header_bytes: int

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the network."""
        return str(self.metadata["general.architecture"])

    def number(self, key: str) -> int | None:
        """Return an integer of the architecture, such as "block_count"; None if it is missing or not a single integer."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def numbers(self, key: str) -> tuple[int | float, ...]:
        """Return the numbers of the architecture by layer, or one number for all layers; empty if the key is missing."""
        value = self.metadata.get(f"{self.architecture}.{key}", ())
        if isinstance(value, GGUFArray):
            return value.numbers
        return (value,) if isinstance(value, (int, float)) else ()

    @property
    def n_ctx_train(self) -> int | None:
        """Window that the model was trained on, in tokens."""
        return self.number("context_length")

    @property
    def chat_template(self) -> str | None:
        """Jinja source of the chat template, None for a base model."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) and value.strip() else None


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """The header of one file, with the texts and types of its tokens.

    Attributes:
        info: The header.
        kinds: Number of the type of each value in the metadata, as in gguf.h.
        tokens: The texts of the tokens in UTF-8; empty if the file has none.
        token_types: llama.cpp's type of each token; empty if the file has none.
    """

    info: GGUFInfo
    kinds: Mapping[str, int]
    tokens: Sequence[bytes]
    token_types: Sequence[int]


def read_header(path: str | os.PathLike[str]) -> GGUFHeader:
    """Read the header of a GGUF file, and check that all of its parts are inside the file.

    Raises:
        ModelLoadError: The file is missing, truncated, malformed, not a GGUF file, or exceeds a limit; the message says which.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelLoadError(f"{str(path)!r} is not a file. Pass the path of a .gguf file", path=path)
        with path.open("rb", buffering=1 << 16) as file:
            return _Reader(path, file).read()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise ModelLoadError(f"cannot read {str(path)!r}: {error}", path=path) from error


def refuse(path: Path, what: str) -> NoReturn:
    """Raise the error for a damaged file."""
    raise ModelLoadError(
        f"{str(path)!r} is damaged or not a model that llama.cpp reads: {what}. Get the file again", path=path
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type_name: str
    size_bytes: int
    offset: int


class _Reader:
    """Reads a header from front to back; each length is checked against the remaining bytes before it is used."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self._size = os.fstat(file.fileno()).st_size
        self._position = 0
        self._tokens: list[bytes] = []
        self._token_types: Sequence[int] = ()
        self._kinds: dict[str, int] = {}

    def read(self) -> GGUFHeader:
        version, n_tensors, n_keys = self._read_start()
        metadata = dict(self._read_pair() for _ in range(n_keys))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 2**16 or alignment & (alignment - 1):
            self._fail(f"general.alignment is {alignment!r}, not a power of two")
        tensors = [self._read_tensor() for _ in range(n_tensors)]
        self._check_layout(tensors, alignment)
        info = GGUFInfo(
            path=self._path,
            parts=(self._path,),
            size_bytes=self._size,
            version=version,
            metadata=metadata,
            tensor_types=dict(collections.Counter(tensor.type_name for tensor in tensors)),
            n_params=sum(_product(tensor.shape) for tensor in tensors),
            tensor_bytes={tensor.name: tensor.size_bytes for tensor in tensors},
            shapes={tensor.name: tensor.shape for tensor in tensors},
            header_bytes=self._position,
        )
        return GGUFHeader(info, self._kinds, self._tokens, self._token_types)

    # Bytes

    def _fail(self, what: str) -> NoReturn:
        refuse(self._path, what)

    def _need(self, count: int, what: str) -> None:
        remaining = self._size - self._position
        if count > remaining:
            self._fail(f"truncated: {what} needs {count:,} bytes, but only {remaining:,} of {self._size:,} remain")

    def _take(self, count: int, what: str) -> bytes:
        self._need(count, what)
        data = self._file.read(count)
        if len(data) != count:
            self._fail(f"truncated while it was read, in {what}")
        self._position += count
        return data

    def _skip(self, count: int, what: str) -> None:
        self._need(count, what)
        self._file.seek(count, io.SEEK_CUR)
        self._position += count

    def _unpack(self, code: str, what: str) -> int | float | bool:
        value: int | float | bool = struct.unpack("<" + code, self._take(struct.calcsize("<" + code), what))[0]
        return value

    def _integer(self, code: str, what: str) -> int:
        return int(self._unpack(code, what))

    def _string(self, limit: int, what: str) -> str:
        length = self._integer("Q", what)
        if length > limit:
            self._fail(f"{what} has {length:,} bytes, more than {limit:,}")
        return self._take(length, what).decode("utf-8", "replace")

    # Parts

    def _read_start(self) -> tuple[int, int, int]:
        magic = self._file.peek(64)[:64] if isinstance(self._file, io.BufferedReader) else b""
        if not self._size:
            raise ModelLoadError(f"{str(self._path)!r} is empty. Get the file again", path=self._path)
        if magic[:4] != b"GGUF":
            known = next((text for pattern, text in _LOOKS_LIKE if pattern.match(magic)), "not a GGUF file")
            raise ModelLoadError(f"{str(self._path)!r} is {known}", path=self._path)
        self._take(4, "the magic number")
        version = self._integer("I", "the version")
        if version & 0xFFFF == 0:
            self._fail("it is big-endian; convert it for this machine")
        if version not in (2, 3):
            self._fail(f"it has GGUF version {version}; only versions 2 and 3 are supported")
        n_tensors, n_keys = self._integer("Q", "the tensor count"), self._integer("Q", "the key count")
        if n_tensors > _MAX_TENSORS or n_keys > _MAX_KEYS:
            self._fail(
                f"it has {n_tensors:,} tensors and {n_keys:,} keys; at most {_MAX_TENSORS:,} and {_MAX_KEYS:,} are allowed"
            )
        self._need(n_keys * 13 + n_tensors * 32, "the header")
        return version, n_tensors, n_keys

    def _read_pair(self) -> tuple[str, Value]:
        key = self._string(_MAX_KEY_BYTES, "a key")
        if not key or key in self._kinds:
            self._fail(f"the key {key!r} is empty or there twice")
        kind = self._kinds[key] = self._integer("I", key)
        if kind == _STRING:
            return key, self._string(_MAX_STRING_BYTES, key)
        if kind == _ARRAY:
            return key, self._read_array(key)
        if kind not in _SCALARS:
            self._fail(f"{key} has the unknown type {kind}")
        if kind == 7:  # a bool of another byte than 0 and 1 is undefined in C++
            return key, self._integer("B", key) != 0
        return key, self._unpack(_SCALARS[kind], key)

    def _read_array(self, key: str) -> GGUFArray:
        kind, length = self._integer("I", key), self._integer("Q", key)
        array = GGUFArray(kind, length, self._position)
        if length > _MAX_ITEMS:
            self._fail(f"{key} has {length:,} items, more than {_MAX_ITEMS:,}")
        if kind in _SCALARS:
            size, is_types = struct.calcsize("<" + _SCALARS[kind]), key == "tokenizer.ggml.token_type"
            if is_types or length <= _MAX_READ_NUMBERS:
                numbers = struct.unpack(f"<{length}{_SCALARS[kind]}", self._take(length * size, key))
                if is_types:
                    self._token_types = numbers
                else:
                    array = dataclasses.replace(array, numbers=numbers)
            else:
                self._skip(length * size, key)
        elif kind == _STRING:
            self._need(length * 8, key)
            for _ in range(length):
                size = self._integer("Q", key)
                if size > _MAX_KEY_BYTES:
                    self._fail(f"an item of {key} has {size:,} bytes, more than {_MAX_KEY_BYTES:,}")
                if key == "tokenizer.ggml.tokens":
                    self._tokens.append(self._take(size, key))
                else:
                    self._skip(size, key)
        else:
            self._fail(f"{key} is an array of the unknown type {kind}")
        return array

    def _read_tensor(self) -> _Tensor:
        name = self._string(_MAX_KEY_BYTES, "a tensor's name")
        if not 0 < len(name.encode()) < 64:
            self._fail(f"the tensor name {name!r:.80} must have 1 to 63 bytes")
        n_dims = self._integer("I", name)
        if not 1 <= n_dims <= 4:
            self._fail(f"{name} has {n_dims} dimensions, not 1 to 4")
        shape = tuple(self._integer("Q", name) for _ in range(n_dims))
        kind = self._integer("I", name)
        if kind not in TENSOR_TYPES:
            self._fail(f"{name} has the unknown type {kind}")
        type_name, block, block_bytes = TENSOR_TYPES[kind]
        if min(shape) < 1 or _product(shape) >= 2**62:
            self._fail(f"{name} has the impossible shape {shape}")
        if shape[0] % block:
            self._fail(f"{name} has rows of {shape[0]} weights; {type_name} needs a multiple of {block}")
        size_bytes = _product(shape) // block * block_bytes
        return _Tensor(name, shape, type_name, size_bytes, self._integer("Q", name))

    # Checks

    def _check_layout(self, tensors: list[_Tensor], alignment: int) -> None:
        names = {tensor.name for tensor in tensors}
        if len(names) != len(tensors):
            self._fail("two tensors have the same name")
        expected = 0
        for tensor in tensors:
            if tensor.offset != expected:
                self._fail(
                    f"{tensor.name} is at offset {tensor.offset:,}, not at {expected:,}, where the one before it ends"
                )
            expected += _padded(tensor.size_bytes, alignment)
        start = _padded(self._position, alignment)
        if tensors and start % _POINTER_ALIGNMENT:
            self._fail(f"its weights begin at byte {start:,}, not at a multiple of {_POINTER_ALIGNMENT}")
        end = start + expected
        # The padding after the last tensor may be missing: llama.cpp reads none of it.
        needed = end - (expected and _padded(tensors[-1].size_bytes, alignment) - tensors[-1].size_bytes)
        if tensors and needed > self._size:
            self._fail(f"truncated: it has {self._size:,} of {needed:,} bytes, {needed - self._size:,} are missing")


def _product(shape: tuple[int, ...]) -> int:
    result = 1
    for size in shape:
        result *= size
    return result


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
