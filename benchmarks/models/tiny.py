"""Tiny models of many architectures with seeded random weights: real files for llama.cpp, meaningless words.

Only the numbers of an architecture are written down here. The names and shapes of its tensors come from llama.cpp: it says which
tensor is missing and which shape it expects, until the file loads.
"""

from __future__ import annotations

import ctypes
import re
import zlib
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from leanrag.llama.library import library, native_errors

__all__ = ["ARCHITECTURES", "N_CTX", "WINDOW", "write_model"]

Value = int | float | bool | list[int]

N_CTX = 1024  # the window that the models were trained with, in tokens
WINDOW = 24  # tokens that a layer with a sliding window attends to
_WIDTH, _HEADS, _FEED_FORWARD = 64, 4, 96
_SPECIAL = ("<unk>", "<s>", "</s>")
_LAST_NORMS = ("output_norm.weight", "token_embd_norm.weight")  # the second in LFM2
_BLOCK = re.compile(r"^blk\.\d+\.")
_UNIFORM = ("gemma3n",)  # models of many blocks that all have the same tensors, which is faster to write
_MISSING = re.compile(r"(?:missing tensor '|tensor ')([^']+)'(?: not found|;|$)")
_WRONG_SHAPE = re.compile(r"tensor '([^']+)' has wrong shape; expected ([\d, ]+), got")

_SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 16, "ssm.time_step_rank": 4}
_GATED_DELTA = {**_SSM, "ssm.state_size": 32, "ssm.group_count": 2, "full_attention_interval": 2}
_EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32}
_WINDOWED = {"attention.sliding_window": WINDOW}
_LATENT = {
    "attention.key_length": 48,
    "attention.value_length": 32,
    "attention.key_length_mla": 24,
    "attention.value_length_mla": 16,
    "attention.kv_lora_rank": 32,
    "attention.q_lora_rank": 32,
    "attention.head_count_kv": 1,
    "rope.dimension_count": 16,
    "leading_dense_block_count": 1,
    "expert_shared_count": 1,
}

ARCHITECTURES: Mapping[str, Mapping[str, Value]] = {
    "llama": {},
    "mistral3": {},
    "qwen2": {},
    "qwen3": {"attention.key_length": 16, "attention.value_length": 16},
    "qwen3moe": {**_EXPERTS, "attention.key_length": 16, "attention.value_length": 16},
    "olmo2": {},
    "olmo2 windowed": {**_WINDOWED, "attention.sliding_window_pattern": [1, 0]},
    "starcoder2": {},
    "phi3": {},
    "granite": {"logit_scale": 1.0},
    "smollm3": {"block_count": 4},
    "deepseek2": {**_LATENT, **_EXPERTS},
    "gemma2": {**_WINDOWED, "attention.key_length": 16, "attention.value_length": 16},
    "gemma3": {**_WINDOWED, "block_count": 6, "attention.key_length": 16, "attention.value_length": 16},
    "gemma3n": {
        **_WINDOWED,
        "block_count": 22,
        "attention.key_length": 16,
        "attention.value_length": 16,
    },
    "gemma4": {
        **_WINDOWED,
        "block_count": 5,
        "attention.sliding_window_pattern": [1, 1, 1, 1, 0],
        "attention.key_length": 16,
        "attention.value_length": 16,
        "attention.key_length_swa": 16,
        "attention.value_length_swa": 16,
        "attention.shared_kv_layers": 0,
        "embedding_length_per_layer_input": 4,
    },
    "gpt-oss": {**_WINDOWED, **_EXPERTS, "attention.key_length": 16, "attention.value_length": 16},
    "cohere2": {**_WINDOWED, "block_count": 4, "logit_scale": 1.0},
    "mimo2": {
        **_WINDOWED,
        **_EXPERTS,
        "attention.sliding_window_pattern": [1, 0],
        "leading_dense_block_count": 0,
        "attention.key_length": 16,
        "attention.value_length": 16,
        "rope.freq_base_swa": 10000.0,
    },
    "step35": {
        **_WINDOWED,
        **_EXPERTS,
        "attention.sliding_window_pattern": [1, 0],
        "attention.key_length": 16,
        "attention.value_length": 16,
    },
    "exaone4": {**_WINDOWED, "block_count": 4, "attention.sliding_window_pattern": 4},
    "llama4": {
        **_EXPERTS,
        "block_count": 4,
        "interleave_moe_layer_step": 2,
        "attention.chunk_size": WINDOW,
    },
    "lfm2": {"attention.head_count_kv": [0, 4, 0, 4], "block_count": 4, "shortconv.l_cache": 3},
    "lfm2 windowed": {**_WINDOWED, "attention.head_count_kv": [0, 4, 0, 4], "block_count": 4, "shortconv.l_cache": 3},
    "lfm2moe": {
        **_EXPERTS,
        "expert_gating_func": 2,
        "attention.head_count_kv": [0, 4, 0, 4],
        "block_count": 4,
        "shortconv.l_cache": 3,
        "leading_dense_block_count": 1,
    },
    "jamba": {**_SSM, "attention.head_count_kv": [0, 4]},
    "falcon-h1": {**_SSM, "ssm.group_count": 1},
    "granitehybrid": {**_SSM, "ssm.group_count": 1, "attention.head_count_kv": [0, 4]},
    "nemotron_h": {
        **_SSM,
        "ssm.group_count": 1,
        "block_count": 3,
        "attention.head_count_kv": [0, 4, 0],
        "feed_forward_length": [0, 0, _FEED_FORWARD],
    },
    "kimi-linear": {
        **_LATENT,
        **_EXPERTS,
        "expert_gating_func": 2,
        "attention.head_count_kv": [0, 1],
        "ssm.conv_kernel": 4,
        "kda.head_dim": 16,
    },
    "qwen3next": {**_GATED_DELTA, **_EXPERTS, "expert_shared_feed_forward_length": 32},
    "qwen35": {**_GATED_DELTA, "rope.dimension_sections": [4, 2, 2, 0]},
    "qwen35moe": {
        **_GATED_DELTA,
        **_EXPERTS,
        "rope.dimension_sections": [4, 2, 2, 0],
        "expert_shared_feed_forward_length": 32,
    },
    "mamba": {**_SSM, "attention.head_count": 0, "attention.head_count_kv": 0, "feed_forward_length": 0},
    "mamba2": {
        **_SSM,
        "ssm.group_count": 1,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
        "feed_forward_length": 0,
    },
    "rwkv6": {
        "wkv.head_size": 64,
        "time_mix_extra_dim": 16,
        "time_decay_extra_dim": 16,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
    },
    "rwkv7": {
        "wkv.head_size": 64,
        "attention.head_count": 0,
        "attention.head_count_kv": 0,
        "attention.decay_lora_rank": 16,
        "attention.iclr_lora_rank": 16,
        "attention.value_residual_mix_lora_rank": 16,
        "attention.gate_lora_rank": 16,
    },
}
"""The numbers of each model that differ from the common ones. A name may have a word after llama.cpp's architecture."""

_CHOSEN: Mapping[str, tuple[str, ...]] = {
    "phi3": ("blk.0.attn_qkv.weight", "blk.1.attn_qkv.weight"),
    "falcon-h1": ("blk.0.ssm_conv1d.bias", "blk.1.ssm_conv1d.bias"),
    "granitehybrid": ("blk.0.ssm_conv1d.bias",),
    "qwen3next": ("blk.0.attn_qkv.weight", "blk.0.attn_gate.weight"),
    "nemotron_h": ("blk.0.ssm_conv1d.bias",),
    "qwen35": ("blk.0.attn_qkv.weight", "blk.0.attn_gate.weight"),
    "qwen35moe": ("blk.0.attn_qkv.weight", "blk.0.attn_gate.weight"),
    "rwkv6": ("blk.0.time_mix_lerp_fused.weight", "blk.1.time_mix_lerp_fused.weight"),
}
"""Tensors that llama.cpp loads a model without, but needs to compute."""

_COMMON: Mapping[str, Value] = {
    "context_length": N_CTX,
    "embedding_length": _WIDTH,
    "block_count": 2,
    "feed_forward_length": _FEED_FORWARD,
    "attention.head_count": _HEADS,
    "attention.head_count_kv": _HEADS,
    "attention.layer_norm_epsilon": 1e-5,
    "attention.layer_norm_rms_epsilon": 1e-5,
}


def write_model(path: Path, name: str, *, seed: int = 0) -> Path:
    """Write the model `name` of `ARCHITECTURES` to `path`, the same bytes each time, and return `path`.

    Raises:
        RuntimeError: llama.cpp does not load it; the message quotes llama.cpp.
    """
    architecture = name.split()[0]
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_CHOSEN.get(name, ()), (1,))
    weights: dict[str, NDArray[np.float32]] = {}
    while True:
        for tensor, shape in shapes.items():
            if tensor not in weights or weights[tensor].shape != shape:
                weights[tensor] = _weights(tensor, shape, seed)
        _write(path, architecture, {**_COMMON, **ARCHITECTURES[name]}, weights)
        complaint = _try_to_load(path)
        if complaint is None:
            return path
        missing, wrong = _MISSING.search(complaint), _WRONG_SHAPE.search(complaint)
        if missing and missing[1] not in shapes:
            shapes[missing[1]] = shapes.get(_BLOCK.sub("blk.0.", missing[1]), (1,))  # a guess
            if name in _UNIFORM and (block := _BLOCK.match(missing[1])):
                shapes |= {block[0] + tensor[6:]: shapes[tensor] for tensor in shapes if tensor.startswith("blk.0.")}
        elif wrong and shapes[wrong[1]] != (shape := tuple(int(number) for number in wrong[2].split(","))[::-1]):
            shapes[wrong[1]] = shape
        else:
            raise RuntimeError(f"llama.cpp does not load the tiny {name}: {complaint}")


def _try_to_load(path: Path) -> str | None:
    """Return llama.cpp's complaint about a model file; None if it loads."""
    lib = library()
    parameters = lib.llama_model_default_params()
    no_devices = (ctypes.c_void_p * 1)(None)  # the CPU alone
    parameters.devices = ctypes.addressof(no_devices)
    with native_errors() as native:
        native.expected = True
        model = lib.llama_model_load_from_file(str(path).encode(), parameters)
        if not model:
            return str(native)
    lib.llama_model_free(model)
    return None


def _write(
    path: Path, architecture: str, numbers: Mapping[str, Value], weights: Mapping[str, NDArray[np.float32]]
) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in numbers.items():
        _add_number(writer, f"{architecture}.{key}", value)
    kind = gguf.TokenType
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([kind.UNKNOWN, kind.CONTROL, kind.CONTROL, *[kind.BYTE] * 256, kind.NORMAL])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(False)
    for name, values in weights.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_number(writer: gguf.GGUFWriter, key: str, value: Value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


def _weights(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return random weights that neither vanish nor explode: norms are near 1, and a matrix keeps the size of its input."""
    values: NDArray[np.floating] = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape)
    if name.endswith("ssm_a"):
        values = -np.abs(values) - 0.1  # the decay of a state
    elif name.endswith(("attn_q_norm.weight", "attn_k_norm.weight")):
        values = (1 + values / 10) / 2  # sharp attention makes each rounding error larger from layer to layer
    elif "norm" in name and name.endswith("weight"):
        values = (1 + values / 10) * (8 if name in _LAST_NORMS else 1)  # 8: the model decides clearly
    elif name == "token_embd.weight":  # also the output matrix: small, so that a token does not predict itself
        values = values / 20
    elif len(shape) == 1:
        values = values / (10 if name.endswith("bias") else 2)  # a bias is the same for each token
    else:
        values = values / np.sqrt(shape[-1])
    return values.astype(np.float32)
