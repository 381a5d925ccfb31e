"""Values as JSON and back, without loss: dataclasses as objects with the names of their fields."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["from_json", "to_json"]

Value = TypeVar("Value")


def to_json(value: object) -> str:
    """Return a dataclass and everything in it as one line of JSON in ASCII; `from_json` gives an equal value.

    Raises:
        TypeError: A field is neither a dataclass, a text, a number, a bool or None, nor a tuple or mapping of such values.
    """
    return json.dumps(_to_plain(value), separators=(",", ":"))


def from_json(kind: type[Value], text: str | bytes) -> Value:
    """Return the value of the dataclass `kind` that `to_json` wrote.

    Raises:
        ValueError: The text is not JSON, or a field is missing, unknown, or of another type.
    """
    try:
        value: Value = _from_plain(kind, json.loads(text), kind.__name__)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error
    return value


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: _to_plain(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_to_plain(each) for each in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form: {value!r}")


def _from_plain(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _from_union(arguments, value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where} must be one of {arguments}, got {value!r}")
        return value
    if origin is tuple:
        return tuple(_from_plain(arguments[0], each, where) for each in _check(list, value, where))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {name: _from_plain(arguments[1], each, where) for name, each in _check(dict, value, where).items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return [_from_plain(arguments[0], each, where) for each in _check(list, value, where)]
    if dataclasses.is_dataclass(kind):
        return _from_fields(kind, _check(dict, value, where), where)
    return _check((int, float) if kind is float else kind, value, where)


def _from_union(kinds: Sequence[Any], value: Any, where: str) -> Any:
    for kind in kinds:
        try:
            return _from_plain(kind, value, where)
        except ValueError as error:
            problem = error
    raise problem


def _from_fields(kind: Any, fields: Mapping[str, Any], where: str) -> Any:
    hints = _hints(kind)
    if fields.keys() != hints.keys():
        raise ValueError(f"{where} must have the fields {sorted(hints)}, got {sorted(fields)}")
    return kind(**{name: _from_plain(hints[name], value, f"{where}.{name}") for name, value in fields.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _check(kind: Any, value: Any, where: str) -> Any:
    is_bool = isinstance(value, bool) and kind not in (bool, object)
    if is_bool or not isinstance(value, kind):
        raise ValueError(f"{where} must be of type {getattr(kind, '__name__', kind)}, got {value!r}")
    return value
