"""JSON by its keys: what the question names stays, and the result is valid JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from leanrag.compression.pasted.choosing import code_terms, fill, overlaps
from leanrag.compression.task import Part, Task
from leanrag.spans import Span, merge_neighbours
from leanrag.text import split_sentences
from leanrag.types import Compression

__all__ = ["JsonNode", "compress_json", "parse_json"]

_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null")
_read = json.JSONDecoder().raw_decode
_DEEPEST = 200
_LONG = 160  # characters of a string whose sentences are chosen one by one
_SCHEMA_KEYS = frozenset(
    "name type required enum items properties parameters input_schema inputSchema function".split()
)


@dataclass(slots=True)
class JsonNode:
    """A value of a JSON text.

    Attributes:
        start: First character of the value.
        end: One past the last.
        key: Its key in the object around it, or "".
        key_start: First character of the key, or of the value if it has none.
        comma: Offset of the comma before it; -1 for the first value of a container.
        children: The values in an object or array.
    """

    start: int
    end: int
    key: str
    key_start: int
    comma: int
    children: list[JsonNode] = field(default_factory=list)

    def walk(self) -> Iterator[JsonNode]:
        """Yield this node and all nodes below it."""
        yield self
        for child in self.children:
            yield from child.walk()


def parse_json(text: str) -> JsonNode | None:
    """Return the tree of a JSON text; None if it is not valid JSON, or nested very deeply."""
    try:
        json.loads(text)
        node = _value(text, _space(text, 0), "", -1, -1, 0)
    except (ValueError, RecursionError):
        return None
    return node


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, start: int, key: str, key_start: int, comma: int, depth: int) -> JsonNode:
    if depth > _DEEPEST:
        raise RecursionError
    node = JsonNode(start, start, key, start if key_start < 0 else key_start, comma)
    first = text[start]
    if first == '"':
        node.end = _read(text, start)[1]
    elif first in "{[":
        at, comma = _space(text, start + 1), -1
        while text[at] not in "}]":
            if text[at] == ",":
                comma, at = at, _space(text, at + 1)
            name, name_start = "", -1
            if first == "{":
                name_start = at
                name, at = _read(text, at)
                at = _space(text, _space(text, at) + 1)  # the colon
            child = _value(text, at, name, name_start, comma, depth + 1)
            node.children.append(child)
            at = _space(text, child.end)
        node.end = at + 1
    else:
        match = _SCALAR.match(text, start)
        if match is None:  # NaN and Infinity, which Python reads
            raise ValueError(text[start : start + 10])
        node.end = match.end()
    return node


@dataclass(frozen=True, slots=True)
class _Leaf:
    """What stays or goes: a scalar, an empty container, or a sentence of a long string.

    Attributes:
        nodes: The nodes around it and its own, outermost first.
        start: First character.
        end: One past the last.
        is_schema: Whether it says what a tool is called, or what its parameters are.
    """

    nodes: tuple[JsonNode, ...]
    start: int
    end: int
    is_schema: bool


def compress_json(task: Task, root: JsonNode, *, keep_schema: bool = False) -> Compression:
    """Return a JSON text with the fields that the question names first; it is valid JSON.

    Args:
        task: A single source, the JSON text.
        root: Its tree.
        keep_schema: Whether names, types and required parameters of tools always stay.

    Raises:
        BudgetError: What must stay does not fit.
    """
    text = task.hits[0].chunk.text
    leaves = list(_leaves(text, (root,)))
    values = _values(task.question, text, leaves)
    required = {
        i
        for i, leaf in enumerate(leaves)
        if (keep_schema and leaf.is_schema) or any(low < leaf.end and leaf.start < high for low, high in task.keep[0])
    }
    order = sorted(set(range(len(leaves))) - required, key=lambda i: (-values[i], i))

    def render(chosen: Set[int]) -> list[Part]:
        alive: dict[int, JsonNode] = {}
        spans: dict[int, list[Span]] = {}
        for i in sorted(chosen):
            leaf = leaves[i]
            alive.update({id(node): node for node in leaf.nodes})
            spans.setdefault(id(leaf.nodes[-1]), []).append((leaf.start, leaf.end))
        alive[id(root)] = root
        return [Part(0, *span) for span in merge_neighbours(text, _render(text, root, alive, spans))]

    return fill(task, "json", order, render, required)


def _leaves(text: str, nodes: tuple[JsonNode, ...]) -> Iterator[_Leaf]:
    node = nodes[-1]
    if node.children:
        for child in node.children:
            yield from _leaves(text, (*nodes, child))
        return
    is_schema = any(each.key in _SCHEMA_KEYS for each in nodes[-2:]) and node.end - node.start <= _LONG
    if text[node.start] == '"' and node.end - node.start > _LONG:
        for start, end in split_sentences(text[node.start + 1 : node.end - 1]):
            yield _Leaf(nodes, node.start + 1 + start, node.start + 1 + end, is_schema)
    else:
        yield _Leaf(nodes, node.start, node.end, is_schema)


def _values(question: str, text: str, leaves: Sequence[_Leaf]) -> list[float]:
    """Return a value for each leaf: of its keys and text, and less of what the records around it have.

    So the field that a question names is worth most in the record that it names.
    """
    own = overlaps(
        question, [code_terms(" ".join([*(n.key for n in leaf.nodes), text[leaf.start : leaf.end]])) for leaf in leaves]
    )
    around: dict[int, float] = {}
    for leaf, value in zip(leaves, own, strict=True):
        for node in leaf.nodes[1:-1]:
            around[id(node)] = max(around.get(id(node), 0.0), value)
    result = []
    for leaf, value in zip(leaves, own, strict=True):
        inner = [around[id(node)] for node in leaf.nodes[1:-1]]  # outermost first
        result.append(value + sum(near / 2**distance for distance, near in enumerate(reversed(inner), start=1)))
    return result


def _render(text: str, node: JsonNode, alive: dict[int, JsonNode], spans: dict[int, list[Span]]) -> Iterator[Span]:
    """Yield the spans of a value that stays, from its first character to its last."""
    if not node.children:
        if text[node.start] == '"' and node.end - node.start > _LONG:
            yield node.start, node.start + 1
            yield from spans.get(id(node), ())
            yield node.end - 1, node.end
        else:
            yield node.start, node.end
        return
    yield node.start, node.start + 1
    is_first = True
    for child in node.children:
        if id(child) in alive:
            if not is_first:
                yield child.comma, child.comma + 1
            if child.key_start < child.start:
                yield child.key_start, child.start
            yield from _render(text, child, alive, spans)
            is_first = False
    yield node.end - 1, node.end
