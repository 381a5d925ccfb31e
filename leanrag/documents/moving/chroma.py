"""A folder of Chroma (`PersistentClient`)."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from leanrag.documents.moving.records import check_folder, reading, to_document
from leanrag.errors import ConfigurationError
from leanrag.types import Document

__all__ = ["from_chroma"]

_TEXT = "chroma:document"
_RECORDS = (
    "SELECT embeddings.id, collections.name, embeddings.embedding_id FROM embeddings"
    " JOIN segments ON segments.id = embeddings.segment_id JOIN collections ON collections.id = segments.collection"
    " ORDER BY embeddings.id"
)


def from_chroma(folder: str | os.PathLike[str], *, collection: str | None = None) -> Iterator[Document]:
    """Yield a document for each text of a folder of Chroma; vectors are not read, and nothing is written.

    Args:
        folder: As it was passed to `PersistentClient`.
        collection: Name of the collection; None takes all.

    Raises:
        ConfigurationError: There is no such collection.
        DocumentError: The folder is not such a folder, or is damaged.

    Example:
        >>> rag.add(*leanrag.documents.from_chroma("chroma", collection="rules"))  # doctest: +SKIP
    """
    file = check_folder(Path(folder), "chroma.sqlite3", "Chroma")
    with reading(file, "Chroma"), contextlib.closing(_connect(file)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM collections ORDER BY name")]
        documents = [
            document
            for number, name, record_id in connection.execute(_RECORDS).fetchall()
            if collection in (None, name)
            for document in _documents(connection, number, f"chroma:{name}/{record_id}")
        ]
    if collection is not None and collection not in names:
        raise ConfigurationError(f"`collection` must be one of {', '.join(map(repr, names))}, got {collection!r}")
    return iter(documents)


def _connect(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _documents(connection: sqlite3.Connection, number: int, record_id: str) -> Iterator[Document]:
    """Yield the document of a record; none if it has no text."""
    cursor = connection.execute("SELECT * FROM embedding_metadata WHERE id = ?", (number,))
    columns = [column for column, *_ in cursor.description]
    metadata: dict[str, Any] = {}
    for values in cursor:
        row = dict(zip(columns, values, strict=True))
        metadata[row["key"]] = _value(row)
    text = metadata.pop(_TEXT, None) or ""
    if text.strip():
        yield to_document(text, record_id, metadata)


def _value(row: dict[str, Any]) -> Any:
    if row.get("bool_value") is not None:
        return bool(row["bool_value"])
    return next((row[name] for name in ("string_value", "int_value", "float_value") if row[name] is not None), None)
