"""What SQLite commits is in the outbox, in the same transaction."""

import numpy as np
import pytest

from leanrag import StorageError
from leanrag.retrieval import outbox as outbox_module
from leanrag.retrieval.outbox import ForgottenError, Outbox
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document

DIM = 2


def put(store, name, count, **metadata):
    chunks = [Chunk(name, i, i + 1, "x") for i in range(count)]
    vectors = np.tile(np.array([[1, 0]], np.float32), (count, 1))
    store.put(Document("x" * count, id=name, metadata=metadata), chunks, vectors)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        put(store, "old", 2)
        yield store


def changes(store, after):
    rows, removed, position = store.outbox.changes(after, 1000, DIM)
    return rows.ids.tolist(), removed.tolist(), position


def test_a_folder_has_no_outbox_until_it_is_used(store):
    with store._database.reading() as connection:
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name LIKE 'outbox%'").fetchall()
    first = store.outbox.head()
    assert store.outbox.head() == first
    assert changes(store, first) == ([], [], first)


def test_changes_come_as_they_are_now(store):
    start = store.outbox.head()
    put(store, "a", 3)
    put(store, "b", 1, year=1)
    assert changes(store, start)[:2] == ([3, 4, 5, 6], [])
    store.remove(["old"])
    put(store, "a", 1)
    ids, removed, position = changes(store, start)
    assert (ids, removed) == ([6, 7], [1, 2, 3, 4, 5])
    store.update_metadata(["b"], {"year": 2})
    assert changes(store, position)[:2] == ([6], [])
    assert changes(store, position)[2] == store.outbox.head()


def test_changes_come_in_parts(store):
    position = store.outbox.head()
    put(store, "a", 5)
    seen = []
    while True:
        rows, _, following = store.outbox.changes(position, 2, DIM)
        if following == position:
            break
        seen += rows.ids.tolist()
        position = following
    assert seen == [3, 4, 5, 6, 7]


def test_what_is_not_committed_is_not_in_the_outbox(store):
    start = store.outbox.head()
    store.before_removal(lambda ids: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        put(store, "a", 3)
    assert changes(store, start) == ([], [], start)


def test_all_chunks_come_ascending(store):
    put(store, "a", 5)
    parts = [(rows.ids.tolist(), last) for rows, last in store.outbox.all_chunks(1, 2, DIM)]
    assert parts == [([2, 3], 3), ([4, 5], 5), ([6, 7], 7)]


def test_a_damaged_vector_is_left_out(store, caplog):
    put(store, "a", 2)
    with store._database.writing() as connection:
        connection.execute("UPDATE vectors SET data = ? WHERE chunk = 3", (b"12345678",))
    assert [rows.ids.tolist() for rows, _ in store.outbox.all_chunks(0, 10, DIM)] == [[1, 2, 4]]
    assert "damaged" in caplog.text


def test_the_outbox_keeps_the_last_events_only(tmp_path, monkeypatch):
    kept = [text.replace(str(outbox_module.KEPT), "10") for text in outbox_module._SCHEMA]
    monkeypatch.setattr(outbox_module, "_SCHEMA", kept)
    with Store(tmp_path / "short") as store:
        store.bind("embedder", DIM, "chunker")
        first = store.outbox.head()
        put(store, "a", 25)
        head = store.outbox.head()
        assert head.number == 26
        assert store.outbox.token_at(first.number) is None
        with pytest.raises(ForgottenError):
            store.outbox.changes(first, 10, DIM)
        assert store.outbox.token_at(head.number) == head.token
        assert store.outbox.token_at(head.number + 1) is None
        with store._database.reading() as connection:
            assert connection.execute("SELECT count(*) FROM outbox").fetchone() == (10,)


def test_a_folder_for_reading_only_has_no_new_outbox(store):
    store._database.read_only = True
    with pytest.raises(StorageError, match="read-only"):
        Outbox(store._database).head()


def test_the_folder_is_sound_with_an_outbox(store):
    store.outbox.head()
    put(store, "a", 3)
    assert store.find_damage() == []
    assert store.repair().damage == ()
