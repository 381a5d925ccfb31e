"""The cache of models: where a model and its copies are, and whether they are complete.

The cache is addressed by content: `<sha256>/<file>`, with a record written last that says that all of it was verified.
`NAME:TYPE` stands for a copy with weights of another type, made on this machine by `leanrag pull NAME --type TYPE`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import cache_dir, sha256_of, whole_file
from leanrag.models import hub, registry
from leanrag.models.registry import ModelSpec, find_spec

__all__ = [
    "ModelStatus",
    "entry_of",
    "folder_of",
    "is_complete",
    "keep_copy",
    "list_models",
    "resolve",
    "unwritable_cache",
    "write_record",
]

logger = logging.getLogger(__name__)

_RECORD = "verified.json"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model of the registry and where it is.

    Attributes:
        spec: What the name stands for.
        path: Its file or folder; None before it was pulled.
        copies: Its copies with weights of other types, by type.
    """

    spec: ModelSpec
    path: Path | None
    copies: Mapping[str, Path] = field(default_factory=dict)


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the file or folder that a name or path stands for; nothing is fetched.

    Args:
        name: A path, a name of `REGISTRY`, that name and a type (`smollm2-135m:q4_0`), or `hf:owner/repository/file` for a
            file of the hub that was pulled.

    Raises:
        ConfigurationError: It is neither a path that exists nor a known name.
        ModelLoadError: The name is known, and the model is not here or was changed.
    """
    path = Path(name)
    if path.exists():
        return path
    name = os.fspath(name)
    if name.startswith(hub.PREFIX):
        return hub.get_file(name, local_only=True)
    base, _, kind = name.partition(":")
    spec = find_spec(base if kind and base in registry.REGISTRY else name)
    folder = folder_of(spec)
    path = _copy(spec, kind) if kind else entry_of(spec, folder)
    if not (_is_unchanged(path) if kind else is_complete(spec, folder)):
        command = f"leanrag pull {spec.name}" + (f" --type {kind}" if kind else "")
        raise ModelLoadError(f"the model {name!r} is not here. Get it with: {command}", path=path, model=name)
    return path


def list_models() -> list[ModelStatus]:
    """Return the models known by name and where they are."""
    statuses = []
    for spec in registry.REGISTRY.values():
        folder = folder_of(spec)
        kinds = sorted(record.parent.name for record in folder.glob(f"*/{_RECORD}"))
        copies = {kind: copy for kind in kinds if _is_unchanged(copy := _copy(spec, kind))}
        statuses.append(ModelStatus(spec, entry_of(spec, folder) if is_complete(spec, folder) else None, copies))
    return statuses


def keep_copy(name: str, kind: str, make: Callable[[Path, Path], object]) -> Path:
    """Return the copy of a model that `resolve` finds as `name:kind`, made first if it is not there or was changed.

    Args:
        name: A name of `REGISTRY` of a model that is here.
        kind: The type of its weights, such as "q4_0".
        make: Called with the model's file or folder and the GGUF file to write.

    Raises:
        ConfigurationError: The name is unknown, it is an encoding, or `kind` is not a word.
        ModelLoadError: The model is not here.
        StorageError: The cache cannot be written.
    """
    spec = find_spec(name)
    if spec.kind == "tiktoken" or not re.fullmatch(r"\w+", kind):
        raise ConfigurationError(f"only a model has copies of other types, such as q4_0; got {name!r}, {kind!r}")
    copy = _copy(spec, kind)
    if not _is_unchanged(copy):
        source = resolve(name)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            make(source, copy)
            write_record(copy.parent, [copy.name])
        except OSError as error:
            raise unwritable_cache(error) from error
    return copy


# Paths and records


def folder_of(spec: ModelSpec) -> Path:
    """Return the folder of a model."""
    return cache_dir() / "models" / spec.sha256


def entry_of(spec: ModelSpec, folder: Path) -> Path:
    """Return what is loaded of a model: its file, or the folder when it has several."""
    return folder / spec.files[0].path if len(spec.files) == 1 else folder


def is_complete(spec: ModelSpec, folder: Path) -> bool:
    """Return whether all files are there as they were verified. A file that changed since is hashed again."""
    try:
        record = _read_record(folder / _RECORD)
        for file in spec.files:
            path = folder / file.path
            status = path.stat()
            if record.get(file.path) != [status.st_size, status.st_mtime_ns] and sha256_of(path) != file.sha256:
                logger.warning("%s was changed; it will be fetched again by a pull", path)
                return False
    except (OSError, ValueError):
        return False
    return True


def _copy(spec: ModelSpec, kind: str) -> Path:
    return folder_of(spec) / kind / f"{spec.name}.{kind}.gguf"


def _is_unchanged(copy: Path) -> bool:
    """Whether a copy is there as it was made."""
    try:
        status = copy.stat()
        return _read_record(copy.with_name(_RECORD)).get(copy.name) == [status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):
        return False


def unwritable_cache(error: OSError) -> StorageError:
    """Return the error for a cache that cannot be written."""
    return StorageError(f"cannot write the cache {str(cache_dir())!r}: {error}", path=cache_dir())


def _read_record(path: Path) -> dict[str, list[int]]:
    import pydantic

    adapter = pydantic.TypeAdapter(dict[str, list[int]])
    return adapter.validate_json(path.read_bytes())


def write_record(folder: Path, files: Sequence[str]) -> None:
    """Record that the files are verified, with their sizes and times."""
    import pydantic

    rows = {}
    for file in files:
        status = (folder / file).stat()
        rows[file] = [status.st_size, status.st_mtime_ns]
    with whole_file(folder / _RECORD) as part:
        part.write_bytes(pydantic.TypeAdapter(dict[str, list[int]]).dump_json(rows))
