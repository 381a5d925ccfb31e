"""What adding documents costs beside the embedder, and how well the graph of vectors finds real ones."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import leanrag
from benchmarks.common import Questions as DataSet
from benchmarks.corpus.material import DIM
from leanrag.llama import LlamaCppEmbedder
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import Embedder
from leanrag.retrieval import FlatIndex, GrowingIndex
from leanrag.retrieval.entries import Entry
from leanrag.retrieval.store import Store
from leanrag.text import split_sentences
from leanrag.types import Chunk, Document

__all__ = ["EMBEDDER", "ingest_ratio", "own_us_chunk", "recall", "recall_real"]

EMBEDDER = "all-minilm-l6-v2"
_TOP = 10
_BATCH = 500
_PASSAGES = 10  # of a document


class _Recording:
    """An embedder that keeps the texts of documents.

    Attributes:
        texts: Texts of documents so far.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.id, self.dim, self.max_tokens = embedder.id, embedder.dim, embedder.max_tokens
        self.count_tokens, self.embed_queries = embedder.count_tokens, embedder.embed_queries
        self._embedder = embedder
        self.texts: list[str] = []

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of texts."""
        self.texts += texts
        return self._embedder.embed_documents(texts)


class _Trivial:
    """An embedder that takes no time: words are tokens, and each text has the same vector."""

    id, dim, max_tokens = "trivial", DIM, 256

    def count_tokens(self, text: str) -> int:
        """Return the words of a text."""
        return len(text.split())

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the first axis for each text."""
        return np.broadcast_to(np.eye(1, DIM, dtype=np.float32), (len(texts), DIM))

    embed_queries = embed_documents


def own_us_chunk(passages: Sequence[Document]) -> float:
    """Return the CPU time of `add` for a chunk, in microseconds, without an embedder; a document has ten passages."""
    documents = [
        Document(
            "\n\n".join(passage.text for passage in passages[i : i + _PASSAGES]), id=str(i), title=passages[i].title
        )
        for i in range(0, len(passages), _PASSAGES)
    ]
    with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, embedder=_Trivial()) as rag:
        rag.add_text("The first document, with which the folder is made.")
        started = time.process_time()
        report = rag.add(*documents, progress=False)
        seconds = time.process_time() - started
    return seconds / report.chunks * 1e6


def ingest_ratio(documents: Sequence[Document]) -> float:
    """Return the CPU time of `add` as a multiple of what the embedder alone takes for the same texts."""
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as model:
        model.embed_documents(["A text to load the model."])
        embedder = _Recording(model)
        with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, embedder=embedder) as rag:
            started = time.process_time()
            rag.add(*documents, progress=False)
            seconds = time.process_time() - started
        texts = list(embedder.texts)
        started = time.process_time()
        model.embed_documents(texts)
        return seconds / (time.process_time() - started)


def recall_real(data: DataSet, n_sentences: int, n_questions: int) -> float:
    """Return the share of the ten nearest of real sentences that the graph finds, for real questions."""
    sentences = [
        document.text[start:end] for document in data.documents for start, end in split_sentences(document.text)
    ]
    texts = list(dict.fromkeys(sentences))[:n_sentences]
    asked = [question.text for question in data.questions[:: max(1, len(data.questions) // n_questions)]][:n_questions]
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as model:
        fitting = [text for text in texts if model.count_tokens(text) <= model.max_tokens]
        vectors, queries = model.embed_documents(fitting), model.embed_queries(asked)
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
        store.bind("given vectors", vectors.shape[1], "sentences")
        for start in range(0, len(fitting), _BATCH):
            part = fitting[start : start + _BATCH]
            documents = [Document(text, id=str(start + i)) for i, text in enumerate(part)]
            store.put_many(
                Entry(document, [Chunk(document.id, 0, len(document.text), document.text)], vectors[i : i + 1])
                for i, document in enumerate(documents, start)
            )
        graph, exact = GrowingIndex(vectors.shape[1], least=1), FlatIndex(vectors.shape[1])
        graph.update(store)
        graph.wait()
        exact.update(store)
        found, expected = (index.search(queries, _TOP)[1] for index in (graph, exact))
    return recall(found, expected)


def recall(found: NDArray[np.int64], expected: NDArray[np.int64]) -> float:
    """Return the share of the expected ids of each row that was found."""
    return float(np.mean([np.isin(row, other).mean() for row, other in zip(expected, found, strict=True)]))
