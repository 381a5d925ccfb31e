"""What servers of many vendors send is read as the client of OpenAI reads it."""

import pytest

from benchmarks.servers.replay import ReplayServer, read_with_openai, read_with_remote_model, replay
from benchmarks.servers.shapes import SHAPES
from leanrag.remote import EventDecoder

NUMBERED = list(enumerate(SHAPES))
NAMES = [f"{shape.vendor}: {shape.name}" for shape in SHAPES]


@pytest.fixture(scope="module")
def server():
    with ReplayServer(*map(replay, SHAPES)) as server:
        yield server


def test_there_are_shapes_of_all_vendors():
    assert len(SHAPES) >= 90
    assert len(set(NAMES)) == len(NAMES)
    assert {
        "OpenAI", "Azure", "vLLM", "Ollama", "OpenRouter", "Groq", "DeepSeek", "Mistral", "Gemini", "Together", "LM Studio",
        "SGLang", "LocalAI", "llama-server",
    } <= {shape.vendor for shape in SHAPES}  # fmt: skip


@pytest.mark.parametrize(("number", "shape"), NUMBERED, ids=NAMES)
def test_a_shape_is_read(server, number, shape):
    generation = read_with_remote_model(shape, server.url(number))
    found = (generation.text, generation.thoughts, generation.finish_reason)
    assert found == (shape.text, shape.thoughts, shape.finish_reason)


@pytest.mark.parametrize(("number", "shape"), NUMBERED, ids=NAMES)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_client_of_openai_reads_the_same(server, number, shape):
    pytest.importorskip("openai")
    assert read_with_openai(shape, server.url(number)) == (shape.content or shape.text)


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if shape.is_streamed], ids=lambda shape: f"{shape.vendor}: {shape.name}"
)
def test_the_events_do_not_depend_on_the_cuts(shape):
    whole = EventDecoder().feed(shape.body)
    for size in (1, 2, 7):
        decoder = EventDecoder()
        pieces = [shape.body[i : i + size] for i in range(0, len(shape.body), size)]
        assert [event for piece in pieces for event in decoder.feed(piece)] == whole
