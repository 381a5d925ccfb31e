"""A table of LanceDB."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leanrag._optional import require
from leanrag.documents.moving.records import reading, to_document
from leanrag.errors import ConfigurationError, DocumentError
from leanrag.types import Document

__all__ = ["from_lancedb"]


def from_lancedb(
    folder: str | os.PathLike[str], *, table: str | None = None, text: str = "text", record_id: str = "id"
) -> Iterator[Document]:
    """Yield a document for each row with text of a folder of LanceDB; the other columns, without vectors, are its metadata.

    Args:
        folder: As it was passed to `lancedb.connect`.
        table: Name of the table; None takes all.
        text: Column of the texts.
        record_id: Column of the ids; without it the rows are numbered.

    Raises:
        ConfigurationError: There is no such table or column.
        DocumentError: The folder is not such a folder, or is damaged.
        MissingDependencyError: The extra `lancedb` is not installed.

    Example:
        >>> rag.add(*leanrag.documents.from_lancedb("lancedb", table="rules"))  # doctest: +SKIP
    """
    path = Path(folder)
    lancedb = require("lancedb", extra="lancedb", why="to read a table of LanceDB")
    names = sorted(found.stem for found in path.glob("*.lance"))
    if not names:
        raise DocumentError(
            f"{str(path)!r} is not a folder of LanceDB: it has no table. Pass the folder that LanceDB wrote", path=path
        )
    if table is not None and table not in names:
        raise ConfigurationError(f"`table` must be one of {', '.join(map(repr, names))}, got {table!r}")
    documents = []
    for name in names if table is None else [table]:
        with reading(path / f"{name}.lance", "LanceDB"):
            columns, rows = _read_rows(lancedb.connect(str(path)).open_table(name))
        if text not in columns:
            raise ConfigurationError(f"`text` must be one of {', '.join(map(repr, columns))}, got {text!r}")
        with reading(path / f"{name}.lance", "LanceDB"):
            documents += [_document(row, name, number, text, record_id) for number, row in enumerate(rows)]
    return iter([document for document in documents if document.text.strip()])


def _read_rows(table: Any) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns of a table that are not vectors, and its rows."""
    columns = [column.name for column in table.schema if not str(column.type).startswith("fixed_size_list")]
    return columns, [row for batch in table.search().select(columns).to_batches() for row in batch.to_pylist()]


def _document(row: dict[str, Any], table: str, number: int, text: str, record_id: str) -> Document:
    metadata = {name: value for name, value in row.items() if name not in (text, record_id)}
    return to_document(row[text] or "", f"lancedb:{table}/{row.get(record_id, number)}", metadata)
