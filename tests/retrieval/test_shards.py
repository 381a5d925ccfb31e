"""A corpus over several folders is searched as one folder with all documents."""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import leanrag
from leanrag.errors import ConfigurationError, ShardError, StorageError
from leanrag.retrieval import BM25Retriever, DenseRetriever, FlatIndex, GrowingIndex, HybridRetriever
from leanrag.retrieval.database import SHARDS
from leanrag.retrieval.layout import ShardLayout, read_layout, write_layout
from leanrag.retrieval.records import DocumentRecord
from leanrag.retrieval.resharding import divide_corpus
from leanrag.retrieval.retrievers import copy_key
from leanrag.retrieval.shard import Shard
from leanrag.retrieval.shard_ids import group_ids, in_shard, split_id, to_global
from leanrag.retrieval.sharded_store import ShardedIndex, ShardedStore, open_store
from leanrag.retrieval.store import Entry, MissingChunkError, Store
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk, Document
from tests.examples import max_examples
from tests.retrieval.test_postings import WORDS

EMBEDDER = HashEmbedder()
texts = st.lists(st.sampled_from([*WORDS, "日", "한", "naïve-ly", "a/b.c"]), min_size=1, max_size=12).map(" ".join)
questions = texts | st.sampled_from(["日", "한", "apple " * 9, "ERR-4021?", "v1.2.3 pear", "!", "日 한 apple"])


def entry(name: str, text: str, tenant: str = "a") -> Entry:
    document = Document(text, id=name, title=f"T {name}", metadata={"tenant": tenant, "number": len(text)})
    cut = len(text) // 2
    spans = [(0, cut), (cut, len(text))] if cut > 3 else [(0, len(text))]
    chunks = [Chunk(name, start, end, text[start:end], document.title) for start, end in spans]
    return Entry(document, chunks, EMBEDDER.embed_documents([chunk.text for chunk in chunks]))


def bind(store: Store) -> Store:
    store.bind(EMBEDDER.id, EMBEDDER.dim, "chunker")
    return store


def new_corpus(root, shards: int, field: str | None = None) -> ShardedStore:
    layout = ShardLayout(epoch=1, shards=shards, field=field)
    for i in range(shards):
        Shard(layout.path(root, i)).close()
    write_layout(root, layout)
    return bind(ShardedStore(root))


def scores_of(store: Store, found) -> dict[str, float]:
    scores, ids = found
    return {chunk.id: score for chunk, score in zip(store.get_chunks(ids.tolist()), scores.tolist(), strict=True)}


def hits_of(retriever, question: str, **options) -> dict[tuple, float]:
    """Scores by text: which of two copies comes first is not promised."""
    return {copy_key(hit.chunk): hit.score for hit in retriever.retrieve(question, 1000, **options)}


def without_stat(record: DocumentRecord) -> DocumentRecord:
    """A file that has just changed has no time yet: a later `add` records it."""
    return replace(record, size=None, mtime_ns=None)


def assert_same(found: dict, expected: dict) -> None:
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)


@max_examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), shards=st.integers(1, 4), by_tenant=st.booleans())
@pytest.mark.slow
def test_search_over_shards_is_search_in_one_folder(tmp_path_factory, data, shards, by_tenant):
    root = tmp_path_factory.mktemp("kb")
    with bind(Store(root / "one")) as one, new_corpus(root / "many", shards, "tenant" if by_tenant else None) as many:
        for _ in range(data.draw(st.integers(1, 3))):
            added = data.draw(
                st.dictionaries(st.sampled_from("ABCDEFGH"), st.tuples(texts, st.sampled_from("abc")), max_size=6)
            )
            gone = data.draw(st.sets(st.sampled_from("ABCDEFGH"), max_size=3))
            for store in (one, many):
                store.put_many([entry(name, text, tenant) for name, (text, tenant) in added.items()])
                assert store.remove(sorted(gone)) >= 0
            where = data.draw(st.none() | st.sampled_from([{"tenant": "a"}, {"tenant": {"in": ["b", "c"]}}]))
            allowed = [None if where is None else store.filter_ids(where) for store in (one, many)]
            question = data.draw(questions)
            found = [
                store.search_terms(question, 1000, allowed=ids) for store, ids in zip((one, many), allowed, strict=True)
            ]
            assert (np.diff(found[1][0]) <= 0).all()
            assert_same(scores_of(many, found[1]), scores_of(one, found[0]))
            found = [
                store.match_identifiers(question, 3, allowed=ids)
                for store, ids in zip((one, many), allowed, strict=True)
            ]
            assert_same(scores_of(many, found[1]), scores_of(one, found[0]))
            index = FlatIndex(EMBEDDER.dim)
            index.update(one)
            for make in (HybridRetriever, DenseRetriever):
                expected = hits_of(make(one, index, EMBEDDER), question, where=where)
                assert_same(hits_of(make(many, ShardedIndex(many), EMBEDDER), question, where=where), expected)
            assert {r.id: r for r in many.documents()} == {r.id: r for r in one.documents()}
            assert many.stats().chunks == one.count_chunks() == many.count_chunks()


def test_the_best_of_many_chunks_are_the_same(tmp_path):
    names = [f"d{i}" for i in range(60)]
    bodies = [f"apple {'pear ' * (i % 7)} and item {i} {'apple ' * (i % 5)}" for i in range(60)]
    with bind(Store(tmp_path / "one")) as one, new_corpus(tmp_path / "many", 3) as many:
        for store in (one, many):
            store.put_many([entry(name, text) for name, text in zip(names, bodies, strict=True)])
        for k in (1, 5, 20):
            scores, ids = many.search_terms("apple pear", k)
            expected, _ = one.search_terms("apple pear", k)
            np.testing.assert_allclose(scores, expected, rtol=1e-5)
            assert len(ids) == k
            also = many.chunk_ids()[::7]
            scores, ids = many.search_terms("apple pear", k, also=also)
            matching = many.search_terms("apple pear", 999)[1]
            assert set(also.tolist()) & set(matching.tolist()) <= set(ids.tolist())
        long_question = " ".join(f"w{i}" for i in range(400)) + " apple item pear"
        assert_same(
            scores_of(many, many.search_terms(long_question, 99)), scores_of(one, one.search_terms(long_question, 99))
        )


@given(st.integers(1, 2047), st.integers(0, 4095), st.lists(st.integers(0, 2**40 - 1)))
def test_ids_say_where_a_chunk_is(epoch, shard, local):
    ids = to_global(np.array(local, np.int64), epoch, shard)
    assert [split_id(number) for number in ids.tolist()] == [(epoch, shard, number) for number in local]
    assert in_shard(ids, epoch, shard).tolist() == local
    assert not len(in_shard(ids, epoch, (shard + 1) % 4096))
    groups = group_ids(ids)
    assert list(groups) == ([(epoch, shard)] if local else [])


def test_every_method_of_a_store_is_one_of_a_sharded_store():
    inherited = {"put", "__enter__", "__exit__", "before_removal"}  # these call the others
    public = {name for name, _ in inspect.getmembers(Store) if not name.startswith("_")}
    assert public - inherited <= vars(ShardedStore).keys()


def test_documents_are_read_and_changed_as_in_one_folder(tmp_path):
    with new_corpus(tmp_path, 3) as corpus:
        forgotten = []
        corpus.before_removal(forgotten.extend)
        corpus.put_many([entry(name, f"apple {name}") for name in "ABCDE"])
        assert corpus.get_document("C").text == "apple C"
        with pytest.raises(ConfigurationError, match="no document 'Z'"):
            corpus.get_document("Z")
        before = corpus.generation, corpus.content_hash()
        assert corpus.update_metadata(["A", "B", "Z"], {"colour": "red"}) == 2
        assert [len(corpus.filter_ids({"colour": "red"})), corpus.generation > before[0]] == [2, True]
        assert corpus.content_hash() != before[1]
        chunk = corpus.get_chunks(corpus.chunk_ids_within("C", 0, 99).tolist())[0]
        corpus.put_feature("f", [(chunk, b"x")])
        assert corpus.get_feature("f", chunk) == b"x"
        assert [len(corpus.known_chunks("C")), corpus.known_chunks("Z")] == [1, []]
        assert corpus.read_passage("C", 0, 5)[0] == "apple"
        ids, vectors = corpus.all_vectors()
        np.testing.assert_array_equal(corpus.get_vectors(ids.tolist()), vectors)
        assert corpus.find_damage() == []
        assert corpus.remove(["C", "Z"]) == 1
        assert "C" in forgotten
        with pytest.raises(MissingChunkError):
            corpus.get_chunks([*corpus.chunk_ids().tolist(), int(to_global(np.array([999]), 1, 0)[0])])
    with pytest.raises(StorageError, match="is closed"):
        corpus.generation  # noqa: B018


def test_a_document_moves_to_the_shard_of_its_new_tenant(tmp_path):
    with new_corpus(tmp_path, 4, "tenant") as corpus:
        shards = {name: corpus.layout.shard_of("D", {"tenant": name}) for name in "abcdefgh"}
        other = next(name for name, shard in shards.items() if shard != shards["a"])
        corpus.put_many([entry("D", "apple", "a")])
        corpus.put_many([entry("D", "pear", other)])
        assert [record.metadata["tenant"] for record in corpus.documents()] == [other]
        assert corpus.get_document("D").text == "pear"
        with pytest.raises(ConfigurationError, match="'tenant' decides"):
            corpus.update_metadata(["D"], {"tenant": "a"})


def test_a_missing_shard_fails_or_is_left_out_as_chosen(tmp_path, caplog):
    with new_corpus(tmp_path, 3) as corpus:
        corpus.put_many([entry(name, f"apple {name}") for name in "ABCDEFGH"])
        gone = corpus.layout.path(tmp_path, 1)
        rest = {r.id for r in corpus.documents()} - {r.id for r in corpus.parts()[1].documents()}
    gone.rename(tmp_path / "away")
    options = {"embedder": HashEmbedder(), "model": FakeModel("apple [1]")}
    with (
        leanrag.open(tmp_path, **options) as rag,
        pytest.raises(ShardError, match=r"0001' cannot be reached .*Bring it back") as caught,
    ):
        rag.search("apple")
    assert caught.value.path == gone
    with leanrag.open(tmp_path, missing_shards="partial", **options) as rag:
        assert {hit.chunk.document_id for hit in rag.search("apple")} == rest
        assert "Results are partial" in caplog.text
        answer = rag.ask("apple?")
        assert answer.is_partial
        with pytest.raises(ShardError):
            rag.add(Document("new", id="new"))
        (tmp_path / "away").rename(gone)
        assert len(rag.search("apple", k=20)) == 8
        assert not rag.ask("apple?").is_partial
    with pytest.raises(ConfigurationError, match="missing_shards"):
        leanrag.open(tmp_path, missing_shards="maybe", **options)


def test_two_writers_of_one_shard_are_refused(tmp_path):
    with new_corpus(tmp_path, 2) as corpus, Shard(corpus.layout.path(tmp_path, 1)) as other, other.writer():
        with pytest.raises(StorageError, match="another process is writing"):
            corpus.put_many([entry("A", "apple")])
        assert not list(corpus.documents())


@pytest.mark.slow
def test_a_folder_is_divided_and_divided_again(tmp_path):
    root = tmp_path / "kb"
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(12):
        (docs / f"{i}.md").write_text(
            f"# Topic {i}\n\nThe apple number {i} is red.\n\n" + "Filler words. " * 50 * (i % 3)
        )
    options = {"embedder": HashEmbedder(), "model": FakeModel("apple [1]")}
    with leanrag.open(root, **options) as rag:
        rag.add(docs)
        before = list(rag.documents()), [(hit.chunk, hit.score) for hit in rag.search("apple number 7", k=50)]
    for count, field in ((3, None), (2, "tenant"), (1, None), (5, None)):
        assert divide_corpus(root, count, field=field).shards == count
        with leanrag.open(root, **options) as rag:
            assert sorted(map(without_stat, rag.documents()), key=repr) == sorted(
                map(without_stat, before[0]), key=repr
            )
            found = {hit.chunk: hit.score for hit in rag.search("apple number 7", k=50)}
            assert found == pytest.approx(dict(before[1]), rel=1e-5)
            report = rag.add(docs)
            assert [len(report.unchanged), report.added, report.updated] == [12, (), ()]
        assert sorted(path.name for path in root.iterdir() if path.name.startswith(("shards", "leanrag"))) == [
            f"shards-{read_layout(root).epoch}",
            SHARDS,
        ]


DIVIDE = """
import os, sys
from leanrag.retrieval import resharding
from leanrag.retrieval.shard import Shard
owner, name = (Shard, "update_postings") if sys.argv[2] == "copy" else (resharding, "write_layout")
setattr(owner, name, lambda *_: os._exit(9))
resharding.divide_corpus(sys.argv[1], 2)
"""


@pytest.mark.parametrize("moment", ["copy", "layout"])
@pytest.mark.parametrize("is_divided", [False, True])
@pytest.mark.slow
def test_a_process_that_is_killed_while_it_divides_leaves_the_corpus_as_it_was(tmp_path, moment, is_divided):
    names = [f"document {i}" for i in range(6)]
    with bind(Store(tmp_path / "kb")) as store:
        store.put_many([entry(name, f"{name} about pumps") for name in names])
    if is_divided:
        divide_corpus(tmp_path / "kb", 3)
    before = read_layout(tmp_path / "kb")
    assert subprocess.run([sys.executable, "-c", DIVIDE, tmp_path / "kb", moment], check=False).returncode == 9
    after = read_layout(tmp_path / "kb")
    assert (after and (after.epoch, after.shards)) == (before and (before.epoch, before.shards))
    with open_store(tmp_path / "kb") as store:
        assert sorted(record.id for record in store.documents()) == names
    epoch = divide_corpus(tmp_path / "kb", 2).epoch
    with open_store(tmp_path / "kb") as store, store.writer():  # a writer removes what is not needed any more
        assert sorted(record.id for record in store.documents()) == names
        found = {path.name for path in (tmp_path / "kb").iterdir() if path.name.startswith(("shards", "leanrag"))}
    assert found == {f"shards-{epoch}", SHARDS}


def test_a_search_goes_on_while_the_corpus_is_divided(tmp_path):
    with new_corpus(tmp_path, 2) as corpus:
        corpus.put_many([entry(name, f"apple {name}") for name in "ABCDEFGH"])
        scores, ids = corpus.search_terms("apple", 20)
        former = corpus.get_chunks(ids.tolist())
        divide_corpus(tmp_path, 3)
        assert corpus.get_chunks(ids.tolist()) == former  # ids of the former shards stay valid
        again, new_ids = corpus.search_terms("apple", 20)
        assert corpus.layout.shards == 3
        assert not set(new_ids.tolist()) & set(ids.tolist())
        np.testing.assert_allclose(again, scores, rtol=1e-6)
        allowed = corpus.search_terms("apple", 20, allowed=ids)[1]
        assert set(allowed.tolist()) == set(ids.tolist())


def test_searches_never_miss_while_it_is_divided_many_times(tmp_path):
    with new_corpus(tmp_path, 2) as corpus:
        corpus.put_many([entry(name, f"apple {name}") for name in "ABCDEFGH"])
        retriever = BM25Retriever(corpus)
        stop, counts = threading.Event(), []

        def search() -> None:
            while not stop.is_set():
                counts.append(len(retriever.retrieve("apple", 20)))

        thread = threading.Thread(target=search)
        thread.start()
        for count in (1, 3, 2):
            divide_corpus(tmp_path, count)
        stop.set()
        thread.join()
        assert set(counts) == {8}


def test_writing_to_a_folder_that_was_divided_meanwhile_is_refused(tmp_path):
    with bind(Store(tmp_path)) as store:
        store.put_many([entry("A", "apple")])
        divide_corpus(tmp_path, 2)
        with pytest.raises(StorageError, match=r"was divided into shards .*open the folder again"):
            store.put_many([entry("B", "pear")])
    with bind(open_store(tmp_path)) as corpus:
        assert [record.id for record in corpus.documents()] == ["A"]
        shutil.rmtree(tmp_path / "shards-1")
        with pytest.raises(StorageError):
            divide_corpus(tmp_path, 2)


def test_an_index_of_ones_own_is_made_for_each_shard(tmp_path):
    with new_corpus(tmp_path, 2) as corpus:
        corpus.put_many([entry(name, f"apple {name}") for name in "ABCD"])
    made = []

    def make(dim: int) -> GrowingIndex:
        made.append(GrowingIndex(dim))
        return made[-1]

    with leanrag.open(tmp_path, embedder=HashEmbedder(), model=FakeModel(), index=make) as rag:
        assert len(rag.search("apple")) == 4
    assert sum(map(len, made)) == 4
    with (
        leanrag.open(tmp_path, embedder=HashEmbedder(), model=FakeModel(), index=FlatIndex(64)) as rag,
        pytest.raises(ConfigurationError, match="because each shard needs its own index"),
    ):
        rag.search("apple")
