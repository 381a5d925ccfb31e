"""Write files that are complete or do not appear, compute their hashes, read and write records, and find the cache folder.

A folder can be locked, so that several threads and processes do not make the same files at the same time.

A record is a JSON file with the fields of a pydantic model and the fields `format`, `version` and `checksum`. A file that is
incomplete, edited, too large, of another format or of another version raises a `StorageError` that names the file and what to
do. The checksum detects accidents, not attacks. A record that people may edit has no checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from leanrag.checks import first_problem
from leanrag.errors import StorageError

if TYPE_CHECKING:
    import pydantic

    Fields = TypeVar("Fields", bound=pydantic.BaseModel)

__all__ = [
    "RecordFormat",
    "cache_dir",
    "file_ends",
    "fingerprint_of",
    "keep_record",
    "known_fingerprint",
    "known_sha256",
    "locked_folder",
    "read_record",
    "recall_record",
    "remove_abandoned",
    "sha256_of",
    "unwritable",
    "whole_file",
    "write_record",
]

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_OPEN_FILES_STAY = os.name == "nt"  # Windows neither moves nor removes a file that is open


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

    Files of killed processes for the same target are removed first.

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
        if _OPEN_FILES_STAY:
            lock.close()
        part.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        lock.close()
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def unwritable(target: Path, reason: object) -> StorageError:
    """Return the error for a file that cannot be written."""
    return StorageError(
        f"cannot write {str(target)!r} ({reason}). Check the folder, its permissions and the free space", path=target
    )


def _open_part(target: Path) -> tuple[Path, contextlib.ExitStack]:
    """Create the file to write to, and lock it until the stack is closed, or this process ends."""
    while True:
        part = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
        lock = contextlib.ExitStack()
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        lock.callback(os.close, descriptor)
        _lock(descriptor, wait=True)  # another process may look at the moment whether it is abandoned
        if part.exists():  # the other process did not take it for abandoned
            return part, lock
        lock.close()


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the incomplete files that killed processes left in `folder`: parts that no process has locked.

    Args:
        folder: The folder.
        name: Name of the target file; None for all files, in a folder that only leanrag uses.

    Raises:
        OSError: The folder cannot be read.
    """
    pattern = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{12}}\.part")
    for part in folder.iterdir():
        if not pattern.fullmatch(part.name):
            continue
        with contextlib.suppress(OSError):
            if _OPEN_FILES_STAY:
                part.unlink()  # fails if a process still writes it
                continue
            descriptor = os.open(part, os.O_RDWR)
            try:
                if _lock(descriptor, wait=False):
                    part.unlink()
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Let one thread of one process at a time into the block; the others wait. The folder is made if it does not exist.

    The lock of a process that dies is free. Where folders cannot be locked (Windows, some network drives), only the threads of
    this process wait for each other. The block must not lock the same folder again.

    Raises:
        OSError: The folder cannot be made or opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as lock:
        if _OPEN_FILES_STAY or not _lock_folder(folder, lock):
            lock.enter_context(_folder_locks.setdefault(folder.resolve(), threading.Lock()))
        yield


_folder_locks: dict[Path, threading.Lock] = {}  # of folders that the system cannot lock


def _lock_folder(folder: Path, lock: contextlib.ExitStack) -> bool:
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    lock.callback(os.close, descriptor)
    if not _lock(descriptor, wait=True):
        return False
    lock.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a fork of this process may have the descriptor too
    return True


def _lock(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file or folder until it is closed.

    Args:
        descriptor: Of the file or folder.
        wait: Whether to wait while another process has the lock.

    Returns:
        Whether it is locked now: False if another process has the lock, or the file system cannot lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows: an open file is locked
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
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
    """Return the first and the last MiB of a file; the whole file if it is smaller.

    In a GGUF file, these are the header and weights of the last layer.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        ends = stream.read(_BLOCK)
        if size > _BLOCK:
            stream.seek(max(size - _BLOCK, _BLOCK))
            ends += stream.read(_BLOCK)
    return ends


def fingerprint_of(path: Path) -> str:
    """Return a hash of the size and the ends of a file, hexadecimal: fast for a large file, and enough to detect another model."""
    return hashlib.sha256(f"{path.stat().st_size}\0".encode() + file_ends(path)).hexdigest()


def known_sha256(path: Path) -> str:
    """Return the hash as `sha256_of`. A file that this process read before is read again only if its size or time changed.

    Raises:
        OSError: The file cannot be read.
    """
    return _known(path, sha256_of)


def known_fingerprint(path: Path) -> str:
    """Return the hash as `fingerprint_of`, and read the file as seldom as `known_sha256` does."""
    return _known(path, fingerprint_of)


def _known(path: Path, compute: Callable[[Path], str]) -> str:
    status = path.stat()
    key = compute, path.resolve(), status.st_size, status.st_mtime_ns
    if key not in _known_hashes:
        _known_hashes[key] = compute(path)
    return _known_hashes[key]


_known_hashes: dict[tuple[Callable[[Path], str], Path, int, int], str] = {}


# Records


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """The name of a kind of record, and the words of its errors.

    Attributes:
        name: Value of the field `format`, such as "leanrag calibration".
        version: Version of the fields; a file of another version is refused.
        noun: The noun for such a file in an error, such as "calibration".
        mend: What an error tells the user to do, such as "Calibrate again".
        max_bytes: A larger file is refused.
        is_editable: Whether people may edit the file: it then has no checksum.
    """

    name: str
    version: int
    noun: str
    mend: str
    max_bytes: int = 16 << 20
    is_editable: bool = False


def write_record(path: Path, record: pydantic.BaseModel, kind: RecordFormat) -> None:
    """Write `record` to `path` as indented JSON. An existing file is replaced only by a complete new file.

    Raises:
        StorageError: The file cannot be written.
    """
    fields = {"format": kind.name, "version": kind.version, **record.model_dump(mode="json")}
    checksum = {} if kind.is_editable else {"checksum": _checksum(fields)}
    text = json.dumps({**fields, **checksum}, indent=1, allow_nan=False)
    with whole_file(path) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_record(path: Path, model: type[Fields], kind: RecordFormat) -> Fields:
    """Return the record that `write_record` wrote to `path`.

    Raises:
        StorageError: The file is missing, too large, incomplete, edited, of another format or version, or its fields are wrong.
    """
    import pydantic

    fields = _read_json(path, kind)
    if fields.pop("format", None) != kind.name:
        raise _broken(path, kind, f"its field `format` is not {kind.name!r}")
    version = fields.pop("version", None)
    if version != kind.version:
        raise StorageError(
            f"{str(path)!r} is a {kind.noun} of version {version!r}, but this version of leanrag reads version {kind.version}. "
            f"{kind.mend}, or upgrade leanrag if the file is newer",
            path=path,
        )
    checksum = None if kind.is_editable else fields.pop("checksum", None)
    if not kind.is_editable and checksum != _checksum({"format": kind.name, "version": version, **fields}):
        raise _broken(path, kind, "it was changed after it was written, so its checksum does not match")
    try:
        return model.model_validate_json(json.dumps(fields))
    except pydantic.ValidationError as error:
        where, problem, value = first_problem(error)
        wrong = f"{where or 'the whole record'}: {problem}, got {value!r:.100}"
        raise _broken(path, kind, f"{error.error_count()} of its fields are wrong; the first is {wrong}") from error


def recall_record(path: Path, model: type[Fields], kind: RecordFormat, *, effect: str) -> Fields:
    """Return the record that `write_record` wrote to `path`; without a readable file, the record with the defaults of its fields.

    Args:
        path: A file that can be made again.
        model: The type of the record; all of its fields have defaults.
        kind: The kind of the record.
        effect: What the loss of the file leads to, for the log.
    """
    if not path.exists():
        return model()
    try:
        return read_record(path, model, kind)
    except StorageError as error:
        logger.warning("%s: %s", effect, error)
        return model()


def keep_record(path: Path, record: pydantic.BaseModel, kind: RecordFormat, *, failure: str) -> None:
    """Write a record that can be made again to `path`; its folder is made too. If that fails, only a warning is logged.

    Args:
        path: The file.
        record: The record.
        kind: The kind of the record.
        failure: What is said in the log, such as "the trial was not saved".
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, record, kind)
    except (OSError, StorageError) as error:
        logger.warning("%s: %s", failure, error)


def _read_json(path: Path, kind: RecordFormat) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            raw = stream.read(kind.max_bytes + 1)
    except OSError as error:
        raise StorageError(f"cannot read the {kind.noun} {str(path)!r} ({error}). {kind.mend}", path=path) from error
    if len(raw) > kind.max_bytes:
        raise _broken(path, kind, f"it is larger than {kind.max_bytes:,} bytes")
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _broken(path, kind, f"it is not complete JSON; it may have been cut short ({error})") from error
    if not isinstance(fields, dict):
        raise _broken(path, kind, "it is not a JSON object")
    return fields


def _broken(path: Path, kind: RecordFormat, reason: str) -> StorageError:
    return StorageError(f"{str(path)!r} is not a valid {kind.noun}: {reason}. {kind.mend}", path=path)


def _checksum(fields: Mapping[str, object]) -> str:
    """Return the hash of the values; white space and order in the file do not matter."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
