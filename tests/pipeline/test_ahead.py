"""Files that are read, split and embedded elsewhere are stored as files that this process reads."""

from __future__ import annotations

import pytest

import leanrag
from leanrag.documents.embedding_text import embedding_text
from leanrag.documents.loading import load_file
from leanrag.errors import DocumentError, EngineError, IndexMismatchError
from leanrag.pipeline.ahead import ComputedFile
from leanrag.pipeline.documents import default_chunker
from leanrag.testing import FakeModel, HashEmbedder


class Workers:
    """Works in this process, in reverse order; knows nothing of files whose name begins with "lost"."""

    def __init__(self, embedder_id="hash-64"):
        self.paths, self.embedder_id = [], embedder_id

    def compute(self, tasks, *, readers):
        embedder = HashEmbedder()
        chunker = default_chunker(embedder)
        for task in reversed(tasks):
            self.paths.append(task.path.name)
            if task.path.name.startswith("lost"):
                continue
            try:
                document = load_file(task.path, default_title=task.default_title, encoding=task.encoding)
            except DocumentError as error:
                yield ComputedFile(task.path, error)
                continue
            chunks = chunker.chunk(document)
            texts = [embedding_text(chunk, embedder.count_tokens, embedder.max_tokens) for chunk in chunks]
            yield ComputedFile(
                task.path, None, document, chunks, texts, embedder.embed_documents(texts), chunker.id, self.embedder_id
            )


class CountingEmbedder(HashEmbedder):
    count = 0

    def embed_documents(self, texts):
        self.count += len(texts)
        return super().embed_documents(texts)


def content(rag):
    records = {record.id: (record.sha256, record.title, record.metadata, record.chunks) for record in rag.documents()}
    ids, vectors = rag._store.all_vectors()
    chunks = [chunk.id for chunk in rag._store.get_chunks(ids.tolist())]
    return records, dict(zip(chunks, vectors.tolist(), strict=True))


@pytest.mark.slow
def test_the_content_is_that_of_a_local_add(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(9):
        (docs / f"{i}.md").write_text(
            f"---\ncolour: red\n---\n# Topic {i % 3}\n\nThe apple is red.\n\nNumber {i} of many."
        )
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    workers, embedder = Workers(), CountingEmbedder()
    with (
        leanrag.open(tmp_path / "a", embedder=HashEmbedder(), model=FakeModel()) as here,
        leanrag.open(tmp_path / "b", embedder=embedder, model=FakeModel(), workers=workers) as there,
    ):
        reports = [rag.add(docs, metadata={"team": "x"}) for rag in (here, there)]
        assert content(here) == content(there)
        assert here._store.content_hash() == there._store.content_hash()
        assert (
            [len(reports[1].added), len(reports[1].failed)] == [len(reports[0].added), len(reports[0].failed)] == [9, 1]
        )
        workers.paths.clear()
        (docs / "3.md").write_text("# Topic\n\nThe pear is green.")
        reports = [rag.add(docs, metadata={"team": "x"}) for rag in (here, there)]
        assert reports[0].updated == reports[1].updated
        assert "3.md" in workers.paths
        assert content(here) == content(there)


def test_a_file_that_no_worker_read_ends_the_call_and_its_document_stays(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "lost.md").write_text("apple")
    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel()) as rag:
        rag.add(docs)
    (docs / "lost.md").write_text("a red apple")
    (docs / "kept.md").write_text("pear")
    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel(), workers=Workers()) as rag:
        with pytest.raises(EngineError, match=r"no worker has read .*lost\.md"):
            rag.add(docs)
        assert rag.get_document(str(docs / "lost.md")).text == "apple"


def test_workers_with_another_embedder_are_refused(tmp_path):
    (tmp_path / "a.md").write_text("apple")
    with (
        leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel(), workers=Workers("hash-32")) as rag,
        pytest.raises(IndexMismatchError, match=r"'hash-32'.*Give them those of the folder"),
    ):
        rag.add(tmp_path)
