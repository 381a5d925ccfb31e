import struct

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from leanrag.errors import ConfigurationError, ModelLoadError  # noqa: E402
from leanrag.files import sha256_of  # noqa: E402
from leanrag.llama import LlamaCppModel  # noqa: E402
from leanrag.training.base import load_decoder  # noqa: E402
from leanrag.training.lora import add_lora, average_adapters, load_adapter, lora_layers, rank_of, write_adapter  # noqa: E402


def write(path, model, base, **options):
    write_adapter(path, model, base_name="tiny", base_sha256=sha256_of(base), profile="smollm2-135m+reader", **options)
    return path


@pytest.fixture
def changed(tiny_gguf):
    model = load_decoder(tiny_gguf)
    add_lora(model, rank=32, alpha=32, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.b.copy_(torch.randn(layer.b.shape, generator=generator) * 0.05)
    return model


def test_a_new_adapter_changes_nothing(decoder, tiny_gguf):
    other = load_decoder(tiny_gguf)
    add_lora(other, rank=4, alpha=8)
    tokens = torch.tensor([[50, 51, 52]])
    with torch.no_grad():
        assert torch.equal(decoder.hidden(tokens), other.hidden(tokens))


@pytest.mark.parametrize("kind", ["f16", "q8_0"])
def test_llama_cpp_computes_what_torch_computes(changed, decoder, tiny_gguf, tmp_path, kind):
    adapter = write(tmp_path / "mine.gguf", changed, tiny_gguf, type=kind)
    with LlamaCppModel(tiny_gguf, threads=1, adapters=[adapter]) as model:
        prompt = model.encode("How long is the Nile?")
        scores = model.score("6,650 km", condition="How long is the Nile?")
        assert model.adapters[0].profile == "smollm2-135m+reader"

    def logprobs(torch_model):
        with torch.no_grad():
            logits = torch_model.logits(torch_model.hidden(torch.tensor([[*prompt, *scores.token_ids]])))[0]
        values = logits.log_softmax(-1)
        return [float(values[len(prompt) - 1 + i, token]) for i, token in enumerate(scores.token_ids)]

    assert np.allclose(logprobs(changed), scores.logprobs, atol=0.03)
    assert not np.allclose(logprobs(decoder), scores.logprobs, atol=0.03)


def test_an_adapter_for_another_file_is_refused(changed, tiny_gguf, tmp_path):
    adapter = tmp_path / "mine.gguf"
    write_adapter(adapter, changed, base_name="other", base_sha256="0" * 64, profile="smollm2-135m+reader")
    with pytest.raises(ModelLoadError, match="other"):
        LlamaCppModel(tiny_gguf, threads=1, adapters=[adapter])


def test_an_adapter_is_read_back(changed, tiny_gguf, tmp_path):
    adapter = write(tmp_path / "mine.gguf", changed, tiny_gguf)
    again = load_decoder(tiny_gguf)
    load_adapter(adapter, again)
    assert rank_of(again) == 32
    tokens = torch.tensor([[50, 51, 52]])
    with torch.no_grad():
        assert torch.allclose(again.hidden(tokens), changed.hidden(tokens), atol=0.01)


def test_the_scale_of_another_program_is_kept(changed, tiny_gguf, tmp_path):
    adapter = write(tmp_path / "mine.gguf", changed, tiny_gguf)
    data = adapter.read_bytes()
    key = b"adapter.lora.alpha"
    start = data.index(key) + len(key) + 4  # behind the type of the value
    assert struct.unpack("<f", data[start : start + 4]) == (32.0,)
    adapter.write_bytes(data[:start] + struct.pack("<f", 16.0) + data[start + 4 :])
    again = load_decoder(tiny_gguf)
    load_adapter(adapter, again)
    for (_, ours), (_, theirs) in zip(lora_layers(again), lora_layers(changed), strict=True):
        assert torch.allclose(ours.b * ours.scale, theirs.b * theirs.scale / 2, atol=1e-3)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:100], lambda data: data.replace(b"blk.0.attn_q", b"blk.9.attn_q")]
)
def test_a_file_that_does_not_fit_is_refused(changed, tiny_gguf, tmp_path, damage):
    adapter = write(tmp_path / "mine.gguf", changed, tiny_gguf)
    adapter.write_bytes(damage(adapter.read_bytes()))
    with pytest.raises(ModelLoadError, match="is not an adapter for this model"):
        load_adapter(adapter, load_decoder(tiny_gguf))


def test_a_rank_below_1_is_refused(decoder):
    with pytest.raises(ConfigurationError, match="`rank` must be at least 1, got 0"):
        add_lora(decoder, rank=0, alpha=1)


def test_the_mean_of_adapters_is_the_mean_of_their_changes(changed, tiny_gguf):
    other = load_decoder(tiny_gguf)
    add_lora(other, rank=4, alpha=8, seed=5)
    with torch.no_grad():
        for _, layer in lora_layers(other):
            layer.b.fill_(0.02)
    mean = load_decoder(tiny_gguf)
    add_lora(mean, rank=36, alpha=7)
    average_adapters([changed, other], mean)
    for (_, ours), (_, first), (_, second) in zip(*map(lora_layers, (mean, changed, other)), strict=True):
        changes = [layer.b @ layer.a * layer.scale for layer in (ours, first, second)]
        assert torch.allclose(changes[0], (changes[1] + changes[2]) / 2, atol=1e-4)


def test_a_smaller_rank_is_the_nearest_one(changed, tiny_gguf):
    mean = load_decoder(tiny_gguf)
    add_lora(mean, rank=2, alpha=2)
    average_adapters([changed], mean)
    for (_, ours), (_, whole) in zip(*map(lora_layers, (mean, changed)), strict=True):
        change = (whole.b @ whole.a * whole.scale).detach()
        values = torch.linalg.svdvals(change)
        assert float((change - (ours.b @ ours.a * ours.scale).detach()).norm()) == pytest.approx(
            float((values[2:] ** 2).sum().sqrt()), rel=1e-2
        )
