from __future__ import annotations

import random
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import numpy as np
import pytest

from leanrag.errors import LeanRAGError, StorageError
from leanrag.retrieval.integrity import Damage
from leanrag.retrieval.store import Entry, Store
from leanrag.types import Document, Mark
from tests.retrieval.test_store import DIM, entry, found, vector, write_database


def documents() -> list[Entry]:
    return [
        entry(
            Document(
                f"Text number {n}. More of it.", id=f"d{n}", title=f"T{n}", metadata={"n": n}, marks=(Mark(3, "p"),)
            ),
            number=n,
            cuts=(15,),
            features={"f": [b"1", b"2"]},
        )
        for n in range(3)
    ]


@pytest.fixture
def folder(tmp_path):
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        store.put_many(documents())
    return tmp_path


def recompute(asked: Sequence[Document]) -> list[Entry]:
    return [entry(document, number=int(document.id[1:]), cuts=(15,)) for document in asked]


def content(store: Store) -> list[object]:
    ids = store.chunk_ids()
    by_document = sorted(
        zip(store.get_chunks(ids), store.get_vectors(ids).tolist(), strict=True), key=lambda c: c[0].id
    )
    return [[store.get_document(record.id) for record in store.documents()], by_document]


def test_a_sound_folder_has_no_damage(folder):
    with Store(folder) as store:
        assert store.find_damage() == []
        report = store.repair()
        assert (report.damage, report.restored, report.removed) == ((), (), ())
        assert store.chunk_ids().tolist() == [1, 2, 3, 4, 5, 6]


SET = "UPDATE {} WHERE {}"
REPAIRABLE = {
    "vector of zeros": ("UPDATE vectors SET data = zeroblob(16) WHERE chunk = 3", "chunks"),
    "vector of NaN": ("UPDATE vectors SET data = x'0000c07f0000c07f0000c07f0000c07f' WHERE chunk = 3", "chunks"),
    "short vector": ("UPDATE vectors SET data = zeroblob(15) WHERE chunk = 3", "chunks"),
    "vector as a number": ("UPDATE vectors SET data = 7 WHERE chunk = 3", "chunks"),
    "vector of another text": (
        "UPDATE vectors SET data = (SELECT data FROM vectors WHERE chunk = 1) WHERE chunk = 3",
        "chunks",
    ),
    "no vector": ("DELETE FROM vectors WHERE chunk = 3", "chunks"),
    "start of a span": ("UPDATE chunks SET start = 2 WHERE id = 3", "chunks"),
    "end of a span": ("UPDATE chunks SET stop = 99 WHERE id = 3", "chunks"),
    "lead": ("UPDATE chunks SET lead_stop = 4 WHERE id = 3", "chunks"),
    "heading": ("UPDATE chunks SET heading = 'H' WHERE id = 3", "chunks"),
    "heading as a number": ("UPDATE chunks SET heading = 7 WHERE id = 3", "chunks"),
    "order": ("UPDATE chunks SET ordinal = 7 WHERE id = 3", "chunks"),
    "no chunk": ("DELETE FROM chunks WHERE id = 3", "orphans"),
    "words": ("UPDATE terms SET body = 'other' WHERE rowid = 3", "search"),
    "no words": ("DELETE FROM terms WHERE rowid = 3", "search"),
    "field": ("UPDATE fields SET value = 7 WHERE document = 2", "search"),
    "no field": ("DELETE FROM fields WHERE document = 2", "search"),
    "field of nothing": ("INSERT INTO fields VALUES (99, 'a', 'b')", "orphans"),
    "text of nothing": ("INSERT INTO texts VALUES (99, 0, 'b')", "orphans"),
    "words of nothing": ("INSERT INTO terms (rowid, body) VALUES (99, 'b')", "orphans"),
    "generation": ("UPDATE meta SET value = 'x' WHERE key = 'generation'", "settings"),
    "no generation": ("DELETE FROM meta WHERE key = 'generation'", "settings"),
    "no checksum": ("DELETE FROM checksums WHERE document = 2", "record"),
    "full-text index": ("DELETE FROM terms_data WHERE id > 10", "pages"),
}


@pytest.mark.parametrize("name", REPAIRABLE)
@pytest.mark.slow
def test_what_is_derived_is_repaired_from_the_texts(folder, name):
    with Store(folder) as store:
        before = content(store)
    statement, part = REPAIRABLE[name]
    write_database(folder / "leanrag.db", statement)
    with Store(folder) as store:
        assert part in [damage.part for damage in store.find_damage()]
        with pytest.raises(StorageError, match="leanrag repair"):
            store.check()
        report = store.repair(recompute)
        assert part in [damage.part for damage in report.damage]
        assert report.removed == ()
        assert store.find_damage() == []
        assert sorted(content(store)[0], key=lambda d: d.id) == before[0]
        assert content(store)[1] == before[1]
        assert sorted(found(store, "text number")) == ["Text number 0. ", "Text number 1. ", "Text number 2. "]
        assert len(store.filter_ids({"n": 1})) == 2
        store.put_many([entry(Document("Afterwards.", id="d9"))])
        assert found(store, "afterwards") == ["Afterwards."]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE texts SET text = 'Text number 7. More of it.' WHERE document = 2",
        "UPDATE texts SET text = x'ff' WHERE document = 2",
        "UPDATE texts SET text = 7 WHERE document = 2",
        "DELETE FROM texts WHERE document = 2",
        "UPDATE documents SET sha256 = 'x' WHERE key = 2",
        "UPDATE documents SET metadata = '{' WHERE key = 2",
        "UPDATE documents SET title = x'ff' WHERE key = 2",
        "UPDATE documents SET id = 7 WHERE key = 2",
    ],
)
def test_a_lost_text_costs_its_document_only(folder, statement):
    write_database(folder / "leanrag.db", statement)
    with Store(folder) as store:
        assert [damage.part for damage in store.find_damage()] == ["text"]
        forgotten = []
        store.before_removal(forgotten.extend)
        report = store.repair(recompute)
        assert report.removed == (("document number 2",) if "id = 7" in statement else ("d1",))
        assert forgotten == ([] if "id = 7" in statement else ["d1"])
        assert store.find_damage() == []
        assert [record.id for record in store.documents()] == ["d0", "d2"]


@pytest.mark.parametrize(
    "change", ["title = 'Another'", "source = '/b'", 'metadata = \'{"n": 1, "m": 2}\'', "kind = 'x'"]
)
def test_a_changed_record_is_noticed_and_its_file_is_read_again(folder, change):
    write_database(
        folder / "leanrag.db",
        "UPDATE documents SET size = 1, mtime_ns = 2",
        f"UPDATE documents SET {change} WHERE key = 2",
    )
    with Store(folder) as store:
        assert (
            Damage("record", "its title, path, kind, pages or metadata are not what was stored", "d1", 2)
            in store.find_damage()
        )
        assert store.repair(recompute).restored == ("d1",)
        assert store.find_damage() == []
        assert {record.id: record.size for record in store.documents()} == {"d0": 1, "d1": None, "d2": 1}


def test_without_an_embedder_only_the_damaged_chunk_is_removed(folder):
    write_database(folder / "leanrag.db", "UPDATE vectors SET data = zeroblob(16) WHERE chunk = 3")
    with Store(folder) as store:
        assert store.repair().restored == ("d1",)
        assert store.find_damage() == []
        assert sorted(chunk.id for chunk in store.get_chunks(store.chunk_ids())) == [
            "d0:0-15", "d0:15-26", "d1:15-26", "d2:0-15", "d2:15-26",
        ]  # fmt: skip


def test_a_damaged_vector_costs_its_chunk_only(folder, caplog):
    write_database(folder / "leanrag.db", "UPDATE vectors SET data = zeroblob(16) WHERE chunk = 3")
    with Store(folder) as store:
        ids, vectors = store.all_vectors()
    assert ids.tolist() == [1, 2, 4, 5, 6]
    np.testing.assert_array_equal(vectors, [vector(n) for n in (0, 1, 2, 2, 3)])
    assert "the vectors of 1 chunks" in caplog.text


def test_repair_waits_for_no_writer_and_a_second_repair_finds_nothing(folder):
    write_database(folder / "leanrag.db", "DELETE FROM vectors")
    with Store(folder) as store, closing(sqlite3.connect(folder / "writer.lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="another process is writing"):
            store.repair(recompute)
        other.execute("ROLLBACK")
        assert store.repair(recompute).restored == ("d0", "d1", "d2")
        assert store.repair(recompute).damage == ()


def test_a_repair_that_is_interrupted_goes_on(folder):
    write_database(folder / "leanrag.db", "DELETE FROM vectors")

    def interrupt(asked: Sequence[Document]) -> list[Entry]:
        raise KeyboardInterrupt

    with Store(folder) as store:
        with pytest.raises(KeyboardInterrupt):
            store.repair(interrupt)
        assert store.repair(recompute).restored == ("d0", "d1", "d2")
        assert store.find_damage() == []


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_flipped_bits_never_raise_untyped_errors_nor_change_texts_unnoticed(tmp_path, seed):
    written = [
        entry(Document(f"Text {n}. " * 300, id=f"d{n}", title=f"T{n}"), number=n, cuts=(900,)) for n in range(20)
    ]
    with Store(tmp_path) as store:
        store.bind("embedder", DIM, "chunker")
        store.put_many(written)
        before = content(store)
    path, rng = tmp_path / "leanrag.db", random.Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 20, 200))):
        data[rng.randrange(100, len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        with Store(tmp_path) as store:
            damage = store.find_damage()
            try:
                changed = content(store) != before
            except LeanRAGError:
                changed = True
            assert damage or not changed
            store.repair(recompute)
            assert store.find_damage() == []
            kept = {record.id for record in store.documents()}
            originals = {each.document.id: each.document.text for each in written}
            assert all(
                store.get_document(name).text == originals.get(name, store.get_document(name).text) for name in kept
            )
    except LeanRAGError as error:
        assert str(path) in str(error)
