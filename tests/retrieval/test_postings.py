"""BM25 from arrays has the scores of SQLite, whatever was added and removed, and whatever happened to its files."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.retrieval import posting_index, postings
from leanrag.retrieval.posting_files import read_segment, write_segment
from leanrag.retrieval.posting_index import PostingIndex
from leanrag.retrieval.postings import Postings, Tokenizer, make_segment, merge_segments
from leanrag.retrieval.store import Store
from leanrag.retrieval.terms import parse_query
from leanrag.types import Document
from tests.examples import max_examples
from tests.retrieval.test_store import DIM, entry

WORDS = "apple apples pear running runs the of to_do ERR-4021 v1.2.3 Café ünïcode 日本語 한국어 x 2024-03-05".split()
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        yield store


def put(store: Store, number: int, text: str) -> None:
    document = Document(text, id=str(number), title=text.split()[0])
    store.put_many([entry(document, cuts=(len(text) // 2,) if len(text) > 8 else ())])


def current(index: PostingIndex, store: Store) -> Postings:
    for _ in range(2):
        with store._database.reading(one_view=True) as connection:
            postings = index.current(connection)
        if postings is not None:
            return postings
        index.wait()
    raise AssertionError("the background made no postings")


def check_equal(index: PostingIndex, store: Store, question: str, k: int = 5, **options) -> bool:
    """Compare with SQLite; return whether the arrays could answer."""
    if not store.count_chunks():
        return False
    postings, keys = current(index, store), index.keys_of(parse_query(question).terms)
    if keys is None:
        return False
    scores, ids = postings.search(keys, k, **{"allowed": None, "also": None, **options})
    expected, expected_ids = store.search_terms(question, k, **options)
    assert ids.tolist() == expected_ids.tolist()
    assert scores.dtype == expected.dtype
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    return True


@max_examples(25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.slow
def test_scores_are_those_of_sqlite_after_any_changes(tmp_path_factory, data):
    with Store(tmp_path_factory.mktemp("kb")) as store:
        store.bind("embedder", DIM, "chunker")
        index = PostingIndex(store._database, store._counter, least=1)
        for _ in range(data.draw(st.integers(1, 4))):
            for number in data.draw(st.sets(st.integers(0, 9), min_size=1)):
                put(store, number, data.draw(texts))
            store.remove(map(str, data.draw(st.sets(st.integers(0, 9), max_size=4))))
            ids = store.chunk_ids()
            chosen = st.lists(st.sampled_from([*ids.tolist(), 999]), unique=True).map(
                lambda some: np.array(some, np.int64)
            )
            allowed = data.draw(st.none() | chosen.map(np.sort))
            also = data.draw(st.none() | chosen)
            if allowed is not None and also is not None:
                also = also[np.isin(also, allowed)]
            for question in data.draw(st.lists(texts, min_size=1, max_size=3)):
                check_equal(index, store, question, k=data.draw(st.integers(1, 9)), allowed=allowed, also=also)


def test_most_questions_are_answered_from_arrays(store):
    for number, word in enumerate(WORDS):
        put(store, number, f"{word} and another apple")
    index = PostingIndex(store._database, store._counter, least=1)
    assert all(check_equal(index, store, word) for word in WORDS if not word.startswith(("日", "한")))
    assert index.keys_of(("한*",)) is None  # a prefix
    assert index.keys_of(("two words",)) is None
    assert index.keys_of(("!",)) == [0]  # no token: nothing has it


def test_a_small_folder_is_searched_by_sqlite(store):
    put(store, 1, "one apple")
    index = PostingIndex(store._database, store._counter, least=3)
    with store._database.reading() as connection:
        assert index.current(connection) is None
    put(store, 2, "one apple and two pears")
    assert len(current(index, store).ids) == 4  # two chunks each


def test_few_new_chunks_are_read_by_the_search_itself(store, monkeypatch):
    monkeypatch.setattr(posting_index, "_AT_ONCE", 4)
    index = PostingIndex(store._database, store._counter, least=1)
    put(store, 1, "one apple")
    current(index, store)
    put(store, 2, "another apple")
    with store._database.reading(one_view=True) as connection:
        assert index.current(connection) is not None
    assert check_equal(index, store, "apple")
    for number in range(10, 20):
        put(store, number, "many apples")
    with store._database.reading(one_view=True) as connection:
        assert index.current(connection) is None  # SQLite searches meanwhile
    index.wait()
    assert check_equal(index, store, "apple", k=30)


@pytest.fixture
def filed(store, monkeypatch):
    """A store whose postings are in several files."""
    monkeypatch.setattr(posting_index, "_WORTH_A_FILE", 1)
    monkeypatch.setattr(posting_index, "_MOST_MERGED", 4)
    monkeypatch.setattr(posting_index, "_BATCH", 4)
    for number in range(9):
        put(store, number, f"apple {number} and pear {number * 7}")
    current(PostingIndex(store._database, store._counter, least=1), store)
    assert len(list(store.folder.glob("postings-*.bin"))) > 1
    return store


def tokenized(monkeypatch) -> list[int]:
    """How many chunks are tokenized from now on, a number for each time."""
    counts = []
    make = posting_index.make_segment

    def counting(tokenizer, rows):
        counts.append(len(rows))
        return make(tokenizer, rows)

    monkeypatch.setattr(posting_index, "make_segment", counting)
    return counts


def test_files_are_used_again(filed, monkeypatch):
    counts = tokenized(monkeypatch)
    index = PostingIndex(filed._database, filed._counter, least=1)
    assert check_equal(index, filed, "apple pear 7", k=30)
    assert counts == []
    put(filed, 50, "one more apple")
    assert check_equal(index, filed, "apple pear 7", k=30)
    assert counts == [2]


@pytest.mark.parametrize("damage", ["delete", "cut", "flip", "empty", "foreign"])
def test_a_damaged_file_is_made_again(filed, damage):
    path = sorted(filed.folder.glob("postings-*.bin"))[0]
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    else:
        changed = {"cut": data[:-1], "empty": b"", "foreign": b"x" * 9000, "flip": data[:-9] + b"\xff" + data[-8:]}
        path.write_bytes(changed[damage])
    assert check_equal(PostingIndex(filed._database, filed._counter, least=1), filed, "apple pear 7", k=30)
    assert check_equal(PostingIndex(filed._database, filed._counter, least=1), filed, "apple pear 7", k=30)


def test_files_of_another_copy_of_the_database_are_not_read(filed, tmp_path):
    """A backup comes back, and other documents get the ids of those that were lost."""
    with Store(tmp_path / "other") as other:
        other.bind("embedder", DIM, "chunker")
        for number in range(9):
            put(other, number, f"plum {number}")
        for path in filed.folder.glob("postings-*.bin"):
            (other.folder / path.name).write_bytes(path.read_bytes())
        assert check_equal(PostingIndex(other._database, other._counter, least=1), other, "plum apple", k=30)


def test_files_are_part_of_the_database(filed):
    from leanrag.retrieval.database import is_database_file

    assert all(is_database_file(path) for path in filed.folder.iterdir())


def test_removed_chunks_do_not_stay_for_ever(filed):
    index = PostingIndex(filed._database, filed._counter, least=1)
    before = current(index, filed)
    filed.remove(map(str, range(5)))
    check_equal(index, filed, "apple")
    index.wait()
    check_equal(index, filed, "apple")
    assert len(current(index, filed).ids) < len(before.ids)


def test_a_chunk_may_repeat_a_word_more_often_than_a_byte_counts(filed):
    put(filed, 1, "apple " * 600 + "pear")
    put(filed, 2, "apple pie")
    PostingIndex(filed._database, filed._counter, least=1).update()
    index = PostingIndex(filed._database, filed._counter, least=1)  # reads the file
    assert check_equal(index, filed, "apple")
    assert {segment.frequencies.dtype.name for segment in current(index, filed).segments} == {"uint8", "uint16"}


def test_a_closed_store_ends_the_background(tmp_path):
    store = Store(tmp_path / "kb")
    store.bind("embedder", DIM, "chunker")
    put(store, 1, "one apple")
    index = PostingIndex(store._database, store._counter, least=1)
    with store._database.reading(one_view=True) as connection:
        index.current(connection)
    store.close()
    index.wait()


@given(st.lists(texts, max_size=9), st.integers(0, 9))
def test_segments_in_files_and_merged_are_the_same(tmp_path_factory, some, cut):
    tokenizer = Tokenizer()
    rows = [(3 * i + 1, "", "", text, "") for i, text in enumerate(some)]
    whole = make_segment(tokenizer, rows)
    path = tmp_path_factory.mktemp("segment") / "postings-1.bin"
    write_segment(path, whole)
    parts = [make_segment(tokenizer, part) for part in (rows[:cut], rows[cut:])]
    for other in (read_segment(path), merge_segments(parts)):
        for name in ("ids", "sizes", "keys", "starts", "rows", "frequencies"):
            np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))
            assert getattr(other, name).dtype == getattr(whole, name).dtype
    tokenizer.close()


def test_a_store_searches_large_folders_with_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(posting_index, "_LEAST", 5)
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        for number in range(9):
            put(store, number, f"apple {number} and pear {number * 7}")
        by_sqlite = store.search_terms("apple 3", 9)
        store.update_postings()
        by_arrays = store.search_terms("apple 3", 9)
        assert store._posting_index._postings is not None
        np.testing.assert_allclose(by_arrays[0], by_sqlite[0], rtol=1e-6)
        assert by_arrays[1].tolist() == by_sqlite[1].tolist()


@given(st.lists(st.text("ab. -é", max_size=12), min_size=1, max_size=20), st.integers(0, 3))
def test_segments_do_not_depend_on_the_words_that_the_tokenizer_remembers(texts, most):
    rows = [(i, text, "", text[::-1], "") for i, text in enumerate(texts)]
    tokenizer = Tokenizer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postings, "_MOST_WORDS", most)
        for other in texts:
            make_segment(tokenizer, [(0, other, "", "", "")])
        found = make_segment(tokenizer, rows)

    expected = make_segment(Tokenizer(), rows)
    for name in ("ids", "sizes", "keys", "starts", "rows", "frequencies"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
