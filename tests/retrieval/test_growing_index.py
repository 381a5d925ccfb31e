from __future__ import annotations

import logging
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.retrieval.database import is_database_file
from leanrag.retrieval.graphs import read_graph
from leanrag.retrieval.growing_index import GrowingIndex, update_graph
from leanrag.retrieval.index import FlatIndex
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document
from tests.examples import max_examples

DIM = 8
LEAST = 60  # rows from which on these tests have a graph


def unit_rows(seed: int, count: int, dim: int = DIM):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def put(store: Store, number: int, chunks: int, seed: int) -> None:
    """Write document `number`, of `chunks` chunks with vectors drawn from `seed`."""
    document = Document("x" * chunks, id=str(number), metadata={"number": number})
    store.put(document, [Chunk(document.id, at, at + 1, "x") for at in range(chunks)], unit_rows(seed, chunks))


def fresh(store: Store) -> FlatIndex:
    index = FlatIndex(DIM)
    index.update(store)
    return index


def assert_equal(index: GrowingIndex, reference: FlatIndex, k: int, allowed=None) -> None:
    queries = unit_rows(99, 4)
    expected, found = (some.search(queries, k, allowed=allowed) for some in (reference, index))
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.int64)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        for number in range(20):
            put(store, number, 10, number)
        yield store


def graph_files(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.glob("vectors-*"))


def grown(store: Store) -> GrowingIndex:
    index = GrowingIndex(DIM, least=LEAST)
    index.update(store)
    index.wait()
    return index


def test_few_rows_are_searched_exactly_and_leave_no_file(store):
    index = GrowingIndex(DIM)
    index.update(store)
    index.wait()
    assert graph_files(store) == []
    assert_equal(index, fresh(store), 7)


def test_a_graph_is_named_by_the_store_and_found_by_the_next_index(store):
    grown(store)
    assert graph_files(store) == store.vector_files.names()
    assert all(is_database_file(store.folder / name) for name in graph_files(store))
    again = NoVectors(DIM, store)
    assert len(again.index) == 200
    assert_equal(again.index, fresh(store), 12)


class NoVectors:
    """An index that was updated while reading all vectors was forbidden."""

    def __init__(self, dim: int, store: Store) -> None:
        read = store.all_vectors
        counts = []

        def all_vectors(*, after=0, most=None):
            ids, vectors = read(after=after, most=most)
            counts.append(len(ids))
            return ids, vectors

        store.all_vectors = all_vectors
        self.index = GrowingIndex(dim, least=LEAST)
        self.index.update(store)
        del store.all_vectors
        assert sum(counts) == 0


@max_examples(25)
@given(
    operations=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "remove", "update", "wait"]),
            st.integers(0, 1),
            st.integers(0, 9),
            st.integers(1, 30),
        ),
        max_size=25,
    ),
    seed=st.integers(0, 2**20),
)
def test_an_index_that_grows_finds_what_an_exact_one_finds(operations, seed):
    with tempfile.TemporaryDirectory() as folder, Store(folder) as one, Store(folder) as other:
        one.bind("embedder", DIM, "chunker")
        index = GrowingIndex(DIM, least=LEAST)
        for step, (operation, which, number, chunks) in enumerate([*operations, ("update", 0, 0, 0)]):
            store = (one, other)[which]
            if operation == "put":
                put(store, number, chunks, seed + step)
            elif operation == "remove":
                store.remove([str(number)])
            elif operation == "wait":
                index.wait()
            else:
                index.update(store)
                reference = fresh(store)
                assert len(index) == len(reference)
                assert_equal(index, reference, 6)
                assert_equal(index, reference, 6, allowed=np.arange(0, 400, 3))
        index.wait()


def test_allowed_ids_before_the_search(store):
    index, reference = grown(store), fresh(store)
    for where in ({"number": 3}, {"number": {"in": list(range(10))}}, {"number": {"gte": 1}}, {"number": 77}):
        allowed = store.filter_ids(where)
        assert_equal(index, reference, 15, allowed=allowed)


@pytest.mark.slow
def test_many_allowed_ids_of_a_large_graph():
    """More ids than are read from the store: a scan of the codes, or a search through the graph."""
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        store.bind("embedder", DIM, "chunker")
        for number in range(4):
            put(store, number, 1000, number)
        index, reference = grown(store), fresh(store)
        for step in (2, 12):
            allowed = np.arange(0, 5000, step)
            queries = unit_rows(5, 50)
            expected, found = (some.search(queries, 10, allowed=allowed) for some in (reference, index))
            assert found[1].shape == (50, 10)
            assert (found[1] % step == 0).all()
            recall = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(expected[1], found[1], strict=True)])
            assert recall > 0.97


def test_new_rows_are_found_at_once_and_the_graph_grows_later(store):
    index = grown(store)
    before = graph_files(store)
    put(store, 50, 10, 50)
    index.update(store)
    index.wait()
    assert graph_files(store) == before
    assert_equal(index, fresh(store), 10)
    put(store, 51, 15, 51)
    index.update(store)
    index.wait()
    assert len(graph_files(store)) == 1
    assert graph_files(store) != before
    assert_equal(index, fresh(store), 10)


def test_a_graph_of_which_much_was_removed_is_made_again(store):
    index = grown(store)
    store.remove([str(number) for number in range(7)])
    index.update(store)
    index.wait()
    (name,) = graph_files(store)
    assert len(read_graph(store.folder / name, DIM)) == 130
    assert_equal(index, fresh(store), 10)


@pytest.mark.parametrize("position", [0, 100, -1, -20, None])
def test_a_damaged_file_is_made_again(store, position, caplog):
    grown(store)
    (name,) = graph_files(store)
    data = bytearray((store.folder / name).read_bytes())
    if position is None:
        data = data[: len(data) // 2]
    else:
        data[position] ^= 4
    (store.folder / name).write_bytes(data)
    with caplog.at_level(logging.INFO):
        index = grown(store)
    assert "is made again" in caplog.text
    assert graph_files(store) != [name]
    assert_equal(index, fresh(store), 10)


def test_a_deleted_file_is_made_again(store):
    index = grown(store)
    (name,) = graph_files(store)
    (store.folder / name).unlink()
    put(store, 50, 1, 50)
    index.update(store)
    assert_equal(index, fresh(store), 10)
    assert_equal(grown(store), fresh(store), 10)
    assert len(graph_files(store)) == 1


def test_the_graph_of_another_embedder_is_not_read(store):
    grown(store)
    (name,) = graph_files(store)
    with pytest.raises(ValueError, match="of 8 columns"):
        read_graph(store.folder / name, DIM + 1)


def test_update_graph_makes_the_file_that_searches_use(store):
    update_graph(store, DIM)
    assert graph_files(store) == []
    update_graph(store, DIM, least=LEAST)
    (name,) = graph_files(store)
    update_graph(store, DIM, least=LEAST)
    assert graph_files(store) == [name]


def test_where_no_file_can_be_written_the_graph_stays_in_memory(store, monkeypatch):
    def refuse(names):
        raise OSError("disk full")

    monkeypatch.setattr(store.vector_files, "keep", refuse)
    index = grown(store)
    assert graph_files(store) == []
    put(store, 50, 1, 50)
    index.update(store)
    assert_equal(index, fresh(store), 10)


def test_stats_tell_how_vectors_are_searched(store):
    assert store.stats().vector_index == "exact"
    grown(store)
    assert store.stats().vector_index == "graph"


def test_files_that_killed_processes_began_or_did_not_name_are_removed(store):
    for name in (".vectors-12.bin.0123456789ab.part", "vectors-34.bin"):
        (store.folder / name).write_bytes(b"begun")
    (store.folder / "vectors.txt").touch()
    grown(store)
    assert graph_files(store) == store.vector_files.names()
    assert not list(store.folder.glob("*.part"))
    assert (store.folder / "vectors.txt").exists()
