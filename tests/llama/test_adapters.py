"""LoRA adapters change the weights of one model by the right amount, and of no other model."""

import gguf
import numpy as np
import pytest

import leanrag
from leanrag import ConfigurationError, IsolatedModel, LlamaCppModel, ModelLoadError
from leanrag.files import sha256_of
from leanrag.llama import weights
from leanrag.llama.files.adapters import BASE_NAME_KEY, BASE_SHA256_KEY
from tests.tiny_gguf import FEED_FORWARD, WIDTH, write_tiny_gguf, write_tiny_lora

RANK = 2
PROMPT = "Once upon a time"


def draw_factors(rows, columns, seed=0, rank=RANK):
    random = np.random.default_rng(seed)
    return random.normal(0, 0.5, (rank, columns)), random.normal(0, 0.5, (rows, rank))


def n_tokens(path):
    return len(gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].data)


@pytest.fixture
def lora(tmp_path, tiny_gguf):
    return write_tiny_lora(tmp_path / "my.lora.gguf", {"output.weight": draw_factors(n_tokens(tiny_gguf), WIDTH)})


def log_probabilities(model):
    """Return those of all tokens after the prompt."""
    n = model._engine.vocabulary.n_tokens
    return np.array([scores.logprobs[0] for scores in model.score_many([(PROMPT, [token]) for token in range(n)])])


def read_tensor(path, name):
    tensor = next(tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == name)
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def solve_state(path, log_probabilities):
    """Return the state before the output matrix: `log_probabilities = matrix @ state - constant`."""
    matrix = read_tensor(path, "output.weight")
    with_constant = np.hstack([matrix, np.ones((len(matrix), 1))])
    return np.linalg.lstsq(with_constant, log_probabilities, rcond=None)[0][:-1]


def assert_near(after, expected, before):
    """The weights are INT4, and llama.cpp multiplies them by 8-bit states: an error of 1 %."""
    assert np.abs(after - expected).max() < 0.01 + 0.02 * np.abs(expected - before).max()


@pytest.mark.parametrize(("alpha", "scale"), [(1.0, 1.0), (3.0, 1.0), (3.0, -0.5), (None, 0.75), (4.0, 0.0)])
@pytest.mark.slow
def test_logits_change_by_the_factors(tiny, tiny_gguf, tmp_path, alpha, scale):
    a, b = draw_factors(n_tokens(tiny_gguf), WIDTH)
    path = write_tiny_lora(tmp_path / "a.gguf", {"output.weight": (a, b)}, alpha=alpha)
    before = log_probabilities(tiny)
    state = solve_state(tiny_gguf, before)
    matrix = read_tensor(tiny_gguf, "output.weight")
    factor = scale * (alpha / RANK if alpha else 1.0)
    expected = log_softmax((matrix + factor * b @ a) @ state)
    with LlamaCppModel(tiny_gguf, adapters=[(path, scale)], threads=1) as model:
        after = log_probabilities(model)
    assert_near(after, expected, before)
    assert (np.abs(after - before).max() > 0.2) == (factor != 0)


def test_adapters_add_up(tiny, tiny_gguf, tmp_path):
    rows = n_tokens(tiny_gguf)
    first, second = draw_factors(rows, WIDTH, 1), draw_factors(rows, WIDTH, 2)
    paths = [
        write_tiny_lora(tmp_path / f"{i}.gguf", {"output.weight": each}, alpha=RANK)
        for i, each in enumerate((first, second))
    ]
    matrix = read_tensor(tiny_gguf, "output.weight")
    changed = matrix + first[1] @ first[0] - 0.5 * second[1] @ second[0]
    before = log_probabilities(tiny)
    expected = log_softmax(changed @ solve_state(tiny_gguf, before))
    with LlamaCppModel(tiny_gguf, adapters=[paths[0], (paths[1], -0.5)], threads=1) as model:
        assert_near(log_probabilities(model), expected, before)
        assert model.name == "tiny+0+1@-0.5"


def test_models_with_different_adapters_share_the_weights(tiny, tiny_gguf, tmp_path):
    shapes = {"blk.0.attn_q.weight": (WIDTH, WIDTH), "blk.0.ffn_down.weight": (WIDTH, FEED_FORWARD)}
    paths = [
        write_tiny_lora(
            tmp_path / f"{seed}.gguf", {name: draw_factors(*shape, seed) for name, shape in shapes.items()}, alpha=8.0
        )
        for seed in (1, 2)
    ]

    def texts(models):
        return [model.generate(PROMPT, max_tokens=12).text for model in models]

    loaded_before = len(weights._loaded)
    alone = []
    for path in paths:
        with LlamaCppModel(tiny_gguf, adapters=[path], threads=1) as model:
            alone += texts([model])
    with (
        LlamaCppModel(tiny_gguf, adapters=[paths[0]], threads=1) as first,
        LlamaCppModel(tiny_gguf, adapters=[paths[1]], threads=1) as second,
        LlamaCppModel(tiny_gguf, adapters=[paths[0]], threads=1) as third,
    ):
        assert len(weights._loaded) == loaded_before
        assert texts([first, second, third, first, tiny]) == [*alone, alone[0], alone[0], *texts([tiny])]
        assert len({*alone, *texts([tiny])}) == 3
        (shared,) = [each for key, each in weights._loaded.items() if key[1] == tiny_gguf.resolve()]
        assert sorted(adapter.users for adapter in shared._adapters.values()) == [1, 2]
    assert not shared._adapters


def test_an_adapter_is_loaded_again_with_its_model(tiny_gguf, lora):
    with LlamaCppModel(tiny_gguf, adapters=[lora], threads=1) as model:
        expected = model.generate(PROMPT, max_tokens=8).text
    with LlamaCppModel(tiny_gguf, adapters=[lora], threads=1, keep_alive=0, cache_bytes=0) as model:
        assert [model.generate(PROMPT, max_tokens=8).text for _ in range(3)] == [expected] * 3
        model.generate(PROMPT, max_tokens=1)
        with model._engine._wake:
            model._engine._wake.wait_for(lambda: not model.is_loaded)
        write_tiny_lora(lora, {"output.weight": draw_factors(n_tokens(tiny_gguf), WIDTH, 5)}, alpha=2.0)
        with pytest.raises(ModelLoadError, match=r"my\.lora\.gguf' has changed"):
            model.generate(PROMPT, max_tokens=1)


def test_a_state_on_disk_belongs_to_the_adapter(tiny_gguf, lora, tmp_path):
    prompt = "Once upon a time there was a small model. " * 4
    folder = tmp_path / "states"

    def cached_tokens(adapters):
        with LlamaCppModel(tiny_gguf, adapters=adapters, threads=1, cache_dir=folder) as model:
            return model.generate(prompt, max_tokens=1).usage.cached_tokens

    for adapters in ([], [lora], [(lora, 0.5)]):
        assert cached_tokens(adapters) == 0
        assert cached_tokens(adapters) > 100


def test_a_child_process_uses_adapters(tiny_gguf, lora):
    with LlamaCppModel(tiny_gguf, adapters=[(lora, 0.5)], threads=1) as model:
        expected = model.generate(PROMPT, max_tokens=8)
        adapters = model.adapters
    with IsolatedModel(tiny_gguf, adapters=[(lora, 0.5)], threads=1) as isolated:
        generation = isolated.generate(PROMPT, max_tokens=8)
        assert (generation.text, generation.logprobs) == (expected.text, expected.logprobs)
        assert isolated.adapters == adapters == (leanrag.types.Adapter(lora, 0.5, sha256_of(lora)),)
        assert isolated.name == "tiny+my.lora@0.5"


# Refusals


def refusal(base, *adapters):
    with pytest.raises(ModelLoadError) as caught:
        LlamaCppModel(base, adapters=adapters, threads=1)
    assert str(adapters[0]) in str(caught.value)
    assert caught.value.path == adapters[0]
    return str(caught.value)


SQUARE = {"blk.0.attn_q.weight": draw_factors(WIDTH, WIDTH)}


@pytest.mark.parametrize(
    ("factors", "options", "says"),
    [
        (SQUARE, {"architecture": "qwen2"}, "It was made for a model of the architecture 'qwen2'"),
        ({"blk.1.attn_q.weight": draw_factors(WIDTH, WIDTH)}, {}, "this model has no tensor 'blk.1.attn_q.weight'"),
        ({"blk.0.attn_q.weight": draw_factors(WIDTH, 2 * WIDTH)}, {}, "'blk.0.attn_q.weight' in this model is (32, 32)"),
        ({"blk.0.attn_q.weight": draw_factors(WIDTH - 1, WIDTH)}, {}, "the shapes of the factors are (32, 2) and (2, 31)"),
        ({"blk.0.attn_q.weight": (np.zeros((3, WIDTH)), np.zeros((WIDTH, 2)))}, {}, "are (32, 3) and (2, 32)"),
        ({"token_embd.weight": draw_factors(263, WIDTH)}, {}, "the shape of 'token_embd.weight'"),
        ({}, {}, "it has no tensors"),
        (SQUARE, {"alpha": float("nan")}, "adapter.lora.alpha is nan"),
        (SQUARE, {"keys": {"general.type": "adapter"}}, "its adapter.type is None, not 'lora'"),
        (SQUARE, {"keys": {"general.type": "adapter", "adapter.type": "control"}}, "its adapter.type is 'control', not 'lora'"),
    ],
)  # fmt: skip
def test_another_base_is_refused(tiny_gguf, tmp_path, factors, options, says):
    assert says in refusal(tiny_gguf, write_tiny_lora(tmp_path / "a.gguf", factors, **options))


def test_the_hash_of_the_base_is_compared(tiny_gguf, tmp_path):
    keys = {"general.type": "adapter", "adapter.type": "lora", BASE_NAME_KEY: "tiny"}
    sha256 = sha256_of(tiny_gguf)
    path = write_tiny_lora(tmp_path / "a.gguf", SQUARE, keys={**keys, BASE_SHA256_KEY: sha256})
    LlamaCppModel(tiny_gguf, adapters=[path], threads=1).close()
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    message = refusal(other, path)
    assert f"the SHA-256 of this model is {sha256_of(other)}" in message
    assert f"It was made for 'tiny' of the architecture 'llama' with the SHA-256 {sha256}" in message


def test_broken_adapters_are_refused(tiny_gguf, lora, tmp_path):
    data = lora.read_bytes()
    for name, content, says in (
        ("cut", data[:-100], "truncated"),
        ("other", data.replace(b".lora_b", b".lora_c"), "'output.weight.lora_c' is not a part of a LoRA adapter"),
        ("half", data.replace(b"output.weight.lora_b", b"outpuT.weight.lora_b"), "is missing"),
        ("text", b"not a model", "not a GGUF file"),
    ):
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        assert says in refusal(tiny_gguf, path)
    assert "cannot read" in refusal(tiny_gguf, tmp_path / "missing.gguf")
    assert "its general.type is None, not 'adapter'" in refusal(tiny_gguf, tiny_gguf)


def test_tied_embeddings_cannot_be_changed(tmp_path):
    base = write_tiny_gguf(tmp_path / "tied.gguf", tied=True)
    b, a = draw_factors(n_tokens(base), WIDTH)
    path = write_tiny_lora(tmp_path / "a.gguf", {"token_embd.weight": (a.T, b.T)})
    message = refusal(base, path)
    assert "this model uses its token embeddings for the output too" in message


def test_embeddings_can_be_changed(tiny, tiny_gguf, tmp_path):
    a, b = draw_factors(WIDTH, n_tokens(tiny_gguf))
    path = write_tiny_lora(tmp_path / "a.gguf", {"token_embd.weight": (np.ascontiguousarray(a.T), b)})
    with LlamaCppModel(tiny_gguf, adapters=[path], threads=1) as model:
        assert np.abs(log_probabilities(model) - log_probabilities(tiny)).max() > 0.01


def test_an_adapter_is_not_a_model(lora, tiny_gguf):
    with pytest.raises(ModelLoadError, match="is a LoRA adapter for a model of the architecture 'llama', not a model"):
        LlamaCppModel(lora)
    with pytest.raises(ModelLoadError, match="or the model name 'base"):
        leanrag.LlamaCppEmbedder(lora)


@pytest.mark.parametrize(
    ("adapters", "says"),
    [
        ("a.gguf", "must be a list"),
        ([("a.gguf", float("inf"))], "must be a finite number, got inf for 'a.gguf'"),
        ([("a.gguf", "2")], "must be a finite number, got '2'"),
        ([("a.gguf", True)], "must be a finite number, got True"),
    ],
)
def test_wrong_lists_are_refused(tiny_gguf, adapters, says):
    with pytest.raises(ConfigurationError, match=says):
        LlamaCppModel(tiny_gguf, adapters=adapters)


def test_an_adapter_is_listed_once(tiny_gguf, lora):
    with pytest.raises(ConfigurationError, match="the same adapter twice"):
        LlamaCppModel(tiny_gguf, adapters=[lora, (lora, 0.5)])
