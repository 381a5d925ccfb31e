"""Metadata as whole numbers, and the filters that need no more than to compare such numbers for equality.

Every engine can search among the rows that have one of some numbers. A filter that compares by order, or that names files, is
answered by SQLite instead, which returns the ids that may be found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from leanrag.retrieval.filters import GROUPS, OPERATORS, bound_value, is_list, list_items
from leanrag.retrieval.schema import to_sql
from leanrag.types import Where

__all__ = ["AllOf", "AnyOf", "HasTag", "Not", "TagFilter", "tag_filter", "tags_of"]


@dataclass(frozen=True, slots=True)
class HasTag:
    """The row has at least one of these tags; no row, if there are none."""

    tags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """All of these hold; every row, if there are none."""

    parts: tuple[TagFilter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one of these holds; no row, if there are none."""

    parts: tuple[TagFilter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    part: TagFilter


TagFilter: TypeAlias = "HasTag | AllOf | AnyOf | Not"


def tags_of(fields: Iterable[tuple[Any, Any]]) -> tuple[int, ...]:
    """Return the tags of a document: two for each row of its `fields`, for the name and for the name with the value."""
    tags = {tag for name, value in fields for tag in (_tag(name), _tag(name, value))}
    return tuple(sorted(tags))


def tag_filter(where: Where) -> TagFilter | None:
    """Return a filter on tags that allows the same rows as `where`; None if there is none.

    `where` must be a filter that `condition_sql` accepts.
    """
    try:
        return _mapping(where)
    except _NeedsOrderError:
        return None


class _NeedsOrderError(Exception):
    """Tags cannot tell which rows a filter allows."""


def _tag(name: Any, *value: Any) -> int:
    """Return 64 bits of a hash; 1, 1.0 and True are equal, as they are in SQLite."""
    kept = [int(each) if isinstance(each, (float, bool)) and float(each).is_integer() else each for each in value]
    digest = hashlib.blake2b(repr((name, kept)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _mapping(where: Where) -> TagFilter:
    return AllOf(tuple(_entry(name, value) for name, value in where.items()))


def _entry(name: str, value: Any) -> TagFilter:
    group = GROUPS.get(name.removeprefix("$"))
    if group == "NOT" and isinstance(value, Mapping):
        return Not(_mapping(value))
    if group in ("AND", "OR") and is_list(value):
        parts = [_mapping(part) for part in list_items(value) if isinstance(part, Mapping)]
        if len(parts) == len(list_items(value)):  # otherwise it is a field of that name
            return AllOf(tuple(parts)) if group == "AND" else AnyOf(tuple(parts))
    if name == "source":
        raise _NeedsOrderError
    if isinstance(value, Mapping):
        return AllOf(tuple(_comparison(name, OPERATORS[key.removeprefix("$")], each) for key, each in value.items()))
    return _one_of(name, list_items(value) if is_list(value) else [value])


def _comparison(name: str, operator: str, value: Any) -> TagFilter:
    if operator == "exists":
        found = HasTag((_tag(to_sql(name)),))
        return found if value else Not(found)
    if operator not in ("=", "!=", "in", "not in"):
        raise _NeedsOrderError
    same = _one_of(name, list_items(value) if operator in ("in", "not in") else [value])
    return same if operator in ("=", "in") else Not(same)


def _one_of(name: str, values: Sequence[object]) -> TagFilter:
    return HasTag(tuple(_tag(to_sql(name), bound_value(name, value)) for value in values))
