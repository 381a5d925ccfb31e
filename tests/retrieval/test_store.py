from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError, IndexMismatchError, StorageError
from leanrag.retrieval.store import Entry, MissingChunkError, Store
from leanrag.types import Chunk, Document, Mark, locate
from tests.examples import max_examples

DIM = 4


def vector(number: int) -> np.ndarray:
    row = np.array([1.0, number, number**2, 1.0], np.float32)
    return row / np.linalg.norm(row)


def entry(
    document: Document,
    *,
    number: int = 1,
    root: str | None = None,
    cuts: tuple[int, ...] = (),
    features: dict[str, list[bytes]] | None = None,
) -> Entry:
    """`document` cut at `cuts`, with a vector of its own for each chunk."""
    edges = [0, *cuts, len(document.text)]
    chunks = [
        Chunk(document.id, start, end, document.text[start:end], document.title)
        for start, end in itertools.pairwise(edges)
    ]
    vectors = np.array([vector(number + at) for at in range(len(chunks))], np.float32).reshape(-1, DIM)
    return Entry(document, chunks, vectors, root, features=features or {})


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        yield store


def found(store: Store, question: str, k: int = 10) -> list[str]:
    return [chunk.text for chunk in store.get_chunks(store.search_terms(question, k)[1])]


# What goes in comes out


def test_a_document_comes_back_as_it_was(store, tmp_path):
    path = tmp_path / "a.md"
    path.write_text("x")
    document = Document(
        "One two. Three.", id="a", title="T", source=str(path), kind="markdown", metadata={"n": 1, "b": True, "x": None}
    )
    written = entry(document, cuts=(9,), root=str(tmp_path))
    chunks = [
        Chunk("a", 0, 9, "One two. ", "T", source=str(path)),
        Chunk("a", 9, 15, "Three.", "T", "H > I", str(path), "two.", 4),
    ]
    store.put(document, chunks, written.vectors, root=str(tmp_path), file_stat=path.stat())
    assert store.get_document("a") == document
    assert store.get_document("a").metadata["b"] is True
    assert store.get_chunks([2, 1, 2]) == [chunks[1], chunks[0], chunks[1]]
    np.testing.assert_array_equal(store.get_vectors([2, 1]), written.vectors[::-1])
    (record,) = store.documents()
    assert (record.id, record.title, record.source, record.root) == ("a", "T", str(path), str(tmp_path))
    assert (record.sha256, record.chunker_id, record.chunks) == (document.sha256, "chunker", 2)
    assert (record.size, record.mtime_ns) == (1, path.stat().st_mtime_ns)
    assert record.metadata == {"n": 1, "b": True, "x": None}
    store.check()


@max_examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(), max_size=60),
    identity=st.text(st.characters(), min_size=1, max_size=8),
    title=st.text(st.characters(), max_size=8),
    metadata=st.dictionaries(
        st.text(st.characters(), max_size=5),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(), max_size=5),
        max_size=3,
    ),
    data=st.data(),
)
def test_any_text_comes_back_exactly(store, text, identity, title, metadata, data):
    document = Document(text, id=identity, title=title, metadata=metadata)
    cut = data.draw(st.integers(0, len(text)))
    written = entry(document, cuts=(cut,))
    store.put_many([written])
    assert store.get_document(identity) == document
    ids = store.filter_ids(metadata)
    chunks = store.get_chunks(ids[-2:])
    assert chunks == list(written.chunks)
    assert [chunk.text for chunk in chunks] == [text[:cut], text[cut:]]


@max_examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    identity=st.text(st.characters(), min_size=1, max_size=8),
    text=st.text(st.characters(), min_size=2, max_size=30),
    data=st.lists(st.binary(max_size=20), min_size=4, max_size=4),
)
def test_what_was_computed_of_a_chunk_comes_back(store, identity, text, data):
    written = entry(Document(text, id=identity), cuts=(1,), features={"a": data[:2], "b": data[2:]})
    store.put_many([entry(Document(text, id=identity + "x"), cuts=(1,), features={"a": [b"1", b"2"]}), written])
    first, second = written.chunks
    assert [store.get_feature(name, chunk) for name in "ab" for chunk in (first, second)] == data
    for name, chunk in [
        ("c", first),
        ("a", Chunk(identity + "?", first.start, first.end, first.text)),
        ("a", Chunk(identity, 0, len(text), text)),
    ]:
        assert store.get_feature(name, chunk) is None


def test_what_is_computed_later_is_kept_for_chunks_that_did_not_change(store):
    old = entry(Document("old text", id="a"), cuts=(3,), features={"f": [b"1", b"2"]})
    store.put_many([old])
    generation = store.generation
    store.put_feature("f", [(old.chunks[0], b"3")])
    store.put_feature("g", [(chunk, b"4") for chunk in old.chunks])
    assert [store.get_feature(name, chunk) for name in "fg" for chunk in old.chunks] == [b"3", b"2", b"4", b"4"]
    assert store.generation == generation
    new = entry(Document("new text", id="a"), cuts=(3,))
    store.put_many([new])
    store.put_feature("f", [(old.chunks[0], b"5"), (old.chunks[1], b"6")])
    assert [store.get_feature("f", chunk) for chunk in new.chunks] == [None, b"6"]  # " text" is as it was


def features(store: Store) -> int:
    """Rows of what was computed."""
    with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
        count = connection.execute("SELECT count(*) FROM features").fetchone()[0]
    connection.close()
    return count


def test_what_was_computed_goes_with_its_document(store):
    old = entry(Document("old text", id="a"), cuts=(3,), features={"f": [b"1", b"2"]})
    store.put_many([old, entry(Document("kept", id="b"), features={"f": [b"3"]})])
    assert features(store) == 3
    new = entry(Document("new text", id="a"), cuts=(3,))
    store.put_many([new])
    assert store.get_feature("f", new.chunks[0]) is None
    assert features(store) == 1
    assert store.remove(["b"]) == 1
    assert features(store) == 0


def test_too_few_of_a_feature_are_refused_and_nothing_is_written(store):
    with pytest.raises(ConfigurationError, match="'a' has 2 chunks, got 1 values of feature 'f'"):
        store.put_many([entry(Document("one two", id="a"), cuts=(3,), features={"f": [b"1"]})])
    assert store.stats().documents == 0


def test_replacing_a_document_leaves_nothing_of_the_old_one(store):
    store.put_many(
        [entry(Document("old words", id="a", metadata={"v": 1}), cuts=(3,)), entry(Document("kept", id="b"))]
    )
    store.put_many([entry(Document("new text", id="a", metadata={"v": 2}))])
    assert store.get_document("a").text == "new text"
    assert found(store, "old words") == []
    assert found(store, "new") == ["new text"]
    assert store.filter_ids({"v": 1}).tolist() == []
    assert store.chunk_ids().tolist() == [3, 4]  # ids are not used again
    with pytest.raises(MissingChunkError, match="no chunk 1 "):
        store.get_chunks([3, 1])
    with pytest.raises(LookupError):
        store.get_vectors([1])
    assert (store.stats().documents, store.stats().chunks) == (2, 2)
    store.check()


def test_removing_documents(store):
    store.put_many([entry(Document("one", id=name)) for name in "abc"])
    assert store.remove(["a", "c", "unknown", "a"]) == 2
    assert [record.id for record in store.documents()] == ["b"]
    assert len(found(store, "one")) == 1
    with pytest.raises(ConfigurationError, match="no document 'a'"):
        store.get_document("a")
    store.check()


def test_touch_records_a_file_without_changing_the_content(store, tmp_path):
    store.put_many([entry(Document("one", id="a"))])
    generation = store.generation
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    store.touch("a", path.stat())
    (record,) = store.documents()
    assert (record.size, record.mtime_ns) == (5, path.stat().st_mtime_ns)
    assert store.generation == generation


def test_all_vectors(store):
    assert store.all_vectors()[1].shape == (0, DIM)
    many = Document("x" * 5000, id="many")
    store.put_many([entry(many, cuts=tuple(range(1, 5000)))])
    ids, vectors = store.all_vectors()
    assert ids.tolist() == list(range(1, 5001))
    np.testing.assert_array_equal(vectors, store.get_vectors(ids))
    np.testing.assert_array_equal(vectors[4999], vector(5000))
    ids, vectors = store.all_vectors(after=4999)
    assert ids.tolist() == [5000]
    np.testing.assert_array_equal(vectors[0], vector(5000))


def test_each_change_is_one_generation(store):
    assert store.generation == 0
    store.put_many([entry(Document("one", id="a")), entry(Document("two", id="b"))])
    assert store.generation == 1
    assert store.remove(["unknown"]) == 0
    store.put_many([])
    assert store.generation == 1
    with Store(store.folder) as other:
        assert other.remove(["a"]) == 1
    assert store.generation == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda e: Entry(e.document, e.chunks, e.vectors[:, :3]),
            r"the shape \(1, 4\), a row for each chunk, got \(1, 3\)",
        ),
        (lambda e: Entry(e.document, [], e.vectors), r"the shape \(0, 4\), a row for each chunk"),
        (lambda e: Entry(e.document, e.chunks, e.vectors * np.nan), "unit norm, got a vector of norm nan"),
        (
            lambda e: Entry(e.document, e.chunks, e.vectors * 2),
            "the vectors of 'a' must have unit norm, got a vector of norm 2.0",
        ),
        (lambda e: Entry(e.document, e.chunks, e.vectors * 0), "unit norm, got a vector of norm 0.0"),
        (lambda e: Entry(e.document, [Chunk("b", 0, 3, "one")], e.vectors), "not a span"),
        (lambda e: Entry(e.document, [Chunk("a", 0, 3, "two")], e.vectors), "not a span"),
        (lambda e: Entry(e.document, [Chunk("a", 1, 3, "ne", lead="n")], e.vectors), "the lead of chunk .* not a span"),
        (lambda e: Entry(Document("one", id="a", metadata={"x": [1, [2]]}), e.chunks, e.vectors), r"'x': \[2\]"),
        (lambda e: Entry(Document("one", id="a", metadata={"x": {"y": 1}}), e.chunks, e.vectors), r"'x': \{'y': 1\}"),
        (lambda e: Entry(Document("one", id="a", metadata={"x": float("nan")}), e.chunks, e.vectors), "finite"),
        (lambda e: Entry(Document("one", id="a", metadata={"x": 2**63}), e.chunks, e.vectors), "64 bits"),
    ],
)
def test_a_wrong_entry_is_refused_and_nothing_written(store, change, complaint):
    good = entry(Document("one", id="a"))
    with pytest.raises(ConfigurationError, match=complaint):
        store.put_many([entry(Document("two", id="b")), change(good)])
    assert list(store.documents()) == []


# Words


def test_better_matches_come_first_and_scores_are_positive(store):
    texts = ["red apple", "green apple", "red red pear", "blue sky", "grey stone", "dark night", "warm wind"]
    store.put_many([entry(Document(text, id=text)) for text in texts])
    scores, ids = store.search_terms("red apples?", 10)
    assert [chunk.text for chunk in store.get_chunks(ids)] == ["red apple", "red red pear", "green apple"]
    assert (scores > 0).all()
    assert (np.diff(scores) < 0).all()
    assert store.search_terms("red apples?", 1)[1].tolist() == [1]
    best, ids = store.search_terms("red apple", 10, allowed=np.array([2, 3, 99]))
    assert sorted(ids.tolist()) == [2, 3]
    assert best.max() == scores[1]  # a filter changes no score
    assert store.search_terms("red", 10, allowed=np.array([], np.int64))[1].tolist() == []
    assert len(store.search_terms("red", 10, allowed=np.arange(100_000))[1]) == 2


@pytest.mark.parametrize("allowed", [None, np.arange(1, 8), np.arange(100_000)], ids=["all", "few", "many"])
def test_what_matches_besides_the_best_has_the_same_score(store, allowed):
    texts = ["red apple", "green apple", "red red pear", "blue sky", "grey stone", "dark night", "warm wind"]
    store.put_many([entry(Document(text, id=text)) for text in texts])
    scores, ids = store.search_terms("red apple", 9)
    assert len(ids) == 3
    more, more_ids = store.search_terms("red apple", 1, allowed=allowed, also=np.array([4, ids[2], ids[0]]))
    assert (more_ids.tolist(), more.tolist()) == ([ids[0], ids[2]], [scores[0], scores[2]])
    assert store.search_terms("red apple", 1, allowed=allowed, also=np.array([], np.int64))[1].tolist() == [ids[0]]


def test_bm25_by_hand(store):
    # Five chunks of two words, N = 5; "apple" is in two: idf = ln((5 - 2 + 0.5) / (2 + 0.5)). The lengths are the
    # average, which makes b drop out: tf (k1 + 1) / (tf + k1) = 2.2 / 2.2.
    store.put_many([entry(Document(text, id=text)) for text in ("red apple", "an apple", "a b", "c d", "e f")])
    scores, ids = store.search_terms("apple", 5)
    np.testing.assert_allclose(scores, np.log(3.5 / 2.5) * np.ones(2), rtol=1e-5)
    assert ids.tolist() == [1, 2]


def test_a_word_in_the_title_counts_double(store):
    store.put_many([entry(Document("x y", id="in title", title="apple pie")), entry(Document("apple pie x y", id="b"))])
    store.put_many([entry(Document(f"filler text number {n}", id=str(n))) for n in range(5)])
    assert store.search_terms("apple", 5)[1].tolist() == [1, 2]


def test_words_match_without_case_accents_and_endings(store):
    store.put_many([entry(Document("Naïve CATS were running.", id="a"))])
    for question in ("naive", "NAÏVE", "cat", "ran? run!", 'cats\' "running"'):
        assert found(store, question), question
    assert found(store, "dog") == []


def test_function_words_are_asked_for_only_alone(store):
    store.put_many([entry(Document("who is it", id="a")), entry(Document("tall tower", id="b"))])
    assert found(store, "who is the tallest tower?") == ["tall tower"]
    assert found(store, "Who is?") == ["who is it"]


def test_scripts_without_spaces(store):
    store.put_many([entry(Document("私は東京都に住む", id="a")), entry(Document("京の東", id="b"))])
    assert found(store, "東京はどこ?") == ["私は東京都に住む"]
    assert found(store, "in 東京 now") == ["私は東京都に住む"]
    assert found(store, "住") == ["私は東京都に住む"]


@max_examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text("\"'()*^:+-AND OR NOT NEAR{}東京\x00", max_size=30) | st.text(st.characters(), max_size=20))
def test_any_question_is_valid(store, question):
    store.search_terms(question, 3)


def test_hostile_questions_find_words(store):
    store.put_many([entry(Document("alpha beta", id="a")), entry(Document("gamma", id="b"))])
    for question in (
        '"alpha',
        "alpha AND NOT (",
        "body:alpha*",
        "NEAR(alpha, 3)",
        "alpha; DROP TABLE chunks; --",
        "^alpha",
    ):
        assert found(store, question) == ["alpha beta"], question
    assert found(store, " ".join(f"w{n}" for n in range(3000)) + " gamma") == ["gamma"]
    for question in ("", "  ", "?!", "\x00", '""'):
        assert found(store, question) == [], question
    assert len(store.search_terms("alpha", 0)[1]) == 0


# Filters


def test_filters(store):
    metadata = [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 1.5, "c": None}, {"b": True, 'q"$.x': "z"}, {}]
    store.put_many([entry(Document("t", id=str(at), metadata=values)) for at, values in enumerate(metadata)])
    assert store.filter_ids({}).tolist() == [1, 2, 3, 4, 5]
    assert store.filter_ids({"a": 1}).tolist() == [1, 2]
    assert store.filter_ids({"a": 1.0, "b": "y"}).tolist() == [2]
    assert store.filter_ids({"a": "1"}).tolist() == []
    assert store.filter_ids({"b": True}).tolist() == [4]
    assert store.filter_ids({"c": None}).tolist() == [3]
    assert store.filter_ids({'q"$.x': "z"}).tolist() == [4]
    assert store.filter_ids({"a' OR 1 --": 1}).tolist() == []
    assert store.filter_ids({"a": 1}).dtype == np.int64
    assert store.filter_ids({"a": [1, "2"], "b": "y"}).tolist() == [2]
    with pytest.raises(ConfigurationError, match="a filter"):
        store.filter_ids({"a": [[1]]})
    with pytest.raises(ConfigurationError, match="64 bits"):
        store.filter_ids({"a": 2**64})


# Embedders


def test_another_embedder_is_refused(store):
    store.bind("embedder", DIM, "other chunker")
    for embedder, dim in (("another", DIM), ("embedder", 5)):
        with Store(store.folder) as other, pytest.raises(IndexMismatchError) as caught:
            other.bind(embedder, dim, "chunker")
        assert "'embedder' (dim 4)" in str(caught.value)
        assert f"{embedder!r} (dim {dim})" in str(caught.value)


def test_documents_remember_their_chunker(store):
    store.put_many([entry(Document("one", id="a"))])
    store.bind("embedder", DIM, "second")
    store.bind("embedder", DIM, "")
    store.put_many([entry(Document("two", id="b"))])
    assert [record.chunker_id for record in store.documents()] == ["chunker", "second"]


def test_putting_needs_an_embedder(tmp_path):
    with Store(tmp_path) as store, pytest.raises(ConfigurationError, match="`bind`"):
        store.put_many([entry(Document("one"))])


# Opening


def test_a_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(StorageError, match="is closed"):
        store.get_chunks([])
    with pytest.raises(StorageError, match="is closed"), store.writer():
        pass


def test_everything_is_there_after_reopening(store):
    store.put_many([entry(Document("one", id="a"))])
    store.close()
    with Store(store.folder, create=False) as again:
        assert again.get_document("a").text == "one"
        assert (again.stats().embedder_id, again.stats().dim, again.stats().documents) == ("embedder", DIM, 1)
        assert again.stats().size_bytes == again.path.stat().st_size


def test_what_cannot_be_opened(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(StorageError, match="is a file"):
        Store(file)
    with pytest.raises(StorageError, match="cannot make the folder"):
        Store(file / "below")
    with pytest.raises(StorageError, match="Add documents to it first"):
        Store(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "odd" / "leanrag.db").mkdir(parents=True)
    with pytest.raises(StorageError, match="is a folder, not a database"):
        Store(tmp_path / "odd")


def write_database(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def test_foreign_new_and_broken_files(tmp_path):
    path = tmp_path / "leanrag.db"
    path.write_bytes(b"not a database, but long enough to be taken for one " * 50)
    with pytest.raises(StorageError, match="damaged or not a database") as caught:
        Store(tmp_path)
    assert caught.value.path == path
    path.unlink()
    write_database(path, "CREATE TABLE t (x)")
    with pytest.raises(StorageError, match="another program"):
        Store(tmp_path)
    path.unlink()
    Store(tmp_path).close()
    write_database(path, "PRAGMA user_version = 99")
    with pytest.raises(StorageError, match=r"format 99.*upgrade leanrag"):
        Store(tmp_path)


OLD_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
CREATE TABLE documents (
    key INTEGER PRIMARY KEY, id UNIQUE NOT NULL, title NOT NULL, source, root, kind TEXT NOT NULL,
    sha256 TEXT NOT NULL, chunker_id TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, metadata TEXT NOT NULL,
    text NOT NULL
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, document INTEGER NOT NULL REFERENCES documents (key),
    ordinal INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL, heading NOT NULL, vector BLOB NOT NULL,
    UNIQUE (document, ordinal)
);
CREATE INDEX chunks_by_start ON chunks (document, start);
CREATE TABLE fields (document INTEGER NOT NULL REFERENCES documents (key), name NOT NULL, value);
CREATE INDEX fields_by_value ON fields (name, value);
CREATE INDEX fields_by_document ON fields (document);
CREATE TABLE features (
    chunk INTEGER NOT NULL REFERENCES chunks (id), name TEXT NOT NULL, data BLOB NOT NULL, PRIMARY KEY (chunk, name)
) WITHOUT ROWID;
CREATE VIRTUAL TABLE terms USING fts5 (title, heading, body, tokenize = 'porter unicode61 remove_diacritics 2');
INSERT INTO meta VALUES ('generation', 7);
INSERT INTO meta VALUES ('embedder', '{"id": "embedder", "dim": 4}');
PRAGMA application_id = 1819435367;
PRAGMA user_version = 2;
"""


def write_old_database(folder: Path, version: int, written: Entry) -> None:
    """Write a document as format 1 or 2 has it."""
    folder.mkdir(exist_ok=True)
    write_database(folder / "leanrag.db", *OLD_SCHEMA.split(";\n"))
    document = written.document
    connection = sqlite3.connect(folder / "leanrag.db")
    row = (document.id, document.title, document.kind, document.sha256, document.text.encode("utf-8", "surrogatepass"))
    connection.execute("INSERT INTO documents VALUES (1, ?, ?, NULL, NULL, ?, ?, 'chunker', NULL, NULL, '{}', ?)", row)
    for i, (chunk, row) in enumerate(zip(written.chunks, written.vectors, strict=True)):
        values = (i + 5, i, chunk.start, chunk.end, chunk.heading, row.tobytes())
        connection.execute("INSERT INTO chunks VALUES (?, 1, ?, ?, ?, ?, ?)", values)
        connection.execute("INSERT INTO terms (rowid, title, heading, body) VALUES (?, '', '', 'other')", (i + 5,))
        for name, data in written.features.items():
            connection.execute("INSERT INTO features VALUES (?, ?, ?)", (i + 5, name, data[i]))
    connection.commit()
    connection.close()
    if version == 1:
        write_database(
            folder / "leanrag.db", "DROP TABLE features", "DROP INDEX chunks_by_start", "PRAGMA user_version = 1"
        )


def schema(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type || ' ' || name FROM sqlite_master").fetchall()
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return {name for (name,) in rows} | {f"format {version}"}


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_folder_is_brought_up_to_date(tmp_path, version):
    with Store(tmp_path / "fresh"):
        pass
    written = entry(
        Document("old \ud800 Wörter " * 900, id="a", title="T"), cuts=(3, 9000), features={"f": [b"1", b"2", b"3"]}
    )
    write_old_database(tmp_path / "old", version, written)
    with Store(tmp_path / "old") as store:
        store.bind("embedder", DIM, "chunker")
        assert schema(store.path) == schema(tmp_path / "fresh" / "leanrag.db")
        assert store.generation == 7
        assert store.get_document("a") == written.document
        assert store.chunk_ids().tolist() == [5, 6, 7]
        assert store.get_chunks([5, 6, 7]) == list(written.chunks)
        np.testing.assert_array_equal(store.get_vectors([5, 6, 7]), written.vectors)
        assert found(store, "worter") == [chunk.text for chunk in written.chunks[1:]]
        assert store.get_feature("f", written.chunks[1]) == (b"2" if version == 2 else None)
        fresh = entry(Document("new", id="b"), features={"f": [b"data"]})
        store.put_many([fresh])
        assert store.chunk_ids().tolist() == [5, 6, 7, 8]
        assert store.get_feature("f", fresh.chunks[0]) == b"data"
        store.check()
        assert store.remove(["a"]) == 1
        store.check()


def test_a_folder_of_format_3_gets_room_for_marks_and_checksums(tmp_path):
    written = entry(Document("old words", id="a"))
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        store.put_many([written])
        current = schema(store.path)
    write_database(
        tmp_path / "leanrag.db",
        "DROP TABLE marks",
        "DROP TABLE checksums",
        "DROP INDEX documents_by_text",
        "PRAGMA user_version = 3",
    )
    with Store(tmp_path) as store:
        assert schema(store.path) == current
        assert store.get_document("a") == written.document
        assert store.find_damage() == []
        store.put_many([entry(Document("new", id="a", marks=(Mark(0, "page 1"),)))])
        assert store.get_document("a").marks == (Mark(0, "page 1"),)


def test_an_upgrade_is_made_once_by_whoever_comes_first(tmp_path):
    write_old_database(tmp_path, 1, entry(Document("old words", id="a")))
    errors = []

    def work():
        try:
            Store(tmp_path).close()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert "format 4" in schema(tmp_path / "leanrag.db")
    with Store(tmp_path) as store:
        assert found(store, "words") == ["old words"]


def test_a_failed_upgrade_leaves_the_old_folder(tmp_path, monkeypatch):
    write_old_database(tmp_path, 2, entry(Document("old words", id="a")))
    before = schema(tmp_path / "leanrag.db")
    with monkeypatch.context() as patch:
        patch.setattr("leanrag.retrieval.schema.insert_terms", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Store(tmp_path)
    assert schema(tmp_path / "leanrag.db") == before
    with Store(tmp_path) as store:
        assert found(store, "words") == ["old words"]


def test_an_empty_file_is_an_empty_database(tmp_path):
    (tmp_path / "leanrag.db").touch()
    with Store(tmp_path) as store:
        assert store.stats().documents == 0


@max_examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), filling=st.text(st.characters(), min_size=1, max_size=7))
def test_a_chunk_of_a_long_text_is_read_alone(store, data, filling):
    text = (filling * 15_000)[:13_000]
    edges = sorted(data.draw(st.sets(st.sampled_from([0, 1, 4095, 4096, 4097, 8192, 12_288, len(text)]), min_size=2)))
    lead = data.draw(st.integers(0, edges[1]))
    chunks = [
        Chunk("long", start, end, text[start:end], lead=text[lead : edges[1]], lead_start=lead)
        for start, end in itertools.pairwise(edges)
        if end <= len(text)
    ]
    store.put(Document(text, id="long"), chunks, np.array([vector(1)] * len(chunks)))
    statements = []
    with store._database.reading() as connection:
        connection.set_trace_callback(statements.append)
        assert store.get_chunks(store.chunk_ids().tolist()) == chunks
        connection.set_trace_callback(None)
    assert not any("sha256" in statement or "part BETWEEN 0 AND 4611" in statement for statement in statements)
    assert store.get_document("long").text == text


def test_a_search_among_many_allowed_ids_finds_what_one_among_few_finds(store):
    text = "tea " * 3000
    store.put_many([entry(Document(text, id="a"), cuts=tuple(range(4, len(text), 4)))])
    ids = store.chunk_ids()
    allowed = ids[ids % 7 != 0]
    assert len(allowed) > 2000
    scores, found_ids = store.search_terms("tea", 900, allowed=allowed)
    assert found_ids.tolist() == allowed[:900].tolist()
    some = store.search_terms("tea", 900, allowed=allowed[:1500])
    assert (some[0].tolist(), some[1].tolist()) == (scores.tolist(), found_ids.tolist())


@pytest.mark.parametrize(
    ("change", "read", "complaint"),
    [
        ("UPDATE vectors SET data = zeroblob(15)", lambda s: s.get_vectors([1]), "damaged"),
        ("UPDATE vectors SET data = zeroblob(16)", lambda s: s.get_vectors([1]), "not of unit norm"),
        (
            "UPDATE vectors SET data = zeroblob(16)",
            lambda s: s.check(),
            "a: the vector of chunk 0 has not 4 numbers",
        ),
        ("UPDATE texts SET text = 'another text'", lambda s: s.check(), "a: the text is not what was stored"),
        ("UPDATE texts SET text = 'o'", lambda s: s.get_chunks([1]), "is not what was stored"),
        ("UPDATE texts SET text = x'ff'", lambda s: s.get_document("a"), "damaged"),
        ("UPDATE documents SET metadata = '{'", lambda s: s.get_document("a"), "damaged"),
        ("UPDATE documents SET metadata = '{'", lambda s: list(s.documents()), "damaged"),
        ("UPDATE documents SET title = x'ff'", lambda s: list(s.documents()), "damaged"),
        ("UPDATE meta SET value = 'x' WHERE key = 'generation'", lambda s: s.generation, "damaged"),
        ("UPDATE meta SET value = '{}' WHERE key = 'embedder'", lambda s: s.all_vectors(), "damaged"),
        ("DELETE FROM vectors", lambda s: s.check(), "a: chunk 0 has no vector"),
    ],
)
def test_damaged_values_are_storage_errors(store, change, read, complaint):
    store.put_many([entry(Document("one text", id="a"))])
    store.close()
    write_database(store.path, change)
    with Store(store.folder) as again, pytest.raises(StorageError, match=complaint) as caught:
        read(again)
    assert caught.value.path == store.path


def test_damage_is_found(store):
    store.put_many([entry(Document("one", id="a"))])
    store.close()
    write_database(store.path, "DELETE FROM terms")
    with (
        Store(store.folder) as again,
        pytest.raises(StorageError, match="a: the words of chunk 0 are not those of its text"),
    ):
        again.check()


def test_a_damaged_page_is_a_storage_error(store):
    store.put_many([entry(Document("word " * 2000, id=str(n))) for n in range(20)])
    store.close()
    content = bytearray(store.path.read_bytes())
    content[4096 : len(content) - 4096] = b"\xa5" * (len(content) - 8192)
    store.path.write_bytes(content)
    with pytest.raises(StorageError, match="restore it from a backup"), Store(store.folder) as again:
        list(again.documents())


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="POSIX permissions")
def test_a_read_only_folder_opens_for_reading():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # the superuser's own temporary folder is closed to others
        folder = Path(name)
        with Store(folder) as store:
            store.bind("embedder", DIM, "chunker")
            store.put_many([entry(Document("one", id="a"))])
        modes = {path: path.stat().st_mode for path in (store.path, folder)}
        user = os.geteuid()
        try:
            store.path.chmod(0o444)
            for path in (folder / "writer.lock", folder):
                path.chmod(0o555)
            if user == 0:
                os.seteuid(65534)
            with Store(folder) as store:
                assert store.read_only
                store.bind("embedder", DIM, "chunker")
                assert found(store, "one") == ["one"]
                for write in (lambda: store.put_many([entry(Document("two"))]), lambda: store.remove(["a"])):
                    with pytest.raises(StorageError, match="read-only") as caught:
                        write()
                    assert caught.value.path == store.path
            assert sorted(path.name for path in folder.iterdir()) == ["leanrag.db", "writer.lock"]
            with pytest.raises(StorageError, match="cannot make the folder"):
                Store(folder / "new")
        finally:
            os.seteuid(user)
            for path, mode in modes.items():
                path.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="POSIX permissions")
def test_a_read_only_folder_of_an_older_format_says_what_to_do():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_old_database(folder, 2, entry(Document("one", id="a")))
        path, mode, user = folder / "leanrag.db", folder.stat().st_mode, os.geteuid()
        try:
            path.chmod(0o444)
            folder.chmod(0o555)
            if user == 0:
                os.seteuid(65534)
            with pytest.raises(StorageError, match=r"has format 2 and is read-only.* reads format 4. Make") as caught:
                Store(folder)
            assert caught.value.path == path
        finally:
            os.seteuid(user)
            folder.chmod(mode)
        assert "format 2" in schema(path)


# Marks


def test_a_chunk_has_the_marks_in_it_and_the_last_before_it(store):
    marks = (Mark(2, "page 1"), Mark(10, "page 2"), Mark(20, "page 3"))
    store.put_many([entry(Document("x" * 30, id="a", marks=marks), cuts=(2, 12, 20))])
    chunks = store.get_chunks(store.chunk_ids())
    assert [chunk.marks for chunk in chunks] == [(), marks[:2], marks[1:2], marks[2:]]
    assert store.get_document("a").marks == marks
    store.remove(["a"])
    connection = sqlite3.connect(store.path)
    assert connection.execute("SELECT count(*) FROM marks").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize("starts", [(3, 2), (2, 2), (-1,), (6,)])
def test_marks_outside_of_the_text_or_out_of_order_are_refused(store, starts):
    marks = tuple(Mark(start, f"page {start}") for start in starts)
    with pytest.raises(ConfigurationError, match="inside its text of 5 characters, each after the mark before it"):
        store.put_many([entry(Document("words", id="a", marks=marks))])


@given(st.lists(st.integers(0, 40), unique=True).map(sorted), st.integers(0, 40), st.integers(0, 40))
def test_a_span_is_located_by_the_marks_that_it_touches(starts, start, length):
    marks = tuple(Mark(at, f"page {at}") for at in starts)
    pages = [max((at for at in starts if at <= i), default=None) for i in range(start, start + max(length, 1))]
    touched = [f"page {page}" for page in (pages[0], pages[-1]) if page is not None]
    assert locate(marks, start, start + length) == " to ".join(dict.fromkeys(touched))


# Threads and processes


def run_python(code: str, *arguments: str, **options) -> subprocess.Popen:
    head = "import os, signal, sys\nfrom tests.retrieval.test_store import *\n"
    command = [sys.executable, "-c", head + textwrap.dedent(code), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, **options)


@pytest.mark.parametrize("statement", ["INSERT INTO documents", "INSERT INTO terms", "UPDATE meta", "COMMIT"])
@pytest.mark.slow
def test_a_killed_writer_loses_nothing_committed(tmp_path, statement):
    code = """
        store = Store(sys.argv[1])
        store.bind("embedder", DIM, "chunker")
        store.put_many([entry(Document("first version", id="a")), entry(Document("other", id="b"))])
        def die(sql):
            if sql.startswith(sys.argv[2]):
                os._exit(9)
        store._database._connection.set_trace_callback(die)
        store.put_many([entry(Document("second version " * 500, id="a")), entry(Document("third", id="c"))])
    """
    process = run_python(code, str(tmp_path), statement)
    process.communicate(timeout=60)
    assert process.returncode == 9
    with Store(tmp_path) as store:
        store.check()
        assert [record.id for record in store.documents()] == ["a", "b"]
        assert found(store, "version") == ["first version"]
        assert store.generation == 1
        store.put_many([entry(Document("fourth", id="d"))])  # and no lock is left
        assert store.generation == 2


@pytest.mark.slow
def test_a_process_killed_while_making_the_database_leaves_none(tmp_path):
    code = """
        def traced(*arguments, connect=sqlite3.connect, **options):
            connection = connect(*arguments, **options)
            connection.set_trace_callback(lambda sql: os._exit(9) if sql.startswith("CREATE INDEX") else None)
            return connection
        sqlite3.connect = traced
        Store(sys.argv[1])
    """
    process = run_python(code, str(tmp_path))
    process.communicate(timeout=60)
    assert process.returncode == 9
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        store.put_many([entry(Document("one", id="a"))])
        store.check()


@pytest.mark.slow
def test_one_process_writes_and_its_death_frees_the_folder(store):
    code = """
        with Store(sys.argv[1]) as store, store.writer():
            store.put_many([entry(Document("theirs", id="b"))])
            print("writing", flush=True)
            sys.stdin.read()
    """
    process = run_python(code, str(store.folder), stdin=subprocess.PIPE)
    try:
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(StorageError, match="another process is writing"):
            store.put_many([entry(Document("ours", id="a"))])
        assert found(store, "theirs") == ["theirs"]  # readers see each commit at once
    finally:
        process.kill()
        process.communicate(timeout=60)
    store.put_many([entry(Document("ours", id="a"))])
    assert [record.id for record in store.documents()] == ["b", "a"]


def test_readers_are_not_held_up_by_a_writer_and_threads_take_turns(store):
    store.put_many([entry(Document("one", id="a"))])
    done: list[str] = []

    def write() -> None:
        store.put_many([entry(Document("two", id="b"))])
        done.append("second")

    thread = threading.Thread(target=write)
    with store.writer():
        thread.start()
        reader = threading.Thread(target=lambda: done.append(found(store, "one")[0]))
        reader.start()
        reader.join(timeout=30)
        assert done == ["one"]
        with store.writer():  # a block inside a block
            store.put_many([entry(Document("three", id="c"))])
        done.append("first")
    thread.join(timeout=30)
    assert done == ["one", "first", "second"]
    assert [record.id for record in store.documents()] == ["a", "c", "b"]


def test_many_threads(store):
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for at in range(5):
                store.put_many([entry(Document(f"shared text {number}", id=f"{number}-{at}"))])
                own = min(at + 1, 2)  # the others were removed; other threads may be done or not have begun
                assert len(store.get_chunks(store.search_terms("shared", 100)[1])) >= own
                store.remove([f"{number}-{at - 1}"])
        except BaseException as error:  # noqa: BLE001 - reported by the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Another thread may remove a chunk between search and look-up; nothing else may go wrong.
    assert [error for error in failures if not isinstance(error, MissingChunkError)] == []
    store.check()


def test_a_failed_write_leaves_the_old_state(store):
    store.put_many([entry(Document("one", id="a"))])
    store._database._connection.set_progress_handler(lambda: 1, 200)  # SQLite gives up in the middle
    with pytest.raises(StorageError, match="interrupted"):
        store.put_many([entry(Document("two " * 300, id=str(n))) for n in range(20)])
    store._database._connection.set_progress_handler(None, 0)
    assert [record.id for record in store.documents()] == ["a"]
    store.check()


def _use_in_fork(store: Store, answers) -> None:
    try:
        store.generation  # noqa: B018 - it raises
    except StorageError as error:
        answers.put(str(error))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_is_told_to_open_again(store):
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=_use_in_fork, args=(store, answers))
    process.start()
    process.join(timeout=60)
    assert "Open it again in this process" in answers.get()
    assert store.generation == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
def test_a_fork_can_close_while_another_thread_reads(store):
    code = """
        store = Store(sys.argv[1])
        with store._database.reading():
            child = os.fork()  # the lock is taken, and its thread is another one in the child
            if child == 0:
                closing = threading.Thread(target=store.close, daemon=True)
                closing.start()
                closing.join(20)
                os._exit(closing.is_alive())
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    process = run_python(code, str(store.folder))
    process.communicate(timeout=60)
    assert process.returncode == 0


# Readers and writers at the same time


def in_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    thread.join(60)
    return results


def error_of(work) -> str:
    with pytest.raises(StorageError) as caught:
        work()
    return str(caught.value)


def test_a_reader_waits_for_nobody_and_sees_the_last_commit(store):
    store.put_many([entry(Document("one apple", id="a"))])
    with store._database.reading(one_view=True) as connection:
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (1,)
        assert in_thread(store.count_chunks) == [1]
        with store._database.writing() as writer:
            writer.execute("DELETE FROM documents")
            assert store.stats().documents == 0  # this thread sees what it wrote
            assert in_thread(lambda: store.stats().documents) == [1]
        assert in_thread(lambda: store.stats().documents) == [0]
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (1,)  # one view


def test_a_store_may_be_closed_while_another_thread_reads(store):
    store.put_many([entry(Document("one apple", id="a"))])
    with store._database.reading() as connection:
        assert in_thread(store.close) == [None]
        assert connection.execute("SELECT count(*) FROM documents").fetchone() == (1,)
    with pytest.raises(StorageError, match="is closed"):
        store.count_chunks()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be removed")
@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_written_to_a_database_that_was_removed_or_replaced(store, is_replaced):
    store.put_many([entry(Document("one", id="a"))])
    content = store.path.read_bytes()
    store.path.unlink()
    if is_replaced:
        store.path.with_name("new").write_bytes(content)
        store.path.with_name("new").rename(store.path)
    for write in (lambda: store.put_many([entry(Document("two", id="b"))]), lambda: store.remove(["a"])):
        with pytest.raises(StorageError, match="removed or replaced while it was open; open the folder again"):
            write()


def test_a_database_that_vanished_is_not_made_anew(store):
    with store._database.reading():
        for path in store.folder.iterdir():
            path.unlink()
        (error,) = in_thread(lambda: error_of(store.count_chunks))
        assert "unable to open" in error
    assert not store.path.exists()


# Records of some documents


PATHS = ["/a", "/a/b.md", "/a/b/c.md", "/a0", "/a b/c.md", "/b/\udcff.md", "/b\udcff/c.md", "/é/c.md"]


@pytest.mark.parametrize("path", ["/a", "/a/", "/b", "/b\udcff", "/a/b", "/é", "/", "/x"])
def test_documents_below_a_path_are_found(store, path):
    for name in PATHS:
        store.put_many([entry(Document("text", id=name, source=name))])
    prefix = path.rstrip("/") + "/"
    expected = [name for name in PATHS if name in (path, prefix[:-1]) or name.startswith(prefix)]
    assert store.find_documents(path, prefix[:-1] or "/") == expected
    assert {record.id for record in store.records_below([path])} == {
        name for name in PATHS if name == path or name.startswith(prefix)
    }


def test_a_document_is_found_by_an_id_that_is_not_a_path(store):
    store.put_many([entry(Document("text", id="manual")), entry(Document("text", id="/x/manual"))])
    assert store.find_documents("manual", "/x/manual") == ["manual", "/x/manual"]
    assert store.find_documents("other", "/x/other") == []


def test_records_of_some_documents_are_those_of_all(store):
    store.put_many(
        [entry(Document(f"text {i}", id=str(i)), cuts=(2, 4)[: i % 3], root=f"/r{i % 2}") for i in range(1200)]
    )
    known = {record.id: record for record in store.documents()}
    assert known["2"].chunks == 3
    some = store.get_records([*map(str, range(0, 1300, 2)), "unknown", "0"])
    assert len(some) == 600
    assert {record.id: record for record in some} == {str(i): known[str(i)] for i in range(0, 1200, 2)}
    assert len(store.records_below(["/r1"])) == 600
    assert store.records_below([]) == store.get_records([]) == []


# Passages


def test_chunks_between_two_characters_come_in_document_order(store):
    document = Document("One two. Three. Four.", id="a")
    store.put_many([entry(Document("One two.", id="b")), entry(document, cuts=(9, 16))])
    ids = store.chunk_ids_within("a", 0, 16)
    assert [chunk.text for chunk in store.get_chunks(ids)] == ["One two. ", "Three. "]
    assert len(store.chunk_ids_within("a", 1, 21)) == 2
    assert len(store.chunk_ids_within("a", 9, 15)) == 0
    assert len(store.chunk_ids_within("unknown", 0, 21)) == 0


def test_a_passage_has_the_text_and_the_marks_between_two_characters(store):
    text = "ab" * 5000
    marks = (Mark(0, "page 1"), Mark(4000, "page 2"), Mark(9000, "page 3"))
    store.put_many([entry(Document(text, id="a", marks=marks))])
    assert store.read_passage("a", 4095, 8200) == (text[4095:8200], marks[1:2])
    assert store.read_passage("unknown", 0, 3) == ("", ())
