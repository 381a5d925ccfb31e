"""Copies of models that are known by name, with weights of another type: made on this machine, by llama.cpp or the converter.

`models` knows where a copy is, the makers in `llama` know nothing of names; here they meet.
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
    """Check that a model can have a copy of this type, before anything is fetched for it.

    Raises:
        ConfigurationError: It cannot; the message says what can.
    """
    spec = REGISTRY.get(name)
    if spec is None:
        raise ConfigurationError(
            f"only models known by name have copies, and {name!r} is none of {', '.join(REGISTRY)}. Pull it as it is, then: "
            f"leanrag quantize {name} OUT --type {type}"
        )
    types: dict[str, tuple[str, ...]] = {"gguf": tuple(QUANTIZED_TYPES), "sentence-transformers": CONVERTED_TYPES}
    allowed = types.get(spec.kind, ())
    if type not in allowed:
        can = f"must be one of {', '.join(allowed)}" if allowed else "is for models; this is none"
        raise ConfigurationError(f"`type` of a copy of {name} {can}; got {type!r}")


def make_copy(name: str, type: str) -> Path:  # noqa: A002 - llama.cpp's word
    """Return the copy of a model that is here, made first if need be: what `NAME:TYPE` stands for.

    Raises:
        ConfigurationError: As `check_copy`.
        ModelLoadError: The model is not here, or cannot be rewritten.
        StorageError: The cache cannot be written.
    """
    check_copy(name, type)
    convert: Callable[..., object] = quantize if REGISTRY[name].kind == "gguf" else convert_bert
    return keep_copy(name, type, functools.partial(convert, type=type, overwrite=True))


def find_embedder(name: str) -> Path:
    """Return what to embed with for a name or a path: of a model that llama.cpp runs from a copy, that copy.

    The copy is made when it is not there, which takes a second and fetches nothing: the same name is the same embedder,
    whatever else is installed.

    Raises:
        ConfigurationError: It is neither a path that exists nor a known name.
        ModelLoadError: The model is not here; the message says how to get it.
        StorageError: The copy cannot be made, for the cache cannot be written.
    """
    spec = REGISTRY.get(name)
    if spec is None or not spec.copy_type or Path(name).exists():
        return resolve(name)
    try:
        return resolve(f"{name}:{spec.copy_type}")
    except ModelLoadError:
        return make_copy(name, spec.copy_type)
