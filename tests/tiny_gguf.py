"""A tiny GGUF with seeded random INT4 weights: a real file for the real llama.cpp, meaningless words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np
from numpy.typing import NDArray

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WIDTH, HEADS, FEED_FORWARD = 32, 2, 64
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<tool>"]


def write_tiny_lora(
    path: Path,
    factors: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    *,
    alpha: float | None = 1.0,
    architecture: str = "llama",
    keys: Mapping[str, str] = MappingProxyType({"general.type": "adapter", "adapter.type": "lora"}),
) -> Path:
    """Write a LoRA adapter: `alpha / rank * b @ a` is added to each tensor that is named.

    Args:
        path: Where to.
        factors: By the name of the tensor: `a`, `(rank, columns)`, and `b`, `(rows, rank)`.
        alpha: None leaves the key out.
        architecture: Of the model.
        keys: Further keys.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in keys.items():
        writer.add_string(key, value)
    if alpha is not None:
        writer.add_float32("adapter.lora.alpha", alpha)
    for name, (a, b) in factors.items():
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(a, np.float32))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_gguf(
    path: Path,
    *,
    chat_template: str | None = CHATML,
    seed: int = 0,
    n_ctx: int = 256,
    ascii_only: bool = True,
    tied: bool = False,
) -> Path:
    """Write the file: byte tokens, four control tokens, one user-defined, one layer; the same bytes each time.

    Args:
        path: Where to.
        chat_template: Jinja source, None for a base model.
        seed: Of the weights.
        n_ctx: Trained window.
        tied: Use the token embeddings for the output too.
        ascii_only: Never generate bytes of 0x80 and above, nor control tokens.
    """
    kind = gguf.TokenType
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    types = [kind.UNKNOWN, *[kind.CONTROL] * 4, kind.USER_DEFINED, *[kind.BYTE] * 256, kind.NORMAL]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(4)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)

    random = np.random.default_rng(seed)

    def add(name: str, rows: int, columns: int, zero: list[int] | None = None) -> None:
        weights = random.normal(0, 0.05, (rows, columns)).astype(np.float32)
        weights[zero or []] = 0
        q4_0 = gguf.GGMLQuantizationType.Q4_0
        writer.add_tensor(name, gguf.quants.quantize(weights, q4_0), raw_dtype=q4_0)

    silent = (
        [*range(len(SPECIAL)), *range(len(SPECIAL) + 128, len(SPECIAL) + 256)]
        if ascii_only
        else list(range(len(SPECIAL)))
    )
    add("token_embd.weight", len(tokens), WIDTH)
    if not tied:
        add("output.weight", len(tokens), WIDTH, silent)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("blk.0.attn_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("blk.0.ffn_norm.weight", np.ones(WIDTH, np.float32))
    for name, rows, columns in [
        ("attn_q", WIDTH, WIDTH),
        ("attn_k", WIDTH, WIDTH),
        ("attn_v", WIDTH, WIDTH),
        ("attn_output", WIDTH, WIDTH),
        ("ffn_gate", FEED_FORWARD, WIDTH),
        ("ffn_up", FEED_FORWARD, WIDTH),
        ("ffn_down", WIDTH, FEED_FORWARD),
    ]:
        add(f"blk.0.{name}.weight", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
