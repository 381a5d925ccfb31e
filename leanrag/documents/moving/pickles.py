"""The data in a pickle, read without importing a module or calling a function.

A pickle is a program that may call anything. This reader follows only the instructions that build plain values and records: an
object becomes a `Record` of its class name and its state, and only classes on a list of allowed names may occur.
"""

from __future__ import annotations

import pickletools
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, BinaryIO

__all__ = ["Record", "UnsafePickleError", "read_pickle"]


class UnsafePickleError(ValueError):
    """A pickle would call what is not allowed."""


@dataclass(slots=True)
class Record:
    """An object of a pickle.

    Attributes:
        name: Module and name of its class.
        arguments: What its class would be called with.
        state: Its attributes.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = field(default=None)


@dataclass(frozen=True, slots=True)
class _Name:
    name: str


_MARK = object()
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 INT LONG BINFLOAT FLOAT BINUNICODE BINUNICODE8 SHORT_BINUNICODE UNICODE"
    " BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = frozenset({"PROTO", "FRAME"})


def read_pickle(file: BinaryIO, allowed: Collection[str]) -> Any:
    """Return the value of a pickle: dicts, lists, tuples, sets, texts, numbers, and `Record`s of the classes in `allowed`.

    Args:
        file: Opened for reading bytes.
        allowed: Names of classes, with their modules: "datetime.date".

    Raises:
        UnsafePickleError: The pickle names another class or function, or has an instruction that such values do not need.
        ValueError: The pickle is damaged.
        LookupError: The same.
        TypeError: The same.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, position in pickletools.genops(file):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _IGNORED:
            continue
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_name(stack, argument, position or 0, allowed))
        else:
            _build(name, stack, position or 0)
    raise ValueError("the pickle has no end")


def _name(stack: list[Any], argument: Any, position: int, allowed: Collection[str]) -> _Name:
    if argument is None:
        attribute, module = stack.pop(), stack.pop()
        name = f"{module}.{attribute}"
    else:
        name = str(argument).replace(" ", ".", 1)
    if name not in allowed:
        raise UnsafePickleError(f"the pickle names {name!r} at byte {position}, which is not a class that is read")
    return _Name(name)


def _build(name: str, stack: list[Any], position: int) -> None:
    """Follow an instruction that combines what is on the stack."""
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_SET"):
        stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": set}[name]())
    elif name in _TUPLES:
        parts = [stack.pop() for _ in range(_TUPLES[name])]
        stack.append(tuple(reversed(parts)))
    elif name in ("TUPLE", "LIST", "FROZENSET"):
        parts = _above_mark(stack)
        stack.append(frozenset(map(_key, parts)) if name == "FROZENSET" else tuple(parts) if name == "TUPLE" else parts)
    elif name in ("APPEND", "APPENDS"):
        parts = [stack.pop()] if name == "APPEND" else _above_mark(stack)
        _expect(stack[-1], list).extend(parts)
    elif name == "ADDITEMS":
        parts = _above_mark(stack)
        _expect(stack[-1], set).update(map(_key, parts))
    elif name in ("SETITEM", "SETITEMS", "DICT"):
        parts = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _above_mark(stack)
        if name == "DICT":
            stack.append({})
        _expect(stack[-1], dict).update(zip(map(_key, parts[::2]), parts[1::2], strict=True))
    elif name in ("NEWOBJ", "REDUCE"):
        arguments, what = stack.pop(), stack.pop()
        stack.append(Record(_expect(what, _Name).name, _expect(arguments, tuple)))
    elif name == "BUILD":
        state = stack.pop()
        _expect(stack[-1], Record).state = state
    elif name == "POP":
        stack.pop()
    else:
        raise UnsafePickleError(f"the pickle has the instruction {name} at byte {position}, which is not read")


def _above_mark(stack: list[Any]) -> list[Any]:
    """Remove what is above the last mark, and the mark, and return it."""
    parts = []
    while (part := stack.pop()) is not _MARK:
        parts.append(part)
    return parts[::-1]


def _key(value: Any) -> Any:
    """Check that a value can be hashed at once: a tuple may be nested more deeply than Python can hash."""
    return _expect(value, (str, int, float, bool, bytes, type(None)))


def _expect(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"the pickle has {type(value).__name__} where another value is expected")
    return value
