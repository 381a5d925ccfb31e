"""A persist folder of LlamaIndex (`StorageContext.persist`)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from leanrag.documents.moving.records import check_folder, reading, to_document
from leanrag.types import Document

__all__ = ["from_llama_index"]


def from_llama_index(folder: str | os.PathLike[str]) -> Iterator[Document]:
    """Yield a document for each node with text of a persist folder of LlamaIndex. The files of vectors are not read.

    Args:
        folder: As it was passed to `StorageContext.persist`.

    Raises:
        DocumentError: The folder is not such a folder, or is damaged.

    Example:
        >>> rag.add(*leanrag.documents.from_llama_index("storage"))  # doctest: +SKIP
    """
    file = check_folder(Path(folder), "docstore.json", "LlamaIndex")
    with reading(file, "LlamaIndex"):
        content = json.loads(file.read_text(encoding="utf-8"))
        nodes: Mapping[str, Any] = content.get("docstore/data", {})
        documents = [_document(node_id, node["__data__"]) for node_id, node in nodes.items()]
    return iter([document for document in documents if document.text.strip()])


def _document(node_id: str, node: Any) -> Document:
    fields: Mapping[str, Any] = json.loads(node) if isinstance(node, str) else node
    resource = fields.get("text_resource") or {}
    text = fields.get("text") or resource.get("text") or ""
    return to_document(text, f"llama-index:{node_id}", fields.get("metadata") or {})
