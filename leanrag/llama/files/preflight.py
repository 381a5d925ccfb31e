"""Checks what a GGUF file says about its model, before llama.cpp reads it.

llama.cpp asserts some of these values or divides by them, and then ends the process, which Python cannot catch.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from leanrag.errors import ModelLoadError
from leanrag.llama.files.gguf import STRING_ITEMS, GGUFArray, GGUFHeader, GGUFInfo, read_header, refuse

__all__ = ["check_gguf"]

_MAX_PARTS = 1000
_BYTE_TOKEN = 6  # llama.h, LLAMA_TOKEN_TYPE_BYTE
_UINT16, _INT32, _UINT32, _FLOAT32 = 2, 5, 4, 6  # gguf.h, enum gguf_type

_RANGES = {
    "block_count": (1, 512),  # llama-hparams.h, LLAMA_MAX_LAYERS
    "context_length": (1, 2**22),
    "embedding_length": (1, 2**20),
    "embedding_length_out": (0, 2**20),
    "feed_forward_length": (0, 2**24),
    "attention.head_count": (0, 4096),  # 0: layers without attention, such as those of Mamba
    "attention.head_count_kv": (0, 4096),
    "attention.key_length": (1, 2**16),
    "attention.value_length": (1, 2**16),
    "rope.dimension_count": (0, 2**16),
    "expert_count": (0, 1024),  # llama-hparams.h, LLAMA_MAX_EXPERTS
    "expert_used_count": (0, 1024),
    "expert_group_count": (0, 1024),
    "expert_group_used_count": (0, 1024),
    "vocab_size": (1, 2**21),
}
"""Least and most of the numbers of an architecture; they limit each item of a list too, which has an item for each layer."""

_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")  # llama-model.cpp, LLAMA_ROPE_SCALING_TYPES
_OTHER_KINDS = {"mmproj": "the image or audio part of a model", "imatrix": "an importance matrix"}


def check_gguf(path: str | os.PathLike[str]) -> GGUFInfo:
    """Read the header of a GGUF file, and check that llama.cpp can load the file safely.

    A model in several files may be named by any of them: the result describes the whole model, and its `path` is the first file.

    Raises:
        ModelLoadError: The file is missing, truncated, malformed, not a model, or exceeds a limit; the message says which.
    """
    header = read_header(path)
    _check_kind(header.info)
    parts = _find_parts(header)
    if parts:
        headers = [read_header(part) for part in parts]
        _check_parts(headers)
        header = dataclasses.replace(headers[0], info=_join([each.info for each in headers]))
    _check_architecture(header.info)
    _check_ranges(header.info)
    _check_layers(header.info)
    _check_experts(header.info)
    _check_rope(header.info)
    _check_vocabulary(header)
    return header.info


def _check_kind(info: GGUFInfo) -> None:
    """Refuse files that contain something else than a model."""
    kind, path = info.metadata.get("general.type"), info.path
    if kind == "adapter":
        architecture = info.metadata.get("general.architecture")
        raise ModelLoadError(
            f"{str(path)!r} is a LoRA adapter for a model of the architecture {architecture!r:.80}, not a model. Load it together "
            f"with that model: LlamaCppModel('base.gguf', adapters=[{str(path)!r}]), or the model name 'base.gguf+{path}'",
            path=path,
        )
    if kind in _OTHER_KINDS:
        raise ModelLoadError(
            f"{str(path)!r} is {_OTHER_KINDS[str(kind)]}, not a model. Pass the file of the model", path=path
        )


# Models in several files


def _find_parts(header: GGUFHeader) -> list[Path]:
    """Return all files of a model from one of them; empty for a model in one file.

    The files are found by their names, beside the file or beside what it links to.

    Raises:
        ModelLoadError: A file is missing, or the name of the file is not that of a part.
    """
    path, count = header.info.path, header.info.metadata.get("split.count")
    if not isinstance(count, int) or count <= 1:
        return []
    if count > _MAX_PARTS:
        refuse(path, f"it is one of {count:,} parts; at most {_MAX_PARTS} are allowed")
    problem = f"its name does not end in -00001-of-{count:05}.gguf, by which the other parts are found"
    for name in _follow_links(path):
        found = re.fullmatch(rf"(.*)-(\d{{5}})-of-{count:05}\.gguf", name.name)
        if found is None:
            continue
        parts = [name.with_name(f"{found[1]}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)]
        missing = [part.name for part in parts if not part.exists()]
        if not missing:
            return parts
        problem = f"these are missing in its folder: {', '.join(missing)[:400]}"
    raise ModelLoadError(
        f"{str(path)!r} is one of the {count} parts of a model, but {problem}. Get all parts", path=path
    )


def _follow_links(path: Path) -> Iterator[Path]:
    """Yield the path, and what it links to, link by link."""
    for _ in range(40):  # as many as Linux follows
        yield path
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()


def _check_parts(headers: Sequence[GGUFHeader]) -> None:
    for i, header in enumerate(headers):
        number = header.info.metadata.get("split.no")
        if header.kinds.get("split.no") != _UINT16 or number != i:
            refuse(
                header.info.path, f"split.no is {number!r:.80}, but this is part {i} of {len(headers)}, counted from 0"
            )


def _join(infos: Sequence[GGUFInfo]) -> GGUFInfo:
    """Return the header of a model in several files: the values of the first file, and the tensors of all."""
    types: collections.Counter[str] = collections.Counter()
    for info in infos:
        types.update(info.tensor_types)
    return dataclasses.replace(
        infos[0],
        parts=tuple(info.path for info in infos),
        size_bytes=sum(info.size_bytes for info in infos),
        tensor_types=dict(types),
        n_params=sum(info.n_params for info in infos),
        tensor_bytes={name: size for info in infos for name, size in info.tensor_bytes.items()},
        shapes={name: shape for info in infos for name, shape in info.shapes.items()},
    )


# The numbers of the network


def _check_architecture(info: GGUFInfo) -> None:
    architecture = info.metadata.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[\w.-]{1,64}", architecture):
        refuse(info.path, f"general.architecture is {architecture!r:.80}, not a name")


def _check_ranges(info: GGUFInfo) -> None:
    """Check each number alone."""
    for key, (low, high) in _RANGES.items():
        value = info.metadata.get(f"{info.architecture}.{key}")
        if value is None:
            continue
        items = value.numbers if isinstance(value, GGUFArray) else (value,)
        if not all(type(item) is int and low <= item <= high for item in items):
            shown = list(items) if isinstance(value, GGUFArray) else value
            refuse(info.path, f"{info.architecture}.{key} is {shown!r:.80}, not from {low} to {high:,}")
    for key, value in info.metadata.items():
        if key.endswith("epsilon") and not (isinstance(value, float) and 0 <= value < math.inf):
            refuse(info.path, f"{key} is {value!r:.80}, not a number of at least 0")


def _check_layers(info: GGUFInfo) -> None:
    """Check the width, the numbers of layers and the numbers of heads against each other and against the tensors."""
    width, shape = info.number("embedding_length"), info.shapes.get("token_embd.weight")
    if width is not None and shape is not None and shape[0] != width:
        refuse(
            info.path,
            f"{info.architecture}.embedding_length is {width:,}, but token_embd.weight has rows of {shape[0]:,}",
        )
    n_layers = info.number("block_count") or 0
    for key in ("nextn_predict_layers", "posnet.block_count", "convnext.block_count"):
        value = info.number(key) or 0
        if not 0 <= value <= n_layers:
            refuse(info.path, f"{info.architecture}.{key} is {value:,}, but there are only {n_layers} layers")
    all_heads = _by_layer(info, "attention.head_count", n_layers)
    all_kv_heads = _by_layer(info, "attention.head_count_kv", n_layers) or all_heads
    for i, (heads, kv_heads) in enumerate(zip(all_heads, all_kv_heads, strict=False)):
        if heads and kv_heads and (kv_heads > heads or heads % kv_heads):
            refuse(info.path, f"in layer {i}, {kv_heads} key-value heads do not divide {heads} heads")
        is_linear = f"blk.{i}.ssm_conv1d_k.weight" in info.shapes  # attention with a recurrent state, as in Kimi Linear
        if not kv_heads and heads and f"blk.{i}.attn_k.weight" in info.shapes and not is_linear:
            refuse(info.path, f"layer {i} has attention, but no key-value heads")


def _by_layer(info: GGUFInfo, key: str, n_layers: int) -> list[int]:
    """Return the number of each layer; empty if the key is missing."""
    numbers = [int(number) for number in info.numbers(key)]
    return numbers * n_layers if len(numbers) == 1 else numbers


def _check_experts(info: GGUFInfo) -> None:
    """Check the numbers of experts as llama-model.cpp asserts them."""
    if info.architecture in ("hunyuan_vl", "hunyuan-dense") and (info.number("expert_count") or 0) <= 1:
        return  # llama.cpp ignores the other numbers then
    n_experts, n_groups = info.number("expert_count") or 0, info.number("expert_group_count") or 0
    n_used = max((int(number) for number in info.numbers("expert_used_count")), default=0)
    n_groups_used = info.number("expert_group_used_count") or 0

    def fail(key: str, value: int, why: str) -> None:
        refuse(info.path, f"{info.architecture}.{key} is {value:,}, but {why}")

    if n_used > n_experts:
        fail("expert_used_count", n_used, f"expert_count is {n_experts:,}")
    if n_experts and not n_used:
        fail("expert_count", n_experts, "expert_used_count is 0")
    if n_groups and n_groups >= n_experts:
        fail("expert_group_count", n_groups, f"expert_count is {n_experts:,}")
    if n_groups > 1:
        if n_experts % n_groups:
            fail("expert_group_count", n_groups, f"it does not divide expert_count, which is {n_experts:,}")
        if not 0 < n_groups_used < n_groups:
            fail("expert_group_used_count", n_groups_used, f"expert_group_count is {n_groups:,}")


def _check_rope(info: GGUFInfo) -> None:
    """Check how positions are encoded."""
    scaling = info.metadata.get(f"{info.architecture}.rope.scaling.type", "linear")
    if scaling not in _ROPE_SCALINGS:
        refuse(
            info.path,
            f"{info.architecture}.rope.scaling.type is {scaling!r:.80}, but must be one of {', '.join(_ROPE_SCALINGS)}",
        )
    heads = max((int(number) for number in info.numbers("attention.head_count")), default=0)
    n_rotated = info.number("rope.dimension_count")
    head_size = max(
        (info.number("embedding_length") or 0) // heads if heads else 0,
        info.number("attention.key_length") or 0,
        info.number("attention.key_length_swa") or 0,
    )
    if heads and n_rotated is not None and (n_rotated % 2 or not 0 < n_rotated <= head_size):
        allowed = f"even, and from 2 to the size of a head, {head_size:,}"  # with 0, Phi-3 computes without end
        refuse(info.path, f"{info.architecture}.rope.dimension_count is {n_rotated:,}, but must be {allowed}")


# The vocabulary


def _check_vocabulary(header: GGUFHeader) -> None:
    """Check the lists of the vocabulary. Which tokenizers llama.cpp knows, it says itself."""
    path, metadata = header.info.path, header.info.metadata
    model, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    if model is not None and not isinstance(model, str):
        refuse(path, f"tokenizer.ggml.model is {model!r:.80}, not a name")
    if tokens is None:
        if model not in (None, "no_vocab", "none"):
            refuse(path, "it has a tokenizer but no tokens")
        return
    if not isinstance(tokens, GGUFArray) or tokens.item_type != STRING_ITEMS or not tokens.length:
        refuse(path, "tokenizer.ggml.tokens is not a list of strings")
    _check_tokens(header)
    for key, kinds in (("token_type", {_UINT32, _INT32}), ("scores", {_FLOAT32})):
        array = metadata.get(f"tokenizer.ggml.{key}")
        if array is not None and (
            not isinstance(array, GGUFArray) or array.item_type not in kinds or array.length < tokens.length
        ):
            refuse(path, f"tokenizer.ggml.{key} must have one number for each of the {tokens.length:,} tokens")
    merges = metadata.get("tokenizer.ggml.merges")
    if merges is not None and not (isinstance(merges, GGUFArray) and merges.item_type == STRING_ITEMS):
        refuse(path, "tokenizer.ggml.merges is not a list of strings")
    for key, value in metadata.items():
        if not (key.startswith("tokenizer.ggml.") and key.endswith("_token_id")):
            continue
        is_none = value in (-1, 2**32 - 1)  # all bits set
        if not isinstance(value, int) or not (0 <= value < tokens.length or is_none):
            refuse(path, f"{key} is {value!r:.80}, but there are only {tokens.length:,} tokens")


def _check_tokens(header: GGUFHeader) -> None:
    path, metadata = header.info.path, header.info.metadata
    named = [token for token in header.tokens if token]  # llama.cpp gives names to empty tokens
    if len(set(named)) != len(named):
        refuse(path, "two tokens have the same text")
    if metadata.get("tokenizer.ggml.model") == "llama":
        missing = {b"<0x%02X>" % byte for byte in range(256)}.difference(named)
        if missing:
            refuse(path, f"its tokenizer needs a token for each byte, but the token {min(missing).decode()} is missing")
    for token, kind in zip(header.tokens, header.token_types, strict=False):
        if kind == _BYTE_TOKEN and metadata.get("tokenizer.ggml.model") == "bert":
            refuse(path, "its tokenizer is 'bert', which has no byte tokens, but it has some")
        if kind == _BYTE_TOKEN and not re.fullmatch(rb"<0x[0-9A-Fa-f]{2}>", token):
            refuse(path, f"the token {token.decode('utf-8', 'replace')!r:.80} is marked as a byte but is not a byte")
