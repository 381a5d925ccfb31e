"""What a part of a pasted text is worth for a question, and the best parts that fit."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set

from leanrag.compression.task import Part, Task, assemble
from leanrag.evidence.terms import terms_of
from leanrag.types import Compression

__all__ = ["code_terms", "fill", "overlaps"]

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_\-./]+")
_TRIES = 64  # steps behind the first that does not fit


def code_terms(text: str) -> frozenset[str]:
    """Return the terms of a text in which names are written together: `parse_tags` and `parseTags` have "parse" and "tag"."""
    return terms_of(text) | terms_of(_CAMEL.sub(" ", text))


def overlaps(question: str, terms: Sequence[frozenset[str]]) -> list[float]:
    """Return for each part the share of the question's terms that it has, in [0, 1]; rare terms count more."""
    asked = code_terms(question)
    counts = Counter(term for own in terms for term in asked & own)
    weights = {term: math.log(1 + len(terms) / counts[term]) for term in sorted(asked) if counts[term]}
    total = sum(weights.values())
    return [sum(weights.get(term, 0.0) for term in sorted(asked & own)) / total if total else 0.0 for own in terms]


def fill(
    task: Task,
    method: str,
    order: Sequence[int],
    render: Callable[[Set[int]], Iterable[Part]],
    required: Set[int] = frozenset(),
) -> Compression:
    """Return the compression with as many steps as fit, in their order; steps that do not fit are passed over.

    Args:
        task: What is compressed.
        method: Its name.
        order: The steps, best first.
        render: Returns the parts of the text for a set of steps; more steps take more tokens.
        required: Steps that always stay.

    Raises:
        BudgetError: The required steps do not fit, or no step fits.
    """

    def tokens(chosen: Set[int]) -> int:
        return task.count(assemble(task.hits, sorted(render(chosen), key=lambda part: part.start))[0])

    least = tokens(required)
    if least > task.budget:
        raise task.too_small(least)
    low, high = 0, len(order)
    while low < high:  # `low` steps fit
        middle = (low + high + 1) // 2
        if tokens(required | set(order[:middle])) <= task.budget:
            low = middle
        else:
            high = middle - 1
    chosen = set(required) | set(order[:low])
    for step in order[low : low + _TRIES]:
        if tokens(chosen | {step}) <= task.budget:
            chosen.add(step)
    if order and not chosen:
        costs = [tokens({step}) for step in order]
        if min(costs) > task.budget:
            raise task.too_small(min(costs))
        chosen.add(order[costs.index(min(costs))])
    return task.finish(render(chosen), method)
