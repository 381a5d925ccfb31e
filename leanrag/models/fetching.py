"""Put models into the cache: from an installed package, the Hugging Face hub, or wheels of the package index.

Nothing is downloaded unless `pull` is called. Only the data file of a wheel is read; no package is imported or installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from leanrag.errors import ConfigurationError, StorageError
from leanrag.files import cache_dir, locked_folder, sha256_of, whole_file
from leanrag.models import hub
from leanrag.models.cache import (
    entry_of,
    folder_of,
    forget_copies,
    is_complete,
    packaged_adapter,
    unwritable_cache,
    write_record,
)
from leanrag.models.registry import ModelFile, ModelSpec, WheelMember, find_spec

__all__ = ["SourceKind", "pull"]

logger = logging.getLogger(__name__)

SourceKind = Literal["installed", "hub", "wheel"]
_SOURCES: tuple[SourceKind, ...] = ("installed", "hub", "wheel")
_BLOCK = 1 << 20


def pull(
    name: str,
    *,
    accept_terms: bool = False,
    force: bool = False,
    progress: bool | None = None,
    sources: Sequence[SourceKind] = _SOURCES,
) -> Path:
    """Put a model into the cache, check its hash, and return its file or folder. If it is in the cache, return at once.

    If a call is interrupted, no incomplete file has the final name, and the next call uses the parts that were downloaded.
    Several threads and processes may pull the same model: one gets it, and the others wait.

    Args:
        name: A name of `REGISTRY`, or `hf:owner/repository/file`. With an adapter, its model is pulled too.
        accept_terms: Accept the terms of use, if the model has some.
        force: Get the model again even if it is in the cache. The old files stay until the new ones are there; copies with other
            types of weights are removed.
        progress: Show progress on standard error; None shows it only on a terminal.
        sources: The sources to try, in order.

    Raises:
        ConfigurationError: The name is unknown, or its terms were not accepted; the message contains the terms.
        StorageError: No source has the model, its hash is wrong, or the cache cannot be written.
    """
    if name.startswith(hub.PREFIX):
        return hub.get_file(name, local_only=False)
    spec = find_spec(name)
    if spec.base:
        pull(spec.base, accept_terms=accept_terms, force=force, progress=progress, sources=sources)
    if spec.kind == "adapter" and (packaged := packaged_adapter(spec)):
        return packaged
    folder = folder_of(spec)
    if force or not is_complete(spec, folder):
        if spec.terms and not accept_terms:
            raise ConfigurationError(
                f"{name} has terms of use. {spec.terms} To accept them: leanrag pull {name} --accept-terms"
            )
        show = sys.stderr.isatty() if progress is None else progress
        try:
            with locked_folder(folder):
                if force or not is_complete(spec, folder):  # another call may have got it meanwhile
                    _fetch(spec, folder, sources, show, force)
        except OSError as error:
            raise unwritable_cache(error) from error
    return entry_of(spec, folder)


def _fetch(spec: ModelSpec, folder: Path, sources: Sequence[SourceKind], show: bool, force: bool) -> None:
    try:
        for file in spec.files:
            target = folder / file.path
            if force or not _is_verified(file, target):
                target.parent.mkdir(parents=True, exist_ok=True)
                _fetch_file(spec, file, target, sources, show)
        if force:
            forget_copies(folder)
        write_record(folder, [file.path for file in spec.files])
    except OSError:
        # Where folders cannot be locked, another process may have got the model, and removed the wheels that this one reads.
        if not is_complete(spec, folder):
            raise
    for file in spec.files:
        _forget_wheels(file)


def _is_verified(file: ModelFile, target: Path) -> bool:
    return target.exists() and target.stat().st_size == file.size_bytes and sha256_of(target) == file.sha256


def _fetch_file(spec: ModelSpec, file: ModelFile, target: Path, sources: Sequence[SourceKind], show: bool) -> None:
    problems: list[str] = []
    for source in sources:
        try:
            with contextlib.ExitStack() as stack:
                streams = _open_source(source, file, stack, show)
                if streams is not None:
                    _write_verified(file, streams, target)
                    return
        except (StorageError, zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
            is_ours = isinstance(error, StorageError) and error.path.is_relative_to(cache_dir())
            if is_ours and isinstance(error.__cause__, OSError):
                raise error.__cause__ from None  # the cache cannot be written, whatever the source
            if source == "wheel" and not isinstance(error, _DownloadError):  # the wheel has other content than expected
                _forget_wheels(file)
            logger.info("cannot get %s of %s from source %r: %s", file.path, spec.name, source, error)
            problems.append(f"{source}: {error}")
    raise StorageError(
        f"cannot get {file.path} of {spec.name} ({'; '.join(problems) or 'no source has it'}). Check the network or pip's "
        f"package index, or put a file with sha256 {file.sha256} at {target}",
        path=target,
    )


def _open_source(
    source: SourceKind, file: ModelFile, stack: contextlib.ExitStack, show: bool
) -> Iterator[BinaryIO] | None:
    """Return streams that give the file when they are joined, each opened when it is needed; None if the source has no file."""
    if source == "hub":
        path = hub.find_file(file.hub) if file.hub else None
        return iter([stack.enter_context(path.open("rb"))]) if path else None
    if not file.parts:
        return None
    if source == "installed":
        paths = [_installed(part) for part in file.parts]
        return (stack.enter_context(path.open("rb")) for path in paths if path) if all(paths) else None
    return (_open_member(part, stack, show) for part in file.parts)


def _write_verified(file: ModelFile, streams: Iterator[BinaryIO], target: Path) -> None:
    digest, size = hashlib.sha256(), 0
    with whole_file(target) as part:
        with part.open("wb") as output:
            for stream in streams:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    size += len(block)
                    output.write(block)
        if digest.hexdigest() != file.sha256:
            raise StorageError(
                f"{size:,} bytes with sha256 {digest.hexdigest()[:12]}..., expected {file.size_bytes:,} with "
                f"{file.sha256[:12]}...",
                path=target,
            )


def _installed(part: WheelMember) -> Path | None:
    """Return the file in an installed package, or None; the package is not imported."""
    candidates = (Path(folder or ".") / part.member for folder in sys.path)
    return next((path for path in candidates if path.is_file()), None)


# Wheels


class _DownloadError(StorageError):
    """A wheel could not be downloaded. Wheels that were downloaded are kept for the next call."""


def _wheel_path(part: WheelMember) -> Path:
    return cache_dir() / "downloads" / f"{part.package}-{part.version}.whl"


def _forget_wheels(file: ModelFile) -> None:
    for part in file.parts:
        with contextlib.suppress(OSError):  # absent, or another process reads it (Windows)
            _wheel_path(part).unlink()


def _open_member(part: WheelMember, stack: contextlib.ExitStack, show: bool) -> BinaryIO:
    wheel = _wheel_path(part)
    if not zipfile.is_zipfile(wheel):  # absent, or incomplete
        _download_wheel(part, wheel, show)
    archive = stack.enter_context(zipfile.ZipFile(wheel))
    return stack.enter_context(archive.open(part.member))  # type: ignore[return-value]


def _download_wheel(part: WheelMember, wheel: Path, show: bool) -> None:
    """Download the wheel with pip, which knows the index, the mirror, the proxy and the certificates."""
    if importlib.util.find_spec("pip") is None:
        raise _DownloadError("this Python has no pip. Install it with: python -m ensurepip", path=wheel)
    wheel.parent.mkdir(parents=True, exist_ok=True)
    # If the process is killed here, the folder is among the temporary files of the system, not in the cache.
    with tempfile.TemporaryDirectory(prefix="leanrag-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--dest", folder, f"{part.package}=={part.version}"]
        result = subprocess.run(
            command if show else [*command, "--quiet"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if show else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        found = list(Path(folder).glob("*.whl"))
        if result.returncode or not found:
            errors = (line for line in result.stderr.splitlines() if line.startswith("ERROR"))
            reason = next(errors, "pip reported no reason")
            raise _DownloadError(f"pip cannot download {part.package}=={part.version} ({reason})", path=wheel)
        with whole_file(wheel) as copy:
            shutil.copyfile(found[0], copy)
