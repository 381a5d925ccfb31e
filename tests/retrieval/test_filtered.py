from __future__ import annotations

import contextlib
import sqlite3
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document
from tests.examples import max_examples

DIM = 2


def put(store: Store, number: int, chunks: int, group: object) -> None:
    document = Document("x" * chunks, id=str(number), metadata={"group": group})
    parts = [Chunk(document.id, i, i + 1, "x") for i in range(chunks)]
    store.put(document, parts, np.tile(np.eye(DIM, dtype=np.float32)[:1], (chunks, 1)))


def expected(store: Store, group: object) -> list[int]:
    with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
        rows = connection.execute(
            "SELECT id FROM chunks JOIN fields USING (document) WHERE name = 'group' AND value = ? ORDER BY id",
            (group,),
        ).fetchall()
    connection.close()
    return [row[0] for row in rows]


@max_examples(25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "remove", "other process"]), st.integers(0, 6), st.integers(0, 4), st.integers(0, 2)
        ),
        max_size=20,
    )
)
@pytest.mark.slow
def test_filters_are_right_after_every_change(steps):
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store, Store(folder) as other:
        store.bind("embedder", DIM, "chunker")
        for step, number, chunks, group in steps:
            if step == "remove":
                store.remove([str(number)])
            else:
                put(store if step == "put" else other, number, chunks, group)
            for asked in (0, 1, 0):
                assert store.filter_ids({"group": asked}).tolist() == expected(store, asked)


def test_a_document_without_one_of_its_chunks(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        put(store, 1, 5, "a")
        put(store, 2, 2, "b")
        put(store, 3, 2, "a")
        with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
            connection.execute("DELETE FROM chunks WHERE id = 3")
        connection.close()
        assert store.filter_ids({"group": "a"}).tolist() == [1, 2, 4, 5, 8, 9]


def test_remembered_ids_cannot_be_changed(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        put(store, 1, 2, "a")
        for _ in range(2):
            with pytest.raises(ValueError, match="read-only"):
                store.filter_ids({"group": "a"})[0] = 7


def test_values_of_different_types_are_different_filters(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        for number, group in enumerate(("1", 1, None)):
            put(store, number, 1, group)
        assert [store.filter_ids({"group": group}).tolist() for group in ("1", 1, None, 2)] == [[1], [2], [3], []]


def test_many_filters_are_remembered_in_turns(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        for number in range(40):
            put(store, number, 1, number)
        for _ in range(2):
            assert [store.filter_ids({"group": number}).tolist() for number in range(40)] == [
                [i + 1] for i in range(40)
            ]
