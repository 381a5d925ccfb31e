"""Tokens that llama.cpp's graph draws are those that the host would draw, with the same scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import GenerationError, LlamaCppModel
from leanrag.llama import context as contexts
from leanrag.llama import device_draws
from leanrag.llama.context import Context
from leanrag.llama.device_draws import DeviceDraws, Draws, count_chunks
from leanrag.llama.options import LlamaOptions
from leanrag.llama.sampling import score_tokens
from tests.plain import Alike, within

PROMPTS = [f"{letter} number {i}" for i, letter in enumerate("abcdefgh")]


def as_chunks(logits, n_chunks):
    """What a device tells of rows of logits, computed by NumPy."""
    chunks = logits.reshape(len(logits), n_chunks, -1)
    indices = chunks.argmax(axis=2).astype(np.int32)
    tops = chunks.max(axis=2)
    below = chunks - tops[..., None]
    others = below.copy()
    np.put_along_axis(others, indices[..., None], -1e30, axis=2)
    moments = (np.exp(below) * below).sum(axis=2)
    return np.stack([tops, np.exp(below).sum(axis=2), moments, others.max(axis=2)], axis=2), indices


@given(st.integers(1, 4), st.sampled_from([1, 2, 8]), st.integers(0, 2**32 - 1), st.booleans())
def test_chunks_give_the_token_and_score_of_the_row(n_rows, n_chunks, seed, has_equals):
    logits = (9 * np.random.default_rng(seed).standard_normal((n_rows, 64))).astype(np.float32)
    if has_equals:
        logits = np.round(logits)
    drawn = Draws(*as_chunks(logits, n_chunks), 64)
    assert drawn.tokens == logits.argmax(axis=1).tolist()
    expected = score_tokens(logits, drawn.tokens)[::-1]
    assert np.array(drawn.score(range(n_rows)[::-1])) == pytest.approx(np.array(expected), abs=1e-4)


def test_logits_that_are_not_numbers_give_no_token():
    logits = np.arange(24, dtype=np.float32).reshape(3, 8)
    logits[1, 3] = np.nan
    with np.errstate(invalid="ignore"):
        drawn = Draws(*as_chunks(logits, 2), 8)
    assert drawn.tokens == [7, -1, 7]
    assert np.array(drawn.score([0, 2])) == pytest.approx(np.array(score_tokens(logits[[0, 2]], [7, 7])))


@given(st.integers(1, 300_000), st.integers(1, 300))
def test_chunks_are_equally_long_and_their_numbers_fit(n_vocab, n_rows):
    n = count_chunks(n_vocab, n_rows)
    assert n_vocab % n == 0
    assert n & (n - 1) == 0
    assert n == 1 or 4 * n * n_rows <= n_vocab
    assert n <= 128


@pytest.mark.parametrize(
    ("n_vocab", "n_rows", "expected"), [(49_152, 1, 128), (49_152, 128, 8), (50_257, 8, 1), (8, 1, 2)]
)
def test_count_chunks(n_vocab, n_rows, expected):
    assert count_chunks(n_vocab, n_rows) == expected


@pytest.fixture
def drawing(tiny_gguf, monkeypatch):
    """A model whose greedy tokens are drawn by the graph, as on a GPU; at most two requests at once have logits on the host."""

    def count_undrawn(weights, placement, settings, max_outputs):
        return 2

    monkeypatch.setattr(contexts, "_count_undrawn", count_undrawn)
    monkeypatch.setattr(
        contexts, "MAX_SCORED", 2
    )  # so that the numbers of all rows fit into a row of a tiny vocabulary
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6, trial=False) as model:
        yield model


def test_the_graph_draws_what_the_host_draws(drawing, monkeypatch):
    context = drawing._engine._context
    draws, n_drawn = context.draws, 0

    def checked():
        nonlocal n_drawn
        drawn = draws()
        rows = [i for i, sequence in enumerate(context.batch.drawn) if sequence >= 0]
        if (
            drawn is not None and len(rows) < context.batch.n_outputs
        ):  # another row has logits on the host, so all rows have
            logits = context.logits()[rows]
            tokens = [drawn.tokens[i] for i in rows]
            assert tokens == logits.argmax(axis=1).tolist()
            assert np.array(drawn.score(rows)) == pytest.approx(np.array(score_tokens(logits, tokens)), abs=1e-4)
            n_drawn += len(rows)
        return drawn

    monkeypatch.setattr(context, "draws", checked)
    streams = [drawing.stream(PROMPTS[0], LlamaOptions(30, grammar="root ::= [a-z]{30}"))]
    streams += [drawing.stream(prompt, LlamaOptions(20)) for prompt in PROMPTS]
    assert [len(stream.result.token_ids) for stream in streams] == [30] + [20] * len(PROMPTS)
    assert n_drawn >= 20


@pytest.mark.parametrize("at_once", [1, len(PROMPTS)])
def test_answers_are_those_of_the_host(drawing, tiny, at_once):
    options = [{}, {"stop": ["a"]}, {"temperature": 1.0, "seed": 3}, {"grammar": 'root ::= "yes" [a-z]+'}, {}, {}]
    chosen = [LlamaOptions(1 + 3 * i, **options[i % len(options)]) for i in range(len(PROMPTS))]
    for start in range(0, len(PROMPTS), at_once):
        indices = range(start, start + at_once)
        streams = [drawing.stream(PROMPTS[i], chosen[i]) for i in indices]
        for i, stream in zip(indices, streams, strict=True):
            generation, expected = stream.result, tiny.stream(PROMPTS[i], chosen[i]).result
            assert Alike(generation) == Alike(expected)
            if generation.token_ids == expected.token_ids:
                assert generation.logprobs == pytest.approx(expected.logprobs, abs=within(1e-3))
                assert generation.margins == pytest.approx(expected.margins, abs=within(1e-3))
                assert generation.entropies == pytest.approx(expected.entropies, abs=within(1e-3))


def test_samplers_that_are_seldom_needed_are_detached(drawing, tiny, monkeypatch):
    monkeypatch.setattr(device_draws, "_FIRST_SAMPLERS", 2)
    monkeypatch.setattr(device_draws, "_SELDOM", 3)
    draws, attached = drawing._engine._context._draws, []
    draws._attach(0)
    for prompts in (PROMPTS[:6], PROMPTS[:1], PROMPTS[1:2], PROMPTS[2:]):
        generations = drawing.generate_many(prompts, max_tokens=12)
        expected = [tiny.generate(prompt, max_tokens=12) for prompt in prompts]
        assert list(map(Alike, generations)) == list(map(Alike, expected))
        attached.append(len(draws._chains))
    assert attached[0] >= 6
    assert attached[2] == 2
    assert attached[3] >= 6


@pytest.mark.parametrize("fails_by", ["result", "code"])
def test_the_host_draws_if_the_device_cannot(tiny_gguf, tiny, monkeypatch, caplog, fails_by):
    if fails_by == "code":
        decode = Context.decode
        monkeypatch.setattr(Context, "decode", lambda context: (-3, "") if context.n_drawn else decode(context))
    else:  # no output, as of a model whose logits have another name
        monkeypatch.setattr(DeviceDraws, "_read_chunks", lambda *args: (None, None))
    monkeypatch.setattr(contexts, "_count_undrawn", lambda *args: 2)
    with LlamaCppModel(tiny_gguf, threads=1, parallel=6, trial=False) as model:
        assert "the host draws them" in caplog.text
        assert model._engine._context.n_drawn == 0
        generations = model.generate_many(PROMPTS, max_tokens=5)
        assert [Alike(generation) for generation in generations] == [
            Alike(tiny.generate(prompt, max_tokens=5)) for prompt in PROMPTS
        ]


def test_a_request_without_numbers_leaves_the_others_alone(drawing, tiny, monkeypatch):
    n_steps, draws = 0, drawing._engine._context.draws

    def broken_once():
        nonlocal n_steps
        drawn = draws()
        n_steps += drawn is not None
        if drawn is not None and n_steps == 3:
            drawn.tokens[1] = -1
        return drawn

    monkeypatch.setattr(drawing._engine._context, "draws", broken_once)
    streams = [drawing.stream(prompt, LlamaOptions(20)) for prompt in PROMPTS]
    failed = 0
    for prompt, stream in zip(PROMPTS, streams, strict=True):
        try:
            assert Alike(stream.result) == Alike(tiny.generate(prompt, max_tokens=20))
        except GenerationError as error:
            assert "not numbers" in str(error)
            failed += 1
    assert failed == 1


def test_scores_of_a_text_need_logits_on_the_host(drawing, tiny):
    pairs = [("abc", " def"), (None, "xyz")]
    ours, theirs = drawing.score_many(pairs), tiny.score_many(pairs)
    for score, expected in zip(ours, theirs, strict=True):
        assert score.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


@pytest.mark.parametrize(("n", "n_logits"), [(1, 1), (3, 3), (4, 0), (6, 0)])
def test_logits_are_copied_only_of_few_rows(drawing, tiny, n, n_logits):
    context = drawing._engine._context
    generations = drawing.generate_many(["abc"] * n, max_tokens=3)
    assert {generation.token_ids for generation in generations} == {tiny.generate("abc", max_tokens=3).token_ids}
    context.batch.clear()
    context.batch.add_each(np.arange(5, 5 + n, dtype=np.int32), np.zeros(n, np.int32), np.arange(n, dtype=np.int32))
    assert context.decode() == (0, "llama.cpp reported no reason")
    assert context.batch.drawn == list(range(n))
    assert len(context.logits()) == n_logits
    assert (context.draws() is None) == bool(n_logits)


def test_more_requests_than_sequences_with_logits_wait(drawing):
    streams = [drawing.stream("abc", LlamaOptions(5, temperature=1.0, seed=i)) for i in range(6)]
    alone = [Alike(drawing.generate("abc", max_tokens=5, temperature=1.0, seed=i)) for i in range(6)]
    assert [Alike(stream.result) for stream in streams] == alone
