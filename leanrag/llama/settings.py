"""Settings of a model: the options that a caller may choose, and all settings of the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from leanrag.checks import check_choice, check_whole
from leanrag.errors import ConfigurationError
from leanrag.llama.placement import GpuOptions, KVType
from leanrag.threads import Priority
from leanrag.types import Adapter

__all__ = ["ComputeOptions", "EngineSettings"]


@dataclass(frozen=True, slots=True)
class ComputeOptions:
    """How a model computes; the defaults are good for most machines.

    Attributes:
        n_batch: Most prompt tokens that are computed together; None means 512, or 2,048 on a GPU.
        flash_attn: Whether to use flash attention, which skips the cells of other requests, so that different long prompts are
            computed faster together. On CPUs it sums in 16 bits, so an answer may depend a little on other requests. None means
            False on a CPU and True on a GPU. With False, a GPU computes at most 32 requests at once.
        kv_type: Type of the keys and values: "f16", "q8_0", which needs half of the memory and rounds more, or "q4_0", which
            needs a quarter and loses answers. The last two need `flash_attn`. "auto" means "f16"; on a GPU it means "q8_0" if that
            is faster by a tenth. This is measured when a model is first loaded on the GPU, and stored in the cache folder of the
            user.
        speculate: Whether to draft tokens by looking them up in the prompt, where that is faster; see `leanrag.llama.speculation`.
            Drafts are checked; for what rounding may change, see `draft` of `LlamaCppModel`.

    Raises:
        ConfigurationError: A value cannot work.
    """

    n_batch: int | None = None
    flash_attn: bool | None = None
    kv_type: KVType | Literal["auto"] = "auto"
    speculate: bool = False

    def __post_init__(self) -> None:
        check_whole(1, optional=True, n_batch=self.n_batch)
        check_choice(("auto", "f16", "q8_0", "q4_0"), kv_type=self.kv_type)
        if self.kv_type in ("q8_0", "q4_0") and self.flash_attn is False:
            raise ConfigurationError(
                f"`kv_type` {self.kv_type!r} needs `flash_attn`. Remove `flash_attn=False`, or use another `kv_type`"
            )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """All settings of an engine.

    Attributes:
        n_ctx: Window in tokens, which running requests share; llama.cpp rounds it up to a multiple of 256.
        threads: Threads to compute with; None follows what is free now.
        priority: Whether to give way to other programs.
        gpu: Which part of the model goes on GPUs; checked.
        compute: How the model computes.
        max_queue: Most requests that may wait.
        parallel: Most requests that run at the same time.
        cache_bytes: Most bytes of states that are kept in memory; 0 keeps none.
        cache_dir: Folder that keeps states on disk, also at most `cache_bytes`; None keeps none there.
        keep_alive: Seconds without a request after which weights and context are freed; None never frees them.
        choices: File that stores which attention was faster on a GPU; None stores nothing.
        adapters: LoRA adapters that change the weights; checked.
        mlock: Whether the system must keep the weights in memory.
        draft: A checked GGUF file of a smaller model that drafts tokens; None drafts none by a model.
    """

    n_ctx: int
    threads: int | None = None
    priority: Priority = "normal"
    gpu: GpuOptions = field(default_factory=GpuOptions)
    compute: ComputeOptions = field(default_factory=ComputeOptions)
    max_queue: int = 64
    parallel: int = 8
    cache_bytes: int = 256 * 2**20
    cache_dir: Path | None = None
    keep_alive: float | None = None
    choices: Path | None = None
    adapters: tuple[Adapter, ...] = ()
    mlock: bool = False
    draft: Path | None = None
