"""The stand-ins refuse what the real components refuse: one suite runs on both."""

import numpy as np
import pytest

from leanrag import (
    CancelToken,
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    IsolatedModel,
    LlamaCppModel,
    Message,
)
from leanrag.protocols import GenerateOptions
from leanrag.testing import FakeModel, HashEmbedder

CHAT = [Message("system", "Be brief."), Message("user", "Hello there.")]


@pytest.fixture(params=["fake", "llama.cpp", pytest.param("process", marks=pytest.mark.slow)])
def model(request, tiny_gguf):
    if request.param == "fake":
        made = FakeModel("one two three four five " * 20, n_ctx=256, token_seconds=1e-4)
    else:
        made = (LlamaCppModel if request.param == "llama.cpp" else IsolatedModel)(tiny_gguf)
    yield made
    made.close()


def test_the_count_is_what_a_generation_uses(model):
    for prompt in (CHAT, "plain text"):
        generation = model.generate(prompt, max_tokens=5)
        assert generation.usage.prompt_tokens == model.count(prompt)
        assert (generation.usage.completion_tokens, generation.finish_reason, generation.seed) == (5, "length", None)
        assert generation.model == model.name


def test_the_window_holds(model):
    room = model.n_ctx - model.count(CHAT)
    assert model.generate(CHAT, max_tokens=room).usage.completion_tokens <= room
    with pytest.raises(ContextOverflowError) as caught:
        model.generate(CHAT, max_tokens=room + 1)
    assert (caught.value.needed, caught.value.available) == (model.n_ctx + 1, model.n_ctx)


def test_a_stream_is_the_generation(model):
    stream = model.stream(CHAT, GenerateOptions(12))
    assert "".join(stream) == stream.result.text == model.generate(CHAT, max_tokens=12).text


def test_a_stop_string_ends_it(model):
    whole = model.generate(CHAT, max_tokens=12).text
    stopped = model.generate(CHAT, max_tokens=12, stop=[whole[4:6]])
    assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(whole[4:6])], "stop")


@pytest.mark.parametrize("options", [{"max_tokens": 0}, {"max_tokens": 1, "temperature": -1.0}])
def test_impossible_requests_are_refused(model, options):
    with pytest.raises(ConfigurationError):
        model.generate(CHAT, **options)


def test_an_empty_conversation_is_refused(model):
    with pytest.raises(ConfigurationError, match="a prompt is"):
        model.generate([], max_tokens=1)


def test_cancelling_and_time_limits(model):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(GenerationCancelled):
        model.generate(CHAT, max_tokens=20, cancel=cancel)
    with pytest.raises(GenerationTimeout):
        model.generate(CHAT, max_tokens=20, timeout_seconds=1e-9)
    assert model.generate(CHAT, max_tokens=1).usage.completion_tokens == 1


def test_a_draw_records_its_seed(model):
    assert model.generate(CHAT, max_tokens=1, temperature=1.0, seed=5).seed == 5


def test_closed_is_closed(model):
    model.close()
    model.close()
    with pytest.raises(GenerationError, match="is closed"):
        model.generate(CHAT, max_tokens=1)


@pytest.fixture(params=["hash", pytest.param("minilm", marks=pytest.mark.model)])
def embedder(request):
    return HashEmbedder() if request.param == "hash" else request.getfixturevalue("minilm")


def test_rows_are_unit_and_repeat(embedder):
    texts = ["Ada Park signs off releases.", "The Nile is long.", ""]
    rows = embedder.embed_documents(texts)
    assert rows.shape == (3, embedder.dim)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert embedder.embed_documents(texts[:1])[0] == pytest.approx(rows[0], abs=1e-5)


def test_texts_that_share_words_are_near(embedder):
    rows = embedder.embed_documents(["Ada Park signs off releases.", "The Nile is long."])
    (query,) = embedder.embed_queries(["Who signs off releases?"])
    assert query @ rows[0] > query @ rows[1] + 0.2


def test_a_text_that_would_be_cut_is_refused(embedder):
    text = "word " * (embedder.max_tokens + 5)
    assert embedder.count_tokens(text) > embedder.max_tokens
    for embed in (embedder.embed_documents, embedder.embed_queries):
        with pytest.raises(ConfigurationError, match=str(embedder.count_tokens(text))):
            embed([text])
