"""A database follows its folders: renamed, changed, ignored and vanished files, and metadata."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import leanrag
from leanrag import ConfigurationError, Document, DocumentError
from leanrag.evidence.greedy import GreedyPacker
from leanrag.pipeline.reusing import compute_chunk_data
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk
from tests.stories import PARK, QUESTION, open_rag

SECTIONS = [f"# Part {i}\n\n" + f"Sentence of part {i}. " * 60 for i in range(4)]


class CountingEmbedder(HashEmbedder):
    """Knows which texts it embedded."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def embed_documents(self, texts):
        self.texts += texts
        return super().embed_documents(texts)


@pytest.fixture
def embedder():
    return CountingEmbedder()


@pytest.fixture
def rag(tmp_path, embedder):
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=embedder, packer=GreedyPacker()) as rag:
        yield rag


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "drafts").mkdir(parents=True)
    (folder / "a.md").write_text("# Apples\n\nApples grow on trees.", encoding="utf-8")
    (folder / "b.txt").write_text("Bread is baked.", encoding="utf-8")
    (folder / "drafts" / "c.md").write_text("# Cherries\n\nCherries are red.", encoding="utf-8")
    return folder


def names(ids):
    return sorted(identity.rsplit("/", 1)[-1] for identity in ids)


def stored(rag):
    return names(record.id for record in rag.documents())


# Only what changed is embedded


def test_only_the_changed_chunks_of_a_document_are_embedded(rag, docs, embedder):
    path = docs / "long.md"
    path.write_text("\n\n".join(SECTIONS), encoding="utf-8")
    rag.add(path)
    embedder.texts.clear()
    path.write_text(
        "\n\n".join(SECTIONS).replace("Sentence of part 2. ", "A sentence of part 2. ", 1), encoding="utf-8"
    )
    (name,) = rag.add(path).updated
    assert 0 < len(embedder.texts) < 4
    assert all("part 2" in text for text in embedder.texts)
    assert rag.get_document(name).text.count("A sentence of part 2. ") == 1


def test_a_changed_document_has_the_vectors_of_a_new_one(tmp_path, docs):
    path = docs / "long.md"
    new_text = "\n\n".join([SECTIONS[0], "# New\n\nNew words.", *SECTIONS[2:], SECTIONS[1]])
    found = []
    for name, texts in (("old", ["\n\n".join(SECTIONS), new_text]), ("new", [new_text])):
        with leanrag.open(tmp_path / name, model=FakeModel(), embedder=HashEmbedder()) as rag:
            for text in texts:
                path.write_text(text, encoding="utf-8")
                rag.add(path)
            found.append(rag._store.all_vectors()[1])
    np.testing.assert_array_equal(*found)


def test_a_new_title_is_embedded_again(rag, embedder):
    rag.add(Document("Words.", id="a", title="One"))
    embedder.texts.clear()
    rag.add(Document("Words.", id="a", title="Two"))
    assert embedder.texts == ["Two\nWords."]


def test_other_metadata_embed_nothing(rag, embedder):
    rag.add(Document("Words.", id="a"))
    embedder.texts.clear()
    assert rag.add(Document("Words.", id="a"), metadata={"year": 2026}).updated == ("a",)
    assert embedder.texts == []
    assert len(rag.search("words", where={"year": 2026})) == 1


def test_features_of_equal_chunks_are_not_computed_again(tmp_path, embedder):
    class Length:
        name = "length"
        seen = 0

        def compute(self, chunks):
            self.seen += len(chunks)
            return [str(len(chunk.text)).encode() for chunk in chunks]

    chunks = [Chunk("a", 0, 3, "One"), Chunk("a", 3, 6, "two")]
    feature = Length()
    with Store(tmp_path) as store:
        store.bind(embedder.id, embedder.dim, "chunker")
        data = compute_chunk_data(chunks[:1], {}, embedder, [])
        store.put(Document("One", id="a"), chunks[:1], data.vectors)
        known = {("", "", "", "One"): store.known_chunks("a")[0]}
    data = compute_chunk_data(chunks, known, embedder, [feature])
    assert (feature.seen, data.features) == (2, {"length": [b"3", b"3"]})
    np.testing.assert_array_equal(data.vectors, HashEmbedder().embed_documents(["One", "two"]))


def test_an_embedder_that_returns_too_few_vectors_is_refused(rag, embedder, monkeypatch):
    monkeypatch.setattr(embedder, "embed_documents", lambda texts: np.ones((1, 3), np.float32))
    with pytest.raises(ConfigurationError, match=r"shape \(2, 64\) for 2 texts, but returned .* \(1, 3\)"):
        rag.add(Document("One.", id="a"), Document("Two.", id="b"))
    assert stored(rag) == []


def test_a_damaged_vector_is_computed_again(rag, embedder):
    rag.add(Document("Words.", id="a"))
    with rag._store._database.writing() as connection:
        connection.execute("UPDATE vectors SET data = zeroblob(length(data))")
    embedder.texts.clear()
    rag.add(Document("Words.", id="a"), metadata={"year": 2026})
    assert embedder.texts == ["Words."]


# Files with new names


def test_a_renamed_file_keeps_its_vectors_and_its_metadata(rag, docs, embedder):
    rag.sync(docs)
    rag.update(docs / "b.txt", metadata={"owner": "Bo"})
    embedder.texts.clear()
    (docs / "b.txt").rename(docs / "drafts" / "bread.txt")
    report = rag.sync(docs)
    old, new = str(docs.resolve() / "b.txt"), str(docs.resolve() / "drafts" / "bread.txt")
    assert (report.added, report.removed, report.renamed) == ((new,), (old,), {new: old})
    assert embedder.texts == []
    (record,) = (record for record in rag.documents() if record.id == new)
    assert (record.title, record.metadata) == ("drafts/bread.txt", {"owner": "Bo"})
    assert [hit.chunk.document_id for hit in rag.search("Bread is baked.", 1)] == [new]


def test_a_copy_is_not_a_renamed_file(rag, docs, embedder):
    rag.add(docs)
    rag.update(docs / "b.txt", metadata={"owner": "Bo"})
    shutil.copy(docs / "b.txt", docs / "copy.txt")
    report = rag.add(docs)
    assert (names(report.added), report.removed, report.renamed) == (["copy.txt"], (), {})
    assert rag.search("bread baked", where={"owner": {"exists": False}})[0].chunk.title == "copy.txt"


def test_two_files_do_not_take_over_one(rag, docs):
    rag.add(docs)
    (docs / "b.txt").rename(docs / "x.txt")
    shutil.copy(docs / "x.txt", docs / "y.txt")
    report = rag.add(docs)
    assert names(report.added) == ["x.txt", "y.txt"]
    assert (names(report.renamed), names(report.renamed.values())) == (["x.txt"], ["b.txt"])


# Which files


def test_patterns_choose_files(rag, docs):
    assert names(rag.add(docs, pattern=["*.md"]).added) == ["a.md", "c.md"]
    assert names(rag.add(docs, ignore=["drafts/"]).added) == ["b.txt"]
    assert stored(rag) == ["a.md", "b.txt", "c.md"]


def test_what_patterns_leave_out_stays_while_its_file_exists(rag, docs):
    rag.add(docs)
    (docs / "drafts" / "c.md").unlink()
    report = rag.add(docs, pattern=["*.txt"])
    assert (names(report.unchanged), names(report.removed)) == (["b.txt"], ["c.md"])
    assert stored(rag) == ["a.md", "b.txt"]


def test_sync_removes_what_is_not_selected(rag, docs):
    rag.add(docs)
    rag.add_text("Dates are sweet.", id="note")
    report = rag.sync(docs, ignore=["drafts"], pattern=["*.md"])
    assert (names(report.unchanged), names(report.removed)) == (["a.md"], ["b.txt", "c.md"])
    assert stored(rag) == ["a.md", "note"]
    (docs / "a.md").write_text("", encoding="utf-8")
    assert names(rag.sync(docs).removed) == ["a.md"]


def test_sync_of_a_folder_that_is_not_there_removes_nothing(rag, docs):
    rag.sync(docs)
    docs.rename(docs.with_name("elsewhere"))
    with pytest.raises(DocumentError, match="cannot read"):
        rag.sync(docs)
    assert stored(rag) == ["a.md", "b.txt", "c.md"]


@pytest.mark.slow
def test_patterns_of_the_caller_come_before_ignore_files(rag, docs):
    (docs / ".gitignore").write_text("drafts/\n", encoding="utf-8")
    assert names(rag.add(docs).added) == ["a.md", "b.txt"]
    assert names(rag.add(docs, ignore=["!drafts/", "*.txt"]).added) == ["c.md"]


@pytest.mark.parametrize("option", ["ignore", "pattern"])
@pytest.mark.parametrize("patterns", ["!", ["a", "!"], [3]])
def test_a_pattern_that_cannot_work_is_refused(rag, docs, option, patterns):
    with pytest.raises(ConfigurationError, match=f"`{option}` must be patterns in the syntax of .gitignore"):
        rag.add(docs, **{option: patterns})
    assert stored(rag) == []


# Metadata


def test_metadata_are_changed_without_embedding(rag, docs, embedder):
    rag.add(docs, metadata={"year": 2025, "team": "docs"})
    embedder.texts.clear()
    assert rag.update(docs / "drafts", docs / "b.txt", metadata={"year": 2026, "tags": {"x"}}) == 2
    assert names(hit.chunk.document_id for hit in rag.search("red", where={"year": 2026})) == ["b.txt", "c.md"]
    assert names(hit.chunk.document_id for hit in rag.search("red", where={"tags": "x", "team": "docs"})) == [
        "b.txt",
        "c.md",
    ]
    assert rag.update(docs / "b.txt", metadata={"year": 2026}) == 0
    assert rag.update(docs / "b.txt", drop=["team", "unknown"]) == 1
    assert names(hit.chunk.document_id for hit in rag.search("red", where={"team": {"exists": False}})) == ["b.txt"]
    assert embedder.texts == []
    assert names(rag.add(docs).unchanged) == ["a.md", "b.txt", "c.md"]
    rag._store.check()


def test_metadata_that_cannot_be_stored_change_nothing(rag, docs):
    rag.add(docs)
    with pytest.raises(ConfigurationError, match="metadata of"):
        rag.update(docs, metadata={"year": float("nan")})
    with pytest.raises(DocumentError, match="has no document 'gone'"):
        rag.update(docs, "gone", metadata={"year": 2026})
    assert all(not record.metadata for record in rag.documents())


def test_an_answer_is_forgotten_when_metadata_change(tmp_path, embedder):
    with open_rag(tmp_path / "kb", cache="exact") as rag:
        rag.add_text(PARK, id="a", metadata={"team": "docs"})
        assert rag.ask(QUESTION, where={"team": "docs"}).citations
        rag.update("a", metadata={"team": "other"})
        assert rag.ask(QUESTION, where={"team": "docs"}).citations == ()


# Tenants


def test_a_namespace_has_documents_of_its_own(tmp_path, embedder):
    def open_as(name):
        return leanrag.open(tmp_path / "kb", namespace=name, model=FakeModel(), embedder=embedder)

    with open_as("ada") as ada, open_as("bo") as bo, open_as(None) as shared:
        ada.add_text("The code is 1234.", id="a")
        assert len(ada.search("code")) == 1
        assert [rag.search("code") for rag in (bo, shared)] == [[], []]
        assert shared.sync(tmp_path / "kb").added == ()
    with open_as("ada") as ada:
        assert len(ada.search("code")) == 1


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "é", "a" * 65, "a\n", "a.b"])
def test_a_namespace_that_could_share_a_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigurationError, match="`namespace` must be"):
        leanrag.open(tmp_path, namespace=name)
    assert list(tmp_path.iterdir()) == []


def test_vectors_of_a_damaged_document_are_not_taken_over(rag, docs, embedder):
    rag.add(docs)
    old = next(record.id for record in rag.documents() if record.title == "b.txt")
    with rag._store._database.writing() as connection:
        connection.execute(
            "UPDATE vectors SET data = (SELECT data FROM vectors ORDER BY chunk LIMIT 1) WHERE chunk IN"
            " (SELECT chunks.id FROM chunks JOIN documents ON key = document WHERE documents.id = ?)",
            (old,),
        )
    assert [damage.document_id for damage in rag.check()] == [old]
    rag.update(old, metadata={"year": 2026})
    assert [damage.document_id for damage in rag.check()] == [old]
    embedder.texts.clear()
    (docs / "b.txt").rename(docs / "bread.txt")
    rag.sync(docs)
    assert embedder.texts == ["bread.txt\nBread is baked."]
    assert rag.check() == []
