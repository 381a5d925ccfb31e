"""Estimates the memory of a model from its header, and reads how much memory is available."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from leanrag.llama.files.gguf import GGUFArray, GGUFInfo

__all__ = ["MemoryEstimate", "available_bytes", "estimate_memory"]

_SCORED_ROWS = 140  # about the rows of logits for which the engine reserves memory


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Estimated memory of a model, in bytes.

    Attributes:
        weights: Size of the file; it is mapped, so several processes share this memory.
        cache: Keys and values of the window, in 16 bits.
        compute: Working space of one computation.
    """

    weights: int
    cache: int
    compute: int

    @property
    def total(self) -> int:
        """The sum of all parts."""
        return self.weights + self.cache + self.compute


def estimate_memory(info: GGUFInfo, *, n_ctx: int, n_batch: int = 512) -> MemoryEstimate:
    """Return the estimated memory of a model with a window of `n_ctx` tokens; the estimate is rather too high than too low.

    The cache has a key and a value of 16 bits for each layer, key-value head and token. The largest steps of a computation are the
    attention of a batch to the window, and its logits; both use the same memory.
    """
    n_embd, n_heads = info.number("embedding_length") or 0, info.number("attention.head_count") or 1
    n_kv_heads = info.number("attention.head_count_kv") or n_heads
    head = info.number("attention.key_length") or n_embd // n_heads
    value = info.number("attention.value_length") or head
    n_batch = min(n_batch, n_ctx)
    attention = 4 * n_batch * n_ctx * (n_heads + 1)
    hidden = 8 * n_batch * max(n_embd, info.number("feed_forward_length") or 0)
    tokens = info.metadata.get("tokenizer.ggml.tokens")
    logits = 4 * _SCORED_ROWS * (tokens.length if isinstance(tokens, GGUFArray) else 0)
    return MemoryEstimate(
        weights=info.size_bytes,
        cache=2 * (info.number("block_count") or 0) * n_kv_heads * (head + value) * n_ctx,
        compute=max(attention + hidden, logits + hidden),
    )


def available_bytes() -> float:
    """Return the memory that this process can still use: the free memory of the system or of its control group; inf if unknown."""
    return min(_meminfo(), _cgroup())


def _meminfo() -> float:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return math.inf


def _cgroup() -> float:
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")
        return math.inf if limit == "max" else max(0.0, float(int(limit) - int(used)))
    except (OSError, ValueError):
        return math.inf
