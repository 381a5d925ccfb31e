"""A GGUF file in fewer bits or with fewer layers, and what that did to it.

Rewriting goes through llama.cpp's own quantizer, in a process of its own: it cannot be asked to stop, and what it cannot
read may end the process it runs in.
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

from leanrag.errors import ConfigurationError, ModelLoadError, StorageError
from leanrag.files import unwritable, whole_file
from leanrag.llama.files.gguf import GGUFArray, GGUFInfo, check_gguf
from leanrag.llama.library import library, native_errors
from leanrag.llama.options import LlamaBase
from leanrag.llama.threads import usable_cores

__all__ = [
    "QUANTIZED_TYPES",
    "Figures",
    "QuantizeReport",
    "fastest_int4",
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
"""Mixtures of llama.h, enum llama_ftype, that need no importance matrix. A test compares them with the installed library."""

_LIKE_LAYERED = frozenset({"gemma", "internlm2", "llama", "mistral3", "qwen2", "qwen3", "starcoder2"})
"""Architectures in which llama.cpp computes each layer alike; in others a layer's number decides what it does."""

_REPACKED: Mapping[str, frozenset[str]] = {
    "x86": frozenset({"Q4_0", "Q4_K", "IQ4_NL", "MXFP4"}),
    "arm": frozenset({"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "MXFP4"}),
}
"""Types whose weights llama.cpp reorders for the CPU's wide instructions at load: ggml-cpu/repack.cpp, at AVX2 and NEON."""

_FAMILIES = {"x86_64": "x86", "amd64": "x86", "arm64": "arm", "aarch64": "arm"}
_FLOATS = frozenset({"F32", "F16", "BF16", "F64"})
_ALIGNMENT = 32  # llama-quant.cpp pads to GGUF_DEFAULT_ALIGNMENT, whatever the file says


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What `quantize` did.

    Attributes:
        source: The file that was read.
        target: The file that was written.
        type: The mixture asked for. Tensors that it does not suit are of another type.
        source_bytes: Size of the source.
        target_bytes: Size of the target.
        bits_per_weight: Of the target, its header included.
        layers_before: Layers of the source.
        layers_after: Layers of the target.
        seconds: Time it took.
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
    """Write `source` anew with weights of another type, layers left out.

    The target appears whole and checked, or not at all; Ctrl-C stops at once. What a quantized source has lost stays lost:
    begin with the most exact file there is.

    Args:
        source: A GGUF file of any type, in one part.
        target: The file to write.
        type: A name of `QUANTIZED_TYPES`.
        prune_layers: Layers to leave out, counted from 0. The model is not trained anew: measure what it lost.
        threads: Threads to compute with; by default the physical cores that this process may use.
        overwrite: Replace `target` if it is there.

    Raises:
        ConfigurationError: An argument cannot work, or the architecture's layers cannot be left out.
        ModelLoadError: The source is damaged, or llama.cpp cannot rewrite it; the message carries its words.
        StorageError: The target is there, or cannot be written.

    Example:
        >>> quantize("model-f16.gguf", "model-q4_0.gguf").bits_per_weight  # doctest: +SKIP
        4.9
    """
    source, target = Path(source), Path(target)
    if type not in QUANTIZED_TYPES:
        raise ConfigurationError(f"`type` must be one of {', '.join(QUANTIZED_TYPES)}, got {type!r}")
    if threads is not None and threads < 1:
        raise ConfigurationError(f"`threads` must be at least 1, got {threads!r}")
    before = check_gguf(source)
    _check_rewritable(before)
    layers = before.number("block_count") or 0
    if prune_layers:
        _check_prunable(before, prune_layers, layers)
    _check_target(source, target, overwrite)
    library()  # what keeps it from loading is raised here, not in the child
    started = time.perf_counter()
    with whole_file(target) as part:
        _rewrite(source, part, QUANTIZED_TYPES[type], threads or usable_cores(), sorted(map(int, prune_layers)))
        after = check_gguf(part)
        left = after.number("block_count") or 0
        if left != layers - len(prune_layers):
            raise ModelLoadError(f"{source} has tensors of other layers than its {layers:,}", path=source)
    return QuantizeReport(
        source=source,
        target=target,
        type=type,
        source_bytes=before.size_bytes,
        target_bytes=after.size_bytes,
        bits_per_weight=8 * after.size_bytes / max(1, after.n_params),
        layers_before=layers,
        layers_after=left,
        seconds=time.perf_counter() - started,
    )


def _check_rewritable(info: GGUFInfo) -> None:
    count = info.metadata.get("split.count", 1)
    if count != 1:
        raise ConfigurationError(f"{info.path} is one of {count} parts. Join them with: llama-gguf-split --merge")
    alignment = info.metadata.get("general.alignment", _ALIGNMENT)
    if alignment != _ALIGNMENT:  # the quantizer would keep the number and pad by 32
        raise ConfigurationError(f"{info.path} is aligned to {alignment} bytes; only files aligned to 32 are rewritten")


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
        why = f"{by_layer[0]} holds a value a layer" if by_layer else "not all of its layers are alike"
        raise ConfigurationError(
            f"layers of {info.path.name}, architecture {name!r}, cannot be left out: {why}. It works with "
            f"{', '.join(sorted(_LIKE_LAYERED))}"
        )


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    try:
        if target.is_dir():
            raise StorageError(f"{str(target)!r} is a folder; name the file to write", path=target)
        if target.exists():
            if target.samefile(source):
                raise ConfigurationError(f"source and target are the same file, {str(target)!r}; name another target")
            if not overwrite:
                raise StorageError(
                    f"{str(target)!r} exists already. Pass another file, or `overwrite=True`", path=target
                )
    except OSError as error:
        raise unwritable(target, error) from error


# The process that rewrites


def _rewrite(source: Path, part: Path, ftype: int, threads: int, prune: Sequence[int]) -> None:
    program = (  # only with the parent's own search path, which need not begin with the working folder
        f"import sys; sys.path[:] = {[str(folder) for folder in sys.path]!r}; "
        "from leanrag.llama.files.quantize import _main; _main()"
    )
    numbers = [str(number) for number in (ftype, threads, *prune)]
    child = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, str(source), str(part), *numbers],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if child.returncode == 0:
        return
    reason = child.stderr.strip()[-1000:] or "llama.cpp gave no reason"
    if "iostream" in reason:  # what C++ says of a write that failed
        raise OSError("the disk is full, or the file is too large")
    how = f"it ended with code {child.returncode}" if child.returncode != 1 else "it refused"
    raise ModelLoadError(f"llama.cpp cannot rewrite {source}: {how}: {reason}", path=source)


def _main() -> None:
    source, target, ftype, threads, *prune = sys.argv[1:]
    lib = library()
    parameters = lib.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread, parameters.allow_requantize = int(ftype), int(threads), True
    if prune:  # ascending, ended by -1: llama-quant.cpp, remap_layer
        numbers = (ctypes.c_int32 * (len(prune) + 1))(*map(int, prune), -1)
        parameters.prune_layers = ctypes.cast(numbers, ctypes.POINTER(ctypes.c_int32))
    with native_errors() as native:
        native.expected = True  # the parent reports them
        failed = lib.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    sys.exit(str(native) if failed else 0)


# What is fast where


def fastest_int4(machine: str) -> str:
    """Return the 4-bit type to choose for speed on a CPU; of equally fast ones that which loses least.

    On x86 llama.cpp computes Q4_0 and IQ4_NL with the same code and another table of 16 values (ggml-cpu/arch/x86/repack.cpp),
    and IQ4_NL's values fit weights better; it takes some 20 times as long to make. On ARM, Q4_0 alone has kernels for the
    integer matrix instructions. Elsewhere weights are not reordered, and q4_k_m is the most exact.

    Args:
        machine: As of `platform.machine()`.

    Example:
        >>> fastest_int4("x86_64"), fastest_int4("arm64")
        ('iq4_nl', 'q4_0')
    """
    return {"x86": "iq4_nl", "arm": "q4_0"}.get(_FAMILIES.get(machine.lower(), ""), "q4_k_m")


def has_fast_kernels(info: GGUFInfo, machine: str) -> bool:
    """Whether most quantized tensors of a file are of a type with fast kernels on `machine`, as of `platform.machine()`.

    True for a file that is not quantized, and for machines that leanrag knows nothing of.
    """
    counts = {name: count for name, count in info.tensor_types.items() if name not in _FLOATS}
    family = _FAMILIES.get(machine.lower())
    return family is None or not counts or max(counts, key=lambda name: counts[name]) in _REPACKED[family]


# What it did to the model


def perplexity(model: LlamaBase, text: str, *, n_ctx: int = 512) -> float:
    """Return how surprised a model is by a text: exp of the mean negative log-probability of its tokens.

    1 is certainty. The text is scored in windows that do not overlap and end between words where there are any, so that the
    first tokens of each have little before them. Compare models with the same tokenizer, text and `n_ctx` only.

    Args:
        model: Scores text.
        text: At least two tokens.
        n_ctx: Tokens a window; the model's own when that is smaller.

    Raises:
        ConfigurationError: `n_ctx` is below 2, or no token of the text has another before it.
    """
    if n_ctx < 2:
        raise ConfigurationError(f"`n_ctx` must be at least 2, got {n_ctx!r}")
    limit = max(1, min(n_ctx, model.n_ctx) - 1)  # one is for a BOS
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
    """Cut `text` into pieces of at most `limit` tokens (a character of more stands alone); joined they are the text."""
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
    """What a file costs and what it is worth, on this machine. All but the size are None for a model that embeds.

    Attributes:
        size_bytes: Size of the file.
        prefill_tokens_per_second: Speed of reading a prompt of 128 tokens, the best of three.
        decode_tokens_per_second: Speed of writing, over at most 32 tokens; None when it wrote less than two.
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
        ConfigurationError: `text` has less than two tokens, or an argument cannot work.
    """
    from leanrag.llama.model import LlamaCppModel

    info = check_gguf(path)
    if info.number("pooling_type") is not None or info.metadata.get(f"{info.architecture}.attention.causal") is False:
        return Figures(info.size_bytes)
    with LlamaCppModel(path, n_ctx=min(512, info.n_ctx_train or 512), threads=threads) as model:
        surprise = perplexity(model, text)  # first: it warms up
        prefill, decode = [], []
        for start in range(3):  # each from another character: nothing that was computed fits again
            prompt = _first_window(text[start:] or text, model, 128)
            written = model.generate(prompt, max_tokens=32)
            read = written.usage.prompt_tokens - written.usage.cached_tokens
            prefill.append(read / (written.prefill_seconds or math.inf))
            if written.usage.completion_tokens > 1:
                decode.append((written.usage.completion_tokens - 1) / (written.decode_seconds or math.inf))
    return Figures(info.size_bytes, max(prefill), max(decode, default=None), surprise)
