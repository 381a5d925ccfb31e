"""The rank methods of llmlingua that are not the scorer's own: by words, by an embedder, or by a reranker."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Sequence

from leanrag.errors import ConfigurationError
from leanrag.evidence.terms import terms_of
from leanrag.protocols import Embedder, Reranker
from leanrag.types import Chunk, Hit

__all__ = ["RANK_METHODS", "SCORER_METHODS", "Ranker"]

SCORER_METHODS = ("llmlingua", "longllmlingua")
_BY_EMBEDDER = ("embedding", "sentbert", "bge", "bge_llmembedder", "jinza", "openai", "voyageai")
_BY_RERANKER = ("reranker", "bge_reranker", "cohere")
RANK_METHODS = (*SCORER_METHODS, "bm25", "gzip", *_BY_EMBEDDER, *_BY_RERANKER)

_K1, _B = 1.5, 0.75  # Robertson and Zaragoza, 2009; the defaults of the package


class Ranker:
    """Puts documents into an order for a question.

    The package loads a model for each of its names, such as "bge". Here all of them use the embedder or the reranker of the
    caller, and nothing is downloaded.

    Args:
        embedder: For "embedding" and the names of embedders of the package.
        reranker: For "reranker" and the names of rerankers of the package.
    """

    def __init__(self, embedder: Embedder | None = None, reranker: Reranker | None = None) -> None:
        self._embedder, self._reranker = embedder, reranker

    def check(self, method: str) -> None:
        """Raise `ConfigurationError` if a method is unknown, or if its model is missing."""
        if method not in RANK_METHODS:
            raise ConfigurationError(f"`rank_method` must be one of {', '.join(RANK_METHODS)}, got {method!r}")
        if method in _BY_EMBEDDER and self._embedder is None:
            raise ConfigurationError(
                f"`rank_method={method!r}` needs an embedder, and no model is downloaded. Pass"
                " PromptCompressor(..., embedder=LlamaCppEmbedder(path)), or another embedder"
            )
        if method in _BY_RERANKER and self._reranker is None:
            raise ConfigurationError(
                f"`rank_method={method!r}` needs a reranker, and no model is downloaded. Pass PromptCompressor(..., reranker=...)"
            )

    def rank(self, method: str, documents: Sequence[str], question: str) -> list[int]:
        """Return the indices of the documents, best first; equal ones keep their order."""
        self.check(method)
        if method in _BY_RERANKER:
            return self._by_reranker(documents, question)
        scores = self._by_embedder if method in _BY_EMBEDDER else _BY_WORDS[method]
        values = scores(documents, question)
        return sorted(range(len(values)), key=lambda i: -values[i])

    def _by_embedder(self, documents: Sequence[str], question: str) -> list[float]:
        assert self._embedder is not None
        (query,) = self._embedder.embed_queries([question])
        return [float(value) for value in self._embedder.embed_documents(list(documents)) @ query]

    def _by_reranker(self, documents: Sequence[str], question: str) -> list[int]:
        assert self._reranker is not None
        hits = [
            Hit(Chunk(str(number), 0, len(text), text), 1.0 / (number + 1)) for number, text in enumerate(documents)
        ]
        found = [int(hit.chunk.document_id) for hit in self._reranker.rerank(question, hits)]
        return [*found, *(number for number in range(len(documents)) if number not in set(found))]


def _bm25(documents: Sequence[str], question: str) -> list[float]:
    """Return the BM25 score of each document, over the terms that packing uses; a term of a document counts once."""
    terms = [terms_of(text) for text in documents]
    mean_length = sum(map(len, terms)) / len(terms) or 1.0
    scores = [0.0] * len(documents)
    for term in sorted(terms_of(question)):
        having = [number for number, own in enumerate(terms) if term in own]
        weight = math.log(1 + (len(documents) - len(having) + 0.5) / (len(having) + 0.5))
        for number in having:
            length = len(terms[number]) / mean_length
            scores[number] += weight * (_K1 + 1) / (1 + _K1 * (1 - _B + _B * length))
    return scores


def _gzip(documents: Sequence[str], question: str) -> list[float]:
    """Return the normalised compression distance of each document to the question, with the sign changed."""

    def size(text: str) -> int:
        return len(gzip.compress(text.encode("utf-8", "replace"), mtime=0))

    asked = size(question)
    return [
        (min(own, asked) - size(f"{text} {question}")) / max(own, asked)
        for text, own in zip(documents, map(size, documents), strict=True)
    ]


_BY_WORDS: dict[str, Callable[[Sequence[str], str], list[float]]] = {"bm25": _bm25, "gzip": _gzip}
