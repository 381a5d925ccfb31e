"""Cached embedders, rerankers, compressors and models: the results of the bare ones, and what happens to their file."""

import contextlib
import dataclasses
import doctest
import sqlite3

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
import leanrag.caching.wrappers
from leanrag import CancelToken, ConfigurationError, GenerationCancelled, StorageError
from leanrag.caching import CachedCompressor, CachedEmbedder, CachedModel, CachedReranker
from leanrag.caching.results import ResultFile
from leanrag.compression import ExtractiveCompressor
from leanrag.protocols import (
    Adapted,
    ComputesAhead,
    FromFile,
    GenerateOptions,
    HasWeights,
    Priced,
    ReadsLittle,
    Remote,
    ScoresText,
    StreamsThoughts,
    TextScorer,
)  # fmt: skip
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk, Hit, Scores, Usage
from tests.caching.suite import ResultsSuite
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag

TEXTS = st.text(st.characters(), max_size=30)


class Counting(HashEmbedder):
    """Notes what it computes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.computed = []

    def embed_documents(self, texts):
        self.computed += texts
        return super().embed_documents(texts)

    embed_queries = embed_documents


def corrupt(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def test_the_examples_in_the_docs_run():
    assert doctest.testmod(leanrag.caching.wrappers).failed == 0


# Embedders


@given(st.lists(st.lists(TEXTS, max_size=6), max_size=4))
def test_a_cached_embedder_returns_the_rows_of_the_bare_one(calls):
    with contextlib.closing(CachedEmbedder(HashEmbedder())) as cached:
        bare = HashEmbedder()
        for texts in calls:
            np.testing.assert_array_equal(cached.embed_documents(texts), bare.embed_documents(texts))
            np.testing.assert_array_equal(cached.embed_queries(texts), bare.embed_queries(texts))
        assert (cached.id, cached.dim, cached.max_tokens) == (bare.id, bare.dim, bare.max_tokens)
        assert cached.count_tokens("a b") == bare.count_tokens("a b")


def test_folders_share_the_vectors_of_equal_texts(tmp_path):
    embedders = [Counting(), Counting()]
    for i, embedder in enumerate(embedders):
        cached = CachedEmbedder(embedder, tmp_path / "vectors.db")
        with contextlib.closing(cached), open_rag(tmp_path / str(i), embedder=cached) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            assert rag.ask(QUESTION).is_supported
    assert embedders[0].computed
    assert embedders[1].computed == []


def test_each_text_is_computed_once_and_queries_are_not_documents():
    embedder = Counting()
    cached = CachedEmbedder(embedder)
    cached.embed_documents(["a", "b", "a"])
    cached.embed_documents(["b", "c"])
    assert embedder.computed == ["a", "b", "c"]
    cached.embed_queries(["a"])
    assert embedder.computed == ["a", "b", "c", "a"]


def test_another_embedder_has_other_vectors(tmp_path):
    for dim in (16, 32):
        with contextlib.closing(CachedEmbedder(HashEmbedder(dim=dim), tmp_path / "vectors.db")) as cached:
            assert cached.embed_queries(["a"]).shape == (1, dim)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE results SET value = x'00'",
        "UPDATE results SET value = substr(value, 1, 8) || zeroblob(length(value) - 8)",
        "DELETE FROM results",
        "DROP TABLE results",
    ],
)
def test_a_damaged_vector_is_computed_again(tmp_path, change):
    path, expected = tmp_path / "vectors.db", HashEmbedder().embed_queries(["a", "b"])
    with contextlib.closing(CachedEmbedder(HashEmbedder(), path)) as cached:
        np.testing.assert_array_equal(cached.embed_queries(["a", "b"]), expected)
    corrupt(path, change)
    embedder = Counting()
    with contextlib.closing(CachedEmbedder(embedder, path)) as cached:
        np.testing.assert_array_equal(cached.embed_queries(["a", "b"]), expected)
    assert embedder.computed == ["a", "b"]


def test_a_file_that_is_no_database_is_begun_anew_and_another_program_is_refused(tmp_path):
    path = tmp_path / "vectors.db"
    path.write_bytes(b"not a database" * 100)
    CachedEmbedder(HashEmbedder(), path).close()
    corrupt(path, "PRAGMA application_id = 1")
    with pytest.raises(StorageError, match=r"result cache .* is another kind of database"):
        CachedEmbedder(HashEmbedder(), path)


def test_a_vector_that_is_not_a_row_of_norm_1_is_refused():
    class Broken(HashEmbedder):
        def embed_queries(self, texts):
            return super().embed_queries(texts) * 2

    with pytest.raises(ConfigurationError, match="norm"):
        CachedEmbedder(Broken()).embed_queries(["a"])


# The file


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=60)), max_size=20), st.integers(1, 200))
def test_the_budget_holds_and_what_is_found_is_what_was_stored(puts, most):
    file, stored = ResultFile(None, max_bytes=most), {}
    for i, value in puts:
        key = bytes([i])
        file.put_many({key: value})
        if len(value) + 8 <= most:
            stored[key] = value
            assert file.get(key) == value
        found = file.get_many(stored)
        assert found.items() <= stored.items()
        assert sum(len(each) + 8 for each in found.values()) <= most


def test_what_was_not_used_for_longest_makes_room():
    file = ResultFile(None, max_bytes=3 * 10)
    for i in range(3):
        file.put_many({bytes([i]): b"xx"})
    assert file.get(b"\0") == b"xx"
    file.put_many({b"\3": b"xx"})
    assert [i for i in range(4) if file.get(bytes([i]))] == [0, 2, 3]


class TestResultFile(ResultsSuite):
    @pytest.fixture
    def make_results(self, tmp_path):
        with contextlib.ExitStack() as files:
            yield lambda **options: files.enter_context(
                contextlib.closing(ResultFile(tmp_path / "results.db", **options))
            )


# Rerankers

HITS = [Hit(Chunk(str(i), 0, 3, f"t{i}"), float(i)) for i in range(4)]


class Reversing:
    """Reverses the hits, and gives them other scores."""

    calls = 0

    def rerank(self, question, hits):
        self.calls += 1
        return [dataclasses.replace(hit, score=1.0 / (i + 1)) for i, hit in enumerate(reversed(hits))][:3]


def test_a_cached_reranker_returns_the_hits_of_the_bare_one(tmp_path):
    bare = Reversing()
    for _ in range(2):
        with contextlib.closing(CachedReranker(bare, tmp_path / "orders.db", name="reversing")) as cached:
            assert list(cached.rerank("q", HITS)) == Reversing().rerank("q", HITS)
            assert list(cached.rerank("r", HITS)) == Reversing().rerank("q", HITS)
            assert list(cached.rerank("q", HITS[:2])) == Reversing().rerank("q", HITS[:2])
    assert bare.calls == 3
    with contextlib.closing(CachedReranker(bare, tmp_path / "orders.db", name="other")) as cached:
        cached.rerank("q", HITS)
    assert bare.calls == 4


def test_what_changes_hits_is_not_stored():
    class Rewriting(Reversing):
        def rerank(self, question, hits):
            self.calls += 1
            return [dataclasses.replace(hit, dense=0.5) for hit in hits]

    bare = Rewriting()
    cached = CachedReranker(bare, name="rewriting")
    assert cached.rerank("q", HITS) == cached.rerank("q", HITS) == [dataclasses.replace(hit, dense=0.5) for hit in HITS]
    assert bare.calls == 2


# Compressors

SOURCES = [PARK + " " + NILE, NILE + " Bananas grow in Brazil."]


def words(text):
    return len(text.split())


class CountingCompressor(ExtractiveCompressor):
    """Notes how often it computes."""

    calls = 0

    def compress(self, sources, **options):
        self.calls += 1
        return super().compress(sources, **options)


def test_a_cached_compressor_returns_the_compression_of_the_bare_one(tmp_path):
    bare = CountingCompressor()
    expected = ExtractiveCompressor().compress(SOURCES, count_tokens=words, budget=18, question=QUESTION)
    for _ in range(2):
        with contextlib.closing(CachedCompressor(bare, tmp_path / "texts.db")) as cached:
            found = cached.compress(SOURCES, count_tokens=words, budget=18, question=QUESTION)
            assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(expected, seconds=0.0)
            assert cached.name == bare.name
    assert bare.calls == 1


@pytest.mark.parametrize(
    "change",
    [
        {"budget": 17}, {"question": "Where does the Nile flow?"}, {"keep": [[(0, 8)], []]},
        {"count_tokens": lambda text: 2 * words(text)}, {"budget": None, "rate": 0.5}, {"sources": SOURCES[::-1]},
    ],
)  # fmt: skip
def test_another_request_is_compressed_anew(change):
    bare = CountingCompressor()
    cached = CachedCompressor(bare)
    options = {"sources": SOURCES, "count_tokens": words, "budget": 18, "question": QUESTION}
    cached.compress(**options)
    cached.compress(**(options | change))
    assert bare.calls == 2


def test_a_compressor_that_computes_ahead_still_does():
    class Ahead(CountingCompressor):
        feature = object()

        def with_stored(self, stored):
            return self

    assert not isinstance(CachedCompressor(CountingCompressor()), ComputesAhead)
    cached = CachedCompressor(Ahead())
    assert isinstance(cached, ComputesAhead)
    assert cached.feature is Ahead.feature
    again = cached.with_stored(lambda ids: [])
    options = {"count_tokens": words, "budget": 18, "question": QUESTION}
    assert cached.compress(SOURCES, **options) == again.compress(SOURCES, **options)
    assert cached.wrapped.calls == 1


# Models

OPTIONS = GenerateOptions(max_tokens=50)


def test_a_cached_model_returns_the_generation_of_the_bare_one_without_its_usage(tmp_path):
    bare = FakeModel(RIGHT)
    expected = FakeModel(RIGHT).stream("Who?", OPTIONS).result
    for i in range(2):
        with contextlib.closing(CachedModel(FakeModel(RIGHT) if i else bare, tmp_path / "texts.db")) as cached:
            stream = cached.stream("Who?", OPTIONS)
            assert "".join(stream) == RIGHT
            assert stream.result.text == expected.text
            assert stream.result.usage == (Usage(0, 0) if i else expected.usage)
            assert cached.wrapped.prompts == ([] if i else ["Who?"])
            assert (cached.name, cached.n_ctx, cached.count("Who?")) == (bare.name, bare.n_ctx, bare.count("Who?"))


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        ("Why?", OPTIONS), ("Who?", GenerateOptions(51)), ("Who?", GenerateOptions(50, stop=["x"])),
        ("Who?", GenerateOptions(50, temperature=0.5, seed=1)), ("Who?", GenerateOptions(50, thinking_tokens=1)),
    ],
)  # fmt: skip
def test_another_request_is_generated_anew(prompt, options):
    bare = FakeModel(RIGHT)
    cached = CachedModel(bare)
    for each in (("Who?", OPTIONS), (prompt, options), (prompt, options)):
        assert cached.stream(*each).result.text == RIGHT
    assert len(bare.prompts) == 2


def test_another_model_of_the_file_is_asked(tmp_path):
    for name, reply in (("a", "Ada."), ("b", "Bo.")):
        with contextlib.closing(CachedModel(FakeModel(reply, name=name), tmp_path / "texts.db")) as cached:
            assert cached.generate("Who?", max_tokens=9).text == reply


def test_a_draw_without_a_seed_is_drawn_each_time():
    bare = FakeModel(RIGHT)
    cached = CachedModel(bare)
    for _ in range(2):
        cached.generate("Who?", max_tokens=9, temperature=1.0)
    assert len(bare.prompts) == 2


def test_a_stream_left_half_way_is_not_stored():
    bare = FakeModel(RIGHT)
    cached = CachedModel(bare)
    stream = cached.stream("Who?", OPTIONS)
    next(iter(stream))
    stream.close()
    assert cached.generate("Who?", max_tokens=50).text == RIGHT
    assert len(bare.prompts) == 2


def test_a_cancelled_question_is_not_answered_from_the_file():
    cached, cancel = CachedModel(FakeModel(RIGHT)), CancelToken()
    cached.generate("Who?", max_tokens=50)
    cancel.cancel()
    with pytest.raises(GenerationCancelled):
        cached.generate("Who?", max_tokens=50, cancel=cancel)


def test_thoughts_are_stored_and_streamed_apart():
    cached = CachedModel(FakeModel("<think>Hm.</think>Ada."))
    for _ in range(2):
        stream = cached.stream("Who?", OPTIONS)
        assert isinstance(stream, StreamsThoughts)
        pieces = list(stream.pieces())
        assert "".join(piece.text for piece in pieces if piece.is_thought).strip() == "Hm."
        assert "".join(piece.text for piece in pieces if not piece.is_thought) == "Ada."
        assert stream.result.thoughts == "Hm."


class Able(FakeModel):
    """Has every optional ability."""

    base_url, n_params, evidence_floor, adapters = "https://a.example", 7, 0.25, ()

    def __init__(self, path):
        super().__init__(RIGHT)
        self.path = path

    def price(self, usage):
        return usage.total_tokens * 2.0

    def tokenize(self, text):
        return [(1, 0)]

    def score_many(self, pairs, **options):
        return [Scores((1,), (-0.5,)) for _ in pairs]


ABILITIES = [Priced, Remote, HasWeights, ReadsLittle, ScoresText, TextScorer, FromFile, Adapted]


def test_a_cached_model_can_do_what_the_bare_one_can(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"weights")
    able, plain = CachedModel(Able(tmp_path / "m.gguf")), CachedModel(FakeModel(RIGHT))
    assert [isinstance(able, ability) for ability in ABILITIES] == [True] * len(ABILITIES)
    assert [isinstance(plain, ability) for ability in ABILITIES] == [False] * len(ABILITIES)
    assert (able.price(Usage(1, 2)), able.n_params, able.path) == (6.0, 7, tmp_path / "m.gguf")
    assert able.score_many([(None, "a")])[0].total == -0.5


def test_a_question_to_a_cached_model_costs_once(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"weights")
    with open_rag(tmp_path / "kb", model=CachedModel(Able(tmp_path / "m.gguf"))) as rag:
        rag.add_text(PARK)
        first, second = rag.ask(QUESTION), rag.ask(QUESTION)
    assert (second.text, second.usage.total_tokens, second.cost) == (first.text, 0, 0.0)
    assert first.cost > 0
