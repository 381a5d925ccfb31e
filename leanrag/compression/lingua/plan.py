"""The words of the sources, and the order in which they are added until the budget is full."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from leanrag.compression.lingua.driver import Encoded, LinguaMethod, Verdict
from leanrag.compression.task import Part, Task, assemble
from leanrag.evidence.protection import Protection
from leanrag.evidence.units import split_units
from leanrag.spans import Span

__all__ = ["Piece", "Plan", "TokenAtoms", "cut_pieces", "locate_tokens"]

_HAN_KANA = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_MARKS = r".,;:!?()\[\]{}\"'`“”‘’«»„…、。，！？；：（）「」『』【】《》"
_WORD = re.compile(
    rf"[{_HAN_KANA}]|[^\s{_HAN_KANA}{_MARKS}]+(?:[{_MARKS}]+[^\s{_HAN_KANA}{_MARKS}]+)*|(?P<mark>[{_MARKS}]+)"
)

Piece = tuple[int, int, int]  # source, start, end


def cut_pieces(
    text: str, start: int, end: int, starts: Sequence[int], count: Callable[[str], int], limit: int
) -> Iterator[Span]:
    """Halve a span until each part has 1 to `limit` tokens: at the start of a unit if possible, or at a space, or anywhere."""
    piece = text[start:end]
    start, end = start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())
    if start >= end:
        return
    # A single character may have several tokens, but hardly more than six, so it is never cut.
    tokens = count(text[start:end])
    if tokens <= limit or end - start == 1:
        if tokens:
            yield start, end
        return
    middle = (start + end) // 2
    at = bisect.bisect_left(starts, middle)
    inside = [offset for offset in starts[max(0, at - 1) : at + 1] if start < offset < end]
    if inside:
        cut = min(inside, key=lambda offset: abs(offset - middle))
    else:
        space = text.rfind(" ", start + 1, middle)
        cut = space if space > start + (end - start) // 4 else middle
    yield from cut_pieces(text, start, cut, starts, count, limit)
    yield from cut_pieces(text, cut, end, starts, count, limit)


@dataclass(frozen=True, slots=True)
class _Atom:
    """The smallest part that is kept or dropped whole: a word, a punctuation mark, or a protected span with its words.

    Attributes:
        source: Index of the source.
        start: First character in the text of the source.
        end: One past the last.
        unit: Number of its sentence, row or block, over all sources.
        kind: A "required" atom is always in the result.
    """

    source: int
    start: int
    end: int
    unit: int
    kind: Literal["word", "mark", "protected", "required"]


@dataclass(frozen=True, slots=True)
class TokenAtoms:
    """Which atoms each token of the scorer touches: a row for each pair of token and atom.

    Attributes:
        tokens: int64 `(m,)`: index of the token, ascending.
        atoms: int64 `(m,)`: index of the atom.
        chars: int64 `(m,)`: number of characters that both share.
        protected: bool `(n,)`: the protected tokens.
        forced: Indices of the pieces with required spans.
    """

    tokens: NDArray[np.int64]
    atoms: NDArray[np.int64]
    chars: NDArray[np.int64]
    protected: NDArray[np.bool_]
    forced: list[int]


@dataclass(frozen=True, slots=True)
class _Step:
    """Atoms that are added to the result together.

    Attributes:
        atoms: Their indices; there are several only for a unit that consists of protected spans.
        value: Higher is better.
        is_kept: Whether the package keeps them.
        reason: As in `Segment`.
    """

    atoms: tuple[int, ...]
    value: float
    is_kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The sources as atoms, and the rules that combine them.

    Attributes:
        atoms: All atoms, in order.
        by_unit: The indices of the protected and required atoms of each unit.
        has_words: The units that have atoms of kind "word".
    """

    atoms: tuple[_Atom, ...]
    by_unit: dict[int, list[int]]
    has_words: frozenset[int]

    @classmethod
    def of(cls, task: Task, required: Sequence[Sequence[Span]], protection: Protection) -> Plan:
        """Return the plan of a task; the `required` spans of each source always stay."""
        atoms: list[_Atom] = []
        for source, (hit, keep, must) in enumerate(zip(task.hits, task.keep, required, strict=True)):
            atoms += _atoms(source, hit.chunk.text, protection.spans(hit.chunk.text, keep), must, len(atoms))
        by_unit: dict[int, list[int]] = {}
        for i, atom in enumerate(atoms):
            if atom.kind in ("protected", "required"):
                by_unit.setdefault(atom.unit, []).append(i)
        return cls(tuple(atoms), by_unit, frozenset(atom.unit for atom in atoms if atom.kind == "word"))

    def steps(self, tokens: TokenAtoms, verdict: Verdict, method: LinguaMethod) -> list[_Step]:
        """Return the atoms that are not required, in the order of the package's values, best first."""
        count = len(self.atoms)
        judged = verdict.judged[tokens.tokens]
        atoms, chars = tokens.atoms[judged], tokens.chars[judged].astype(float)
        weight = np.bincount(atoms, chars, count)
        worth = np.bincount(atoms, chars * verdict.values[tokens.tokens][judged], count) / np.maximum(weight, 1)
        kept = np.bincount(atoms, chars * verdict.kept[tokens.tokens][judged], count) >= np.maximum(weight, 1) / 2
        reason = "surprising" if method == "llmlingua" else "relevant"
        must = {atom.unit for atom in self.atoms if atom.kind == "required"}
        steps = [
            _Step((i,), float(worth[i]), bool(kept[i]), reason)
            for i, atom in enumerate(self.atoms)
            if atom.kind in ("word", "mark") and weight[i]
        ]
        for unit, indices in self.by_unit.items():
            protected = [i for i in indices if self.atoms[i].kind == "protected"]
            if not protected or not weight[protected].any():
                continue
            if unit in must:  # a part of the unit is always in the result
                steps.append(_Step(tuple(protected), np.inf, True, "protected"))
            elif unit not in self.has_words:
                value = float(np.average(worth[protected], weights=np.maximum(weight[protected], 1e-9)))
                steps.append(_Step(tuple(protected), value, value > 0, "protected"))
        return sorted(steps, key=lambda step: (step.is_kept, step.value), reverse=True)

    def parts(self, steps: Sequence[_Step]) -> list[Part]:
        """Return the parts of the result after these steps.

        If a word of a unit is in the result, so are the protected spans of the unit. If no word is, no punctuation mark is.
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
        """Return the compressed text after `steps`."""
        return assemble(task.hits, self.parts(steps))[0]


def _atoms(source: int, text: str, spans: Sequence[Span], required: Sequence[Span], first_unit: int) -> list[_Atom]:
    """Return the atoms of a text. Its units are numbered from `first_unit`; a protected span over two units joins them."""
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
        first, last = (max(0, bisect.bisect_right(unit_starts, offset) - 1) for offset in (start, end - 1))
        for unit in range(first + 1, last + 1):
            joined[unit] = joined[first]
        while next_required[1] <= start:
            next_required = next(must)
        if next_required[0] < end:
            kind = "required"
        atoms.append(_Atom(source, start, end, first_unit + joined[first], kind))  # type: ignore[arg-type]
    return atoms


def locate_tokens(encoded: Encoded, pieces: Sequence[Piece], plan: Plan) -> TokenAtoms:
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
    return TokenAtoms(table[:, 0], table[:, 1], table[:, 2], protected, sorted(forced))
