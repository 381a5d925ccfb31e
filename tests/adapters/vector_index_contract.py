"""What every vector index promises, ours and those of other engines: two suites for the classes of `test_vector_engines.py`."""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import leanrag
from leanrag import ConfigurationError, IndexMismatchError, StorageError
from leanrag.errors import EngineError
from leanrag.retrieval import engine_index
from leanrag.retrieval.engine_index import EngineIndex
from leanrag.retrieval.index import FlatIndex
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document, MetadataValue
from tests.stories import NILE, PARK, QUESTION, open_rag

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

DIM = 16
FILTERS = [
    {"year": 2024},
    {"year": [2024, 2025.0]},
    {"year": {"!=": 2024}},
    {"year": {"not in": [2023]}},
    {"year": {">=": 2024}},
    {"tag": "b"},
    {"tag": {"exists": False}},
    {"tag": None},
    {"any": [{"year": 2023}, {"tag": "a"}]},
    {"not": {"all": [{"year": 2024}, {"tag": "b"}]}},
    {"year": 1999},
    {"any": []},
    {},
]


def clustered(count: int, dim: int = DIM, *, seed: int = 0, clusters: int = 40) -> Vectors:
    """Rows of unit norm around some centres, as the vectors of texts are."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, dim))
    rows = centres[random.integers(clusters, size=count)] + 0.4 * random.normal(size=(count, dim))
    unit: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def open_store(folder: Path, dim: int = DIM) -> Store:
    store = Store(folder)
    store.bind("embedder", dim, "chunker")
    return store


def put(store: Store, name: str, vectors: Vectors, **metadata: MetadataValue) -> None:
    text = "x" * len(vectors)
    chunks = [Chunk(name, i, i + 1, "x") for i in range(len(vectors))]
    store.put(Document(text, id=name, metadata=metadata), chunks, vectors)


def fill(store):
    for i, (name, metadata) in enumerate(
        [
            ("a", {"year": 2024, "tag": ["a", "b"]}),
            ("b", {"year": 2025}),
            ("c", {"year": 2023.0, "tag": None}),
            ("d", {}),
        ]
    ):
        put(store, name, clustered(6, seed=i), **metadata)


def check_same(index, store, *, k=10, allowed=None):
    """The index finds what the exact index finds in the same store."""
    flat, queries = FlatIndex(store.all_vectors()[1].shape[1]), clustered(3, store.all_vectors()[1].shape[1], seed=9)
    index.update(store)
    flat.update(store)
    assert len(index) == len(flat)
    scores, ids = index.search(queries, k, allowed=allowed)
    best, expected = flat.search(queries, k, allowed=allowed)
    assert ids.tolist() == expected.tolist()
    np.testing.assert_allclose(scores, best, atol=1e-5)
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)


class VectorIndexContract:
    """A subclass has a fixture `make_index`: it returns indexes of `DIM` columns of the same rows."""

    @pytest.fixture
    def store(self, tmp_path):
        with open_store(tmp_path / "kb") as store:
            yield store

    @pytest.fixture
    def index(self, make_index):
        return make_index()

    def test_an_empty_folder_has_nothing_to_find(self, index, store):
        index.update(store)
        scores, ids = index.search(clustered(2), 5)
        assert (len(index), scores.shape, ids.shape) == (0, (2, 0), (2, 0))

    def test_the_nearest_rows_come_best_first(self, index, store):
        fill(store)
        check_same(index, store)
        assert index.search(clustered(2), 100)[1].shape == (2, 24)
        assert index.search(clustered(2)[:0], 3)[1].shape[0] == 0

    def test_documents_are_added_replaced_and_removed(self, index, store):
        fill(store)
        check_same(index, store)
        put(store, "b", clustered(4, seed=20))
        check_same(index, store)
        store.remove(["a", "c"])
        check_same(index, store)
        put(store, "a", clustered(2, seed=30))
        store.remove(["d"])
        check_same(index, store)
        store.remove(["a", "b"])
        check_same(index, store)
        assert len(index) == 0

    def test_only_allowed_rows_are_found(self, index, store):
        fill(store)
        for allowed in ([1, 7, 9, 24], [3, 3, 10_000, 4], [10_000]):
            check_same(index, store, allowed=np.array(allowed, np.int64))
        assert index.search(clustered(2), 3, allowed=np.empty(0, np.int64))[1].shape == (2, 0)

    def test_wrong_searches_are_refused(self, index, store):
        fill(store)
        index.update(store)
        for queries, k, problem in (
            (clustered(1), 0, "`k`"),
            (clustered(1, 3), 1, "shape"),
            (2 * clustered(1), 1, "norm"),
        ):
            with pytest.raises(ConfigurationError, match=problem):
                index.search(queries, k)

    def test_nearly_all_neighbours_are_found(self, index, store):
        put(store, "large", clustered(2000))
        index.update(store)
        flat, queries = FlatIndex(DIM), clustered(50, seed=5)
        flat.update(store)
        for allowed in (None, np.arange(1, 2001, 3)):
            found, expected = (each.search(queries, 10, allowed=allowed)[1] for each in (index, flat))
            recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)])
            assert recall >= 0.95

    def test_threads_search_while_others_write(self, index, store):
        fill(store)
        index.update(store)
        failures = []

        def search():
            try:
                for _ in range(5):
                    index.update(store)
                    assert index.search(clustered(1), 3)[1].shape == (1, 3)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        threads = [threading.Thread(target=search) for _ in range(3)]
        for thread in threads:
            thread.start()
        for i in range(5):
            put(store, "e", clustered(2, seed=i))
        for thread in threads:
            thread.join()
        assert not failures
        check_same(index, store)

    @pytest.fixture
    def argument(self, index):
        """What a program passes to `open`."""
        return index

    def test_a_program_changes_one_argument(self, argument, tmp_path):
        hits = []
        for name, options in (("local", {}), ("other", {"index": argument})):
            with open_rag(tmp_path / name, **options) as rag:
                rag.add(leanrag.Document(PARK, id="park", metadata={"year": 1}), leanrag.Document(NILE, id="nile"))
                found = [rag.search(QUESTION), rag.search(QUESTION, where={"year": 1})]
                rag.update("nile", metadata={"year": 1})
                found.append(rag.search(QUESTION, where={"year": 1}))
                rag.remove("park")
                found.append(rag.search(QUESTION))
                hits.append([[(hit.chunk.id, round(hit.score, 4)) for hit in each] for each in found])
        assert hits[0] == hits[1]


class Interrupted:
    """An engine that goes away before, or after, it has written the batch behind the first `writes`."""

    def __init__(self, engine, *, after, writes=0):
        self._engine, self._after, self._writes = engine, after, writes
        self.sent = 0

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def write(self, rows, removed, state):
        if self._writes or self._after:
            self._engine.write(rows, removed, state)
            self.sent += len(rows)
        if not self._writes:
            raise EngineError("the engine went away. Start it", engine="test", retryable=True)
        self._writes -= 1


class EngineContract(VectorIndexContract):
    """For an engine that keeps its rows. `make_index` accepts `collection` (the same name is the same rows)."""

    def engine_of(self, index):
        return index._engine

    @pytest.mark.parametrize("where", FILTERS, ids=str)
    def test_the_engine_filters_as_sqlite_does(self, index, store, monkeypatch, where):
        monkeypatch.setattr(engine_index, "_FEW", 0)
        fill(store)
        index.update(store)
        queries, allowed = clustered(3, seed=9), store.filter_ids(where)
        expected = index.search(queries, 20, allowed=allowed)
        found = index.search_where(queries, 20, where, allowed)
        assert found[1].tolist() == expected[1].tolist()
        assert set(found[1].ravel()) == set(allowed)

    def test_many_ids_are_sent_in_parts(self, index, store, monkeypatch):
        monkeypatch.setattr(engine_index, "_MOST_IDS", 5)
        fill(store)
        check_same(index, store, allowed=np.arange(2, 20, dtype=np.int64))

    def test_filters_see_changed_metadata(self, index, store, monkeypatch):
        monkeypatch.setattr(engine_index, "_FEW", 0)
        fill(store)
        index.update(store)
        store.update_metadata(["a", "d"], {"year": 7})
        index.update(store)
        where = {"year": 7}
        allowed = store.filter_ids(where)
        assert set(index.search_where(clustered(1), 50, where, allowed)[1][0]) == set(allowed)
        assert len(allowed) == 12

    def test_rows_stay_when_the_program_ends(self, make_index, store, tmp_path):
        fill(store)
        make_index().update(store)
        store.close()
        with open_store(tmp_path / "kb") as again:
            engine = Interrupted(self.engine_of(make_index()), after=False)  # fails if anything is written
            check_same(EngineIndex(engine), again)

    def test_a_batch_that_arrives_twice_does_no_harm(self, make_index, store):
        fill(store)
        index = make_index()
        index.update(store)
        before = store.outbox.head()
        store.remove(["b"])
        put(store, "a", clustered(3, seed=40))
        index.update(store)
        rows, removed, position = store.outbox.changes(before, 1000, DIM)
        self.engine_of(index).write(rows, removed, engine_index.EngineState(position))
        check_same(make_index(), store)

    @pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
    @pytest.mark.parametrize("writes", [0, 1, 2])
    def test_a_crash_loses_nothing(self, make_index, store, tmp_path, monkeypatch, after, writes):
        monkeypatch.setattr(engine_index, "_BATCH", 5)
        fill(store)
        engine = self.engine_of(make_index())
        with pytest.raises(EngineError, match="went away"):  # while the engine is filled
            EngineIndex(Interrupted(engine, after=after, writes=writes)).update(store)
        store.remove(["a"])
        check_same(make_index(), store)
        put(store, "b", clustered(7, seed=50))
        store.remove(["c"])
        with pytest.raises(EngineError, match="went away"):  # while changes are sent
            EngineIndex(Interrupted(engine, after=after, writes=writes)).update(store)
        put(store, "e", clustered(3, seed=60))
        store.close()
        with open_store(tmp_path / "kb") as again:
            check_same(make_index(), again)

    def test_filling_goes_on_where_it_ended(self, make_index, store, monkeypatch):
        monkeypatch.setattr(engine_index, "_BATCH", 5)
        fill(store)
        with pytest.raises(EngineError):
            EngineIndex(Interrupted(self.engine_of(make_index()), after=True, writes=2)).update(store)
        engine = Interrupted(self.engine_of(make_index()), after=False, writes=100)
        check_same(EngineIndex(engine), store)
        assert engine.sent == 24 - 15

    def test_an_engine_that_lost_its_rows_is_filled_again(self, make_index, store):
        fill(store)
        index = make_index()
        index.update(store)
        self.engine_of(index).clear()
        check_same(make_index(), store)

    def test_an_engine_that_is_far_behind_is_filled_again(self, make_index, store):
        fill(store)
        make_index().update(store)
        store.remove(["a"])
        put(store, "e", clustered(2, seed=70))
        with store._database.writing() as connection:  # as the outbox itself does after many events
            connection.execute("DELETE FROM outbox WHERE position < (SELECT max(position) FROM outbox)")
        check_same(make_index(), store)

    def test_a_repaired_outbox_fills_the_engine_again(self, make_index, store):
        fill(store)
        make_index().update(store)
        with store._database.writing() as connection:  # as a repair of damaged pages does
            for name in ("added", "changed", "removed", "described", "shortened"):
                connection.execute(f"DROP TRIGGER outbox_{name}")
            connection.execute("DROP TABLE outbox")
        store.remove(["a"])
        check_same(make_index(), store)

    def test_collections_do_not_see_each_other(self, make_index, tmp_path):
        with open_store(tmp_path / "one") as one, open_store(tmp_path / "two") as two:
            put(one, "a", clustered(5))
            put(two, "b", clustered(3, seed=1))
            check_same(make_index(), one)
            check_same(make_index(collection="other"), two)
            check_same(make_index(), one)

    def test_another_folder_is_refused(self, make_index, store, tmp_path):
        fill(store)
        index = make_index()
        index.update(store)
        with open_store(tmp_path / "other") as other:
            put(other, "a", clustered(5))
            with pytest.raises(ConfigurationError, match=r"belongs to .*kb.*another collection"):
                index.update(other)
            with pytest.raises(IndexMismatchError, match=r"another folder than .*other.*Name another collection"):
                make_index().update(other)
        check_same(make_index(), store)

    def test_a_restored_backup_is_refused(self, make_index, store, tmp_path):
        fill(store)
        make_index().update(store)
        with store._database.reading() as connection:
            connection.execute("PRAGMA wal_checkpoint (TRUNCATE)")
        shutil.copytree(tmp_path / "kb", tmp_path / "backup")
        store.remove(["a"])
        make_index().update(store)
        with open_store(tmp_path / "backup") as backup:
            for _ in range(2):  # first with fewer events than the engine has, then with other ones
                with pytest.raises(IndexMismatchError, match=r"backup.*is a copy.*Name another collection"):
                    make_index().update(backup)
                put(backup, "e", clustered(12, seed=80))
        check_same(make_index(), store)

    def test_another_dimension_is_refused(self, make_index, store, tmp_path):
        fill(store)
        make_index().update(store)
        with open_store(tmp_path / "other", 3) as other:
            put(other, "a", clustered(5, 3))
            with pytest.raises(IndexMismatchError, match=r"16.* 3 columns.*Name another collection"):
                make_index().update(other)

    def test_two_writers_bring_everything(self, make_index, tmp_path):
        failures = []

        def write(name):
            try:
                with open_store(tmp_path / "kb") as store:
                    index = make_index()
                    for i in range(4):
                        put_again(store, f"{name}{i}", clustered(3, seed=i))
                        index.update(store)
            except BaseException as error:  # noqa: BLE001
                failures.append(error)

        with open_store(tmp_path / "kb") as store:
            threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures
            check_same(make_index(), store)
            assert store.count_chunks() == 24

    def test_a_folder_for_reading_only_is_searched(self, make_index, store, tmp_path, caplog):
        fill(store)
        store.read_only = store.outbox.read_only = True
        with pytest.raises((EngineError, StorageError), match=r"reading only|read-only"):
            make_index().update(store)
        store.outbox.read_only = False
        make_index().update(store)
        store.outbox.read_only = True
        check_same(make_index(), store)
        put(store, "e", clustered(2, seed=90))
        with caplog.at_level(logging.WARNING, "leanrag"):
            make_index().update(store)
        assert "lacks the last changes" in caplog.text

    def test_an_engine_that_is_down_fails_searches_and_loses_nothing(self, make_index, down, store, tmp_path):
        fill(store)
        with pytest.raises(EngineError, match="cannot be reached") as raised:
            down.update(store)
        assert raised.value.retryable
        assert "Start the server" in str(raised.value)
        assert "secret" not in str(raised.value)
        put(store, "e", clustered(2, seed=90))
        check_same(make_index(), store)

    def test_a_question_fails_with_the_name_of_the_engine(self, down, tmp_path):
        with open_rag(tmp_path / "question", index=down) as rag:
            rag.add(leanrag.Document(PARK, id="park"))  # what is added is committed
            assert rag.stats().documents == 1
            with pytest.raises(EngineError, match="cannot be reached"):
                rag.ask(QUESTION)


def put_again(store, name, vectors):
    """Put a document; a process that is writing is waited for."""
    while True:
        try:
            return put(store, name, vectors)
        except StorageError as error:
            if "another process" not in str(error):
                raise
