"""Files that appear whole or not at all, their hashes, versioned records, and the folder of the cache.

A record is a JSON file with the fields `format`, `version` and `checksum` beside those of a pydantic model. It is parsed and
never trusted: a file that is torn, edited, too large, of another format or of another version is a `StorageError` that names
the file and what to do. The checksum finds accidents, not forgeries.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from leanrag.errors import StorageError

if TYPE_CHECKING:
    import pydantic

    Fields = TypeVar("Fields", bound=pydantic.BaseModel)

__all__ = [
    "RecordFormat",
    "cache_dir",
    "file_ends",
    "fingerprint_of",
    "read_record",
    "remove_abandoned",
    "sha256_of",
    "unwritable",
    "whole_file",
    "write_record",
]

_BLOCK = 1 << 20


def cache_dir() -> Path:
    """Return the folder of the cache: `LEANRAG_CACHE_DIR`, or the user's cache directory of this system."""
    if folder := os.environ.get("LEANRAG_CACHE_DIR"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("leanrag", appauthor=False))


# Writing


@contextlib.contextmanager
def whole_file(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a hidden path beside `target` to write to. It replaces `target` at the end, and is removed after an error.

    What a killed process left behind for the same target is removed first.

    Args:
        target: The file; its folder must exist.
        durable: Whether the bytes must be on the disk before the file appears. False is faster, and a power cut may then leave
            an incomplete file.

    Raises:
        StorageError: The file cannot be written.
    """
    try:
        remove_abandoned(target.parent, target.name)
        part, lock = _open_part(target)
    except OSError as error:
        raise unwritable(target, error) from error
    try:
        yield part
        if durable:
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
        part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(target: Path, reason: object) -> StorageError:
    """Return the error for a file that cannot be written."""
    return StorageError(
        f"cannot write {str(target)!r} ({reason}). Check the folder, its permissions and the free space", path=target
    )


def _open_part(target: Path) -> tuple[Path, int]:
    """Create the file to write to, and lock it for as long as this process lives: `(path, open descriptor)`."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        _lock(descriptor)
        if part.exists():  # no other process took it for abandoned before it was locked
            return part, descriptor
        os.close(descriptor)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in `folder` when they wrote to the file `name`: parts that nobody has locked.

    Args:
        folder: The folder.
        name: Name of the file; None for any, in a folder that belongs to leanrag alone.

    Raises:
        OSError: The folder cannot be read.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{12}}\.part")
    for part in folder.iterdir():
        if not pattern.fullmatch(part.name):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(part, os.O_RDWR)
            try:
                if _lock(descriptor):
                    part.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed. False when another process has it, or the file system cannot lock."""
    try:
        import fcntl
    except ImportError:  # on Windows, an open file cannot be removed: to have it open is the lock
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


# Hashes


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes, hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_ends(path: Path) -> bytes:
    """Return the first and the last MiB of a file, all of a smaller one: of a GGUF the header and the last layer's weights."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        ends = stream.read(_BLOCK)
        if size > _BLOCK:
            stream.seek(max(size - _BLOCK, _BLOCK))
            ends += stream.read(_BLOCK)
    return ends


def fingerprint_of(path: Path) -> str:
    """Return a hash of a file's size and ends, hexadecimal: quick for a large file, and enough to notice another model."""
    return hashlib.sha256(f"{path.stat().st_size}\0".encode() + file_ends(path)).hexdigest()


# Records


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """What a kind of record is called, and how to get another one.

    Attributes:
        name: What the field `format` says, such as "leanrag calibration".
        version: Of the fields; a file of another version is refused.
        noun: What an error calls such a file, such as "calibration".
        mend: What an error tells the reader to do, such as "Calibrate again".
        max_bytes: Size above which a file is refused unread.
    """

    name: str
    version: int
    noun: str
    mend: str
    max_bytes: int = 16 << 20


def write_record(path: Path, record: pydantic.BaseModel, kind: RecordFormat) -> None:
    """Write `record` to `path` as indented JSON; the file has the old record or the new one, never a part.

    Raises:
        StorageError: The file cannot be written.
    """
    fields = {"format": kind.name, "version": kind.version, **record.model_dump(mode="json")}
    text = json.dumps({**fields, "checksum": _checksum(fields)}, indent=1, allow_nan=False)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path, model: type[Fields], kind: RecordFormat) -> Fields:
    """Return the record that `write_record` wrote to `path`.

    Raises:
        StorageError: The file is missing, too large, torn, edited, of another format or version, or its fields are wrong.
    """
    import pydantic

    fields = _read_json(path, kind)
    if fields.pop("format", None) != kind.name:
        raise _broken(path, kind, f"its field `format` is not {kind.name!r}")
    version = fields.pop("version", None)
    if version != kind.version:
        raise StorageError(
            f"{str(path)!r} is a {kind.noun} of version {version!r}, and this leanrag reads version {kind.version}. "
            f"{kind.mend}, or upgrade leanrag if the file is newer",
            path=path,
        )
    checksum = fields.pop("checksum", None)
    if checksum != _checksum({"format": kind.name, "version": version, **fields}):
        raise _broken(path, kind, "it was changed after it was written, so its checksum does not match")
    try:
        return model.model_validate_json(json.dumps(fields))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise _broken(
            path, kind, f"{error.error_count()} of its fields are wrong, first {where}: {first['msg']}"
        ) from error


def _read_json(path: Path, kind: RecordFormat) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(kind.max_bytes + 1)
    except OSError as error:
        raise StorageError(f"cannot read the {kind.noun} {str(path)!r} ({error}). {kind.mend}", path=path) from error
    if len(raw) > kind.max_bytes:
        raise _broken(path, kind, f"it has more than the {kind.max_bytes:,} bytes that are allowed")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _broken(path, kind, f"it is not complete JSON, perhaps it was cut short ({error})") from error
    if not isinstance(fields, dict):
        raise _broken(path, kind, "it is not a JSON object")
    return fields


def _broken(path: Path, kind: RecordFormat, reason: str) -> StorageError:
    return StorageError(f"{str(path)!r} is not a valid {kind.noun}: {reason}. {kind.mend}", path=path)


def _checksum(fields: Mapping[str, object]) -> str:
    """Return the hash of the values, whatever the white space and the order in the file."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
