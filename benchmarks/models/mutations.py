"""Changes GGUF files: by hand where llama.cpp is known to assert something, and at random."""

from __future__ import annotations

import dataclasses
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["Parts", "header_changes", "random_change"]

_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}  # gguf.h, gguf_type
_U32, _F32, _BOOL, _STRING, _ARRAY = 4, 6, 7, 8, 9
_ALIGNMENT = 32


@dataclass
class Pair:
    """A key and its value: the number of the type in gguf.h, and the bytes."""

    kind: int
    payload: bytes


@dataclass
class Tensor:
    """The header of a tensor: its name, its shape, the number of its type, and the offset of its data."""

    name: bytes
    shape: list[int]
    kind: int
    offset: int


@dataclass
class Parts:
    """The parts of a GGUF file."""

    pairs: dict[str, Pair] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""

    @classmethod
    def read(cls, content: bytes) -> Parts:
        """Take a well-formed file apart."""
        parts, position = cls(), 8

        def take(code: str) -> int:
            nonlocal position
            (value,) = struct.unpack_from("<" + code, content, position)
            position += struct.calcsize("<" + code)
            return int(value)

        def take_text() -> bytes:
            nonlocal position
            size = take("Q")
            position += size
            return content[position - size : position]

        def skip(kind: int) -> None:
            nonlocal position
            if kind == _STRING:
                take_text()
            elif kind == _ARRAY:
                item, length = take("I"), take("Q")
                for _ in range(length):
                    skip(item)
            else:
                position += struct.calcsize(_SCALARS[kind])

        n_tensors, n_pairs = take("Q"), take("Q")
        for _ in range(n_pairs):
            key, kind = take_text().decode(), take("I")
            start = position
            skip(kind)
            parts.pairs[key] = Pair(kind, content[start:position])
        for _ in range(n_tensors):
            name, n_dims = take_text(), take("I")
            shape = [take("Q") for _ in range(n_dims)]
            parts.tensors.append(Tensor(name, shape, take("I"), take("Q")))
        parts.data = content[-(-position // _ALIGNMENT) * _ALIGNMENT :]
        return parts

    def write(self) -> bytes:
        """Put the file together."""
        header = b"GGUF" + struct.pack("<IQQ", 3, len(self.tensors), len(self.pairs))
        for key, pair in self.pairs.items():
            header += _text(key.encode()) + struct.pack("<I", pair.kind) + pair.payload
        for tensor in self.tensors:
            header += _text(tensor.name) + struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            header += struct.pack("<IQ", tensor.kind, tensor.offset)
        return header + bytes(-len(header) % _ALIGNMENT) + self.data

    def copy(self) -> Parts:
        """Return a copy; changing its pairs and tensors leaves these as they are."""
        pairs = {key: dataclasses.replace(pair) for key, pair in self.pairs.items()}
        tensors = [dataclasses.replace(tensor, shape=list(tensor.shape)) for tensor in self.tensors]
        return Parts(pairs, tensors, self.data)

    def set(self, key: str, value: object) -> None:
        """Set a value; None removes the key."""
        if value is None:
            self.pairs.pop(key, None)
        elif isinstance(value, str):
            self.pairs[key] = Pair(_STRING, _text(value.encode()))
        elif isinstance(value, list):
            numbers = struct.pack(f"<IQ{len(value)}I", _U32, len(value), *value)
            self.pairs[key] = Pair(_ARRAY, numbers)
        elif isinstance(value, bool):
            self.pairs[key] = Pair(_BOOL, bytes([value]))
        elif isinstance(value, float):
            self.pairs[key] = Pair(_F32, struct.pack("<f", value))
        elif isinstance(value, int):
            self.pairs[key] = Pair(_U32, struct.pack("<I", value))

    def number(self, key: str) -> int | float | None:
        """Return a number; None if it is missing or another type."""
        pair = self.pairs.get(key)
        if pair is None or pair.kind not in _SCALARS:
            return None
        (value,) = struct.unpack("<" + _SCALARS[pair.kind], pair.payload)
        return value  # type: ignore[no-any-return]


def _text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


Change = Callable[[Parts], None]

_ADDED: Mapping[str, tuple[object, ...]] = {
    "expert_count": (0, 1, 4, 8, 2000),
    "expert_used_count": (0, 1, 2, 5, 8, 2000),
    "expert_group_count": (1, 2, 3, 4, 100),
    "expert_group_used_count": (0, 1, 3, 4, 100),
    "expert_gating_func": (0, 3, 99),
    "expert_feed_forward_length": (0, 1, 2**31),
    "expert_shared_count": (0, 99),
    "leading_dense_block_count": (0, 1, 99, 2**31),
    "interleave_moe_layer_step": (0, 3),
    "moe_every_n_layers": (0, 3),
    "nextn_predict_layers": (1, 2, 3, 512),
    "block_count": (0, 1, 3, 511, 512, 513),
    "context_length": (0, 1, 2**22, 2**31),
    "embedding_length": (0, 1, 33, 128, 2**20),
    "embedding_length_out": (0, 1, 2**30),
    "feed_forward_length": (0, 1, 2**24, [], [96], [96, 0], [96] * 600),
    "attention.head_count": (0, 1, 3, 5, 64, 4096, [], [4], [4, 0], [0, 4], [4] * 513),
    "attention.head_count_kv": (0, 1, 3, 8, 4096, [], [4], [4, 0], [3, 5], [4] * 513),
    "attention.key_length": (0, 1, 7, 17, 2**16),
    "attention.value_length": (0, 1, 7, 17, 2**16),
    "attention.key_length_swa": (0, 1, 17, 2**16),
    "attention.sliding_window": (0, 1, 2**31, [1, 2]),
    "attention.sliding_window_pattern": (0, 1, 2, 513, [], [1], [1, 0] * 300),
    "attention.layer_norm_rms_epsilon": (0.0, -1.0, float("nan"), float("inf")),
    "attention.layer_norm_epsilon": (-1.0, float("nan")),
    "attention.causal": (False, True),
    "attention.scale": (0.0, float("nan")),
    "attention.group_norm_groups": (0, 3),
    "attention.kv_lora_rank": (0, 1, 7, 2**31),
    "attention.q_lora_rank": (0, 1, 7),
    "attention.key_length_mla": (0, 1, 7),
    "attention.value_length_mla": (0, 1, 7),
    "attention.max_alibi_bias": (8.0, float("nan")),
    "attention.temperature_length": (0, 1),
    "attention.chunk_size": (0, 1),
    "attention.shared_kv_layers": (1, 2, 99),
    "attention.indexer.head_count": (0, 3),
    "rope.dimension_count": (0, 1, 3, 7, 2**15),
    "rope.dimension_sections": ([], [1], [0, 0, 0, 0], [9, 9, 9, 9], [1] * 9),
    "rope.freq_base": (0.0, -1.0, float("nan")),
    "rope.scaling.type": ("", "none", "linear", "yarn", "longrope", "dynamic", "unknown", 3),
    "rope.scaling.factor": (0.0, -1.0, float("nan")),
    "rope.scaling.original_context_length": (0, 1, 2**31),
    "pooling_type": (0, 1, 3, 4, 99),
    "ssm.conv_kernel": (0, 1, 2**31),
    "ssm.inner_size": (0, 1, 7, 2**31),
    "ssm.state_size": (0, 1, 7, 2**31),
    "ssm.time_step_rank": (0, 1, 3, 2**31),
    "ssm.group_count": (0, 1, 3, 2**31),
    "wkv.head_size": (0, 1, 7, 2**31),
    "time_mix_extra_dim": (0, 7, 2**31),
    "shortconv.l_cache": (0, 1, 2**31),
    "full_attention_interval": (0, 1, 99),
    "altup.num_inputs": (0, 1, 99),
    "embedding_length_per_layer_input": (0, 1, 99),
    "vocab_size": (0, 1, 263, 2**21),
    "logit_scale": (0.0, float("nan")),
    "decoder_start_token_id": (0, 2**31),
    "decoder_block_count": (0, 3, 513),
    "classifier.output_labels": ("x",),
}
"""Values that numbers of an architecture get; also in files that do not have the key."""

_PLAIN: Mapping[str, tuple[object, ...]] = {
    "general.architecture": (
        "t5", "t5encoder", "bert", "clip", "wavtokenizer-dec", "gpt2", "qwen2", "qwen3moe", "gemma3", "mamba", "rwkv6", "jamba",
        "nothing", "", None, 3,
    ),
    "general.alignment": (0, 1, 8, 16, 64, 2**31),
    "general.type": ("adapter", "vocab", "mmproj", "imatrix", 3),
    "general.file_type": (0, 999),
    "tokenizer.ggml.model": ("gpt2", "bert", "t5", "rwkv", "plamo2", "gemma4", "none", "no_vocab", "unheard-of", "", None, 3),
    "tokenizer.ggml.pre": ("default", "llama-bpe", "unheard-of", "", 3),
    "tokenizer.ggml.tokens": (None, [1, 2], "x"),
    "tokenizer.ggml.scores": (None, [1], "x"),
    "tokenizer.ggml.token_type": (None, [1], [9] * 600, "x"),
    "tokenizer.ggml.merges": ([1], "x"),
    "tokenizer.ggml.bos_token_id": (None, 99999, 2**32 - 1, "x"),
    "tokenizer.ggml.eos_token_id": (None, 99999, 2**32 - 1),
    "tokenizer.ggml.unknown_token_id": (None, 99999),
    "tokenizer.ggml.eot_token_id": (0, 99999),
    "tokenizer.ggml.padding_token_id": (0, 2**31),
    "tokenizer.ggml.token_type_count": (0, 2, 2**31),
    "tokenizer.ggml.precompiled_charsmap": ([1, 2, 3], "x", [2**31] * 9),
    "tokenizer.ggml.add_bos_token": (True, 3, "x"),
    "tokenizer.chat_template": ("{% for", "", 3),
    "split.count": (2, 65535),
    "split.no": (1, 65535),
    "split.tensors.count": (1,),
}  # fmt: skip
"""Values of keys that do not belong to an architecture."""


def header_changes(architecture: str) -> Iterator[tuple[str, Change]]:
    """Yield the name and the function of each change of a header."""
    keys = {f"{architecture}.{key}": values for key, values in _ADDED.items()} | dict(_PLAIN)
    for key, values in keys.items():
        for value in (None, *values):
            yield f"{key} = {value!s:.40}", lambda parts, key=key, value=value: parts.set(key, value)  # type: ignore[misc]


def random_change(parts: Parts, rng: random.Random) -> bytes:
    """Return the file with up to three random changes: of a number, a type, a shape, a name, a length, or plain bytes."""
    parts = parts.copy()
    content: bytearray | None = None
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(("number", "number", "key", "shape", "tensor", "array", "bytes", "cut"))
        key = rng.choice(list(parts.pairs) or ["general.name"])
        tensor = rng.choice(parts.tensors) if parts.tensors else None
        if kind == "number" and parts.number(key) is not None:
            old = parts.number(key) or 0
            parts.set(
                key,
                rng.choice((0, 1, 2, 3, 7, 255, 2**16, 2**31, 2**32 - 1, int(abs(old)) * 2 % 2**32, int(abs(old)) + 1)),
            )
        elif kind == "key":
            parts.set(key, rng.choice((None, "x", 1, 1.5, True, [1, 2, 3])))
        elif kind == "shape" and tensor is not None:
            i = rng.randrange(len(tensor.shape))
            tensor.shape[i] = rng.choice((0, 1, tensor.shape[i] * 2, tensor.shape[i] + 32, tensor.shape[i] // 2, 2**40))
        elif kind == "tensor" and tensor is not None:
            if rng.random() < 0.5:
                parts.tensors.remove(tensor)
            else:
                tensor.kind = rng.randrange(45)
        elif kind == "array" and parts.pairs[key].kind == _ARRAY:
            payload = bytearray(parts.pairs[key].payload)
            payload[rng.randrange(len(payload))] = rng.randrange(256)
            parts.pairs[key].payload = bytes(payload)
        elif kind in ("bytes", "cut"):
            content = content or bytearray(parts.write())
            if kind == "cut":
                del content[rng.randrange(len(content)) :]
            end = max(1, len(content) - len(parts.data))
            for _ in range(rng.randint(1, 8) if content else 0):
                content[rng.randrange(min(end, len(content)))] = rng.randrange(256)
    return bytes(content) if content is not None else parts.write()
