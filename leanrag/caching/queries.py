"""An embedder that remembers the vectors of its last queries."""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import EmbeddingError, LeanRAGError
from leanrag.protocols import Closable, Embedder
from leanrag.vectors import check_rows

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["QueryCache"]


class QueryCache:
    """An embedder that remembers the vectors of the last queries, and checks all vectors; any thread may call.

    Args:
        embedder: The embedder that computes the vectors.
        size: Number of queries to remember.

    Raises:
        ConfigurationError: `size` is less than 1.
    """

    def __init__(self, embedder: Embedder, *, size: int = 256) -> None:
        check_whole(1, size=size)
        self.embedder = embedder
        self._size = size
        self._rows: collections.OrderedDict[str, Vectors] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._count = functools.lru_cache(maxsize=size)(embedder.count_tokens)

    @property
    def id(self) -> str:
        """`id` of the embedder."""
        return self.embedder.id

    @property
    def dim(self) -> int:
        """`dim` of the embedder."""
        return self.embedder.dim

    @property
    def max_tokens(self) -> int:
        """`max_tokens` of the embedder."""
        return self.embedder.max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the count of the embedder. The counts of the last texts are remembered.

        Raises:
            EmbeddingError: The embedder raised an error that is not of this library.
        """
        try:
            return self._count(text)
        except LeanRAGError:
            raise
        except Exception as error:
            raise self._failed("counting the tokens of", [text], error) from error

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1. Nothing is remembered.

        Raises:
            ConfigurationError: The embedder returned anything else.
            EmbeddingError: The embedder raised an error that is not of this library.
        """
        return self._embed("document", texts, self.embedder.embed_documents)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1. The rows of remembered texts are not computed again.

        Raises:
            ConfigurationError: The embedder returned anything else.
            EmbeddingError: The embedder raised an error that is not of this library.
        """
        if not texts:
            return np.empty((0, self.dim), np.float32)
        with self._lock:
            known = {text: self._rows[text] for text in texts if text in self._rows}
            for text in known:
                self._rows.move_to_end(text)
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        if missing:
            rows = self._embed("query", missing, self.embedder.embed_queries)
            known |= {text: row.copy() for text, row in zip(missing, rows, strict=True)}
            with self._lock:
                self._rows |= {text: known[text] for text in missing}
                while len(self._rows) > self._size:
                    self._rows.popitem(last=False)
        return np.stack([known[text] for text in texts])

    def _embed(self, role: str, texts: Sequence[str], compute: Callable[[Sequence[str]], Vectors]) -> Vectors:
        try:
            rows = compute(texts)
        except LeanRAGError:
            raise
        except Exception as error:
            raise self._failed("embedding", texts, error) from error
        return check_rows(rows, texts, dim=self.dim, name=self.id, role=role)

    def _failed(self, action: str, texts: Sequence[str], error: Exception) -> EmbeddingError:
        others = f" and {len(texts) - 1} other texts" if len(texts) > 1 else ""
        return EmbeddingError(
            f"The embedder {self.id!r} failed while {action} {texts[0][:40]!r}{others}: {type(error).__name__}: {error}."
            " Correct the embedder, or use another embedder."
        )

    def close(self) -> None:
        """Close the embedder, if it can be closed."""
        if isinstance(self.embedder, Closable):
            self.embedder.close()
