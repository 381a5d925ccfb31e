"""How a model is run: what a caller may choose, and what the engine is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from leanrag.checks import check_choice, check_whole
from leanrag.errors import ConfigurationError
from leanrag.llama.placement import GpuOptions, KVType

__all__ = ["ComputeOptions", "EngineSettings"]


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """How a model computes; the defaults suit most machines.

    Attributes:
        n_batch: Most prompt tokens computed at once; None for 512, and 2,048 where a GPU computes.
        flash_attn: Attention that skips the cells of other requests, which is faster where different long prompts are computed
            together. On CPUs it sums in 16 bits: an answer may then depend a little on what else is computed. None for never on
            a CPU and always on a GPU; False on a GPU computes at most 32 requests at once.
        kv_type: Type of the numbers in the window: "f16", or "q8_0" for half of the memory and some rounding; "q8_0" needs
            `flash_attn`. "auto" is "f16", and on a GPU the type that is faster by a tenth: that is measured when a model is
            first loaded there, and remembered in the user's cache folder.
        speculate: Draft tokens by looking them up in the prompt; the text stays the same.

    Raises:
        ConfigurationError: A value cannot work.
    """

    n_batch: int | None = None
    flash_attn: bool | None = None
    kv_type: KVType | Literal["auto"] = "auto"
    speculate: bool = False

    def __post_init__(self) -> None:
        check_whole(1, optional=True, n_batch=self.n_batch)
        check_choice(("auto", "f16", "q8_0"), kv_type=self.kv_type)
        if self.kv_type == "q8_0" and self.flash_attn is False:
            raise ConfigurationError("`kv_type` 'q8_0' needs `flash_attn`: leave that out, or set it to True")


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a model is run.

    Attributes:
        n_ctx: Window in tokens, shared by the requests at work; llama.cpp rounds it up to a multiple of 256.
        threads: Threads to compute with.
        gpu: What goes on GPUs, checked.
        compute: How it computes.
        max_queue: Requests that may wait.
        parallel: Requests at work at once.
        cache_bytes: Most bytes of states kept in memory; 0 for none.
        cache_dir: Where states are kept on disk, at most as many bytes; None for nowhere.
        keep_alive: Seconds without a request after which weights and context are freed; None for never.
        choices: File that remembers which attention was faster on a GPU; None for none.
    """

    n_ctx: int
    threads: int
    gpu: GpuOptions = field(default_factory=GpuOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    max_queue: int = 64
    parallel: int = 8
    cache_bytes: int = 256 * 2**20
    cache_dir: Path | None = None
    keep_alive: float | None = None
    choices: Path | None = None
