"""Logs by event: each kind of line once, with how often it occurs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass

from leanrag.compression.pasted.choosing import code_terms, fill, overlaps
from leanrag.compression.task import Part, Task
from leanrag.structure import paragraphs
from leanrag.types import Compression

__all__ = ["compress_log"]

_VARIABLE = re.compile(r"0x[0-9a-fA-F]+|\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F-]{8,}\b|\d+(?:[.:,]\d+)*")
_SEVERE = re.compile(
    r"\b(?:error|fatal|critical|exception|traceback|panic|failed|failure|denied|refused)\b", re.IGNORECASE
)
_WARNING = re.compile(r"\bwarn(?:ing)?\b|\btimeout\b|\bretry", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Event:
    """Lines of a log that belong together: a line with a time or level, and those below it that have none.

    Attributes:
        start: First character.
        end: One past the last.
        pattern: The text without its numbers.
    """

    start: int
    end: int
    pattern: str


def compress_log(task: Task) -> Compression:
    """Return the events that the question names, then errors, warnings and what is rare, in the order of the log.

    Events that differ in numbers alone are shown once, the first of them, with a note such as "(37 times)".

    Raises:
        BudgetError: What must stay does not fit.
    """
    text = task.hits[0].chunk.text
    events = _events(text)
    terms = [code_terms(text[event.start : event.end]) for event in events]
    relevant = overlaps(task.question, terms)
    required = {
        i for i, event in enumerate(events) if any(low < event.end and event.start < high for low, high in task.keep[0])
    }
    of_pattern: dict[str, list[int]] = {}
    for i, event in enumerate(events):
        of_pattern.setdefault(event.pattern, []).append(i)
    shown: dict[int, int] = {}  # how often the event occurs that stands for its kind
    for alike in of_pattern.values():
        best = max(alike, key=lambda i: (i in required, relevant[i], -i))
        shown[best] = len(alike)

    def value(i: int) -> float:
        content = text[events[i].start : events[i].end]
        severity = 1.0 if _SEVERE.search(content) else 0.5 if _WARNING.search(content) else 0.0
        return 2 * relevant[i] + severity + 0.5 / shown.get(i, 1)

    order = sorted(set(shown) - required, key=lambda i: (-value(i), i))
    # Where there is room, the repetitions that have other numbers follow.
    order += sorted(set(range(len(events))) - set(shown) - required, key=lambda i: (-relevant[i], i))

    def render(chosen: Set[int]) -> list[Part]:
        n_chosen = Counter(events[i].pattern for i in chosen)
        parts: list[Part] = []
        noted: set[str] = set()
        for i in sorted(chosen):
            event = events[i]
            count = len(of_pattern[event.pattern])
            is_noted = n_chosen[event.pattern] < count and event.pattern not in noted
            noted.add(event.pattern)
            parts.append(Part(0, event.start, event.end, note=f" ({count} times)" if is_noted else ""))
        return parts

    return fill(task, "log", order, render, required)


def _events(text: str) -> list[_Event]:
    lines = [line for group in paragraphs(text, 0, len(text)) for line in group]
    has_times = any(line.kind == "log" for line in lines)
    spans: list[tuple[int, int]] = []
    for line in lines:
        if spans and has_times and line.kind != "log":
            spans[-1] = spans[-1][0], line.end
        else:
            spans.append((line.start, line.end))
    return [_Event(start, end, _VARIABLE.sub("#", text[start:end])) for start, end in spans]
