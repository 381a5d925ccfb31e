"""A FAISS folder of LangChain (`FAISS.save_local`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from leanrag.documents.moving.pickles import Record, read_pickle
from leanrag.documents.moving.records import check_folder, reading, to_document
from leanrag.types import Document

__all__ = ["from_langchain"]

_DOCSTORES = tuple(
    f"{package}.docstore.in_memory.InMemoryDocstore"
    for package in ("langchain_community", "langchain_classic", "langchain")
)
_DOCUMENTS = (
    "langchain_core.documents.base.Document",
    "langchain.schema.document.Document",
    "langchain.schema.Document",
    "langchain.docstore.document.Document",
)
_DATES: Mapping[str, Callable[..., Any]] = {
    "datetime.date": date,
    "datetime.datetime": datetime,
    "datetime.timedelta": timedelta,
    "datetime.timezone": timezone,
}
_ALLOWED = frozenset((*_DOCSTORES, *_DOCUMENTS, *_DATES, "builtins.set"))


def from_langchain(folder: str | os.PathLike[str], *, name: str = "index") -> Iterator[Document]:
    """Yield a document for each text of a FAISS folder of LangChain. The file of vectors is not read.

    Nothing in the pickle is executed or imported; a pickle that names anything but LangChain's documents is refused.

    Args:
        folder: As it was passed to `FAISS.save_local`.
        name: The `index_name` of `save_local`.

    Raises:
        DocumentError: The folder is not such a folder, is damaged, or its pickle names other classes.

    Example:
        >>> rag.add(*leanrag.documents.from_langchain("faiss_index"))  # doctest: +SKIP
    """
    file = check_folder(Path(folder), f"{name}.pkl", "LangChain")
    with reading(file, "LangChain"):
        with file.open("rb") as stream:
            docstore, _ = read_pickle(stream, _ALLOWED)
        records: Mapping[str, Record] = _state(docstore, _DOCSTORES)["_dict"]
        documents = [_document(record_id, record) for record_id, record in records.items()]
    return iter([document for document in documents if document.text.strip()])


def _document(record_id: str, record: Any) -> Document:
    state = _state(record, _DOCUMENTS)
    fields: Mapping[str, Any] = state.get("__dict__", state)
    metadata = {name: _value(value) for name, value in fields["metadata"].items()}
    page = metadata.get("page")
    label = str(page + 1) if isinstance(page, int) and "page_label" not in metadata else None  # it counts from 0
    return to_document(fields["page_content"], f"langchain:{record_id}", metadata, page=label)


def _value(value: Any) -> Any:
    """Return a value of metadata, dates made from their records."""
    if isinstance(value, Record) and value.name in _DATES:
        return _DATES[value.name](*map(_value, value.arguments))
    return value


def _state(record: Any, names: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(record, Record) or record.name not in names or not isinstance(record.state, dict):
        raise ValueError(f"the pickle has {getattr(record, 'name', type(record).__name__)!r} instead of {names[0]!r}")
    return record.state
