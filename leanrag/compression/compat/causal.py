"""LLMLingua and LongLLMLingua as the package computes them, without its faults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag.compression.compat.protecting import protect_tokens
from leanrag.compression.compat.ranking import SCORER_METHODS, Ranker
from leanrag.compression.compat.tags import Segment
from leanrag.compression.lingua.driver import encode
from leanrag.compression.lingua.language_model import JOINT, PackageScorer, TokenValues, package_class
from leanrag.compression.lingua.loading import package_errors
from leanrag.errors import CompressionError, ConfigurationError
from leanrag.evidence.protection import Protection
from leanrag.spans import Span, merge_spans
from leanrag.text import split_sentences

__all__ = ["CausalEngine", "Kept", "causal_engine", "check_budget", "check_reorder"]

_BUDGET = re.compile(r"\s*([-+*/])\s*(\d+(?:\.\d+)?)\s*")
_SPLIT = re.compile(r"\n\s*\n")
_REORDER = ("original", "two_stage", "sort")
_LEAST_TARGET = 100  # tokens; the package takes them for a target below 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays of the documents.

    Attributes:
        used: Indices of the documents that stay, in the order of the result.
        spans: For each of them its spans that stay, disjoint and in order.
    """

    used: tuple[int, ...]
    spans: tuple[tuple[Span, ...], ...]


@dataclass(slots=True)
class _Call:
    """A call of the engine, while the package runs.

    Attributes:
        documents: The documents, without tags.
        segments: The segments of each document; None if the whole text has one rate.
        protection: What a sentence that stays keeps.
        used: The documents that stay, in the order of the result.
        pieces: For each of `used` the spans of it that the sentence filter leaves.
        spans: For each of `used` the spans that stay.
    """

    documents: Sequence[str]
    segments: Sequence[Sequence[Segment]] | None
    protection: Protection | None
    used: list[int]
    pieces: list[list[Span]]
    spans: list[list[Span]] = field(default_factory=list)

    def text(self, number: int) -> str:
        """Return what the sentence filter leaves of the document `used[number]`."""
        document = self.documents[self.used[number]]
        return "".join(document[start:end] for start, end in self.pieces[number])

    def original(self, number: int, start: int, end: int) -> list[Span]:
        """Return the spans of the document for a span of `text(number)`."""
        found, at = [], 0
        for low, high in self.pieces[number]:
            first, last = max(start, at), min(end, at + high - low)
            if first < last:
                found.append((low + first - at, low + last - at))
            at += high - low
        return found


class CausalEngine(PackageScorer):
    """Runs `compress_prompt` of the package, and records which spans of the documents stay.

    These methods of the package are replaced: the document filter (its budget was evaluated as code, it changed its arguments), the
    sentence filter (it needs data that has to be downloaded, and ranks sentences that must stay last), the rates of segments (they
    needed a tokenizer that decodes to the very text), and the token filter around its inner loop (texts shorter than a stretch, or
    longer than the window).
    """

    def __init__(self, tokenizer: Any, model: Any, *, device: str, window: int, ranker: Ranker) -> None:
        super().__init__(tokenizer, model, device=device, window=window)
        self._ranker = ranker
        self._call: _Call
        self._ratios: list[list[tuple[int, float]]] = []

    def run(
        self,
        documents: Sequence[str],
        segments: Sequence[Sequence[Segment]] | None,
        protection: Protection | None,
        **options: Any,
    ) -> Kept:
        """Return what stays of the documents; `options` are those of the package's `compress_prompt`.

        Raises:
            ConfigurationError: An option cannot work.
            CompressionError: The package or the model failed.
        """
        everything = [[(0, len(text))] for text in documents]
        self._call = call = _Call(documents, segments, protection, list(range(len(documents))), everything)
        structure: dict[str, Any] = {}
        if segments is not None:
            structure = {
                "context_segs": [[segment.text for segment in own] for own in segments],
                "context_segs_rate": [[segment.rate for segment in own] for own in segments],
                "context_segs_compress": [[segment.compress for segment in own] for own in segments],
            }
        self.tokenizer.numbered = None
        try:
            with package_errors():
                self.compress_prompt(list(documents), **structure, **options)
        finally:
            self.tokenizer.numbered = None
            self.forget()
        spans = call.spans or call.pieces
        return Kept(tuple(call.used), tuple(tuple(merge_spans(own)) for own in spans))

    # Methods that the package calls

    def get_rank_results(
        self, context: list[str], question: str, rank_method: str, condition_in_question: str, lengths: list[int]
    ) -> list[tuple[int, float]]:
        """Return the indices of the documents or sentences, best first."""
        if rank_method in SCORER_METHODS:
            return super().get_rank_results(context, question, rank_method, condition_in_question, lengths)  # type: ignore[no-any-return]
        return [(number, 0.0) for number in self._ranker.rank(rank_method, context, question)]

    def control_context_budget(
        self,
        context: list[str],
        context_tokens_length: list[int],
        target_token: float,
        force_context_ids: Sequence[int] | None = None,
        force_context_number: int | None = None,
        question: str = "",
        condition_in_question: str = "none",
        reorder_context: str = "original",
        dynamic_context_compression_ratio: float = 0.0,
        rank_method: str = "longllmlingua",
        context_budget: str = "+100",
        strict_preserve_uncompressed: bool = True,
        **_: Any,
    ) -> tuple[list[str], list[float], list[int]]:
        """Choose the documents, best first, until the budget is full or `force_context_number` of them are chosen."""
        ranking = self.get_rank_results(context, question, rank_method, condition_in_question, context_tokens_length)
        room = _extended(target_token if target_token >= 0 else _LEAST_TARGET, context_budget)
        used = list(dict.fromkeys(force_context_ids or ()))
        segments = self._call.segments
        if segments is not None and strict_preserve_uncompressed:
            whole = [i for i, own in enumerate(segments) if not all(segment.compress for segment in own)]
            used += [i for i in whole if i not in used]
        for i, _value in ranking[:force_context_number]:
            room -= context_tokens_length[i]
            used += [i] if i not in used else []
            if room < 0 and force_context_number is None:
                break
        ratios = _dynamic_ratios(used, dynamic_context_compression_ratio)
        if reorder_context == "original":
            used = sorted(used)
        elif reorder_context == "two_stage":
            used = used[::2] + used[1::2][::-1]
        self._call.used = used
        self._call.pieces = [[(0, len(context[i]))] for i in used]
        return [context[i] for i in used], [ratios[i] for i in used], used

    def control_sentence_budget(
        self,
        context: list[str],
        target_token: float,
        keep_first_sentence: int = 0,
        keep_last_sentence: int = 0,
        keep_sentence_number: int = 0,
        high_priority_bonus: float = 100,
        token_budget_ratio: float = 1.4,
        question: str = "",
        condition_in_question: str = "none",
        rank_method: str = "longllmlingua",
        **_: Any,
    ) -> tuple[list[str], list[list[tuple[int, float, bool]]]]:
        """Choose sentences, best first, until the budget is full; those with a bonus, and of parts kept whole, stay."""
        call = self._call
        tiles = [(number, *span) for number, text in enumerate(context) for span in _tiles(text)]
        if len(tiles) > 1:
            sentences = [context[number][start:end] for number, start, end in tiles]
            values = self._sentence_values(sentences, question, condition_in_question, rank_method)
            bonus = np.zeros(len(tiles))
            bonus[:keep_first_sentence] = bonus[len(tiles) - keep_last_sentence :] = high_priority_bonus
            if keep_sentence_number:
                for number in range(len(context)):
                    own = [i for i, tile in enumerate(tiles) if tile[0] == number]
                    bonus[sorted(own, key=lambda i: -values[i])[:keep_sentence_number]] = high_priority_bonus
            room = (target_token if target_token >= 0 else _LEAST_TARGET) * token_budget_ratio
            chosen = {i for i, tile in enumerate(tiles) if bonus[i] > 0 or self._is_whole(*tile)}
            for i in np.argsort(-(values + bonus), kind="stable").tolist():
                room -= self.get_token_length(sentences[i])
                chosen.add(i)
                if room < 0:
                    break
            call.pieces = [
                [(start, end) for i, (number, start, end) in enumerate(tiles) if number == document and i in chosen]
                for document in range(len(context))
            ]
        return [call.text(number) for number in range(len(context))], []

    def _sentence_values(self, sentences: list[str], question: str, condition: str, method: str) -> NDArray[np.float64]:
        """Return a value for each sentence, higher is better."""
        if method == "longllmlingua":
            losses = np.array([float(self.get_condition_ppl(text, question, condition)) for text in sentences])
            return losses if condition == "none" else -losses
        values = np.zeros(len(sentences))
        ranking = self.get_rank_results(sentences, question, method, condition, [0] * len(sentences))
        values[[i for i, _ in ranking]] = -np.arange(len(ranking))
        return values

    def _is_whole(self, number: int, start: int, end: int) -> bool:
        """Whether a part of the document `used[number]` is in a segment that is not compressed."""
        return any(
            not segment.compress and low < end and start < high
            for segment, low, high in self._segments(self._call.used[number])
        )

    def _segments(self, document: int) -> list[tuple[Segment, int, int]]:
        """Return the segments of a document with their spans."""
        if self._call.segments is None:
            return []
        found, at = [], 0
        for segment in self._call.segments[document]:
            found.append((segment, at, at + len(segment.text)))
            at += len(segment.text)
        return found

    def get_prefix_length(self, prefix: str, _text: str) -> int:
        """Return a rough number of tokens of the prefix; the token filter counts them."""
        return max(1, self.get_token_length(prefix, add_special_tokens=False))

    def get_dynamic_compression_ratio(self, *_args: Any, **_options: Any) -> list[list[tuple[int, float]]]:
        """Return the share to keep of each part of each stretch, as `iterative_compress_prompt` computed it."""
        return self._ratios

    def iterative_compress_prompt(
        self,
        context: list[str],
        target_token: float,
        iterative_size: int = 200,
        keep_split: bool = False,
        start: int = 0,
        dynamic_ratio: Sequence[float] | None = None,
        condition_compare: bool = False,
        **_: Any,
    ) -> Any:
        """Run the token filter, part by part where the text is longer than the window, and record the spans that stay."""
        call = self._call
        prefix = context[0] + JOINT if start else ""
        texts = context[1:] if start else context
        joined = prefix + JOINT.join(texts)
        encoded = encode(self.tokenizer.tokenizer, [joined])
        n_prefix = int((encoded.spans[:, 0] < len(prefix)).sum())
        ids = encoded.ids
        # The white space before a token belongs to it, so that tokens tile the text.
        ends = np.maximum.accumulate(np.maximum(encoded.spans[n_prefix:, 1], len(prefix)))
        begins = np.concatenate([[len(prefix)], ends])[: len(ends)]
        tiles: NDArray[np.int64] = np.column_stack([begins, ends]).astype(np.int64)
        count = len(tiles)
        places = self._places(texts, len(prefix))
        whole = _whole_tokens(joined, tiles, places.segments, keep_split=keep_split)
        values, kept = np.zeros(count), np.ones(count, np.bool_)
        if count > 1:
            size = min(iterative_size, count)
            if call.segments is None:
                ratios = super().get_dynamic_compression_ratio(
                    context, target_token, size, list(dynamic_ratio or ()), start
                )
            else:
                ratios = _segment_ratios(tiles, places.segments, size)
            for first, last in _parts(count, size, self.max_position_embeddings - n_prefix):
                self._filtered = self._numbered(ids, n_prefix, (first, last), whole, values)
                own = ratios[first // size : -(-last // size)] or [[(size, 1.0)]]
                self._ratios = [*own, *[[(size, own[-1][-1][1])]] * 2]
                compressed, _mask = super().iterative_compress_prompt(
                    context,
                    target_token,
                    iterative_size=size,
                    start=n_prefix,
                    dynamic_ratio=dynamic_ratio,
                    condition_compare=condition_compare,
                )
                origin = self._filtered.origin[compressed[0].cpu().numpy()]
                kept[first:last] = False
                kept[origin[origin >= 0]] = True
        self.tokenizer.numbered = None
        if call.protection is not None:
            kept = protect_tokens(texts, places.starts, tiles, kept, values, whole, call.protection)
        call.spans = [[] for _ in call.used]
        for number, (text, begin) in enumerate(zip(texts, places.starts, strict=True)):
            for low, high in tiles[kept].tolist():
                low, high = max(low, begin), min(high, begin + len(text))
                if low < high:
                    call.spans[number] += call.original(number, low - begin, high - begin)
        return [None], None

    def _numbered(
        self, ids: NDArray[np.int64], n_prefix: int, part: Span, whole: NDArray[np.bool_], values: NDArray[np.float64]
    ) -> TokenValues:
        """Let the tokenizer return the indices of the tokens of a part behind the prefix, and return what they stand for."""
        first, last = part
        shown = np.concatenate([ids[:n_prefix], ids[n_prefix + first : n_prefix + last]])
        origin = np.concatenate([np.full(n_prefix, -1, np.int64), np.arange(first, last)])
        self.tokenizer.numbered = self.torch.arange(len(shown), device=self.device)[None]
        return TokenValues(self.torch.tensor(shown, device=self.device), origin, whole, values)

    def _places(self, texts: Sequence[str], begin: int) -> _Places:
        """Return where the texts and their segments stand in the text that the token filter reads."""
        starts: list[int] = []
        found: list[tuple[Segment, int, int]] = []
        for number, text in enumerate(texts):
            starts.append(begin)
            at = begin
            for low, high in self._call.pieces[number]:
                for segment, first, last in self._segments(self._call.used[number]):
                    if max(first, low) < min(last, high):
                        found.append((segment, at + max(first, low) - low, at + min(last, high) - low))
                at += high - low
            begin += len(text) + len(JOINT)
        return _Places(starts, found)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the texts begin, and the spans of the segments."""

    starts: list[int]
    segments: list[tuple[Segment, int, int]]


def _extended(target: float, extension: str) -> float:
    """Return the budget of the document filter: the target and what `context_budget` says."""
    found = _BUDGET.fullmatch(str(extension))
    if found is None or (found[1] == "/" and float(found[2]) == 0):
        raise ConfigurationError(
            f"`context_budget` must be a sign and a number, such as '+100' or '*1.5', got {extension!r}"
        )
    number = float(found[2])
    return {"+": target + number, "-": target - number, "*": target * number, "/": target / (number or 1)}[found[1]]


def _dynamic_ratios(used: Sequence[int], ratio: float) -> dict[int, float]:
    """Return how much more of each document stays than the mean share; LongLLMLingua, equation 4."""
    count = len(used)
    if count < 2 or not ratio:
        return dict.fromkeys(used, 0.0)
    return {i: (count - 1 - 2 * rank) * ratio / (count - 1) for rank, i in enumerate(used)}


def _tiles(text: str) -> list[Span]:
    """Return the sentences, each with the white space behind it."""
    starts = [start for start, _ in split_sentences(text)][1:]
    return list(zip([0, *starts], [*starts, len(text)], strict=True))


def _whole_tokens(
    text: str, tiles: NDArray[np.int64], segments: Sequence[tuple[Segment, int, int]], *, keep_split: bool
) -> NDArray[np.bool_]:
    """Return which tokens always stay: those of segments that are not compressed, and blank lines if `keep_split`."""
    spans = [(low, high) for segment, low, high in segments if not segment.compress]
    if keep_split:
        spans += [split.span() for split in _SPLIT.finditer(text)]
    whole = np.zeros(len(tiles), np.bool_)
    for low, high in spans:
        whole |= (tiles[:, 0] < high) & (tiles[:, 1] > low)
    return whole


def _parts(count: int, size: int, room: int) -> list[Span]:
    """Return the token ranges that are filtered at a time; what is shorter than a stretch at the end stays whole.

    Raises:
        CompressionError: A stretch is longer than the room that the prefix leaves in the window.
    """
    if room < size:
        raise CompressionError(
            f"the question and the instruction leave {max(0, room):,} tokens of the scorer's window, and a stretch has {size:,}."
            " Shorten them, or pass a smaller `iterative_size`"
        )
    if count <= room:
        return [(0, count)]
    length = room // size * size
    parts = [(first, min(count, first + length)) for first in range(0, count, length)]
    return [part for part in parts if part[1] - part[0] >= size]


def _segment_ratios(
    tiles: NDArray[np.int64], segments: Sequence[tuple[Segment, int, int]], size: int
) -> list[list[tuple[int, float]]]:
    """Return the share to keep of each run of tokens, stretch by stretch; a token of several segments keeps the least rate."""
    rates = np.full(len(tiles), np.inf)
    for segment, low, high in segments:
        touched = (tiles[:, 0] < high) & (tiles[:, 1] > low)
        rates[touched] = np.minimum(rates[touched], segment.rate)
    for segment, low, high in segments:
        if not segment.compress:
            rates[(tiles[:, 0] < high) & (tiles[:, 1] > low)] = 1.0
    for i in np.nonzero(np.isinf(rates))[0].tolist():  # between documents
        rates[i] = rates[i - 1] if i else 1.0
    stretches: list[list[tuple[int, float]]] = []
    for first in range(0, len(rates), size):
        runs: list[tuple[int, float]] = []
        for rate in rates[first : first + size].tolist():
            if runs and runs[-1][1] == rate:
                runs[-1] = runs[-1][0] + 1, rate
            else:
                runs.append((1, rate))
        stretches.append(runs)
    return stretches


def check_budget(extension: str) -> None:
    """Raise `ConfigurationError` if `context_budget` cannot be read."""
    _extended(0, extension)


def check_reorder(reorder: str) -> None:
    """Raise `ConfigurationError` if an order of documents is unknown."""
    if reorder not in _REORDER:
        raise ConfigurationError(f"`reorder_context` must be one of {', '.join(_REORDER)}, got {reorder!r}")


def causal_engine(tokenizer: Any, model: Any, *, device: str, window: int, ranker: Ranker) -> CausalEngine:
    """Return an engine on a causal language model that reads at most `window` tokens at a time."""
    return package_class(CausalEngine)(tokenizer, model, device=device, window=window, ranker=ranker)  # type: ignore[no-any-return]
