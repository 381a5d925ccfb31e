from __future__ import annotations

import pytest

import leanrag
from leanrag.errors import ConfigurationError
from leanrag.testing import FakeModel, HashEmbedder

TEXT = "# Keys\n\n" + "\n\n".join(f"Key {i} opens room {i} of the house, {'and so on, ' * 30}" for i in range(6))


@pytest.fixture
def folder(tmp_path):
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=HashEmbedder()) as rag:
        rag.add(leanrag.Document(TEXT, id="keys", kind="markdown"))
    return tmp_path / "kb"


def search(folder, retriever, question="Which room does key 3 open?", k=2):
    with leanrag.open(folder, model=FakeModel(), embedder=HashEmbedder(), retriever=retriever) as rag:
        assert rag.ask(question).trace
        return rag.search(question, k)


def test_a_retriever_is_chosen_by_its_name(folder):
    plain = search(folder, None)
    assert search(folder, "hybrid") == plain
    assert search(folder, "diverse", k=6) == plain[:1]  # the others are nearly the same
    for name in ("neighbours", "section"):
        best = search(folder, name)[0].chunk
        assert plain[0].chunk.text in best.text
        assert len(best.text) > len(plain[0].chunk.text)
        assert best.text == TEXT[best.start : best.end]


def test_an_unknown_name_of_a_retriever_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"`retriever` must be one of 'hybrid', 'diverse', .*got 'fancy'"):
        leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=HashEmbedder(), retriever="fancy")
