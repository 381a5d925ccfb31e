"""Whatever happens to a folder, its engine and their programs: in the end the engine has what the folder committed."""

import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError, IndexMismatchError
from leanrag.errors import EngineError
from leanrag.retrieval import engine_index
from leanrag.retrieval.engine_index import EngineIndex, EngineState
from leanrag.retrieval.outbox import Position
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document
from tests.examples import max_examples

DIM = 2


class DictEngine:
    """Keeps rows in memory, writes them one after the other, and dies when it is told to."""

    name = "the engine"

    def __init__(self):
        self.rows, self.state, self.lives = {}, None, None

    def open(self, dim):
        assert dim == DIM
        return self.state

    def clear(self):
        self.rows, self.state = {}, None

    def write(self, rows, removed, state):
        steps = [
            lambda n=n, row=row: self.rows.update({n: row})
            for n, *row in zip(rows.ids.tolist(), rows.vectors.tolist(), rows.tags, strict=True)
        ]
        steps += [lambda n=n: self.rows.pop(n, None) for n in removed.tolist()]
        for step in [*steps, lambda: setattr(self, "state", state)]:
            if self.lives == 0:
                self.lives = None
                raise EngineError("the engine went away. Start it", engine=self.name, retryable=True)
            self.lives = None if self.lives is None else self.lives - 1
            step()

    def count(self):
        return len(self.rows)

    def search(self, queries, k, allowed):
        assert allowed is None
        ids = sorted(self.rows)[:k]
        return [([1.0] * len(ids), ids) for _ in queries]

    def close(self):
        self.rows = {}


def put(store, name, count, year):
    chunks = [Chunk(name, i, i + 1, "x") for i in range(count)]
    vectors = np.tile(np.array([[1, 0]], np.float32), (count, 1))
    store.put(Document("x" * count, id=name, metadata={"year": year}), chunks, vectors)


def contents(store):
    rows = [rows for rows, _ in store.outbox.all_chunks(0, 1000, DIM)]
    return {
        n: [v, t] for part in rows for n, v, t in zip(part.ids.tolist(), part.vectors.tolist(), part.tags, strict=True)
    }


NAMES = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.integers(1, 6), st.integers(0, 2)),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("describe"), NAMES, st.integers(0, 2)),
    st.tuples(st.just("update"), st.none() | st.integers(0, 12)),
    st.tuples(st.just("restart")),
    st.tuples(st.just("lose")),
    st.tuples(st.just("forget")),
)


@max_examples(150)
@given(steps=st.lists(STEPS, max_size=14), batch=st.integers(1, 5))
@pytest.mark.slow
def test_the_engine_has_what_the_folder_committed(steps, batch):
    engine = DictEngine()
    index = EngineIndex(engine)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        patch.setattr(engine_index, "_BATCH", batch)
        store.bind("embedder", DIM, "chunker")
        for step, *values in steps:
            if step == "put":
                put(store, *values)
            elif step == "remove":
                store.remove(values)
            elif step == "describe":
                store.update_metadata(values[:1], {"year": values[1]})
            elif step == "update":
                engine.lives = values[0]
                try:
                    index.update(store)
                    assert engine.rows == contents(store)
                except EngineError:
                    pass
            elif step == "restart":
                index = EngineIndex(engine)
            elif step == "lose":
                engine.clear()
                index = EngineIndex(engine)
            else:  # the outbox has dropped all but its last event
                store.outbox.head()
                drop_events(store)
        engine.lives = None
        index.update(store)
        assert engine.rows == contents(store)


def drop_events(store):
    """Drop all but the last event, as the outbox does itself after many."""
    with store._database.writing() as connection:
        connection.execute("DELETE FROM outbox WHERE position < (SELECT max(position) FROM outbox)")


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_events_that_are_dropped_while_the_engine_is_filled_are_not_missed(store, monkeypatch, batch):
    monkeypatch.setattr(engine_index, "_BATCH", batch)
    put(store, "b", 4, 1)
    engine = DictEngine()
    write, commits = engine.write, [lambda: store.remove(["a"]), lambda: put(store, "c", 2, 1)]

    def write_while_others_commit(*arguments):
        write(*arguments)
        if commits:
            commits.pop()()
            drop_events(store)

    monkeypatch.setattr(engine, "write", write_while_others_commit)
    EngineIndex(engine).update(store)
    assert engine.rows == contents(store)
    assert len(engine.rows) == 6


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("embedder", DIM, "chunker")
        put(store, "a", 3, 1)
        yield store


def test_nothing_is_asked_of_the_engine_if_nothing_changed(store, monkeypatch):
    engine = DictEngine()
    index = EngineIndex(engine)
    index.update(store)
    monkeypatch.setattr(engine, "open", None)
    index.update(store)
    assert len(index) == 3


def test_a_search_that_fails_lets_the_next_update_look_at_the_engine(store, monkeypatch):
    engine = DictEngine()
    index, query = EngineIndex(engine), np.array([[1, 0]], np.float32)
    index.update(store)

    def fail(*_):
        engine.clear()
        raise EngineError("the collection is missing. Make it", engine=engine.name)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "search", fail)
        with pytest.raises(EngineError):
            index.search(query, 1)
    index.update(store)
    assert index.search(query, 5)[1].tolist() == [[1, 2, 3]]


def test_a_source_without_an_outbox_is_refused(store):
    class Rows:
        generation = 1

        def count_chunks(self):
            return 0

        chunk_ids = all_vectors = count_chunks

    with pytest.raises(ConfigurationError, match=r"needs a folder.*leanrag\.open"):
        EngineIndex(DictEngine()).update(Rows())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"position": {}, "filled": null}', "null"])
def test_a_state_that_was_not_written_by_leanrag_is_refused(text):
    with pytest.raises(ValueError, match=r"Expecting value|is not the state of an engine"):
        EngineState.from_json(text)


def test_a_state_comes_back_as_it_was_written():
    for filled in (None, 7):
        state = EngineState(Position("folder", "epoch", 3, "token"), filled)
        assert EngineState.from_json(state.to_json()) == state


def test_the_names_are_in_the_messages(store, tmp_path):
    engine = DictEngine()
    EngineIndex(engine).update(store)
    assert repr(EngineIndex(engine)) == "EngineIndex(the engine)"
    with Store(tmp_path / "other") as other:
        other.bind("embedder", DIM, "chunker")
        with pytest.raises(IndexMismatchError, match=r"the engine has the vectors of another folder than .*other"):
            EngineIndex(engine).update(other)
