"""Every bad input is a typed error or a reported failure; nothing is lost and the others are indexed."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future

import pytest

import leanrag
from leanrag import ConfigurationError, Document, DocumentError, MissingDependencyError, StorageError
from leanrag.display import to_html, to_text
from leanrag.documents.chunking import DocumentChunker
from leanrag.errors import EmbeddingError
from leanrag.evidence.greedy import GreedyPacker
from leanrag.pipeline import adding
from leanrag.pipeline.adding import Ingestion
from leanrag.retrieval.index import FlatIndex
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Mark
from tests.documents.formats.files import encrypted_pdf, pdf, sheets
from tests.stories import PARK, QUESTION, open_rag


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
    assert embedder.texts == ["a.txt\nApricots grow on trees."]
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


def known(rag):
    return names(record.id for record in rag.documents())


def test_a_file_that_was_added_alone_vanishes_with_its_folder(rag, docs):
    rag.add(docs / "a.txt")
    rag.add(docs / "deep" / "c.py")
    rag.add(docs)
    (docs / "a.txt").unlink()
    (docs / "deep" / "c.py").unlink()
    assert names(rag.add(docs).removed) == ["a.txt", "c.py"]
    assert known(rag) == ["b.md", "d.html"]


def test_a_file_that_was_added_alone_and_never_with_its_folder_vanishes_too(rag, docs):
    rag.add(docs / "a.txt")
    (docs / "a.txt").unlink()
    assert names(rag.add(docs).removed) == ["a.txt"]


@pytest.mark.parametrize("content", [b"", b" \n", b"abc\0def", "caf\xe9".encode("latin-1")])
@pytest.mark.parametrize("alone", [False, True])
def test_what_cannot_be_read_any_more_is_not_answered_from(rag, docs, content, alone):
    rag.add(docs)
    (docs / "a.txt").write_bytes(content)
    if alone:
        with pytest.raises(DocumentError) as caught:
            rag.add(docs / "a.txt")
        report = caught.value.report
    else:
        report = rag.add(docs)
    left_out = report.failed if content or alone else report.skipped  # an empty file in a folder is no failure
    assert (names(report.removed), names(getattr(item, "source", item) for item in left_out)) == (["a.txt"], ["a.txt"])
    assert known(rag) == ["b.md", "c.py", "d.html"]
    assert not any("Apples" in hit.chunk.text for hit in rag.search("apples"))
    (docs / "a.txt").write_text("Apples are back.", encoding="utf-8")
    assert names(rag.add(docs).added) == ["a.txt"]


def test_a_file_that_became_binary_is_removed(rag, docs):
    (docs / "NOTES").write_text("Nuts are hard.", encoding="utf-8")
    rag.add(docs)
    (docs / "NOTES").write_bytes(b"\x89PNG\0\0")
    report = rag.add(docs)
    assert (names(report.removed), names(report.skipped)) == (["NOTES"], ["NOTES"])


def a_folder(path):
    path.mkdir()
    (path / "inner.txt").write_text("Nuts are hard.", encoding="utf-8")


def a_link_to_itself(path):
    path.symlink_to(path)


def a_broken_link(path):
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("replace", [a_folder, a_link_to_itself, a_broken_link, os.mkfifo])
@pytest.mark.parametrize("was_alone", [False, True])
def test_a_file_that_became_something_else_is_removed(rag, docs, replace, was_alone):
    rag.add(docs / "a.txt" if was_alone else docs)
    (docs / "a.txt").unlink()
    replace(docs / "a.txt")
    assert names(rag.add(docs).removed) == ["a.txt"]
    assert not any("Apples" in hit.chunk.text for hit in rag.search("apples"))


def test_a_file_that_is_ignored_now_is_removed(rag, docs):
    rag.add(docs)
    (docs / ".gitignore").write_text("a.txt\n", encoding="utf-8")
    assert names(rag.add(docs).removed) == ["a.txt"]
    rag.add(docs / "a.txt")
    assert rag.add(docs).removed == ()  # it was named


def test_files_of_a_folder_that_cannot_be_listed_stay(rag, docs, monkeypatch):
    rag.add(docs)
    list_folder = os.scandir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "not allowed")
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = rag.add(docs)
    assert (report.removed, names(failure.source for failure in report.failed)) == ((), ["deep"])
    assert "c.py" in known(rag)


def test_a_named_file_that_vanished_is_removed(rag, docs):
    rag.add(docs / "a.txt", docs / "b.md")
    (docs / "a.txt").unlink()
    with pytest.raises(DocumentError) as caught:
        rag.add(docs / "a.txt")
    assert names(caught.value.report.removed) == ["a.txt"]
    assert known(rag) == ["b.md"]


def test_metadata_stays_when_nothing_is_said_of_it(rag, docs, embedder):
    rag.add(docs, metadata={"team": "red"})
    embedder.texts.clear()
    assert len(rag.add(docs).unchanged) == 4
    assert embedder.texts == []
    (docs / "a.txt").write_text("Apricots grow on trees.", encoding="utf-8")
    assert names(rag.add(docs).updated) == ["a.txt"]
    assert len(rag.search("trees", where={"team": "red"})) == rag.stats().chunks
    assert len(rag.add(docs, metadata={}).updated) == 4
    assert rag.search("trees", where={"team": "red"}) == []


def test_front_matter_is_read_again_and_what_the_caller_set_stays(rag, tmp_path):
    path = tmp_path / "page.md"

    def metadata():
        (record,) = rag.documents()
        return record.title, dict(record.metadata)

    path.write_text("---\ntitle: Old\nyear: 2024\ndraft: true\n---\nText.", encoding="utf-8")
    rag.add(path, metadata={"team": "red"})
    assert metadata() == ("Old", {"year": 2024, "draft": True, "team": "red"})
    path.write_text("---\ntitle: New\nyear: 2025\n---\nText.", encoding="utf-8")
    assert len(rag.add(path).updated) == 1
    assert metadata() == ("New", {"year": 2025, "team": "red"})
    assert len(rag.add(path).unchanged) == 1


def test_equal_texts_with_other_titles_or_metadata_are_documents_of_their_own(rag):
    rag.add_text("Closed on holidays.", title="Oslo", metadata={"city": "Oslo"})
    rag.add_text("Closed on holidays.", title="Rome", metadata={"city": "Rome"})
    rag.add_text("Closed on holidays.", metadata={"city": "Bonn"})
    rag.add_text("Closed on holidays.")
    assert [record.title for record in rag.documents()] == ["Oslo", "Rome", "", ""]
    assert len(rag.search("Closed", where={"city": "Oslo"})) == 1
    assert len(rag.add_text("Closed on holidays.", title="Oslo", metadata={"city": "Oslo"}).unchanged) == 1


def test_two_documents_of_one_id_in_one_call_are_refused_before_anything_is_added(rag, docs):
    with pytest.raises(ConfigurationError, match="two different documents of the same call have the id 'x'"):
        rag.add(docs, Document("one", id="x"), Document("two", id="x"))
    assert known(rag) == []
    assert rag.add(Document("one", id="x"), Document("one", id="x")).added == ("x",)


@pytest.mark.parametrize("folder", ["kb", "."])
def test_the_files_of_a_database_are_not_documents(docs, folder):
    with leanrag.open(docs / folder, model=FakeModel(), embedder=HashEmbedder()) as rag:
        for _ in range(2):
            report = rag.add(docs)
            assert (report.failed, report.skipped) == ((), ())
        assert known(rag) == ["a.txt", "b.md", "c.py", "d.html"]


def test_a_file_of_the_same_size_and_time_is_read_again_when_its_content_changed(rag, docs):
    path = docs / "a.txt"
    status = path.stat()
    rag.add(docs)
    for text in ("Apples grow on grass.", "Apples grow on roofs."):
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert names(rag.add(docs).updated) == ["a.txt"]
        assert rag.search("apples grow", 1)[0].chunk.text == text


def test_a_file_that_did_not_change_for_a_while_is_not_read_again(rag, docs, monkeypatch):
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    rag.add(docs)
    (record, *_) = rag.documents()
    assert record.mtime_ns is not None
    monkeypatch.setattr(adding, "load_file", None)
    assert len(rag.add(docs).unchanged) == 4


def test_what_is_left_out_of_the_chunks_is_reported(rag, tmp_path):
    picture = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAA" * 90
    path = tmp_path / "a.md"
    path.write_text(f"# Guide\n\nPress the red key.\n\n![shot]({picture})\n\nThen wait.\n", encoding="utf-8")
    report = rag.add(path)
    assert report.left_out == {path.resolve().as_posix(): len(f"]({picture})")}
    assert "left out: " in to_text(report)
    assert rag.add(Document(picture, id="only a picture")).left_out == {"only a picture": len(picture)}
    assert rag.add_text("Words alone.").left_out == {}


def test_files_in_another_encoding_are_read_when_it_is_named(rag, docs):
    (docs / "e.txt").write_bytes("Gebühr: fünf Euro".encode("cp1252"))
    assert names(failure.source for failure in rag.add(docs).failed) == ["e.txt"]
    assert names(rag.add(docs, encoding="cp1252").added) == ["e.txt"]
    with pytest.raises(ConfigurationError, match="`encoding` must be the name of a text encoding"):
        rag.add(docs, encoding="klingon")


def test_a_reader_of_the_caller_reads_its_suffix(tmp_path, docs):
    (docs / "e.pdf").write_bytes(b"%PDF Ada signs.")
    readers = {".pdf": lambda data, path, encoding: Document(data[5:].decode(), id=path.as_posix(), title="Paper")}
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=HashEmbedder(), readers=readers) as rag:
        assert "e.pdf" in names(rag.add(docs).added)
        assert rag.search("Ada signs", 1)[0].chunk.title == "Paper"
    for wrong in ("pdf", ".PDF"):
        with pytest.raises(ConfigurationError, match="must be a suffix in lower case"):
            leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=HashEmbedder(), readers={wrong: readers[".pdf"]})


def test_notebooks_mails_and_ignored_files(rag, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "n.ipynb").write_text('{"cells":[{"cell_type":"markdown","source":["# Ada signs"]}],"nbformat":4}')
    (folder / "m.eml").write_text("From: a@example.com\nSubject: Hi\n\nAda signs.\n")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "x.log").write_text("noise")
    report = rag.add(folder)
    assert (names(report.added), report.skipped) == (["m.eml", "n.ipynb"], ())


def test_a_heading_is_embedded_although_the_title_does_not_fit(tmp_path):
    embedder = CountingEmbedder()
    embedder.max_tokens = 40
    text = "# Guide\n\n## Deep\n\n" + "Some words to read here. " * 20
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=embedder, packer=GreedyPacker()) as rag:
        rag.add(Document(text, title="a title of many words " * 20, kind="markdown"))
    assert len(embedder.texts) > 2
    assert all(text.startswith("Guide > Deep\n") for text in embedder.texts[1:])


def bad_files(docs):
    (docs / "empty.txt").write_text("", encoding="utf-8")
    (docs / "binary.txt").write_bytes(b"abc\0def")
    (docs / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (docs / "paper.pdf").write_bytes(b"%PDF-1.7")
    (docs / "slides.ppt").write_bytes(b"old")
    (docs / "photo.png").write_bytes(b"\x89PNG\0")
    (docs / "loop").symlink_to(docs)


def test_bad_files_in_a_folder_are_reported_and_the_rest_is_indexed(rag, docs):
    bad_files(docs)
    report = rag.add(docs)
    assert names(report.added) == ["a.txt", "b.md", "c.py", "d.html"]
    assert names(failure.source for failure in report.failed) == ["binary.txt", "latin.txt", "paper.pdf"]
    assert names(report.skipped) == ["empty.txt", "photo.png", "slides.ppt"]
    assert all(failure.error.path is not None for failure in report.failed)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.txt", "cannot read"),
        ("empty.txt", "contains no text"),
        ("binary.txt", "not a text file"),
        ("latin.txt", "not UTF-8"),
        ("paper.pdf", "is damaged"),
        ("slides.ppt", ".ppt files are not read. Save it as PDF"),
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


@pytest.mark.slow
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
@pytest.mark.slow
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
    with pytest.raises(ConfigurationError, match="the feature 'lengths' has 0 values for 1 chunks"):
        ingest(Document("One text.", id="a"), features=[Lengths(short_by=1)])
    assert ingest.store.stats().documents == 0


def test_adding_many_chunks_makes_the_graph_that_searches_use(tmp_path, embedder, monkeypatch):
    monkeypatch.setattr("leanrag.retrieval.growing_index._LEAST", 20)
    documents = [Document(f"Fact {n} of the handbook is that room {n} is blue.", id=f"{n}") for n in range(30)]
    for name, index, kind in (("ours", None, "graph"), ("flat", FlatIndex, "exact")):
        with leanrag.open(tmp_path / name, model=FakeModel(), embedder=embedder, index=index) as rag:
            rag.add(*documents[:10], progress=False)
            assert rag.stats().vector_index == "exact"
            rag.add(*documents[10:], progress=False)
            assert rag.stats().vector_index == kind
            assert rag.search("What is fact 17?", 1)[0].chunk.document_id == "17"


def test_adding_embeds_chunks_alone(rag, embedder):
    rag.add_text("Apples grow on trees. Bread is baked.")
    assert embedder.texts == ["Apples grow on trees. Bread is baked."]


# Pages, slides and sheets


def test_a_citation_says_the_page(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        path = tmp_path / "a.pdf"
        path.write_bytes(pdf(["Nothing of interest."], [PARK]))
        rag.add(path)
        answer = rag.ask(QUESTION)
        assert [citation.location for citation in answer.citations] == ["page 2"]
        assert f"{path.resolve()}, page 2 [" in to_text(answer)
        assert "a.pdf, page 2 [" in to_html(answer)
        assert type(answer).from_json(answer.to_json()) == answer


@pytest.mark.slow
def test_heavy_files_are_added_in_order_and_bad_ones_are_reported(rag, docs):
    (docs / "a.pdf").write_bytes(pdf(["Page one."], ["Page two."]))
    (docs / "locked.pdf").write_bytes(encrypted_pdf())
    (docs / "z.xlsx").write_bytes(sheets())
    report = rag.add(docs)
    assert names(report.added) == ["a.pdf", "a.txt", "b.md", "c.py", "d.html", "z.xlsx"]
    assert list(report.added) == sorted(report.added)
    assert names(failure.source for failure in report.failed) == ["locked.pdf"]
    assert rag.search("rent price", 1)[0].chunk.marks[0] == Mark(0, "sheet Costs")
    assert names(rag.add(docs).unchanged) == ["a.pdf", "a.txt", "b.md", "c.py", "d.html", "z.xlsx"]


def test_a_document_whose_pages_moved_is_updated(rag):
    rag.add(Document("One. Two.", id="a", marks=(Mark(0, "page 1"),)))
    moved = Document("One. Two.", id="a", marks=(Mark(0, "page 1"), Mark(5, "page 2")))
    assert rag.add(moved).updated == ("a",)
    assert rag.get_document("a") == dataclasses.replace(moved, title="")
    assert rag.add(moved).unchanged == ("a",)


def test_a_reader_of_the_caller_reads_in_this_process(tmp_path, embedder):
    def read(data, path, encoding):
        return Document(f"{os.getpid()}", kind="text")

    (tmp_path / "a.pdf").write_bytes(b"data")
    with leanrag.open(tmp_path / "kb", model=FakeModel(), embedder=embedder, readers={".pdf": read}) as rag:
        (name,) = rag.add(tmp_path / "a.pdf").added
        assert rag.get_document(name).text == str(os.getpid())


def test_a_missing_library_is_reported_for_its_file(rag, docs, monkeypatch):
    (docs / "a.pdf").write_bytes(pdf(["words"]))
    error = MissingDependencyError("`pypdfium2` is needed", package="pypdfium2", extra="files")
    failed = Future()
    failed.set_exception(error)
    monkeypatch.setattr(adding.FileParser, "submit", lambda *_, **__: failed)
    report = rag.add(docs)
    assert names(report.added) == ["a.txt", "b.md", "c.py", "d.html"]
    assert [failure.error for failure in report.failed] == [error]
    with pytest.raises(DocumentError, match="`pypdfium2` is needed") as caught:
        rag.add(docs / "a.pdf")
    assert caught.value.__cause__ is error
    assert caught.value.path == docs / "a.pdf"


class FailingEmbedder(HashEmbedder):
    """Raises an error in one of its methods."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.failing = method

    def _maybe_fail(self, method: str) -> None:
        if method == self.failing:
            raise KeyError("no such key")

    def count_tokens(self, text):
        if text:  # what special tokens take is counted before any document
            self._maybe_fail("count_tokens")
        return super().count_tokens(text)

    def embed_documents(self, texts):
        self._maybe_fail("embed_documents")
        return super().embed_documents(texts)

    def embed_queries(self, texts):
        self._maybe_fail("embed_queries")
        return super().embed_queries(texts)


def test_an_error_inside_an_embedder_names_the_documents(tmp_path):
    with leanrag.open(tmp_path / "kb", embedder=FailingEmbedder("embed_documents")) as rag:
        documents = [Document(f"Text number {i}.", id=f"text {i}") for i in range(5)]
        with pytest.raises(EmbeddingError) as caught:
            rag.add(*documents)

        assert str(caught.value).startswith("Cannot add 'text 0', 'text 1', 'text 2' and 2 more. The embedder ")
        assert "failed while embedding 'Text number 0.' and 4 other texts: KeyError: 'no such key'." in str(
            caught.value
        )
        assert isinstance(caught.value.__cause__, KeyError)
        assert not list(rag.documents())


def test_an_error_inside_an_embedder_names_the_question(tmp_path):
    with leanrag.open(tmp_path / "kb", embedder=FailingEmbedder("embed_queries")) as rag:
        rag.add(Document("A text.", id="text"))
        with pytest.raises(EmbeddingError, match=r"failed while embedding 'What\?': KeyError: 'no such key'"):
            rag.search("What?")


def test_an_error_while_tokens_are_counted_names_the_text(tmp_path):
    embedder = FailingEmbedder("")
    with leanrag.open(tmp_path / "kb", embedder=embedder) as rag:
        rag.add(Document("A text.", id="text"))
        embedder.failing = "count_tokens"
        with pytest.raises(
            EmbeddingError, match=r"Cannot add 'other'\. The embedder .* failed while counting the tokens of"
        ):
            rag.add(Document("Another text.", id="other"))


def test_progress_is_told(rag, docs):
    told = []
    report = rag.add(docs, progress=lambda done, total: told.append((done, total)))
    total = len(report.added) + len(report.skipped) + len(report.failed)
    assert told == [(done, total) for done in range(1, total + 1)]


def test_an_error_of_the_progress_ends_the_call(rag, docs):
    def stop(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rag.add(docs, progress=stop)
    assert rag.stats().documents == 0  # what was not embedded yet
    assert len(rag.add(docs).added) > 2
