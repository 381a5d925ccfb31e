"""Low-rank adapters (Hu et al., ICLR 2022): put on a model, and written as a GGUF file that llama.cpp applies to the same model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from leanrag.checks import check_whole
from leanrag.errors import ModelLoadError
from leanrag.files import whole_file
from leanrag.llama.files.adapters import BASE_NAME_KEY, BASE_SHA256_KEY, PROFILE_KEY
from leanrag.training.base import LINEAR_NAMES, Decoder

__all__ = ["LoraLinear", "add_lora", "average_adapters", "load_adapter", "lora_layers", "rank_of", "write_adapter"]


class LoraLinear(nn.Module):  # type: ignore[misc]
    """A matrix that stays as it is, and the product of two small matrices that are trained.

    Args:
        base: The layer.
        rank: Rows of the first small matrix.
        alpha: The product is multiplied by `alpha / rank`.
        generator: Draws the first small matrix; the second one is zero, so that at first nothing changes.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.scale = base, alpha / rank
        columns = base.in_features
        self.a = nn.Parameter(torch.randn(rank, columns, generator=generator) / math.sqrt(columns))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the layer with the change."""
        change = F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))
        return self.base(x) + change * self.scale


def add_lora(model: Decoder, *, rank: int, alpha: float, seed: int = 0) -> None:
    """Put an adapter on all matrices of all layers; only the adapter is trained from then on.

    Raises:
        ConfigurationError: `rank` is less than 1.
    """
    check_whole(1, rank=rank)
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for layer in model.layers:
        for name in LINEAR_NAMES:
            setattr(layer, name, LoraLinear(getattr(layer, name), rank, alpha, generator))


def lora_layers(model: Decoder) -> Iterator[tuple[str, LoraLinear]]:
    """Yield the changed matrices with their names in a GGUF file."""
    for i, layer in enumerate(model.layers):
        for name in LINEAR_NAMES:
            if isinstance(linear := getattr(layer, name), LoraLinear):
                yield f"blk.{i}.{name}.weight", linear


def rank_of(model: Decoder) -> int:
    """Return the rank of the adapter of a model."""
    _, layer = next(lora_layers(model))
    return int(layer.a.shape[0])


def write_adapter(
    path: Path,
    model: Decoder,
    *,
    base_name: str,
    base_sha256: str,
    profile: str,
    name: str = "reader",
    type: Literal["f16", "q8_0"] = "f16",  # noqa: A002 - llama.cpp's word
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the adapter of a model as a GGUF file.

    Args:
        path: The file; it appears when it is complete.
        model: The model.
        base_name: Name of the model without the adapter.
        base_sha256: Hash of its file; llama.cpp's copy of another file is refused.
        profile: Name of the profile by which the model with the adapter is asked.
        name: Name of the adapter.
        type: Type of the numbers. A matrix whose rows are not a multiple of 32 long is always written as f16.
        metadata: Further texts for the header, by key.

    Raises:
        StorageError: The file cannot be written.
    """
    import gguf

    with whole_file(path) as part:
        writer = gguf.GGUFWriter(part, model.shape.architecture)
        writer.add_type("adapter")
        writer.add_name(name)
        writer.add_string("adapter.type", "lora")
        keys = {BASE_NAME_KEY: base_name, BASE_SHA256_KEY: base_sha256, PROFILE_KEY: profile}
        for key, text in {**keys, **(metadata or {})}.items():
            writer.add_string(key, text)
        # llama.cpp multiplies by alpha / rank; the scale is in the second matrix already.
        writer.add_float32("adapter.lora.alpha", float(rank_of(model)))
        for tensor_name, layer in lora_layers(model):
            for suffix, weights in (("lora_a", layer.a), ("lora_b", layer.b * layer.scale)):
                values = weights.detach().float().cpu().numpy()
                if type == "q8_0" and values.shape[1] % 32 == 0:
                    kind = gguf.GGMLQuantizationType.Q8_0
                    writer.add_tensor(f"{tensor_name}.{suffix}", gguf.quants.quantize(values, kind), raw_dtype=kind)
                else:
                    writer.add_tensor(f"{tensor_name}.{suffix}", values.astype(np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def load_adapter(path: Path, model: Decoder) -> None:
    """Put the adapter of a GGUF file on all matrices of a model; only the adapter is trained from then on.

    Raises:
        ModelLoadError: The file is damaged, does not change all matrices, or was made for a model of another shape.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        alpha = float(reader.fields["adapter.lora.alpha"].contents())
        tensors = {
            tensor.name: torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
            for tensor in reader.tensors
        }
        rank = len(next(weights for name, weights in tensors.items() if name.endswith(".lora_a")))
        add_lora(model, rank=rank, alpha=2 * rank)
        with torch.no_grad():
            for name, layer in lora_layers(model):
                layer.a.copy_(tensors[f"{name}.lora_a"])
                layer.b.copy_(tensors[f"{name}.lora_b"] * (alpha or rank) / rank / layer.scale)
    except (OSError, ValueError, KeyError, IndexError, StopIteration, RuntimeError) as error:
        raise ModelLoadError(
            f"{str(path)!r} is not an adapter for this model: {error!r}. Name an adapter that was trained on this model",
            path=path,
        ) from error


def average_adapters(models: Sequence[Decoder], into: Decoder) -> None:
    """Fill the adapter of a model with the mean of the changes of others, in the nearest form of its rank.

    The mean of models that were trained from the same start is often better than each of them (Wortsman et al., ICML 2022).

    Args:
        models: Models with adapters, trained from the same base.
        into: The model that gets the mean; its adapter may have another rank.
    """
    sources = [dict(lora_layers(model)) for model in models]
    with torch.no_grad():
        for name, layer in lora_layers(into):
            first = torch.cat([source[name].a.float().cpu() for source in sources])
            second = torch.cat([source[name].b.float().cpu() * source[name].scale for source in sources], dim=1)
            # The best approximation of a rank is a truncated singular value decomposition (Eckart and Young, 1936).
            row_basis, row_rest = torch.linalg.qr(second / len(sources))
            column_basis, column_rest = torch.linalg.qr(first.T)
            u, values, v = torch.linalg.svd(row_rest @ column_rest.T)
            rank = min(layer.a.shape[0], len(values))
            layer.a.zero_()
            layer.b.zero_()
            layer.a[:rank] = values[:rank].sqrt()[:, None] * v[:rank] @ column_basis.T
            layer.b[:, :rank] = row_basis @ u[:, :rank] * values[:rank].sqrt() / layer.scale
