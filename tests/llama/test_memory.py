"""Models whose memory is not a plain key-value cache: sliding windows, recurrent and hybrid models."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.models.architectures import WAYS, agrees, make_prompts, read_fresh
from benchmarks.models.tiny import ARCHITECTURES, N_CTX, WINDOW, write_model
from leanrag import CancelToken, GenerationCancelled, GenerationError, LlamaCppModel
from leanrag.llama import ComputeOptions, GpuOptions
from leanrag.llama.files import check_gguf
from leanrag.llama.library import library
from leanrag.models import resolve
from leanrag.protocols import GenerateOptions
from tests.examples import max_examples
from tests.plain import consistent, decoding_waits

WINDOWED = ("gpt-oss", "gemma2", "llama4")
WHOLE_ONLY = ("lfm2", "lfm2 windowed", "falcon-h1", "mamba", "rwkv7")
DOCUMENT = "Blue paint is kept in hall 4. Red paint is kept in the warehouse, and green paint nowhere at all. "
N_TOKENS = 12


def open_model(path, **options):
    """Open a model on the CPU, where equal sums are rounded alike."""
    return LlamaCppModel(path, threads=1, gpu=GpuOptions(0), trial=False, **options)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory):
    """Return a function from the name of an architecture to its tiny model."""
    folder = tmp_path_factory.mktemp("architectures")
    return functools.cache(lambda name: write_model(folder / f"{name}.gguf", name))


@pytest.fixture(scope="session")
def fresh():
    """Return a function from a file and a prompt to what a fresh context writes."""
    return functools.cache(functools.partial(read_fresh, max_tokens=N_TOKENS))


@pytest.fixture(scope="module", params=[*WINDOWED, *WHOLE_ONLY])
def crowded(request, tiny_file):
    """A model whose window has room for few prompts, and whose cache has room for few states."""
    with open_model(
        tiny_file(request.param),
        n_ctx=512,
        parallel=3,
        compute=ComputeOptions(n_batch=64, speculate=True),
        cache_bytes=2**20,
    ) as model:
        yield model


# The tokens of a fresh context


prompts = st.builds(
    lambda n, letter, n_tail: (DOCUMENT * 2)[:n] + letter * n_tail,
    st.integers(0, 2 * len(DOCUMENT)),
    st.sampled_from("ab"),
    st.integers(1, 60),
)


@max_examples(12)
@given(rounds=st.lists(st.lists(prompts, min_size=1, max_size=4), min_size=1, max_size=4))
@pytest.mark.slow
def test_any_order_of_prompts_gives_the_tokens_of_a_fresh_context(crowded, fresh, rounds):
    for together in rounds:
        for prompt, generation in zip(together, crowded.generate_many(together, max_tokens=N_TOKENS), strict=True):
            assert agrees(generation, fresh(crowded.path, prompt))
    assert consistent(crowded._engine)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*WINDOWED, *WHOLE_ONLY])
@pytest.mark.slow
def test_every_way_gives_the_tokens_of_a_fresh_context(tiny_file, name, way):
    asked = make_prompts(1)
    for prompt, generation in zip(asked, WAYS[way](tiny_file(name), asked), strict=True):
        assert agrees(generation, read_fresh(tiny_file(name), prompt, 24))


@pytest.mark.slow
def test_every_architecture_can_be_written(tmp_path):
    for name in set(ARCHITECTURES) - {"gemma3n"}:  # which has 22 layers
        write_model(tmp_path / "tiny.gguf", name)


def test_the_same_weights_are_written_each_time(tmp_path):
    first, second = (write_model(tmp_path / file, "llama").read_bytes() for file in "ab")
    assert first == second != write_model(tmp_path / "c", "llama", seed=1).read_bytes()


def test_linear_attention_has_keys_without_heads(tiny_file):
    info = check_gguf(tiny_file("kimi-linear"))
    assert list(info.numbers("attention.head_count_kv")) == [0, 1]
    assert "blk.0.attn_k.weight" in info.shapes


# Sliding windows


@pytest.mark.parametrize("name", WINDOWED)
@pytest.mark.slow
def test_a_beginning_longer_than_the_window_is_shared(tiny_file, fresh, tmp_path, name):
    tails = ["who?", "what is kept, and where? " * 4, "why"]
    with open_model(tiny_file(name), cache_dir=tmp_path) as model:
        for tail in tails:
            generation = model.generate(DOCUMENT + tail, max_tokens=N_TOKENS)
            assert agrees(generation, fresh(model.path, DOCUMENT + tail))
        assert generation.usage.cached_tokens >= len(DOCUMENT) > WINDOW
        other = model.generate("x" * 300, max_tokens=N_TOKENS)  # it takes the cells that the window has passed
        assert agrees(other, fresh(model.path, "x" * 300))
        assert consistent(model._engine)
    with open_model(tiny_file(name), cache_dir=tmp_path) as model:
        for tail in ("when?", "who?"):
            generation = model.generate(DOCUMENT + tail, max_tokens=N_TOKENS)
            assert generation.usage.cached_tokens >= len(DOCUMENT)
            assert agrees(generation, fresh(model.path, DOCUMENT + tail))


def test_all_keys_of_a_sequence_are_kept_when_the_window_passes_them(tiny_file):
    with open_model(tiny_file("gpt-oss"), cache_bytes=0) as model:
        for i in range(6):  # more tokens than cells
            model.generate(DOCUMENT + str(i) * 100, max_tokens=N_TOKENS)
        context, sequences = model._engine._context, model._engine._sequences
        for sequence in sequences.residents():
            assert library().llama_memory_seq_pos_min(context.memory, sequence.id) == 0


@pytest.mark.model
def test_a_real_model_with_a_window_answers_the_same_over_a_shared_document():
    document = "The red paint is stored in hall 4, next to the door. " * 50
    asked = [document + question for question in ("Where is the red paint?", "x" * 300, "Which paint is stored?")]
    path = resolve("gemma3-270m")
    alone = []
    for prompt in asked:
        with LlamaCppModel(path, n_ctx=2048, threads=2) as model:
            alone.append(model.generate(prompt, max_tokens=12).token_ids)
    with LlamaCppModel(path, n_ctx=2048, threads=2) as model:
        order = [0, 1, 2, 0, 2, 1]
        together = [model.generate(asked[i], max_tokens=12) for i in order]
    assert [generation.token_ids for generation in together] == [alone[i] for i in order]
    assert all(generation.usage.cached_tokens > 512 for generation in together[1:])


# Recurrent and hybrid models


@pytest.mark.parametrize("name", WHOLE_ONLY)
@pytest.mark.slow
def test_prompts_that_share_a_beginning_read_it_once(tiny_file, fresh, name):
    asked = [DOCUMENT + tail for tail in ("who?" * 12, "what?" * 9, "where?" * 8, "when?" * 10)]
    with open_model(tiny_file(name), parallel=4) as model:
        with model._engine._wake:  # all wait before the first is read
            streams = [model.stream(prompt, GenerateOptions(N_TOKENS)) for prompt in asked]
        together = [stream.result for stream in streams]
        assert consistent(model._engine)
    with open_model(tiny_file(name)) as model:
        first, second, third, again = (model.generate(prompt, max_tokens=N_TOKENS) for prompt in (*asked[:3], asked[2]))
    for generation, prompt in zip(
        (*together, first, second, third, again), (*asked, *asked[:3], asked[2]), strict=True
    ):
        assert agrees(generation, fresh(tiny_file(name), prompt))
    assert sorted(generation.usage.cached_tokens >= len(DOCUMENT) for generation in together) == [
        False,
        True,
        True,
        True,
    ]
    assert first.usage.cached_tokens == 0  # the second prompt shows where both part
    assert third.usage.cached_tokens >= len(DOCUMENT)
    assert again.usage.cached_tokens >= again.usage.prompt_tokens - 1 - 32


@pytest.mark.parametrize("name", WHOLE_ONLY)
@pytest.mark.slow
def test_checkpoints_survive_a_restart(tiny_file, fresh, tmp_path, name):
    for tail, least in (("who?", 0), ("what?" * 20, 0), ("where?" * 20, len(DOCUMENT)), ("why", len(DOCUMENT))):
        with open_model(tiny_file(name), cache_dir=tmp_path) as model:
            generation = model.generate(DOCUMENT + tail, max_tokens=N_TOKENS)
        assert generation.usage.cached_tokens >= least
        assert agrees(generation, fresh(tiny_file(name), DOCUMENT + tail))


@pytest.mark.parametrize("name", WHOLE_ONLY)
@pytest.mark.slow
def test_more_prompts_than_the_window_holds_wait_for_each_other(tiny_file, fresh, name):
    asked = [DOCUMENT + letter * 172 for letter in "abcdef"]
    with open_model(tiny_file(name), n_ctx=1024, parallel=4) as model:
        for prompt, generation in zip(asked, model.generate_many(asked, max_tokens=N_TOKENS), strict=True):
            assert agrees(generation, fresh(model.path, prompt))


@pytest.mark.parametrize("name", [*WINDOWED, *WHOLE_ONLY])
@pytest.mark.slow
def test_a_text_scores_the_same_after_a_shared_condition(tiny_file, name):
    pairs = [(DOCUMENT, tail) for tail in ("who?", "what?", "where?")]
    alone = []
    for condition, text in pairs:
        with open_model(tiny_file(name)) as model:
            alone.append(model.score(text, condition=condition).logprobs)
    with open_model(tiny_file(name)) as model:
        together = model.score_many(pairs)
        one_by_one = [model.score(text, condition=condition) for condition, text in pairs]
    for scores, expected in zip([*together, *one_by_one], [*alone, *alone], strict=True):
        assert scores.logprobs == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", ["mamba", "lfm2", "gpt-oss"])
def test_a_cancelled_prompt_leaves_the_others_alone(tiny_file, fresh, monkeypatch, name):
    with open_model(tiny_file(name)) as model:
        for n in itertools.count(1):
            cancel = CancelToken()
            with decoding_waits(monkeypatch, after=100):
                stream = model.stream(DOCUMENT * 3, GenerateOptions(200, cancel=cancel))
                for _ in zip(range(n), stream, strict=False):
                    pass
                cancel.cancel()
            with pytest.raises(GenerationCancelled):
                _ = stream.result
            assert agrees(model.generate(DOCUMENT, max_tokens=N_TOKENS), fresh(model.path, DOCUMENT))
            assert consistent(model._engine)
            if n == 3:
                break


# Errors in a step


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_an_unexpected_error_fails_its_requests_and_not_the_engine(tiny_file, fresh, name):
    with open_model(tiny_file(name), max_queue=8) as model:
        engine = model._engine
        context, sequences = engine._context, engine._sequences
        for owner, method in (
            (context, "logits"),
            (sequences, "start"),
            (sequences, "find_source"),
            (sequences, "end"),
        ):
            owner = engine._context if owner is context else engine._sequences

            def fail(*_):
                raise ZeroDivisionError("broken")

            setattr(owner, method, fail)
            streams = [model.stream(DOCUMENT + str(i), GenerateOptions(8)) for i in range(3)]
            for stream in streams:
                try:
                    _ = stream.result
                except GenerationError as error:
                    assert isinstance(error.__cause__, ZeroDivisionError)
            assert agrees(model.generate(DOCUMENT, max_tokens=N_TOKENS), fresh(model.path, DOCUMENT))
            assert consistent(model._engine)


def test_an_error_while_states_are_saved_does_not_end_the_engine(tiny_file, fresh):
    with open_model(tiny_file("lfm2"), keep_alive=0) as model:
        model._engine._sequences.keep_state = lambda _: 1 / 0
        for _ in range(3):
            assert agrees(model.generate(DOCUMENT, max_tokens=N_TOKENS), fresh(model.path, DOCUMENT))


def test_a_state_of_another_shape_is_refused(tiny_file):
    with open_model(tiny_file("gpt-oss"), cache_bytes=0) as model:
        model.generate(DOCUMENT, max_tokens=2)
        context, (resident,) = model._engine._context, model._engine._sequences.residents()
        state = context.read_state(resident.id, resident.computed)
        n_parts = -(-resident.computed // WINDOW)
        assert state[:8].view(np.int64) == n_parts
        for wrong in (
            b"",
            state[:-1].tobytes(),
            state.tobytes() + b"x",
            (state[:8] * 0).tobytes() + state[8:].tobytes(),
        ):
            assert not context.write_state(resident.id, wrong, resident.computed)
        assert context.write_state(resident.id, state.data, resident.computed)


def test_the_window_of_the_models_is_the_one_of_the_benchmark(tiny_file):
    for name in (*WINDOWED, "llama", *WHOLE_ONLY):
        with open_model(tiny_file(name)) as model:
            assert model._engine._context.has_window is (name in WINDOWED)
            assert model._engine._context.can_cut is (name not in WHOLE_ONLY)
            assert model.n_ctx == N_CTX


def test_locked_weights_answer_the_same(tiny):
    with LlamaCppModel(tiny.path, n_ctx=256, mlock=True) as locked:
        assert locked._engine._model.weights is not tiny._engine._model.weights
        assert locked.generate("ab", max_tokens=8).text == tiny.generate("ab", max_tokens=8).text
