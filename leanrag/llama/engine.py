"""The engine: a loaded model, and the owner thread, which alone computes with it.

Any thread may submit a request. The owner thread serves many requests at once in one context. In each step it computes one batch:
a row for each answer that is being written and, in the remaining rows, prompts that are being read. Prompts with the same
beginning read it once: see `sequences`. The context is in `context`, loading is in `loading`. A cancelled or late request stops
within one node of the compute graph if it is alone, and within one batch if it is not. With `keep_alive`, an engine without
requests frees its weights and its context until the next request.

The engine knows token ids. It does not know chats, retrieval or prompts.
"""

from __future__ import annotations

import atexit
import collections
import functools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leanrag.checks import ProcessGuard
from leanrag.errors import GenerationError, GenerationTimeout, ModelLoadError
from leanrag.llama import failures
from leanrag.llama.admission import Admission, NotNow
from leanrag.llama.context import MAX_SCORED, Context
from leanrag.llama.device_draws import Draws
from leanrag.llama.library import AbortFlag, Device
from leanrag.llama.loading import LoadedModel
from leanrag.llama.parts import Computing, Drawn, Part, Parts, keep_shape
from leanrag.llama.placement import Attention, Placement, gpu_devices
from leanrag.llama.requests import Completion, Request
from leanrag.llama.rows import Rows
from leanrag.llama.run import Run
from leanrag.llama.run import Sequence as RunSequence
from leanrag.llama.sequences import Sequences
from leanrag.llama.settings import EngineSettings
from leanrag.threads import ThreadCount, lower_priority

__all__ = ["Engine"]

logger = logging.getLogger(__name__)

_PREFILL_BESIDE_DECODE = 256  # rows of prompts in a batch that also has rows of answers; twice as many on a GPU


class Engine:
    """Runs a loaded model in an owner thread.

    Args:
        path: A checked GGUF file.
        settings: How to run it.
        clock: Returns the time in seconds, for `keep_alive`.
        devices: Returns the GPUs and their free memory; called at each load.

    Attributes:
        n_ctx: Window in tokens, as allocated; known also while the context is freed.
        vocabulary: The model's vocabulary; known also while the weights are freed.
        placement: Which layers are on which GPU.
        attention: How attention is computed.

    Raises:
        ModelLoadError: llama.cpp refuses the file; the message quotes llama.cpp.
        ConfigurationError: The GPUs have too little memory for the requested layers.
    """

    def __init__(
        self,
        path: Path,
        settings: EngineSettings,
        clock: Callable[[], float] = time.monotonic,
        devices: Callable[[], Sequence[Device]] = gpu_devices,
    ) -> None:
        self._path, self._settings, self._name, self._now = path, settings, path.name, clock
        self._threads = ThreadCount(settings.threads, settings.priority)
        self._guard = ProcessGuard()
        self._abort = AbortFlag()
        self._wake = threading.Condition()
        self._waiting: collections.deque[Request] = collections.deque()
        self._runs: list[Run] = []
        self._closed = False
        self._is_complete = False  # stays False if Ctrl-C interrupts the load
        self._drawn: Drawn | None = None
        self._ahead: Computing | None = None  # the next batch, if it is being computed already
        self._shape: list[RunSequence]  # the sequences of the rows of the last batch, if it had no other rows
        self._starting: Request | None = None  # the waiting request that `_admit` looks at
        loaded: queue.SimpleQueue[LoadedModel | Exception] = queue.SimpleQueue()
        may_work = threading.Event()
        self._thread = threading.Thread(
            target=self._run_owner, args=(devices, loaded, may_work), name=f"leanrag {path.name}", daemon=True
        )
        self._thread.start()
        try:
            model = loaded.get()
            if isinstance(model, Exception):
                raise model
            self._model, self.vocabulary, self.n_ctx = model, model.vocabulary, model.n_ctx
            self._rows = Rows(self.vocabulary.n_tokens, settings.parallel, self._threads.most)
            assert model.context is not None
            self._use_context(model.context)
            self._is_complete = True
        finally:
            may_work.set()
        _engines.add(self)

    # Any thread

    @property
    def is_loaded(self) -> bool:
        """Whether weights and context are in memory."""
        return self._model.context is not None

    @property
    def placement(self) -> Placement:
        """Which layers are on which GPU."""
        return self._model.placement

    @property
    def attention(self) -> Attention:
        """How attention is computed."""
        return self._model.attention

    def submit(self, request: Request) -> Request:
        """Queue a request and return it.

        Raises:
            ContextOverflowError: The prompt plus `max_tokens` exceed the window.
            QueueFullError: The queue has `max_queue` requests already.
            GenerationError: The engine is closed, or belongs to a parent process.
        """
        self.check_usable()
        if len(request.tokens) + request.max_tokens > self.n_ctx:
            raise failures.too_long(self._name, request, self.n_ctx)
        request.on_cancel = self._cancel
        with self._wake:
            if self._closed:
                raise failures.closed(self._name)
            if len(self._waiting) >= self._settings.max_queue:
                raise failures.queue_full(self._name, len(self._waiting))
            self._waiting.append(request)
            self._wake.notify_all()
        return request

    def check_usable(self) -> None:
        """Raise `GenerationError` when the engine is closed or belongs to a parent process."""
        self._guard.check(self._name, functools.partial(GenerationError, model=self._name))
        if self._closed:
            raise failures.closed(self._name)

    def stop(self) -> None:
        """Close the engine without waiting: every request fails, and the owner thread frees the model.

        Does nothing in a forked child. The garbage collector may call this from any thread at any time. Waiting for another thread
        could then be a deadlock.
        """
        if self._guard.is_here:
            with self._wake:
                self._closed = True
                self._abort.set()
                self._wake.notify_all()

    def close(self) -> None:
        """Stop every request, free the model and wait for that; idempotent. Does nothing in a forked child."""
        self.stop()
        if self._guard.is_here and threading.current_thread() is not self._thread:
            self._thread.join()

    def _cancel(self, request: Request) -> None:
        with self._wake:
            if request in self._waiting:
                self._waiting.remove(request)
                request.emit(failures.stopped(self._name, request))
            elif all(run.request.stop_error for run in self._runs):  # no request needs the current computation
                self._abort.set()

    # The owner thread only: loading

    def _run_owner(
        self,
        devices: Callable[[], Sequence[Device]],
        loaded: queue.SimpleQueue[LoadedModel | Exception],
        may_work: threading.Event,
    ) -> None:
        if self._settings.priority == "background":
            lower_priority()
        try:
            model = LoadedModel(self._path, self._settings, devices, self._abort)
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits for the load
            loaded.put(error)
            return
        loaded.put(model)
        del loaded
        may_work.wait()
        if not self._is_complete:
            model.free()
            return
        try:
            self._work()
            self._keep_residents()
        finally:
            self._free()
            self._rows.close()

    def _use_context(self, context: Context) -> None:
        """Compute with this context from now on; it is empty."""
        self._context = context
        leaves_early = not self.placement.layers
        self._sequences = Sequences(
            context,
            self._model.states,
            self._settings,
            leaves_early=leaves_early,
            name=self._name,
            speculation=self._model.speculation,
        )
        self._admission, self._shape, self._ahead = Admission(context, self._sequences), [], None

    def _free(self) -> None:
        with self._wake:
            self._closed = True
            abandoned = [*(run.request for run in self._runs), *self._waiting]
            self._runs, self._waiting = [], collections.deque()
        for request in abandoned:
            request.emit(failures.closed(self._name))
        self._model.free()

    def _keep_residents(self) -> None:
        """Save the states of resident sequences to disk before the engine ends, if there is a `cache_dir`."""
        if self._settings.cache_dir is not None and self.is_loaded:
            for sequence in sorted(self._sequences.residents(), key=lambda sequence: -len(sequence.tokens)):
                self._sequences.keep_state(sequence)

    # The owner thread only: scheduling

    def _work(self) -> None:
        while True:
            try:
                if not self._wait():
                    return
                if not self.is_loaded and not self._load_again():
                    continue
                self._drop_stopped()
                self._admit()
                if self._runs:
                    self._step()
            except Exception as error:  # handed to the callers
                logger.exception("%s failed", self._name)
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """Fail all requests that run after an unexpected error, and free the context, whose sequences are in doubt."""
        with self._wake:
            abandoned = [run.request for run in self._runs]
            if self._starting is not None:
                self._waiting = collections.deque(other for other in self._waiting if other is not self._starting)
                abandoned.append(self._starting)
            self._runs, self._drawn, self._ahead, self._starting = [], None, None, None
        self._model.free_context()  # the next request opens a new context
        for request in abandoned:
            request.emit(failures.unexpected(self._name, error))

    def _wait(self) -> bool:
        """Wait for requests: return True when there are some, False when the engine closes. Unload the model after `keep_alive`."""
        idle_since = self._now()
        while True:
            with self._wake:
                while not (self._waiting or self._runs or self._closed):
                    remaining_seconds = None
                    if self._settings.keep_alive is not None and self.is_loaded:
                        remaining_seconds = self._settings.keep_alive - (self._now() - idle_since)
                        if remaining_seconds <= 0:
                            break
                    self._wake.wait(remaining_seconds)
                else:
                    return not self._closed
            self._unload()  # without the lock: other threads may submit while states are saved

    def _unload(self) -> None:
        """Save the states of resident sequences, then free weights and context unless a request has come meanwhile."""
        for sequence in self._sequences.oldest_residents():
            self._sequences.keep_state(sequence)
        with self._wake:
            if self._waiting:
                return
        logger.info("%s is unloaded after %g seconds without a request", self._name, self._settings.keep_alive)
        self._model.free_weights()
        with self._wake:
            self._wake.notify_all()

    def _load_again(self) -> bool:
        """Load the model again; return False on failure. All waiting requests then fail, and the next request tries again."""
        try:
            self._use_context(self._model.load())
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
                self._end(run, failures.stopped(self._name, run.request))
        with self._wake:
            if not self._closed:
                self._abort.clear()

    def _admit(self) -> None:
        """Start waiting requests, oldest first, while there are sequences and cells for them."""
        with self._wake:
            waiting = list(self._waiting)
        if self._admission.is_too_soon(waiting, self._runs):
            return
        for request in waiting:
            self._starting = request
            if len(self._runs) >= self._context.max_runs:
                break
            found = self._admission.find_source(request, has_runs=bool(self._runs))
            if found is NotNow.ALL:
                break
            if found is NotNow.LATER:
                continue
            with self._wake:
                if request not in self._waiting:  # cancelled meanwhile
                    continue
                self._waiting.remove(request)
                self._runs.append(self._sequences.start(request, *found))
                self._starting = None
        self._starting = None

    def _end(self, run: Run, outcome: Completion | Exception) -> None:
        """End a run and hand its outcome to the caller."""
        with self._wake:
            self._runs.remove(run)
        try:
            self._sequences.end(run)
            if not self._runs:
                self._drop_ahead()
        finally:
            run.request.emit(outcome)

    # The owner thread only: computing

    def _step(self) -> None:
        """Compute one batch, in five steps.

        1. Fill the batch: a row for each answer that is being written, then as many tokens of prompts as fit.
        2. Decode it: llama.cpp computes all rows together. On a GPU it returns before they are computed.
        3. Catch up while the GPU computes: score and publish the tokens that were drawn after the previous batch.
        4. Hand out: take the logits of the batch, draw the next token of each answer, and end finished runs. If only answers are
           being written, a GPU begins to compute the next batch as soon as the tokens are drawn; the next step then begins with 3.
        5. If the computation failed, take the batch back instead, and free cells or open a new context.
        """
        computing = self._ahead or self._compute(self._fill_batch())
        self._ahead, parts = None, computing.parts
        self._catch_up()
        self._leave_out_ended(parts)
        if computing.code == 0:
            self._hand_out(parts)
        else:
            self._take_back(parts, computing.code, computing.complaint)

    def _compute(self, parts: Parts) -> Computing:
        is_reading = any(part.run.pending is None for part in parts.others)
        self._context.use_threads(self._threads.now() if is_reading else self._threads.recent())
        code, complaint = self._context.decode()
        for row, sequence in enumerate(parts.sequences):
            if sequence.run is None:  # a pad
                self._context.remove(sequence.id, sequence.computed)
                self._sequences.cells.release(parts.cells[row : row + 1])
        self._shape = [] if parts.others else parts.sequences
        return Computing(parts, code, complaint)

    def _compute_ahead(self, parts: Parts, tokens: list[int]) -> None:
        """Compute the tokens that follow `tokens` before anybody has looked at these, so that a GPU does not wait.

        What is computed after the end of an answer is dropped.
        """
        runs, n_rows = [run for _, run in parts.writing], len(parts.sequences)
        if not self._context.reuses_graphs or parts.others or len(runs) < len(self._runs) or n_rows > 2 * len(runs):
            return
        drawn = [tokens[row] for row, _ in parts.writing]
        if min(drawn) < 0 or all(map(self.vocabulary.is_end, drawn)) or any(run.is_at_last_token for run in runs):
            return
        if self._sequences.n_unreserved() < n_rows - len(runs):
            return
        self._ahead = self._compute(self._fill_rows(parts.sequences, dict(zip(runs, drawn, strict=True))))

    def _leave_out_ended(self, parts: Parts) -> None:
        """Leave out the runs that ended while this batch was computed ahead."""
        if ended := [row for row, run in parts.writing if run.sequence.run is not run]:
            self._sequences.cells.release(parts.cells[ended])
            parts.writing = [(row, run) for row, run in parts.writing if run.sequence.run is run]

    def _drop_ahead(self) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._leave_out_ended(ahead.parts)

    def _fill_batch(self) -> Parts:
        batch = self._context.batch
        writing = [(run, run.pending) for run in self._runs if run.pending is not None]
        plain, others = [], []
        for run, pending in writing:
            if run.request.is_greedy and run.drafts is None:
                plain.append(run)
            else:
                others.append((run, [pending, *self._draft(run, len(writing))]))
        sequences = [run.sequence for run in plain]
        if self._context.reuses_graphs and len(plain) == len(self._runs):
            sequences = keep_shape(self._shape, sequences, self._sequences.n_unreserved())
        parts = self._fill_rows(sequences, {run: run.pending for run in plain if run.pending is not None})
        parts.others += [self._add(run, tokens, 0) for run, tokens in others]
        prefill_limit = 2 * _PREFILL_BESIDE_DECODE if self.placement.layers else _PREFILL_BESIDE_DECODE
        room = min(batch.room, prefill_limit) if writing else batch.room
        for run in self._runs:
            if run.pending is None and room and (part := self._add_prompt(run, room)):
                parts.others.append(part)
                room -= len(part.tokens)
        return parts

    def _fill_rows(self, sequences: list[RunSequence], tokens: Mapping[Run, int]) -> Parts:
        """Fill the batch with a row for each sequence: the token of its run, or a pad."""
        self._context.batch.clear()
        if sequences:
            rows = [(tokens[each.run] if each.run else 0, each.computed, each.id) for each in sequences]
            self._context.batch.add_each(*np.array(rows, np.int32).T)
        return Parts.of(sequences, self._sequences.cells.take(len(sequences)))

    def _draft(self, run: Run, n_writing: int) -> list[int]:
        if run.drafts is None or n_writing > 1:
            return []
        return run.drafts.propose(run.token_ids, run.request.max_tokens - len(run.token_ids) - 1)

    def _add_prompt(self, run: Run, room: int) -> Part | None:
        """Add as many tokens of a prompt as fit; return None if none fit."""
        request, start = run.request, run.sequence.computed
        stop = min(run.end, start + room, *(length for length in run.checkpoints if length > start))
        output = len(request.tokens) - 1 if request.score_from is None else request.score_from - 1
        if request.score_from is not None:
            stop = min(stop, max(output, start) + max(0, MAX_SCORED - self._context.batch.n_outputs))
        return self._add(run, request.tokens[start:stop], max(0, output - start)) if stop > start else None

    def _add(self, run: Run, tokens: NDArray[np.int32] | list[int], first_output: int) -> Part:
        sequence = run.sequence
        outputs_start = self._context.batch.add(tokens, sequence.computed, sequence.id, first_output)
        return Part(run, tokens, first_output, outputs_start, self._sequences.cells.take(len(tokens)))

    def _hand_out(self, parts: Parts) -> None:
        logits, drawn = self._context.logits(), self._context.draws()
        cells = parts.cells.tolist()
        for row, run in parts.writing:
            run.sequence.computed += 1
            run.sequence.new_cells.append(cells[row])
        for part in parts.others:
            self._hand_out_part(part, logits, drawn)
        if parts.writing:
            self._carry_on_all(parts, logits, drawn)
        self._sequences.protect()

    def _hand_out_part(self, part: Part, logits: NDArray[np.float32], drawn: Draws | None) -> None:
        """Take the logits of one part, or the token that the device drew, and end its run if that is finished."""
        run, sequence = part.run, part.run.sequence
        position = sequence.computed
        sequence.computed += len(part.tokens)
        sequence.join_cells()
        sequence.cells = np.concatenate([sequence.cells, part.cells])
        self._sequences.add_checkpoint(run)
        n_outputs = max(0, len(part.tokens) - part.first_output)
        rows = logits[part.outputs_start : part.outputs_start + n_outputs]
        try:
            if run.pending is not None:
                self._carry_on(run, rows, part.tokens)
            elif n_outputs and drawn is not None and sequence.id < self._context.n_drawn:
                if (token := drawn.tokens[part.outputs_start]) < 0:
                    raise failures.no_numbers(self._name)
                if run.take(token, self.vocabulary):
                    run.scores += drawn.score([part.outputs_start])
            elif len(rows):
                run.read_prompt(rows, position + part.first_output)
                if run.request.max_tokens and sequence.computed == run.end:
                    run.write(rows[-1], self.vocabulary)
        except Exception as error:  # noqa: BLE001 - handed to the caller; the others go on
            self._end(run, error)
            return
        if run.finish_reason is not None:
            self._end(run, run.completion())

    def _carry_on_all(self, parts: Parts, logits: NDArray[np.float32], drawn: Draws | None) -> None:
        """Draw the next token of each run that writes from its row of `logits`, unless the device drew it."""
        later, runs, n_rows = self._context.computes_meanwhile, dict(parts.writing), len(parts.sequences)
        if drawn is not None:
            tokens = drawn.tokens[:n_rows]
        elif later:
            tokens, logits = self._rows.draw_and_keep(logits, n_rows)
        else:
            tokens = self._rows.draw(logits, n_rows)
        self._compute_ahead(parts, tokens)
        now, waiting = [], []  # rows to be scored
        for row, run in parts.writing:
            token = tokens[row]
            if token < 0:
                self._end(run, failures.no_numbers(self._name))
                continue
            is_answer = run.take(token, self.vocabulary, may_publish_later=later)
            if later and run.finish_reason is None:
                waiting.append(row)
            elif is_answer:
                now.append(row)
        if drawn is not None:
            scores, scores_later = drawn.score(now) if now else [], lambda: drawn.score(waiting)
        else:
            scores = self._rows.score(logits, now, [tokens[i] for i in now])
            scores_later = self._rows.score_meanwhile(logits, waiting, [tokens[i] for i in waiting])
        for i, score in zip(now, scores, strict=True):
            runs[i].scores.append(score)
        if waiting:
            self._drawn = Drawn([runs[i] for i in waiting], scores_later)
        for _, run in parts.writing:
            if run.finish_reason is not None:
                self._end(run, run.completion())

    def _catch_up(self) -> None:
        """Score and publish the tokens that were drawn before the current computation."""
        drawn, self._drawn = self._drawn, None
        if drawn is None:
            return
        for run, score in zip(drawn.runs, drawn.scores(), strict=True):
            run.scores.append(score)
            if run.sequence.run is run:  # not cancelled meanwhile
                run.publish(self.vocabulary)

    def _carry_on(self, run: Run, logits: NDArray[np.float32], tokens: NDArray[np.int32] | list[int]) -> None:
        """Draw tokens while they equal the drafted tokens, and take the other drafted tokens back."""
        n_kept, is_alone = 0, self._context.batch.n_rows == len(tokens)
        for row in logits:
            n_kept += 1
            drawn = run.write(row, self.vocabulary)
            if run.finish_reason is not None or n_kept == len(tokens) or drawn != tokens[n_kept]:
                break
        if run.drafts is not None:
            run.drafts.learn(drafted=len(tokens) - 1, accepted=n_kept - 1, is_alone=is_alone)
        if n_kept < len(tokens):
            self._sequences.shorten(run.sequence, len(tokens) - n_kept)

    def _take_back(self, parts: Parts, code: int, complaint: str) -> None:
        """Remove the tokens of a failed batch from the context, and recover from the failure."""
        runs = [*(run for _, run in parts.writing), *(part.run for part in parts.others)]
        own = [parts.cells[[row for row, _ in parts.writing]], *(part.cells for part in parts.others)]
        self._sequences.cells.release(np.concatenate(own))
        if code == 1:  # too few cells: nothing was computed
            self._free_cells(complaint, runs)
            return
        if self._context.can_cut:
            for run in runs:
                self._context.remove(run.sequence.id, run.sequence.computed)
        else:  # the states of all sequences may be half computed
            self._sequences.drop_residents()
            runs = list(self._runs)
        if code != 2:  # 2: aborted, because all requests were stopped or the engine closes
            self._fail(code, complaint, runs)

    def _free_cells(self, complaint: str, runs: list[Run]) -> None:
        """Free the cells of resident sequences for a second attempt; if there are none, fail the runs."""
        residents = self._sequences.residents()
        for sequence in residents:
            self._sequences.evict(sequence)
        if not residents:
            self._fail(1, complaint, runs)

    def _fail(self, code: int, complaint: str, runs: list[Run]) -> None:
        """Fail these runs; after an error in the computation, also free the context when it has no other runs."""
        error = f"llama.cpp failed with code {code}: {complaint}"
        logger.error("%s: %s", self._name, error)
        for run in runs:
            self._end(run, GenerationError(error, model=self._name))
        if code < 0 and not self._runs:
            self._model.free_context()  # the next request opens a new context


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


@atexit.register
def _close_engines() -> None:
    """Close all engines when the interpreter exits, while threads still run."""
    for engine in list(_engines):
        engine.close()
