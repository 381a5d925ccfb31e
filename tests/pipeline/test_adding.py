"""Every bad input is a typed error or a reported failure; nothing is lost and the others are indexed."""

import os
import subprocess
import sys
import textwrap

import pytest

import leanrag
from leanrag import ConfigurationError, Document, DocumentError, StorageError
from leanrag.documents.chunking import DocumentChunker
from leanrag.evidence.greedy import GreedyPacker
from leanrag.pipeline.adding import Ingestion
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder


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
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=embedder) as rag:
        yield rag


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("Apples grow on trees.", encoding="utf-8")
    (folder / "b.md").write_text("# Bread\n\nBread is baked.\n\n## Rye\n\nRye bread is dark.", encoding="utf-8")
    (folder / "deep" / "c.py").write_text("def cherry():\n    return 'cherry'\n", encoding="utf-8")
    (folder / "d.html").write_text(
        "<h1>Dates</h1><script>x()</script><p>Dates are sweet &amp; brown.</p>", encoding="utf-8"
    )
    return folder


def names(ids):
    return sorted(identity.rsplit("/", 1)[-1] for identity in ids)


def test_a_folder_with_everything_below_it(rag, docs):
    report = rag.add(docs)
    assert names(report.added) == ["a.txt", "b.md", "c.py", "d.html"]
    assert report.chunks == sum(record.chunks for record in rag.documents())
    assert {record.title for record in rag.documents()} == {"a.txt", "b.md", "deep/c.py", "d.html"}
    (hit, *_) = rag.search("dates sweet brown", 1)
    assert "Dates are sweet & brown." in hit.chunk.text
    assert hit.chunk.source == str((docs / "d.html").resolve())


def test_only_what_changed_is_done_again(rag, docs, embedder):
    rag.add(docs)
    embedder.texts.clear()
    report = rag.add(docs)
    assert names(report.unchanged) == ["a.txt", "b.md", "c.py", "d.html"]
    assert embedder.texts == []
    (docs / "a.txt").write_text("Apricots grow on trees.", encoding="utf-8")
    report = rag.add(docs)
    assert (names(report.updated), names(report.unchanged)) == (["a.txt"], ["b.md", "c.py", "d.html"])
    assert embedder.texts == [
        "a.txt\nApricots grow on trees.",
        "Apricots grow on trees.",
    ]  # the chunk, its one sentence
    assert "Apples" not in rag.search("apples grow", 1)[0].chunk.text


def test_a_touched_file_is_read_and_not_embedded(rag, docs, embedder):
    rag.add(docs)
    embedder.texts.clear()
    os.utime(docs / "a.txt", ns=(1, 1))
    assert names(rag.add(docs).unchanged) == ["a.txt", "b.md", "c.py", "d.html"]
    assert embedder.texts == []


def test_a_file_that_vanished_is_removed_with_its_folder_only(rag, docs, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "z.txt").write_text("Zebras.", encoding="utf-8")
    rag.add(docs, tmp_path / "other")
    (docs / "a.txt").unlink()
    (tmp_path / "other" / "z.txt").unlink()
    report = rag.add(docs)
    assert names(report.removed) == ["a.txt"]
    assert "z.txt" in names(record.id for record in rag.documents())


def test_new_metadata_updates(rag, docs):
    rag.add(docs)
    assert len(rag.add(docs, metadata={"year": 2026}).updated) == 4
    assert len(rag.add(docs, metadata={"year": 2026}).unchanged) == 4
    assert len(rag.search("trees", where={"year": 2026})) == rag.stats().chunks


def test_the_same_source_twice_is_added_once(rag, docs):
    report = rag.add(docs / "a.txt", docs / "a.txt", Document("x", id="x"), Document("x", id="x"))
    assert names(report.added) == ["a.txt", "x"]


def bad_files(docs):
    (docs / "empty.txt").write_text("", encoding="utf-8")
    (docs / "binary.txt").write_bytes(b"abc\0def")
    (docs / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (docs / "paper.pdf").write_bytes(b"%PDF-1.7")
    (docs / "photo.png").write_bytes(b"\x89PNG\0")
    (docs / "loop").symlink_to(docs)


def test_bad_files_in_a_folder_are_reported_and_the_rest_is_indexed(rag, docs):
    bad_files(docs)
    report = rag.add(docs)
    assert names(report.added) == ["a.txt", "b.md", "c.py", "d.html"]
    assert names(failure.source for failure in report.failed) == ["binary.txt", "empty.txt", "latin.txt"]
    assert names(report.skipped) == ["paper.pdf", "photo.png"]
    assert all(failure.error.path is not None for failure in report.failed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.txt", "cannot read"),
        ("empty.txt", "holds no text"),
        ("binary.txt", "not a text file"),
        ("latin.txt", "not UTF-8"),
        ("paper.pdf", "not read in this version"),
        ("photo.png", "not"),
    ],
)
def test_a_bad_file_that_was_named_raises_after_the_rest_was_indexed(rag, docs, name, says):
    bad_files(docs)
    with pytest.raises(DocumentError, match=says) as caught:
        rag.add(docs / name, docs / "a.txt")
    assert caught.value.path.name == name
    assert names(caught.value.report.added) == ["a.txt"]
    assert rag.search("apples")[0].chunk.text == "Apples grow on trees."


def test_an_enormous_file_is_refused_by_its_size(rag, docs):
    with (docs / "huge.txt").open("wb") as file:
        file.truncate(65 * 2**20)
    report = rag.add(docs)
    assert names(failure.source for failure in report.failed) == ["huge.txt"]
    assert "too large" in str(report.failed[0].error)
    assert len(report.added) == 4


def test_an_empty_text_is_refused(rag):
    with pytest.raises(DocumentError, match="empty"):
        rag.add_text("  ")


def run(code, **options):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, **options
    )


def test_a_second_writer_gets_an_error_and_readers_go_on(rag, docs, tmp_path):
    rag.add(docs)
    with rag._store.writer():
        result = run(f"""
            import leanrag
            from leanrag.testing import FakeModel, HashEmbedder
            with leanrag.open({str(tmp_path / "kb")!r}, model=FakeModel(), embedder=HashEmbedder()) as rag:
                print(len(rag.search("apples")))
                try:
                    rag.add_text("more")
                except leanrag.StorageError as error:
                    print(error)
        """)
    found, error = result.stdout.splitlines()
    assert int(found) == rag.stats().chunks
    assert "another process is writing" in error


@pytest.mark.skipif(sys.platform != "linux", reason="permissions of another system")
def test_a_read_only_folder_is_read_and_not_written(rag, docs, tmp_path):
    rag.add(docs)
    rag.close()
    folder = tmp_path / "kb"
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    result = run(f"""
        import ctypes, os
        if os.getuid() == 0:  # permissions bind root once it gave up its capabilities
            header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            assert ctypes.CDLL(None).capset(header, none) == 0
        import leanrag
        from leanrag.testing import FakeModel, HashEmbedder
        with leanrag.open({str(folder)!r}, model=FakeModel(), embedder=HashEmbedder()) as rag:
            print(len(rag.search("apples")))
            try:
                rag.add_text("more")
            except leanrag.StorageError as error:
                print(error.path)
        try:
            leanrag.open({str(folder / "new")!r})
        except leanrag.StorageError as error:
            print(error.path)
    """)
    folder.chmod(0o755)
    found, written, made = result.stdout.splitlines()
    assert int(found) > 0
    assert written.startswith(str(folder))
    assert made == str(folder / "new")


def test_an_interrupted_add_keeps_what_it_did(tmp_path, docs):
    class Interrupting(HashEmbedder):
        calls = 0

        def embed_documents(self, texts):
            Interrupting.calls += 1
            if Interrupting.calls == 3:  # chunks, then sentences, of the first batch came before
                raise KeyboardInterrupt
            return super().embed_documents(texts)

    many = [Document(f"Fact {n}. " * 30, id=f"fact{n:03}") for n in range(300)]
    with leanrag.open(tmp_path / "kb2", model=FakeModel(), embedder=Interrupting()) as rag:
        with pytest.raises(KeyboardInterrupt):
            rag.add(*many)
        kept = {record.id for record in rag.documents()}
        assert kept == {document.id for document in many[: len(kept)]}
        assert 0 < len(kept) < 300
        report = rag.add(*many)
        assert (len(report.unchanged), len(report.added)) == (len(kept), 300 - len(kept))


def test_progress_is_shown_when_asked(rag, docs, capsys):
    rag.add(docs, progress=True)
    assert "Adding" in capsys.readouterr().err
    rag.add(docs)
    assert capsys.readouterr().err == ""


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StorageError, match="is a file"):
        leanrag.open(tmp_path / "file")


# What is computed of chunks when they are added


class Lengths:
    """Says how long a chunk is, and remembers what it was asked about."""

    def __init__(self, name="lengths", short_by=0):
        self.name, self.short_by = name, short_by
        self.seen = []

    def compute(self, chunks):
        self.seen += [chunk.id for chunk in chunks]
        return [str(len(chunk.text)).encode() for chunk in chunks[self.short_by :]]


@pytest.fixture
def ingest(tmp_path, embedder):
    with Store(tmp_path / "kb") as store:
        chunker = DocumentChunker(embedder.count_tokens, max_tokens=12)
        store.bind(embedder.id, embedder.dim, chunker.id)

        def run(*documents, features):
            return Ingestion(store, chunker, embedder, features=features).run(documents)

        run.store = store
        yield run


def test_features_are_stored_with_their_chunk_and_computed_once(ingest):
    documents = [Document(f"Word {'more ' * n}of it. " * 4, id=f"d{n}") for n in range(5)]
    lengths, others = Lengths(), Lengths("others")
    report = ingest(*documents, features=[lengths, others])
    chunks = ingest.store.get_chunks(ingest.store.chunk_ids())
    assert len(chunks) == report.chunks > 8
    assert lengths.seen == others.seen == [chunk.id for chunk in chunks]
    for chunk in chunks:
        for name in ("lengths", "others"):
            assert ingest.store.get_feature(name, chunk) == str(len(chunk.text)).encode()
    lengths.seen.clear()
    assert len(ingest(*documents, features=[lengths]).unchanged) == 5
    assert lengths.seen == []
    ingest(Document("Another text.", id="d0"), features=[lengths])
    assert lengths.seen == ["d0:0-13"]
    assert ingest.store.get_feature("lengths", chunks[0]) is None  # the old text's


def test_a_feature_that_does_not_tell_of_every_chunk_is_refused(ingest):
    with pytest.raises(ConfigurationError, match="got 0 of feature 'lengths'"):
        ingest(Document("One text.", id="a"), features=[Lengths(short_by=1)])
    assert ingest.store.stats().documents == 0


def test_sentences_are_embedded_for_the_packer_that_asks_for_them(tmp_path):
    text = "Apples grow on trees. Bread is baked."
    for folder, options, expected in [
        ("ours", {}, [text, "Apples grow on trees.", "Bread is baked."]),
        ("own", {"packer": GreedyPacker()}, [text]),
    ]:
        embedder = CountingEmbedder()
        with leanrag.open(tmp_path / folder, model=FakeModel(), embedder=embedder, **options) as rag:
            rag.add_text(text)
        assert embedder.texts == expected
