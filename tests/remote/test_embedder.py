import asyncio
import base64
import contextlib
import json
import math

import httpx
import numpy as np
import pytest

import leanrag
from leanrag.errors import ConfigurationError, GenerationError, RemoteError
from leanrag.ledger import Prices
from leanrag.protocols import Closable
from leanrag.remote import RemoteEmbedder, Timeouts
from leanrag.testing import FakeModel
from leanrag.types import Usage
from tests.remote.mocks import MockServer, refuse, reply

DIM = 4


def vector(text):
    return [float(len(text)), float(text.count("a")), 1.0, -0.5]


def unit(text):
    row = np.array(vector(text), np.float32)
    return row / np.linalg.norm(row)


def embed(body):
    data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(body["input"])]
    tokens = sum(len(text.split()) for text in body["input"])
    return reply({"object": "list", "data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})


def make(answer=embed, **settings):
    server = MockServer(answer)
    settings = {"dim": DIM, "count_tokens": lambda text: len(text.split())} | settings
    return RemoteEmbedder("m", **server.options | settings), server


def test_texts_become_unit_rows():
    embedder, server = make(api_key="sk-0123456789", extra_body={"dimensions": DIM})
    rows = embedder.embed_documents(["a cat", "a banana", "sea"])
    assert (rows.dtype, rows.shape) == (np.float32, (3, DIM))
    np.testing.assert_allclose(rows, [unit("a cat"), unit("a banana"), unit("sea")], rtol=1e-6)
    assert server.bodies == [{"model": "m", "input": ["a cat", "a banana", "sea"], "dimensions": DIM}]
    assert str(server.requests[0].url) == "http://localhost:9/v1/embeddings"
    assert server.requests[0].headers["Authorization"] == "Bearer sk-0123456789"
    assert isinstance(embedder, Closable)
    assert "0123456789" not in repr(embedder) + repr(vars(embedder))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            500,
            "input (2002 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
        ),
        (500, "the request exceeds the available context size"),
        (413, "inputs are too long"),
    ],
)
def test_a_text_that_is_too_long_for_the_server_is_not_sent_again(status, words):
    embedder, server = make(lambda _: refuse(status, words))
    with pytest.raises(RemoteError, match="Shorten the text") as caught:
        embedder.embed_documents(["a text"])
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (status, False, 1)


def test_batches_keep_the_order():
    embedder, server = make(batch_size=3)
    texts = [f"word {'a' * i}" for i in range(10)]
    np.testing.assert_allclose(embedder.embed_documents(texts), [unit(text) for text in texts], rtol=1e-6)
    assert sorted(len(body["input"]) for body in server.bodies) == [1, 3, 3, 3]


def test_equal_texts_are_sent_once():
    embedder, server = make()
    first = embedder.embed_documents(["a", "b", "a"])
    again = embedder.embed_queries(["b", "c", "a"])
    assert [body["input"] for body in server.bodies] == [["a", "b"], ["c"]]
    np.testing.assert_array_equal(first[[1, 0]], again[[0, 2]])


def test_the_number_of_remembered_vectors_is_limited():
    embedder, server = make(cache_size=2)
    embedder.embed_documents(["a", "b", "c"])
    embedder.embed_documents(["c", "b"])
    embedder.embed_documents(["a"])
    assert [body["input"] for body in server.bodies] == [["a", "b", "c"], ["a"]]


def test_prefixes_are_sent_and_belong_to_the_identity():
    embedder, server = make(query_prefix="query: ", document_prefix="passage: ")
    embedder.embed_queries(["a"])
    embedder.embed_documents(["a"])
    assert [body["input"] for body in server.bodies] == [["query: a"], ["passage: a"]]
    ids = {embedder.id, make()[0].id, make(extra_body={"dimensions": 4})[0].id}
    assert len(ids) == 3
    assert embedder.max_tokens == 511


def test_the_dimension_is_found_out_once():
    embedder, server = make(dim=None)
    assert server.requests == []
    assert [embedder.dim, embedder.dim] == [DIM, DIM]
    assert [body["input"] for body in server.bodies] == [["a"]]
    assert embedder.embed_documents([]).shape == (0, DIM)


def test_a_batch_that_is_too_long_is_halved_from_then_on():
    def answer(body):
        return refuse(413, "batch size 8 > maximum allowed batch size 3") if len(body["input"]) > 3 else embed(body)

    embedder, server = make(answer, batch_size=8)
    texts = [f"a{i}" for i in range(8)]
    np.testing.assert_allclose(embedder.embed_documents(texts), [unit(text) for text in texts], rtol=1e-6)
    assert [len(body["input"]) for body in server.bodies] == [8, 4, 2, 2, 4, 2, 2]
    embedder.embed_documents([f"b{i}" for i in range(4)])
    assert [len(body["input"]) for body in server.bodies[7:]] == [2, 2]


def test_failures_that_may_pass_are_tried_again():
    answers = [lambda body: refuse(503, "busy"), lambda body: refuse(429, "slowly"), embed]
    embedder, server = make(lambda body: answers[len(server.requests) - 1](body))
    assert embedder.embed_documents(["a"]).shape == (1, DIM)
    assert len(server.requests) == 3


def test_the_time_limit_of_a_first_text_does_not_end_it():
    async def answer(request):
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)  # longer than the limit
        return embed(json.loads(request.content))

    timeouts = Timeouts(first_token_seconds=0.01, total_seconds=60)
    embedder, _ = make(timeouts=timeouts, transport=httpx.MockTransport(answer))
    assert embedder.embed_documents(["a"]).shape == (1, DIM)


def coded(body):
    data = [
        {"index": i, "embedding": base64.b64encode(np.array(vector(text), "<f4").tobytes()).decode()}
        for i, text in enumerate(body["input"])
    ]
    return reply({"data": data})


@pytest.mark.parametrize(
    "answer",
    [
        coded,
        lambda body: reply({"data": [{"embedding": vector(text)} for text in body["input"]]}),
        lambda body: reply({"data": [{"embedding": vector(text), "index": 0} for text in body["input"]]}),
        lambda body: reply(
            {"data": [{"embedding": vector(text), "index": i} for i, text in enumerate(body["input"])][::-1]}
        ),
        lambda body: reply({"embeddings": [vector(text) for text in body["input"]]}),
        lambda body: reply({"embeddings": {"float": [vector(text) for text in body["input"]]}}),
        lambda body: reply([vector(text) for text in body["input"]]),
        lambda body: reply([{"index": i, "embedding": [vector(text)]} for i, text in enumerate(body["input"])]),
    ],
    ids=["base64", "no index", "index 0", "reversed", "Ollama", "Cohere", "TEI", "llama-server"],
)
@pytest.mark.parametrize("texts", [["a cat"], ["a cat", "banana"]], ids=len)
def test_the_formats_of_servers(answer, texts):
    rows = make(answer)[0].embed_documents(texts)
    np.testing.assert_allclose(rows, [unit(text) for text in texts], rtol=1e-6)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "no list `data`"),
        (7, "no list `data`"),
        ({"data": []}, "0 embeddings for 2 texts"),
        ({"data": [{"embedding": [1.0] * 4}]}, "1 embeddings for 2 texts"),
        ({"data": [{"embedding": [1.0] * 3}] * 2}, "3 columns, but `dim` is 4"),
        ({"data": [{"embedding": [1.0] * 3}, {"embedding": [1.0] * 4}]}, "3, 4 columns"),
        ({"data": [{"embedding": [0.0] * 4}] * 2}, "zero or infinite"),
        ({"data": [{"embedding": [math.nan] * 4}] * 2}, "zero or infinite"),
        ({"data": [{"embedding": [1e300] * 4}] * 2}, "zero or infinite|not a list of numbers"),
        ({"data": [{"embedding": ["1"] * 4}] * 2}, "not a list of numbers"),
        ({"data": [{"embedding": [True] * 4}] * 2}, "not a list of numbers"),
        ({"data": [{"embedding": "????"}] * 2}, "not a list of numbers"),
        ({"data": [{"embedding": []}] * 2}, "not a list of numbers"),
        ({"data": [{"embedding": None}] * 2}, "not a list of numbers"),
        ({"data": [7, 8]}, "not a list of numbers"),
        ({"data": [{"embedding": [1.0] * 4, "index": i} for i in (1, 2)]}, "wrong indexes"),
        ({"data": [{"embedding": [1.0] * 4, "index": i} for i in ("x", None)]}, "wrong indexes"),
        (b"", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
        ({"error": {"message": "no such model", "code": "model_not_found"}}, r"answered 404 \(no such model\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_responses_that_are_no_embeddings(value, problem):
    embedder, server = make(lambda body: reply(value))
    with pytest.raises(RemoteError, match=problem) as caught:
        embedder.embed_documents(["a", "b"])
    assert not caught.value.retryable
    assert len(server.requests) == 1


def test_a_text_that_is_too_long_is_not_sent():
    embedder, server = make(max_tokens=4)
    with pytest.raises(ConfigurationError, match="has 5 tokens, but 'm' reads at most 4"):
        embedder.embed_documents(["one two three"])
    with pytest.raises(ConfigurationError, match="must be a sequence"):
        embedder.embed_documents("one")
    assert server.requests == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"dim": 0}, "dim"), ({"batch_size": 0}, "batch_size"), ({"extra_body": {"input": "x"}}, "extra_body")],
)
def test_settings_that_cannot_work(settings, name):
    with pytest.raises(ConfigurationError, match=name):
        make(**settings)
    with pytest.raises(TypeError, match="nonsense"):
        make(nonsense=1)


def test_usage_and_cost():
    embedder, _ = make(prices=Prices(2.0))
    embedder.embed_documents(["one two three", "four"])
    embedder.embed_documents(["four", "five six"])
    assert embedder.usage == Usage(6, 0)
    assert embedder.cost == pytest.approx(12e-6)
    assert make()[0].cost is None
    silent, _ = make(lambda body: reply([vector(text) for text in body["input"]]), prices=Prices(2.0))
    silent.embed_documents(["a"])
    assert (silent.usage, silent.cost) == (None, None)


def test_a_folder_is_filled_and_searched_with_it(tmp_path):
    embedder, server = make()
    with leanrag.open(tmp_path, model=FakeModel("Ada Park."), embedder=embedder) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        assert rag.search("Who signs releases?")[0].chunk.text == "Releases are signed off by Ada Park."
    assert server.requests
    embedder.close()
    with pytest.raises(GenerationError, match="m is closed"):
        embedder.embed_queries(["new"])
