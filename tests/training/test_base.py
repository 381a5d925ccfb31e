import gguf
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from leanrag.errors import ConfigurationError, ModelLoadError  # noqa: E402
from leanrag.training.base import generate_greedily, load_decoder  # noqa: E402
from tests.tiny_gguf import write_tiny_gguf  # noqa: E402


def test_logprobs_are_those_of_llama_cpp(tiny, decoder):
    text = "The Nile is 6,650 km long."
    scores = tiny.score(text, condition="How long is the Nile?")
    prompt = tiny.encode("How long is the Nile?")
    with torch.no_grad():
        logits = decoder.logits(decoder.hidden(torch.tensor([[*prompt, *scores.token_ids]])))[0]
    logprobs = logits.log_softmax(-1)
    computed = [float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(scores.token_ids)]
    assert np.allclose(computed, scores.logprobs, atol=0.02)  # llama.cpp rounds activations to 8 bits


def test_the_numbers_are_those_of_the_quantized_file(tiny_gguf, decoder):
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tiny_gguf).tensors}
    for i, layer in enumerate(decoder.layers):
        tensor = tensors[f"blk.{i}.ffn_down.weight"]
        assert tensor.tensor_type == gguf.GGMLQuantizationType.Q4_0
        expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(
            layer.ffn_down.weight.detach().numpy(), expected
        )  # so a training learns with what llama.cpp uses


def test_padding_changes_nothing(decoder):
    rows = [[50, 51, 52], [53, 54, 55, 56, 57]]
    with torch.no_grad():
        alone = decoder.hidden(torch.tensor([rows[0]]))[0, -1]
        padded = decoder.hidden(torch.tensor([[*rows[0], 0, 0], rows[1]]))[0, 2]
    assert torch.allclose(alone, padded, atol=1e-5)


def test_greedy_tokens_are_the_most_probable_ones(decoder):
    [reply] = generate_greedily(decoder, [[50, 51]], max_tokens=5, end=-1)
    tokens = [50, 51]
    with torch.no_grad():
        for _ in range(5):
            tokens.append(int(decoder.logits(decoder.hidden(torch.tensor([tokens])))[0, -1].argmax()))
    assert tuple(tokens[2:]) == reply.tokens
    assert len(reply.logprobs) == 5


def test_a_generation_ends_at_the_end_token(decoder):
    [reply] = generate_greedily(decoder, [[50, 51]], max_tokens=5, end=-1)
    [shorter] = generate_greedily(decoder, [[50, 51]], max_tokens=5, end=reply.tokens[2])
    assert shorter.tokens == reply.tokens[: reply.tokens.index(reply.tokens[2])]
    assert len(shorter.logprobs) == len(shorter.tokens) + 1


def test_another_architecture_is_refused(tmp_path):
    path = write_tiny_gguf(tmp_path / "other.gguf")
    path.write_bytes(path.read_bytes().replace(b"llama", b"phi33"))
    with pytest.raises((ConfigurationError, ModelLoadError)):
        load_decoder(path)
