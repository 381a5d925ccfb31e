import pytest

import leanrag
from leanrag.errors import ConfigurationError, RemoteError
from leanrag.ledger import Prices
from leanrag.remote import RemoteReranker
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk, Hit, Usage
from tests.remote.mocks import MockServer, refuse, reply


def hits(*texts):
    return [Hit(Chunk("d", 0, len(text), text, title="Zoo"), 1.0 / (i + 1)) for i, text in enumerate(texts)]


def texts_of(hits):
    return [hit.chunk.text for hit in hits]


def longest_first(body):
    results = [{"index": i, "relevance_score": len(text) / 100} for i, text in enumerate(body["documents"])]
    results.sort(key=lambda result: -result["relevance_score"])
    return reply({"model": "m", "usage": {"total_tokens": 10}, "results": results})


def make(answer=longest_first, **settings):
    server = MockServer(answer)
    return RemoteReranker("m", **server.options, **settings), server


def test_hits_come_back_in_the_order_of_the_server():
    reranker, server = make(extra_body={"truncate": True})
    found = reranker.rerank("Which cat?", hits("a", "abc", "ab"))
    assert texts_of(found) == ["abc", "ab", "a"]
    assert [hit.score for hit in found] == [0.07, 0.06, 0.05]
    assert server.bodies == [
        {"model": "m", "query": "Which cat?", "documents": ["Zoo\na", "Zoo\nabc", "Zoo\nab"], "truncate": True}
    ]
    assert str(server.requests[0].url) == "http://localhost:9/v1/rerank"
    assert reranker.rerank("Which cat?", []) == []


def test_the_text_has_the_headings_and_the_lead():
    reranker, server = make()
    chunk = Chunk("d", 0, 1, "| 1 |", title="T", heading="A > B", lead="| n |")
    reranker.rerank("q", [Hit(chunk, 1.0)])
    assert server.bodies[0]["documents"] == ["T > A > B\n| n |\n| 1 |"]


@pytest.mark.parametrize(
    "answer",
    [
        lambda body: reply({"results": [{"index": 1, "relevance_score": 2.5, "document": {"text": "b"}}]}),
        lambda body: reply({"results": [{"index": 1, "score": 2.5}]}),
        lambda body: reply({"data": [{"index": 1, "relevance_score": 2.5}]}),
        lambda body: reply([{"index": 1, "score": 2.5}]),
    ],
    ids=["Jina, vLLM, llama-server", "score", "Voyage", "TEI"],
)
def test_the_formats_of_servers(answer):
    found = make(answer)[0].rerank("q", hits("a", "b", "c"))
    assert texts_of(found) == ["b", "a", "c"]  # the server left two out: they follow in their order
    assert [hit.score for hit in found] == [2.5, 2.5, 2.5]


def test_batches():
    reranker, server = make(batch_size=2)
    assert texts_of(reranker.rerank("q", hits("a", "abcd", "ab", "abc", "abcde"))) == [
        "abcde", "abcd", "abc", "ab", "a",
    ]  # fmt: skip
    assert sorted(len(body["documents"]) for body in server.bodies) == [1, 2, 2]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "no list `results`"),
        ({"results": []}, "no list `results`"),
        ({"results": [7]}, "the text None"),
        ({"results": [{"index": 2, "relevance_score": 1.0}]}, "the text 2"),
        ({"results": [{"index": -1, "relevance_score": 1.0}]}, "the text -1"),
        ({"results": [{"index": True, "relevance_score": 1.0}]}, "the text True"),
        ({"results": [{"index": 0, "relevance_score": 1.0}] * 2}, "for a text twice"),
        ({"results": [{"index": 0, "relevance_score": None}]}, "the score None"),
        (b'{"results": [{"index": 0, "relevance_score": NaN}]}', "the score nan"),
        (b"nonsense", "Invalid JSON"),
        ({"detail": "Not Found"}, r"answered 404 \(Not Found\)"),
    ],
)
def test_responses_that_are_no_ranking(value, problem):
    with pytest.raises(RemoteError, match=problem):
        make(lambda body: reply(value))[0].rerank("q", hits("a", "b"))


def test_failures_that_may_pass_are_tried_again():
    reranker, server = make(lambda body: longest_first(body) if len(server.requests) > 2 else refuse(503, "busy"))
    assert texts_of(reranker.rerank("q", hits("a", "ab"))) == ["ab", "a"]
    assert len(server.requests) == 3


def test_usage_and_cost():
    reranker, _ = make(prices=Prices(2.0))
    reranker.rerank("q", hits("a"))
    reranker.rerank("q", hits("b"))
    assert (reranker.usage, reranker.cost) == (Usage(20, 0), pytest.approx(40e-6))


def test_settings_that_cannot_work():
    with pytest.raises(ConfigurationError, match="batch_size"):
        make(batch_size=0)
    with pytest.raises(ConfigurationError, match="extra_body"):
        make(extra_body={"query": "x"})


def test_a_search_uses_it(tmp_path):
    reranker, _ = make()
    with leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder(), reranker=reranker) as rag:
        rag.add_text("The cat sat.")
        rag.add_text("The cat sat on the long red mat.")
        assert rag.search("cat", 1)[0].chunk.text == "The cat sat on the long red mat."
    reranker.close()
