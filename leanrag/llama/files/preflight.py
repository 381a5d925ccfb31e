"""Checks what a GGUF file says about its model, before llama.cpp reads it.

llama.cpp asserts some of these values or divides by them, and then ends the process, which Python cannot catch.
"""

from __future__ import annotations

import os
import re

from leanrag.errors import ModelLoadError
from leanrag.llama.files.gguf import STRING_ITEMS, GGUFArray, GGUFHeader, GGUFInfo, read_header, refuse

__all__ = ["check_gguf"]

_MAX_BLOCKS = 512  # LLAMA_MAX_LAYERS: llama-model.cpp asserts it
_MAX_N_CTX = 2**22
_MAX_WIDTH = 2**20
_MAX_TOKENS = 2**21

_BYTE_TOKEN = 6  # llama.h, LLAMA_TOKEN_TYPE_BYTE
_TOKENIZERS = frozenset({"llama", "gpt2", "bert", "t5", "rwkv", "plamo2", "no_vocab", "none"})


def check_gguf(path: str | os.PathLike[str]) -> GGUFInfo:
    """Read the header of a GGUF file, and check that llama.cpp can load the file safely.

    Raises:
        ModelLoadError: The file is missing, truncated, malformed, not a model, or exceeds a limit; the message says which.
    """
    header = read_header(path)
    _check_kind(header.info)
    _check_meaning(header)
    return header.info


def _check_kind(info: GGUFInfo) -> None:
    """Refuse files that hold something else than a model."""
    kind, path = info.metadata.get("general.type", "model"), info.path
    if kind == "adapter":
        architecture = info.metadata.get("general.architecture")
        raise ModelLoadError(
            f"{str(path)!r} is a LoRA adapter for a model of the architecture {architecture!r:.80}, not a model. Load it together "
            f"with that model: LlamaCppModel('base.gguf', adapters=[{str(path)!r}]), or the model name 'base.gguf+{path}'",
            path=path,
        )


def _check_meaning(header: GGUFHeader) -> None:
    """Check the values that llama.cpp asserts or divides by."""
    info = header.info
    architecture = info.metadata.get("general.architecture")
    if not isinstance(architecture, str) or not re.fullmatch(r"[\w.-]{1,64}", architecture):
        refuse(info.path, f"general.architecture is {architecture!r:.80}, not a name")
    for key, low, high in (
        ("block_count", 1, _MAX_BLOCKS),
        ("context_length", 1, _MAX_N_CTX),
        ("embedding_length", 1, _MAX_WIDTH),
        ("feed_forward_length", 0, 2**24),
        ("attention.head_count", 0, 4096),
        ("attention.head_count_kv", 0, 4096),
        ("attention.key_length", 1, 2**16),
        ("attention.value_length", 1, 2**16),
        ("rope.dimension_count", 0, 2**16),
        ("expert_count", 0, 4096),
        ("expert_used_count", 0, 4096),
        ("vocab_size", 1, _MAX_TOKENS),
    ):
        value = info.metadata.get(f"{architecture}.{key}")
        if value is None or isinstance(value, GGUFArray):  # an array has a value for each layer
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            refuse(info.path, f"{architecture}.{key} is {value!r:.80}, not from {low} to {high:,}")
    heads, kv_heads = info.number("attention.head_count"), info.number("attention.head_count_kv")
    if heads and kv_heads and (kv_heads > heads or heads % kv_heads):
        refuse(info.path, f"{kv_heads} key-value heads do not divide {heads} heads")
    _check_vocabulary(header)
    _check_splits(info)


def _check_vocabulary(header: GGUFHeader) -> None:
    path, metadata = header.info.path, header.info.metadata
    model = metadata.get("tokenizer.ggml.model")
    if model is not None and model not in _TOKENIZERS:
        refuse(path, f"tokenizer.ggml.model is {model!r:.80}, but must be one of {', '.join(sorted(_TOKENIZERS))}")
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is None:
        if model not in (None, "no_vocab", "none"):
            refuse(path, "it has a tokenizer but no tokens")
        return
    if not isinstance(tokens, GGUFArray) or tokens.item_type != STRING_ITEMS or not tokens.length:
        refuse(path, "tokenizer.ggml.tokens is not a list of strings")
    _check_tokens(header)
    for key, kinds in (("token_type", {4, 5}), ("scores", {6})):
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
        if kind == _BYTE_TOKEN and not re.fullmatch(rb"<0x[0-9A-Fa-f]{2}>", token):
            refuse(path, f"the token {token.decode('utf-8', 'replace')!r:.80} is marked as a byte but is not a byte")


def _check_splits(info: GGUFInfo) -> None:
    path = info.path
    count = info.metadata.get("split.count")
    if not isinstance(count, int) or count <= 1:
        return
    found = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if found is None:
        refuse(path, f"it is one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf")
    parts = [path.with_name(f"{found[1]}-{part:05}-of-{found[3]}.gguf") for part in range(1, count + 1)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        refuse(path, f"of its {count} parts, these are missing in its folder: {', '.join(missing)[:400]}")
