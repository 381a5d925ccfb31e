"""Code: signatures and docstrings first, then the bodies that the question names."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass

from leanrag.compression.pasted.choosing import code_terms, fill, overlaps
from leanrag.compression.pasted.python_text import PythonUnit, parse_python
from leanrag.compression.task import Part, Task
from leanrag.types import Compression

__all__ = ["compress_code"]

_OPENS, _CLOSES = re.compile(r"[{(\[]\s*(?://.*)?$"), re.compile(r"\s*[})\]]")
_LINE = re.compile(r"[^\n]*\n?")


def compress_code(task: Task) -> Compression:
    """Return code with whole statements left out; Python stays Python.

    Signatures stay before docstrings, and docstrings before bodies; what the question names stays first of each. A signature of
    which nothing else fits keeps a statement of its body, because Python needs one. In other languages whole blocks of lines are
    left out, with their brackets.

    Raises:
        BudgetError: What must stay does not fit.
    """
    text = task.hits[0].chunk.text
    units = parse_python(text)
    return _compress_python(task, text, units) if units is not None else _compress_blocks(task, text)


def _compress_python(task: Task, text: str, units: Sequence[PythonUnit]) -> Compression:
    own = overlaps(task.question, [code_terms(text[unit.start : unit.end]) for unit in units])
    values = list(own)
    for i in reversed(range(len(units))):  # a signature is worth what stands under it, and gives some to it
        needs = units[i].needs
        if needs is not None:
            values[needs] = max(values[needs], values[i])
    for i, unit in enumerate(units):
        if unit.needs is not None:
            values[i] += own[unit.needs]
    fillers = _fillers(units)
    required = {i for i, unit in enumerate(units) if _is_kept(task, unit.start, unit.end)}
    named = bool(task.question.strip()) and max(values, default=0.0) > 0

    def rank(i: int) -> tuple[int, float, int]:
        unit = units[i]
        tier = 0 if unit.is_definition else 1 if unit.is_docstring else 3 if unit.is_import else 2
        if named and values[i] >= 0.5 * max(values):  # what the question asks about comes whole
            tier = 0
        return tier, -values[i], i

    def render(chosen: Set[int]) -> list[Part]:
        alive = _with_needs(chosen, units)
        parents = {units[i].needs for i in alive}
        bare = [i for i in alive if i in fillers and i not in parents]
        while bare:
            filler = fillers[bare.pop()]
            alive.add(filler)
            bare += [filler] if filler in fillers else []
        return [Part(0, units[i].start, units[i].end) for i in sorted(alive)]

    order = sorted(set(range(len(units))) - required, key=rank)
    return fill(task, "code", order, render, required)


def _fillers(units: Sequence[PythonUnit]) -> dict[int, int]:
    """Return for each signature with a body the shortest statement of it."""
    fillers: dict[int, int] = {}
    for i in reversed(range(len(units))):
        needs = units[i].needs
        if needs is None or (units[i].is_definition and needs in fillers):
            continue
        best = fillers.get(needs)
        if best is None or units[best].is_definition or _length(units[i]) <= _length(units[best]):
            fillers[needs] = i
    return fillers


def _length(unit: PythonUnit) -> int:
    return unit.end - unit.start


def _with_needs(chosen: Set[int], parts: Sequence[PythonUnit | _Block]) -> set[int]:
    """Return the chosen parts, and those that they need: the signatures and opening lines above them."""
    alive = set(chosen)
    for i in chosen:
        needs = parts[i].needs
        while needs is not None and needs not in alive:
            alive.add(needs)
            needs = parts[needs].needs
    return alive


def _is_kept(task: Task, start: int, end: int) -> bool:
    return any(low < end and start < high for low, high in task.keep[0])


# Other languages


@dataclass(frozen=True, slots=True)
class _Block:
    """A line, or the lines between a line that opens a bracket and the line that closes it."""

    start: int
    end: int
    needs: int | None
    closing: tuple[int, int] | None = None


def _compress_blocks(task: Task, text: str) -> Compression:
    blocks = _blocks(text)
    own = overlaps(task.question, [code_terms(text[block.start : block.end]) for block in blocks])
    values = list(own)
    depths = [0] * len(blocks)
    for i, block in enumerate(blocks):
        if block.needs is not None:
            depths[i] = depths[block.needs] + 1
            values[i] += own[block.needs]
    required = {i for i, block in enumerate(blocks) if _is_kept(task, block.start, block.end)}
    best = max(values, default=0.0)
    order = sorted(
        set(range(len(blocks))) - required,
        key=lambda i: (0 if best and values[i] >= 0.5 * best else 1, depths[i], -values[i], i),
    )

    def render(chosen: Set[int]) -> list[Part]:
        alive = _with_needs(chosen, blocks)
        spans = [(blocks[i].start, blocks[i].end) for i in alive]
        spans += [closing for i in alive if (closing := blocks[i].closing) is not None]
        return [Part(0, *span) for span in sorted(spans)]

    return fill(task, "code", order, render, required)


def _blocks(text: str) -> list[_Block]:
    """Return the lines in order; a line that opens a bracket has the line that closes it, at the same indent."""
    blocks: list[_Block] = []
    open_blocks: list[tuple[int, int]] = []  # index and indent
    for match in _LINE.finditer(text):
        line = match[0].rstrip()
        if not line.strip():
            continue
        start, end = match.start(), match.start() + len(line)
        indent = len(line) - len(line.lstrip())
        while open_blocks and indent < open_blocks[-1][1]:
            open_blocks.pop()
        if open_blocks and indent == open_blocks[-1][1]:
            opened, _ = open_blocks.pop()
            if _CLOSES.match(line) and not _OPENS.search(line):
                head = blocks[opened]
                blocks[opened] = _Block(head.start, head.end, head.needs, (start, end))
                continue
        needs = open_blocks[-1][0] if open_blocks else None
        blocks.append(_Block(start, end, needs))
        if _OPENS.search(line):
            open_blocks.append((len(blocks) - 1, indent))
    return blocks
