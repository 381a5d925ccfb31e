"""Checks a LoRA adapter against the model that it changes, before llama.cpp reads it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from leanrag.errors import ModelLoadError
from leanrag.llama.files.gguf import GGUFInfo, read_header, refuse

__all__ = ["BASE_NAME_KEY", "BASE_SHA256_KEY", "PROFILE_KEY", "check_adapter"]

BASE_NAME_KEY = "leanrag.base_name"
"""Optional key of an adapter: the name of the model that it was trained on."""
BASE_SHA256_KEY = "leanrag.base_sha256"
"""Optional key of an adapter: the hash of the file that it was trained on, hexadecimal."""
PROFILE_KEY = "leanrag.profile"
"""Optional key of an adapter: the name of the profile by which the model with the adapter is asked."""

Shape: TypeAlias = "tuple[int, ...]"

_UNUSABLE_TYPES = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}
_FACTOR = re.compile(r"(.+)\.lora_([ab])")


def check_adapter(path: str | os.PathLike[str], base: GGUFInfo, hash_base: Callable[[], str]) -> GGUFInfo:
    """Read the header of a LoRA adapter, and check that it fits the model.

    Args:
        path: The GGUF file of the adapter.
        base: The model.
        hash_base: Returns the SHA-256 of the model's file, hexadecimal; called if the adapter names the hash of its base.

    Raises:
        ModelLoadError: The file is missing, damaged or not a LoRA adapter, or it was made for another model; the message says for
            which.
    """
    info = read_header(path).info
    _check_kind(info)
    wanted = _describe_base(info)

    def refuse_base(reason: str) -> ModelLoadError:
        return ModelLoadError(
            f"the adapter {str(info.path)!r} does not fit {str(base.path)!r}: {reason}. It was made for {wanted}. Load it with "
            "that model",
            path=info.path,
        )

    if info.metadata["general.architecture"] != base.architecture:
        raise refuse_base(f"the architecture of this model is {base.architecture!r}")
    for name, factors in _pair_factors(info).items():
        _check_factors(base, name, factors, refuse_base)
    sha256 = info.metadata.get(BASE_SHA256_KEY)
    if sha256 is not None and sha256 != (found := hash_base()):
        raise refuse_base(f"the SHA-256 of this model is {found}")
    return info


def _check_kind(info: GGUFInfo) -> None:
    """Check the keys that llama.cpp reads. It ends the process if one has another type."""
    metadata = info.metadata
    for key, wanted in (("general.type", "adapter"), ("adapter.type", "lora")):
        if metadata.get(key) != wanted:
            raise ModelLoadError(
                f"{str(info.path)!r} is not a LoRA adapter: its {key} is {metadata.get(key)!r:.80}, not {wanted!r}. Pass a GGUF "
                "file that convert_lora_to_gguf.py of llama.cpp wrote",
                path=info.path,
            )
    if not isinstance(metadata.get("general.architecture"), str):
        refuse(info.path, "general.architecture is missing")
    alpha = metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not math.isfinite(alpha):
        refuse(info.path, f"adapter.lora.alpha is {alpha!r:.80}, not a finite number")
    if "adapter.alora.invocation_tokens" in metadata:
        raise ModelLoadError(
            f"{str(info.path)!r} is an activated LoRA adapter, which changes the model only after certain tokens. Only adapters "
            "that change the model for the whole text are supported",
            path=info.path,
        )


def _describe_base(info: GGUFInfo) -> str:
    """Say which model an adapter wants, as far as its header tells."""
    metadata = info.metadata
    name = metadata.get(BASE_NAME_KEY) or metadata.get("general.base_model.0.name")
    sha256 = metadata.get(BASE_SHA256_KEY)
    described = repr(name) if name else "a model"
    described += f" of the architecture {metadata['general.architecture']!r:.80}"
    return described + (f" with the SHA-256 {sha256}" if sha256 else "")


def _pair_factors(info: GGUFInfo) -> Mapping[str, tuple[Shape, Shape]]:
    """Return the shapes of both factors, by the name of the tensor that they change."""
    factors: dict[str, dict[str, Shape]] = {}
    for name, shape in info.shapes.items():
        found = _FACTOR.fullmatch(name)
        if found is not None:
            factors.setdefault(found[1], {})[found[2]] = shape
        elif not name.endswith("_norm.weight"):  # llama.cpp ignores these
            refuse(info.path, f"the tensor {name!r} is not a part of a LoRA adapter")
    for name, pair in factors.items():
        if len(pair) != 2:
            refuse(info.path, f"{name}.lora_a or {name}.lora_b is missing")
    kinds = sorted(set(info.tensor_types) & _UNUSABLE_TYPES)
    if kinds:
        refuse(info.path, f"llama.cpp cannot multiply matrices of the type {kinds[0]}")
    if not factors:
        refuse(info.path, "it has no tensors")
    return {name: (pair["a"], pair["b"]) for name, pair in factors.items()}


def _check_factors(
    base: GGUFInfo,
    name: str,
    factors: tuple[Shape, Shape],
    refuse_base: Callable[[str], ModelLoadError],
) -> None:
    """Check the factors of one tensor. llama.cpp adds `scale * b @ a` to a matrix, with `a` and `b` in its order of dimensions."""
    shape = base.shapes.get(name)
    if shape is None:
        raise refuse_base(f"this model has no tensor {name!r}")
    columns, rows, *others = _four(shape)
    rank = factors[1][0]
    expected = (columns, rank, *others), (rank, rows, *others)
    if name == "token_embd.weight":
        # llama.cpp 0c1e570 ends the process: the output would need the other order
        if "output.weight" not in base.shapes:
            raise refuse_base("this model uses its token embeddings for the output too, so no adapter can change them")
        expected = (rank, rows, *others), (rank, columns, *others)
    if tuple(map(_four, factors)) != expected:
        raise refuse_base(
            f"the shape of {name!r} in this model is {shape}, and the shapes of the factors are {factors[0]} and {factors[1]}"
        )


def _four(shape: Shape) -> Shape:
    """Return the shape with four dimensions."""
    return shape + (1,) * (4 - len(shape))
