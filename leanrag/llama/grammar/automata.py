"""Sets of texts as expressions, and the states of a machine that reads them.

Expressions have concatenation, alternatives, repetition, intersection and complement. The derivative of an expression by a
character is the expression of what may follow the character: Brzozowski, "Derivatives of regular expressions", J. ACM 1964. The
derivatives of an expression are the states of a deterministic machine.
"""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

__all__ = ["ALPHABET", "Expressions", "Ranges", "State", "TooManyStatesError", "complement", "measure", "union"]

Ranges = tuple[tuple[int, int], ...]
"""Code points: inclusive ranges in ascending order that do not touch."""

# The characters that JSON writes as they are or with a short escape: no surrogates, and few control characters.
ALPHABET: Ranges = ((0x08, 0x0A), (0x0C, 0x0D), (0x20, 0x7E), (0xA0, 0xD7FF), (0xE000, 0x10FFFF))
MAX_STATES = 1_500
_MAX_WORK = 200_000  # derivatives, about a second


class TooManyStatesError(Exception):
    """A machine would need more than `MAX_STATES` states, or too much time to be built."""


def union(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return the code points of all `ranges`."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(high, merged[-1][1])
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(ranges: Ranges) -> Ranges:
    """Return the characters of `ALPHABET` that are not in `ranges`."""
    return _intersect(_gaps(ranges), ALPHABET)


def _gaps(ranges: Ranges) -> Ranges:
    starts = [0, *(high + 1 for _, high in ranges)]
    ends = [*(low - 1 for low, _ in ranges), 0x10FFFF]
    return tuple((low, high) for low, high in zip(starts, ends, strict=True) if low <= high)


def _intersect(some: Ranges, others: Ranges) -> Ranges:
    return union((max(a, c), min(b, d)) for a, b in some for c, d in others if max(a, c) <= min(b, d))


class State(NamedTuple):
    """A state of a machine that reads a text.

    Attributes:
        steps: The characters that may come next, each set with the index of the state that follows.
        is_final: Whether the text may end here.
    """

    steps: list[tuple[Ranges, int]]
    is_final: bool


def measure(states: Sequence[State]) -> tuple[int, int | None]:
    """Return the length of the shortest text, and of the longest text; None if there is no longest text."""
    shortest, reached, seen = 0, {0}, {0}
    while reached and not any(states[number].is_final for number in reached):
        shortest += 1
        reached = {target for number in reached for _, target in states[number].steps} - seen
        seen |= reached
    graph = {number: {target for _, target in state.steps} for number, state in enumerate(states)}
    longest = [0] * len(states)
    try:
        for number in graphlib.TopologicalSorter(graph).static_order():
            longest[number] = max((longest[target] + 1 for target in graph[number]), default=0)
    except graphlib.CycleError:
        return shortest, None
    return shortest, longest[0]


class _Node(NamedTuple):
    kind: Literal["none", "empty", "set", "then", "either", "both", "not", "repeat"]
    parts: tuple[int, ...] = ()
    ranges: Ranges = ()
    least: int = 0
    most: int | None = None


class Expressions:
    """Builds expressions. Each is a number, and equal expressions have the same number.

    Attributes:
        none: Matches no text.
        empty: Matches the empty text.
        everything: Matches every text of `ALPHABET`.
    """

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._numbers: dict[_Node, int] = {}
        self._is_nullable: list[bool] = []
        self._derivatives: dict[tuple[int, int], int] = {}
        self.none = self._add(_Node("none"))
        self.empty = self._add(_Node("empty"))
        self.everything = self._add(_Node("repeat", (self._add(_Node("set", ranges=ALPHABET)),)))

    def characters(self, ranges: Ranges) -> int:
        """Match a character of `ranges`."""
        ranges = _intersect(ranges, ALPHABET)
        return self._add(_Node("set", ranges=ranges)) if ranges else self.none

    def then(self, first: int, second: int) -> int:
        """Match a text of `first` followed by a text of `second`."""
        if self.none in (first, second):
            return self.none
        if first == self.empty or second == self.empty:
            return second if first == self.empty else first
        node = self._nodes[first]
        if node.kind == "then":
            return self.then(node.parts[0], self.then(node.parts[1], second))
        return self._add(_Node("then", (first, second)))

    def either(self, *options: int) -> int:
        """Match a text of any of `options`."""
        parts = self._flatten("either", options) - {self.none}
        if self.everything in parts:
            return self.everything
        if len(parts) < 2:
            return parts.pop() if parts else self.none
        return self._add(_Node("either", tuple(sorted(parts))))

    def both(self, *expressions: int) -> int:
        """Match a text that all `expressions` match."""
        parts = self._flatten("both", expressions) - {self.everything}
        if self.none in parts:
            return self.none
        if self.empty in parts:
            return self.empty if all(self._is_nullable[part] for part in parts) else self.none
        if len(parts) < 2:
            return parts.pop() if parts else self.everything
        return self._add(_Node("both", tuple(sorted(parts))))

    def negate(self, expression: int) -> int:
        """Match every text that `expression` does not match."""
        node = self._nodes[expression]
        if node.kind == "not":
            return node.parts[0]
        if expression in (self.none, self.everything):
            return self.everything if expression == self.none else self.none
        return self._add(_Node("not", (expression,)))

    def repeat(self, expression: int, least: int, most: int | None) -> int:
        """Match `least` to `most` texts of `expression` after each other; None means any number."""
        least = 0 if self._is_nullable[expression] else least
        if most == 0 or expression == self.empty or (expression == self.none and not least):
            return self.empty
        if expression == self.none or (least, most) == (1, 1):
            return expression
        node = self._nodes[expression]
        if node.kind == "repeat" and (node.least, node.most) == (0, None):
            return expression
        return self._add(_Node("repeat", (expression,), (), least, most))

    def states(self, expression: int) -> list[State]:
        """Return the states of a machine that reads the texts of `expression`, first state first; none if there are no texts.

        Raises:
            TooManyStatesError: The machine would be too large.
        """
        classes = self._classes()
        numbers, order = {expression: 0}, [expression]
        steps: list[dict[int, list[tuple[int, int]]]] = []
        for state in order:
            following: dict[int, list[tuple[int, int]]] = {}
            for ranges in classes:
                target = self._derive(state, ranges[0][0])
                if target == self.none:
                    continue
                if target not in numbers:
                    if len(order) == MAX_STATES:
                        raise TooManyStatesError
                    numbers[target] = len(order)
                    order.append(target)
                following.setdefault(numbers[target], []).extend(ranges)
            steps.append(following)
        useful = self._useful(steps, [self._is_nullable[state] for state in order])
        if 0 not in useful:
            return []
        places = {number: index for index, number in enumerate(sorted(useful))}
        return [
            State(
                [(union(ranges), places[target]) for target, ranges in steps[number].items() if target in useful],
                self._is_nullable[order[number]],
            )
            for number in sorted(useful)
        ]

    @staticmethod
    def _useful(steps: Sequence[dict[int, list[tuple[int, int]]]], is_final: Sequence[bool]) -> set[int]:
        """Return the states from which a text can end."""
        sources: dict[int, list[int]] = {}
        for source, following in enumerate(steps):
            for target in following:
                sources.setdefault(target, []).append(source)
        useful: set[int] = set()
        waiting = [state for state, final in enumerate(is_final) if final]
        while waiting:
            state = waiting.pop()
            if state not in useful:
                useful.add(state)
                waiting += sources.get(state, [])
        return useful

    def _classes(self) -> list[Ranges]:
        """Return the characters in groups; no expression tells two characters of a group apart."""
        sets = [node.ranges for node in self._nodes if node.kind == "set"]
        cuts = sorted({point for ranges in sets for low, high in ranges for point in (low, high + 1)})
        groups: dict[tuple[bool, ...], list[tuple[int, int]]] = {}
        for low, after in itertools.pairwise(cuts):
            signature = tuple(_contains(ranges, low) for ranges in sets)
            if any(signature):
                groups.setdefault(signature, []).append((low, after - 1))
        return [tuple(group) for group in groups.values()]

    def _add(self, node: _Node) -> int:
        number = self._numbers.setdefault(node, len(self._nodes))
        if number == len(self._nodes):
            self._nodes.append(node)
            self._is_nullable.append(self._nullable(node))
        return number

    def _nullable(self, node: _Node) -> bool:
        parts = [self._is_nullable[part] for part in node.parts]
        if node.kind == "not":
            return not parts[0]
        if node.kind == "repeat":
            return node.least == 0 or parts[0]
        if node.kind == "either":
            return any(parts)
        return node.kind not in ("none", "set") and all(parts)

    def _flatten(self, kind: str, expressions: Iterable[int]) -> set[int]:
        parts: set[int] = set()
        for expression in expressions:
            node = self._nodes[expression]
            parts.update(node.parts if node.kind == kind else (expression,))
        return parts

    def _derive(self, expression: int, point: int) -> int:
        """Return the expression of what may follow the character `point`."""
        key = (expression, point)
        if key not in self._derivatives:
            if len(self._derivatives) == _MAX_WORK:
                raise TooManyStatesError
            self._derivatives[key] = self._derivative(self._nodes[expression], point)
        return self._derivatives[key]

    def _derivative(self, node: _Node, point: int) -> int:
        if node.kind == "set":
            return self.empty if _contains(node.ranges, point) else self.none
        if node.kind == "then":
            first, second = node.parts
            following = self.then(self._derive(first, point), second)
            return self.either(following, self._derive(second, point)) if self._is_nullable[first] else following
        if node.kind == "repeat":
            most = None if node.most is None else node.most - 1
            rest = self.repeat(node.parts[0], max(node.least - 1, 0), most)
            return self.then(self._derive(node.parts[0], point), rest)
        parts = [self._derive(part, point) for part in node.parts]
        if node.kind == "either":
            return self.either(*parts)
        if node.kind == "both":
            return self.both(*parts)
        return self.negate(parts[0]) if node.kind == "not" else self.none


def _contains(ranges: Ranges, point: int) -> bool:
    return any(low <= point <= high for low, high in ranges)
