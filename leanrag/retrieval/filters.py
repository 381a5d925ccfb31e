"""Conditions on documents: `where` in plain mappings, as SQL.

    {"year": 2024}                               the value, or one value of a list, equals
    {"year": [2024, 2025]}                       ... equals any of these
    {"year": {">=": 2020, "<": 2025}}            all comparisons hold, for the same value
    {"tag": {"!=": "draft"}}                     the opposite of equals; also for documents without a tag
    {"tag": {"not in": ["draft", "old"]}}        the opposite of in
    {"author": {"exists": True}}                 there is such a field
    {"any": [{"year": 2024}, {"tag": "new"}]}    at least one condition holds
    {"all": [...]}, {"not": {...}}               all hold; it does not hold
    {"source": "docs/"}, {"source": "a.md"}      documents of a folder, of a file

Several keys of one mapping must all hold. Comparisons have names too, with or without a dollar sign: `eq ne lt lte gt gte in
nin exists`, and `any all not` are also `or and`, as in other databases. Numbers are compared with numbers, text with
text (by code points), never one with the other. Dates are text in ISO form: 2024-03-05 is before 2024-03-05T10:00.

A path of `source` that is not absolute matches at the end of a document's path, or at any folder of it; `*` stands for any
characters, `?` for one. A metadata field of the name `source` that has the value matches too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from pathlib import PurePath
from typing import Any

from leanrag.errors import ConfigurationError
from leanrag.retrieval.schema import to_sql
from leanrag.types import Scalar, Where

__all__ = ["GROUPS", "OPERATORS", "bound_value", "check_scalar", "condition_sql", "is_list", "list_items"]

GROUPS = {"any": "OR", "or": "OR", "all": "AND", "and": "AND", "not": "NOT"}
OPERATORS = {
    **{name: name for name in ("=", "!=", "<", "<=", ">", ">=", "in", "not in", "exists")},
    "==": "=",
    "eq": "=",
    "ne": "!=",
    "lt": "<",
    "lte": "<=",
    "gt": ">",
    "gte": ">=",
    "nin": "not in",
}
_MOST_NESTED = 20  # the parser of SQLite has room for twice as many
_MOST_VALUES = 30_000  # SQLite binds 32,766

_Sql = tuple[str, list[Any]]


def condition_sql(where: Where) -> _Sql:
    """Return `(expression, values)`: an SQL expression over a row of `documents`, true for the documents that match.

    Raises:
        ConfigurationError: An operator is unknown, or a value cannot be compared.
    """
    sql, values = _mapping(where, 0)
    if len(values) > _MOST_VALUES:
        raise ConfigurationError(f"a filter may have at most {_MOST_VALUES} values, got {len(values)}. Ask in parts")
    return sql, values


def check_scalar(what: str, name: str, value: object) -> None:
    """Raise `ConfigurationError` if `value` is not a text, a finite number of 64 bits, a bool or None."""
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if not is_finite or not isinstance(value, (str, int, float, type(None))):
        raise ConfigurationError(f"{what} must be a str, finite number, bool or None, got {name!r}: {value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ConfigurationError(f"{what} must fit 64 bits, got {name!r}: {value!r}; make it a str")


def _mapping(where: Where, depth: int) -> _Sql:
    if not isinstance(where, Mapping):
        raise ConfigurationError(f"a filter must be a mapping such as {{'year': 2024}}, got {where!r}")
    if not all(isinstance(name, str) for name in where):
        raise ConfigurationError(f"the names in a filter must be str, got {where!r}")
    if depth > _MOST_NESTED:
        raise ConfigurationError(f"a filter may be nested at most {_MOST_NESTED} deep. Nest it less")
    return _joined("AND", [_entry(name, value, depth) for name, value in where.items()])


def _joined(operator: str, conditions: Sequence[_Sql]) -> _Sql:
    if not conditions:
        return ("1" if operator == "AND" else "0"), []
    return "(" + f" {operator} ".join(sql for sql, _ in conditions) + ")", [
        v for _, values in conditions for v in values
    ]


def _entry(name: str, value: object, depth: int) -> _Sql:
    group = GROUPS.get(name.removeprefix("$"))
    if group == "NOT" and isinstance(value, Mapping):
        sql, values = _mapping(value, depth + 1)
        return f"NOT {sql}", values
    if group in ("AND", "OR") and is_list(value):
        parts = [part for part in list_items(value) if isinstance(part, Mapping)]
        if len(parts) == len(list_items(value)):
            return _joined(group, [_mapping(part, depth + 1) for part in parts])
    if name == "source":
        return _source(value)
    return _field(name, value)


# Fields


def _field(name: str, value: object) -> _Sql:
    if isinstance(value, Mapping):
        return _comparisons(name, value)
    if is_list(value):
        return _one_of(name, list_items(value))
    return _some_value(name, *_equals(name, value))


def _comparisons(name: str, operators: Mapping[str, object]) -> _Sql:
    """Return the condition that all `operators` hold: comparisons for one value of the field, the others for the field."""
    if not operators:
        raise ConfigurationError(
            f"the filter on {name!r} has no operator; write {{{name!r}: value}} or {{{name!r}: {{'>=': value}}}}"
        )
    of_value: list[_Sql] = []
    of_field: list[_Sql] = []
    for key, value in operators.items():
        operator = OPERATORS.get(key.removeprefix("$"))
        if operator is None:
            raise ConfigurationError(
                f"the filter on {name!r} has the unknown operator {key!r}; use one of {', '.join(OPERATORS)}"
            )
        if operator in ("in", "not in"):
            if not is_list(value):
                raise ConfigurationError(f"{operator!r} in the filter on {name!r} must have a list, got {value!r}")
            condition = _one_of(name, list_items(value))
            of_field.append(condition if operator == "in" else _negated(condition))
        elif operator == "exists":
            if not isinstance(value, bool):
                raise ConfigurationError(f"'exists' in the filter on {name!r} must be True or False, got {value!r}")
            condition = _some_value(name, "1", [])
            of_field.append(condition if value else _negated(condition))
        elif operator == "!=":
            of_field.append(_negated(_some_value(name, *_equals(name, value))))
        else:
            of_value.append(_equals(name, value) if operator == "=" else _ordered(name, operator, value))
    if of_value:
        of_field.append(_some_value(name, *_joined("AND", of_value)))
    return _joined("AND", of_field)


def _some_value(name: str, test: str, values: Sequence[Any]) -> _Sql:
    """Return the condition that `test` is true for a value of the field."""
    return f"key IN (SELECT document FROM fields WHERE name = ? AND {test})", [to_sql(name), *values]


def _one_of(name: str, values: Iterable[object]) -> _Sql:
    bound = [bound_value(name, value) for value in values]
    known = [value for value in bound if value is not None]  # NULL is IN nothing
    has_none = " OR value IS NULL" if len(known) < len(bound) else ""
    return _some_value(name, f"(value IN ({', '.join('?' * len(known))}){has_none})", known)


def _negated(condition: _Sql) -> _Sql:
    return f"NOT {condition[0]}", condition[1]


def _equals(name: str, value: object) -> _Sql:
    return "value IS ?", [bound_value(name, value)]


def _ordered(name: str, operator: str, value: object) -> _Sql:
    bound = bound_value(name, value)
    if bound is None:
        raise ConfigurationError(
            f"{operator!r} in the filter on {name!r} must have a number, a text or a date, got None. To find documents without "
            f"this field, write {{{name!r}: {{'exists': False}}}}"
        )
    if isinstance(bound, (str, bytes)):  # as bytes: text with lone surrogates is stored so, and the order is the same
        return f"(typeof(value) IN ('text', 'blob') AND CAST(value AS BLOB) {operator} CAST(? AS BLOB))", [bound]
    return f"(typeof(value) IN ('integer', 'real') AND value {operator} ?)", [bound]


def bound_value(name: str, value: object) -> Scalar | bytes:
    """Return a value of a filter as it is stored."""
    value = value.isoformat() if isinstance(value, date) else value
    check_scalar("a filter", name, value)
    bound: Scalar | bytes = to_sql(value)
    return bound


def is_list(value: object) -> bool:
    """Return whether a value of a filter stands for several."""
    return isinstance(value, (Sequence, Set)) and not isinstance(value, (str, bytes))


def list_items(value: object) -> list[object]:
    """Return the values of a list of a filter."""
    return list(value) if isinstance(value, Iterable) else []


# Files and folders


def _source(value: object) -> _Sql:
    if isinstance(value, Mapping):
        unknown = [key for key in value if OPERATORS.get(str(key).removeprefix("$")) not in ("=", "!=", "in", "not in")]
        if unknown or not value:
            raise ConfigurationError(f"the filter on 'source' allows only =, !=, in and 'not in', got {value!r}")
        return _joined(
            "AND", [_source_comparison(OPERATORS[key.removeprefix("$")], part) for key, part in value.items()]
        )
    return _joined("OR", [_path(path) for path in (list_items(value) if is_list(value) else [value])])


def _source_comparison(operator: str, value: object) -> _Sql:
    condition = _source(value)
    return condition if operator in ("=", "in") else _negated(condition)


def _path(value: object) -> _Sql:
    if value is None:
        return "(source IS NULL)", []
    if not isinstance(value, (str, PurePath)):
        return _some_value("source", *_equals("source", value))
    path = str(value).replace("\\", "/").removeprefix("./")
    is_absolute = path.startswith("/") or path[1:3] == ":/"
    pattern = "".join("[[]" if character == "[" else character for character in path.rstrip("/"))
    head = pattern if is_absolute else f"*/{pattern}"
    file = "replace(source, '\\', '/')" if is_absolute else "'/' || replace(source, '\\', '/')"
    same, values = _some_value("source", *_equals("source", str(value)))
    matches = f"source IS NOT NULL AND ({file} GLOB ? OR {file} GLOB ?)"
    return f"({matches} OR {same})", [to_sql(head), to_sql(f"{head}/*"), *values]
