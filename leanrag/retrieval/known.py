"""Stored chunks with what was computed of them, so that it need not be computed again for equal chunks."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.retrieval.checksums import has_sound_chunks
from leanrag.retrieval.entries import VECTOR_TYPE
from leanrag.retrieval.schema import from_sql, read_span, to_sql
from leanrag.types import Chunk

__all__ = ["KnownChunk", "read_known_chunks"]


@dataclass(frozen=True, slots=True)
class KnownChunk:
    """A stored chunk.

    Attributes:
        chunk: The chunk.
        vector: Its row of unit norm, float32 `(dim,)`.
        features: What stages computed of it, by name.
    """

    chunk: Chunk
    vector: NDArray[np.float32]
    features: Mapping[str, bytes]


def read_known_chunks(connection: sqlite3.Connection, document_id: str) -> list[KnownChunk]:
    """Return the chunks of a document; none if it is unknown, or if a chunk or vector is damaged."""
    found = connection.execute(
        "SELECT key, id, title, source FROM documents WHERE id = ?", (to_sql(document_id),)
    ).fetchone()
    if found is None:
        return []
    key, *names = found
    if not has_sound_chunks(connection, key):
        return []
    identity, title, source = map(from_sql, names)
    text = read_span(connection, key, 0)
    features: dict[int, dict[str, bytes]] = {}
    for chunk_id, name, data in connection.execute(
        "SELECT chunk, name, data FROM features JOIN chunks ON chunks.id = chunk WHERE document = ?", (key,)
    ):
        features.setdefault(chunk_id, {})[name] = data
    rows = connection.execute(
        "SELECT chunks.id, start, stop, heading, lead_start, lead_stop, data FROM chunks"
        " JOIN vectors ON chunk = chunks.id WHERE document = ? ORDER BY ordinal",
        (key,),
    )
    known = []
    for chunk_id, start, end, heading, lead_start, lead_end, data in rows:
        lead, vector = text[lead_start:lead_end], np.frombuffer(data, VECTOR_TYPE).astype(np.float32)
        chunk = Chunk(identity, start, end, text[start:end], title, from_sql(heading), source, lead, lead_start)
        known.append(KnownChunk(chunk, vector, features.get(chunk_id, {})))
    return known
