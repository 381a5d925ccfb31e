"""Copies of models that are known by name, with weights of another type; they are made on this machine.

The wing `models` knows where the copy of a model is, and the wing `llama` rewrites files; this module connects the two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.llama.files.convert import CONVERTED_TYPES, convert_bert
from leanrag.llama.files.quantize import QUANTIZED_TYPES, quantize
from leanrag.models import REGISTRY, keep_copy, resolve

__all__ = ["check_copy", "find_embedder", "make_copy"]


def check_copy(name: str, type: str) -> None:  # noqa: A002 - llama.cpp's word
    """Check that a model can have a copy of this type, before anything is downloaded for it.

    Raises:
        ConfigurationError: The model cannot; the message says which types are allowed.
    """
    spec = REGISTRY.get(name)
    if spec is None:
        raise ConfigurationError(
            f"{name!r} is not a model that is known by name, so it cannot have a copy of another type; these can: "
            f"{', '.join(REGISTRY)}. Pull {name!r} as it is, then run: leanrag quantize {name} OUT --type {type}"
        )
    types: dict[str, tuple[str, ...]] = {"gguf": tuple(QUANTIZED_TYPES), "sentence-transformers": CONVERTED_TYPES}
    allowed = types.get(spec.kind, ())
    if not allowed:
        raise ConfigurationError(f"{name!r} is not a model, so it has no copies of another type such as {type!r}")
    if type not in allowed:
        raise ConfigurationError(f"`type` of a copy of {name!r} must be one of {', '.join(allowed)}, got {type!r}")


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


def find_embedder(name: str) -> Path:
    """Return the file or folder of an embedder, given its name or a path. llama.cpp runs some embedders from a copy: then the copy.

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
