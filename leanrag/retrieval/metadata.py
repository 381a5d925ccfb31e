"""Changes of the metadata of stored documents."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Set

from leanrag.retrieval.checksums import changing_record
from leanrag.retrieval.entries import check_metadata, insert_fields
from leanrag.retrieval.schema import to_sql
from leanrag.types import MetadataValue, plain_metadata

__all__ = ["update_metadata"]


def update_metadata(
    connection: sqlite3.Connection, document_id: str, metadata: Mapping[str, MetadataValue], dropped: Set[str]
) -> bool:
    """Set fields of a document, remove the `dropped` ones, and return whether that changed anything."""
    row = connection.execute("SELECT key, metadata FROM documents WHERE id = ?", (to_sql(document_id),)).fetchone()
    if row is None:
        return False
    key, before = row[0], json.loads(row[1])
    after = {name: value for name, value in before.items() if name not in dropped} | plain_metadata(metadata)
    if after == before:
        return False
    check_metadata(document_id, after)
    with changing_record(connection, key):
        connection.execute("UPDATE documents SET metadata = ? WHERE key = ?", (json.dumps(after), key))
    connection.execute("DELETE FROM fields WHERE document = ?", (key,))
    insert_fields(connection, key, after)
    return True
