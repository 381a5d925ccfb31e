"""The owner thread: the only code that computes with a loaded model.

Any thread may submit a request; the owner takes them in order, one sequence at a time, prefill in batches, then one token a
step. A cancelled or late request stops within one node of the graph, even inside a prefill. The engine knows token ids and
nothing of chat, retrieval or prompts.
"""

from __future__ import annotations

import collections
import ctypes
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    ModelLoadError,
    QueueFullError,
)
from leanrag.llama.library import AbortFlag, library, native_errors
from leanrag.llama.sampling import Sampler, log_softmax_at
from leanrag.llama.vocabulary import TextDecoder, Vocabulary
from leanrag.types import FinishReason

__all__ = ["Completion", "Engine", "EngineSettings", "Request", "StopMatcher"]

logger = logging.getLogger(__name__)

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\s*\n\s*")
_MIN_REPEATED = 12  # characters; shorter lines may well occur twice
_POLL_SECONDS = 0.2  # how often a waiting caller looks for signals and a dead owner


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How a model is loaded.

    Attributes:
        n_ctx: Window in tokens; llama.cpp rounds it up to a multiple of 256.
        n_batch: Most prompt tokens in one computation.
        threads: Threads to compute with.
        n_gpu_layers: Layers on the GPU, -1 for all.
        max_queue: Requests that may wait.
    """

    n_ctx: int
    n_batch: int
    threads: int
    n_gpu_layers: int
    max_queue: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine generated. Times in seconds; logprobs are natural logarithms, one a token."""

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prefill_seconds: float
    decode_seconds: float


class StopMatcher:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one.

    The first stop string to be completed counts, and the longest of those that end together, however the text was cut in pieces.

    Args:
        stops: The stop strings.
        no_repeats: Let each sentence and line that was passed become a stop string: small models fall into loops.

    Attributes:
        reason: Why no more text is passed; None while it is.
    """

    def __init__(self, stops: Sequence[str], *, no_repeats: bool = False) -> None:
        self._stops: dict[str, FinishReason] = dict.fromkeys(stops, "stop")
        self._pending = ""
        self._sentence: str | None = "" if no_repeats else None  # the one under way
        self.reason: FinishReason | None = None

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that is certain to precede any stop string."""
        pending = self._pending + text
        ends = [(at + len(stop), at, reason) for stop, reason in self._stops.items() if (at := pending.find(stop)) >= 0]
        if ends:
            _, cut, self.reason = min(ends)
            self._pending = ""
            return pending[:cut]
        held = 0 if final else max((_overlap(pending, stop) for stop in self._stops), default=0)
        cut = len(pending) - held
        self._pending = pending[cut:]
        if self._sentence is not None:
            *passed, self._sentence = _SENTENCE_END.split(self._sentence + pending[:cut])
            self._stops |= {sentence: "repetition" for sentence in passed if len(sentence) >= _MIN_REPEATED}
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Request:
    """One request, from `Engine.submit`: iterate for text as it comes, then read `result`."""

    def __init__(
        self,
        tokens: Sequence[int],
        max_tokens: int,
        sampler: Sampler,
        match_stop: StopMatcher,
        deadline: float | None,
        on_cancel: Callable[[Request], None],
    ) -> None:
        self.tokens = tokens
        self.max_tokens = max_tokens
        self.sampler = sampler
        self.match_stop = match_stop
        self.deadline = deadline
        self.stop_error: type[GenerationError] | None = None  # set once: why the owner must stop
        self._on_cancel = on_cancel
        self._events: queue.SimpleQueue[str | Completion | Exception] = queue.SimpleQueue()
        self._outcome: Completion | Exception | None = None

    def cancel(self, error: type[GenerationError] = GenerationCancelled) -> None:
        """Stop the request; a no-op when it has ended."""
        if self.stop_error is None:
            self.stop_error = error
            self._on_cancel(self)

    def emit(self, event: str | Completion | Exception) -> None:
        """Hand text, the completion or an error to the caller."""
        self._events.put(event)

    def __iter__(self) -> Iterator[str]:
        """Yield text; an interrupted or abandoned iteration stops the request."""
        try:
            while self._outcome is None:
                event = self._next_event()
                if isinstance(event, str):
                    yield event
                else:
                    self._outcome = event
        finally:
            if self._outcome is None:
                self.cancel()
        if isinstance(self._outcome, Exception):
            raise self._outcome

    @property
    def result(self) -> Completion:
        """The completion; waits for it."""
        for _ in self:
            pass
        assert isinstance(self._outcome, Completion)
        return self._outcome

    def _next_event(self) -> str | Completion | Exception:
        while True:
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.cancel(GenerationTimeout)
            try:  # short waits: a lock without a time limit cannot be interrupted on Windows
                return self._events.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue


class Engine:
    """A loaded model and its owner thread.

    Args:
        path: A checked GGUF file.
        settings: How to load it.

    Attributes:
        n_ctx: Window in tokens, as allocated.
        vocabulary: The model's vocabulary.

    Raises:
        ModelLoadError: llama.cpp refuses the file; the message carries its own words.
    """

    n_ctx: int
    vocabulary: Vocabulary
    _batch: _Batch

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self._path, self._settings, self._name = path, settings, path.name
        self._lib = library()
        self._pid = os.getpid()
        self._abort = AbortFlag()
        self._wake = threading.Condition()
        self._waiting: collections.deque[Request] = collections.deque()
        self._active: Request | None = None
        self._closed = False
        self._model = self._context = self._memory = None
        loaded: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._own, args=(loaded,), name=f"leanrag {path.name}", daemon=True)
        self._thread.start()
        error = loaded.get()
        if error is not None:
            raise error

    # Any thread

    def submit(
        self,
        tokens: Sequence[int],
        max_tokens: int,
        sampler: Sampler,
        match_stop: StopMatcher,
        timeout_seconds: float | None,
    ) -> Request:
        """Queue a request and return it.

        Raises:
            ContextOverflowError: `tokens` plus `max_tokens` exceed the window.
            QueueFullError: Too many requests wait.
            GenerationError: The engine is closed, or belongs to a parent process.
        """
        self.check_usable()
        if not tokens:
            raise ConfigurationError("the prompt is empty; give at least one token")
        if max_tokens < 1:
            raise ConfigurationError(f"`max_tokens` must be at least 1, got {max_tokens}")
        needed = len(tokens) + max_tokens
        if needed > self.n_ctx:
            raise ContextOverflowError(
                f"the prompt of {len(tokens):,} tokens and {max_tokens:,} reserved for the answer exceed the window of "
                f"{self.n_ctx:,} tokens. Shorten the prompt, lower `max_tokens`, or load the model with a larger `n_ctx`",
                needed=needed,
                available=self.n_ctx,
                model=self._name,
            )
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        request = Request(tokens, max_tokens, sampler, match_stop, deadline, self._cancel)
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
            self._wake.notify()
        return request

    def check_usable(self) -> None:
        """Raise `GenerationError` when the engine is closed or belongs to a parent process."""
        if os.getpid() != self._pid:
            raise GenerationError(
                f"{self._name} was loaded before this process was forked; its threads did not come along. Load the model "
                "in the child, or start children with the multiprocessing method 'spawn'",
                model=self._name,
            )
        if self._closed:
            raise self._closed_error()

    def close(self) -> None:
        """Stop every request and free the model; idempotent, and a no-op in a forked child."""
        if os.getpid() != self._pid:
            return
        with self._wake:
            self._closed = True
            self._abort.set()
            self._wake.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _closed_error(self) -> GenerationError:
        return GenerationError(f"{self._name} is closed. Load the model again to use it", model=self._name)

    def _cancel(self, request: Request) -> None:
        with self._wake:
            if request is self._active:
                self._abort.set()
            elif request in self._waiting:
                self._waiting.remove(request)
                request.emit(self._stop_error(request))

    def _stop_error(self, request: Request) -> GenerationError:
        if request.stop_error is GenerationTimeout:
            return GenerationTimeout(f"{self._name} did not answer within the time limit", model=self._name)
        return GenerationCancelled(f"the request to {self._name} was cancelled", model=self._name)

    # The owner thread only

    def _own(self, loaded: queue.SimpleQueue[Exception | None]) -> None:
        try:
            with native_errors() as native:
                try:
                    self._load()
                except ModelLoadError as error:
                    raise ModelLoadError(f"{error}: {native}", path=self._path, model=self._name) from None
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for the load
            self._free()
            loaded.put(error)
            return
        loaded.put(None)
        del loaded
        try:
            while (request := self._take()) is not None:
                self._serve(request)
                del request
        finally:
            self._free()

    def _load(self) -> None:
        lib, settings = self._lib, self._settings
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = settings.n_gpu_layers
        self._model = lib.llama_model_load_from_file(os.fsencode(self._path.resolve()), parameters)
        if not self._model:
            raise ModelLoadError(f"llama.cpp cannot load {self._path}", path=self._path)
        if not lib.llama_model_has_decoder(self._model):
            raise ModelLoadError(f"{self._path} is an encoder; it cannot generate text", path=self._path)
        parameters = lib.llama_context_default_params()
        parameters.n_ctx = settings.n_ctx
        parameters.n_batch = parameters.n_ubatch = min(settings.n_batch, settings.n_ctx)
        parameters.n_seq_max = 1
        parameters.n_threads = parameters.n_threads_batch = settings.threads
        parameters.no_perf = True
        self._context = lib.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise ModelLoadError(
                f"llama.cpp cannot make a context of {settings.n_ctx:,} tokens for {self._path}", path=self._path
            )
        self._memory = lib.llama_get_memory(self._context)
        self._abort.install(lib, self._context)
        self.n_ctx = lib.llama_n_ctx(self._context)  # what was allocated: llama.cpp rounds the request up
        self.vocabulary = Vocabulary(lib, self._model)
        self._batch = _Batch(lib, lib.llama_n_batch(self._context))

    def _free(self) -> None:
        with self._wake:
            self._closed = True
            abandoned, self._waiting = list(self._waiting), collections.deque()
        for request in abandoned:
            request.emit(self._closed_error())
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._context = self._model = self._memory = None

    def _take(self) -> Request | None:
        """Wait for the next request; None when the engine is to close."""
        with self._wake:
            while not self._waiting and not self._closed:
                self._wake.wait()
            if self._closed:
                return None
            self._active = request = self._waiting.popleft()
            self._abort.clear()
            if request.stop_error is not None:
                self._abort.set()
            return request

    def _serve(self, request: Request) -> None:
        outcome: Completion | Exception
        try:
            outcome = self._complete(request)
        except Exception as error:  # noqa: BLE001 - handed to the caller; the owner goes on
            outcome = error
        with self._wake:
            self._active = None
        self._lib.llama_memory_clear(self._memory, False)
        request.emit(outcome)

    def _complete(self, request: Request) -> Completion:
        started = time.perf_counter()
        logits = self._prefill(request)
        prefilled = time.perf_counter()
        decode_text, match_stop = TextDecoder(), request.match_stop
        tokens: list[int] = []
        logprobs: list[float] = []
        text: list[str] = []
        reason: FinishReason = "length"

        def publish(piece: str, *, final: bool = False) -> None:
            if certain := match_stop(piece, final=final):
                text.append(certain)
                request.emit(certain)

        while True:
            token = request.sampler(logits)
            if self.vocabulary.is_end(token):
                reason = "stop"
                break
            tokens.append(token)
            logprobs.append(log_softmax_at(logits, token))
            publish(decode_text(self.vocabulary.piece(token)))
            if match_stop.reason is not None:
                reason = match_stop.reason
                break
            if len(tokens) == request.max_tokens:
                break
            logits = self._decode([token], len(request.tokens) + len(tokens) - 1, request)
        if match_stop.reason is None:
            publish(decode_text(b"", final=True), final=True)
        return Completion(
            text="".join(text),
            finish_reason=reason,
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            prefill_seconds=prefilled - started,
            decode_seconds=time.perf_counter() - prefilled,
        )

    def _prefill(self, request: Request) -> NDArray[np.float32]:
        size = self._batch.capacity
        for start in range(0, len(request.tokens), size):
            logits = self._decode(request.tokens[start : start + size], start, request)
        return logits

    def _decode(self, tokens: Sequence[int], position: int, request: Request) -> NDArray[np.float32]:
        """Compute `tokens` from `position` on and return the logits `(n_vocab,)` after the last: a view, valid until the next."""
        if request.stop_error is not None:
            raise self._stop_error(request)
        if request.deadline is not None and time.monotonic() >= request.deadline:
            request.stop_error = GenerationTimeout
            raise self._stop_error(request)
        with native_errors() as native:
            code = self._lib.llama_decode(self._context, self._batch.fill(tokens, position))
            if code == 2:  # aborted
                native.expected = True
                raise self._closed_error() if self._closed else self._stop_error(request)
            if code != 0:
                raise GenerationError(f"llama.cpp failed with code {code}: {native}", model=self._name)
        pointer = self._lib.llama_get_logits_ith(self._context, -1)
        if not pointer:
            raise GenerationError("llama.cpp returned no logits", model=self._name)
        return np.ctypeslib.as_array(pointer, (self.vocabulary.n_tokens,))


class _Batch:
    """A `llama_batch` of one sequence over NumPy arrays: filled by slices, not token by token."""

    def __init__(self, lib: Any, capacity: int) -> None:
        self.capacity = capacity
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequence_counts = np.ones(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        sequence = ctypes.pointer(ctypes.c_int32(0))
        self._sequences = (ctypes.POINTER(ctypes.c_int32) * capacity)(*[sequence] * capacity)
        self._batch = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._sequence_counts, ctypes.c_int32),
            seq_id=ctypes.cast(self._sequences, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    def fill(self, tokens: Sequence[int], position: int) -> Any:
        """Return the batch holding `tokens` from `position` on, logits wanted for the last."""
        n = len(tokens)
        self._tokens[:n] = tokens
        self._positions[:n] = np.arange(position, position + n)
        self._outputs[:n] = 0
        self._outputs[n - 1] = 1
        self._batch.n_tokens = n
        return self._batch


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
