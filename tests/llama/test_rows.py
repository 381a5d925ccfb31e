"""Greedy draws of many requests at once are those of each alone, and nothing is lost where they are handed out later."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import GenerationCancelled, LlamaCppModel, Message
from leanrag.llama.context import MAX_PARALLEL
from leanrag.llama.library import library
from leanrag.llama.options import LlamaOptions
from leanrag.llama.rows import Rows
from leanrag.llama.sampling import Sampler, SamplingOptions, score_token
from leanrag.protocols import GenerateOptions
from tests.plain import Alike, decoding_waits, within

PROMPTS = [f"{letter} number {i}" for i, letter in enumerate("abcdefghijkl")]


@pytest.mark.slow
@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_rows_are_what_each_is_alone(n, threads, seed):
    n_vocab = 2**18  # enough for several threads
    logits = np.random.default_rng(seed).integers(-9, 9, (n, n_vocab)).astype(np.float32)  # with equals among the best
    rows = Rows(n_vocab, n, threads)
    tokens = rows.draw(logits, n)
    greedy = Sampler(SamplingOptions())
    assert tokens == [greedy(row) for row in logits]
    again, kept = rows.draw_and_keep(logits, n)
    assert (again, np.array_equal(kept, logits), np.shares_memory(kept, logits)) == (tokens, True, False)
    expected = [score_token(row, token) for row, token in zip(logits, tokens, strict=True)]
    assert rows.score(logits, range(n)[::-1], tokens[::-1]) == expected[::-1]
    assert rows.score_meanwhile(kept, range(n), tokens)() == expected
    every_other = range(n)[::2]
    assert rows.score_meanwhile(kept, every_other, tokens[::2])() == expected[::2]
    rows.close()


def test_a_few_rows_and_none():
    rows = Rows(3, 2, 1)
    logits = np.array([[0, 2, 1], [5, 5, 0]], np.float32)
    assert (rows.draw(logits, 2), rows.draw(logits, 0), rows.score(logits, [], [])) == ([1, 0], [], [])
    rows.close()


@pytest.fixture
def later(tiny_gguf):
    """A model that hands out what it drew while the next batch is computed, as on a GPU."""
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6) as model:
        model._engine._context.computes_meanwhile = True
        yield model


def test_what_is_handed_out_later_is_the_same(later, tiny):
    options = [{}, {"stop": ["a"]}, {"temperature": 1.0, "seed": 3}, {"grammar": 'root ::= "yes" [a-z]+'}]
    streams = [
        later.stream(prompt, LlamaOptions(1 + 3 * i, **options[i % len(options)])) for i, prompt in enumerate(PROMPTS)
    ]
    for i, stream in enumerate(streams):
        generation = stream.result
        expected = tiny.generate(PROMPTS[i], max_tokens=1 + 3 * i, **options[i % len(options)])
        assert Alike(generation) == Alike(expected)
        if generation.token_ids != expected.token_ids:
            continue
        assert generation.logprobs == pytest.approx(expected.logprobs, abs=within(1e-3))
        assert generation.margins == pytest.approx(expected.margins, abs=within(1e-3))
        assert generation.entropies == pytest.approx(expected.entropies, abs=within(1e-3))


def test_a_stream_gets_all_pieces_in_order(later, tiny):
    expected = tiny.generate([Message("user", "hello")], max_tokens=30)
    stream = later.stream([Message("user", "hello")], GenerateOptions(30))
    assert "".join(stream) == expected.text
    assert stream.result.token_ids == expected.token_ids


def test_who_leaves_loses_nothing_of_the_others(later, tiny, monkeypatch):
    expected = tiny.generate("kept", max_tokens=40)
    with decoding_waits(monkeypatch, after=30):
        left, kept = later.stream("left", GenerateOptions(200)), later.stream("kept", GenerateOptions(40))
        next(iter(left))
    assert Alike(kept.result) == Alike(expected)
    assert len(kept.result.logprobs) == len(expected.logprobs)
    with pytest.raises(GenerationCancelled):
        _ = left.result


def test_a_computation_that_fails_leaves_nothing_behind(later, tiny, monkeypatch):
    lib, decode, n = library(), library().llama_decode, iter(range(100))
    monkeypatch.setattr(lib, "llama_decode", lambda *args: -3 if next(n) == 4 else decode(*args))
    with pytest.raises(Exception, match="failed with code -3"):
        later.generate("abc", max_tokens=20)
    later._engine._context.computes_meanwhile = True
    assert later.generate("abc", max_tokens=20).token_ids == tiny.generate("abc", max_tokens=20).token_ids


def test_no_more_at_once_than_llama_cpp_tells_apart(tiny_gguf):
    assert library().llama_max_parallel_sequences() - 16 == MAX_PARALLEL
    with LlamaCppModel(tiny_gguf, threads=1, parallel=MAX_PARALLEL, max_queue=300) as model:
        assert len(model.generate_many(["abc"] * 250, max_tokens=1)) == 250
    with pytest.raises(ValueError, match="`parallel` must be from 1 to 240"):
        LlamaCppModel(tiny_gguf, parallel=MAX_PARALLEL + 1)
