"""Other libraries that search by words and vectors. This file runs in a Python of its own, which has them but not leanrag.

    PYTHON benchmarks/corpus/peer_program.py PEER FOLDER

The folder contains `texts.json`, `vectors.npy`, `questions.json` and `queries.npy`. The last line that the program prints is JSON:
the CPU seconds of adding all texts and writing them to disk, the seconds of each search, and the indices of the texts that were
found. Each peer is used as its documentation shows, with the settings that it has by itself.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TOP = 10
_FUSION = 60  # the constant of reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)
_FUSED = 50  # hits of each kind that are fused

Search = Callable[[str, Any], list[int]]


class LlamaIndex:
    """LlamaIndex: vectors in FAISS, words in bm25s, fused by reciprocal ranks."""

    modules = ("faiss", "llama_index.core", "llama_index.retrievers.bm25", "llama_index.vector_stores.faiss")

    def __init__(self, folder: Path, texts: list[str], vectors: Any, queries: dict[str, Any]) -> None:
        from llama_index.core import Settings
        from llama_index.core.embeddings import BaseEmbedding

        class Known(BaseEmbedding):  # type: ignore[misc]
            def _get_query_embedding(self, query: str) -> list[float]:
                return list(queries[query])

            def _get_text_embedding(self, text: str) -> list[float]:
                raise AssertionError(f"{text!r} has a vector already")

            async def _aget_query_embedding(self, query: str) -> list[float]:
                return self._get_query_embedding(query)

        Settings.embed_model = Known()
        Settings.llm = None
        self.folder, self.texts, self.vectors = folder, texts, vectors

    def add(self) -> None:
        """Add all texts with their vectors and write them to disk."""
        import faiss
        from llama_index.core import StorageContext, VectorStoreIndex
        from llama_index.core.schema import TextNode
        from llama_index.retrievers.bm25 import BM25Retriever
        from llama_index.vector_stores.faiss import FaissVectorStore

        nodes = [
            TextNode(text=text, id_=str(i), embedding=vector.tolist())
            for i, (text, vector) in enumerate(zip(self.texts, self.vectors, strict=True))
        ]
        store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(self.vectors.shape[1]))
        index = VectorStoreIndex(nodes, storage_context=StorageContext.from_defaults(vector_store=store))
        index.storage_context.persist(str(self.folder / "index"))
        BM25Retriever.from_defaults(nodes=nodes, similarity_top_k=_FUSED).persist(str(self.folder / "words"))

    def open(self) -> tuple[Search, Search | None]:
        """Open what is on disk; return the search by vectors, and the one by words and vectors if there is one."""
        from llama_index.core import QueryBundle, StorageContext, load_index_from_storage
        from llama_index.core.retrievers import QueryFusionRetriever
        from llama_index.retrievers.bm25 import BM25Retriever
        from llama_index.vector_stores.faiss import FaissVectorStore

        store = FaissVectorStore.from_persist_dir(str(self.folder / "index"))
        index: Any = load_index_from_storage(
            StorageContext.from_defaults(vector_store=store, persist_dir=str(self.folder / "index"))
        )
        dense = index.as_retriever(similarity_top_k=TOP)
        fused = QueryFusionRetriever(
            [
                index.as_retriever(similarity_top_k=_FUSED),
                BM25Retriever.from_persist_dir(str(self.folder / "words")),
            ],
            mode="reciprocal_rerank",
            similarity_top_k=TOP,
            num_queries=1,
            use_async=False,
        )

        def search(retriever: Any) -> Search:
            return lambda text, vector: [
                int(found.node.node_id) for found in retriever.retrieve(QueryBundle(text, embedding=vector.tolist()))
            ]

        return search(dense), search(fused)


class Txtai:
    """txtai: its hybrid index."""

    modules = ("txtai",)

    def __init__(self, folder: Path, texts: list[str], vectors: Any, queries: dict[str, Any]) -> None:
        self.folder, self.texts = folder, texts
        self.known = {**dict(zip(texts, vectors, strict=True)), **queries}

    def add(self) -> None:
        """Add all texts with their vectors and write them to disk."""
        from txtai import Embeddings

        self.embeddings: Any = Embeddings(
            method="external",
            transform=lambda texts: np.stack([self.known[text] for text in texts]),
            content=True,
            hybrid=True,
        )
        self.embeddings.index((i, text, None) for i, text in enumerate(self.texts))
        self.embeddings.save(str(self.folder / "index"))

    def open(self) -> tuple[Search, Search | None]:
        """Return both searches. The files are not read again: they have no room for a function that returns vectors."""
        embeddings = self.embeddings

        def search(weights: float) -> Search:
            return lambda text, _: [int(row["id"]) for row in embeddings.search(text, TOP, weights=weights)]

        return search(1.0), search(0.5)


class LanceDB:
    """LanceDB: exact vectors, its full-text index, and its own fusion by ranks."""

    modules = ("lancedb", "lancedb.rerankers", "pyarrow")

    def __init__(self, folder: Path, texts: list[str], vectors: Any, _: dict[str, Any]) -> None:
        self.folder, self.texts, self.vectors = folder, texts, vectors

    def add(self) -> None:
        """Add all texts with their vectors and write them to disk."""
        import lancedb
        import pyarrow as pa

        rows, dim = self.vectors.shape
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel()), dim)
        data = pa.table({"id": np.arange(rows), "text": self.texts, "vector": vectors})
        table = lancedb.connect(self.folder / "index").create_table("chunks", data)
        table.create_fts_index("text")

    def open(self) -> tuple[Search, Search | None]:
        """Open what is on disk; return the search by vectors, and the one by words and vectors if there is one."""
        import lancedb
        from lancedb.rerankers import RRFReranker

        table = lancedb.connect(self.folder / "index").open_table("chunks")
        reranker = RRFReranker()

        def ids(query: Any) -> list[int]:
            return [int(i) for i in query.limit(TOP).select(["id"]).to_arrow()["id"].to_pylist()]

        def hybrid(text: str, vector: Any) -> list[int]:
            query = table.search(query_type="hybrid").vector(vector).text(text).rerank(reranker)
            return [int(i) for i in query.limit(TOP).to_arrow()["id"].to_pylist()]

        return (lambda _, vector: ids(table.search(vector).metric("dot"))), hybrid


class SqliteVec:
    """sqlite-vec beside FTS5, fused by ranks in Python, as its documentation shows in SQL."""

    modules = ("sqlite_vec", "pysqlite3.dbapi2")

    def __init__(self, folder: Path, texts: list[str], vectors: Any, _: dict[str, Any]) -> None:
        self.path, self.texts, self.vectors = folder / "index.db", texts, vectors

    def _connect(self) -> Any:
        import sqlite_vec
        from pysqlite3 import dbapi2

        connection = dbapi2.connect(str(self.path))
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        return connection

    def add(self) -> None:
        """Add all texts with their vectors and write them to disk."""
        connection = self._connect()
        dim = self.vectors.shape[1]
        connection.execute(f"CREATE VIRTUAL TABLE vectors USING vec0 (embedding float[{dim}] distance_metric=cosine)")
        connection.execute("CREATE VIRTUAL TABLE words USING fts5 (text, tokenize = 'porter unicode61')")
        with connection:
            connection.executemany(
                "INSERT INTO vectors (rowid, embedding) VALUES (?, ?)",
                ((i, vector.tobytes()) for i, vector in enumerate(self.vectors)),
            )
            connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", enumerate(self.texts))
        connection.close()

    def open(self) -> tuple[Search, Search | None]:
        """Open what is on disk; return the search by vectors, and the one by words and vectors if there is one."""
        connection = self._connect()
        by_vector = "SELECT rowid FROM vectors WHERE embedding MATCH ? AND k = ? ORDER BY distance"
        by_words = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?"

        def dense(_: str, vector: Any, most: int = TOP) -> list[int]:
            return [row[0] for row in connection.execute(by_vector, (vector.tobytes(), most))]

        def hybrid(text: str, vector: Any) -> list[int]:
            expression = " OR ".join(f'"{word}"' for word in text.split())
            words = [row[0] for row in connection.execute(by_words, (expression, _FUSED))]
            return fuse(dense(text, vector, _FUSED), words)

        return dense, hybrid


class Chroma:
    """Chroma: vectors alone."""

    modules = ("chromadb",)

    def __init__(self, folder: Path, texts: list[str], vectors: Any, _: dict[str, Any]) -> None:
        self.folder, self.texts, self.vectors = folder, texts, vectors

    def _collection(self) -> Any:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.PersistentClient(str(self.folder / "index"), Settings(anonymized_telemetry=False))
        return client.get_or_create_collection("chunks", configuration={"hnsw": {"space": "cosine"}})

    def add(self) -> None:
        """Add all texts with their vectors and write them to disk."""
        collection = self._collection()
        for start in range(0, len(self.texts), 1000):
            rows = slice(start, start + 1000)
            ids = [str(i) for i in range(start, min(start + 1000, len(self.texts)))]
            collection.add(ids=ids, documents=self.texts[rows], embeddings=self.vectors[rows])

    def open(self) -> tuple[Search, Search | None]:
        """Open what is on disk; return the search by vectors, and the one by words and vectors if there is one."""
        collection = self._collection()

        def dense(_: str, vector: Any) -> list[int]:
            return [int(i) for i in collection.query(query_embeddings=[vector], n_results=TOP)["ids"][0]]

        return dense, None


PEERS: dict[str, Any] = {
    "llamaindex": LlamaIndex,
    "txtai": Txtai,
    "lancedb": LanceDB,
    "sqlite_vec": SqliteVec,
    "chroma": Chroma,
}


def fuse(*lists: list[int]) -> list[int]:
    """Return the best of several lists by the sum of their reciprocal ranks."""
    scores: dict[int, float] = {}
    for ids in lists:
        for rank, i in enumerate(ids, 1):
            scores[i] = scores.get(i, 0.0) + 1 / (_FUSION + rank)
    return sorted(scores, key=lambda i: -scores[i])[:TOP]


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Return what one peer did with the texts and questions of a folder."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    questions = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    vectors, queries = np.load(folder / "vectors.npy"), np.load(folder / "queries.npy")
    home = folder / name
    home.mkdir()
    for module in PEERS[name].modules:  # loading them is not timed
        importlib.import_module(module)
    peer = PEERS[name](home, texts, vectors, dict(zip(questions, queries, strict=True)))
    started = time.process_time()
    peer.add()
    figures: dict[str, Any] = {"add_s": time.process_time() - started}
    for kind, search in zip(("dense", "hybrid"), peer.open(), strict=True):
        if search is None:
            continue
        search(questions[0], queries[0])  # loads what is loaded once
        seconds, found = [], []
        for text, vector in zip(questions, queries, strict=True):
            started = time.process_time()
            found.append(search(text, vector))
            seconds.append(time.process_time() - started)
        figures[kind] = {"seconds": seconds, "found": found}
    return figures


if __name__ == "__main__":
    print("\n" + json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
