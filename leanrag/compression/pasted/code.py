"""Code: signatures and docstrings first, then the bodies that the question names."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence, Set

from leanrag.compression.pasted.bracket_text import parse_brackets
from leanrag.compression.pasted.choosing import code_terms, fill, overlaps
from leanrag.compression.pasted.code_units import CodeUnit
from leanrag.compression.pasted.python_text import parse_python
from leanrag.compression.task import Part, Task
from leanrag.evidence.selection import with_needs
from leanrag.types import Compression

__all__ = ["compress_code"]

_NAME = re.compile(
    r"\b(?:class|struct|interface|enum|trait|module|def|fn|func|fun|function|sub|proc|procedure)[ \t]+([^\W\d]\w*)|"
    r"([^\W\d]\w*)[ \t]*(?:=[ \t]*(?:async[ \t]*)?)?\("
)
"""The name that a definition gives, behind a keyword or before the parameters."""


def compress_code(task: Task) -> Compression:
    """Return code with whole statements left out; Python stays Python.

    Signatures stay before docstrings, and docstrings before bodies; what the question names stays first of each. A signature of
    which nothing else fits keeps a statement of its body, because Python needs one. In other languages the brackets and words that
    end a body stay with what begins it.

    Raises:
        BudgetError: What must stay does not fit.
    """
    text = task.hits[0].chunk.text
    python = parse_python(text)
    units = parse_brackets(text) if python is None else python
    own = overlaps(task.question, [code_terms(text[unit.start : unit.end]) for unit in units])
    asked = code_terms(task.question)
    names = [_name_terms(text[unit.start : unit.end]) if unit.is_definition else frozenset() for unit in units]
    named = overlaps(task.question, [terms if terms <= asked else frozenset() for terms in names])
    own = list(map(operator.add, own, named))  # a definition that is named counts twice
    values, needs = list(own), [unit.needs for unit in units]
    for i, above in reversed(list(enumerate(needs))):  # a signature is worth what stands under it, and gives some to it
        if above is not None:
            values[above] = max(values[above], values[i])
    for i, above in enumerate(needs):
        if above is not None:
            values[i] += own[above]
    fillers = {} if python is None else _fillers(units)
    required = {i for i, unit in enumerate(units) if _is_kept(task, unit)}
    best = max(values, default=0.0) if task.question.strip() else 0.0

    def rank(i: int) -> tuple[int, float, int]:
        unit = units[i]
        tier = 0 if unit.is_definition else 1 if unit.is_docstring else 3 if unit.is_import else 2
        if best and values[i] >= 0.5 * best:  # what the question asks about comes whole
            tier = 0
        return tier, -values[i], i

    def render(chosen: Set[int]) -> list[Part]:
        alive = with_needs(chosen, needs)  # also the signatures and opening lines above
        parents = {units[i].needs for i in alive}
        bare = [i for i in alive if i in fillers and i not in parents]
        while bare:
            filler = fillers[bare.pop()]
            alive.add(filler)
            bare += [filler] if filler in fillers else []
        continued = {units[i].continues for i in alive}
        spans = {(units[i].start, units[i].end) for i in alive}
        spans |= {closing for i in alive - continued if (closing := units[i].closing) is not None}
        return [Part(0, *span) for span in sorted(spans)]

    order = sorted(set(range(len(units))) - required, key=rank)
    return fill(task, "code", order, render, required)


def _fillers(units: Sequence[CodeUnit]) -> dict[int, int]:
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


def _name_terms(code: str) -> frozenset[str]:
    """Return the terms of the name that a definition gives."""
    found = _NAME.search(code)
    return code_terms(found[1] or found[2]) if found else frozenset()


def _length(unit: CodeUnit) -> int:
    return unit.end - unit.start


def _is_kept(task: Task, unit: CodeUnit) -> bool:
    """Whether a unit, or what ends its body, has something that must stay."""
    spans = [(unit.start, unit.end), unit.closing or (unit.end, unit.end)]
    return any(low < end and start < high for low, high in task.keep[0] for start, end in spans)
