"""Loads, frees and reloads a model: its weights, their placement on GPUs, and its context.

Only the owner thread of the engine uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from leanrag.errors import ModelLoadError
from leanrag.files import known_sha256
from leanrag.llama.context import BESIDE_RUNS, Context, batch_rows, build, open_context
from leanrag.llama.draft import DraftModel
from leanrag.llama.files import check_gguf
from leanrag.llama.library import AbortFlag, Device, library
from leanrag.llama.placement import CPU_ONLY, EXACT, KV_BYTES, Attention, Placement, measure_sizes, place, share
from leanrag.llama.prefix import StateCache
from leanrag.llama.settings import EngineSettings
from leanrag.llama.speculation import Speculation
from leanrag.llama.weights import LoadedAdapter, Weights

__all__ = ["LoadedModel"]

logger = logging.getLogger(__name__)

_STATE_FORMAT = 2  # of saved states: 1 had no sizes, and lacked the keys that a sliding window had passed


class LoadedModel:
    """Holds the weights of a model and a context on them.

    Args:
        path: A checked GGUF file.
        settings: How to run it.
        devices: Returns the GPUs and their free memory; called at each load.
        abort: Ends a computation from another thread.

    Attributes:
        weights: The weights; None while they are freed.
        context: The context; None while it is freed.
        speculation: Drafts tokens of answers; None if nothing is to be drafted.
        placement: Which layers are on which GPU.
        attention: How attention is computed.
        vocabulary: The model's vocabulary; known also while the weights are freed.
        n_ctx: Window in tokens, as allocated; known also while the context is freed.
        states: Saved states of prompts whose sequences left the context.

    Raises:
        ModelLoadError: llama.cpp refuses the file; the message quotes llama.cpp.
        ConfigurationError: The GPUs have too little memory for the requested layers.
    """

    def __init__(
        self, path: Path, settings: EngineSettings, devices: Callable[[], Sequence[Device]], abort: AbortFlag
    ) -> None:
        self._path, self._settings, self._devices, self._abort = path, settings, devices, abort
        self._attention_of: tuple[object, ...] | None = None  # the placement that `attention` was chosen for
        self.placement, self.attention = CPU_ONLY, EXACT
        self.weights: Weights | None = None
        self.context: Context | None = None
        self.speculation: Speculation | None = None
        self._draft: DraftModel | None = None
        self._adapters: list[LoadedAdapter] = []
        self._adapter_versions: list[tuple[int, int] | None] = [None] * len(settings.adapters)
        can_be_freed = settings.keep_alive is not None
        self._vocabulary_only = Weights.acquire(path, vocab_only=True) if can_be_freed else None
        try:
            version = None if self._vocabulary_only is None else self._vocabulary_only.version
            weights, context = self._load_weights(version)
            self._version = weights.version
            self.vocabulary = (self._vocabulary_only or weights).vocabulary
            self.n_ctx = context.n_ctx
            key = "" if settings.cache_dir is None else self._state_key()
            self.states = StateCache(settings.cache_bytes, settings.cache_dir, key)
        except BaseException:
            self.free()
            raise

    def load(self) -> Context:
        """Load the freed weights or context again, and return the context.

        Raises:
            ModelLoadError: The file was changed, or the memory is too small now.
        """
        if self.weights is None:
            return self._load_weights(self._version)[1]
        return self._open_context(self.weights)

    def free_context(self) -> None:
        """Free the context, and also the weights if they can be loaded again (perhaps with fewer layers on a GPU)."""
        if self._vocabulary_only:
            self.free_weights()
        else:
            self._close_context()
            self.context = None

    def free_weights(self) -> None:
        """Free the weights and the context."""
        self._close_context()
        if self.weights is not None:
            self.weights.release()
        self.context = self.weights = None  # last: other threads read these to see whether the memory is free

    def free(self) -> None:
        """Free everything; the model cannot be loaded again."""
        self.free_weights()
        vocabulary_only, self._vocabulary_only = self._vocabulary_only, None
        if vocabulary_only is not None:
            vocabulary_only.release()

    def _load_weights(self, version: tuple[int, int] | None) -> tuple[Weights, Context]:
        """Load the weights of this version of the file and open a context on them; on failure, free both.

        Another process may take the memory of a GPU after its free memory was read. With `layers` "auto", this then tries half the
        layers on GPUs, and at last none.
        """
        Weights.check_version(self._path, version)
        placement = self._place()
        limits = iter((placement.layers // 2, 0))
        while True:
            try:
                return self._load_placed(placement, version)
            except ModelLoadError as error:
                if self._settings.gpu.layers != "auto" or not placement.layers:
                    raise self._with_estimate(error, placement) from error
                fewer = self._place(at_most=next(limits))
                logger.warning("%s; trying %s instead of %s", error, fewer, placement)
                placement = fewer

    def _load_placed(self, placement: Placement, version: tuple[int, int] | None) -> tuple[Weights, Context]:
        self.weights = weights = Weights.acquire(self._path, placement, version=version, mlock=self._settings.mlock)
        try:
            lib = library()
            if lib.llama_model_has_encoder(weights.model) or not lib.llama_model_has_decoder(weights.model):
                raise ModelLoadError(
                    f"{self._path} has an encoder, as T5 has. Only decoders, such as Llama and Qwen, can answer. Use a GGUF file "
                    "of a decoder",
                    path=self._path,
                )
            before, self.placement = self.placement, placement
            context = self._open_context(weights)
            if placement.devices and placement != before:
                logger.info("%s: %s", self._path.name, placement)
        except BaseException:
            self.free_weights()
            raise
        return weights, context

    def _open_context(self, weights: Weights) -> Context:
        known: Attention | None = self.attention if self._attention_of == self.placement.key else None
        adapters = self._settings.adapters
        with weights.adapters_lock:
            try:
                for adapter, version in zip(adapters, self._adapter_versions, strict=True):
                    self._adapters.append(weights.acquire_adapter(adapter.path, version))
                self._adapter_versions = [loaded.version for loaded in self._adapters]
                context = open_context(self._path, weights, self.placement, self._settings, self._abort, known=known)
                self.context, self.attention, self._attention_of = context, context.attention, self.placement.key
                if adapters:
                    scales = [adapter.scale for adapter in adapters]
                    context.use_adapters([loaded.handle for loaded in self._adapters], scales)
                self._open_draft(weights)
            except BaseException:
                self._close_context()
                self.context = None
                raise
        return context

    def _open_draft(self, weights: Weights) -> None:
        """Load the draft model, if there is one."""
        path = self._settings.draft
        if path is not None:
            placement = self._place(path=path) if self.placement.layers else CPU_ONLY
            self._draft = DraftModel(path, weights.vocabulary, placement, self._settings, self._abort)
        if path is not None or self._settings.compute.speculate:
            self.speculation = Speculation(self._draft)

    def _close_context(self) -> None:
        """Free the memory of the context, of its adapters and of the draft model."""
        if self._draft is not None:
            self._draft.free()
            self._draft = None
        if self.context is not None:
            self.context.free()
        if self._adapters:
            assert self.weights is not None
            with self.weights.adapters_lock:
                for adapter in self._adapters:
                    self.weights.release_adapter(adapter)
        self._adapters = []

    def _state_key(self) -> str:
        """Return what a stored state depends on."""
        adapters = "".join(f" {adapter.sha256}@{adapter.scale!r}" for adapter in self._settings.adapters)
        return f"{_STATE_FORMAT} {known_sha256(self._path)}{adapters} {build()} {self.attention}"

    def _place(self, at_most: int | None = None, path: Path | None = None) -> Placement:
        """Choose the layers of a file, by default of the model, to put on GPUs by their free memory now."""
        settings, path = self._settings, path or self._path
        devices = self._devices() if settings.gpu.layers != 0 else ()
        if not devices:
            return CPU_ONLY
        n_batch = max(batch_rows(settings, is_on_gpu=True), settings.parallel + BESIDE_RUNS)
        kv_bytes = KV_BYTES["f16" if settings.compute.kv_type == "auto" else settings.compute.kv_type]
        sizes = measure_sizes(check_gguf(path), n_ctx=settings.n_ctx, n_batch=n_batch, kv_bytes=kv_bytes)
        loaded = Weights.find_placement(path) if at_most is None else None
        shared = share(sizes, devices, settings.gpu, loaded) if loaded else None
        return shared or place(sizes, devices, settings.gpu, at_most=at_most)

    def _with_estimate(self, error: ModelLoadError, placement: Placement) -> ModelLoadError:
        if not placement.layers:
            return error
        return ModelLoadError(f"{error}; the planned placement was {placement}", path=self._path, model=self._path.name)
