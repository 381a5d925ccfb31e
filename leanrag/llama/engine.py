"""The owner thread: the only code that computes with a loaded model.

Any thread may submit a request. The owner serves many at once in one context: in each step it computes one batch, with a row for
each answer that is being written and, in what room is left, prompts that are being read. Prompts that begin alike are read once:
sequences share cells, finished ones stay until their cells are needed, and states that leave are kept as bytes. A cancelled
or late request stops within one node of the graph when it is alone, and within one batch when it is not. An engine that nobody
asks anything can free its weights and its context until somebody does.

The engine knows token ids and nothing of chat, retrieval or prompts.
"""

from __future__ import annotations

import atexit
import collections
import ctypes
import functools
import hashlib
import itertools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag.checks import ProcessGuard
from leanrag.errors import (
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    ModelLoadError,
    QueueFullError,
)
from leanrag.files import file_ends
from leanrag.llama.batch import Batch
from leanrag.llama.files import check_gguf
from leanrag.llama.library import AbortFlag, Device, library, native_errors
from leanrag.llama.lookup import MAX_DRAFT, PromptLookup
from leanrag.llama.placement import (
    CANDIDATES,
    CPU_ONLY,
    EXACT,
    Attention,
    KVType,
    Placement,
    choose,
    gpu_devices,
    measure_sizes,
    place,
    share,
)
from leanrag.llama.prefix import CellTable, PrefixTree, StateCache
from leanrag.llama.requests import Completion, Request
from leanrag.llama.rows import Rows
from leanrag.llama.sampling import TokenScore, log_probabilities, score_token
from leanrag.llama.settings import EngineSettings
from leanrag.llama.vocabulary import TextDecoder, Vocabulary
from leanrag.llama.weights import Weights
from leanrag.types import FinishReason

__all__ = ["MAX_PARALLEL", "Engine"]

logger = logging.getLogger(__name__)

_RESIDENT = 16  # sequences kept for their beginnings, beyond those at work
MAX_PARALLEL = 256 - _RESIDENT  # llama-cparams.h, LLAMA_MAX_SEQ; a test compares it with the installed library
_RESIDENT_CELLS = 1024  # cells that those may hold; on a GPU a quarter of the window, if that is more
_WORTH_SHARING = 8  # tokens: for fewer, no sequence is kept
_WORTH_WAITING = 32  # tokens: a prompt waits for another that is reading as many of the same
_WORTH_KEEPING = 64  # tokens: fewer are computed faster than they are put away and fetched
# On a GPU the more, the smaller the model: 200 tokens of one of 135M take 5 ms from it and 9 ms back, in which it computes 512.
# Most of that is the number of copies.
_MOST_WORTH_KEEPING, _WORTH_KEEPING_WEIGHTS = 512, 512 * 135_000_000
_PREFILL_BESIDE_DECODE = 256  # rows of prompts in a batch that also carries answers on; twice as many on a GPU
_MAX_OVERTAKEN = 64  # times that others go before a request
_CPU_BATCH, _GPU_BATCH = 512, 2048  # rows: a computation on a CPU must end soon, one on a GPU is worth it when large
_KV_TYPES: Mapping[KVType, int] = {"f16": 1, "q8_0": 8}  # ggml.h, enum ggml_type
_MEASURED_STEPS = 16  # tokens written to measure an attention
# CUDA ended the process in 6 of 6 runs of 64 or 128 sequences with plain attention ("an illegal instruction was encountered",
# 0.3.36 on an H200), and in none of 32; with flash attention, or without CUDA graphs, in none.
_MAX_PLAIN_RUNS = 32
_MAX_SCORED = 128  # rows of logits in a batch that scores; bounds the memory for them


@dataclass(eq=False, slots=True)
class _Sequence:
    """A sequence of the context: the tokens of its prompt, how many tokens are computed, and the cells that hold them."""

    id: int
    tokens: NDArray[np.int32]
    computed: int
    cells: NDArray[np.int64]
    run: _Run | None
    last_used: int
    new_cells: list[int] = field(default_factory=list)  # of answers: to be joined with `cells`

    def join_cells(self) -> None:
        """Put all cells together."""
        if self.new_cells:
            self.cells = np.concatenate([self.cells, np.array(self.new_cells, np.int64)])
            self.new_cells = []

    @property
    def is_reading(self) -> bool:
        """Whether more of its prompt will be computed."""
        return self.run is not None and self.run.pending is None


@dataclass(eq=False, slots=True)
class _Run:
    """A request at work."""

    request: Request
    sequence: _Sequence
    cached_tokens: int
    lookup: PromptLookup | None
    started: float = field(default_factory=time.perf_counter)
    prefilled: float = 0.0
    decode_text: TextDecoder = field(default_factory=TextDecoder)
    pending: int | None = None  # the last token generated, to be computed next
    token_ids: list[int] = field(default_factory=list)
    unpublished: int = 0  # tokens, the last of `token_ids`, whose text is still to be handed out
    scores: list[TokenScore] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def end(self) -> int:
        """Tokens of the prompt to compute: the last is not needed when there is nothing to generate."""
        return len(self.request.tokens) - (self.request.max_tokens == 0)

    def read_prompt(self, logits: NDArray[np.float32], position: int) -> None:
        """Take the logits `(n, n_vocab)` after the tokens of the prompt from `position` on."""
        if self.request.score_from is not None:
            following = self.request.tokens[position + 1 : position + 1 + len(logits)]
            self.prompt_logprobs += log_probabilities(logits[: len(following)].copy(), following).tolist()
        if self.request.max_tokens == 0 and self.sequence.computed == self.end:
            self.finish_reason, self.prefilled = "stop", time.perf_counter()

    def write(self, logits: NDArray[np.float32], vocabulary: Vocabulary) -> int:
        """Draw the token that follows, after logits `(n_vocab,)`; it becomes `pending`, or the run has a `finish_reason`."""
        assert self.request.choose is not None
        token = self.request.choose(logits)
        if self.take(token, vocabulary):
            self.scores.append(score_token(logits, token))
        return token

    def take(self, token: int, vocabulary: Vocabulary, *, may_publish_later: bool = False) -> bool:
        """Go on with `token`; False when it is none of the answer, but its end."""
        request = self.request
        if not self.token_ids and self.pending is None:
            self.prefilled = time.perf_counter()
        self.pending = token
        is_end = vocabulary.is_end(token)
        if is_end:
            self.finish_reason = "stop"
        else:
            self.token_ids.append(token)
            self.unpublished += 1
            if len(self.token_ids) == request.max_tokens:
                self.finish_reason = "length"
        if self.finish_reason is not None or not (may_publish_later and request.match_stop.is_idle):
            self.publish(vocabulary)
        return not is_end

    def publish(self, vocabulary: Vocabulary) -> None:
        """Hand out the text of all tokens drawn; a stop string in it is the `finish_reason`."""
        request, unpublished = self.request, self.unpublished
        self.unpublished = 0
        for token in self.token_ids[len(self.token_ids) - unpublished :]:
            self._publish(self.decode_text(vocabulary.piece(token)))
        self.finish_reason = request.match_stop.reason or self.finish_reason
        if self.finish_reason is not None and request.match_stop.reason is None:
            self._publish(self.decode_text(b"", final=True), final=True)

    def completion(self) -> Completion:
        """Return what was computed."""
        assert self.finish_reason is not None
        return Completion(
            text="".join(self.text),
            finish_reason=self.finish_reason,
            token_ids=tuple(self.token_ids),
            scores=tuple(self.scores),
            prompt_logprobs=tuple(self.prompt_logprobs),
            cached_tokens=self.cached_tokens,
            prefill_seconds=self.prefilled - self.started,
            decode_seconds=time.perf_counter() - self.prefilled,
        )

    def _publish(self, piece: str, *, final: bool = False) -> None:
        if certain := self.request.match_stop(piece, final=final):
            self.text.append(certain)
            self.request.emit(certain)


@dataclass(slots=True)
class _Part:
    """The rows of one run in a batch."""

    run: _Run
    tokens: NDArray[np.int32] | list[int]
    first_output: int  # of `tokens`
    outputs_at: int  # among all outputs of the batch
    cells: NDArray[np.int64]


@dataclass(slots=True)
class _Parts:
    """What a batch holds: first a row for each of `writing`, then the rows of `others`.

    Attributes:
        writing: Runs that carry on by their most probable token, with nothing drafted.
        cells: The cells of their rows `(len(writing),)`.
        others: The rest.
    """

    writing: list[_Run]
    cells: NDArray[np.int64]
    others: list[_Part]


@dataclass(slots=True)
class _Drawn:
    """Tokens that were drawn, one for each of `runs`, to be handed out; `scores` waits for theirs."""

    runs: list[_Run]
    scores: Callable[[], list[TokenScore]]


class Engine:
    """A model at work, and its owner thread.

    Args:
        path: A checked GGUF file.
        settings: How to run it.
        clock: Seconds from any beginning; `keep_alive` is counted with it.
        devices: Says which GPUs there are, and what is free there; asked at each load.

    Attributes:
        n_ctx: Window in tokens, as allocated; it stays when the context is freed.
        vocabulary: The model's vocabulary; it stays too.
        placement: Which layers are on which GPU.
        attention: How attention is computed.

    Raises:
        ModelLoadError: llama.cpp refuses the file; the message carries its own words.
        ConfigurationError: The layers that were asked for do not fit on the GPUs.
    """

    n_ctx: int
    vocabulary: Vocabulary
    _batch: Batch
    _cells: CellTable
    _computes_meanwhile: bool
    _max_runs: int
    _mixed_cells: int
    _resident_cells: int
    _rows: Rows
    _states: StateCache
    _version: tuple[int, int]
    _worth_keeping: int

    def __init__(
        self,
        path: Path,
        settings: EngineSettings,
        clock: Callable[[], float] = time.monotonic,
        devices: Callable[[], Sequence[Device]] = gpu_devices,
    ) -> None:
        self._path, self._settings, self._name, self._now = path, settings, path.name, clock
        self._devices, self.placement, self.attention = devices, CPU_ONLY, EXACT
        self._attention_of: tuple[object, ...] | None = None  # the placement that `attention` was chosen for
        self._lib = library()
        self._guard = ProcessGuard()
        self._abort = AbortFlag()
        self._wake = threading.Condition()
        self._waiting: collections.deque[Request] = collections.deque()
        self._runs: list[_Run] = []
        self._closed = False
        self._weights: Weights | None = None
        self._vocabulary_only: Weights | None = None  # what `vocabulary` is of when the weights may be freed
        self._context = self._memory = None
        self._clock = itertools.count()
        self._drawn: _Drawn | None = None
        self._logits_place = (0, 0)  # address and rows of `_logits_view`
        self._logits_view = np.empty((0, 0), np.float32)
        self._max_outputs = _MAX_SCORED + settings.parallel + MAX_DRAFT
        self._forget_sequences()
        loaded: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._own, args=(loaded,), name=f"leanrag {path.name}", daemon=True)
        self._thread.start()
        error = loaded.get()
        if error is not None:
            raise error
        _engines.add(self)

    # Any thread

    @property
    def is_loaded(self) -> bool:
        """Whether weights and context are in memory."""
        return self._context is not None

    def submit(self, request: Request) -> Request:
        """Queue a request and return it.

        Raises:
            ContextOverflowError: The prompt and what may be generated exceed the window.
            QueueFullError: Too many requests wait.
            GenerationError: The engine is closed, or belongs to a parent process.
        """
        self.check_usable()
        needed = len(request.tokens) + request.max_tokens
        if needed > self.n_ctx:
            raise ContextOverflowError(
                f"the prompt of {len(request.tokens):,} tokens and {request.max_tokens:,} reserved for the answer exceed the "
                f"window of {self.n_ctx:,} tokens. Shorten the prompt, lower `max_tokens`, or load the model with a larger "
                "`n_ctx`",
                needed=needed,
                available=self.n_ctx,
                model=self._name,
            )
        request.on_cancel = self._cancel
        with self._wake:
            if self._closed:
                raise self._closed_error()
            if len(self._waiting) >= self._settings.max_queue:
                raise QueueFullError(
                    f"{len(self._waiting)} requests already wait for {self._name}. Try again later, or load the model with "
                    "a larger `max_queue`",
                    model=self._name,
                )
            self._waiting.append(request)
            self._wake.notify_all()
        return request

    def check_usable(self) -> None:
        """Raise `GenerationError` when the engine is closed or belongs to a parent process."""
        self._guard.check(self._name, functools.partial(GenerationError, model=self._name))
        if self._closed:
            raise self._closed_error()

    def stop(self) -> None:
        """Let every request fail and the owner free the model, without waiting for it; a no-op in a forked child.

        The garbage collector may call this from any thread at any place: waiting there for another thread could be for ever.
        """
        if self._guard.is_here:
            with self._wake:
                self._closed = True
                self._abort.set()
                self._wake.notify_all()

    def close(self) -> None:
        """Stop every request and free the model; idempotent, and a no-op in a forked child."""
        self.stop()
        if self._guard.is_here and threading.current_thread() is not self._thread:
            self._thread.join()

    def _closed_error(self) -> GenerationError:
        return GenerationError(f"{self._name} is closed. Load the model again to use it", model=self._name)

    def _cancel(self, request: Request) -> None:
        with self._wake:
            if request in self._waiting:
                self._waiting.remove(request)
                request.emit(self._stop_error(request))
            elif all(run.request.stop_error for run in self._runs):  # nobody is left who wants what is being computed
                self._abort.set()

    def _stop_error(self, request: Request) -> GenerationError:
        if request.stop_error is GenerationTimeout:
            return GenerationTimeout(f"{self._name} did not answer within the time limit", model=self._name)
        return GenerationCancelled(f"the request to {self._name} was cancelled", model=self._name)

    # The owner thread only: loading

    def _own(self, loaded: queue.SimpleQueue[Exception | None]) -> None:
        try:
            self._load()
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for the load
            self._free()
            loaded.put(error)
            return
        loaded.put(None)
        del loaded
        try:
            self._work()
            self._keep_residents()
        finally:
            self._free()
            self._rows.close()

    def _load(self) -> None:
        settings = self._settings
        if settings.keep_alive is not None:
            self._vocabulary_only = Weights.acquire(self._path, vocab_only=True)
        self._load_weights(None if self._vocabulary_only is None else self._vocabulary_only.version)
        assert self._weights is not None
        self._version = self._weights.version
        self.vocabulary = (self._vocabulary_only or self._weights).vocabulary
        self._rows = Rows(self.vocabulary.n_tokens, settings.parallel, settings.threads)
        fingerprint = "" if settings.cache_dir is None else self._fingerprint()
        self._states = StateCache(settings.cache_bytes, settings.cache_dir, fingerprint)

    def _load_weights(self, version: tuple[int, int] | None) -> None:
        """Load the weights, of this version of the file, and open a context on them; all or nothing.

        Others may take the memory of a GPU between looking and loading: "auto" then tries half the layers there, and then none.
        """
        Weights.check_version(self._path, version)
        placement = self._place()
        limits = iter((placement.layers // 2, 0))
        while True:
            try:
                self._load_placed(placement, version)
            except ModelLoadError as error:
                if self._settings.gpu.layers != "auto" or not placement.layers:
                    raise self._with_estimate(error, placement) from error
                fewer = self._place(at_most=next(limits))
                logger.warning("%s; trying %s instead of %s", error, fewer, placement)
                placement = fewer
            else:
                return

    def _load_placed(self, placement: Placement, version: tuple[int, int] | None) -> None:
        self._weights = Weights.acquire(self._path, placement, version=version)
        try:
            if not self._lib.llama_model_has_decoder(self._weights.model):
                raise ModelLoadError(f"{self._path} is an encoder; it cannot generate text", path=self._path)
            before, self.placement = self.placement, placement
            self._open_context()
            if placement.devices and placement != before:
                logger.info("%s: %s", self._name, placement)
        except BaseException:
            self._free_weights()
            raise

    def _place(self, at_most: int | None = None) -> Placement:
        """Choose the layers that go on GPUs, by what is free there now."""
        settings = self._settings
        devices = self._devices() if settings.gpu.layers != 0 else ()
        if not devices:
            return CPU_ONLY
        n_batch = max(min(settings.compute.n_batch or _GPU_BATCH, settings.n_ctx), settings.parallel + _RESIDENT)
        kv_bytes = 34 / 32 if settings.compute.kv_type == "q8_0" else 2.0
        sizes = measure_sizes(check_gguf(self._path), n_ctx=settings.n_ctx, n_batch=n_batch, kv_bytes=kv_bytes)
        loaded = Weights.find_placement(self._path) if at_most is None else None
        shared = share(sizes, devices, settings.gpu, loaded) if loaded else None
        return shared or place(sizes, devices, settings.gpu, at_most=at_most)

    def _with_estimate(self, error: ModelLoadError, placement: Placement) -> ModelLoadError:
        if not placement.layers:
            return error
        return ModelLoadError(f"{error}; it was to have {placement}", path=self._path, model=self._name)

    def _open_context(self) -> None:
        """Make a context on the weights; on a GPU, with the attention that is faster there."""
        settings, is_on_gpu = self._settings, self.placement.layers > 0
        # Plain attention is slower on CUDA, and fails: see `_MAX_PLAIN_RUNS`.
        flash = (True,) if is_on_gpu else (True, False)
        candidates = tuple(
            way
            for way in CANDIDATES
            if way.flash_attn in (flash if settings.compute.flash_attn is None else (settings.compute.flash_attn,))
            and way.kv_type in (("f16", "q8_0") if settings.compute.kv_type == "auto" else (settings.compute.kv_type,))
        )
        if not is_on_gpu:
            candidates = candidates[:1]  # the exact way, where it is left open
        elif self._attention_of == self.placement.key:
            candidates = (self.attention,)  # as before
        key = self._attention_key() if len(candidates) > 1 else ""
        self.attention = choose(key, candidates, self._measure, settings.choices)
        self._attention_of = self.placement.key
        self._open_context_with(self.attention)

    def _attention_key(self) -> str:
        """What decides which attention is faster: the model, the build, and where it runs."""
        digest = hashlib.sha256(f"{self._path.stat().st_size}\0".encode() + file_ends(self._path)).hexdigest()
        names = ", ".join(f"{part.name} {part.description}" for part in self.placement.devices if part.layers)
        return f"{digest}; {_build(self._lib)}; {names}, {self.placement.layers} layers"

    def _measure(self, attention: Attention) -> float:
        """Seconds of reading a prompt and writing some tokens, the better of two times."""
        assert self._weights is not None
        self._open_context_with(attention)
        try:
            n = min(self._batch.capacity, self.n_ctx - _MEASURED_STEPS - 1)
            tokens = np.arange(n, dtype=np.int32) % self._weights.vocabulary.n_tokens
            seconds = []
            for _ in range(2):
                started = time.perf_counter()
                for start, stop in ((0, n), *((n + i, n + i + 1) for i in range(_MEASURED_STEPS))):
                    self._batch.clear()
                    self._batch.add(tokens[: stop - start], start, 0, stop - start - 1)
                    code, complaint = self._decode()
                    if code or not self._lib.llama_get_logits_ith(self._context, -1):  # waits for them
                        raise GenerationError(f"llama.cpp failed with code {code}: {complaint}", model=self._name)
                seconds.append(time.perf_counter() - started)
                self._lib.llama_memory_clear(self._memory, False)
            return min(seconds)
        finally:
            self._lib.llama_free(self._context)
            self._context = self._memory = None

    def _open_context_with(self, attention: Attention) -> None:
        lib, settings = self._lib, self._settings
        assert self._weights is not None
        is_on_gpu = self.placement.layers > 0
        n_batch = min(settings.compute.n_batch or (_GPU_BATCH if is_on_gpu else _CPU_BATCH), settings.n_ctx)
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = settings.n_ctx
        parameters.n_seq_max = settings.parallel + _RESIDENT
        parameters.n_batch = parameters.n_ubatch = max(n_batch, parameters.n_seq_max)  # llama.cpp asserts it
        # Memory is reserved for as many rows of logits; one more would end the process. `_fill_batch` makes no more.
        parameters.n_outputs_max = min(parameters.n_batch, max(parameters.n_seq_max, self._max_outputs))
        parameters.kv_unified = True  # sequences share cells, and any may use the whole window
        parameters.n_threads = parameters.n_threads_batch = settings.threads
        flash = lib.LLAMA_FLASH_ATTN_TYPE_AUTO if attention.flash_attn else lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.flash_attn_type = flash
        parameters.type_k = parameters.type_v = _KV_TYPES[attention.kv_type]
        parameters.no_perf = True
        parameters.op_offload = False  # see `Weights`: a GPU computes the layers that are there, and no others
        with native_errors() as native:
            self._context = lib.llama_init_from_model(self._weights.model, parameters)
            if not self._context:
                raise ModelLoadError(
                    f"llama.cpp cannot make a context of {settings.n_ctx:,} tokens for {self._path}: {native}",
                    path=self._path,
                    model=self._name,
                )
        self._memory = lib.llama_get_memory(self._context)
        self._abort.install(lib, self._context)
        self.n_ctx = lib.llama_n_ctx(self._context)  # what was allocated: llama.cpp rounds the request up
        self._batch = Batch(lib, max(n_batch, settings.parallel), parameters.n_seq_max)  # a row for each at least
        self._cells = CellTable(self.n_ctx)
        plain_on_gpu = is_on_gpu and not attention.flash_attn
        self._max_runs = min(settings.parallel, _MAX_PLAIN_RUNS) if plain_on_gpu else settings.parallel
        self._computes_meanwhile = is_on_gpu  # a call returns before its logits are there
        skips_others = attention.flash_attn or is_on_gpu  # or looks at them at little cost
        self._mixed_cells = self.n_ctx if skips_others else self._count_mixed_cells()
        n_params = max(1, lib.llama_model_n_params(self._weights.model))
        worth = min(_MOST_WORTH_KEEPING, self.n_ctx // 4, _WORTH_KEEPING_WEIGHTS // n_params)
        self._worth_keeping = max(_WORTH_KEEPING, worth) if is_on_gpu else _WORTH_KEEPING
        self._resident_cells = max(_RESIDENT_CELLS, self.n_ctx // 4) if is_on_gpu else _RESIDENT_CELLS

    def _count_mixed_cells(self) -> int:
        """Cells up to which computing different requests together pays, although each row attends to the cells of all.

        A row alone reads all weights, which a row beside others need not; that is worth the attention to as many cells as
        make a quarter of the multiplications of the weights.
        """
        assert self._weights is not None
        model = self._weights.model
        per_cell: int = 2 * self._lib.llama_model_n_layer(model) * self._lib.llama_model_n_embd(model)
        n_params: int = self._lib.llama_model_n_params(model)
        return max(256, n_params // (4 * per_cell))

    def _fingerprint(self) -> str:
        """What the bytes of a state depend on."""
        digest = hashlib.sha256()
        with self._path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return f"{digest.hexdigest()} {_build(self._lib)} {self.attention}"

    def _free(self) -> None:
        with self._wake:
            self._closed = True
            abandoned = [*(run.request for run in self._runs), *self._waiting]
            self._runs, self._waiting = [], collections.deque()
        for request in abandoned:
            request.emit(self._closed_error())
        self._free_weights()
        if self._vocabulary_only:
            self._vocabulary_only.release()
            self._vocabulary_only = None

    def _free_weights(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
        if self._weights:
            self._weights.release()
        self._context = self._weights = self._memory = None

    def _forget_sequences(self) -> None:
        self._tree: PrefixTree[_Sequence] = PrefixTree()
        self._free_ids = list(range(self._settings.parallel + _RESIDENT))

    # The owner thread only: scheduling

    def _work(self) -> None:
        while self._wait():
            if not self.is_loaded and not self._load_again():
                continue
            self._drop_stopped()
            self._admit()
            if self._runs:
                self._step()

    def _wait(self) -> bool:
        """Return True when there is something to do, False when the engine closes; what is not used long enough is freed."""
        idle_since = self._now()
        while True:
            with self._wake:
                while not (self._waiting or self._runs or self._closed):
                    left = None
                    if self._settings.keep_alive is not None and self.is_loaded:
                        left = self._settings.keep_alive - (self._now() - idle_since)
                        if left <= 0:
                            break
                    self._wake.wait(left)
                else:
                    return not self._closed
            self._unload()  # without the lock: others may submit while states are put away

    def _unload(self) -> None:
        """Free weights and context, what was computed put away first; a request that comes meanwhile keeps them."""
        for sequence in sorted(self._residents(), key=lambda sequence: sequence.last_used):
            self._keep_state(sequence)
        with self._wake:
            if self._waiting:
                return
        logger.info("%s is freed: nobody asked for %g seconds", self._name, self._settings.keep_alive)
        self._forget_sequences()
        self._free_weights()
        with self._wake:
            self._wake.notify_all()

    def _load_again(self) -> bool:
        """Load what was freed; when that fails, all who wait get the error, and the next request tries again."""
        try:
            if self._weights is None:
                self._load_weights(self._version)
            else:  # only the context was lost
                self._open_context()
        except Exception as error:  # noqa: BLE001 - handed to the callers
            logger.warning("%s cannot be loaded again: %s", self._name, error)
            with self._wake:
                abandoned, self._waiting = list(self._waiting), collections.deque()
            for request in abandoned:
                request.emit(ModelLoadError(str(error), path=self._path, model=self._name))
            return False
        return True

    def _drop_stopped(self) -> None:
        for run in list(self._runs):
            if run.request.is_late and run.request.stop_error is None:
                run.request.stop_error = GenerationTimeout
            if run.request.stop_error is not None:
                self._end(run, self._stop_error(run.request))
        with self._wake:
            if not self._closed:
                self._abort.clear()

    def _admit(self) -> None:
        """Take up waiting requests, oldest first, while there are sequences and cells for them."""
        with self._wake:
            waiting = list(self._waiting)
        for request in waiting:
            if len(self._runs) >= self._max_runs:
                break
            source, shared = self._find_source(request)
            is_foreign = 2 * shared < len(request.tokens)
            if self._runs and is_foreign and self.n_ctx - self._cells.free + request.n_cells > self._mixed_cells:
                request.overtaken += 1
                if request.overtaken > _MAX_OVERTAKEN:
                    break
                continue  # alone it is computed faster; who shares what is being computed goes first
            if source is not None and source.is_reading and shared - min(shared, source.computed) >= _WORTH_WAITING:
                continue  # what it needs is being computed: it comes in when that is done
            if not self._make_room(request, source, shared):
                if self._runs or source is None:
                    break
                self._evict(source)  # nobody is at work: the rest of what it holds leaves too little room
                source, shared = None, 0
            with self._wake:
                if request not in self._waiting:  # cancelled meanwhile
                    continue
                self._waiting.remove(request)
                self._runs.append(self._start(request, source, shared))

    def _find_source(self, request: Request) -> tuple[_Sequence | None, int]:
        """Return the sequence to share cells with, and the tokens that are, or will be, the same."""
        shared, sequences = self._tree.match(request.tokens)
        shared = min(shared, request.n_reusable)
        if shared < _WORTH_SHARING:
            return None, 0
        source = max(sequences, key=lambda sequence: min(sequence.computed, shared))
        return source, shared if source.is_reading else min(shared, source.computed)

    def _make_room(self, request: Request, source: _Sequence | None, shared: int) -> bool:
        """Free a sequence and enough cells for the request, besides what the others may still need; False when it cannot be.

        Sequences that are only kept go to the states, even if there is room: attention on CPUs looks at every cell in use. On a GPU
        they stay: that is cheap there, and fetching them from it is not.
        """
        needed = request.n_cells - (min(shared, source.computed) if source else 0)
        for sequence in sorted(self._residents(), key=lambda sequence: sequence.last_used):
            has_room = bool(self._free_ids) and self._n_unreserved() >= needed
            if sequence is not source and (not has_room or (self._settings.cache_bytes and not self.placement.layers)):
                self._evict(sequence)
        return bool(self._free_ids) and self._n_unreserved() >= needed

    def _n_unreserved(self) -> int:
        """Free cells that no request at work may still need."""
        return self._cells.free - sum(run.request.n_cells - run.sequence.computed for run in self._runs)

    def _residents(self) -> list[_Sequence]:
        _, sequences = self._tree.match(np.empty(0, np.int32))
        return [sequence for sequence in sequences if sequence.run is None]

    def _start(self, request: Request, source: _Sequence | None, shared: int) -> _Run:
        """Give the request a sequence that holds as much of its prompt as is known."""
        sequence = _Sequence(self._free_ids.pop(), request.tokens, 0, np.empty(0, np.int64), None, next(self._clock))
        if source is not None:
            source.last_used = next(self._clock)
            shared = min(shared, source.computed)
            self._lib.llama_memory_seq_cp(self._memory, source.id, sequence.id, 0, -1)
            if self._keep_beginning(sequence, shared):
                source.join_cells()
                sequence.cells, sequence.computed = source.cells[:shared], shared
                self._cells.share(sequence.cells)
            if source.run is None and not self._runs and self._settings.cache_bytes and not self.placement.layers:
                self._evict(source)  # or else the rest of the prompt would lie behind it, and be rounded in another way
        self._restore(request, sequence)
        lookup = PromptLookup(request.tokens) if self._settings.compute.speculate and request.max_tokens > 1 else None
        sequence.run = run = _Run(request, sequence, sequence.computed, lookup)
        self._tree.add(sequence.tokens, sequence)
        return run

    def _keep_beginning(self, sequence: _Sequence, length: int) -> bool:
        """Remove all but the first `length` tokens in the context; recurrent models cannot, and then nothing stays."""
        if length and self._lib.llama_memory_seq_rm(self._memory, sequence.id, length, -1):
            return True
        self._lib.llama_memory_seq_rm(self._memory, sequence.id, -1, -1)
        return False

    def _restore(self, request: Request, sequence: _Sequence) -> None:
        """Fetch a kept state if it holds clearly more of the prompt than the sequence does."""
        shared, name = self._states.match(request.tokens)
        shared = min(shared, request.n_reusable)
        if name is None or shared < sequence.computed + self._worth_keeping:
            return
        state = self._states.get(name)
        # What is fetched shares no cells with others, as what is there may.
        if state is None or len(state[0]) > self._cells.free or request.n_cells > self._n_unreserved():
            return
        self._lib.llama_memory_seq_rm(self._memory, sequence.id, -1, -1)
        self._cells.release(sequence.cells)
        sequence.cells, sequence.computed = np.empty(0, np.int64), 0
        data = np.frombuffer(state[1], np.uint8)
        if not self._lib.llama_state_seq_set_data(self._context, _bytes_pointer(data), data.size, sequence.id):
            logger.warning("llama.cpp did not take a kept state of %s", self._name)
        elif self._keep_beginning(sequence, shared):
            sequence.cells, sequence.computed = self._cells.take(shared), shared
            return
        self._lib.llama_memory_seq_rm(self._memory, sequence.id, -1, -1)

    def _end(self, run: _Run, outcome: Completion | Exception) -> None:
        """Hand the outcome to the caller, and keep the prompt's cells if another prompt may begin like it."""
        with self._wake:
            self._runs.remove(run)
        sequence = run.sequence
        sequence.join_cells()
        sequence.run, sequence.last_used = None, next(self._clock)
        length = min(sequence.computed, len(run.request.tokens))
        self._tree.remove(sequence.tokens, sequence)
        others, _ = self._tree.match(sequence.tokens[:length])
        if length - others < _WORTH_WAITING or not self._keep_beginning(sequence, length):
            self._drop(sequence)
        else:
            self._cells.release(sequence.cells[length:])
            sequence.tokens, sequence.cells, sequence.computed = (
                sequence.tokens[:length],
                sequence.cells[:length],
                length,
            )
            self._tree.add(sequence.tokens, sequence)
            self._trim_residents()
        run.request.emit(outcome)

    def _trim_residents(self) -> None:
        residents = sorted(self._residents(), key=lambda sequence: -sequence.last_used)
        while (
            len(residents) > 1 and np.unique(np.concatenate([r.cells for r in residents])).size > self._resident_cells
        ):
            self._evict(residents.pop())

    def _evict(self, sequence: _Sequence) -> None:
        self._keep_state(sequence)
        self._tree.remove(sequence.tokens, sequence)
        self._drop(sequence)

    def _drop(self, sequence: _Sequence) -> None:
        self._lib.llama_memory_seq_rm(self._memory, sequence.id, -1, -1)
        self._cells.release(sequence.cells)
        self._free_ids.append(sequence.id)

    def _keep_state(self, sequence: _Sequence) -> None:
        """Put a sequence's state away, unless it is known or too short to be worth it."""
        known, _ = self._states.match(sequence.tokens)
        if not self._settings.cache_bytes or len(sequence.tokens) - known < self._worth_keeping:
            return
        size = self._lib.llama_state_seq_get_size(self._context, sequence.id)
        data = np.empty(size, np.uint8)
        written = self._lib.llama_state_seq_get_data(self._context, _bytes_pointer(data), size, sequence.id)
        if written:
            self._states.put(sequence.tokens, data[:written].data)

    def _keep_residents(self) -> None:
        """Before the end: what was computed goes to disk when it is to survive."""
        if self._settings.cache_dir is not None:
            for sequence in sorted(self._residents(), key=lambda sequence: -len(sequence.tokens)):
                self._keep_state(sequence)

    # The owner thread only: computing

    def _step(self) -> None:
        """Compute one batch and hand out what it gives."""
        parts = self._fill_batch()
        code, complaint = self._decode()
        self._catch_up()  # a GPU computes meanwhile
        if code == 0:
            self._hand_out(parts)
            return
        others = [part.run for part in parts.others]
        for run in (*parts.writing, *others):  # nothing of the batch counts
            self._lib.llama_memory_seq_rm(self._memory, run.sequence.id, run.sequence.computed, -1)
        self._cells.release(np.concatenate([parts.cells, *(part.cells for part in parts.others)]))
        if code != 2:  # 2: aborted, because nobody wants it or the engine closes
            self._recover(code, complaint, [*parts.writing, *others])

    def _fill_batch(self) -> _Parts:
        batch = self._batch
        batch.clear()
        writing = [(run, run.pending) for run in self._runs if run.pending is not None]
        plain, others = [], []
        for run, pending in writing:
            if run.request.is_greedy and run.lookup is None:
                plain.append(run)
            else:
                others.append((run, [pending, *self._draft(run, len(writing))]))
        parts = _Parts(plain, self._cells.take(len(plain)), [])
        if plain:
            rows = np.array([(run.pending, run.sequence.computed, run.sequence.id) for run in plain], np.int32)
            batch.add_each(*rows.T)
        parts.others += [self._add(run, tokens, 0) for run, tokens in others]
        beside = 2 * _PREFILL_BESIDE_DECODE if self.placement.layers else _PREFILL_BESIDE_DECODE
        room = min(batch.room, beside) if writing else batch.room
        for run in self._runs:
            if run.pending is None and room and (part := self._add_prompt(run, room)):
                parts.others.append(part)
                room -= len(part.tokens)
        return parts

    def _draft(self, run: _Run, n_writing: int) -> list[int]:
        if run.lookup is None or n_writing > 1:
            return []
        room = run.request.max_tokens - len(run.token_ids) - 1
        return run.lookup.propose(run.token_ids)[:room]

    def _add_prompt(self, run: _Run, room: int) -> _Part | None:
        """Add what of a prompt fits; None when nothing does."""
        request, start = run.request, run.sequence.computed
        stop = min(run.end, start + room)
        output = len(request.tokens) - 1 if request.score_from is None else request.score_from - 1
        if request.score_from is not None:
            stop = min(stop, max(output, start) + max(0, _MAX_SCORED - self._batch.n_outputs))
        return self._add(run, request.tokens[start:stop], max(0, output - start)) if stop > start else None

    def _add(self, run: _Run, tokens: NDArray[np.int32] | list[int], first_output: int) -> _Part:
        sequence = run.sequence
        at = self._batch.add(tokens, sequence.computed, sequence.id, first_output)
        return _Part(run, tokens, first_output, at, self._cells.take(len(tokens)))

    def _decode(self) -> tuple[int, str]:
        with native_errors() as native:
            code = self._lib.llama_decode(self._context, self._batch.native())
            native.expected = code in (1, 2)
            return code, str(native)

    def _hand_out(self, parts: _Parts) -> None:
        logits = self._logits()
        for run, cell in zip(parts.writing, parts.cells.tolist(), strict=True):
            run.sequence.computed += 1
            run.sequence.new_cells.append(cell)
        for part in parts.others:
            run, sequence = part.run, part.run.sequence
            position = sequence.computed
            sequence.computed += len(part.tokens)
            sequence.join_cells()
            sequence.cells = np.concatenate([sequence.cells, part.cells])
            rows = logits[part.outputs_at : part.outputs_at + max(0, len(part.tokens) - part.first_output)]
            try:
                if run.pending is not None:
                    self._carry_on(run, rows, part.tokens)
                elif len(rows):
                    run.read_prompt(rows, position + part.first_output)
                    if run.request.max_tokens and sequence.computed == run.end:
                        run.write(rows[-1], self.vocabulary)
            except Exception as error:  # noqa: BLE001 - handed to the caller; the others go on
                self._end(run, error)
                continue
            if run.finish_reason is not None:
                self._end(run, run.completion())
        if parts.writing:
            self._carry_on_all(parts.writing, logits)

    def _carry_on_all(self, runs: list[_Run], logits: NDArray[np.float32]) -> None:
        """Draw the next token of each of `runs`, after its row of `logits`."""
        later = self._computes_meanwhile
        if later:
            tokens, logits = self._rows.draw_and_keep(logits, len(runs))
        else:
            tokens = self._rows.draw(logits, len(runs))
        now, waiting = [], []  # rows to be scored
        for i, (run, token) in enumerate(zip(runs, tokens, strict=True)):
            is_answer = run.take(token, self.vocabulary, may_publish_later=later)
            if later and run.finish_reason is None:
                waiting.append(i)
            elif is_answer:
                now.append(i)
        for i, score in zip(now, self._rows.score(logits, now, [tokens[i] for i in now]), strict=True):
            runs[i].scores.append(score)
        if waiting:
            scores = self._rows.score_meanwhile(logits, waiting, [tokens[i] for i in waiting])
            self._drawn = _Drawn([runs[i] for i in waiting], scores)
        for run in runs:
            if run.finish_reason is not None:
                self._end(run, run.completion())

    def _catch_up(self) -> None:
        """Score and hand out what was drawn before the computation that runs now."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return
        for run, score in zip(drawn.runs, drawn.scores(), strict=True):
            run.scores.append(score)
            if run.sequence.run is run:  # not cancelled meanwhile
                run.publish(self.vocabulary)

    def _carry_on(self, run: _Run, logits: NDArray[np.float32], tokens: NDArray[np.int32] | list[int]) -> None:
        """Draw tokens as long as the drafted ones are what is drawn; what was drafted in vain is taken back."""
        kept = 0
        for row in logits:
            kept += 1
            drawn = run.write(row, self.vocabulary)
            if run.finish_reason is not None or kept == len(tokens) or drawn != tokens[kept]:
                break
        if run.lookup is not None:
            run.lookup.learn(drafted=len(tokens) - 1, accepted=kept - 1)
        sequence = run.sequence
        excess = len(tokens) - kept
        if excess:
            sequence.computed -= excess
            self._lib.llama_memory_seq_rm(self._memory, sequence.id, sequence.computed, -1)
            self._cells.release(sequence.cells[sequence.computed :])
            sequence.cells = sequence.cells[: sequence.computed]

    def _logits(self) -> NDArray[np.float32]:
        """The logits of the batch's outputs `(n_outputs, n_vocab)`, in order: a view, valid until the next computation."""
        n_outputs, n_vocab = self._batch.n_outputs, self.vocabulary.n_tokens
        if not n_outputs:
            return np.empty((0, n_vocab), np.float32)
        pointer = self._lib.llama_get_logits_ith(self._context, -n_outputs)
        if not pointer:
            raise GenerationError("llama.cpp returned no logits", model=self._name)
        place = ctypes.addressof(pointer.contents), n_outputs
        if place != self._logits_place:  # a view takes longer to make than all else here
            self._logits_place, self._logits_view = place, np.ctypeslib.as_array(pointer, (n_outputs, n_vocab))
        return self._logits_view

    def _recover(self, code: int, complaint: str, runs: list[_Run]) -> None:
        """After a computation that failed: make room and try again, or else fail what was in it and begin anew."""
        residents = self._residents()
        if code == 1 and residents:  # no cells: sequences that are only kept go first
            for sequence in residents:
                self._evict(sequence)
            return
        error = f"llama.cpp failed with code {code}: {complaint}"
        logger.error("%s: %s", self._name, error)
        for run in runs:
            self._end(run, GenerationError(error, model=self._name))
        if code < 0 and not self._runs:
            self._forget_sequences()
            self._lib.llama_free(self._context)
            self._context = self._memory = None  # the next request makes another one
            if self._vocabulary_only:
                self._free_weights()  # and may place fewer layers


def _build(lib: Any) -> str:
    """Version and features of llama.cpp."""
    import llama_cpp

    return f"{llama_cpp.__version__} {lib.llama_print_system_info().decode()}"


def _bytes_pointer(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    """At the end of the interpreter, while threads still run."""
    for engine in list(_engines):
        engine.close()
