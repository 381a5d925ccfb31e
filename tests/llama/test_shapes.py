"""On a GPU, batches keep their shape while answers end, and requests start together: nobody can tell from the answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import LlamaCppModel
from leanrag.llama import admission, sequences
from leanrag.llama.library import library
from leanrag.llama.options import LlamaOptions
from leanrag.llama.parts import keep_shape
from leanrag.llama.run import Sequence
from tests.plain import Alike, consistent

CONTEXT = "the quick brown fox jumps over the lazy dog "


@pytest.fixture(scope="module")
def model(tiny_gguf):
    """A model that works as on a GPU."""
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6) as model:
        context = model._engine._context
        context.reuses_graphs = context.computes_meanwhile = True
        yield model


def note_steps(engine, steps):
    """Return a `_compute` that notes the rows of one token, those of runs, and the other parts of each batch."""
    compute = type(engine)._compute

    def note(parts):
        steps.append((len(parts.sequences), len(parts.writing), len(parts.others)))
        return compute(engine, parts)

    return note


STOPS = st.sampled_from([(), ("e",), ("W", "|"), ("a",)])  # which end some answers while the next token is computed


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20), STOPS), min_size=1, max_size=12))
def test_answers_of_any_length_are_those_of_a_plain_model(model, tiny, requests):
    prompts = [
        (CONTEXT[:start] + chr(97 + i) + " and", LlamaOptions(max_tokens=n, stop=stop))
        for i, (start, n, stop) in enumerate(requests)
    ]
    streams = [model.stream(prompt, options) for prompt, options in prompts]
    together = [stream.result for stream in streams]
    assert consistent(model._engine)
    alone = [tiny.stream(prompt, options).result for prompt, options in prompts]
    assert list(map(Alike, together)) == list(map(Alike, alone))


def test_a_batch_keeps_its_rows_while_most_answers_go_on(tiny_gguf, monkeypatch):
    steps = []
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6) as model:
        engine = model._engine
        engine._context.reuses_graphs = engine._context.computes_meanwhile = True
        monkeypatch.setattr(engine, "_compute", note_steps(engine, steps))
        with engine._wake:  # so that all start in one step
            streams = [
                model.stream(letter * 9, LlamaOptions(max_tokens=n))
                for letter, n in zip("abcd", (4, 8, 8, 12), strict=True)
            ]
        generations = [stream.result for stream in streams]
    assert [each.usage.completion_tokens for each in generations] == [4, 8, 8, 12]
    # All four are read; then 3, 4 and 4 batches of one token each: with a pad once one has ended, without pads for the last one.
    assert steps == [(0, 0, 4), *[(4, 4, 0)] * 3, *[(4, 3, 0)] * 4, *[(1, 1, 0)] * 4]


@given(st.lists(st.booleans(), max_size=9), st.integers(0, 9))
def test_pads_are_fewer_than_the_rows_of_runs_and_fit(has_runs, n_free):
    last = [
        Sequence(i, np.empty(0, np.int32), 0, np.empty(0, np.int64), run or None, 0) for i, run in enumerate(has_runs)
    ]
    writing = [sequence for sequence in last if sequence.run]
    n_pads = len(last) - len(writing)
    rows = keep_shape(last, writing, n_free)
    assert rows == (last if n_pads <= min(len(writing), n_free) else writing)


def test_rows_of_other_sequences_are_another_shape():
    first, second, third = (Sequence(i, np.empty(0), 0, np.empty(0), object(), 0) for i in range(3))
    assert keep_shape([first, second], [third], 9) == [third]
    assert keep_shape([], [third], 9) == [third]


def test_the_last_used_cell_stays_in_use(model):
    engine, lib = model._engine, library()
    model.generate_many([letter * 30 for letter in "abcdef"], max_tokens=8)
    kept = engine._sequences._kept_cell
    assert kept.tolist() == [engine._sequences.cells.used_length - 1]
    spare = engine._context.n_sequences
    assert lib.llama_memory_seq_pos_min(engine._context.memory, spare) >= 0
    model.generate("z" * 200, max_tokens=engine.n_ctx - model.count("z" * 200))  # needs each cell
    assert engine._sequences._kept_cell.tolist() == [engine.n_ctx - 1]
    assert consistent(engine)


@pytest.mark.parametrize(("seconds", "longest", "waits"), [(1e9, 1e9, True), (0, 1e9, False), (1e9, 0, False)])
def test_requests_wait_for_each_other_while_answers_are_written(tiny_gguf, tiny, monkeypatch, seconds, longest, waits):
    """Three answers are being written when another request comes: it waits, if reading it costs much."""
    monkeypatch.setattr(admission, "_READING_SECONDS", seconds)
    monkeypatch.setattr(admission, "_LONGEST_SECONDS", longest)
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6) as model:
        engine = model._engine
        engine._context.reuses_graphs = True
        late, numbers = [], []
        compute = engine._compute

        def note(parts):
            if not late and not parts.others:
                late.append(model.stream("late", LlamaOptions(max_tokens=2)))
            numbers.append(len(parts.others))
            return compute(parts)

        monkeypatch.setattr(engine, "_compute", note)
        with engine._wake:
            streams = [model.stream(letter * 9, LlamaOptions(max_tokens=9)) for letter in "abc"]
        for stream in streams:
            assert stream.result.usage.completion_tokens == 9
        assert Alike(late[0].result) == Alike(tiny.generate("late", max_tokens=2))
    started = next(i for i, n in enumerate(numbers[1:]) if n)  # when the late one was read
    assert numbers[0] == 3
    assert (started >= 8) == waits


def test_the_last_cell_is_given_up_when_few_cells_were_used_since_the_engine_was_idle(tiny_gguf, monkeypatch):
    monkeypatch.setattr(sequences, "_FEW_CELLS", 32)
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6, cache_bytes=0) as model:
        engine = model._engine
        engine._context.reuses_graphs = engine._context.computes_meanwhile = True
        lengths = []
        for n_requests in (6, 6, 1, 1):
            with engine._wake:  # so that all start in one step
                streams = [model.stream(letter * 20, LlamaOptions(max_tokens=12)) for letter in "abcdef"[:n_requests]]
            for stream in streams:
                assert stream.result.usage.completion_tokens == 12
            lengths.append(len(engine._sequences._kept_cell) and int(engine._sequences._kept_cell[0]) + 1)
        assert consistent(engine)
    assert 6 * 31 < lengths[0] <= lengths[1] <= lengths[0] + 1
    assert lengths[2:] == [0, lengths[3]]
    assert lengths[3] <= 128
