"""The model in torch, made from the dequantized tensors of a GGUF file, in the order of rows that the file has.

An adapter that is trained on it fits llama.cpp's copy of the same file: nothing is merged, and nothing is quantized again.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch.utils.checkpoint import checkpoint

from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.llama.files import check_gguf

if TYPE_CHECKING:
    from leanrag.llama.files import GGUFInfo

__all__ = ["LINEAR_NAMES", "Decoder", "GreedyReply", "ModelShape", "generate_greedily", "load_decoder"]

LINEAR_NAMES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
"""The matrices of a layer, as GGUF files name them."""

_INTERLEAVED = {"llama": True, "qwen2": False}
"""Whether the rotary embedding turns neighbouring elements (llama.cpp's type "norm") or the halves of a head ("neox")."""

_LENGTH_STEP = 32  # batches are padded to a multiple of this, so that the memory of one is reused for the next


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The numbers of a network."""

    architecture: str
    n_layers: int
    width: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_base: float
    epsilon: float

    @classmethod
    def of(cls, info: GGUFInfo) -> ModelShape:
        """Read the numbers from the header of a GGUF file.

        Raises:
            ConfigurationError: Models of this kind cannot be trained.
        """
        name = info.architecture
        if name not in _INTERLEAVED:
            raise ConfigurationError(
                f"{info.path.name} has the architecture {name!r}, which cannot be trained. Use a model of the architecture "
                f"{' or '.join(_INTERLEAVED)}"
            )
        for key in ("rope.scaling.type", "attention.sliding_window", "expert_count"):
            if info.metadata.get(f"{name}.{key}") not in (None, 0, "none"):
                raise ConfigurationError(
                    f"{info.path.name} uses {key} = {info.metadata[f'{name}.{key}']!r}, which cannot be trained. Use another model"
                )
        width, n_heads = info.number("embedding_length") or 0, info.number("attention.head_count") or 1
        head_dim = info.number("attention.key_length") or width // n_heads
        if (info.number("rope.dimension_count") or head_dim) != head_dim:
            raise ConfigurationError(
                f"{info.path.name} rotates a part of each head, which cannot be trained. Use another model"
            )
        return cls(
            name,
            info.number("block_count") or 0,
            width,
            n_heads,
            info.number("attention.head_count_kv") or n_heads,
            head_dim,
            float(info.metadata.get(f"{name}.rope.freq_base", 10_000.0)),  # type: ignore[arg-type]
            float(info.metadata[f"{name}.attention.layer_norm_rms_epsilon"]),  # type: ignore[arg-type]
        )


class _Layer(nn.Module):  # type: ignore[misc]
    def __init__(self, shape: ModelShape, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.shape = shape
        self.attn_norm = nn.Parameter(tensors["attn_norm.weight"])
        self.ffn_norm = nn.Parameter(tensors["ffn_norm.weight"])
        for name in LINEAR_NAMES:
            setattr(self, name, _linear(tensors[f"{name}.weight"], tensors.get(f"{name}.bias")))

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        shape = self.shape
        batch, length, _ = x.shape
        normed = self._norm(x, self.attn_norm)
        q, k, v = (
            project(normed).view(batch, length, -1, shape.head_dim).transpose(1, 2)  # (batch, heads, length, head_dim)
            for project in (self.attn_q, self.attn_k, self.attn_v)
        )
        q, k = (
            _rotate(q, cos, sin, _INTERLEAVED[shape.architecture]),
            _rotate(k, cos, sin, _INTERLEAVED[shape.architecture]),
        )
        repeats = shape.n_heads // shape.n_kv_heads
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        # Rows are padded on the right, so that the causal mask alone keeps the padding out of sight.
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, length, -1))
        normed = self._norm(x, self.ffn_norm)
        return x + self.ffn_down(F.silu(self.ffn_gate(normed)) * self.ffn_up(normed))

    def _norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), weight.float(), self.shape.epsilon).to(x.dtype)


class Decoder(nn.Module):  # type: ignore[misc]
    """A language model of the architecture llama or qwen2.

    Args:
        shape: Its numbers.
        tensors: Its tensors by their names in the GGUF file.
    """

    def __init__(self, shape: ModelShape, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Parameter(tensors["token_embd.weight"])
        self.output_norm = nn.Parameter(tensors["output_norm.weight"])
        self.output = nn.Parameter(tensors["output.weight"]) if "output.weight" in tensors else None
        self.layers = nn.ModuleList(_Layer(shape, _tensors_below(tensors, f"blk.{i}.")) for i in range(shape.n_layers))
        self.checkpoints_layers = False

    @property
    def n_tokens(self) -> int:
        """Size of the vocabulary."""
        return int(self.token_embd.shape[0])

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states `(batch, length, width)` of tokens `(batch, length)` that are padded on the right."""
        x = F.embedding(tokens, self.token_embd)
        if torch.is_autocast_enabled(tokens.device.type):
            x = x.to(torch.get_autocast_dtype(tokens.device.type))
        cos, sin = self._rotations(tokens.shape[1], tokens.device)
        for layer in self.layers:
            if self.checkpoints_layers and torch.is_grad_enabled():
                x = checkpoint(layer, x, cos, sin, use_reentrant=False)
            else:
                x = layer(x, cos, sin)
        return F.rms_norm(x.float(), (x.shape[-1],), self.output_norm.float(), self.shape.epsilon).to(x.dtype)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits `(..., n_tokens)`, float32, of hidden states `(..., width)`."""
        weight = self.token_embd if self.output is None else self.output
        return F.linear(hidden, weight.to(hidden.dtype)).float()

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a program has few models, and they live as long as it
    def _rotations(self, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        dim = self.shape.head_dim
        frequencies = self.shape.rope_base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)  # (length, head_dim / 2)
        return angles.cos().float().to(device), angles.sin().float().to(device)


def load_decoder(path: str | os.PathLike[str]) -> Decoder:
    """Return the model of a GGUF file, float32, on the CPU. All parameters are frozen.

    Raises:
        ModelLoadError: The file is damaged, or lacks a tensor.
        ConfigurationError: Models of this kind cannot be trained.
    """
    info = check_gguf(path)
    shape = ModelShape.of(info)
    tensors = dict(_read_tensors(Path(path)))
    known = {"token_embd.weight", "output.weight", "output_norm.weight"}
    layer_names = {
        "attn_norm.weight",
        "ffn_norm.weight",
        *(f"{n}.{part}" for n in LINEAR_NAMES for part in ("weight", "bias")),
    }
    known |= {f"blk.{i}.{name}" for i in range(shape.n_layers) for name in layer_names}
    if unknown := sorted(set(tensors) - known):
        raise ConfigurationError(
            f"{info.path.name} has the tensor {unknown[0]!r}, which cannot be trained. Use another model"
        )
    try:
        model = Decoder(shape, tensors)
    except KeyError as error:
        raise ModelLoadError(f"{str(path)!r} lacks the tensor {error}. Get the file again", path=info.path) from error
    model.requires_grad_(False)
    return model


def _read_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    import gguf

    for tensor in gguf.GGUFReader(path).tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        yield tensor.name, torch.from_numpy(values.astype("float32").reshape(tuple(tensor.shape[::-1]))).clone()


def _tensors_below(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight)
    if bias is not None:
        linear.bias = nn.Parameter(bias)
    return linear


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """Turn pairs of elements of each head by their position (Su et al., 2021, equation 34)."""
    pairs = x.float().unflatten(-1, (-1, 2) if interleaved else (2, -1))
    first, second = pairs.unbind(-1 if interleaved else -2)
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1 if interleaved else -2)
    return turned.flatten(-2).to(x.dtype)


@dataclass(frozen=True, slots=True)
class GreedyReply:
    """A reply of the most probable tokens.

    Attributes:
        tokens: The tokens, without the one that ends a generation.
        logprobs: The log-probability of each token, that of the end included.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@torch.no_grad()  # type: ignore[untyped-decorator]
def generate_greedily(
    model: Decoder, prompts: Sequence[Sequence[int]], *, max_tokens: int, end: int, batch_tokens: int = 32_768
) -> list[GreedyReply]:
    """Return the most probable tokens after each prompt, up to the token `end`.

    All tokens are computed again for each new token: this is for short replies of models in training, not for use.
    """
    device = model.token_embd.device
    replies: list[list[int]] = [[] for _ in prompts]
    logprobs: list[list[float]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    while order:
        count = max(1, batch_tokens // (len(prompts[order[-1]]) + max_tokens))
        waiting, order = order[-count:], order[:-count]
        for _ in range(max_tokens):
            rows = [[*prompts[i], *replies[i]] for i in waiting]
            last = torch.tensor([len(row) - 1 for row in rows], device=device)
            hidden = model.hidden(pad_rows(rows, device))[torch.arange(len(rows), device=device), last]
            best = model.logits(hidden).log_softmax(-1).max(-1)
            for i, token, logprob in zip(waiting, best.indices.tolist(), best.values.tolist(), strict=True):
                replies[i].append(token)
                logprobs[i].append(logprob)
            waiting = [i for i in waiting if replies[i][-1] != end]
            if not waiting:
                break
    return [
        GreedyReply(tuple(reply[:-1] if reply[-1:] == [end] else reply), tuple(values))
        for reply, values in zip(replies, logprobs, strict=True)
    ]


def pad_rows(rows: Sequence[Sequence[int]], device: Any) -> torch.Tensor:
    """Return rows of tokens as a matrix, padded on the right with token 0."""
    length = -(-max(map(len, rows)) // _LENGTH_STEP) * _LENGTH_STEP
    return torch.tensor([[*row, *[0] * (length - len(row))] for row in rows], device=device)
