"""The choice of the layers for each GPU, computed before a model is loaded.

llama.cpp puts the last layers of a model on GPUs. The output layer is the very last. Each GPU gets consecutive layers. The keys
and values of a layer are on the same device as its weights. Token embeddings stay in the memory of the host.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from leanrag.errors import ConfigurationError
from leanrag.llama.files.gguf import GGUFInfo
from leanrag.llama.library import Device, compiled_backends, list_devices
from leanrag.llama.placement.memory import available_bytes, estimate_memory

__all__ = [
    "CPU_ONLY",
    "DevicePart",
    "GpuOptions",
    "ModelSizes",
    "Placement",
    "Split",
    "check_gpu_options",
    "gpu_backends",
    "gpu_devices",
    "measure_sizes",
    "place",
    "share",
]

Split = Literal["layer", "row", "none"]

_MARGIN = 256 * 2**20  # bytes of a GPU that stay free, because CUDA needs memory too ...
_MARGIN_SHARE = 50  # ... or a fiftieth of its memory, if that is more
_BACKENDS = ("cuda", "hip", "metal", "musa", "sycl", "vulkan")


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Which part of a model goes on GPUs.

    Attributes:
        layers: Number of layers on GPUs, the output layer included; -1 puts all layers there, 0 none. "auto" puts as many as fit
            into the free memory of the GPUs, together with window and working space; without a GPU that is none. `placement` of
            the model shows the result.
        split: How several GPUs share the layers: "layer" gives each GPU a run of layers, "row" gives each a part of every
            matrix, "none" uses one GPU. None means "layer", or "none" with `main_gpu`. "row" is an error if the backend cannot do
            it; in llama-cpp-python 0.3.36 only SYCL can.
        tensor_split: A proportion for each GPU; None fills GPU after GPU, and uses as few as possible.
        main_gpu: Index of the GPU for the split "none", from 0.
    """

    layers: int | Literal["auto"] = "auto"
    split: Split | None = None
    tensor_split: Sequence[float] | None = None
    main_gpu: int | None = None

    def __post_init__(self) -> None:
        if self.tensor_split is not None:
            object.__setattr__(self, "tensor_split", tuple(self.tensor_split))

    @property
    def wants_gpu(self) -> bool:
        """Whether something was asked for that only a GPU can do."""
        choices = (self.split, self.tensor_split, self.main_gpu)
        return self.layers not in (0, "auto") or any(value is not None for value in choices)

    @property
    def effective_split(self) -> Split:
        """How layers are split, the default filled in."""
        return self.split or ("layer" if self.main_gpu is None else "none")


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Memory of the parts of a model, in bytes.

    Attributes:
        layers: Weights of each layer, the output layer last.
        cache: Keys and values of each layer; 0 for the output layer.
        host: Weights that always stay in the memory of the host.
        scratch: Working space of a computation, on every GPU that computes.
        spread: The part of `layers` that a split by rows divides among all GPUs.
    """

    layers: tuple[int, ...]
    cache: tuple[int, ...]
    host: int
    scratch: int
    spread: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DevicePart:
    """The part of a model on one GPU.

    Attributes:
        name: Name of the device in llama.cpp.
        description: Name of the hardware.
        layers: Number of layers, including the output layer.
        size_bytes: Estimate of weights, keys, values and working space.
        free_bytes: Free memory before the load.
    """

    name: str
    description: str
    layers: int
    size_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Which layers of a model are on which GPU.

    Attributes:
        layers: Number of layers on GPUs, including the output layer.
        n_layers: Number of all layers, including the output layer.
        devices: The part of each GPU; empty if the CPU computes everything.
        reason: Why this number of layers, in a few words.
        split: How GPUs share the layers.
        tensor_split: A proportion for each GPU, for llama.cpp.
        main_gpu: Index of the GPU for the split "none".
    """

    layers: int
    n_layers: int
    devices: tuple[DevicePart, ...]
    reason: str
    split: Split = "layer"
    tensor_split: tuple[float, ...] = ()
    main_gpu: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        """Loads of a file with equal keys can share the weights."""
        return (self.layers, self.split, self.tensor_split, self.main_gpu) if self.layers else ()

    def __str__(self) -> str:
        parts = [f"{p.name}: {p.layers} layers, {p.size_bytes / 2**20:,.0f} MiB" for p in self.devices if p.size_bytes]
        return f"{self.layers} of {self.n_layers} layers on GPUs ({'; '.join([*parts, self.reason])})"


CPU_ONLY = Placement(0, 0, (), "the CPU was asked for")


def gpu_backends() -> tuple[str, ...]:
    """Return the kinds of GPU that this build of llama.cpp supports, such as "cuda", even if the machine has no GPU."""
    return tuple(backend for backend in compiled_backends() if backend in _BACKENDS)


def gpu_devices(devices: Sequence[Device] | None = None) -> list[Device]:
    """Return the GPUs that llama.cpp would use, in its order: all discrete GPUs, or without them all integrated GPUs.

    An integrated GPU that reports no memory shares the memory of the host. A discrete GPU that reports no memory has none free:
    CUDA cannot report it when other processes use all of it.
    """
    devices = list_devices() if devices is None else devices
    gpus = [device for device in devices if device.kind == "gpu"]
    gpus = gpus or [device for device in devices if device.kind == "igpu"]
    available = available_bytes()
    shared = 2**62 if math.isinf(available) else int(available)
    return [
        gpu if gpu.total_bytes or gpu.kind == "gpu" else replace(gpu, free_bytes=shared, total_bytes=shared)
        for gpu in gpus
    ]


def check_gpu_options(
    options: GpuOptions, devices: Sequence[Device], backends: Callable[[], Sequence[str]] = gpu_backends
) -> None:
    """Check that the GPUs of this machine can do what the options ask for.

    Args:
        options: The options to check.
        devices: The GPUs of this machine.
        backends: Returns the kinds of GPU that this build supports.

    Raises:
        ConfigurationError: An option has a wrong value, or needs a GPU that the build or the machine does not have.
    """
    layers, split, proportions = options.layers, options.split, options.tensor_split
    is_count = isinstance(layers, int) and not isinstance(layers, bool) and layers >= -1
    if not is_count and layers != "auto":
        raise ConfigurationError(f"`gpu.layers` must be 'auto', -1 (all), 0 (none) or a count, got {layers!r}")
    if split not in (None, "layer", "row", "none"):
        raise ConfigurationError(f"`gpu.split` must be 'layer', 'row' or 'none', got {split!r}")
    if proportions is not None and (
        not proportions
        or not all(_is_number(value) and 0 <= value <= 1e30 for value in proportions)  # llama.cpp sums them in 32 bits
        or not sum(proportions) >= 1e-30
    ):
        raise ConfigurationError(
            f"`gpu.tensor_split` must be proportions of at least 0, not all of them 0, got {list(proportions)!r}"
        )
    if options.wants_gpu and not devices:
        raise ConfigurationError(_no_gpu(options, backends()))
    if proportions is not None and options.effective_split == "none":
        raise ConfigurationError(
            "`gpu.tensor_split` divides a model between GPUs, but with `split` 'none', or `main_gpu`, all of it is on one GPU. "
            "Leave one of them out"
        )
    if proportions is not None and len(proportions) != len(devices):
        raise ConfigurationError(
            f"`gpu.tensor_split` must give a proportion for each of the {len(devices)} GPUs "
            f"({', '.join(device.name for device in devices)}), got {len(proportions)}: {list(proportions)!r}"
        )
    if options.main_gpu is not None:
        if options.effective_split != "none":
            raise ConfigurationError(
                f"`gpu.main_gpu` needs `split` 'none' or None, got `split` {split!r}. Leave out one of them"
            )
        if not _is_number(options.main_gpu) or options.main_gpu not in range(len(devices)):
            raise ConfigurationError(
                f"`gpu.main_gpu` must be from 0 to {len(devices) - 1}, one of the {len(devices)} GPUs, got {options.main_gpu!r}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _no_gpu(options: GpuOptions, backends: Sequence[str]) -> str:
    asked = {
        "layers": options.layers if options.layers not in (0, "auto") else None,
        "split": options.split,
        "tensor_split": options.tensor_split and list(options.tensor_split),
        "main_gpu": options.main_gpu,
    }
    what = " and ".join(f"`gpu.{name}` is {value!r}" for name, value in asked.items() if value is not None)
    if backends:
        return (
            f"{what}, and this build of llama.cpp ({', '.join(backends)}) sees no GPU: there is none, its driver is missing or "
            'too old, or it is hidden (CUDA_VISIBLE_DEVICES=""). Look with `leanrag doctor`, or compute on the CPU: '
            "GpuOptions(layers=0)"
        )
    return (
        f"{what}, but this build of llama.cpp computes on the CPU only. Leave it out, or rebuild: "
        'CMAKE_ARGS="-DGGML_CUDA=on" (NVIDIA), "-DGGML_METAL=on" (Apple) or "-DGGML_VULKAN=on", then '
        "pip install --force-reinstall --no-cache-dir llama-cpp-python"
    )


def measure_sizes(info: GGUFInfo, *, n_ctx: int, n_batch: int, kv_bytes: float = 2.0) -> ModelSizes:
    """Return the memory of each part of a model with a window of `n_ctx` tokens, computed from its header.

    Args:
        info: The header of the file.
        n_ctx: Window in tokens.
        n_batch: Most rows of a computation.
        kv_bytes: Bytes of a number in the cache.
    """
    n_repeating = info.number("block_count") or 0
    estimate = estimate_memory(info, n_ctx=n_ctx, n_batch=n_batch)
    layers, spread = [0] * (n_repeating + 1), [0] * (n_repeating + 1)
    host = 0
    for name, size in info.tensor_bytes.items():
        block = re.match(r"blk\.(\d+)\.", name)
        if block and int(block[1]) < n_repeating:
            layer = int(block[1])
        elif name.startswith("output"):
            layer = n_repeating
        else:
            host += size
            continue
        layers[layer] += size
        spread[layer] += size if name.endswith(".weight") and "norm" not in name else 0
    if "output.weight" not in info.tensor_bytes:  # llama.cpp copies the token embeddings to the output layer
        tied = info.tensor_bytes.get("token_embd.weight", 0)
        layers[-1] += tied
        spread[-1] += tied
    if isinstance(parts := info.metadata.get("split.count"), int) and parts > 1:  # other layers are in other files
        total = sum(part.stat().st_size for part in info.path.parent.glob(f"*-of-{parts:05}.gguf"))
        layers = spread = [-(-total // len(layers))] * len(layers)
    per_layer = -(-int(estimate.cache * kv_bytes / 2) // max(1, n_repeating))
    return ModelSizes(tuple(layers), (*[per_layer] * n_repeating, 0), host, estimate.compute, tuple(spread))


def share(sizes: ModelSizes, devices: Sequence[Device], options: GpuOptions, loaded: Placement) -> Placement | None:
    """Return the placement of loaded weights if another context on them fits into the GPUs, else None."""
    wanted = (options.effective_split, options.main_gpu or 0)
    if options.layers != "auto" or wanted != (loaded.split, loaded.main_gpu):
        return None
    if options.tensor_split is not None and options.tensor_split != loaded.tensor_split:
        return None
    zeros = (0,) * len(sizes.layers)
    window = replace(sizes, layers=zeros, spread=zeros)
    try:
        again = replace(options, layers=loaded.layers, tensor_split=loaded.tensor_split or None)
        return replace(place(window, devices, again), reason="the weights were there already")
    except ConfigurationError:
        return None


def place(
    sizes: ModelSizes, devices: Sequence[Device], options: GpuOptions, *, at_most: int | None = None
) -> Placement:
    """Choose the layers to put on each GPU.

    "auto" takes as many layers as fit into the free memory of the GPUs, less a margin. A number of layers must fit, but without the
    margin. Without proportions, one GPU is filled after another, and as few GPUs as possible are used.

    Args:
        sizes: Memory of the parts of the model.
        devices: The GPUs, from `gpu_devices`.
        options: Checked options.
        at_most: Most layers that "auto" puts on GPUs; None for no limit.

    Raises:
        ConfigurationError: The requested number of layers does not fit; the message has the estimate.
    """
    n_layers = len(sizes.layers)
    split, main_gpu = options.effective_split, options.main_gpu or 0
    if options.layers == 0 or not devices:
        return replace(
            CPU_ONLY, n_layers=n_layers, reason=CPU_ONLY.reason if options.layers == 0 else "there is no GPU"
        )
    used = [devices[main_gpu]] if split == "none" else list(devices)

    def result(n: int, shares: Sequence[int], counts: Sequence[int], reason: str) -> Placement:
        parts = tuple(
            DevicePart(device.name, device.description, count, share, device.free_bytes)
            for device, count, share in zip(used, counts, shares, strict=True)
        )
        proportions = tuple(options.tensor_split or map(float, counts))
        return Placement(n, n_layers, parts, reason, split, proportions if n and split != "none" else (), main_gpu)

    if options.layers != "auto":
        n = n_layers if options.layers == -1 else min(options.layers, n_layers)
        room = [device.free_bytes for device in used]
        counts = _counts(sizes, room, n, options, split)
        shares = _shares(sizes, counts, options, split)
        placement = result(n, shares, counts, "as asked for")
        if any(share > free for share, free in zip(shares, room, strict=True)):
            raise ConfigurationError(_does_not_fit(sizes, placement, devices, options))
        return placement
    room = [device.free_bytes - max(_MARGIN, device.total_bytes // _MARGIN_SHARE) for device in used]
    for n in range(n_layers if at_most is None else min(n_layers, at_most), 0, -1):
        counts = _counts(sizes, room, n, options, split)
        shares = _shares(sizes, counts, options, split)
        if all(share <= max(0, free) for share, free in zip(shares, room, strict=True)):
            reason = (
                "all of them fit" if n == n_layers else "no more fit" if at_most is None else "fewer, after a failure"
            )
            return result(n, shares, counts, reason)
    return result(0, [0] * len(used), [0] * len(used), "no layer fits")


def _counts(sizes: ModelSizes, room: Sequence[int], n: int, options: GpuOptions, split: Split) -> list[int]:
    """Return the number of layers of each GPU if the last `n` layers are on GPUs."""
    if options.tensor_split is not None:
        return _proportional(options.tensor_split, n)
    if split == "row":
        return _proportional([max(0, free) or 1e-9 for free in room], n)
    return _filled(sizes, room, n)


def _filled(sizes: ModelSizes, room: Sequence[int], n: int) -> list[int]:
    """Return the number of layers of each GPU: each takes as many as fit, the last takes all remaining layers."""
    needed = [weights + cache for weights, cache in zip(sizes.layers[-n:], sizes.cache[-n:], strict=True)]
    counts, n_placed = [], 0
    for free in room[:-1]:
        free_bytes = free - sizes.scratch
        count = 0
        while n_placed + count < n and (free_bytes := free_bytes - needed[n_placed + count]) >= 0:
            count += 1
        counts.append(count)
        n_placed += count
    return [*counts, n - n_placed]


def _proportional(proportions: Sequence[float], n: int) -> list[int]:
    """Divide `n` layers exactly as llama.cpp does, in its precision: `load_tensors` in llama-model.cpp, 0.3.36."""
    sums = np.cumsum(np.array(proportions, np.float32), dtype=np.float32)
    sums /= sums[-1]
    gpus = np.searchsorted(sums, np.arange(n, dtype=np.float32) / np.float32(n), side="right")
    return np.bincount(np.minimum(gpus, len(sums) - 1), minlength=len(sums)).tolist() if n else [0] * len(sums)


def _shares(sizes: ModelSizes, counts: Sequence[int], options: GpuOptions, split: Split) -> list[int]:
    """Return the bytes that each GPU needs for its layers."""
    n = sum(counts)
    first = len(sizes.layers) - n
    shares = []
    proportions = np.array(options.tensor_split or counts, np.float64)
    proportions = proportions / (proportions.sum() or 1)
    spread = sum(sizes.spread[first:]) if split == "row" else 0
    ends = list(itertools.accumulate(counts, initial=first))
    for start, end, proportion in zip(ends, ends[1:], proportions.tolist(), strict=False):
        size = sum(sizes.layers[start:end]) + sum(sizes.cache[start:end])
        if split == "row":
            size += math.ceil(spread * proportion) - sum(sizes.spread[start:end])
        shares.append(size + sizes.scratch if size else 0)
    return shares


def _does_not_fit(sizes: ModelSizes, placement: Placement, devices: Sequence[Device], options: GpuOptions) -> str:
    estimates = "; ".join(
        f"{part.name} needs about {part.size_bytes / 2**20:,.0f} MiB and has {part.free_bytes / 2**20:,.0f} free"
        for part in placement.devices
    )
    fitting = place(sizes, devices, replace(options, layers="auto")).layers
    return (
        f"`gpu.layers` is {options.layers}, {placement.layers} of {placement.n_layers} layers, and they do not fit: {estimates}. "
        f"Use GpuOptions(layers={fitting}), or 'auto', a smaller `n_ctx`, or a smaller model"
    )
