"""The cache of models: find the files of a model, its adapters and its copies, and check that they are complete.

A model is in the folder `<sha256>`. A record in the folder, which is written last, says that all files were verified.
`NAME:TYPE` is a copy with another type of weights; `leanrag pull NAME --type TYPE` makes it on this machine. Adapters may be
files of this package.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import cache_dir, known_sha256, locked_folder, sha256_of, whole_file
from leanrag.models import hub, registry
from leanrag.models.registry import ModelSpec, find_spec

__all__ = [
    "ModelFiles",
    "ModelStatus",
    "entry_of",
    "folder_of",
    "forget_copies",
    "is_complete",
    "keep_copy",
    "list_models",
    "packaged_adapter",
    "resolve",
    "resolve_model",
    "split_name",
    "unwritable_cache",
    "write_record",
]

logger = logging.getLogger(__name__)

_RECORD = "verified.json"
_PACKAGED = Path(__file__).parent / "adapters"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model or an adapter of the registry, and its files on this machine.

    Attributes:
        spec: The model.
        path: Its file or folder; None if it was not pulled.
        copies: Its copies with other types of weights, by type.
    """

    spec: ModelSpec
    path: Path | None
    copies: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files that a model is loaded from.

    Attributes:
        path: The file or folder of the model.
        adapters: The files of the LoRA adapters that change it.
    """

    path: Path
    adapters: tuple[Path, ...] = ()


def resolve_model(name: str | os.PathLike[str]) -> ModelFiles:
    """Return the files of a model with its adapters. Nothing is downloaded.

    Args:
        name: As for `resolve`, and after it a `+` and an adapter, once or several times. An adapter is a word, if the registry has
            the name `BASE+WORD`, or the path of a GGUF file: `smollm2-135m+reader`, `base.gguf+my.lora.gguf`.

    Raises:
        ConfigurationError: A part of the name is not an existing path and not a known name, or the model cannot answer.
        ModelLoadError: The name is known, but a file is not on this machine, or was changed.
    """
    base, *adapters = split_name(name)
    spec = None if Path(base).exists() else registry.REGISTRY.get(base.partition(":")[0])
    if spec is not None and spec.kind not in ("gguf", "adapter"):
        names = ", ".join(each.name for each in registry.REGISTRY.values() if each.kind in ("gguf", "adapter"))
        raise ConfigurationError(f"{base!r} cannot answer ({spec.about}). The known models that answer are {names}")
    path = resolve(base)
    return ModelFiles(path, tuple(_find_adapter(os.fspath(base), adapter) for adapter in adapters))


def split_name(name: str | os.PathLike[str]) -> list[str]:
    """Return the parts of a name: first the model, then its adapters. A `+` in an existing path separates nothing."""
    if Path(name).exists():
        return [os.fspath(name)]
    parts: list[str] = []
    pending: list[str] = []
    for piece in os.fspath(name).split("+"):
        pending.append(piece)
        joined = "+".join(pending)
        is_hub_file = joined.startswith(hub.PREFIX) and joined.endswith(".gguf")
        is_known = (
            f"{parts[0]}+{joined}" in registry.REGISTRY if parts else joined.partition(":")[0] in registry.REGISTRY
        )
        if is_hub_file or is_known or (joined and Path(joined).exists()):
            parts.append(joined)
            pending.clear()
    return [*parts, "+".join(pending)] if pending else parts


def _find_adapter(base: str, name: str) -> Path:
    spec = registry.REGISTRY.get(f"{base}+{name}")
    if spec is None:
        if name.startswith(hub.PREFIX) or Path(name).is_file():
            return resolve(name)
        words = [each.name for each in registry.REGISTRY.values() if each.kind == "adapter" and each.base == base]
        known = (
            f"The known adapters of this model are {', '.join(words)}"
            if words
            else "No adapter of this model has a name"
        )
        raise ConfigurationError(
            f"{name!r} in {f'{base}+{name}'!r} is not an existing path and not a known adapter. {known}"
        )
    packaged = packaged_adapter(spec)
    if packaged is not None:
        return packaged
    folder = folder_of(spec)
    if not is_complete(spec, folder):
        raise _missing(spec.name, entry_of(spec, folder), f"leanrag pull {spec.name}")
    return entry_of(spec, folder)


def packaged_adapter(spec: ModelSpec) -> Path | None:
    """Return the file of an adapter if it is in this package.

    Raises:
        ModelLoadError: The file was changed.
    """
    path = _PACKAGED / spec.files[0].path
    if not path.is_file():
        return None
    if known_sha256(path) != spec.sha256:
        raise ModelLoadError(f"{str(path)!r} was changed. Install leanrag again", path=path, model=spec.name)
    return path


def _missing(name: str, path: Path, command: str) -> ModelLoadError:
    return ModelLoadError(f"the model {name!r} is not on this machine. Get it with: {command}", path=path, model=name)


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
    if spec.kind == "adapter":
        raise ConfigurationError(
            f"{name!r} is a model with an adapter. Pass a name of a model alone, such as {spec.base!r}"
        )
    folder = folder_of(spec)
    path = _copy(spec, kind) if kind else entry_of(spec, folder)
    if not (_is_unchanged(path) if kind else is_complete(spec, folder)):
        command = f"leanrag pull {spec.name}" + (f" --type {kind}" if kind else "")
        raise _missing(name, path, command)
    return path


def list_models() -> list[ModelStatus]:
    """Return the models of the registry, and their files on this machine."""
    statuses = []
    for spec in registry.REGISTRY.values():
        folder = folder_of(spec)
        if spec.kind == "adapter" and (packaged := packaged_adapter(spec)):
            statuses.append(ModelStatus(spec, packaged))
            continue
        kinds = sorted(copy_folder.name for copy_folder in _copy_folders(folder))
        copies = {kind: copy for kind in kinds if _is_unchanged(copy := _copy(spec, kind))}
        statuses.append(ModelStatus(spec, entry_of(spec, folder) if is_complete(spec, folder) else None, copies))
    return statuses


def keep_copy(name: str, kind: str, make: Callable[[Path, Path], object]) -> Path:
    """Return the copy of a model that `resolve` finds as `name:kind`. Make it first if it does not exist or was changed.

    Several threads and processes may ask for the same copy: one makes it, and the others wait.

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
    if spec.kind in ("adapter", "tiktoken") or not re.fullmatch(r"\w+", kind):
        raise ConfigurationError(
            f"cannot make a copy of type {kind!r} of {name!r}. Only a model has copies, and the type is a word such as q4_0"
        )
    copy = _copy(spec, kind)
    if not _is_unchanged(copy):
        source = resolve(name)
        try:
            with locked_folder(folder_of(spec)):
                if not _is_unchanged(copy):  # another call may have made it meanwhile
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


def forget_copies(folder: Path) -> None:
    """Remove the copies of a model from its folder."""
    for copy_folder in _copy_folders(folder):
        shutil.rmtree(copy_folder, ignore_errors=True)


def _copy_folders(folder: Path) -> list[Path]:
    return [record.parent for record in folder.glob(f"*/{_RECORD}")]


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
