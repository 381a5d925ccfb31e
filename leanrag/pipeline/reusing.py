"""Vectors and features of chunks: taken from equal chunks that are stored, computed for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanrag.documents.embedding_text import embedding_text
from leanrag.errors import ConfigurationError
from leanrag.protocols import ChunkFeature, Embedder
from leanrag.retrieval.known import KnownChunk
from leanrag.types import Chunk

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["ChunkData", "ChunkKey", "compute_chunk_data", "key_of", "known_by_key"]

ChunkKey = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class ChunkData:
    """What is stored with chunks.

    Attributes:
        vectors: Float32 `(chunks, dim)`.
        features: By name, bytes for each chunk.
    """

    vectors: Vectors
    features: Mapping[str, Sequence[bytes]]


def key_of(chunk: Chunk, title: str | None = None) -> ChunkKey:
    """Return what chunks with equal vectors have in common, under another title if one is named."""
    return chunk.title if title is None else title, chunk.heading, chunk.lead, chunk.text


def known_by_key(chunks: Iterable[KnownChunk], title: str | None = None) -> dict[ChunkKey, KnownChunk]:
    """Return stored chunks by their keys."""
    return {key_of(known.chunk, title): known for known in chunks}


def compute_chunk_data(
    chunks: Sequence[Chunk],
    known: Mapping[ChunkKey, KnownChunk],
    embedder: Embedder,
    features: Sequence[ChunkFeature],
) -> ChunkData:
    """Return vectors and features of chunks; what is in `known` is not computed again.

    Raises:
        ConfigurationError: A feature has another number of values than there are chunks.
    """
    stored = [known.get(key_of(chunk)) for chunk in chunks]
    new = [i for i, found in enumerate(stored) if found is None]
    vectors = np.zeros((len(chunks), embedder.dim), np.float32)
    if new:
        texts = [embedding_text(chunks[i], embedder.count_tokens, embedder.max_tokens) for i in new]
        vectors[new] = embedder.embed_documents(texts)
    for i, found in enumerate(stored):
        if found is not None:
            vectors[i] = found.vector
    return ChunkData(vectors, {feature.name: _feature(feature, chunks, stored) for feature in features})


def _feature(feature: ChunkFeature, chunks: Sequence[Chunk], stored: Sequence[KnownChunk | None]) -> Sequence[bytes]:
    data = [None if found is None else found.features.get(feature.name) for found in stored]
    new = [i for i, each in enumerate(data) if each is None]
    computed = feature.compute([chunks[i] for i in new]) if new else []
    if len(computed) != len(new):
        raise ConfigurationError(
            f"the feature {feature.name!r} has {len(computed)} values for {len(new)} chunks. Return one for each"
        )
    for i, value in zip(new, computed, strict=True):
        data[i] = value
    return [each for each in data if each is not None]
