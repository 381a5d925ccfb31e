"""Which units of the sources are likely to hold the answer: a linear score of cheap features, one softmax a question."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from leanrag.compression.units import Unit, split_units
from leanrag.text import content_words
from leanrag.types import Chunk, Evidence, Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Vectors

__all__ = ["FEATURES", "SentenceScorer", "SentenceVectors", "StoredFeatures", "features_of"]

FEATURES = ("similarity", "source_similarity", "source_prior", "overlap", "overlap_with_title", "answer_type", "first")
"""What is known of a unit, in the order of the columns of `features_of`.

- similarity: cosine of question and unit;
- source_similarity: cosine of question and the whole chunk;
- source_prior: natural log of the hit's share of all hits' scores;
- overlap, overlap_with_title: share of the question's content words, weighted by how rare they are among the units, that the unit
  (with its source's title) holds;
- answer_type: 1 when the question asks for a date, number, person or place and the unit holds something that looks like one;
- first: 1 for the first unit of a chunk.
"""

# Conditional logit (McFadden 1974) of "holds an answer" over the units of ten hits, on SQuAD 2.0 and Natural Questions alike;
# `python -m benchmarks.evidence` fits and measures them. Without vectors the first two are not known.
_WEIGHTS = np.array([7.0, 0.5, 1.4, 2.0, 3.5, 1.6, 0.25])
_LEXICAL_WEIGHTS = np.array([0.0, 0.0, 1.4, 4.0, 3.5, 1.6, 0.25])

_MAGIC, _VERSION = b"lrsv", 1
_HEADER = struct.Struct("<4sHHI")  # magic, version, columns, units

StoredFeatures: TypeAlias = Callable[[Sequence[Chunk]], Sequence[bytes | None]]
"""What was computed for chunks when they were added, None where there is nothing."""


class _Embedder(Protocol):
    """What is needed of an embedder; any `leanrag.protocols.Embedder` has it."""

    @property
    def id(self) -> str: ...
    @property
    def max_tokens(self) -> int: ...
    def count_tokens(self, text: str) -> int: ...
    def embed_documents(self, texts: Sequence[str]) -> Vectors: ...
    def embed_queries(self, texts: Sequence[str]) -> Vectors: ...


class SentenceVectors:
    """A vector for each unit of a chunk, as bytes to be stored with it: half-precision floats, unit norm.

    Args:
        embedder: What makes the vectors.
    """

    def __init__(self, embedder: _Embedder) -> None:
        self._embedder = embedder

    @property
    def name(self) -> str:
        """Identity of the vectors."""
        return f"sentences/{_VERSION} {self._embedder.id}"

    def compute(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the bytes for each chunk."""
        texts = [chunk.text for chunk in chunks]
        units = [split_units(text) for text in texts]
        vectors = self.embed([(text, own) for text, own in zip(texts, units, strict=True)])
        return [pack_vectors(own) for own in vectors]

    def embed(self, texts: Sequence[tuple[str, Sequence[Unit]]]) -> list[Vectors]:
        """Return the vectors `(units, dim)` of each text's units; long ones count by their beginning."""
        pieces = [self._readable(text[unit.start : unit.end]) for text, units in texts for unit in units]
        rows = self._embedder.embed_documents(pieces) if pieces else np.zeros((0, 0), np.float32)
        bounds = np.cumsum([0, *(len(units) for _, units in texts)])
        return [rows[low:high] for low, high in pairwise(bounds.tolist())]

    def embed_query(self, question: str) -> Vectors:
        """Return the question's vector `(dim,)`."""
        row: Vectors = self._embedder.embed_queries([self._readable(question)])[0]
        return row

    def _readable(self, text: str) -> str:
        count, limit = self._embedder.count_tokens, self._embedder.max_tokens
        while count(text) > limit:
            text = text[: max(1, len(text) * limit // (count(text) + limit // 8))]
        return text


def pack_vectors(vectors: Vectors) -> bytes:
    """Return vectors `(n, dim)` as bytes."""
    return _HEADER.pack(_MAGIC, _VERSION, vectors.shape[1], len(vectors)) + vectors.astype("<f2").tobytes()


def unpack_vectors(data: bytes | None, n_units: int) -> Vectors | None:
    """Return the vectors `(n_units, dim)`, float32; None for bytes that are torn or of something else."""
    if data is None or len(data) < _HEADER.size:
        return None
    magic, version, dim, n = _HEADER.unpack_from(data)
    if (magic, version, n) != (_MAGIC, _VERSION, n_units) or len(data) != _HEADER.size + 2 * n * dim:
        return None
    vectors: Vectors = np.frombuffer(data, "<f2", offset=_HEADER.size).astype(np.float32).reshape(n, dim)
    return vectors


class SentenceScorer:
    """Scores the units of hits for a question; the values of one question's units sum to 1.

    A value is the probability that the unit holds the answer, as a softmax of linear scores sees it. Without an embedder, words
    alone count; without a question, how much a unit is like the rest.

    Args:
        vectors: What embeds units and questions; None for none.
        stored: Where vectors computed ahead come from; what is missing there is embedded now.
    """

    def __init__(self, vectors: SentenceVectors | None = None, stored: StoredFeatures | None = None) -> None:
        self._vectors, self._stored = vectors, stored

    def score(self, question: str, hits: Sequence[Hit]) -> tuple[list[Evidence], NDArray[np.float32] | None]:
        """Return the units of all hits, in order, and which share of each the others repeat; see `EvidenceScorer`."""
        units = [split_units(hit.chunk.text) for hit in hits]
        if not any(units):
            return [], None
        vectors = self._unit_vectors(hits, units) if self._vectors is not None else None
        if not question.strip():
            scores = _centrality(hits, units, vectors)
        elif self._vectors is None or vectors is None:
            scores = features_of(question, hits, units, None, None) @ _LEXICAL_WEIGHTS
        else:
            scores = features_of(question, hits, units, vectors, self._vectors.embed_query(question)) @ _WEIGHTS
        values = np.exp(scores - scores.max())
        values /= values.sum()
        evidence: list[Evidence] = []
        for number, own in enumerate(units):
            first = len(evidence)
            for unit in own:
                needs = None if unit.needs is None else first + unit.needs
                evidence.append(Evidence(number, unit.start, unit.end, float(values[len(evidence)]), needs))
        return evidence, None if vectors is None else _repeats(vectors)

    def _unit_vectors(self, hits: Sequence[Hit], units: Sequence[Sequence[Unit]]) -> Vectors:
        """Vectors `(all units, dim)`: stored ones where there are."""
        assert self._vectors is not None
        stored = self._stored([hit.chunk for hit in hits]) if self._stored else [None] * len(hits)
        rows = [unpack_vectors(data, len(own)) for data, own in zip(stored, units, strict=True)]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            made = self._vectors.embed([(hits[i].chunk.text, units[i]) for i in missing])
            for i, row in zip(missing, made, strict=True):
                rows[i] = row
        return np.concatenate([row for row in rows if row is not None and len(row)])


def features_of(
    question: str,
    hits: Sequence[Hit],
    units: Sequence[Sequence[Unit]],
    vectors: Vectors | None,
    query: Vectors | None,
) -> NDArray[np.float64]:
    """Return the features `(all units, len(FEATURES))`; the vectors `(all units, dim)` and `(dim,)` may be None."""
    pairs = [(hit, unit) for hit, own in zip(hits, units, strict=True) for unit in own]
    features = np.zeros((len(pairs), len(FEATURES)))
    if vectors is not None and query is not None:
        features[:, 0] = vectors @ query
        at = 0
        for hit, own in zip(hits, units, strict=True):
            if own:
                rows = slice(at, at + len(own))
                features[rows, 1] = features[rows, 0].max() if hit.dense is None else hit.dense
                at += len(own)
    sizes = [len(own) for own in units]
    features[:, 2] = np.repeat(_priors(hits), sizes)
    texts = [hit.chunk.text[unit.start : unit.end] for hit, unit in pairs]
    terms = [_terms(text) for text in texts]
    wanted = _terms(question)
    if wanted:
        weight = {term: math.log(1 + len(terms) / (1 + sum(term in held for held in terms))) for term in wanted}
        total = sum(weight.values())
        titles = [_terms(hit.chunk.title) for hit in hits]
        titles_of_units = [title for title, own in zip(titles, units, strict=True) for _ in own]
        for row, (held, title) in enumerate(zip(terms, titles_of_units, strict=True)):
            features[row, 3] = sum(weight[term] for term in wanted & held) / total
            features[row, 4] = sum(weight[term] for term in wanted & (held | title)) / total
    features[:, 5] = _answer_types(question, wanted, texts)
    features[np.cumsum([0, *[n for n in sizes if n]])[:-1], 6] = 1.0
    return features


def _centrality(hits: Sequence[Hit], units: Sequence[Sequence[Unit]], vectors: Vectors | None) -> NDArray[np.float64]:
    """Scores `(all units,)` where nothing is asked: how much a unit is like all of them, and how good its hit is."""
    priors = np.repeat(_priors(hits), [len(own) for own in units])
    if vectors is not None:
        likeness: NDArray[np.float64] = 4.0 * (vectors @ vectors.mean(axis=0)) + priors
        return likeness
    terms = [
        _terms(hit.chunk.text[unit.start : unit.end]) for hit, own in zip(hits, units, strict=True) for unit in own
    ]
    counts: dict[str, int] = {}
    for own in terms:
        for term in own:
            counts[term] = counts.get(term, 0) + 1
    shared = np.array([sum(counts[t] - 1 for t in own) / (len(own) or 1) for own in terms])
    scores: NDArray[np.float64] = 4.0 * shared / max(1.0, shared.max()) + priors
    return scores


def _priors(hits: Sequence[Hit]) -> NDArray[np.float64]:
    scores = np.array([hit.score for hit in hits], np.float64)
    if not np.isfinite(scores).all() or (scores <= 0).any():
        scores = 1.0 / np.arange(1, len(hits) + 1)  # scores of an unknown kind: their order counts
    priors: NDArray[np.float64] = np.log(scores / scores.sum() + 1e-4)
    return priors


_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]{2,}")


def _terms(text: str) -> frozenset[str]:
    """Stems of content words; of scripts without spaces, pairs of characters."""
    terms = set(content_words(text))
    if not text.isascii():
        for run in _UNSPACED.findall(text):
            terms.update(run[i : i + 2] for i in range(len(run) - 1))
    return frozenset(terms)


_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_ASKS_WHEN = re.compile(r"\b(?:when|(?:what|which) (?:year|date|day|month|decade|century))\b", re.IGNORECASE)
_ASKS_HOW_MANY = re.compile(
    r"\bhow (?:many|much|long|far|tall|high|large|big|fast|old|often)\b|\bwhat (?:percent\w*|number|population)\b",
    re.IGNORECASE,
)
_ASKS_WHO_OR_WHERE = re.compile(
    r"\b(?:who|whom|whose|where)\b|\b(?:what|which) (?:city|country|state|place|town|continent|river|person)\b",
    re.IGNORECASE,
)
_DATE = re.compile(rf"\b(?:1\d{{3}}|20\d{{2}})\b|\b(?:{_MONTHS}|century|decade)\b")
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion|half|third|quarter|"
    r"percent)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[\w,;:] )[A-Z][a-z]+")


def _answer_types(question: str, wanted: frozenset[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """1 for texts that hold what looks like an answer of the kind that is asked for; 0 for all when that is not clear."""
    if _ASKS_WHEN.search(question):
        found = [bool(_DATE.search(text)) for text in texts]
    elif _ASKS_HOW_MANY.search(question):
        found = [bool(_NUMBER.search(text)) for text in texts]
    elif _ASKS_WHO_OR_WHERE.search(question):
        found = [any(wanted.isdisjoint(content_words(name)) for name in _NAME.findall(text)) for text in texts]
    else:
        return np.zeros(len(texts))
    return np.array(found, np.float64)


def _repeats(vectors: Vectors) -> NDArray[np.float32]:
    """Share of one unit that another repeats: nothing up to a cosine of 0.85, all from 0.95 on."""
    shares: NDArray[np.float32] = np.clip((vectors @ vectors.T - 0.85) * 10, 0.0, 1.0).astype(np.float32)
    return shares
