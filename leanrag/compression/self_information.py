"""Compression by the probabilities of a GGUF model: sources that make the question likely stay, and words that surprise the model.

The formulas are those of LongLLMLingua (Jiang et al., ACL 2024) and LLMLingua (Jiang et al., EMNLP 2023). llama.cpp computes them;
words stay or go whole, and the budget is exact.
"""

from __future__ import annotations

import bisect
import contextlib
import copy
import dataclasses
import re
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from leanrag.checks import check_at_least, check_choice, check_share
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.task import Part, Task, assemble
from leanrag.errors import BudgetError, ConfigurationError
from leanrag.evidence.likelihood import (
    BEFORE,
    LikelihoodScorer,
    head,
    question_likelihoods,
    room_of,
    score_pairs,
    windows,
)
from leanrag.evidence.protection import Protection
from leanrag.protocols import CompressionSource, EvidenceScorer, StoredFeature, TextScorer, TokenCounter
from leanrag.spans import Span, merge_spans
from leanrag.types import Chunk, Compression, Scores

__all__ = [
    "Alignment",
    "CompressionUnit",
    "SelfInformationCompressor",
    "StoredInformation",
    "split_words",
    "word_information",
]

Alignment: TypeAlias = Literal["aligned", "shifted"]
CompressionUnit: TypeAlias = Literal["word", "sentence"]
Values: TypeAlias = NDArray[np.float64]

_SEGMENT = 200  # tokens that are scored at a time; LLMLingua, section 4.2
_STEP = 0.1  # nats; a byte stores a multiple of it, up to 25.5
_MAGIC = b"SIw1"
_REFILLS = 8  # words that do not fit into the remaining budget, and are skipped for smaller words

# Scripts that put no spaces between words: an ideograph is a word, and so is a run of kana; punctuation joins what precedes it.
_WIDE = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_MARKS = r"[\u3001-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufe00-\ufe0f\U000e0100-\U000e01ef]*"
_WORD = re.compile(rf"(?:[\u3040-\u309f]+|[\u30a0-\u30ff\uff66-\uff9f]+|[{_WIDE}]){_MARKS}|[^\s{_WIDE}]+")


@dataclass(frozen=True, slots=True)
class StoredInformation:
    """The self-information of chunks, computed when they are added: a `ChunkFeature`.

    Attributes:
        name: Another name stands for other values.
        compute: `SelfInformationCompressor.precompute`.
    """

    name: str
    compute: Callable[[Sequence[Chunk]], list[bytes]]


@dataclass(frozen=True, slots=True)
class _Atom:
    """A word or sentence, or several that a protected span holds together."""

    source: int
    start: int
    end: int
    score: float | None
    is_required: bool
    reason: str


class SelfInformationCompressor:
    """Keeps sentences that make the question likely for a small GGUF model, or words that surprise it.

    With `unit="sentence"` the model reads the most promising sentences, and those that make the question likely stay
    (`LikelihoodScorer`). Words are chosen with `unit="word"`, without a question, and if no sentence fits: sources are ranked by
    log p(question | source), the last ones are left out, and of the others the words with the highest -log p(word | text before)
    stay. The threshold is lower for the first sources. Words and protected spans stay whole (with `unit="sentence"`, a quotation of
    several sentences may lose a sentence). The result never exceeds the budget.

    Args:
        scorer: The model that scores, such as a `LlamaCppModel`; it may be another model than the reader.
        unit: What stays or goes. Sentences (whole, or clauses of them) keep more answers in the same number of tokens, take less
            time, and are easier for readers.
        evidence: Finds the promising sentences; by default `SentenceScorer()`, which reads only words.
        alignment: "aligned" takes the surprise of the word itself; "shifted" that of the token after each of its tokens, as the
            llmlingua package does.
        contrast: Whether the value of a word is how much the question raises its probability (LongLLMLingua, equation 4), not its
            surprise. It needs another pass, and is not better with a small model.
        rank_documents: Whether the question ranks the sources; otherwise their order does, best first.
        dynamic_ratio: How much more of its words the first source keeps than the average, and the last source less, in [0, 1];
            LongLLMLingua, equation 5.
        spare: Sources are taken, best first, until they exceed the budget by this share of it; 0 takes the fewest sources.
        iterative: Whether each 200 tokens are scored after what was kept of the tokens before (LLMLingua, algorithm 2), not after
            the whole text before. It cannot use stored values.
        protection: What may not be cut.
        stored: Returns for a chunk the bytes that `precompute` made of it, or None. Bytes of another model, text or setting are
            ignored. With them words need no computation, and with `rank_documents=False` nothing does.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> compressor = SelfInformationCompressor(LlamaCppModel("small.gguf"))  # doctest: +SKIP
        >>> compressor.compress(texts, budget=200, count_tokens=reader.count_tokens, question="Who?").text  # doctest: +SKIP
    """

    name = "self-information"

    def __init__(
        self,
        scorer: TextScorer,
        *,
        unit: CompressionUnit = "sentence",
        evidence: EvidenceScorer | None = None,
        alignment: Alignment = "aligned",
        contrast: bool = False,
        rank_documents: bool = True,
        dynamic_ratio: float = 0.6,
        spare: float = 0.25,
        iterative: bool = False,
        protection: Protection | None = None,
        stored: StoredFeature | None = None,
    ) -> None:
        check_choice(get_args(CompressionUnit), unit=unit)
        check_choice(get_args(Alignment), alignment=alignment)
        check_share(dynamic_ratio=dynamic_ratio)
        check_at_least(0, spare=spare)
        if iterative and stored is not None:
            raise ConfigurationError(
                "`iterative` cannot use `stored` values, because its scores depend on what is kept. Pass only one of them"
            )
        self._scorer, self._unit, self._alignment, self._contrast = scorer, unit, alignment, contrast
        self._window = room_of(scorer)
        self._ranks, self._dynamic_ratio, self._spare = rank_documents, dynamic_ratio, spare
        self._iterative, self._stored = iterative, stored
        self._protection = protection or Protection()
        self._by_sentences = ExtractiveCompressor(LikelihoodScorer(scorer, evidence), protection=self._protection)

    @property
    def feature(self) -> StoredInformation:
        """What `precompute` returns, and the name under which it is stored."""
        return StoredInformation(f"{self.name}/1/{self._scorer.name}/{self._alignment}", self.precompute)

    def with_stored(self, stored: StoredFeature) -> SelfInformationCompressor:
        """Return the same compressor with other stored values. An iterative compressor ignores them."""
        other = copy.copy(self)
        if not self._iterative:
            other._stored = stored
        return other

    def precompute(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the self-information of the words of each chunk as bytes: a header of 8 bytes, and a byte for each word.

        Raises:
            CompressionError: The model failed.
        """
        texts = [chunk.text for chunk in chunks]
        return [_pack(values, self._key(text)) for text, values in zip(texts, self._information(texts), strict=True)]

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[Span] | Sequence[Sequence[Span]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens; see `leanrag.protocols.Compressor`.

        Raises:
            BudgetError: The text that must stay does not fit.
            ConfigurationError: An argument cannot work.
            CompressionError: The model failed.
        """
        task = Task.of(
            sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question.strip(), keep=keep
        )
        if task.fits:
            return task.whole(self.name)
        words = [split_words(hit.chunk.text) for hit in task.hits]
        required = [atom for source, own in enumerate(words) for atom in self._atoms(task, source, own, None)]
        kept = _choose(task, required, _scores(required))  # raises before the model has scored anything
        if not task.budget:
            return task.finish(_runs(required, kept), self.name)
        if self._unit == "sentence" and task.question:
            with contextlib.suppress(BudgetError):  # words may fit where sentences do not
                return self._compress_by_sentences(task)
        ranking = self._rank(task)
        chosen = _affordable(task, [source for source, _ in ranking], self._spare)
        values = self._word_values(task, chosen)
        atoms = [
            atom for source, own in enumerate(words) for atom in self._atoms(task, source, own, values.get(source))
        ]
        kept = _choose(task, atoms, _priorities(atoms, chosen, self._dynamic_ratio))
        dropped = _runs(atoms, ~kept, "budget") + [
            Part(source, 0, len(task.hits[source].chunk.text), score, "irrelevant")
            for source, score in ranking
            if source not in chosen
        ]
        return task.finish(_runs(atoms, kept), self.name, dropped)

    def _compress_by_sentences(self, task: Task) -> Compression:
        compression = self._by_sentences.compress(
            task.hits, count_tokens=task.count_tokens, budget=task.budget, question=task.question, keep=task.keep
        )
        return dataclasses.replace(compression, method=self.name, seconds=time.perf_counter() - task.started)

    def _rank(self, task: Task) -> list[tuple[int, float]]:
        """Return the sources and their scores, best first: log p(question | source) + log p(source)."""
        texts = [hit.chunk.text for hit in task.hits]
        scores = _prior(len(texts))
        if self._ranks and task.question and len(texts) > 1:
            scores = scores + question_likelihoods(self._scorer, task.question, texts)
        return [(int(source), float(scores[source])) for source in np.argsort(-scores, kind="stable")]

    # Words

    def _word_values(self, task: Task, chosen: Sequence[int]) -> dict[int, Values]:
        """Return the value of each word of the chosen sources; higher is better."""
        texts = [task.hits[source].chunk.text for source in chosen]
        contrast = self._contrast and bool(task.question)
        if self._iterative:
            values = self._iterate(task, texts, BEFORE)
            if contrast:
                asked = self._iterate(task, texts, self._condition(task.question))
                values = [without - conditioned for without, conditioned in zip(values, asked, strict=True)]
            return dict(zip(chosen, values, strict=True))
        known = {source: stored for source in chosen if (stored := self._lookup(task.hits[source].chunk)) is not None}
        missing = [source for source in chosen if source not in known]
        computed = self._information([task.hits[source].chunk.text for source in missing])
        known |= dict(zip(missing, computed, strict=True))
        if contrast:
            asked = self._information(texts, self._condition(task.question))
            known = {source: known[source] - conditioned for source, conditioned in zip(chosen, asked, strict=True)}
        return known

    def _information(self, texts: Sequence[str], condition: str = BEFORE) -> list[Values]:
        """Return -log p(word | condition, text before) for each word of each text, in steps of `_STEP` nats."""
        room = self._window - (0 if condition == BEFORE else len(self._scorer.tokenize(condition)))
        located = [self._scorer.tokenize(text) for text in texts]
        pairs, windows_of_pairs = [], []
        for number, tokens in enumerate(located):
            for low, first, high in windows(len(tokens), room):
                pairs.append((condition, [token for token, _ in tokens[low:high]]))
                windows_of_pairs.append((number, low, first, high))
        information = [np.zeros(len(tokens)) for tokens in located]
        for (number, low, first, high), scores in zip(windows_of_pairs, score_pairs(self._scorer, pairs), strict=True):
            information[number][first:high] = -_logprobs(scores)[first - low :]
        return [
            _rounded(self._of_words(text, tokens, own))
            for text, tokens, own in zip(texts, located, information, strict=True)
        ]

    def _of_words(self, text: str, tokens: Sequence[tuple[int, int]], information: Values) -> Values:
        if self._alignment == "shifted" and len(information):
            information = np.append(information[1:], information[-1])
        return word_information(split_words(text), [start for _, start in tokens], information)

    def _iterate(self, task: Task, texts: Sequence[str], condition: str) -> list[Values]:
        """Return what `_information` does, but score each segment after what was kept of the segments before."""
        share = min(1.0, task.budget / max(1, sum(map(task.count, texts))))
        size = min(_SEGMENT, self._window // 4)
        kept, results = "", []
        for text in texts:
            tokens = self._scorer.tokenize(text)
            words = split_words(text)
            values = np.zeros(len(words))
            for low in range(0, len(tokens), size):
                segment = tokens[low : low + size]
                before = condition + self._tail(kept, self._window - size - len(self._scorer.tokenize(condition)))
                (scores,) = score_pairs(self._scorer, [(before, [token for token, _ in segment])])
                own = self._of_words(text, segment, -_logprobs(scores))
                first = bisect.bisect_right([end for _, end in words], segment[0][1])
                end = tokens[low + size][1] if low + size < len(tokens) else len(text)
                stop = bisect.bisect_left([start for start, _ in words], end)
                values[first:stop] = np.maximum(values[first:stop], own[first:stop])
                least = np.quantile(values[first:stop], 1 - share) if stop > first else 0.0
                staying = [text[slice(*words[i])] for i in range(first, stop) if values[i] >= least]
                kept += " ".join(["", *staying])
            kept += "\n\n"
            results.append(_rounded(values))
        return results

    def _condition(self, question: str) -> str:
        return head(self._scorer, question, self._window // 4) + "\n\n"

    def _tail(self, text: str, n_tokens: int) -> str:
        tokens = self._scorer.tokenize(text)
        return text if len(tokens) <= n_tokens else text[tokens[-n_tokens][1] :]

    # Storage

    def _key(self, text: str) -> bytes:
        return f"{self.feature.name}\0{text}".encode("utf-8", "surrogatepass")

    def _lookup(self, chunk: Chunk) -> Values | None:
        data = self._stored(chunk) if self._stored is not None else None
        return None if data is None else _unpack(data, self._key(chunk.text), len(split_words(chunk.text)))

    # Choice

    def _atoms(
        self, task: Task, source: int, units: Sequence[Span], values: Values | None, reason: str = "surprising"
    ) -> list[_Atom]:
        """Return the atoms of a source; none if it has no values and nothing of it must stay."""
        text, keep = task.hits[source].chunk.text, task.keep[source]
        required = self._protection.required(text, keep)
        asked = dataclasses.replace(self._protection, everywhere=False).required(text, keep)
        if values is None and not required:
            return []
        atoms, at = [], 0
        for start, end in merge_spans([*units, *self._protection.spans(text, keep)], joins_touching=False):
            first = at
            while at < len(units) and units[at][1] <= end:
                at += 1
            score = None if values is None else float(max(values[first:at], default=0.0))
            is_required = _overlaps(required, start, end)
            why = reason if not is_required else "kept" if _overlaps(asked, start, end) else "protected"
            atoms.append(_Atom(source, start, end, score, is_required, why))
        return atoms


def split_words(text: str) -> list[Span]:
    """Return the spans of the words of `text`: runs of anything but white space, ideographs, and runs of kana.

    Example:
        >>> text = "He said: 東京、は cold."
        >>> [text[start:end] for start, end in split_words(text)]
        ['He', 'said:', '東', '京、', 'は', 'cold.']
    """
    return [match.span() for match in _WORD.finditer(text)]


def word_information(words: Sequence[Span], starts: Sequence[int], information: Values) -> Values:
    """Return for each word the largest information of its tokens; 0 if no token touches it.

    Args:
        words: Disjoint spans of a text, in order.
        starts: For each token the offset of its first character, in order.
        information: The information of each token, in nats.

    Example:
        >>> word_information([(0, 2), (3, 6)], [0, 1, 2], np.array([1.0, 4.0, 3.0]))
        array([4., 3.])
    """
    values = np.zeros(len(words))
    if not words or not len(starts):
        return values
    begins, ends = np.array(words).T
    last = max(int(ends[-1]), starts[-1] + 1)
    # several tokens may begin in the same character
    stops = np.maximum(np.append(starts[1:], last), np.asarray(starts) + 1)
    first_words = np.searchsorted(ends, starts, side="right")
    stop_words = np.searchsorted(begins, stops, side="left")
    for first, stop, own in zip(first_words, stop_words, information, strict=True):
        values[first:stop] = np.maximum(values[first:stop], own)
    return values


def _prior(n: int) -> Values:
    """Return log p(source) but for a constant: Zipf's law over the order of the sources."""
    return -np.log(np.arange(1, n + 1))


def _logprobs(scores: Scores) -> Values:
    return np.array([0.0 if logprob is None else logprob for logprob in scores.logprobs])


def _affordable(task: Task, order: Sequence[int], spare: float) -> list[int]:
    """Return the first sources, until they take the budget and the spare."""
    chosen: list[int] = []
    tokens = 0
    for source in order:
        if chosen and tokens >= task.budget * (1 + spare):
            break
        chosen.append(source)
        tokens += task.count(task.hits[source].chunk.text)
    return chosen


def _overlaps(spans: Sequence[Span], start: int, end: int) -> bool:
    """Return whether any of `spans` (disjoint, in order) overlaps the span from `start` to `end`."""
    at = bisect.bisect_right(spans, start, key=lambda span: span[1])
    return at < len(spans) and spans[at][0] < end


def _priorities(atoms: Sequence[_Atom], chosen: Sequence[int], dynamic_ratio: float) -> Values:
    """Return for each atom the share of the text that is worth less, plus a shift for its source.

    The shift is up to `dynamic_ratio` for the first sources, and as much below 0 for the last, so that a common threshold keeps
    more of the first.
    """
    scores = _scores(atoms)
    sizes = np.array([float(atom.end - atom.start) for atom in atoms])
    _, ties = np.unique(scores, return_inverse=True)
    level = np.bincount(ties, sizes) if len(atoms) else np.zeros(0)
    below = (np.cumsum(level) - level / 2) / max(1.0, float(level.sum()))
    middle = (len(chosen) - 1) / 2
    shifts = {source: dynamic_ratio * (middle - rank) / middle if middle else 0.0 for rank, source in enumerate(chosen)}
    return np.array([below[tie] + shifts.get(atom.source, 0.0) for tie, atom in zip(ties, atoms, strict=True)])


def _scores(atoms: Sequence[_Atom]) -> Values:
    return np.array([-np.inf if atom.score is None else atom.score for atom in atoms])


def _choose(task: Task, atoms: Sequence[_Atom], priorities: Values) -> NDArray[np.bool_]:
    """Return which atoms stay: the required ones, then as many others as fit, by priority.

    Raises:
        BudgetError: The required atoms do not fit.
    """
    kept: NDArray[np.bool_] = np.array([atom.is_required for atom in atoms], bool)
    tokens = _count(task, atoms, kept)
    if tokens > task.budget:
        raise task.too_small(tokens)
    waiting = [i for i in np.argsort(-priorities, kind="stable").tolist() if not kept[i] and atoms[i].score is not None]
    guess = int(len(waiting) * task.budget / task.tokens_before)
    for _ in range(_REFILLS):
        n = _most(lambda n: _count(task, atoms, _with(kept, waiting[:n])) <= task.budget, len(waiting), max(1, guess))  # noqa: B023
        kept = _with(kept, waiting[:n])
        waiting, guess = waiting[n + 1 :], 1  # the next atom does not fit
        if not waiting or _count(task, atoms, kept) >= task.budget:
            break
    return kept


def _with(kept: NDArray[np.bool_], more: Sequence[int]) -> NDArray[np.bool_]:
    trial: NDArray[np.bool_] = kept.copy()
    trial[list(more)] = True
    return trial


def _most(fits: Callable[[int], bool], n: int, guess: int) -> int:
    """Return the largest number up to `n` that fits; 0 does, and larger numbers fit less. It is quick near `guess`."""
    low, step = 0, guess
    while low + step <= n and fits(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, n + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _count(task: Task, atoms: Sequence[_Atom], kept: NDArray[np.bool_]) -> int:
    return task.count(assemble(task.hits, _runs(atoms, kept))[0])


def _runs(atoms: Sequence[_Atom], member: NDArray[np.bool_], reason: str | None = None) -> list[Part]:
    """Return the members as parts: neighbours are joined, with their mean score."""
    runs: list[list[_Atom]] = []
    last = -2
    for i in np.flatnonzero(member).tolist():
        atom = atoms[i]
        if i == last + 1 and (runs[-1][-1].source, runs[-1][-1].reason) == (atom.source, atom.reason):
            runs[-1].append(atom)
        else:
            runs.append([atom])
        last = i
    parts = []
    for run in runs:
        scores = [atom.score for atom in run if atom.score is not None]
        score = float(np.mean(scores)) if scores else None
        parts.append(Part(run[0].source, run[0].start, run[-1].end, score, reason or run[0].reason))
    return parts


def _rounded(values: Values) -> Values:
    """Round the values, so that stored and computed values choose the same words."""
    return np.rint(values / _STEP).clip(0, 255) * _STEP


def _pack(values: Values, key: bytes) -> bytes:
    data = np.rint(values / _STEP).astype(np.uint8).tobytes()
    return _MAGIC + zlib.crc32(data, zlib.crc32(key)).to_bytes(4, "little") + data


def _unpack(data: bytes, key: bytes, n_words: int) -> Values | None:
    """Return the values; None if they are of another model, text or format, or damaged."""
    body = data[8:]
    if len(body) != n_words or data[:8] != _MAGIC + zlib.crc32(body, zlib.crc32(key)).to_bytes(4, "little"):
        return None
    return np.frombuffer(body, np.uint8).astype(np.float64) * _STEP
