"""LLMLingua, LongLLMLingua and LLMLingua-2 through the llmlingua package, held to the promises of every compressor here.

The package decides which words matter (`lingua_driver`); what is done with that is ours: its choice is taken word by word in the
sources' own text, protected spans are kept whole, and the least valuable words go or the best of the rest come back until the
reader's own count is just within the budget.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from leanrag._optional import require
from leanrag.compression.lingua.driver import (
    Condition,
    Encoded,
    LinguaOptions,
    LinguaRequest,
    Reorder,
    Verdict,
    classifier_driver,
    clean_text,
    encode,
    language_model_driver,
)
from leanrag.compression.task import Part, Task, assemble
from leanrag.errors import CompressionError, ConfigurationError, LeanRAGError, ModelLoadError, StorageError
from leanrag.evidence.protection import Protection, Span
from leanrag.evidence.units import split_units
from leanrag.protocols import CompressionSource, TokenCounter
from leanrag.types import Compression

__all__ = ["LLMLinguaCompressor", "LinguaMethod", "dequantize"]

logger = logging.getLogger(__name__)

LinguaMethod = Literal["longllmlingua", "llmlingua", "llmlingua2"]

_WHY = "to compress with LLMLingua"
_GGUF = b"GGUF"
_NEAR = 0.1  # of the budget: as near as the package's own choice should come before words are added or taken
_FAMILIES = {"bert": "bert-base-multilingual-cased", "xlm-roberta": "xlm-roberta-large"}  # by `model_type`

_HAN_KANA = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_MARKS = r".,;:!?()\[\]{}\"'`“”‘’«»„…、。，！？；：（）「」『』【】《》"
_WORD = re.compile(
    rf"[{_HAN_KANA}]|[^\s{_HAN_KANA}{_MARKS}]+(?:[{_MARKS}]+[^\s{_HAN_KANA}{_MARKS}]+)*|(?P<mark>[{_MARKS}]+)"
)


class LLMLinguaCompressor:
    """Keeps the words that a small model finds informative.

    Everything runs offline on a local model. Words stay or go whole, and every part of the result is a span of a source, in the
    sources' order. The package's target is adjusted until its choice is near the budget; then words are taken from the least
    valuable end, or added from the best that it left out, until the reader's count is within the budget.

    A sentence, row or block of which any word stays keeps its protected spans whole. Spans asked for are always there.

    Without a question "longllmlingua" does as "llmlingua" does. Sources longer than `piece_tokens` count as several documents.

    Args:
        model: A folder in the format of transformers, with safetensors. For "longllmlingua" and "llmlingua" a causal language
            model: the papers used Llama-2-7B(-Chat); `dequantize` makes one of a GGUF file. For "llmlingua2" a token classifier:
            the weights named llmlingua-2-xlm-roberta-large-meetingbank or llmlingua-2-bert-base-multilingual-cased-meetingbank.
        method: "longllmlingua" reads the question (Jiang et al., ACL 2024), "llmlingua" does not (Jiang et al., EMNLP 2023),
            "llmlingua2" is a classifier trained to keep what GPT-4 kept (Pan et al., Findings of ACL 2024).
        protection: Spans that may not be cut.
        device: "cpu", "cuda", "cuda:1", "mps" ...
        threads: Threads of torch during a call, None to leave them alone. They are one setting for the whole process.
        contrastive: Value a token by how much the question raises its probability, not by how improbable it is; LongLLMLingua,
            eq. 2. None for yes with "longllmlingua", the only method that can.
        condition_in_question: For ranking documents: "after" scores the question given the document (eq. 3, the paper's choice),
            "before" the document given the question, "none" the document.
        reorder: Order in which the package reads the documents: "sort" the best first, "two_stage" the best at both ends,
            "original". The result is in the order of the sources in any case.
        dynamic_ratio: How much more of the best document stays than of the worst: half of this above and half below the mean share,
            in [0, 1]; LongLLMLingua, eq. 4 uses 0.3. None for 0.3 with "longllmlingua", else 0.
        extra_tokens: Tokens beyond the target that the document filter lets pass for the token filter to thin.
        stretch_tokens: Tokens that are thinned at a time, each stretch given what is left of those before it.
        document_filter: Leave out whole documents first.
        token_filter: Thin what is left; without it whole documents stay, and the last of them is cut from its end.
        piece_tokens: Longest document in the scorer's tokens.
        window_tokens: Most tokens that the scorer reads at a time, fewer if its own window is smaller. Its log-probabilities take
            up to 16 bytes a token and a word of its vocabulary: 1.6 GB for 2,048 tokens of 49,152.
        max_calls: Most calls of the package for one compression. Documents are ranked once for all of them.

    Raises:
        ConfigurationError: An argument cannot work, or the folder holds another kind of model.
        MissingDependencyError: The extra "lingua" is not installed.
        ModelLoadError: The folder holds no model that can be loaded.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        method: LinguaMethod = "longllmlingua",
        protection: Protection = Protection(),  # noqa: B008 - frozen
        device: str = "cpu",
        threads: int | None = None,
        contrastive: bool | None = None,
        condition_in_question: Condition = "after",
        reorder: Reorder = "sort",
        dynamic_ratio: float | None = None,
        extra_tokens: int = 100,
        stretch_tokens: int = 200,
        document_filter: bool = True,
        token_filter: bool = True,
        piece_tokens: int = 400,
        window_tokens: int = 2048,
        max_calls: int = 3,
    ) -> None:
        for name, value, allowed in [
            ("method", method, get_args(LinguaMethod)),
            ("condition_in_question", condition_in_question, get_args(Condition)),
            ("reorder", reorder, get_args(Reorder)),
        ]:
            if value not in allowed:
                raise ConfigurationError(f"`{name}` must be one of {', '.join(allowed)}, got {value!r}")
        for name, number, least in [
            ("extra_tokens", extra_tokens, 0),
            ("stretch_tokens", stretch_tokens, 16),
            ("piece_tokens", piece_tokens, 16),
            ("window_tokens", window_tokens, 128),
            ("max_calls", max_calls, 1),
            ("threads", 1 if threads is None else threads, 1),
        ]:
            if number < least:
                raise ConfigurationError(f"`{name}` must be at least {least}, got {number!r}")
        if dynamic_ratio is not None and not 0 <= dynamic_ratio <= 1:
            raise ConfigurationError(f"`dynamic_ratio` must be in [0, 1], got {dynamic_ratio!r}")
        is_long = method == "longllmlingua"
        if not is_long and (contrastive or dynamic_ratio):
            raise ConfigurationError(
                f"`contrastive` and `dynamic_ratio` need the method 'longllmlingua', got {method!r}"
            )
        if not (document_filter or token_filter):
            raise ConfigurationError("one of `document_filter` and `token_filter` must be True")
        self._method = method
        self._protection = protection
        self._threads = threads
        self._max_calls = max_calls
        self._options = LinguaOptions(
            contrastive=is_long if contrastive is None else contrastive,
            condition_in_question=condition_in_question,
            reorder=reorder,
            dynamic_ratio=(0.3 if is_long else 0.0) if dynamic_ratio is None else dynamic_ratio,
            extra_tokens=extra_tokens,
            stretch_tokens=stretch_tokens,
            document_filter=document_filter,
            token_filter=token_filter,
        )
        self._lock = threading.Lock()
        folder = Path(model)
        config = _read_config(folder, method)
        self._tokenizer, scorer = _load(folder, method, device)
        own = config.get("max_position_embeddings") or config.get("n_positions") or window_tokens
        if method == "llmlingua2":
            family = str(config["model_type"])
            self._window = min(512, own - 2 * (family == "xlm-roberta"))  # XLM-RoBERTa numbers positions from 2
            self._piece_tokens = min(piece_tokens, self._window - 2)
            self._driver: Any = classifier_driver(
                self._tokenizer, scorer, device=device, window=self._window, family=_FAMILIES[family]
            )
        else:
            self._window = min(window_tokens, own)
            self._piece_tokens = piece_tokens
            self._driver = language_model_driver(self._tokenizer, scorer, device=device, window=self._window)

    @property
    def name(self) -> str:
        """The method."""
        return self._method

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
        """Return the sources in at most `budget` tokens, or in the share `rate` of theirs; see `Compressor.compress`.

        One call at a time; others wait.

        Raises:
            BudgetError: What must stay does not fit.
            ConfigurationError: An argument cannot work.
            CompressionError: The package or the model failed.
        """
        task = Task.of(sources, count_tokens=count_tokens, budget=budget, rate=rate, question=question, keep=keep)
        if task.fits:
            return task.whole(self.name)
        required = [
            self._protection.required(hit.chunk.text, own) for hit, own in zip(task.hits, task.keep, strict=True)
        ]
        exact = [Part(i, *span, None, "kept") for i, spans in enumerate(required) for span in spans]
        needed = task.count(assemble(task.hits, exact)[0])
        if needed > task.budget:
            raise task.too_small(needed)
        plan = _Plan.of(task, required, self._protection)
        whole = task.count(plan.text(task, []))
        if whole > task.budget:  # whole words of what must stay do not fit, the spans do
            if any(self._cuts_protected(hit.chunk.text, spans) for hit, spans in zip(task.hits, required, strict=True)):
                raise task.too_small(whole)
            return task.finish(exact, self.name)
        with self._lock, _threads(self._threads):
            try:
                return self._compress(task, plan)
            finally:
                self._driver.forget()

    def _cuts_protected(self, text: str, spans: Sequence[Span]) -> bool:
        """Whether `spans` (disjoint) hold a part of something protected, and not all of it."""
        return bool(spans) and any(
            start < end_of and start_of < end and not (start <= start_of and end_of <= end)
            for start_of, end_of in self._protection.spans(text)
            for start, end in spans
        )

    def _compress(self, task: Task, plan: _Plan) -> Compression:
        pieces = self._pieces(task)
        if not pieces:  # white space
            return task.finish(plan.parts([]), self.name)
        encoded = encode(self._tokenizer, [task.hits[source].chunk.text[start:end] for source, start, end in pieces])
        tokens = _place(encoded, pieces, plan)
        steps = plan.steps(tokens, self._search(task, plan, encoded, tokens), self._method)
        low, high = 0, len(steps)
        while low < high:  # `low` steps fit
            middle = (low + high + 1) // 2
            if task.count(plan.text(task, steps[:middle])) <= task.budget:
                low = middle
            else:
                high = middle - 1
        return task.finish(plan.parts(steps[:low]), self.name)

    def _search(self, task: Task, plan: _Plan, encoded: Encoded, tokens: _Places) -> Verdict:
        """Ask for more or fewer tokens until what the package keeps is near the budget, by the secant method."""
        count = len(encoded.ids)
        request = LinguaRequest(
            encoded,
            tokens.protected,
            tokens.forced,
            clean_text(task.question),
            "longllmlingua" if self._method == "longllmlingua" else "llmlingua",
            self._options,
            task.count_tokens,
        )
        target = count * task.budget / task.tokens_before
        seen: list[tuple[float, int]] = []  # targets, and the tokens that came of them
        best: tuple[int, Verdict] | None = None
        while True:
            with _errors():
                verdict = self._driver.judge(request, target)
            steps = plan.steps(tokens, verdict, self._method)
            got = task.count(plan.text(task, [step for step in steps if step.is_kept]))
            logger.debug("asked llmlingua for %.0f of %d tokens, got %d for %d", target, count, got, task.budget)
            if best is None or abs(got - task.budget) < best[0]:
                best = abs(got - task.budget), verdict
            seen.append((target, got))
            if best[0] <= _NEAR * task.budget or len(seen) == self._max_calls or not self._options.token_filter:
                return best[1]
            target = _secant(seen, task.budget, count)
            if any(abs(target - other) < 1 for other, _ in seen):
                return best[1]

    def _pieces(self, task: Task) -> list[_Piece]:
        """Cut sources into what the package sees as documents, between sentences where it can."""
        limit = self._piece_tokens
        if self._method != "llmlingua2":
            question = len(encode(self._tokenizer, [task.question]).ids) if self._method == "longllmlingua" else 0
            limit = min(limit, (self._window - question) // 2 - 32)
            if limit < 16:
                raise CompressionError(
                    f"the question takes {question:,} tokens, too many for the scorer's window of {self._window:,}."
                    " Shorten it, or raise `window_tokens`"
                )
        pieces: list[_Piece] = []
        for number, hit in enumerate(task.hits):
            text = hit.chunk.text
            starts = [unit.start for unit in split_units(text)]
            for start, end in _cut(text, 0, len(text), starts, self._count, limit):
                pieces.append((number, start, end))
        return pieces

    def _count(self, text: str) -> int:
        return len(encode(self._tokenizer, [text]).ids)


_Piece = tuple[int, int, int]  # source, start, end


def _secant(seen: Sequence[tuple[float, int]], budget: int, count: int) -> float:
    (target, got), before = seen[-1], seen[:-1]
    wanted = target * budget / max(1, got)
    if before and before[-1][1] != got:
        slope = (target - before[-1][0]) / (got - before[-1][1])
        if slope > 0:
            wanted = target + slope * (budget - got)
    return float(min(max(wanted, target / 4, 1), target * 4, count))


def _cut(
    text: str, start: int, end: int, starts: Sequence[int], count: Callable[[str], int], limit: int
) -> Iterator[Span]:
    """Halve a span where a unit begins, else at a space, else anywhere, until each part has 1 to `limit` tokens."""
    piece = text[start:end]
    start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
    if start >= end:
        return
    # A tokenizer may need several tokens for a character, hardly more than six, and never reads a character as nothing else.
    tokens = count(text[start:end])
    if tokens <= limit or end - start == 1:
        if tokens:
            yield start, end
        return
    middle = (start + end) // 2
    at = bisect.bisect_left(starts, middle)
    inside = [place for place in starts[max(0, at - 1) : at + 1] if start < place < end]
    if inside:
        cut = min(inside, key=lambda place: abs(place - middle))
    else:
        space = text.rfind(" ", start + 1, middle)
        cut = space if space > start + (end - start) // 4 else middle
    yield from _cut(text, start, cut, starts, count, limit)
    yield from _cut(text, cut, end, starts, count, limit)


@dataclass(frozen=True, slots=True)
class _Atom:
    """What stays or goes as one: a word, a mark, a protected span with the words that it touches.

    Attributes:
        source: Of the task.
        start: First character of the source's text.
        end: One past the last.
        unit: Sentence, row or block that it is in, numbered over all sources.
        kind: A "required" atom is always in the result.
    """

    source: int
    start: int
    end: int
    unit: int
    kind: Literal["word", "mark", "protected", "required"]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the scorer's tokens are: each with the atoms that it touches.

    Attributes:
        tokens: int64 `(m,)`, in order.
        atoms: int64 `(m,)`; a token is there once for each atom.
        chars: int64 `(m,)`: characters of the atom that the token has.
        protected: bool `(n,)`, by token.
        forced: Pieces that hold required spans.
    """

    tokens: NDArray[np.int64]
    atoms: NDArray[np.int64]
    chars: NDArray[np.int64]
    protected: NDArray[np.bool_]
    forced: list[int]


@dataclass(frozen=True, slots=True)
class _Step:
    """The next best atoms to have, after those that are there.

    Attributes:
        atoms: Their places; several for a unit that is protected from end to end.
        value: Higher is better.
        is_kept: Whether the package keeps them.
        reason: As in `Segment`.
    """

    atoms: tuple[int, ...]
    value: float
    is_kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class _Plan:
    """The sources as atoms, and the rules by which they come together.

    Attributes:
        atoms: In order.
        by_unit: The protected and required atoms of each unit.
        has_words: Units that hold atoms of kind "word".
    """

    atoms: tuple[_Atom, ...]
    by_unit: dict[int, list[int]]
    has_words: frozenset[int]

    @classmethod
    def of(cls, task: Task, required: Sequence[Sequence[Span]], protection: Protection) -> _Plan:
        atoms: list[_Atom] = []
        for source, (hit, keep, must) in enumerate(zip(task.hits, task.keep, required, strict=True)):
            atoms += _atoms(source, hit.chunk.text, protection.spans(hit.chunk.text, keep), must, len(atoms))
        by_unit: dict[int, list[int]] = {}
        for place, atom in enumerate(atoms):
            if atom.kind in ("protected", "required"):
                by_unit.setdefault(atom.unit, []).append(place)
        return cls(tuple(atoms), by_unit, frozenset(atom.unit for atom in atoms if atom.kind == "word"))

    def steps(self, tokens: _Places, verdict: Verdict, method: LinguaMethod) -> list[_Step]:
        """Order what is not required by the package's judgement, the best first."""
        count = len(self.atoms)
        judged = verdict.judged[tokens.tokens]
        place, chars = tokens.atoms[judged], tokens.chars[judged].astype(float)
        weight = np.bincount(place, chars, count)
        worth = np.bincount(place, chars * verdict.values[tokens.tokens][judged], count) / np.maximum(weight, 1)
        kept = np.bincount(place, chars * verdict.kept[tokens.tokens][judged], count) >= np.maximum(weight, 1) / 2
        reason = "surprising" if method == "llmlingua" else "relevant"
        must = {atom.unit for atom in self.atoms if atom.kind == "required"}
        steps = [
            _Step((i,), float(worth[i]), bool(kept[i]), reason)
            for i, atom in enumerate(self.atoms)
            if atom.kind in ("word", "mark") and weight[i]
        ]
        for unit, places in self.by_unit.items():
            own = tuple(i for i in places if self.atoms[i].kind == "protected")
            if not own or not weight[list(own)].any():
                continue
            if unit in must:  # part of the unit is there in any case
                steps.append(_Step(own, np.inf, True, "protected"))
            elif unit not in self.has_words:
                value = float(np.average(worth[list(own)], weights=np.maximum(weight[list(own)], 1e-9)))
                steps.append(_Step(own, value, value > 0, "protected"))
        return sorted(steps, key=lambda step: (step.is_kept, step.value), reverse=True)

    def parts(self, steps: Sequence[_Step]) -> list[Part]:
        """Return what is in the result after these steps.

        With a word of a unit come the unit's protected spans; without any, no mark stays.
        """
        chosen = {i: step for step in steps for i in step.atoms}
        alive = {self.atoms[i].unit for i in chosen if self.atoms[i].kind == "word"}
        for unit in alive:
            for i in self.by_unit.get(unit, ()):
                chosen.setdefault(i, _Step((), np.inf, True, "protected"))
        parts: list[Part] = []
        last = None
        for i, atom in enumerate(self.atoms):
            if atom.kind == "required":
                part = Part(atom.source, atom.start, atom.end, None, "kept")
            elif i in chosen and (atom.kind != "mark" or atom.unit in alive):
                step = chosen[i]
                value = step.value if np.isfinite(step.value) else None
                part = Part(atom.source, atom.start, atom.end, value, step.reason)
            else:
                continue
            if parts and last == i - 1 and (parts[-1].source, parts[-1].reason) == (part.source, part.reason):
                scores = [score for score in (parts[-1].score, part.score) if score is not None]
                part = Part(part.source, parts[-1].start, part.end, max(scores, default=None), part.reason)
                parts.pop()
            parts.append(part)
            last = i
        return parts

    def text(self, task: Task, steps: Sequence[_Step]) -> str:
        return assemble(task.hits, self.parts(steps))[0]


def _atoms(source: int, text: str, spans: Sequence[Span], required: Sequence[Span], first_unit: int) -> list[_Atom]:
    """Return the atoms of a text; its units are numbered from `first_unit`, and joined where a protected span joins them."""
    words = [(*match.span(), match["mark"] is not None) for match in _WORD.finditer(text)]
    unit_starts = [unit.start for unit in split_units(text)]
    found: list[tuple[int, int, str]] = []
    at = 0
    for start, end, is_mark in words:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        beyond = at
        while beyond < len(spans) and spans[beyond][0] < end:
            beyond += 1
        touching = spans[at:beyond]
        kind = "mark" if is_mark else "word"
        if touching:
            start, end, kind = min(start, touching[0][0]), max(end, touching[-1][1]), "protected"
        if found and kind == "protected" and found[-1][2] == kind and start < found[-1][1]:
            start, end = min(start, found[-1][0]), max(end, found[-1][1])
            found.pop()
        found.append((start, end, kind))
    atoms: list[_Atom] = []
    joined = list(range(len(unit_starts) or 1))
    must = iter([*required, (len(text) + 1, len(text) + 1)])
    next_required = next(must)
    for start, end, kind in found:
        first, last = (max(0, bisect.bisect_right(unit_starts, place) - 1) for place in (start, end - 1))
        for unit in range(first + 1, last + 1):
            joined[unit] = joined[first]
        while next_required[1] <= start:
            next_required = next(must)
        if next_required[0] < end:
            kind = "required"
        atoms.append(_Atom(source, start, end, first_unit + joined[first], kind))  # type: ignore[arg-type]
    return atoms


def _place(encoded: Encoded, pieces: Sequence[_Piece], plan: _Plan) -> _Places:
    """Find the atoms that each token touches."""
    starts = [(atom.source, atom.start) for atom in plan.atoms]
    protected = np.zeros(len(encoded.ids), np.bool_)
    found: list[tuple[int, int, int]] = []
    forced: set[int] = set()
    for number, (source, start, _end) in enumerate(pieces):
        for token in range(encoded.bounds[number], encoded.bounds[number + 1]):
            low, high = (encoded.spans[token] + start).tolist()
            at = max(0, bisect.bisect_right(starts, (source, low)) - 1)
            while at < len(starts) and starts[at] < (source, high):
                atom = plan.atoms[at]
                shared = min(high, atom.end) - max(low, atom.start)
                if atom.source == source and shared > 0:
                    found.append((token, at, shared))
                    protected[token] |= atom.kind in ("protected", "required")
                    if atom.kind == "required":
                        forced.add(number)
                at += 1
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    return _Places(table[:, 0], table[:, 1], table[:, 2], protected, sorted(forced))


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Name the package's errors, many of them assertions without a word."""
    try:
        yield
    except LeanRAGError:
        raise
    except Exception as error:
        raise CompressionError(
            f"llmlingua failed ({type(error).__name__}: {error}). Another method, model or device may do; so may fewer tokens at a"
            " time (`window_tokens`)"
        ) from error


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    if count is None:
        yield
        return
    torch = require("torch", extra="lingua", why=_WHY)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _read_config(folder: Path, method: LinguaMethod) -> dict[str, Any]:
    """Return the model's `config.json`, or say what is wrong with the folder before anything heavy is imported."""
    if folder.is_file():
        with folder.open("rb") as file:
            if file.read(4) == _GGUF:
                raise ConfigurationError(
                    f"{str(folder)!r} is a GGUF file, and llmlingua reads folders of transformers. Make one of it:"
                    f" leanrag.compression.lingua.compressor.dequantize({folder.name!r}, folder)"
                )
        raise ConfigurationError(f"`model` must be a folder, got the file {str(folder)!r}")
    if not folder.is_dir():
        raise ConfigurationError(
            f"`model` must be a local folder of a transformers model, got {str(folder)!r}. Nothing is downloaded here: save the"
            " model to a folder first, or make one of a GGUF file with `dequantize`"
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architectures = [str(name) for name in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"{str(folder)!r} has no readable config.json: {error}", path=folder) from error
    is_classifier = any("ForTokenClassification" in name for name in architectures)
    if method == "llmlingua2":
        if not is_classifier or config.get("model_type") not in _FAMILIES:
            raise ConfigurationError(
                "the method 'llmlingua2' needs a token classifier of type bert or xlm-roberta (LLMLingua-2 weights), got"
                f" {config.get('model_type')!r}, {', '.join(architectures) or 'no architecture'}"
            )
    elif is_classifier:
        raise ConfigurationError(
            f"the method {method!r} needs a causal language model, got {', '.join(architectures)}. For LLMLingua-2 weights give"
            " method='llmlingua2'"
        )
    return config  # type: ignore[no-any-return]


def _load(folder: Path, method: LinguaMethod, device: str) -> tuple[Any, Any]:
    """Return tokenizer and model, from the folder alone, running no code of its."""
    for package in ("llmlingua", "torch"):
        require(package, extra="lingua", why=_WHY)
    transformers = require("transformers", extra="lingua", why=_WHY)
    torch = require("torch", extra="lingua", why=_WHY)
    kind = transformers.AutoModelForTokenClassification if method == "llmlingua2" else transformers.AutoModelForCausalLM
    try:
        with _no_progress(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            model = kind.from_pretrained(
                str(folder),
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32 if device == "cpu" else "auto",
            ).to(device)
    except Exception as error:
        raise ModelLoadError(f"{str(folder)!r} cannot be loaded on {device!r}: {error}", path=folder) from error
    if not tokenizer.is_fast:
        raise ConfigurationError(
            f"the tokenizer in {str(folder)!r} cannot tell where tokens are. Save one with a tokenizer.json"
        )
    return tokenizer, model.eval()


@contextlib.contextmanager
def _no_progress(transformers: Any) -> Iterator[None]:
    bars = transformers.utils.logging
    was_on = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            bars.enable_progress_bar()


def dequantize(gguf: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write a GGUF language model as a transformers folder, for `LLMLinguaCompressor`, and return the folder.

    The weights are those of the GGUF file as float32, some 4 bytes each: 540 MB for smollm2-135m. The folder appears whole or not
    at all. Nothing is downloaded; transformers may show its progress on standard error. Architectures: those that transformers
    reads from GGUF (llama, qwen2, mistral, phi3 ...). A folder of a model that was never quantised, Llama-2-7B-chat of the paper
    for one, needs none of this.

    Args:
        gguf: The file.
        folder: To be made.

    Raises:
        MissingDependencyError: The extra "lingua" is not installed.
        ModelLoadError: The file is not there, or holds what transformers cannot read.
        StorageError: The folder is there, or cannot be written.
    """
    gguf, folder = Path(gguf), Path(folder)
    torch = require("torch", extra="lingua", why=_WHY)
    transformers = require("transformers", extra="lingua", why=_WHY)
    if not gguf.is_file():
        raise ModelLoadError(f"there is no file {str(gguf)!r}. Give the path of a GGUF file", path=gguf)
    if folder.exists():
        raise StorageError(f"{str(folder)!r} is there already. Give another folder, or remove it", path=folder)
    parent, name = str(gguf.parent.absolute()), gguf.name
    options: dict[str, Any] = {"gguf_file": name, "local_files_only": True, "trust_remote_code": False}
    plain = {}
    if hasattr(transformers, "GgufConfig"):  # since 5, which may fetch code to compute with packed weights
        plain["quantization_config"] = transformers.GgufConfig(dequantize=True)
    try:
        with _no_progress(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(parent, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(parent, dtype=torch.float32, **plain, **options)
    except Exception as error:
        raise ModelLoadError(f"transformers cannot read {str(gguf)!r}: {error}", path=gguf) from error
    model.config.__dict__.pop("quantization_config", None)
    model.hf_quantizer = None  # else transformers 5 refuses to save weights that are plain numbers by now
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        with _no_progress(transformers):
            model.save_pretrained(draft)
            tokenizer.save_pretrained(draft)
        draft.rename(folder)
    except OSError as error:
        raise StorageError(f"{str(folder)!r} cannot be written: {error}", path=folder) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
