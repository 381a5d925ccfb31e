"""Values as JSON and back, without loss: dataclasses as objects with the names of their fields."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
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
        read: Callable[[Any], Value] = _reader(typing.cast(Any, kind))
        value = read(json.loads(text))
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


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Return the function that makes a value of the type `kind` from plain JSON; it is built once for each type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        readers = [_reader(each) for each in arguments if each is not type(None)]
        return functools.partial(_read_union, readers, type(None) in arguments)
    if origin is typing.Literal:
        return functools.partial(_read_choice, arguments)
    if origin is tuple:
        item = _reader(arguments[0])
        return lambda value: tuple([item(each) for each in _check(list, value)])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        item = _reader(arguments[1])
        return lambda value: {name: item(each) for name, each in _check(dict, value).items()}
    if isinstance(origin, type) and issubclass(origin, Sequence):
        item = _reader(arguments[0])
        return lambda value: [item(each) for each in _check(list, value)]
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}
        return functools.partial(_read_fields, kind, fields)
    return functools.partial(_check, (int, float) if kind is float else kind)


def _read_union(readers: Sequence[Callable[[Any], Any]], allows_none: bool, value: Any) -> Any:
    if value is None and allows_none:
        return None
    for read in readers:
        try:
            return read(value)
        except ValueError as error:
            problem = error
    raise problem


def _read_choice(choices: Sequence[object], value: Any) -> Any:
    if value not in choices:
        raise ValueError(f"it must be one of {choices}, got {value!r}")
    return value


def _read_fields(kind: Any, readers: Mapping[str, Callable[[Any], Any]], value: Any) -> Any:
    if _check(dict, value).keys() != readers.keys():
        raise ValueError(f"{kind.__name__} must have the fields {sorted(readers)}, got {sorted(value)}")
    fields = {}
    for name, read in readers.items():
        try:
            fields[name] = read(value[name])
        except ValueError as error:
            raise ValueError(f"{kind.__name__}.{name}: {error}") from error
    return kind(**fields)


def _check(kind: Any, value: Any) -> Any:
    if ((value is True or value is False) and kind not in (bool, object)) or not isinstance(value, kind):
        raise ValueError(f"it must be of type {getattr(kind, '__name__', kind)}, got {value!r}")
    return value
