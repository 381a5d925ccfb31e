"""Documents and vectors made from random numbers: words as rare as in real text, vectors in clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from leanrag.retrieval.entries import Entry
from leanrag.types import Chunk, Document

__all__ = ["DIM", "Questions", "entries", "fresh_document", "questions"]

DIM = 384
CHUNKS = 10
"""Of a document."""

_WORDS = 100  # of a chunk
_VOCABULARY = 50_000
_CLUSTERS, _SPREAD = 2000, 0.7
_WORDS_ASKED = 6
_COMMON = 50  # most common words, which no question has


class Questions:
    """Questions and an embedder that knows their vectors: embedding takes no time.

    Attributes:
        texts: The questions.
        vectors: Their vectors, `(n, DIM)`.
    """

    id, dim, max_tokens = "given vectors", DIM, 256

    def __init__(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        self.texts, self.vectors = tuple(texts), vectors
        self._vectors = dict(zip(texts, vectors, strict=True))

    def count_tokens(self, text: str) -> int:
        """Return the words of a text."""
        return len(text.split())

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of the questions."""
        return np.stack([self._vectors[text] for text in texts])

    embed_documents = embed_queries


def _vocabulary() -> tuple[NDArray[np.str_], NDArray[np.float64]]:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    random = np.random.default_rng(1)
    words = np.array(["".join(random.choice(letters, size=size)) for size in random.integers(3, 11, _VOCABULARY)])
    shares = 1 / np.arange(1, _VOCABULARY + 1) ** 0.9
    return words, np.cumsum(shares / shares.sum())


_words, _shares = _vocabulary()
_centers = np.random.default_rng(2).normal(size=(_CLUSTERS, DIM))


def _draw(random: np.random.Generator, count: int) -> NDArray[np.str_]:
    return _words[np.minimum(np.searchsorted(_shares, random.random(count)), _VOCABULARY - 1)]


def _vectors(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    rows = _centers[random.integers(0, _CLUSTERS, count)] + _SPREAD * random.normal(size=(count, DIM))
    unit: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def entries(first: int, last: int) -> Iterator[Entry]:
    """Yield documents `first` to `last` with their chunks and vectors; metadata keep half, 1 % and .1 % of them."""
    for number in range(first, last):
        random = np.random.default_rng([3, number])
        parts = [" ".join(_draw(random, _WORDS)) + ".\n" for _ in range(CHUNKS)]
        metadata = {"half": number % 2, "percent": number % 100, "permille": number % 1000}
        document = Document("".join(parts), id=f"document-{number}", title=f"Document {number}", metadata=metadata)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        chunks = [
            Chunk(document.id, end - len(part), end, part, document.title)
            for part, end in zip(parts, ends, strict=True)
        ]
        yield Entry(document, chunks, _vectors(random, CHUNKS))


def fresh_document(number: int) -> Entry:
    """Return a short document that no folder has yet."""
    (entry,) = entries(10**9 + number, 10**9 + number + 1)
    text = entry.chunks[0].text
    document = Document(text, id=entry.document.id, title=entry.document.title)
    return Entry(document, [Chunk(document.id, 0, len(text), text, document.title)], entry.vectors[:1])


def questions(count: int) -> Questions:
    """Return questions of words that occur in the documents, the most common left out."""
    random = np.random.default_rng(4)
    texts = [" ".join(random.choice(_words[_COMMON:5000], size=_WORDS_ASKED, replace=False)) for _ in range(count)]
    return Questions(texts, _vectors(random, count))
