"""The folders were made by the libraries themselves; see `make_folders.py`."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import shutil
import sqlite3
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import leanrag
from leanrag.documents import from_chroma, from_lancedb, from_langchain, from_llama_index
from leanrag.documents.moving.pickles import Record, UnsafePickleError, read_pickle
from leanrag.documents.moving.records import to_document
from leanrag.errors import ConfigurationError, DocumentError, MissingDependencyError
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Mark
from tests.examples import max_examples

FOLDERS = Path(__file__).parent / "folders"
TEXTS = [
    "Keys are kept by the porter.",
    "The canteen opens at noon. Ümläute, 北京 and 🔑 stay.",
    "Cars park behind the hall.",
]
READERS = {"langchain": from_langchain, "llama_index": from_llama_index, "chroma": from_chroma}
FILES = {"langchain": "index.pkl", "llama_index": "docstore.json", "chroma": "chroma.sqlite3"}


# Sound folders


@pytest.mark.parametrize("library", READERS)
def test_texts_titles_and_metadata_come_along(library):
    documents = list(READERS[library](FOLDERS / library))[:3]
    assert [document.text for document in documents] == TEXTS
    assert [document.title for document in documents] == ["rules.pdf", "rules.pdf", "cars.md"]
    assert documents[0].metadata["year"] == 2024
    assert documents[1].metadata["public"] is True
    assert documents[1].metadata["score"] == 0.5
    assert documents[0].marks == (Mark(0, "page i"),)


def test_ids_say_where_a_document_is_from():
    assert [document.id for document in from_langchain(FOLDERS / "langchain")] == [
        "langchain:one",
        "langchain:two",
        "langchain:three",
    ]
    assert [document.id for document in from_chroma(FOLDERS / "chroma")] == [
        "chroma:rules/one",
        "chroma:rules/two",
        "chroma:rules/three",
        "chroma:other/four",
    ]


def test_langchain_counts_pages_from_zero():
    assert [document.marks for document in from_langchain(FOLDERS / "langchain")][1:] == [(Mark(0, "page 4"),), ()]


def test_values_that_cannot_be_filtered_by_become_json():
    for library in ("langchain", "llama_index"):
        metadata = list(READERS[library](FOLDERS / library))[2].metadata
        assert json.loads(metadata["nested"]) == {"a": [1, 2]}
        assert metadata["none"] is None
    assert to_document("x", "x", {"a": float("inf"), "b": 2**70, "c": [1, "x"]}).metadata == {
        "a": "Infinity",
        "b": str(2**70),
        "c": [1, "x"],
    }


def test_a_collection_of_chroma_is_chosen_by_name():
    assert [document.id for document in from_chroma(FOLDERS / "chroma", collection="other")] == ["chroma:other/four"]
    with pytest.raises(ConfigurationError, match="'other', 'rules', got 'missing'"):
        from_chroma(FOLDERS / "chroma", collection="missing")


def test_chroma_is_not_written(tmp_path):
    shutil.copytree(FOLDERS / "chroma", tmp_path / "chroma")
    before = (tmp_path / "chroma/chroma.sqlite3").read_bytes()
    list(from_chroma(tmp_path / "chroma"))
    assert [file.name for file in (tmp_path / "chroma").iterdir()] == ["chroma.sqlite3"]
    assert (tmp_path / "chroma/chroma.sqlite3").read_bytes() == before


@pytest.mark.parametrize("library", READERS)
def test_documents_can_be_added_and_searched(library, tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder()) as rag:
        documents = list(READERS[library](FOLDERS / library))
        assert len(rag.add(*documents).added) == len(documents)
        assert rag.search("When does the canteen open?")[0].chunk.text == TEXTS[1]
        assert rag.search("keys", where={"year": 2024})[0].chunk.text == TEXTS[0]
        assert rag.add(*documents).added == ()


@pytest.mark.slow
def test_lancedb_is_read_if_it_is_installed():
    pytest.importorskip("lancedb")
    documents = list(from_lancedb(FOLDERS / "lancedb", table="rules"))
    assert documents == list(from_lancedb(FOLDERS / "lancedb"))
    assert [document.text for document in documents] == TEXTS
    assert documents[1].id == "lancedb:rules/two"
    assert documents[1].metadata == {"source": "rules.pdf", "page": 3}
    with pytest.raises(ConfigurationError, match="`table` must be one of 'rules', got 'x'"):
        from_lancedb(FOLDERS / "lancedb", table="x")
    with pytest.raises(ConfigurationError, match="`text` must be one of 'id', 'text', 'source', 'page', got 'x'"):
        from_lancedb(FOLDERS / "lancedb", text="x")
    with pytest.raises(DocumentError, match="is not a folder of LanceDB"):
        from_lancedb(FOLDERS / "chroma")


@pytest.mark.slow
def test_a_damaged_table_of_lancedb_is_refused(tmp_path):
    pytest.importorskip("lancedb")
    shutil.copytree(FOLDERS / "lancedb", tmp_path / "lancedb")
    for file in (tmp_path / "lancedb").rglob("*.lance"):
        if file.is_file():
            file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(DocumentError, match=r"rules.lance.*is damaged"):
        from_lancedb(tmp_path / "lancedb")


def test_lancedb_that_is_missing_names_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    with pytest.raises(MissingDependencyError, match=r"leanrag\[lancedb\]"):
        from_lancedb(FOLDERS / "lancedb")


# Damaged and hostile folders


@pytest.mark.parametrize("library", READERS)
def test_another_folder_is_refused(library, tmp_path):
    with pytest.raises(DocumentError, match=f"it has no file '{FILES[library]}'"):
        READERS[library](tmp_path)


@pytest.mark.parametrize("library", READERS)
@max_examples(60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_folder_is_read_or_refused(library, tmp_path_factory, data):
    content = bytearray((FOLDERS / library / FILES[library]).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    folder = tmp_path_factory.mktemp("damaged")
    (folder / FILES[library]).write_bytes(content)
    try:
        assert all(document.text.strip() for document in READERS[library](folder))
    except DocumentError as error:
        assert error.path == folder / FILES[library]


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, print, getattr], ids=lambda function: function.__name__)
def test_a_pickle_that_calls_something_is_refused(function, protocol, tmp_path):
    marker = tmp_path / "called"
    (tmp_path / "index.pkl").write_bytes(
        pickle.dumps((Hostile(function, f"open({str(marker)!r}, 'w')"), {}), protocol=protocol)
    )
    with pytest.raises(DocumentError, match="which is not a class that is read"):
        from_langchain(tmp_path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"(ios\nsystem\nS'true'\n.",
        b"\x80\x02\x82\x01.",  # an extension
        b"\x80\x02Vname\nQ.",  # a persistent id
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x94.",
        b"\x80\x04" + b"\x8f" * 10 + b".",
        b"\x80\x02]r\xff\xff\xff\xff.",  # a memo of 4 billion entries
        b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",  # a text of many bytes
        b"(" * 100_000 + b"t" * 100_000 + b".",
        b"",
        b"not a pickle",
    ],
)
def test_a_hostile_pickle_is_refused(content, tmp_path):
    (tmp_path / "index.pkl").write_bytes(content)
    with pytest.raises(DocumentError, match="cannot read"):
        from_langchain(tmp_path)


def test_values_that_grow_when_they_are_written_are_refused():
    value: list[object] = ["x" * 100]
    for _ in range(60):
        value = [value, value]
    with pytest.raises(ValueError, match="more than 100,000 characters"):
        to_document("text", "id", {"bomb": value})


class Plain:
    pass


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner) | st.sets(st.text()),
    max_leaves=20,
)


@given(VALUES, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_as_they_were(value, protocol):
    content = pickle.dumps(value, protocol=max(protocol, 4))
    assert read_pickle(io.BytesIO(content), ()) == value


def test_objects_become_records():
    instance = Plain()
    instance.x = [1, (2, 3, 4, 5)]
    content = pickle.dumps(instance)
    name = f"{Plain.__module__}.Plain"
    assert read_pickle(io.BytesIO(content), {name}) == Record(name, (), {"x": [1, (2, 3, 4, 5)]})
    with pytest.raises(UnsafePickleError, match="Plain"):
        read_pickle(io.BytesIO(content), ())


def test_dates_in_the_metadata_of_langchain_stay(tmp_path):
    document = type("Document", (), {"__module__": "langchain_core.documents.base"})
    docstore = type("InMemoryDocstore", (), {"__module__": "langchain_community.docstore.in_memory"})
    metadata = {"day": date(2024, 3, 5), "time": datetime(2024, 3, 5, 1, tzinfo=timezone(timedelta(hours=2)))}
    content = _pickled(docstore, document, metadata)
    (tmp_path / "index.pkl").write_bytes(content)
    assert next(from_langchain(tmp_path)).metadata == {"day": "2024-03-05", "time": "2024-03-05T01:00:00+02:00"}


def _pickled(docstore: type, document: type, metadata: dict[str, object]) -> bytes:
    """Pickle objects of classes that this process cannot import."""

    class Pickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            self.save(obj.__module__)
            self.save(obj.__name__)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)

        dispatch: ClassVar = {**pickle._Pickler.dispatch, type: save_global}

    one, store = document(), docstore()
    one.__dict__.update(page_content="Text.", metadata=metadata)
    store._dict = {"one": one}
    file = io.BytesIO()
    Pickler(file, 4).dump((store, {0: "one"}))
    return file.getvalue()


def test_a_foreign_database_is_not_one_of_chroma(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as connection, connection:
        connection.execute("CREATE TABLE other (x)")
    with pytest.raises(DocumentError, match="another version of Chroma wrote it"):
        from_chroma(tmp_path)
