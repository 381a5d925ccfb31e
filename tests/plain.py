"""A plain loop over the C functions, to compare the engine with, what it is to be the same, and whether cells add up."""

import contextlib
import functools
import itertools
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from leanrag import Generation
from leanrag.llama.context import Context
from leanrag.llama.library import library
from leanrag.llama.placement.layers import gpu_devices

_TIE = 0.05  # natural logarithm: on a GPU tokens so near in probability may change places


@functools.cache
def rounds_coarsely() -> bool:
    """Whether models compute on a GPU here: its kernels round by what else is computed, 8-bit activations among it."""
    return bool(gpu_devices())


def consistent(engine):
    """Whether cells and sequences add up while nothing runs."""
    residents = engine._sequences.residents()
    used = {int(cell) for sequence in residents for cell in sequence.cells} | set(engine._sequences._kept_cell.tolist())
    assert engine._sequences.cells.free == engine.n_ctx - len(used)
    assert len(engine._sequences.free_ids) + len(residents) == engine._context.n_sequences
    for sequence in residents:
        assert len(sequence.tokens) == sequence.computed == len(sequence.cells)
        assert library().llama_memory_seq_pos_max(engine._context.memory, sequence.id) == sequence.computed - 1
    return True


class Alike:
    """A generation that equals another of the same tokens; where a GPU computes, also one that parts from it at a tie.

    What is drawn at random there is another draw, as soon as the probabilities moved at all.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation

    def __repr__(self) -> str:
        return repr(self._generation)

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Alike)
        ours, theirs = self._generation, other._generation
        pairs = zip(ours.token_ids, theirs.token_ids, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if at is None:
            return (ours.text, ours.token_ids, ours.finish_reason) == (
                theirs.text,
                theirs.token_ids,
                theirs.finish_reason,
            )
        return rounds_coarsely() and (ours.seed is not None or min(ours.margins[at], theirs.margins[at]) < _TIE)


def within(tolerance: float) -> float:
    """Return how far log-probabilities may be apart: `tolerance` on a CPU."""
    return max(tolerance, _TIE) if rounds_coarsely() else tolerance


def plain_logits(model, tokens):
    """Logits `(n, n_vocab)` after each of `tokens`, computed in a context of their own."""
    lib = library()
    parameters = lib.llama_context_default_params()
    parameters.n_ctx = 256
    parameters.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = lib.llama_init_from_model(model._engine._model.weights.model, parameters)
    batch = lib.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, i, 1, 1
        batch.seq_id[i][0] = 0
    assert lib.llama_decode(context, batch) == 0
    shape = (len(tokens), model._engine.vocabulary.n_tokens)
    logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(context, 0), shape).copy()
    lib.llama_batch_free(batch)
    lib.llama_free(context)
    return logits


@contextlib.contextmanager
def decoding_waits(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Let the models of this process compute `after` batches; the next one waits for the end of the block."""
    decode, steps, has_ended = Context.decode, itertools.count(), threading.Event()

    def decode_or_wait(context: Context) -> tuple[int, str]:
        if next(steps) == after:
            assert has_ended.wait(60)
        return decode(context)

    monkeypatch.setattr(Context, "decode", decode_or_wait)
    try:
        yield
    finally:
        has_ended.set()
