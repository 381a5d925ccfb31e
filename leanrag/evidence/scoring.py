"""Which units of the sources are likely to hold the answer: a linear score of cheap features, then one softmax per question."""

from __future__ import annotations

import collections
import functools
import math
import re
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from leanrag.evidence.terms import is_latin, terms_of
from leanrag.evidence.units import Unit, split_clauses, split_units
from leanrag.evidence.weights import read_weights
from leanrag.text import answer_kind, content_words
from leanrag.types import Chunk, Evidence, Hit
from leanrag.vectors import cosines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Embedder, StoredFeature, StoreFeature, Vectors

__all__ = ["UNIT_FEATURES", "SentenceScorer", "SentenceVectors", "answering_clauses", "features_of", "values_of"]

UNIT_FEATURES = (
    "prior",
    "source_similarity",
    "best_similarity",
    "best_overlap",
    "similarity",
    "overlap",
    "overlap_with_title",
    "own_overlap",
    "answer_type",
    "first",
    "new_words",
    "overlap_under_head",
)
"""What is known of a unit, in the order of the columns of `features_of`.

- prior: natural log of the hit's share of all hits' scores;
- source_similarity, similarity: cosine of the question with the chunk, and with the unit's sentence;
- overlap, overlap_with_title, own_overlap: share of the question's content words, weighted by how rare they are among the
  sentences, that the unit's sentence holds, that it holds together with its source's title, and that the unit itself holds;
- best_similarity, best_overlap: the most of `similarity` and `overlap_with_title` in the chunk;
- answer_type: 1 when the question asks for a date, number, person or place and the unit holds something that looks like one;
- first: 1 in the first sentence of a chunk;
- new_words: natural log of 1 + content words of the unit that are not the question's;
- overlap_under_head: how much more of the question the unit's sentence holds when it is read with the heads above it (headings, a
  question, a key, a table's header, the lead of the chunk).
"""

_CHUNK_SHARE = (
    0.15  # of all value, given to chunks whole, in the order of the hits: what fills the room beside sure units
)

_MAGIC, _VERSION = b"lrsv", 3
_ALIKE = 0.85  # cosine of sentences that may repeat each other
_MOST_COMPARED = 4096  # clauses; comparing more with each other takes gigabytes
_REMEMBERED_CHARS = 8192  # longest text that is remembered taken apart
_REMEMBERED_CHUNKS, _REMEMBERED_UNITS = 512, 16  # chunks whose vectors stay in memory, and the most units of one
_HEADER = struct.Struct("<4sHHI")  # magic, version, columns, units


class SentenceVectors:
    """A vector for each unit of a chunk, as bytes to be stored with it: half-precision floats, unit norm.

    Args:
        embedder: What makes the vectors.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    @property
    def name(self) -> str:
        """Identity of the vectors."""
        return f"sentences/{_VERSION} {self._embedder.id}"

    @property
    def dim(self) -> int:
        """Columns of a vector."""
        return self._embedder.dim

    def compute(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the bytes for each chunk."""
        texts = [chunk.text for chunk in chunks]
        units = [split_units(text) for text in texts]
        vectors = self.embed([(text, own) for text, own in zip(texts, units, strict=True)])
        return [pack_vectors(own) for own in vectors]

    def embed(self, texts: Sequence[tuple[str, Sequence[Unit]]]) -> list[Vectors]:
        """Return the vectors `(units, dim)` of each text's units; long ones count by their beginning."""
        pieces = [self._readable(text[unit.start : unit.end]) for text, units in texts for unit in units]
        row_of = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        distinct = self._embedder.embed_documents(list(row_of)) if pieces else np.zeros((0, self.dim), np.float32)
        rows = distinct[[row_of[piece] for piece in pieces]]
        bounds = np.cumsum([0, *(len(units) for _, units in texts)])
        return [rows[low:high] for low, high in pairwise(bounds.tolist())]

    def embed_query(self, question: str) -> Vectors:
        """Return the question's vector `(dim,)`."""
        row: Vectors = self._embedder.embed_queries([self._readable(question)])[0]
        return row

    def _readable(self, text: str) -> str:
        count, limit = self._embedder.count_tokens, self._embedder.max_tokens
        while count(text) > limit and len(text) > 1:
            text = text[: max(1, len(text) * limit // (count(text) + limit // 8))]
        return text


def pack_vectors(vectors: Vectors) -> bytes:
    """Return vectors `(n, dim)` as bytes."""
    return _HEADER.pack(_MAGIC, _VERSION, vectors.shape[1], len(vectors)) + vectors.astype("<f2").tobytes()


def unpack_vectors(data: bytes | None, n_units: int, dim: int) -> Vectors | None:
    """Return the vectors `(n_units, dim)`, float32; None for bytes that are torn or of something else."""
    if data is None or len(data) != _HEADER.size + 2 * n_units * dim:
        return None
    if _HEADER.unpack_from(data) != (_MAGIC, _VERSION, dim, n_units):
        return None
    vectors: Vectors = np.frombuffer(data, "<f2", offset=_HEADER.size).astype(np.float32).reshape(n_units, dim)
    return vectors if np.isfinite(vectors).all() else None


class SentenceScorer:
    """Scores the units of hits for a question; the values of one question's units sum to 1.

    A value is the probability that the unit holds the answer, as a softmax of linear scores sees it. Without an embedder, words
    alone count; without a question, how much a unit is like the rest.

    Args:
        vectors: What embeds sentences and questions; None for none.
        stored: Where vectors that were computed earlier come from; what is missing there is embedded now.
        store: Keeps what was embedded now; None to forget it.
        clauses: Whether sentences may be kept in part, by their clauses.
    """

    def __init__(
        self,
        vectors: SentenceVectors | None = None,
        stored: StoredFeature | None = None,
        *,
        store: StoreFeature | None = None,
        clauses: bool = True,
    ) -> None:
        self._vectors, self._stored, self._store, self._clauses = vectors, stored, store, clauses
        self._rows: dict[tuple[str, int, str], Vectors] = {}  # of the chunks that were found last
        self._lock = threading.Lock()

    def score(self, question: str, hits: Sequence[Hit]) -> tuple[list[Evidence], NDArray[np.float32] | None]:
        """Return the units of all hits in order, and how much each pair has in common, float32 `(n, n)`; see `EvidenceScorer`."""
        text = _Text.of(hits, clauses=self._clauses)
        if not text.clauses:
            return [], None
        vectors = None if self._vectors is None else self._sentence_vectors(hits, text)
        if not question.strip():
            scores = _centrality(text, vectors)
        elif self._vectors is None or vectors is None or not is_latin(question):
            # embedders for English say little of others
            scores = features_of(question, text, None, None) @ _column(read_weights().words_alone)
        else:
            features = features_of(question, text, vectors, self._vectors.embed_query(question))
            scores = features @ _column(read_weights().with_vectors)
        values = values_of(scores, text)
        evidence = [
            Evidence(text.hit_of[i], start, end, value, text.needs[i], text.groups[i])
            for i, ((start, end), value) in enumerate(zip(text.clauses, values.tolist(), strict=True))
        ]
        return evidence, None if vectors is None else _repeats(text, vectors)

    def _sentence_vectors(self, hits: Sequence[Hit], text: _Text) -> Vectors:
        """Vectors `(sentences, dim)`: stored ones where there are."""
        assert self._vectors is not None
        rows = [self._stored_vectors(hit.chunk, len(own)) for hit, own in zip(hits, text.units, strict=True)]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            made = self._vectors.embed([(hits[i].chunk.text, text.units[i]) for i in missing])
            packed = [pack_vectors(row) for row in made]
            for i, row in zip(missing, made, strict=True):
                rows[i] = row.astype("<f2").astype(np.float32)  # as the next question will read it
            if self._store is not None:
                self._store([(hits[i].chunk, data) for i, data in zip(missing, packed, strict=True)])
        return np.concatenate([row for row in rows if row is not None and len(row)])

    def _stored_vectors(self, chunk: Chunk, n_units: int) -> Vectors | None:
        """Return the stored vectors of a chunk `(n_units, dim)`; None if there are none."""
        assert self._vectors is not None
        if self._stored is None:
            return None
        key = (chunk.document_id, chunk.start, chunk.text)
        rows = self._rows.get(key)
        if rows is None:
            rows = unpack_vectors(self._stored(chunk), n_units, self._vectors.dim)
            if rows is not None and len(rows) <= _REMEMBERED_UNITS:
                with self._lock:
                    if len(self._rows) >= _REMEMBERED_CHUNKS:
                        del self._rows[next(iter(self._rows))]
                    self._rows[key] = rows
        return rows


class _Parts(NamedTuple):
    """What `_Text` holds, of one text."""

    units: tuple[Unit, ...]
    terms: tuple[frozenset[str], ...]
    heads: tuple[int, ...]
    under: tuple[frozenset[str], ...]
    clauses: tuple[tuple[int, int], ...]
    sentence_of: tuple[int, ...]
    needs: tuple[int | None, ...]
    clause_terms: tuple[frozenset[str], ...]


@functools.lru_cache(maxsize=2048)
def _take_apart_again(text: str, clauses: bool, has_lead: bool) -> _Parts:
    return _take_apart(text, clauses, has_lead)


def _take_apart(text: str, clauses: bool, has_lead: bool) -> _Parts:
    units = tuple(split_units(text, begins_inside=has_lead))
    terms: list[frozenset[str]] = []
    heads: list[int] = []
    under: list[frozenset[str]] = []
    spans: list[tuple[int, int]] = []
    sentence_of: list[int] = []
    needs: list[int | None] = []
    clause_terms: list[frozenset[str]] = []
    firsts: list[int] = []
    for unit in units:
        parts = (
            split_clauses(text, unit)
            if clauses and (unit.group is None or unit.kind == "sentence")
            else [(unit.start, unit.end)]
        )
        head = unit.needs
        needs += [None if head is None else firsts[head]] * len(parts)
        while head is not None and units[head].kind == "sentence":  # a sentence that needs another is not a head
            head = units[head].needs
        heads.append(-1 if head is None else head)
        under.append(_NONE if head is None else under[head] | terms[head])
        firsts.append(len(spans))
        words = [terms_of(text[start:end]) for start, end in parts]
        sentence_of += [len(terms)] * len(parts)
        terms.append(words[0] if len(words) == 1 else _NONE.union(*words))
        clause_terms += words
        spans += parts
    return _Parts(
        units,
        tuple(terms),
        tuple(heads),
        tuple(under),
        tuple(spans),
        tuple(sentence_of),
        tuple(needs),
        tuple(clause_terms),
    )


_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Text:
    """The hits, taken apart. Sentences and clauses are numbered through all hits.

    Attributes:
        hits: The hits themselves.
        units: Sentences (or rows, blocks, ...) of each hit.
        terms: Terms of each sentence.
        heads: The head that each sentence stands under (a sentence, too); -1 for none.
        under: Terms of the heads of each sentence; of the headings and the lead of its chunk where it has none in the chunk.
        clauses: Spans of the clauses, in their hits' texts.
        sentence_of: The sentence of each clause.
        hit_of: The hit of each clause.
        needs: The clause that each makes no sense without, or None.
        groups: The group of each clause, or None.
        clause_terms: Terms of each clause.
    """

    hits: Sequence[Hit]
    units: list[tuple[Unit, ...]]
    terms: list[frozenset[str]]
    heads: NDArray[np.int64]
    under: list[frozenset[str]]
    clauses: list[tuple[int, int]]
    sentence_of: NDArray[np.int64]
    hit_of: list[int]
    needs: list[int | None]
    groups: list[int | None]
    clause_terms: list[frozenset[str]]

    @classmethod
    def of(cls, hits: Sequence[Hit], *, clauses: bool) -> _Text:
        units: list[tuple[Unit, ...]] = []
        terms: list[frozenset[str]] = []
        heads: list[int] = []
        under: list[frozenset[str]] = []
        spans: list[tuple[int, int]] = []
        sentence_of: list[int] = []
        hit_of: list[int] = []
        needs: list[int | None] = []
        groups: list[int | None] = []
        clause_terms: list[frozenset[str]] = []
        n_groups = 0
        for number, hit in enumerate(hits):
            chunk = hit.chunk
            is_short = len(chunk.text) <= _REMEMBERED_CHARS
            parts = (_take_apart_again if is_short else _take_apart)(chunk.text, clauses, bool(chunk.lead))
            units.append(parts.units)
            above = terms_of(f"{chunk.heading}\n{chunk.lead}") if chunk.heading or chunk.lead else _NONE
            under += [above if head < 0 else own for head, own in zip(parts.heads, parts.under, strict=True)]
            heads += [-1 if head < 0 else len(terms) + head for head in parts.heads]
            sentence_of += [len(terms) + i for i in parts.sentence_of]
            needs += [None if need is None else len(spans) + need for need in parts.needs]
            own_groups = [parts.units[i].group for i in parts.sentence_of]
            groups += [None if group is None else n_groups + group for group in own_groups]
            n_groups += 1 + max((group for group in own_groups if group is not None), default=-1)
            hit_of += [number] * len(parts.clauses)
            spans += parts.clauses
            terms += parts.terms
            clause_terms += parts.clause_terms
        return cls(
            hits,
            units,
            terms,
            np.array(heads, np.int64),
            under,
            spans,
            np.array(sentence_of, np.int64),
            hit_of,
            needs,
            groups,
            clause_terms,
        )


def _column(weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Weights `(len(UNIT_FEATURES),)` in the order of the features."""
    return np.array([weights.get(name, 0.0) for name in UNIT_FEATURES])


def values_of(scores: NDArray[np.float64], text: _Text) -> NDArray[np.float64]:
    """Return what the clauses are worth `(clauses,)`; together 1.

    Those that cannot answer are worth 0. Most is a softmax of `scores` over the others. A small share goes to the chunks, half as
    much to each as to the one before, and within a chunk by length: where scores say little, the best chunks are packed whole.
    """
    answering = answering_clauses(text)
    odds = np.zeros(len(scores))
    odds[answering] = np.exp(scores[answering] - scores[answering].max())
    lengths = np.array([end - start for start, end in text.clauses]) * answering
    hits = np.array(text.hit_of)
    of_chunk = np.bincount(hits, lengths, minlength=len(text.hits))
    shares = lengths / np.maximum(of_chunk, 1)[hits] * 0.5**hits
    values: NDArray[np.float64] = (1 - _CHUNK_SHARE) * odds / odds.sum() + _CHUNK_SHARE * shares / shares.sum()
    return values


def answering_clauses(text: _Text) -> NDArray[np.bool_]:
    """Return which clauses `(clauses,)` can answer: all but headings, table headers and marks.

    A heading is read with what stands under it, so it is worth nothing alone. If a hit has nothing else, its headings count.
    """
    kinds = [unit.kind for own in text.units for unit in own]
    under = set(text.heads.tolist())
    silent = np.array(
        [kind in ("heading", "mark") or (kind == "row" and i in under) for i, kind in enumerate(kinds)], bool
    )
    starts = 0
    for own in text.units:
        if own and silent[starts : starts + len(own)].all():
            silent[starts : starts + len(own)] = False
        starts += len(own)
    answering: NDArray[np.bool_] = ~silent[text.sentence_of]
    return answering


def features_of(question: str, text: _Text, vectors: Vectors | None, query: Vectors | None) -> NDArray[np.float64]:
    """Return the features `(clauses, len(UNIT_FEATURES))`; the vectors `(sentences, dim)` and `(dim,)` may be None."""
    sizes = [len(own) for own in text.units]
    starts = np.cumsum([0, *sizes])[:-1]
    full = [i for i, n in enumerate(sizes) if n]  # hits that hold anything
    n = len(text.terms)
    similarity, overlap, with_title, with_heads, first = (np.zeros(n) for _ in range(5))
    source_similarity = np.zeros(len(sizes))
    wanted = terms_of(question)
    if vectors is not None and query is not None:
        similarity = (vectors @ query).astype(np.float64)
        for i in full:
            dense = text.hits[i].dense
            source_similarity[i] = similarity[starts[i] : starts[i] + sizes[i]].max() if dense is None else dense
    held_of = [wanted & (own | above) for own, above in zip(text.terms, text.under, strict=True)]
    counts = collections.Counter(term for held in held_of for term in held)
    weights = {term: math.log(1 + n / (1 + counts[term])) for term in wanted}
    total = math.fsum(weights.values()) or 1.0  # exact sums: sets have no order
    titles = [wanted & terms_of(hit.chunk.title) for hit in text.hits]
    sentence_hit = np.repeat(np.arange(len(sizes)), sizes).tolist()

    def share(held: frozenset[str]) -> float:
        return math.fsum(map(weights.__getitem__, held)) / total if held else 0.0

    for i, own in enumerate(text.terms):
        shared = wanted & own
        overlap[i] = share(shared)
        title = titles[sentence_hit[i]]
        with_title[i] = share(shared | title) if title else overlap[i]
        with_heads[i] = share(held_of[i] | title) if len(held_of[i]) > len(shared) else with_title[i]
    first[starts[full]] = 1.0
    best = np.zeros((2, len(sizes)))
    if full:
        best[:, full] = np.maximum.reduceat(np.stack([similarity, with_heads]), starts[full], axis=1)
    by_sentence = np.column_stack(
        [
            np.repeat(np.stack([_priors(text.hits), source_similarity, *best]), sizes, axis=1).T,
            similarity,
            overlap,
            with_title,
        ]
    )
    by_clause = [share(wanted & held) for held in text.clause_terms]
    texts = [text.hits[hit].chunk.text[start:end] for hit, (start, end) in zip(text.hit_of, text.clauses, strict=True)]
    of = text.sentence_of
    return np.column_stack(
        [
            by_sentence[of],
            by_clause,
            _answer_types(question, wanted, texts),
            first[of],
            [math.log1p(len(held - wanted)) for held in text.clause_terms],
            (with_heads - with_title)[of],
        ]
    )


def _centrality(text: _Text, vectors: Vectors | None) -> NDArray[np.float64]:
    """Scores `(clauses,)` where nothing is asked: how much a sentence is like all of them, and how good its hit is."""
    priors = _priors(text.hits)[text.hit_of]
    if vectors is not None:
        likeness = (vectors @ vectors.mean(axis=0))[text.sentence_of]
    else:
        counts = collections.Counter(term for held in text.terms for term in held)
        shared = np.array([sum(counts[term] - 1 for term in held) / (len(held) or 1) for held in text.clause_terms])
        likeness = shared / max(1.0, shared.max())
    scores: NDArray[np.float64] = 4.0 * likeness + priors
    return scores


def _priors(hits: Sequence[Hit]) -> NDArray[np.float64]:
    scores = np.array([hit.score for hit in hits], np.float64)
    if not np.isfinite(scores).all() or (scores <= 0).any():
        scores = 1.0 / np.arange(1, len(hits) + 1)  # scores of an unknown kind: their order counts
    priors: NDArray[np.float64] = np.log(scores / scores.sum() + 1e-4)
    return priors


_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DATE = re.compile(rf"\b(?:1\d{{3}}|20\d{{2}})\b|\b(?:{_MONTHS}|century|decade)\b")
_NUMBER = re.compile(
    r"\d|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|billion|half|third|quarter|"
    r"percent)\b",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[\w,;:] )[A-Z][a-z]+")


def _answer_types(question: str, wanted: frozenset[str], texts: Sequence[str]) -> NDArray[np.float64]:
    """1 for texts that hold what looks like an answer of the kind that is asked for; 0 for all when that is not clear."""
    kind = answer_kind(question)
    if kind == "date":
        found = [bool(_DATE.search(text)) for text in texts]
    elif kind == "number":
        found = [bool(_NUMBER.search(text)) for text in texts]
    elif kind == "name":
        found = [any(wanted.isdisjoint(content_words(name)) for name in _NAME.findall(text)) for text in texts]
    else:
        return np.zeros(len(texts))
    return np.array(found, np.float64)


def _repeats(text: _Text, vectors: Vectors) -> NDArray[np.float32] | None:
    """Return for each pair of clauses the share of terms that both have; 0 if their sentences are not much alike.

    None if there are too many clauses, or if no sentences are alike.
    """
    if len(text.clauses) > _MOST_COMPARED:
        return None
    alike = cosines(vectors, vectors) > _ALIKE
    np.fill_diagonal(alike, False)
    if not alike.any():
        return None
    alike = alike[np.ix_(text.sentence_of, text.sentence_of)]  # (clauses, clauses)
    under = [text.under[sentence] for sentence in text.sentence_of.tolist()]
    numbers: dict[tuple[frozenset[str], object], int] = {}  # a text that repeats itself has few different clauses
    kinds = np.array([numbers.setdefault(key, len(numbers)) for key in zip(text.clause_terms, under, strict=True)])
    order = np.argsort(kinds, kind="stable")
    starts = np.searchsorted(kinds[order], np.arange(len(numbers)))
    by_kind = np.logical_or.reduceat(alike[order], starts, axis=0)  # (kinds, clauses)
    is_needed = np.logical_or.reduceat(by_kind[:, order], starts, axis=1)  # (kinds, kinds)
    shares = np.zeros(is_needed.shape, np.float32)
    keys = list(numbers)
    for i, j in np.argwhere(np.triu(is_needed)).tolist():
        (terms, heading), (other_terms, other_heading) = keys[i], keys[j]
        if heading == other_heading or not heading or not other_heading:
            shares[i, j] = shares[j, i] = len(terms & other_terms) / (min(len(terms), len(other_terms)) or 1)
        # else: the same words under another heading say something else
    result: NDArray[np.float32] = np.where(alike, shares[np.ix_(kinds, kinds)], np.float32(0))
    return result
