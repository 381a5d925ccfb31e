"""Makes the folders that the tests of moving in read, with the libraries themselves.

python -m venv movein && movein/bin/pip install langchain-community faiss-cpu llama-index-core chromadb lancedb
movein/bin/python tests/documents/moving/make_folders.py
"""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import lancedb
import pyarrow
from chromadb import PersistentClient
from langchain_community.vectorstores import FAISS
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from llama_index.core import Document as LlamaDocument
from llama_index.core import MockEmbedding, Settings, StorageContext, VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter

FOLDERS = Path(__file__).parent / "folders"
TEXTS = [
    "Keys are kept by the porter.",
    "The canteen opens at noon. Ümläute, 北京 and 🔑 stay.",
    "Cars park behind the hall.",
]
METADATA = [
    {"source": "rules.pdf", "page": 0, "page_label": "i", "year": 2024},
    {"source": "rules.pdf", "page": 3, "public": True, "score": 0.5},
    {"source": "cars.md", "nested": {"a": [1, 2]}, "none": None},
]
IDS = ["one", "two", "three"]


def make_langchain() -> None:
    documents = [Document(text, metadata=metadata) for text, metadata in zip(TEXTS, METADATA, strict=True)]
    FAISS.from_documents(documents, DeterministicFakeEmbedding(size=4), ids=IDS).save_local(str(FOLDERS / "langchain"))


def make_llama_index() -> None:
    Settings.embed_model, Settings.llm = MockEmbedding(4), None
    documents = [
        LlamaDocument(text=text, metadata=metadata, doc_id=name)
        for text, metadata, name in zip(TEXTS, METADATA, IDS, strict=True)
    ]
    storage = StorageContext.from_defaults()
    VectorStoreIndex.from_documents(documents, storage_context=storage, transformations=[SentenceSplitter()])
    storage.persist(str(FOLDERS / "llama_index"))


def make_chroma() -> None:
    client = PersistentClient(str(FOLDERS / "chroma"))
    plain = [{name: value for name, value in row.items() if isinstance(value, (str, int, float))} for row in METADATA]
    for name, ids in (("rules", IDS), ("other", ["four"])):
        collection = client.create_collection(name, embedding_function=None)
        count = len(ids)
        collection.add(
            ids=ids, documents=TEXTS[:count], metadatas=plain[:count], embeddings=[[0.1, 0.2, 0.3, 0.4]] * count
        )


def shrink_chroma() -> None:
    """Keep the database alone, in small pages."""
    for folder in (FOLDERS / "chroma").iterdir():
        if folder.is_dir():
            shutil.rmtree(folder)
    with contextlib.closing(sqlite3.connect(FOLDERS / "chroma" / "chroma.sqlite3", isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")


def make_lancedb() -> None:
    rows = [
        {
            "id": name,
            "vector": [0.1, 0.2, 0.3, 0.4],
            "text": text,
            "source": metadata["source"],
            "page": metadata.get("page"),
        }
        for name, text, metadata in zip(IDS, TEXTS, METADATA, strict=True)
    ]
    lancedb.connect(str(FOLDERS / "lancedb")).create_table("rules", pyarrow.Table.from_pylist(rows))


if __name__ == "__main__":
    shutil.rmtree(FOLDERS, ignore_errors=True)
    FOLDERS.mkdir()
    make_langchain()
    make_llama_index()
    make_chroma()
    shrink_chroma()
    make_lancedb()
