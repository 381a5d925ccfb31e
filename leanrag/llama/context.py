"""A context of llama.cpp: its window, its batch, and the limits that depend on CPU or GPU.

Only the owner thread of the engine uses it.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import GenerationError, ModelLoadError
from leanrag.files import fingerprint_of
from leanrag.llama.batch import Batch
from leanrag.llama.device_draws import DeviceDraws, Draws, most_rows
from leanrag.llama.library import AbortFlag, library, native_errors, without_release
from leanrag.llama.placement import CANDIDATES, SMALLEST, Attention, KVType, Placement, choose
from leanrag.llama.settings import EngineSettings
from leanrag.llama.speculation import MAX_DRAFT
from leanrag.llama.weights import Weights
from leanrag.llama.window import Window
from leanrag.threads import ThreadCount

__all__ = ["BESIDE_RUNS", "MAX_PARALLEL", "MAX_SCORED", "Context", "batch_rows", "build", "open_context"]

logger = logging.getLogger(__name__)

_RESIDENT = 14  # resident sequences: kept for prompts with the same beginning
# Spare sequences: one protects the keys that a sliding window has passed, or keeps a cell in use; one holds a part of a state.
_SPARE = 2
BESIDE_RUNS = _RESIDENT + _SPARE  # sequences beside those of runs
_MAX_SEQUENCES = 256  # llama-cparams.h, LLAMA_MAX_SEQ; a test compares it with the installed library
MAX_PARALLEL = _MAX_SEQUENCES - BESIDE_RUNS
MAX_SCORED = 128  # rows of logits in a batch that scores a text; limits their memory

_RESIDENT_CELLS = 1024  # cells that resident sequences may use; on a GPU a quarter of the window, if that is more
_WORTH_KEEPING = 64  # tokens: a shorter state is computed faster than it is saved and restored
# On a GPU the limit is higher for small models: a state of 200 tokens of a model of 135M takes 5 ms to save and 9 ms to restore; in
# this time the GPU computes 512 tokens. Most of the time is due to the number of copies.
_MOST_WORTH_KEEPING, _WORTH_KEEPING_WEIGHTS = 512, 512 * 135_000_000
_CPU_BATCH, _GPU_BATCH = 512, 2048  # rows: a batch on a CPU must end soon; a GPU is efficient with large batches
# If a GPU computes all layers, the CPU only looks up the rows of tokens. To wake many threads for that takes longer than the work.
_FEW_ROWS, _GPU_THREADS = 256, 4
_KV_TYPES: Mapping[KVType, int] = {"f16": 1, "q8_0": 8, "q4_0": 2}  # ggml.h, enum ggml_type
_MEASURED_STEPS = 16  # tokens written to measure an attention
# With plain attention, CUDA ended the process in 6 of 6 runs of 64 or 128 sequences ("an illegal instruction was encountered",
# 0.3.36 on an H200), and never with 32 sequences. With flash attention, or without CUDA graphs, it never did.
_MAX_PLAIN_RUNS = 32
# Requests that need logits on the host, because they sample at random for example, have sequences apart from those whose tokens
# are drawn on the device. As many of them run at once if there are so many sequences, and at least this number.
_ENOUGH_UNDRAWN = 32
_TRIED_ROWS = 8  # of the batch that shows whether the device draws


class Context:
    """A llama.cpp context on loaded weights; free it before the weights.

    Args:
        path: The model's file, for messages.
        weights: The weights to compute with.
        placement: Which layers are on which GPU.
        attention: How attention is computed.
        settings: How the model is run.
        abort: Ends a computation from another thread.

    Attributes:
        memory: llama.cpp's handle of the key-value cache.
        n_ctx: Window in tokens, as allocated: llama.cpp rounds the request up.
        n_sequences: Sequence ids that runs and resident sequences may use: from 0 to here, exclusive.
        can_cut: Whether the last tokens of a sequence can be removed. A recurrent model cannot: its state has no single tokens.
        has_window: Whether a sliding window passes tokens that `protect` must keep.
        batch: The rows to compute next.
        attention: How attention is computed.
        max_outputs: Most rows of logits in a batch.
        max_runs: Most requests that run at once.
        computes_meanwhile: Whether `decode` returns before the logits are computed.
        reuses_graphs: Whether a batch is computed faster if its rows, its outputs and the used cells are as many as those of the
            batch before: on a GPU. Such a batch takes 1.8 instead of 6 to 10 ms (SmolLM2-135M, 8 rows, an H200).
        n_drawn: The tokens of sequences from 0 to here, exclusive, are drawn on the device; 0 if all are drawn on the host.
        mixed_cells: Most used cells with which requests of different prompts are computed together.
        resident_cells: Most cells of resident sequences.
        worth_keeping: Least tokens of a state that is saved.

    Raises:
        ModelLoadError: llama.cpp cannot make the context; the message quotes llama.cpp.
    """

    def __init__(
        self,
        path: Path,
        weights: Weights,
        placement: Placement,
        attention: Attention,
        settings: EngineSettings,
        abort: AbortFlag,
    ) -> None:
        lib = self._lib = library()
        self._weights, self._name, self.attention = weights, path.name, attention
        is_on_gpu = placement.layers > 0
        self._is_all_on_gpu = is_on_gpu and placement.layers == placement.n_layers
        n_batch = batch_rows(settings, is_on_gpu)
        self.max_outputs = MAX_SCORED + settings.parallel + MAX_DRAFT
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = settings.n_ctx
        self.can_cut = not (lib.llama_model_is_recurrent(weights.model) or lib.llama_model_is_hybrid(weights.model))
        undrawn = _count_undrawn(weights, placement, settings, self.max_outputs) if self.can_cut else 0
        self.n_drawn = settings.parallel + _RESIDENT if undrawn else 0
        parameters.n_seq_max = settings.parallel + undrawn + BESIDE_RUNS
        parameters.n_batch = parameters.n_ubatch = max(n_batch, parameters.n_seq_max)  # llama.cpp asserts it
        # llama.cpp reserves memory for this number of rows of logits, and ends the process at one more.
        parameters.n_outputs_max = min(parameters.n_batch, max(parameters.n_seq_max, self.max_outputs))
        parameters.kv_unified = True  # sequences share cells, and any may use the whole window
        parameters.swa_full = True  # layers with a sliding window have a cell for each token, too
        self._threads = ThreadCount(settings.threads, settings.priority).most
        parameters.n_threads = parameters.n_threads_batch = self._threads
        flash = lib.LLAMA_FLASH_ATTN_TYPE_AUTO if attention.flash_attn else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.flash_attn_type = flash
        parameters.type_k = parameters.type_v = _KV_TYPES[attention.kv_type]
        parameters.no_perf = True
        parameters.op_offload = False  # see `Weights`: a GPU computes only the layers on it
        with native_errors() as native:
            self._handle: Any = lib.llama_init_from_model(weights.model, parameters)
            if not self._handle:
                raise ModelLoadError(
                    f"llama.cpp cannot make a context of {settings.n_ctx:,} tokens for {str(path)!r} ({native}). Use a smaller "
                    "`n_ctx` or other `ComputeOptions`, or free memory",
                    path=path,
                    model=path.name,
                )
        self.memory: Any = lib.llama_get_memory(self._handle)
        self._copy_cells = without_release("llama_memory_seq_cp")
        self._remove_cells = without_release("llama_memory_seq_rm")
        self.n_sequences = settings.parallel + undrawn + _RESIDENT
        n_swa: int = lib.llama_model_n_swa(weights.model) if self.can_cut else 0
        self.has_window = n_swa > 0
        self._window = Window(lib, self.memory, n_swa, self.n_sequences)
        self._part_id = self.n_sequences + 1
        abort.install(lib, self._handle)
        self.n_ctx: int = lib.llama_n_ctx(self._handle)
        n_rows = max(n_batch, settings.parallel)  # at least a row for each run
        self.batch = Batch(lib, n_rows, parameters.n_seq_max, self.n_drawn)
        self._draws = DeviceDraws(self._handle, weights.vocabulary.n_tokens, self.n_drawn) if undrawn else None
        self._logits_key = (0, 0)  # address and rows of `_logits_view`
        self._logits_view = np.empty((0, 0), np.float32)
        plain_on_gpu = is_on_gpu and not attention.flash_attn
        self.max_runs = min(settings.parallel, _MAX_PLAIN_RUNS) if plain_on_gpu else settings.parallel
        self.computes_meanwhile = is_on_gpu
        self.reuses_graphs = self._is_all_on_gpu and self.can_cut and not self.has_window
        skips_others = attention.flash_attn or is_on_gpu  # cells of other sequences cost little or nothing
        self.mixed_cells = self.n_ctx if skips_others else self._count_mixed_cells()
        n_params = max(1, lib.llama_model_n_params(weights.model))
        worth = min(_MOST_WORTH_KEEPING, self.n_ctx // 4, _WORTH_KEEPING_WEIGHTS // n_params)
        self.worth_keeping = max(_WORTH_KEEPING, worth) if is_on_gpu else _WORTH_KEEPING
        self.resident_cells = max(_RESIDENT_CELLS, self.n_ctx // 4) if is_on_gpu else _RESIDENT_CELLS
        if self._draws is not None and not self._can_draw():
            logger.warning("%s: the device cannot draw tokens of this model, so the host draws them", self._name)
            self._draws.detach()
            self._draws.free()
            self._draws, self.n_drawn, self.batch = None, 0, Batch(lib, n_rows, parameters.n_seq_max)

    def use_adapters(self, adapters: Sequence[Any], scales: Sequence[float]) -> None:
        """Change the weights by these LoRA adapters, llama.cpp's handles, in each computation from now on.

        One token is computed, because llama.cpp reserves the memory for the adapters only then.

        Raises:
            ModelLoadError: The computation failed; the message quotes llama.cpp.
        """
        n_adapters = len(adapters)
        handles = (self._lib.llama_adapter_lora_p_ctypes * n_adapters)(*adapters)
        self._lib.llama_set_adapters_lora(self._handle, handles, n_adapters, (ctypes.c_float * n_adapters)(*scales))
        self.batch.clear()
        self.batch.add(np.zeros(1, np.int32), 0, 0, 0)
        code, complaint = self.decode()
        self._lib.llama_memory_clear(self.memory, False)
        if code:
            raise ModelLoadError(
                f"llama.cpp cannot compute with the adapters of {self._name} ({complaint}). Use adapters that were made for this "
                "model",
                path=self._name,
            )

    def free(self) -> None:
        """Free the memory of the context; call it once."""
        self._lib.llama_synchronize(self._handle)  # a GPU may still compute what nobody waits for
        self._lib.llama_free(self._handle)
        if self._draws is not None:
            self._draws.free()

    # Computing

    def use_threads(self, threads: int) -> None:
        """Compute the batch with at most so many threads."""
        if self._is_all_on_gpu:
            threads = 1 if self.batch.n_rows <= _FEW_ROWS else min(threads, _GPU_THREADS)
        if threads != self._threads:
            without_release("llama_set_n_threads")(self._handle, threads, threads)
            self._threads = threads

    def decode(self) -> tuple[int, str]:
        """Compute the batch; return llama.cpp's code (0: success, 1: too few cells, 2: aborted) and its error messages."""
        compute = self._lib.llama_decode
        if self._draws is not None:
            self._draws.prepare(self.batch.drawn)
            if self.batch.n_rows <= _FEW_ROWS:  # the samplers of a new graph call Python, one after the other
                compute = without_release("llama_decode")
        with native_errors() as native:
            code = compute(self._handle, self.batch.native())
            native.expected = code in (1, 2)
            return code, str(native)

    def draws(self) -> Draws | None:
        """Return what the device drew of each of the batch's outputs; None if the host draws all tokens.

        Tokens of outputs of sequences from `n_drawn` on are drawn, too.

        Raises:
            GenerationError: llama.cpp returned nothing.
        """
        return None if self._draws is None else self._draws.read(self.batch.drawn)

    def logits(self) -> NDArray[np.float32]:
        """Return the logits of the batch's outputs `(n_outputs, n_vocab)`, in order: a view, valid until the next computation.

        There are none if the device drew all tokens of the batch.

        Raises:
            GenerationError: llama.cpp returned no logits.
        """
        n_outputs, n_vocab = self.batch.n_outputs, self._weights.vocabulary.n_tokens
        if not n_outputs or (self._draws is not None and not self._draws.leaves_logits):
            return np.empty((0, n_vocab), np.float32)
        pointer = self._lib.llama_get_logits_ith(self._handle, -n_outputs)
        if not pointer:
            raise GenerationError(f"llama.cpp returned no logits of {self._name}. Ask again", model=self._name)
        key = ctypes.addressof(pointer.contents), n_outputs
        if key != self._logits_key:  # making a view takes most of the time here
            self._logits_key, self._logits_view = key, np.ctypeslib.as_array(pointer, (n_outputs, n_vocab))
        return self._logits_view

    def _can_draw(self) -> bool:
        """Return whether the device draws the tokens of a small batch; all cells must be free."""
        n = min(self.n_drawn, self.batch.capacity, _TRIED_ROWS)
        self.batch.clear()
        self.batch.add_each(np.zeros(n, np.int32), np.zeros(n, np.int32), np.arange(n, dtype=np.int32))
        try:
            code, _ = self.decode()
            return code == 0 and self.draws() is not None
        except GenerationError:
            return False
        finally:
            self._lib.llama_memory_clear(self.memory, False)

    def measure(self) -> float:
        """Return the seconds to read a prompt and to write some tokens, the better of two runs.

        Raises:
            GenerationError: The computation failed.
        """
        n = min(self.batch.capacity, self.n_ctx - _MEASURED_STEPS - 1)
        tokens = np.arange(n, dtype=np.int32) % self._weights.vocabulary.n_tokens
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            for start, end in ((0, n), *((n + i, n + i + 1) for i in range(_MEASURED_STEPS))):
                self.batch.clear()
                self.batch.add(tokens[: end - start], start, 0, end - start - 1)
                code, complaint = self.decode()
                if code:
                    raise GenerationError(f"llama.cpp failed with code {code}: {complaint}", model=self._name)
                self._lib.llama_synchronize(self._handle)
            seconds.append(time.perf_counter() - started)
            self._lib.llama_memory_clear(self.memory, False)
        return min(seconds)

    # The tokens of a sequence

    def copy(self, source_id: int, target_id: int) -> None:
        """Let the target sequence share all cells of the source."""
        self._copy_cells(self.memory, source_id, target_id, 0, -1)
        self._window.copy(source_id, target_id)

    def protect(self, sequence_id: int, length: int) -> None:
        """Keep the keys of the `length` tokens of a sequence when a sliding window passes them; call it after each computation."""
        self._window.protect(sequence_id, length)

    def remove(self, sequence_id: int, start: int = 0) -> bool:
        """Remove the tokens of a sequence from `start` on; return False if the model cannot remove a part."""
        is_removed = bool(self._remove_cells(self.memory, sequence_id, start, -1))
        self._window.cut(sequence_id, start)
        return is_removed

    def keep(self, sequence_id: int, length: int) -> bool:
        """Remove all but the first `length` tokens. If the model cannot remove a part, remove all tokens and return False."""
        if length and self.remove(sequence_id, length):
            return True
        self.remove(sequence_id)
        return False

    def keep_cell(self, sequence_id: int, position: int) -> None:
        """Keep the cell of a token in use when its sequence ends, and not that of the last call; needs `reuses_graphs`."""
        self.drop_cell()
        self._copy_cells(self.memory, sequence_id, self.n_sequences, position, position + 1)

    def drop_cell(self) -> None:
        """Undo `keep_cell`."""
        self._remove_cells(self.memory, self.n_sequences, -1, -1)

    def read_state(self, sequence_id: int, length: int) -> NDArray[np.uint8]:
        """Return the computed state of a sequence of `length` tokens as bytes; empty if llama.cpp does not return it.

        It has a part for each stretch of a sliding window: llama.cpp leaves out what the window of the last token has passed.
        """
        stretches = list(self._window.stretches(length))
        header_bytes = _header_bytes(len(stretches))
        parts: list[NDArray[np.uint8]] = []
        for start, end in stretches:
            unused = 0 if parts else header_bytes  # at the start of the first part
            if len(stretches) == 1:
                parts.append(self._read_part(sequence_id, unused))
                break
            self._copy_cells(self.memory, sequence_id, self._part_id, start, end)
            parts.append(self._read_part(self._part_id, unused))
            self._remove_cells(self.memory, self._part_id, -1, -1)
        sizes = [len(part) for part in parts]
        sizes[0] -= header_bytes
        if not all(sizes):
            return np.empty(0, np.uint8)
        parts[0][:header_bytes].view(np.int64)[:] = [len(parts), *sizes]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def write_state(self, sequence_id: int, state: bytes | memoryview, length: int) -> bool:
        """Set the computed state of a sequence of `length` tokens; return False if llama.cpp refuses it."""
        data = np.frombuffer(state, np.uint8)
        stretches = list(self._window.stretches(length))
        data_start = _header_bytes(len(stretches))
        if len(data) < data_start:
            return False
        n, *sizes = data[:data_start].view(np.int64).tolist()
        if n != len(stretches) or data_start + sum(sizes) != len(data):
            return False
        for (_, end), size in zip(stretches, sizes, strict=True):
            part_id = sequence_id if len(stretches) == 1 else self._part_id
            part = data[data_start : data_start + size]
            if not self._lib.llama_state_seq_set_data(self._handle, _bytes_pointer(part), size, part_id):
                self.remove(part_id)
                self.remove(sequence_id)
                return False
            if part_id != sequence_id:
                self._copy_cells(self.memory, part_id, sequence_id, 0, -1)
                self._remove_cells(self.memory, part_id, -1, -1)
            self.protect(sequence_id, end)
            data_start += size
        return True

    def _read_part(self, sequence_id: int, unused: int) -> NDArray[np.uint8]:
        """Return the state of a sequence after `unused` bytes."""
        size = self._lib.llama_state_seq_get_size(self._handle, sequence_id)
        data = np.empty(unused + size, np.uint8)
        written = self._lib.llama_state_seq_get_data(self._handle, _bytes_pointer(data[unused:]), size, sequence_id)
        return data[: unused + written]

    def _count_mixed_cells(self) -> int:
        """Return the most used cells with which requests of different prompts are computed together.

        Rows in one batch read the weights once, which saves time. But each row attends to the cells of all requests, which costs
        time. The limit is where attention takes a quarter as many multiplications as the weights.
        """
        model = self._weights.model
        per_cell: int = 2 * self._lib.llama_model_n_layer(model) * self._lib.llama_model_n_embd(model)
        n_params: int = self._lib.llama_model_n_params(model)
        return max(256, n_params // (4 * per_cell))


def open_context(
    path: Path,
    weights: Weights,
    placement: Placement,
    settings: EngineSettings,
    abort: AbortFlag,
    *,
    known: Attention | None = None,
) -> Context:
    """Open a context; on a GPU, with the fastest attention.

    Args:
        path: The model's file.
        weights: The weights to compute with.
        placement: Which layers are on which GPU.
        settings: How the model is run.
        abort: Ends a computation from another thread.
        known: The attention that was chosen for this placement before; None to choose it now.

    Raises:
        ModelLoadError: llama.cpp cannot make the context.
    """
    compute, is_on_gpu = settings.compute, placement.layers > 0
    # Plain attention is slower on CUDA, and fails: see `_MAX_PLAIN_RUNS`.
    flash = (True,) if is_on_gpu else (True, False)
    candidates = tuple(
        attention
        for attention in (*CANDIDATES, SMALLEST)
        if attention.flash_attn in (flash if compute.flash_attn is None else (compute.flash_attn,))
        and attention.kv_type in (("f16", "q8_0") if compute.kv_type == "auto" else (compute.kv_type,))
    )
    if not is_on_gpu:
        candidates = candidates[:1]  # exact attention, unless the settings say otherwise
    elif known is not None:
        candidates = (known,)

    def measure(attention: Attention) -> float:
        context = Context(path, weights, placement, attention, settings, abort)
        try:
            return context.measure()
        finally:
            context.free()

    key = _attention_key(path, placement) if len(candidates) > 1 else ""
    attention = choose(key, candidates, measure, settings.choices)
    return Context(path, weights, placement, attention, settings, abort)


def _count_undrawn(weights: Weights, placement: Placement, settings: EngineSettings, max_outputs: int) -> int:
    """Return how many sequences are added for requests that need logits on the host; 0 if all tokens are drawn on the host.

    Tokens are drawn on the device if it has the output layer, and if its kernels for that are known to be fast: CUDA's.
    """
    is_on_cuda = bool(placement.devices) and all(part.name.startswith("CUDA") for part in placement.devices)
    n = min(settings.parallel, _MAX_SEQUENCES - BESIDE_RUNS - settings.parallel)
    if not is_on_cuda or placement.layers < placement.n_layers or n < min(settings.parallel, _ENOUGH_UNDRAWN):
        return 0
    return n if max_outputs <= most_rows(weights.vocabulary.n_tokens) else 0


def batch_rows(settings: EngineSettings, is_on_gpu: bool) -> int:
    """Return the most tokens of prompts in one batch."""
    return min(settings.compute.n_batch or (_GPU_BATCH if is_on_gpu else _CPU_BATCH), settings.n_ctx)


def build() -> str:
    """Return the version and the features of llama.cpp."""
    import llama_cpp

    return f"{llama_cpp.__version__} {library().llama_print_system_info().decode()}"


def _attention_key(path: Path, placement: Placement) -> str:
    """Return the key of an attention measurement: the model, the build of llama.cpp and the GPUs."""
    names = ", ".join(f"{part.name} {part.description}" for part in placement.devices if part.layers)
    return f"{fingerprint_of(path)}; {build()}; {names}, {placement.layers} layers"


def _header_bytes(n_parts: int) -> int:
    """Return the bytes at the start of a state: the number of its parts and their sizes."""
    return 8 * (1 + n_parts)


def _bytes_pointer(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
