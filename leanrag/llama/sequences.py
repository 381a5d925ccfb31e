"""The sequences of a context: which prompts share computed cells, which stay after their run, and which states are saved.

Only the owner thread of the engine uses them.
"""

from __future__ import annotations

import itertools
import logging

import numpy as np

from leanrag.llama.context import Context
from leanrag.llama.prefix import CellTable, PrefixTree, StateCache
from leanrag.llama.requests import Request
from leanrag.llama.run import Run, Sequence
from leanrag.llama.settings import EngineSettings
from leanrag.llama.speculation import Speculation

__all__ = ["Sequences"]

logger = logging.getLogger(__name__)

_WORTH_WAITING = 32  # tokens: a prompt waits while another run reads at least this many tokens that both share
_WORTH_SHARING = 8  # tokens: a shorter shared beginning is computed again
# Cells: attention to so many is fast, and to more it is worth its time if a quarter of them was used since the engine was idle.
_FEW_CELLS, _USED_PART = 1024, 4


class Sequences:
    """Manages the sequences of one context: active ones belong to a run, resident ones stay for prompts with the same beginning.

    A sequence can be shared up to each of its tokens if the context can cut it. A recurrent model cannot: it shares whole sequences
    only. So a run of such a model leaves checkpoints, which are resident sequences: at the end of its prompt, and where the prompt
    parts from another prompt.

    Args:
        context: The context that computes the sequences.
        states: Stores the states of sequences that leave the context.
        settings: How the model is run.
        leaves_early: Whether resident sequences leave the context even if there is room. On a CPU, attention reads every used
            cell, so they leave. On a GPU that costs little, and copying a state from the GPU costs much, so they stay.
        name: Name of the model, for messages.
        speculation: Drafts tokens of answers; None drafts none.

    Attributes:
        cells: Which cells of the context are in use.
        free_ids: Sequence ids that are not in use.
    """

    def __init__(
        self,
        context: Context,
        states: StateCache,
        settings: EngineSettings,
        *,
        leaves_early: bool,
        name: str,
        speculation: Speculation | None = None,
    ) -> None:
        self._context, self._states, self._settings, self._name = context, states, settings, name
        self._speculation = speculation if context.can_cut else None
        self._leaves_early = leaves_early and bool(settings.cache_bytes)
        self._clock = itertools.count()
        self._tree: PrefixTree[Sequence] = PrefixTree()
        self._runs: list[Run] = []
        self.cells = CellTable(context.n_ctx)
        self.free_ids = set(range(context.n_sequences))
        self._kept_cell = np.empty(0, np.int64)
        self._most_used = 0  # cells, since the engine was idle

    # A request comes

    def find_source(self, request: Request) -> tuple[Sequence | None, int]:
        """Return the sequence to share cells with, and the number of shared tokens, including tokens that it is still reading."""
        shared, sequences = self._tree.match(request.tokens)
        shared = min(shared, request.n_reusable)
        if shared < _WORTH_SHARING:
            return None, 0
        if not self._context.can_cut:
            return self._find_checkpoint(request, shared, sequences)
        source = max(sequences, key=lambda sequence: min(sequence.computed, shared))
        return source, shared if source.is_reading else min(shared, source.computed)

    def is_worth_waiting(self, source: Sequence, shared: int) -> bool:
        """Return whether a request should wait until the source, which another run is reading, has `shared` tokens."""
        missing = max(0, shared - source.computed)
        return source.is_reading and missing >= (_WORTH_WAITING if self._context.can_cut else 1)

    def _find_checkpoint(self, request: Request, shared: int, sequences: list[Sequence]) -> tuple[Sequence | None, int]:
        """Find the source of a request whose first `shared` tokens `sequences` share, if only whole sequences can be shared."""
        length, source = max(
            ((n, sequence) for n, sequence in self._tree.beginnings(request.tokens[:shared]) if sequence.run is None),
            default=(0, None),
            key=lambda found: found[0],
        )
        readers = [sequence for sequence in sequences if sequence.is_reading and sequence.computed <= shared]
        if shared - length < _WORTH_WAITING or not readers:
            return source, length
        reader = max(readers, key=lambda sequence: sequence.computed)
        if reader.run is not None and reader.computed < shared:
            reader.run.checkpoints.add(shared)
        return reader, shared

    def make_room(self, request: Request, source: Sequence | None, shared: int) -> bool:
        """Free a sequence and enough cells for the request; return False if active runs may need too many cells."""
        needed = request.n_cells - (min(shared, source.computed) if source else 0)

        def has_room() -> bool:
            return self._free_id(request) is not None and self.n_unreserved() >= needed

        for sequence in self.oldest_residents():
            if sequence is not source and (not has_room() or self._leaves_early):
                self.evict(sequence)
        if not has_room():
            self._drop_cell()
        return has_room()

    def start(self, request: Request, source: Sequence | None, shared: int) -> Run:
        """Start a run on a new sequence, which takes the computed beginning of its prompt from the source or from a saved state."""
        sequence_id = self._free_id(request)
        assert sequence_id is not None
        self.free_ids.remove(sequence_id)
        sequence = Sequence(sequence_id, request.tokens, 0, np.empty(0, np.int64), None, next(self._clock))
        if source is not None:
            source.last_used = next(self._clock)
            shared = min(shared, source.computed)
            self._context.copy(source.id, sequence.id)
            if self._context.keep(sequence.id, shared):
                source.join_cells()
                sequence.cells, sequence.computed = source.cells[:shared], shared
                self.cells.share(sequence.cells)
            if source.run is None and not self._runs and self._leaves_early:
                self.evict(source)  # else the cells of the prompt would follow its cells, and be rounded differently
        self._restore(request, sequence)
        drafts = self._speculation.start(request.tokens) if self._speculation and self._can_draft(request) else None
        sequence.run = run = Run(request, sequence, sequence.computed, drafts)
        if not self._context.can_cut:
            run.checkpoints = self._plan_checkpoints(request, sequence.computed)
        self._tree.add(sequence.tokens, sequence)
        self._runs.append(run)
        return run

    def _can_draft(self, request: Request) -> bool:
        return self._speculation is not None and request.max_tokens > 1

    def _free_id(self, request: Request) -> int | None:
        """Return a free sequence for the request: its tokens are drawn on the device if nothing needs their logits on the host."""
        n_drawn = self._context.n_drawn
        is_drawn = request.is_greedy and request.score_from is None and not self._can_draft(request)
        return min((i for i in self.free_ids if (i < n_drawn) == (is_drawn and n_drawn > 0)), default=None)

    def _restore(self, request: Request, sequence: Sequence) -> None:
        """Restore a saved state if it has clearly more tokens of the prompt than the sequence."""
        if self._context.can_cut:
            shared, name = self._states.match(request.tokens)
            shared = min(shared, request.n_reusable)
        else:
            shared, name = self._states.longest_beginning(request.tokens[: request.n_reusable])
        if name is None or shared < sequence.computed + self._context.worth_keeping:
            return
        state = self._states.get(name)
        # A restored state needs new cells: it cannot share those of another sequence.
        if state is None or len(state[0]) > self.cells.free or request.n_cells > self.n_unreserved():
            return
        self._context.remove(sequence.id)
        self.cells.release(sequence.cells)
        sequence.cells, sequence.computed = np.empty(0, np.int64), 0
        if not self._context.write_state(sequence.id, state[1], len(state[0])):
            logger.warning("llama.cpp refused a saved state of %s; the prompt is read again", self._name)
        elif self._context.keep(sequence.id, shared):
            sequence.cells, sequence.computed = self.cells.take(shared), shared
            return
        self._context.remove(sequence.id)

    def _plan_checkpoints(self, request: Request, computed: int) -> set[int]:
        """Return the lengths of the beginnings of a prompt whose states are worth keeping, apart from its `computed` tokens."""
        known = max(self._tree.match(request.tokens)[0], self._states.match(request.tokens)[0])
        lengths = {min(known, request.n_reusable), request.n_reusable}
        return {length for length in lengths if length - computed >= _WORTH_WAITING}

    def n_unread(self) -> int:
        """Return the number of tokens of prompts that active runs have not read yet."""
        return sum(run.end - run.sequence.computed for run in self._runs if run.sequence.is_reading)

    def n_unreserved(self) -> int:
        """Return the number of free cells that no active run may still need."""
        return self.cells.free - sum(run.request.n_cells - run.sequence.computed for run in self._runs)

    # A request goes on

    def add_checkpoint(self, run: Run) -> None:
        """Keep the tokens that a run has read as a resident sequence, if one of its checkpoints is here."""
        sequence = run.sequence
        if sequence.computed not in run.checkpoints:
            return
        run.checkpoints.remove(sequence.computed)
        if not self.free_ids:
            for oldest in self.oldest_residents()[:1]:
                self.evict(oldest)
        if self.free_ids:
            tokens = sequence.tokens[: sequence.computed]
            checkpoint = Sequence(
                self.free_ids.pop(), tokens, sequence.computed, sequence.cells.copy(), None, next(self._clock)
            )
            self._context.copy(sequence.id, checkpoint.id)
            self.cells.share(checkpoint.cells)
            self._tree.add(tokens, checkpoint)
            self._trim_residents()

    def protect(self) -> None:
        """Keep the keys of all runs that a sliding window will pass; call it after each computation."""
        if self._context.has_window:
            for run in self._runs:
                self._context.protect(run.sequence.id, run.sequence.computed)

    def shorten(self, sequence: Sequence, n: int) -> None:
        """Remove the last `n` tokens of an active sequence."""
        sequence.computed -= n
        self._context.remove(sequence.id, sequence.computed)
        self.cells.release(sequence.cells[sequence.computed :])
        sequence.cells = sequence.cells[: sequence.computed]

    # A request ends

    def end(self, run: Run) -> None:
        """End a run: its prompt stays as a resident sequence if no other sequence has nearly the same tokens."""
        self._runs.remove(run)
        sequence = run.sequence
        sequence.join_cells()
        if self._context.reuses_graphs:
            self._keep_last_cell(sequence)
        sequence.run, sequence.last_used = None, next(self._clock)
        length = min(sequence.computed, len(run.request.tokens))
        self._tree.remove(sequence.tokens, sequence)
        others, _ = self._tree.match(sequence.tokens[:length])
        is_known = length - others < _WORTH_WAITING or not self._context.can_cut  # which has checkpoints instead
        if is_known or not self._context.keep(sequence.id, length):
            self._drop(sequence)
            return
        self._context.protect(sequence.id, length)
        self.cells.release(sequence.cells[length:])
        sequence.tokens, sequence.cells, sequence.computed = sequence.tokens[:length], sequence.cells[:length], length
        self._tree.add(sequence.tokens, sequence)
        self._trim_residents()

    def residents(self) -> list[Sequence]:
        """Return the resident sequences: those without a run."""
        _, sequences = self._tree.match(np.empty(0, np.int32))
        return [sequence for sequence in sequences if sequence.run is None]

    def oldest_residents(self) -> list[Sequence]:
        """Return the resident sequences, the least recently used first."""
        return sorted(self.residents(), key=lambda sequence: sequence.last_used)

    def evict(self, sequence: Sequence) -> None:
        """Save the state of a resident sequence and free its cells."""
        self.keep_state(sequence)
        self._tree.remove(sequence.tokens, sequence)
        self._drop(sequence)

    def drop_residents(self) -> None:
        """Drop all resident sequences without saving their states."""
        for sequence in self.residents():
            self._tree.remove(sequence.tokens, sequence)
            self._drop(sequence)

    def keep_state(self, sequence: Sequence) -> None:
        """Save the state of a sequence, unless a saved state has nearly the same tokens or the sequence is short."""
        find = self._states.match if self._context.can_cut else self._states.longest_beginning
        known, _ = find(sequence.tokens)
        if not self._settings.cache_bytes or len(sequence.tokens) - known < self._context.worth_keeping:
            return
        state = self._context.read_state(sequence.id, len(sequence.tokens))
        if state.size:
            self._states.put(sequence.tokens, state.data)

    def _keep_last_cell(self, sequence: Sequence) -> None:
        """Keep the last used cell in use if it is one of this sequence, which ends.

        Attention reads all cells up to the last used one, in steps of 256. If they become fewer, and then more again, each time is
        another graph. An engine that becomes idle gives it up if it used few cells meanwhile.
        """
        last = self.cells.used_length - 1
        self._most_used = max(self._most_used, self.cells.n_cells - self.cells.free)
        if sequence.cells.size and last not in self._kept_cell and sequence.cells.max() == last:
            position = int(sequence.cells.argmax())
            self._context.keep_cell(sequence.id, position)
            self.cells.share(sequence.cells[position : position + 1])
            self.cells.release(self._kept_cell)
            self._kept_cell = sequence.cells[position : position + 1].copy()
        if not self._runs:
            if self._kept_cell.size and self._kept_cell[0] >= max(_FEW_CELLS, _USED_PART * self._most_used):
                self._drop_cell()
            self._most_used = 0

    def _drop_cell(self) -> None:
        if self._kept_cell.size:
            self._context.drop_cell()
            self.cells.release(self._kept_cell)
            self._kept_cell = np.empty(0, np.int64)

    def _trim_residents(self) -> None:
        residents = self.oldest_residents()[::-1]
        limit = self._context.resident_cells
        while len(residents) > 1 and sum(len(r.cells) for r in residents) > limit:
            if np.unique(np.concatenate([r.cells for r in residents])).size <= limit:  # they share cells
                break
            self.evict(residents.pop())

    def _drop(self, sequence: Sequence) -> None:
        self._context.remove(sequence.id)
        self.cells.release(sequence.cells)
        sequence.cells, sequence.computed = np.empty(0, np.int64), 0
        self.free_ids.add(sequence.id)
