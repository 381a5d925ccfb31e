from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest

import leanrag
from leanrag.testing import FakeModel, HashEmbedder


def change(path, statement):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.fixture
def rag(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel("Ada Park [1]."), embedder=HashEmbedder(), cache="exact") as rag:
        rag.add_text("Ada Park signs off releases.", id="a")
        rag.add_text("The Nile is long.", id="b")
        yield rag


def test_vectors_are_computed_again_and_the_rest_is_searched_meanwhile(rag, tmp_path):
    before = rag._store.get_vectors([1, 2])
    change(tmp_path / "leanrag.db", "UPDATE vectors SET data = zeroblob(3) WHERE chunk = 1")
    dense = {hit.chunk.document_id: hit.dense for hit in rag.search("Who signs off releases?")}
    assert dense["a"] is None  # found by its words
    assert dense["b"] is not None
    report = rag.repair()
    assert (len(report.damage), report.restored, report.removed) == (1, ("a",), ())
    assert rag.check() == []
    np.testing.assert_array_equal(rag._store.get_vectors([3, 2]), before)
    assert rag.search("Who signs off releases?")[0].dense > 0.3


def test_a_damaged_text_is_left_out_of_a_search(rag, tmp_path, caplog):
    change(tmp_path / "leanrag.db", "UPDATE texts SET text = 'A' WHERE document = 1")
    assert [hit.chunk.document_id for hit in rag.search("Ada Park and the Nile")] == ["b"]
    assert "a chunk is left out" in caplog.text
    assert rag.repair().removed == ("a",)
    assert rag.check() == []


def test_a_damaged_cache_of_answers_is_removed(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel("Ada Park [1]."), embedder=HashEmbedder()) as rag:
        rag.add_text("Ada Park signs off releases.", id="a")
        (tmp_path / "answers.db").write_bytes(b"not a database" * 100)
        assert [damage.part for damage in rag.check()] == ["derived file"]
        assert [damage.part for damage in rag.repair().damage] == ["derived file"]
        assert not (tmp_path / "answers.db").exists()
        assert rag.check() == []
