"""What the readers of other libraries' folders have in common: records to documents, and errors."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from leanrag.errors import DocumentError
from leanrag.types import Document, Mark

__all__ = ["check_folder", "reading", "to_document"]

_MOST_VALUES, _MOST_CHARS = 1000, 100_000  # of a list, and of the JSON text of a value
_TITLES = ("title", "file_name", "filename", "source", "file_path", "url")  # fields of metadata, the best first


def to_document(text: str, record_id: str, metadata: Mapping[str, Any], *, page: str | None = None) -> Document:
    """Return a stored record as a document.

    Args:
        text: What the record says.
        record_id: The id of the document, unique among all records.
        metadata: Of any JSON values; those that cannot be filtered by are kept as JSON text.
        page: The name of its page; by default the field `page_label` of the metadata.
    """
    if not isinstance(text, str):
        raise TypeError(f"the text of record {record_id!r} is {type(text).__name__}, not text")
    plain = {str(name): _plain(value) for name, value in metadata.items()}
    title = next((str(plain[name]) for name in _TITLES if plain.get(name)), "")
    page = page or plain.get("page_label")
    marks = (Mark(0, f"page {page}"),) if page else ()
    return Document(text, id=record_id, title=Path(title).name or title, metadata=plain, marks=marks)


def _plain(value: Any) -> Any:
    if _is_scalar(value) or (isinstance(value, list) and len(value) <= _MOST_VALUES and all(map(_is_scalar, value))):
        return value
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value):
        text += piece
        if len(text) > _MOST_CHARS:
            raise ValueError(f"a value of the metadata has more than {_MOST_CHARS:,} characters")
    return text


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, (str, date))


def check_folder(folder: Path, file_name: str, library: str) -> Path:
    """Return the file of a folder that makes it a folder of a library.

    Raises:
        DocumentError: There is no such file.
    """
    file = folder / file_name
    if not file.is_file():
        raise DocumentError(
            f"{str(folder)!r} is not a folder of {library}: it has no file {file_name!r}. Pass the folder that {library} wrote",
            path=folder,
        )
    return file


@contextlib.contextmanager
def reading(path: Path, library: str) -> Iterator[None]:
    """Turn the errors of a damaged file into `DocumentError`."""
    try:
        yield
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        OverflowError,
        MemoryError,
        RuntimeError,  # of the native part of LanceDB
        sqlite3.Error,
    ) as error:
        raise DocumentError(
            f"cannot read {str(path)!r} of {library}: {type(error).__name__}: {error}. It is damaged, or another version of"
            f" {library} wrote it",
            path=path,
        ) from error
