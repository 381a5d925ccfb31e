from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.retrieval.index import FaissIndex, FlatIndex
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document
from tests.examples import max_examples

INDEXES = [FlatIndex, FaissIndex]


def unit_rows(seed: int, count: int, dim: int = 5):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ids(*numbers: int):
    return np.array(numbers, np.int64)


def axes() -> np.ndarray:
    """Three directions whose cosines with the first axis are 1, 0.6 and -1."""
    return np.array([[1, 0], [0.6, 0.8], [-1, 0]], np.float32)


@pytest.fixture(params=INDEXES)
def index(request):
    return request.param(2)


def test_scores_are_cosines_best_first(index):
    index.add(ids(30, 10, 20), axes())
    scores, found = index.search(np.array([[1, 0], [0, 1]], np.float32), 3)
    assert found.tolist() == [[30, 10, 20], [10, 20, 30]]
    np.testing.assert_allclose(scores, [[1, 0.6, -1], [0.8, 0, 0]], atol=1e-6)
    assert scores.dtype == np.float32
    assert found.dtype == np.int64


def test_fewer_rows_than_wanted(index):
    query = np.array([[1, 0]], np.float32)
    assert index.search(query, 4)[1].shape == (1, 0)
    index.add(ids(7, 8), axes()[:2])
    assert index.search(query, 4)[1].tolist() == [[7, 8]]
    assert index.search(query, 1)[1].tolist() == [[7]]


def test_no_queries(index):
    index.add(ids(7), axes()[:1])
    assert len(index.search(np.empty((0, 2), np.float32), 4)[1]) == 0


def test_equal_scores_come_by_id(index):
    index.add(ids(9, 3, 6), axes()[[0, 0, 0]])
    assert index.search(np.array([[1, 0]], np.float32), 3)[1].tolist() == [[3, 6, 9]]


def test_removed_rows_are_not_found_and_unknown_ids_ignored(index):
    index.add(ids(1, 2, 3), axes())
    index.remove(ids(1, 99))
    assert len(index) == 2
    assert index.search(np.array([[1, 0]], np.float32), 3)[1].tolist() == [[2, 3]]
    index.add(ids(1), axes()[:1])
    assert index.search(np.array([[1, 0]], np.float32), 3)[1].tolist() == [[1, 2, 3]]


def test_only_allowed_rows_are_found(index):
    index.add(ids(1, 2, 3), axes())
    query = np.array([[1, 0], [0, 1]], np.float32)
    assert index.search(query, 3, allowed=ids(3, 2, 42))[1].tolist() == [[2, 3], [2, 3]]
    assert index.search(query, 3, allowed=ids())[1].shape == (2, 0)
    assert index.search(query, 3, allowed=ids(42))[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("numbers", "rows", "complaint"),
    [
        (ids(1), np.ones((1, 3), np.float32), r"\(n, 2\)"),
        (ids(1), np.array([[2.0, 0.0]], np.float32), "unit norm, row 0 has 2.0"),
        (ids(1), np.array([[0.0, 0.0]], np.float32), "unit norm"),
        (ids(1), np.array([[np.nan, 0.0]], np.float32), "unit norm"),
        (ids(1), np.array([[np.inf, 0.0]], np.float32), "unit norm"),
        (ids(1, 2), axes()[:1], "one entry per vector"),
        (ids(4, 4), axes()[:2], "distinct"),
        (ids(-1), axes()[:1], "not negative"),
        (ids(5, 30), axes()[:2], "id 30 is in the index already"),
    ],
)
def test_wrong_rows_are_refused_whole(index, numbers, rows, complaint):
    index.add(ids(30), axes()[:1])
    with pytest.raises(ConfigurationError, match=complaint):
        index.add(numbers, rows)
    assert len(index) == 1


def test_wrong_searches_are_refused(index):
    with pytest.raises(ConfigurationError, match="`k` must be at least 1, got 0"):
        index.search(axes()[:1], 0)
    with pytest.raises(ConfigurationError, match=r"\(n, 2\)"):
        index.search(np.eye(3, dtype=np.float32), 1)
    with pytest.raises(ConfigurationError, match="unit norm"):
        index.search(np.array([[np.nan, 1.0]], np.float32), 1)


@pytest.mark.parametrize("kind", INDEXES)
def test_wrong_dim_is_refused(kind):
    with pytest.raises(ConfigurationError, match="`dim` must be at least 1, got 0"):
        kind(0)


@max_examples(60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 80),
    queries=st.integers(1, 30),  # FAISS takes another road from 20 queries on
    k=st.integers(1, 90),
    share_removed=st.sampled_from([0.0, 0.3, 1.0]),
    share_allowed=st.sampled_from([None, 0.0, 0.1, 0.7]),
)
def test_faiss_finds_what_the_reference_finds(seed, count, queries, k, share_removed, share_allowed):
    random = np.random.default_rng(seed)
    numbers = random.permutation(1000)[:count].astype(np.int64)
    rows, asked = unit_rows(seed, count), unit_rows(seed + 1, queries)
    removed = numbers[random.random(count) < share_removed]
    allowed = None if share_allowed is None else np.flatnonzero(random.random(1000) < share_allowed)
    results = []
    for index in (FlatIndex(5), FaissIndex(5)):
        index.add(numbers[: count // 2], rows[: count // 2])
        index.add(numbers[count // 2 :], rows[count // 2 :])
        index.remove(removed)
        assert len(index) == count - len(removed)
        results.append(index.search(asked, k, allowed=allowed))
    (flat_scores, flat_ids), (scores, found) = results
    np.testing.assert_allclose(scores, flat_scores, atol=1e-6)
    np.testing.assert_array_equal(found, flat_ids)


# Catching up with the store


def put(store: Store, number: int, chunks: int, seed: int) -> None:
    """Write document `number`, of `chunks` chunks with vectors drawn from `seed`."""
    document = Document("x" * chunks, id=str(number))
    parts = [Chunk(document.id, at, at + 1, "x") for at in range(chunks)]
    store.put(document, parts, unit_rows(seed, chunks))


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "update"]), st.integers(0, 1), st.integers(0, 4), st.integers(1, 4)),
    max_size=25,
)


@pytest.mark.parametrize("kind", INDEXES)
@max_examples(25)
@given(operations=OPERATIONS, seed=st.integers(0, 2**32 - 1))
def test_an_index_that_catches_up_finds_what_a_fresh_one_finds(kind, operations, seed):
    with tempfile.TemporaryDirectory() as folder, Store(folder) as one, Store(folder) as other:
        one.bind("embedder", 5, "chunker")
        kept = kind(5)
        for step, (operation, which, number, chunks) in enumerate([*operations, ("update", 0, 0, 0)]):
            store = (one, other)[which]
            if operation == "put":
                put(store, number, chunks, seed + step)
            elif operation == "remove":
                store.remove([str(number)])
            else:
                kept.update(store)
                fresh = FlatIndex(5)
                fresh.update(one)
                assert len(kept) == len(fresh) == one.count_chunks()
                expected, found = (index.search(unit_rows(seed + 1, 3), 6) for index in (fresh, kept))
                np.testing.assert_array_equal(found[1], expected[1])
                np.testing.assert_allclose(found[0], expected[0], atol=1e-6)


class CountingStore(Store):
    """Counts the vectors that are read."""

    vectors_read = 0

    def all_vectors(self, *, after=0):
        ids, vectors = super().all_vectors(after=after)
        self.vectors_read += len(ids)
        return ids, vectors


@pytest.mark.parametrize("kind", INDEXES)
def test_only_new_vectors_are_read(kind, tmp_path):
    index = kind(5)
    with CountingStore(tmp_path) as store:
        store.bind("embedder", 5, "chunker")
        for number in range(20):
            put(store, number, 3, number)
        index.update(store)
        index.update(store)
        assert store.vectors_read == 60
        put(store, 20, 2, 20)
        index.update(store)
        assert store.vectors_read == 62
        store.remove(["3"])
        index.update(store)
        assert (store.vectors_read, len(index)) == (62, 59)


@pytest.mark.parametrize("kind", INDEXES)
def test_searches_while_other_threads_update(kind, tmp_path):
    index, errors = kind(5), []
    with Store(tmp_path) as store:
        store.bind("embedder", 5, "chunker")

        def work(seed):
            try:
                for step in range(15):
                    put(store, seed, 1 + step % 3, seed * 100 + step)
                    index.update(store)
                    scores, found = index.search(unit_rows(step, 2), 4)
                    assert scores.shape == found.shape
                    assert (np.diff(scores) <= 0).all()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
                errors.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(index) == store.count_chunks()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
def test_a_fork_of_a_process_that_searched_can_search():
    code = """
        import os, numpy as np
        from leanrag.retrieval.index import FaissIndex
        rows = np.eye(64, dtype=np.float32)[np.arange(4000) % 64]
        index = FaissIndex(64)
        index.add(np.arange(4000), rows)
        index.search(rows[:100], 5)
        child = os.fork()
        if child == 0:
            found = index.search(rows[:100], 5)[1]
            os._exit(0 if found.shape == (100, 5) else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, timeout=60, check=False)
    assert process.returncode == 0
