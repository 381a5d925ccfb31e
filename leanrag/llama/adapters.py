"""LoRA adapters: small files that change the weights of a model when it computes.

llama.cpp adds them to a context, not to the weights. So several models with different adapters share the weights of one file, and
each has a context of its own.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from leanrag.errors import ConfigurationError
from leanrag.files import known_sha256
from leanrag.llama.files import GGUFInfo, check_adapter
from leanrag.llama.files.adapters import PROFILE_KEY
from leanrag.types import Adapter

__all__ = ["AdapterSource", "find_adapters", "name_with_adapters", "split_source"]

AdapterSource: TypeAlias = "str | os.PathLike[str] | tuple[str | os.PathLike[str], float]"
"""The GGUF file of an adapter, or the file and the scale of its changes; a file alone has the scale 1."""


def split_source(source: AdapterSource) -> tuple[Path, float]:
    """Return the file and the scale of an adapter.

    Raises:
        ConfigurationError: It is neither a path nor a path with a finite scale.
    """
    path, scale = (source, 1.0) if isinstance(source, (str, os.PathLike)) else source
    if type(scale) not in (int, float) or not math.isfinite(scale):
        raise ConfigurationError(
            f"the scale of an adapter must be a finite number, got {scale!r} for {os.fspath(path)!r}"
        )
    return Path(path), float(scale)


def find_adapters(sources: Sequence[AdapterSource], base: GGUFInfo) -> tuple[Adapter, ...]:
    """Check adapters against a model, and return them with their hashes.

    Raises:
        ConfigurationError: The list is not a list of adapters, or has a file twice.
        ModelLoadError: A file is not an adapter for this model.
    """
    if isinstance(sources, (str, os.PathLike)):
        raise ConfigurationError(f"`adapters` must be a list of files, or of files and scales, got {sources!r}")
    adapters: list[Adapter] = []
    for source in sources:
        path, scale = split_source(source)
        info = check_adapter(path, base, lambda: known_sha256(base.path))
        profile = info.metadata.get(PROFILE_KEY)
        adapters.append(Adapter(path, scale, known_sha256(path), profile if isinstance(profile, str) else ""))
    if len({adapter.sha256 for adapter in adapters}) != len(adapters):
        raise ConfigurationError(
            f"`adapters` has the same adapter twice: {', '.join(str(each.path) for each in adapters)}"
        )
    return tuple(adapters)


def name_with_adapters(name: str, adapters: Sequence[Adapter]) -> str:
    """Return the name of a model with its adapters, such as "base+reader" or "base+reader@0.5"."""
    scales = ("" if adapter.scale == 1 else f"@{adapter.scale:g}" for adapter in adapters)
    return name + "".join(f"+{adapter.path.stem}{scale}" for adapter, scale in zip(adapters, scales, strict=True))
