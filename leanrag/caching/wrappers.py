"""Embedders, rerankers and compressors that keep their results in a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from leanrag.caching.results import Results, key_of, open_results
from leanrag.protocols import (
    ChunkFeature,
    Closable,
    CompressionSource,
    Compressor,
    ComputesAhead,
    Embedder,
    FromFile,
    Reranker,
    StoredFeature,
    TokenCounter,
)
from leanrag.types import Chunk, Compression, Document, Hit
from leanrag.vectors import check_rows, has_unit_norm

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["CachedCompressor", "CachedEmbedder", "CachedReranker", "KeepsResults", "pass_on"]

_ROW = np.dtype("<f4")

Wrapper = TypeVar("Wrapper")


def pass_on(cls: type[Wrapper], wrapped: object, abilities: Iterable[type]) -> type[Wrapper]:
    """Return a subclass of `cls` that also has those of the abilities (Protocols) that the object `wrapped` has.

    An object of this class has `wrapped` as its attribute of the same name.
    """
    present = [ability for ability in abilities if isinstance(wrapped, ability)]
    protocols = [base for ability in present for base in ability.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in protocols for name in vars(base) if not name.startswith("_")}
    members = {name: property(_reads(name)) for name in names if not hasattr(cls, name)}
    return type(cls.__name__, (cls,), {"__doc__": cls.__doc__, **members}) if members else cls


def _reads(name: str) -> Callable[[Any], Any]:
    return lambda self: getattr(self.wrapped, name)


class KeepsResults:
    """Keeps results of `wrapped` in a file."""

    wrapped: Any
    _results: Results

    def close(self) -> None:
        """Close the file, and what is wrapped if it can be closed; idempotent."""
        self._results.close()
        if isinstance(self.wrapped, Closable):
            self.wrapped.close()


class CachedEmbedder(KeepsResults):
    """An embedder that computes the vector of each text once; folders and processes may share the file.

    A vector is found by the hash of its text, the `id` of the embedder, and whether the text is a query or a document. A damaged
    vector is computed again.

    Args:
        wrapped: The embedder.
        path: The file; None keeps the vectors in memory. For several machines, a `leanrag.adapters.RedisResults`.
        max_bytes: Budget of the stored vectors; those that were not used for longest are removed.

    Raises:
        ConfigurationError: `max_bytes` is out of range.
        StorageError: The file is of another program or version.

    Example:
        >>> from leanrag.testing import HashEmbedder
        >>> embedder = CachedEmbedder(HashEmbedder())
        >>> bool((embedder.embed_queries(["a b"]) == embedder.embed_queries(["a b"])).all())
        True
    """

    def __new__(cls, wrapped: Embedder, *_: object, **__: object) -> CachedEmbedder:
        """Pass on what the embedder can do besides."""
        return object.__new__(pass_on(cls, wrapped, (FromFile,)))

    def __init__(
        self, wrapped: Embedder, path: str | os.PathLike[str] | Results | None = None, *, max_bytes: int = 1 << 30
    ) -> None:
        self.wrapped: Embedder = wrapped
        self._results = open_results(path, max_bytes=max_bytes)

    @property
    def id(self) -> str:
        """`id` of the embedder."""
        return self.wrapped.id

    @property
    def dim(self) -> int:
        """`dim` of the embedder."""
        return self.wrapped.dim

    @property
    def max_tokens(self) -> int:
        """`max_tokens` of the embedder."""
        return self.wrapped.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the count of the embedder."""
        return self.wrapped.count_tokens(text)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1."""
        return self._embed("document", texts, self.wrapped.embed_documents)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1."""
        return self._embed("query", texts, self.wrapped.embed_queries)

    def _embed(self, role: str, texts: Sequence[str], compute: Callable[[Sequence[str]], Vectors]) -> Vectors:
        keys = {text: key_of("embed", self.id, self.dim, role, text) for text in texts}
        stored = self._results.get_many(keys.values())
        rows = {text: row for text, key in keys.items() if (row := self._row(stored.get(key))) is not None}
        missing = [text for text in keys if text not in rows]
        if missing:
            computed = check_rows(compute(missing), missing, dim=self.dim, name=self.id, role=role)
            rows |= dict(zip(missing, computed, strict=True))
            self._results.put_many({keys[text]: rows[text].astype(_ROW).tobytes() for text in missing})
        return np.stack([rows[text] for text in texts]) if texts else np.empty((0, self.dim), np.float32)

    def _row(self, value: bytes | None) -> Vectors | None:
        if value is None or len(value) != self.dim * _ROW.itemsize:
            return None
        row: Vectors = np.frombuffer(value, _ROW).astype(np.float32)
        return row if has_unit_norm(row[np.newaxis])[0] else None


class CachedReranker(KeepsResults):
    """A reranker that orders equal hits for an equal question once.

    What changes more of a hit than its score is not stored.

    Args:
        wrapped: The reranker.
        path: The file; None keeps the orders in memory. For several machines, a `leanrag.adapters.RedisResults`.
        name: Tells the results of this reranker, with its model and settings, from those of others in the file.
        max_bytes: Budget of the stored orders.

    Raises:
        ConfigurationError: `max_bytes` is out of range.
        StorageError: The file is of another program or version.
    """

    def __new__(cls, wrapped: Reranker, *_: object, **__: object) -> CachedReranker:
        """Pass on what the reranker can do besides."""
        return object.__new__(pass_on(cls, wrapped, (FromFile,)))

    def __init__(
        self,
        wrapped: Reranker,
        path: str | os.PathLike[str] | Results | None = None,
        *,
        name: str,
        max_bytes: int = 64 << 20,
    ) -> None:
        self.wrapped: Reranker = wrapped
        self._name = name
        self._results = open_results(path, max_bytes=max_bytes)

    def rerank(self, question: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits, best first, as the reranker did."""
        key = key_of("rerank", self._name, question, tuple(hits))
        if (stored := self._results.get(key)) is not None:
            return [replace(hits[i], score=score) for i, score in json.loads(stored)]
        best = self.wrapped.rerank(question, hits)
        numbers = {hit.chunk: i for i, hit in enumerate(hits)}
        order = [(numbers.get(hit.chunk), float(hit.score)) for hit in best]
        if len(numbers) == len(hits) and all(
            i is not None and replace(hits[i], score=score) == hit for (i, score), hit in zip(order, best, strict=True)
        ):
            self._results.put_many({key: json.dumps(order).encode()})
        return best


class CachedCompressor(KeepsResults):
    """A compressor that shortens equal texts in the same way once.

    A stored result is used only if the token counter counts its text, before and after, as when it was stored. Its `seconds` are
    those of the computation.

    Args:
        wrapped: The compressor.
        path: The file; None keeps the results in memory. For several machines, a `leanrag.adapters.RedisResults`.
        settings: Tells results of this compressor from those of others with the same `name` in the file.
        max_bytes: Budget of the stored results.

    Raises:
        ConfigurationError: `max_bytes` is out of range.
        StorageError: The file is of another program or version.
    """

    def __new__(cls, wrapped: Compressor, *_: object, **__: object) -> CachedCompressor:
        """Pass on what the compressor can do besides."""
        return object.__new__(_CachedAheadCompressor if isinstance(wrapped, ComputesAhead) else cls)

    def __init__(
        self,
        wrapped: Compressor,
        path: str | os.PathLike[str] | Results | None = None,
        *,
        settings: str = "",
        max_bytes: int = 64 << 20,
    ) -> None:
        self.wrapped: Compressor = wrapped
        self._settings = settings
        self._results = open_results(path, max_bytes=max_bytes)

    @property
    def name(self) -> str:
        """`name` of the compressor."""
        return self.wrapped.name

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return what the compressor returns; see `Compressor.compress`."""
        texts = sources if isinstance(sources, (str, Document, Chunk, Hit)) else tuple(sources)
        spans = [tuple(each) for each in keep]
        key = key_of("compress", self.name, self._settings, texts, budget, rate, question, spans)
        stored = self._results.get_value(key, Compression)
        if stored is not None:
            counts = count_tokens(stored.restore()), count_tokens(stored.text)
            if counts == (stored.tokens_before, stored.tokens_after):
                return stored
        compression = self.wrapped.compress(
            sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep
        )
        self._results.put_value(key, compression)
        return compression


class _CachedAheadCompressor(CachedCompressor):
    """A cached compressor that can compute a part of its work when chunks are added."""

    @property
    def feature(self) -> ChunkFeature:
        """`feature` of the compressor."""
        assert isinstance(self.wrapped, ComputesAhead)
        return self.wrapped.feature

    def with_stored(self, stored: StoredFeature) -> Compressor:
        """Return the same compressor, which reads computed values from `stored` and shares the file."""
        assert isinstance(self.wrapped, ComputesAhead)
        other = CachedCompressor.__new__(CachedCompressor, inner := self.wrapped.with_stored(stored))
        other.wrapped, other._settings, other._results = inner, self._settings, self._results
        return other
