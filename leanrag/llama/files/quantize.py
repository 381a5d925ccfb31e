"""Rewrites a GGUF file with fewer bits or fewer layers, and measures the speed and the perplexity of a file.

llama.cpp's quantizer rewrites the file, in a child process: it cannot be stopped, and a damaged file may end its process.
"""

from __future__ import annotations

import bisect
import ctypes
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leanrag.checks import check_choice, check_whole
from leanrag.children import first_line, function_command
from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import unwritable, whole_file
from leanrag.llama.files.gguf import GGUFArray, GGUFInfo
from leanrag.llama.files.preflight import check_gguf
from leanrag.llama.library import library, native_errors
from leanrag.llama.options import LlamaBase
from leanrag.threads import usable_cores

__all__ = [
    "QUANTIZED_TYPES",
    "Figures",
    "QuantizeReport",
    "has_fast_kernels",
    "measure",
    "perplexity",
    "quantize",
]

QUANTIZED_TYPES: Mapping[str, int] = {
    "f32": 0,
    "f16": 1,
    "bf16": 32,
    "q8_0": 7,
    "q6_k": 18,
    "q5_k_m": 17,
    "q5_k_s": 16,
    "q5_1": 9,
    "q5_0": 8,
    "q4_k_m": 15,
    "q4_k_s": 14,
    "q4_1": 3,
    "q4_0": 2,
    "iq4_nl": 25,
    "iq4_xs": 30,
    "q3_k_l": 13,
    "q3_k_m": 12,
    "q3_k_s": 11,
    "q2_k": 10,
}
"""Types of llama.h, enum llama_ftype, that need no importance matrix. A test compares them with the installed library."""

_LIKE_LAYERED = frozenset({"gemma", "internlm2", "llama", "mistral3", "qwen2", "qwen3", "starcoder2"})
"""Architectures whose layers llama.cpp computes all in the same way; in others this depends on the number of the layer."""

_REPACKED: Mapping[str, frozenset[str]] = {
    "x86": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "arm": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
}
"""Types whose weights llama.cpp reorders at load for vector instructions (AVX2, NEON): see its ggml-cpu/repack.cpp."""

_FAMILIES = {"x86_64": "x86", "amd64": "x86", "arm64": "arm", "aarch64": "arm"}
_FLOATS = frozenset({"F32", "F16", "BF16", "F64"})
_ALIGNMENT = 32  # llama-quant.cpp pads to GGUF_DEFAULT_ALIGNMENT, whatever the file says


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """The result of `quantize`.

    Attributes:
        source: The file that was read.
        target: The file that was written.
        type: The requested type. Tensors that cannot have this type have another.
        source_bytes: Size of the source.
        target_bytes: Size of the target.
        bits_per_weight: Bits of the target for each weight, including its header.
        layers_before: Number of layers of the source.
        layers_after: Number of layers of the target.
        seconds: Time that the rewriting took.
    """

    source: Path
    target: Path
    type: str
    source_bytes: int
    target_bytes: int
    bits_per_weight: float
    layers_before: int
    layers_after: int
    seconds: float


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    type: str = "q4_0",  # noqa: A002 - llama.cpp's word
    prune_layers: Sequence[int] = (),
    threads: int | None = None,
    overwrite: bool = False,
) -> QuantizeReport:
    """Write a GGUF file again with weights of another type, and without the layers in `prune_layers`.

    After an error, `target` is as it was before. Ctrl-C stops at once. A quantized source has lost precision already, so begin with
    the most exact file.

    Args:
        source: A GGUF file of any type, not split into parts.
        target: The file to write.
        type: A name in `QUANTIZED_TYPES`.
        prune_layers: Layers to remove, counted from 0. The model is not trained again: measure the loss with `measure`.
        threads: Number of threads; by default the number of physical cores that this process may use.
        overwrite: Replace `target` if it exists.

    Raises:
        ConfigurationError: An argument is wrong, or layers of this architecture cannot be removed.
        ModelLoadError: The source is damaged, or llama.cpp cannot rewrite it; the message quotes llama.cpp.
        StorageError: The target exists already, or cannot be written.

    Example:
        >>> quantize("model-f16.gguf", "model-q4_0.gguf").bits_per_weight  # doctest: +SKIP
        4.9
    """
    source, target = Path(source), Path(target)
    check_choice(QUANTIZED_TYPES, type=type)
    check_whole(1, optional=True, threads=threads)
    before = check_gguf(source)
    _check_rewritable(before)
    layers = before.number("block_count") or 0
    if prune_layers:
        _check_prunable(before, prune_layers, layers)
    _check_target(source, target, overwrite)
    library()  # an error of loading llama.cpp is raised here, not in the child
    started = time.perf_counter()
    with whole_file(target) as part:
        _rewrite(source, part, QUANTIZED_TYPES[type], threads or usable_cores(), sorted(map(int, prune_layers)))
        after = check_gguf(part)
        layers_after = after.number("block_count") or 0
        if layers_after != layers - len(prune_layers):
            raise ModelLoadError(
                f"{str(source)!r} names {layers:,} layers in its header, but has tensors of other layers. Get the file again",
                path=source,
            )
    return QuantizeReport(
        source=source,
        target=target,
        type=type,
        source_bytes=before.size_bytes,
        target_bytes=after.size_bytes,
        bits_per_weight=8 * after.size_bytes / max(1, after.n_params),
        layers_before=layers,
        layers_after=layers_after,
        seconds=time.perf_counter() - started,
    )


def _check_rewritable(info: GGUFInfo) -> None:
    count = info.metadata.get("split.count", 1)
    if count != 1:
        raise ConfigurationError(
            f"{str(info.path)!r} is one of {count} parts. Join them with: llama-gguf-split --merge"
        )
    alignment = info.metadata.get("general.alignment", _ALIGNMENT)
    if alignment != _ALIGNMENT:  # the quantizer would write the same number, but align to 32
        raise ConfigurationError(
            f"{str(info.path)!r} is aligned to {alignment} bytes, and only files that are aligned to 32 bytes can be rewritten. "
            "Convert the model again with that alignment"
        )


def _check_prunable(info: GGUFInfo, layers: Sequence[int], count: int) -> None:
    wrong = [layer for layer in layers if layer not in range(count)]
    if wrong or len(set(layers)) != len(layers) or len(layers) >= count:
        raise ConfigurationError(
            f"`prune_layers` must be some, not all, of the layers 0 to {count - 1}, each once, got {list(layers)!r:.200}"
        )
    name = info.architecture
    by_layer = [
        key
        for key, value in info.metadata.items()
        if key.startswith(f"{name}.") and isinstance(value, GGUFArray) and value.length == count
    ]
    if name not in _LIKE_LAYERED or by_layer or info.number("nextn_predict_layers"):
        why = f"{by_layer[0]} has a value for each layer" if by_layer else "not all of its layers are alike"
        raise ConfigurationError(
            f"layers of {info.path.name}, architecture {name!r}, cannot be left out: {why}. It works with "
            f"{', '.join(sorted(_LIKE_LAYERED))}"
        )


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    try:
        if target.is_dir():
            raise StorageError(f"{str(target)!r} is a folder. Pass the name of the file to write", path=target)
        if target.exists():
            if target.samefile(source):
                raise ConfigurationError(f"source and target are the same file, {str(target)!r}. Pass another target")
            if not overwrite:
                raise StorageError(
                    f"{str(target)!r} exists already. Pass another file, or `overwrite=True`", path=target
                )
    except OSError as error:
        raise unwritable(target, error) from error


# The process that rewrites


def _rewrite(source: Path, part: Path, ftype: int, threads: int, prune: Sequence[int]) -> None:
    child = subprocess.run(
        function_command("leanrag.llama.files.quantize", "_rewrite_here"),
        input=first_line(source=str(source), target=str(part), ftype=ftype, threads=threads, prune=list(prune)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if child.returncode == 0:
        return
    reason = child.stderr.strip()[-1000:] or "llama.cpp reported no reason"
    if "iostream" in reason:  # the message of C++ for a failed write
        raise OSError("the disk is full, or the file is too large")
    how = f"it ended with code {child.returncode}" if child.returncode != 1 else "it refused"
    raise ModelLoadError(f"llama.cpp cannot rewrite {str(source)!r}: {how}: {reason}", path=source)


def _rewrite_here(source: str, target: str, ftype: int, threads: int, prune: Sequence[int]) -> None:
    lib = library()
    parameters = lib.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.allow_requantize = ftype, threads, True
    if prune:  # ascending, ended by -1: llama-quant.cpp, remap_layer
        numbers = (ctypes.c_int32 * (len(prune) + 1))(*prune, -1)
        parameters.prune_layers = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int32))
    with native_errors() as native:
        native.expected = True  # the parent reports them
        failed = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    sys.exit(str(native) if failed else 0)


# What is fast where


def has_fast_kernels(info: GGUFInfo, machine: str) -> bool:
    """Return whether most quantized tensors of a file have a type with fast kernels on `machine`, from `platform.machine()`.

    True for a file that is not quantized, and for an unknown machine.
    """
    counts = {name: count for name, count in info.tensor_types.items() if name not in _FLOATS}
    family = _FAMILIES.get(machine.lower())
    return family is None or not counts or max(counts, key=lambda name: counts[name]) in _REPACKED[family]


# What it did to the model


def perplexity(model: LlamaBase, text: str, *, n_ctx: int = 512) -> float:
    """Return the perplexity of a text under a model: exp of the mean negative log-probability of its tokens.

    1 is the lowest value. The text is scored in windows that do not overlap and, if possible, end between words. So the first
    tokens of each window have little text before them. Compare only models with the same tokenizer, text and `n_ctx`.

    Args:
        model: The model that scores the text.
        text: A text of at least two tokens.
        n_ctx: Tokens of a window; at most the window of the model.

    Raises:
        ConfigurationError: `n_ctx` is less than 2, or the text has fewer than two tokens.
    """
    check_whole(2, n_ctx=n_ctx)
    limit = max(1, min(n_ctx, model.n_ctx) - 1)  # without the BOS token
    logprobs = [
        logprob
        for window in _windows(text, model, limit)
        for logprob in model.score(window).logprobs
        if logprob is not None
    ]
    if not logprobs:
        raise ConfigurationError(f"`text` must have at least two tokens, got {text!r:.80}")
    return math.exp(-math.fsum(logprobs) / len(logprobs))


def _windows(text: str, model: LlamaBase, limit: int) -> Iterator[str]:
    """Cut `text` into pieces of at most `limit` tokens (a character with more tokens is a piece); joined, they are the text."""
    while text:
        piece = _first_window(text, model, limit)
        yield piece
        text = text[len(piece) :]


def _first_window(text: str, model: LlamaBase, limit: int) -> str:
    ends = range(1, min(len(text), 32 * limit) + 1)
    size = max(1, bisect.bisect_right(ends, limit, key=lambda end: model.count_tokens(text[:end])))
    space = re.search(r"\s\S*\Z", text[1 : size + 1]) if size < len(text) else None
    return text[: 1 + space.start() if space else size]


@dataclass(frozen=True, slots=True)
class Figures:
    """Size, speed and perplexity of a model file on this machine; for an embedding model, only the size is not None.

    Attributes:
        size_bytes: Size of the file.
        prefill_tokens_per_second: Speed of reading a prompt of 128 tokens, the best of three.
        decode_tokens_per_second: Speed of writing at most 32 tokens; None if the model wrote fewer than two.
        perplexity: See `perplexity`.
    """

    size_bytes: int
    prefill_tokens_per_second: float | None = None
    decode_tokens_per_second: float | None = None
    perplexity: float | None = None


def measure(path: str | os.PathLike[str], text: str, *, threads: int | None = None) -> Figures:
    """Load a model, and measure its speed and its perplexity on `text`.

    Raises:
        ModelLoadError: llama.cpp refuses the file.
        ConfigurationError: `text` has fewer than two tokens, or an argument is wrong.
    """
    from leanrag.llama.model import LlamaCppModel

    info = check_gguf(path)
    if info.number("pooling_type") is not None or info.metadata.get(f"{info.architecture}.attention.causal") is False:
        return Figures(info.size_bytes)
    with LlamaCppModel(path, n_ctx=min(512, info.n_ctx_train or 512), threads=threads) as model:
        text_perplexity = perplexity(model, text)  # first, because it also warms up the model
        prefill, decode = [], []
        for start in range(3):  # each time from another character, so that no computed prompt is used again
            prompt = _first_window(text[start:] or text, model, 128)
            written = model.generate(prompt, max_tokens=32)
            read = written.usage.prompt_tokens - written.usage.cached_tokens
            prefill.append(read / (written.prefill_seconds or math.inf))
            if written.usage.completion_tokens > 1:
                decode.append((written.usage.completion_tokens - 1) / (written.decode_seconds or math.inf))
    return Figures(info.size_bytes, max(prefill), max(decode, default=None), text_perplexity)
