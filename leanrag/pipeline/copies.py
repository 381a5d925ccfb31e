"""Copies of models that are known by name, with weights of another type; they are made on this machine.

The wing `models` knows where the copy of a model is, and the wing `llama` rewrites files; this module connects the two.
"""

from __future__ import annotations

import functools
import logging
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.files import RecordFormat, cache_dir, keep_record, recall_record
from leanrag.llama.context import build
from leanrag.llama.files.convert import CONVERTED_TYPES, convert_bert
from leanrag.llama.files.fastest import TypeChoice, choose_type, measure_types
from leanrag.llama.files.quantize import QUANTIZED_TYPES, Figures, quantize
from leanrag.models import REGISTRY, keep_copy, resolve
from leanrag.threads import usable_cores

__all__ = ["AUTO", "check_copy", "find_embedder", "find_fastest_type", "make_copy"]

logger = logging.getLogger(__name__)

AUTO = "auto"
"""Stands for the fastest type of weights on this machine, which is measured."""

_FORMAT = RecordFormat("leanrag types", version=1, noun="file of measured types", mend="Delete it")


class _Types(pydantic.BaseModel):
    """The file of measured types of weights: by model and machine, and by type."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    measured: Mapping[str, Mapping[str, Figures]] = {}


def check_copy(name: str, type: str, *, allowed: Sequence[str] = ()) -> None:  # noqa: A002 - llama.cpp's word
    """Check that a model can have a copy of this type, before anything is downloaded for it.

    Args:
        name: The model.
        type: The type.
        allowed: Further words that are allowed for a GGUF model, such as `AUTO`.

    Raises:
        ConfigurationError: The model cannot; the message says which types are allowed.
    """
    spec = REGISTRY.get(name)
    if spec is None:
        raise ConfigurationError(
            f"{name!r} is not a model that is known by name, so it cannot have a copy of another type; these can: "
            f"{', '.join(REGISTRY)}. Pull {name!r} as it is, then run: leanrag quantize {name} OUT --type {type}"
        )
    types: dict[str, tuple[str, ...]] = {
        "gguf": (*QUANTIZED_TYPES, *allowed),
        "sentence-transformers": CONVERTED_TYPES,
    }
    known = types.get(spec.kind, ())
    if not known:
        raise ConfigurationError(f"{name!r} is not a model, so it has no copies of another type such as {type!r}")
    if type not in known:
        raise ConfigurationError(f"`type` of a copy of {name!r} must be one of {', '.join(known)}, got {type!r}")


def make_copy(name: str, type: str) -> Path:  # noqa: A002 - llama.cpp's word
    """Return the copy of a model, which `NAME:TYPE` stands for; make it if it does not exist.

    Raises:
        ConfigurationError: As `check_copy`.
        ModelLoadError: The model is not in the cache, or cannot be rewritten.
        StorageError: The cache cannot be written.
    """
    check_copy(name, type)
    convert: Callable[..., object] = quantize if REGISTRY[name].kind == "gguf" else convert_bert
    return keep_copy(name, type, functools.partial(convert, type=type, overwrite=True))


def find_fastest_type(name: str, **options: Any) -> TypeChoice:
    """Return the fastest type of weights of a model on this machine, of those that keep its quality.

    The first call measures all types, which takes minutes for a model of a billion weights. The cache folder keeps the figures.

    Args:
        name: A name of `REGISTRY`; the model must have been pulled.
        options: `types` and `text`, as for `measure_types`.

    Raises:
        ConfigurationError: The model is unknown, or has no copies of other types.
        ModelLoadError: The model is not on this machine, or cannot be rewritten.
    """
    check_copy(name, AUTO, allowed=(AUTO,))
    source, file = resolve(name), cache_dir() / "types.json"
    key = f"{REGISTRY[name].sha256}; {platform.machine()}, {usable_cores()} cores; {build()}"
    known = recall_record(file, _Types, _FORMAT, effect="types of weights are measured again").measured
    if key in known:
        return choose_type(known[key])
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        figures = measure_types(source, Path(folder), **options)
    measured = _Types(measured={**known, key: figures})
    keep_record(file, measured, _FORMAT, failure="the measured types of weights were not saved")
    return choose_type(figures)


def find_embedder(name: str) -> Path:
    """Return the file or folder of an embedder from its name or path. llama.cpp runs some embedders from a copy: then the copy.

    The copy is made when it does not exist, which takes a second and downloads nothing. So the same name is the same embedder,
    whatever else is installed.

    Raises:
        ConfigurationError: It is neither a path that exists nor a known name.
        ModelLoadError: The model is not in the cache; the message says how to get it.
        StorageError: The copy cannot be made, because the cache cannot be written.
    """
    spec = REGISTRY.get(name)
    if spec is None or not spec.copy_type or Path(name).exists():
        return resolve(name)
    try:
        return resolve(f"{name}:{spec.copy_type}")
    except ModelLoadError:
        return make_copy(name, spec.copy_type)
