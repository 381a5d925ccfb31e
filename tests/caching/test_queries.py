"""A cached embedder answers as the bare one, asks it once, and forgets what was asked longest ago."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.caching.queries import QueryCache
from leanrag.errors import ConfigurationError
from leanrag.testing import HashEmbedder


class CountingEmbedder(HashEmbedder):
    """Knows what it was asked, and whether it was closed."""

    def __init__(self):
        super().__init__(dim=8)
        self.asked = []
        self.closed = 0

    def embed_queries(self, texts):
        self.asked.append(list(texts))
        return super().embed_documents(texts)

    def close(self):
        self.closed += 1


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), max_size=12), st.integers(1, 5))
def test_answers_as_the_bare_embedder(batches, size):
    cache, bare = QueryCache(CountingEmbedder(), size=size), HashEmbedder(dim=8)
    for texts in batches:
        rows = cache.embed_queries(texts)
        assert (rows.shape, rows.dtype) == ((len(texts), 8), np.float32)
        np.testing.assert_array_equal(rows, bare.embed_queries(texts))
    assert len(cache._rows) <= size


def test_what_was_asked_before_is_not_asked_again():
    embedder = CountingEmbedder()
    cache = QueryCache(embedder)
    cache.embed_queries(["a", "b", "a"])
    cache.embed_queries(["b", "c"])
    cache.embed_queries(["c", "a"])
    assert embedder.asked == [["a", "b"], ["c"]]


def test_what_was_asked_longest_ago_is_forgotten():
    embedder = CountingEmbedder()
    cache = QueryCache(embedder, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.embed_queries([text])
    assert embedder.asked == [["a"], ["b"], ["c"], ["b"]]


def test_writing_to_a_row_changes_nothing_that_is_remembered():
    cache = QueryCache(CountingEmbedder())
    first = cache.embed_queries(["a"])
    before = first.copy()
    first[:] = 9
    np.testing.assert_array_equal(cache.embed_queries(["a"]), before)


def test_rows_are_remembered_without_the_batch_that_they_came_in():
    cache = QueryCache(CountingEmbedder(), size=2)
    cache.embed_queries([f"text {i}" for i in range(100)])
    assert len(cache._rows) == 2
    assert all(row.base is None and row.shape == (8,) for row in cache._rows.values())


def test_the_rest_is_the_embedders_own():
    embedder = CountingEmbedder()
    cache = QueryCache(embedder)
    assert (cache.id, cache.dim, cache.max_tokens) == ("hash-8", 8, 256)
    assert cache.count_tokens("one two") == embedder.count_tokens("one two") == 4
    np.testing.assert_array_equal(cache.embed_documents(["x"]), embedder.embed_documents(["x"]))
    assert embedder.asked == []
    cache.close()
    cache.close()
    assert embedder.closed == 2
    QueryCache(HashEmbedder()).close()  # nothing to close
    with pytest.raises(ConfigurationError, match="reads at most 256"):
        cache.embed_queries(["word " * 300])
    with pytest.raises(ConfigurationError, match="`size` must be at least 1, got 0"):
        QueryCache(embedder, size=0)


def test_many_threads():
    cache, bare = QueryCache(CountingEmbedder(), size=3), HashEmbedder(dim=8)
    errors = []

    def work(seed):
        try:
            for step in range(50):
                texts = [f"text {(seed * step + i) % 7}" for i in range(3)]
                np.testing.assert_array_equal(cache.embed_queries(texts), bare.embed_queries(texts))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


class BrokenEmbedder(HashEmbedder):
    """Returns what a function makes of the right rows."""

    def __init__(self, change):
        super().__init__(dim=8)
        self.change = change

    def embed_documents(self, texts):
        return self.change(super().embed_documents(texts))

    embed_queries = embed_documents


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[:-1], r"must return a float array of shape \(2, 8\).* returned an array of shape \(1, 8\)"),
        (lambda rows: rows[:, :4], r"shape \(2, 4\)"),
        (lambda rows: rows.tolist(), "returned list"),
        (lambda rows: None, "returned NoneType"),
        (lambda rows: rows.astype(int), "type int64"),
        (lambda rows: rows * 0, "a vector of norm 0 for the .* 'one'"),
        (lambda rows: rows * 2, "a vector of norm 2 "),
        (lambda rows: rows * np.nan, "a vector of norm nan "),
    ],
)
def test_an_embedder_that_breaks_its_promise_is_named(change, complaint):
    cache = QueryCache(BrokenEmbedder(change))
    for embed in (cache.embed_queries, cache.embed_documents):
        with pytest.raises(ConfigurationError, match=complaint):
            embed(["one", "two"])
    with pytest.raises(ConfigurationError, match="'hash-8'"):
        cache.embed_queries(["one", "two"])


def test_double_precision_is_converted():
    rows = QueryCache(BrokenEmbedder(lambda rows: rows.astype(np.float64))).embed_queries(["one"])
    assert rows.dtype == np.float32
