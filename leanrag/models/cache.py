"""The cache of models: find the files of a model and its copies, and check that they are complete.

A model is in the folder `<sha256>`. A record in the folder, which is written last, says that all files were verified.
`NAME:TYPE` is a copy with another type of weights; `leanrag pull NAME --type TYPE` makes it on this machine.
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
    """A model of the registry, and its files on this machine.

    Attributes:
        spec: The model.
        path: Its file or folder; None if it was not pulled.
        copies: Its copies with other types of weights, by type.
    """

    spec: ModelSpec
    path: Path | None
    copies: Mapping[str, Path] = field(default_factory=dict)


def resolve(name: str | os.PathLike[str]) -> Path:
    """Return the file or folder of a model. Nothing is downloaded.

    Args:
        name: A path, a name of `REGISTRY`, a name with a type (`smollm2-135m:q4_0`), or `hf:owner/repository/file` for a
            file of the hub that was pulled.

    Raises:
        ConfigurationError: `name` is not an existing path and not a known name.
        ModelLoadError: The name is known, but the model is not on this machine, or was changed.
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
        raise ModelLoadError(
            f"the model {name!r} is not on this machine. Get it with: {command}", path=path, model=name
        )
    return path


def list_models() -> list[ModelStatus]:
    """Return the models of the registry, and their files on this machine."""
    statuses = []
    for spec in registry.REGISTRY.values():
        folder = folder_of(spec)
        kinds = sorted(record.parent.name for record in folder.glob(f"*/{_RECORD}"))
        copies = {kind: copy for kind in kinds if _is_unchanged(copy := _copy(spec, kind))}
        statuses.append(ModelStatus(spec, entry_of(spec, folder) if is_complete(spec, folder) else None, copies))
    return statuses


def keep_copy(name: str, kind: str, make: Callable[[Path, Path], object]) -> Path:
    """Return the copy of a model that `resolve` finds as `name:kind`. Make it first if it does not exist or was changed.

    Args:
        name: A name of `REGISTRY`; the model must have been pulled.
        kind: The type of the weights of the copy, such as "q4_0".
        make: Called with the model's file or folder and the GGUF file to write.

    Raises:
        ConfigurationError: The name is unknown, it is an encoding, or `kind` is not a word.
        ModelLoadError: The model is not on this machine.
        StorageError: The cache cannot be written.
    """
    spec = find_spec(name)
    if spec.kind == "tiktoken" or not re.fullmatch(r"\w+", kind):
        raise ConfigurationError(
            f"cannot make a copy of type {kind!r} of {name!r}. Only a model has copies, and the type is a word such as q4_0"
        )
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
    """Return the path that is loaded: the file of a model, or its folder if it has several files."""
    return folder / spec.files[0].path if len(spec.files) == 1 else folder


def is_complete(spec: ModelSpec, folder: Path) -> bool:
    """Return whether all files exist and are verified. A file whose size or time changed is hashed again."""
    try:
        record = _read_record(folder / _RECORD)
        for file in spec.files:
            path = folder / file.path
            status = path.stat()
            if record.get(file.path) != [status.st_size, status.st_mtime_ns] and sha256_of(path) != file.sha256:
                logger.warning("%s was changed. `leanrag pull %s` gets it again", path, spec.name)
                return False
    except (OSError, ValueError):
        return False
    return True


def _copy(spec: ModelSpec, kind: str) -> Path:
    return folder_of(spec) / kind / f"{spec.name}.{kind}.gguf"


def _is_unchanged(copy: Path) -> bool:
    """Return whether a copy exists and was not changed."""
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
