"""How likely a text makes the question, as a GGUF model sees it: what finds evidence by meaning, at the price of reading it."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from leanrag.checks import check_at_least, check_whole
from leanrag.errors import CompressionError, ConfigurationError, GenerationError
from leanrag.evidence.scoring import SentenceScorer
from leanrag.evidence.units import split_units
from leanrag.protocols import EvidenceScorer, TextScorer
from leanrag.types import Evidence, Hit, Scores

__all__ = ["BEFORE", "LikelihoodScorer", "question_likelihoods", "room_of", "score_pairs", "windows"]

BEFORE = "\n"
"""Precedes a text, so that its first token has a probability too."""

_WINDOW = 1024  # tokens read at once, at most; longer texts are read in windows that overlap
_LEAST_N_CTX = 64


class LikelihoodScorer:
    """Lets a model read the most promising sentences, and raises those that make the question likely: an `EvidenceScorer`.

    A unit is worth what `evidence` says, times P(question | its sentence) ** `weight`; what the model did not read counts as the
    least likely that it did. The likelihood is that of LongLLMLingua (Jiang et al., ACL 2024, section 4.1), of sentences. The
    values of one question's units sum to 1.

    Args:
        scorer: The model that reads, such as a `LlamaCppModel`.
        evidence: Finds the promising units; by default `SentenceScorer()`, which compares words only.
        sentences: How many are read; reading takes all the time.
        weight: Of the likelihood, at least 0; tokens of a question are far from independent, so that it is well below 1.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> scorer = LikelihoodScorer(LlamaCppModel("small.gguf"))  # doctest: +SKIP
        >>> packer = EvidencePacker(scorer)  # doctest: +SKIP
    """

    def __init__(
        self, scorer: TextScorer, evidence: EvidenceScorer | None = None, *, sentences: int = 12, weight: float = 0.15
    ) -> None:
        check_whole(1, sentences=sentences)
        check_at_least(0, weight=weight)
        room_of(scorer)
        self._scorer, self._evidence = scorer, evidence or SentenceScorer()
        self._sentences, self._weight = sentences, weight

    def score(self, question: str, hits: Sequence[Hit]) -> tuple[list[Evidence], NDArray[np.float32] | None]:
        """Return the units of all hits in order, and how much each pair has in common, float32 `(n, n)`; see `EvidenceScorer`.

        Raises:
            CompressionError: The model failed.
        """
        units, repeats = self._evidence.score(question, hits)
        units = list(units)
        if not question.strip() or not units:
            return units, repeats
        sentence_of, texts = _sentences(units, hits)
        values = np.array([unit.value for unit in units])
        worth = np.zeros(len(texts))
        np.maximum.at(worth, sentence_of, values)
        read = np.argsort(-worth, kind="stable")[: self._sentences]
        known = question_likelihoods(self._scorer, question, [texts[i] for i in read])
        likelihoods = np.full(len(texts), known.min())
        likelihoods[read] = known
        values *= np.exp(self._weight * (likelihoods - known.max()))[sentence_of]
        values /= values.sum() or 1.0
        return [replace(unit, value=value) for unit, value in zip(units, values.tolist(), strict=True)], repeats


def _sentences(units: Sequence[Evidence], hits: Sequence[Hit]) -> tuple[NDArray[np.int64], list[str]]:
    """Of each unit the sentence (row, block, ...) that it begins in, and the texts of these."""
    texts: list[str] = []
    sentence_of: list[int] = []
    for hit, own in itertools.groupby(units, key=lambda unit: unit.hit):
        text = hits[hit].chunk.text
        spans = split_units(text)
        starts = [span.start for span in spans]
        for place, group in itertools.groupby(own, key=lambda unit: bisect.bisect_right(starts, unit.start) - 1):
            members = list(group)
            texts.append(text[starts[place] : max(spans[place].end, *(unit.end for unit in members))])
            sentence_of += [len(texts) - 1] * len(members)
    return np.array(sentence_of), texts


def question_likelihoods(scorer: TextScorer, question: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """Return log p(question | text), in nats, of each text; of a long one where it is best. Cf. LongLLMLingua, equation 3.

    Raises:
        CompressionError: The model failed.
    """
    window = room_of(scorer)
    asked = [token for token, _ in scorer.tokenize("\n\n" + head(scorer, question.strip(), window // 4))]
    pairs, owners = [], []
    for number, text in enumerate(texts):
        located = scorer.tokenize(text)
        for low, _, high in windows(len(located), window - len(asked)) or [(0, 0, 0)]:
            end = located[high][1] if high < len(located) else len(text)
            pairs.append((BEFORE + text[located[low][1] if located else 0 : end], asked))
            owners.append(number)
    best = np.full(len(texts), -np.inf)
    np.maximum.at(best, owners, [scores.total for scores in score_pairs(scorer, pairs)])
    return best


def head(scorer: TextScorer, text: str, n_tokens: int) -> str:
    """Return the beginning of `text`, at most `n_tokens`."""
    tokens = scorer.tokenize(text)
    return text if len(tokens) <= n_tokens else text[: tokens[n_tokens][1]]


def room_of(scorer: TextScorer) -> int:
    """Return how many tokens are read at once.

    Raises:
        ConfigurationError: The model's window is too small.
    """
    if scorer.n_ctx < _LEAST_N_CTX:
        raise ConfigurationError(f"the scorer's window must be at least {_LEAST_N_CTX} tokens, got {scorer.n_ctx!r}")
    return min(scorer.n_ctx - 8, _WINDOW)  # a BOS and the joint are counted by nobody


def score_pairs(scorer: TextScorer, pairs: Sequence[tuple[str, Sequence[int]]]) -> Sequence[Scores]:
    """Return the scores of each `(condition, tokens)`.

    Raises:
        CompressionError: The model failed.
    """
    try:
        return scorer.score_many(pairs) if pairs else ()
    except GenerationError as error:
        raise CompressionError(f"{scorer.name} could not score the sources: {error}") from error


def windows(n_tokens: int, room: int) -> list[tuple[int, int, int]]:
    """Cover `n_tokens`: (where to read from, the first that counts, the end) of windows of at most `room`."""
    room = max(room, 2)
    if n_tokens <= room:
        return [(0, 0, n_tokens)] if n_tokens else []
    overlap = room // 4
    return [
        (max(0, first - overlap), first, min(n_tokens, first + room - overlap))
        for first in range(0, n_tokens, room - overlap)
    ]
