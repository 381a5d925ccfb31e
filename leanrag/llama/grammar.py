"""Structured answers: JSON Schema to GBNF, a check of GBNF in pure Python, and the grammar that a generation keeps to.

    schema -> schema_to_gbnf -> text -> check_gbnf -> Grammar: pick, accept, pick, accept, ...

llama.cpp trusts a grammar: parentheses nest on its C stack, `{3,1}` fills the memory, some left recursions pass its check
and never end, ambiguity doubles its work with each character, and a token that the grammar does not allow throws through
ctypes and ends the process. So it sees only what was read here first, and no token that it did not allow.

Facts about llama.cpp are from its `src/llama-grammar.cpp`, as in llama-cpp-python 0.3.36.
"""

from __future__ import annotations

import codecs
import ctypes
import graphlib
import itertools
import json
import re
import reprlib
import string
import urllib.parse
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError, GenerationError
from leanrag.llama.library import library, native_errors
from leanrag.llama.sampling import Chooser
from leanrag.llama.vocabulary import Vocabulary

__all__ = ["Grammar", "check_gbnf", "schema_to_gbnf"]

MAX_CHARS = 200_000  # of a grammar
MAX_RULES = 20_000  # with those that llama.cpp makes of groups and repetitions
MAX_ELEMENTS = 200_000  # characters, ranges, references and alternatives, after repetitions are written out
MAX_NESTING = 64  # parentheses: llama.cpp recurses on them
MAX_REPEAT = 2_000  # MAX_REPETITION_THRESHOLD: llama.cpp takes a larger upper bound as none
MAX_LEFT_DEPTH = 1_000  # rules that begin with rules: llama.cpp recurses on them
MAX_LEFT_PATHS = 1_000_000  # its search for left recursion walks every path of them
MAX_READINGS = 1_000  # llama.cpp's stacks, the ways to read what was written so far: it has no limit
MAX_STEPS = 10_000  # to follow references from one character to the next

MAX_SCHEMAS = 5_000
MAX_SCHEMA_DEPTH = 64  # parts of a JSON pointer
MAX_CHOICES = 500  # values of an enum, properties of an object: each can be an open reading
MAX_INTEGER = 10**16 - 1


# JSON Schema to GBNF

_ANNOTATIONS = frozenset(
    "$comment $defs $id $schema default definitions deprecated description discriminator example examples readOnly title "
    "writeOnly".split()
)
_KEYWORDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": (),
    "boolean": (),
    "null": (),
}
_FORMATS = ("date", "time", "date-time", "uuid")
_SUPPORTED = (
    "Supported: type, enum, const, anyOf, oneOf, allOf with one schema, $ref to '#/...', "
    + ", ".join(f"{', '.join(words)} ({kind})" for kind, words in _KEYWORDS.items() if words)
    + f"; formats {', '.join(_FORMATS)}"
)
_LIBRARY = {
    "gap": '" "?',  # where a grammar allows any white space, small models write nothing else
    # Ranges, not exclusions: llama.cpp then refuses the first bytes of a surrogate too.
    "char": r'[ !#-[\]-~\u00a0-\ud7ff\ue000-\U0010ffff] | "\\" (["\\/bfnrt] | "u" code)',
    "code": "[0-9a-ce-fA-CE-F] hex hex hex | [dD] [0-7] hex hex",  # no surrogates: alone they are no text
    "hex": "[0-9a-fA-F]",
    "string": r'"\"" char* "\""',
    "integer": '"0" | "-"? [1-9] [0-9]{0,15}',
    "number": '"-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]{1,16})? ([eE] [-+]? [1-9] [0-9]?)?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "any": "string | number | boolean | null | any-object | any-array",
    "any-object": '"{" (any-member ("," gap any-member)*)? "}"',
    "any-member": 'string ":" gap any',
    "any-array": '"[" (any ("," gap any)*)? "]"',
    "date": '[12] [0-9]{3} "-" month-day',  # years that every library takes
    "month-day": '("0" [13578] | "1" [02]) "-" (day | "3" [01]) | ("0" [469] | "11") "-" (day | "30") | "02-" february-day',
    "day": '"0" [1-9] | [12] [0-9]',
    "february-day": '"0" [1-9] | "1" [0-9] | "2" [0-8]',  # the 29th depends on the year
    "clock": '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]',
    "time": 'clock ":" [0-5] [0-9] ("." [0-9]{1,6})? ("Z" | [-+] clock)',  # RFC 3339: with an offset
    "date-time": 'date "T" time',
    "uuid": 'hex{8} "-" hex{4} "-" hex{4} "-" hex{4} "-" hex{12}',
}
_REFERENCES = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\{[^}]*\}|([A-Za-z][A-Za-z0-9-]*)')

_Path = tuple[str, ...]


def schema_to_gbnf(schema: Mapping[str, object]) -> str:
    r"""Return the grammar of the compact JSON texts that `schema` describes.

    What is written under it parses and validates, but not all that validates can be written: objects hold their properties in
    the order declared and no others; numbers have at most 16 digits before and after the point and two in the exponent;
    dates are of the years 1000 to 2999 and never 29 February; times have an offset; `oneOf` is read as `anyOf`. Annotations
    (title, description, default, ...) mean nothing here.

    Args:
        schema: JSON Schema, e.g. from pydantic's `model_json_schema()`.

    Returns:
        GBNF that passes `check_gbnf`.

    Raises:
        ConfigurationError: A keyword is unknown, has a wrong value or cannot be kept to; the message names it and where it is.

    >>> print(schema_to_gbnf({"type": "array", "items": {"enum": ["yes", "no"]}, "maxItems": 2}))
    root ::= value-3
    items-1 ::= "\"yes\"" | "\"no\""
    more-2 ::= "," gap items-1
    value-3 ::= "[" (items-1 more-2{0,1})? "]"
    gap ::= " "?
    """
    text = _SchemaWriter(schema).write()
    try:
        check_gbnf(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"no grammar can keep to the schema: {error}") from error
    return text


class _SchemaWriter:
    """Rules for one schema. A visit returns the name of the rule that matches what it visited."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._rules = {"root": ""}
        self._names: dict[str, str] = {}  # body to name: equal rules are written once
        self._targets: dict[str, str] = {}  # $ref to name
        self._pending: list[tuple[str, object, _Path]] = []
        self._visits = 0

    def write(self) -> str:
        self._rules["root"] = self._visit(self._schema, ())
        while self._pending:  # not recursive: definitions may refer to each other in a long chain, or a circle
            name, target, at = self._pending.pop()
            self._rules[name] = self._visit(target, at)
        waiting = list(self._rules)
        while waiting:
            for name in _REFERENCES.findall(self._rules[waiting.pop()]):
                if name in _LIBRARY and name not in self._rules:
                    self._rules[name] = _LIBRARY[name]
                    waiting.append(name)
        return "\n".join(f"{name} ::= {body}" for name, body in self._rules.items())

    def _visit(self, schema: object, at: _Path) -> str:
        self._visits += 1
        if self._visits > MAX_SCHEMAS or len(at) > MAX_SCHEMA_DEPTH:
            _refuse(at, f"more than {MAX_SCHEMAS:,} schemas, or a path of more than {MAX_SCHEMA_DEPTH} parts. Use less")
        if schema is True:
            return "any"
        if not isinstance(schema, Mapping) or not all(isinstance(key, str) for key in schema):
            _refuse(at, f"a schema is an object or true, got {_shown(schema)}")
        keywords = [key for key in schema if key not in _ANNOTATIONS]
        for keyword, visit in (
            ("$ref", self._reference),
            ("anyOf", self._union),
            ("oneOf", self._union),
            ("allOf", self._union),
            ("const", self._choice),
            ("enum", self._choice),
        ):
            if keyword in schema:
                _check_keywords(keywords, (keyword, "type") if visit == self._choice else (keyword,), at)
                return visit(schema, keyword, at)
        return self._typed(schema, keywords, at)

    def _typed(self, schema: Mapping[str, object], keywords: list[str], at: _Path) -> str:
        visits = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer}
        kinds = _kinds(schema, at)
        if not kinds:  # no type: what its keywords are about, or anything
            kinds = [kind for kind, words in _KEYWORDS.items() if not set(words).isdisjoint(keywords)]
        _check_keywords(keywords, ("type", *itertools.chain(*(_KEYWORDS[kind] for kind in kinds))), at)
        names = [visits[kind](schema, at) if kind in visits else kind for kind in kinds]
        return self._either(names or ["any"], at)

    def _reference(self, schema: Mapping[str, object], keyword: str, at: _Path) -> str:
        pointer = schema[keyword]
        if not isinstance(pointer, str) or not re.match(r"#(/|$)", pointer):
            _refuse((*at, keyword), f"a reference must be to this schema ('#/...'), got {_shown(pointer)}")
        if pointer == "#":
            return "root"
        if pointer not in self._targets:
            target: object = self._schema
            path = tuple(
                part.replace("~1", "/").replace("~0", "~") for part in urllib.parse.unquote(pointer[2:]).split("/")
            )
            for part in path:
                if isinstance(target, Mapping) and part in target:
                    target = target[part]
                elif isinstance(target, list) and part.isdecimal() and int(part[:9]) < len(target):
                    target = target[int(part[:9])]
                else:
                    _refuse((*at, keyword), f"{_shown(pointer)} leads nowhere; it must name a part of this schema")
            self._targets[pointer] = name = self._new_name(path)
            self._pending.append((name, target, path))
        return self._targets[pointer]

    def _union(self, schema: Mapping[str, object], keyword: str, at: _Path) -> str:
        members = schema[keyword]
        allowed = 1 if keyword == "allOf" else MAX_CHOICES
        if not isinstance(members, list) or not 1 <= len(members) <= allowed:
            _refuse((*at, keyword), f"must be a list of 1 to {allowed} schemas, got {_shown(members)}")
        return self._either([self._visit(item, (*at, keyword, str(i))) for i, item in enumerate(members)], at)

    def _choice(self, schema: Mapping[str, object], keyword: str, at: _Path) -> str:
        values = [schema[keyword]] if keyword == "const" else schema[keyword]
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES:
            _refuse((*at, keyword), f"must be a list of 1 to {MAX_CHOICES} values, got {_shown(values)}")
        kinds = _kinds(schema, at)
        values = [value for value in values if not kinds or any(_is_kind(value, kind) for kind in kinds)]
        if not values:
            _refuse((*at, keyword), f"no value is of the type {_shown(schema['type'])}")
        return self._either([_literal(value, (*at, keyword)) for value in values], at)

    def _object(self, schema: Mapping[str, object], at: _Path) -> str:
        extra = schema.get("additionalProperties", False)
        if extra is False and "properties" not in schema and "additionalProperties" not in schema:
            _refuse(at, "an object without `properties`; declare them, or set `additionalProperties` to true")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or len(properties) > MAX_CHOICES:
            _refuse(
                (*at, "properties"), f"must be an object of at most {MAX_CHOICES} schemas, got {_shown(properties)}"
            )
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            _refuse((*at, "required"), f"must be a list of names in `properties`, got {_shown(required)}")
        if extra is not False:
            if properties:
                _refuse((*at, "additionalProperties"), "must be false next to `properties`")
            value = self._visit(extra, (*at, "additionalProperties"))
            member = self._name(f'string ":" gap {value}', ("member",))
            return self._name(f'"{{" ({member} ("," gap {member})*)? "}}"', at)
        # What is written first has no comma; `rest` is what may follow: the later properties, each with its comma.
        first: list[str] = []
        rest = ""
        for name, value in reversed(list(properties.items())):
            rule = self._visit(value, (*at, "properties", name))
            member = self._name(f'{_literal(name, at)} ":" gap {rule}', (name,))
            after = self._name(rest.rstrip(), ("rest",)) if rest else ""
            if name in required:
                first = []
            first.insert(0, f"{member} {after}".rstrip())
            rest = (f'"," gap {member} ' if name in required else f'("," gap {member})? ') + after
        members = f"({' | '.join(first)}){'' if required else '?'} " if first else ""
        return self._name(f'"{{" {members}"}}"', at)

    def _array(self, schema: Mapping[str, object], at: _Path) -> str:
        least, most = _lengths(schema, "minItems", "maxItems", at)
        if "prefixItems" in schema:
            prefix = schema["prefixItems"]
            if schema.get("items", False) is not False:
                _refuse((*at, "items"), "must be false next to `prefixItems`")
            if not isinstance(prefix, list) or not 1 <= len(prefix) <= MAX_CHOICES:
                _refuse((*at, "prefixItems"), f"must be a list of 1 to {MAX_CHOICES} schemas, got {_shown(prefix)}")
            if not least <= len(prefix) <= (len(prefix) if most is None else most):
                _refuse(
                    (*at, "prefixItems"), "all of them are written; `minItems` and `maxItems` must allow their number"
                )
            names = [self._visit(item, (*at, "prefixItems", str(i))) for i, item in enumerate(prefix)]
            written = ' "," gap '.join(names)
            return self._name(f'"[" {written} "]"', at)
        if most == 0:
            return self._name('"[" "]"', at)
        item = self._visit(schema.get("items", True), (*at, "items"))
        more = self._name(f'"," gap {item}', ("more",))
        items = f"{item} {_repeat(more, max(least - 1, 0), None if most is None else most - 1)}".rstrip()
        return self._name(f'"[" {items} "]"' if least else f'"[" ({items})? "]"', at)

    def _string(self, schema: Mapping[str, object], at: _Path) -> str:
        least, most = _lengths(schema, "minLength", "maxLength", at)
        if "format" in schema:
            kind = schema["format"]
            if kind not in _FORMATS:
                _refuse((*at, "format"), f"must be one of {', '.join(_FORMATS)}, got {_shown(kind)}")
            if (least, most) != (0, None):
                _refuse((*at, "format"), "cannot be combined with `minLength` or `maxLength`")
            return self._name(rf'"\"" {kind} "\""', at)
        if (least, most) == (0, None):
            return "string"
        return self._name(rf'"\"" {_repeat("char", least, most)} "\""', at)

    def _integer(self, schema: Mapping[str, object], at: _Path) -> str:
        least, most = -MAX_INTEGER, MAX_INTEGER
        for keyword in _KEYWORDS["integer"]:
            if keyword in schema:
                bound = schema[keyword]
                if isinstance(bound, float) and bound.is_integer():  # pydantic writes the bounds as they were given
                    bound = int(bound)
                if not isinstance(bound, int) or isinstance(bound, bool):
                    _refuse((*at, keyword), f"must be a whole number, got {_shown(bound)}")
                if keyword.endswith("inimum"):
                    least = max(least, bound + keyword.startswith("exclusive"))
                else:
                    most = min(most, bound - keyword.startswith("exclusive"))
        if (least, most) == (-MAX_INTEGER, MAX_INTEGER):
            return "integer"
        if least > most:
            _refuse(at, "no integer of at most 16 digits lies within the bounds")
        parts = []
        if least < 0:
            parts.append(f'"-" ({" | ".join(_naturals(max(1, -most), -least))})')
        if most >= 0:
            parts += _naturals(max(0, least), most)
        return self._name(" | ".join(parts), at)

    def _either(self, names: list[str], at: _Path) -> str:
        names = list(dict.fromkeys(names))
        return names[0] if len(names) == 1 else self._name(" | ".join(names), at)

    def _name(self, body: str, at: _Path) -> str:
        """Return the name of the rule with `body`."""
        if body not in self._names:
            self._names[body] = name = self._new_name(at)
            self._rules[name] = body
        return self._names[body]

    def _new_name(self, at: _Path) -> str:
        word = next(
            (part for part in reversed(at) if not part.isdecimal() and part.isascii() and part.isalnum()), "value"
        )
        return f"{word[:32]}-{len(self._names) + len(self._targets) + 1}"


def _refuse(at: _Path, problem: str) -> NoReturn:
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in at)
    raise ConfigurationError(f"JSON Schema at {pointer!r:.300}: {problem}. {_SUPPORTED}")


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"


def _check_keywords(keywords: Iterable[str], allowed: Sequence[str], at: _Path) -> None:
    for keyword in keywords:
        if keyword not in allowed:
            others = ", ".join(f"`{word}`" for word in allowed)
            _refuse((*at, keyword), f"`{keyword}` cannot be kept to" + (f" next to {others}" if others else ""))


def _kinds(schema: Mapping[str, object], at: _Path) -> list[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and kind in _KEYWORDS for kind in kinds):
        _refuse((*at, "type"), f"must be among {', '.join(_KEYWORDS)}, got {_shown(kinds)}")
    if "type" in schema and not kinds:
        _refuse((*at, "type"), "must name a type, got an empty list")
    return kinds


def _is_kind(value: object, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, Any] = {"object": Mapping, "array": list, "string": str, "number": (int, float)}
    return isinstance(value, kinds.get(kind, ()))


def _literal(value: object, at: _Path) -> str:
    """Return what matches the compact JSON of `value` alone."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # lone surrogates are a ValueError
        _refuse(at, f"{_shown(value)} cannot be written as JSON ({error!s:.80})")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lengths(schema: Mapping[str, object], low: str, high: str, at: _Path) -> tuple[int, int | None]:
    for keyword in (low, high):
        value = schema.get(keyword, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REPEAT:
            _refuse((*at, keyword), f"must be an integer in [0, {MAX_REPEAT:,}], got {_shown(value)}")
    least, most = schema.get(low, 0), schema.get(high)
    assert isinstance(least, int)
    assert most is None or isinstance(most, int)
    if most is not None and least > most:
        _refuse((*at, low), f"must be at most `{high}`, got {least} and {most}")
    return least, most


def _repeat(name: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{name}*" if (least, most) == (0, None) else f"{name}{{{least},{'' if most is None else most}}}"


def _naturals(least: int, most: int) -> list[str]:
    """Return alternatives that match the decimal numbers from `least` to `most`, one for each number of digits."""
    sizes = range(len(str(least)), len(str(most)) + 1)
    return [_digits(str(max(least, 10 ** (n - 1) if n > 1 else 0)), str(min(most, 10**n - 1))) for n in sizes]


def _digits(low: str, high: str) -> str:
    """Return what matches the digit strings from `low` to `high`, of one length."""
    if len(low) == 1:
        return f"[{low}-{high}]"
    first, last, size = int(low[0]), int(high[0]), len(low) - 1
    if first == last:
        return f"[{first}] ({_digits(low[1:], high[1:])})"
    before, after = [], []
    if low[1:] != "0" * size:
        before = [f"[{first}] ({_digits(low[1:], '9' * size)})"]
        first += 1
    if high[1:] != "9" * size:
        after = [f"[{last}] ({_digits('0' * size, high[1:])})"]
        last -= 1
    between = [f"[{first}-{last}] [0-9]{{{size}}}"] if first <= last else []
    return " | ".join(before + between + after)


# The check of GBNF


class _Chars(NamedTuple):
    """One character: any within `ranges` (inclusive code points), or any other when negated."""

    ranges: tuple[tuple[int, int], ...]
    is_negated: bool = False


_Item = int | _Chars  # a reference to a rule by number, or a character
_Alternative = tuple[_Item, ...]


class _Rules(NamedTuple):
    """A grammar as llama.cpp holds it: groups and repetitions are rules of their own.

    Attributes:
        alternatives: Of each rule, by its number.
        root: Number of the first rule.
    """

    alternatives: list[list[_Alternative]]
    root: int


def check_gbnf(text: str) -> None:
    """Check that llama.cpp will take the grammar `text`, and can work with it safely.

    The dialect is llama.cpp's without token references (`<[12]>`), and stricter: no rule is defined twice, begins with itself
    or never ends; what is repeated cannot be empty; the limits are the capitals of this module.

    Raises:
        ConfigurationError: With line, column and what was expected.
    """
    _read(text)


def _read(text: str) -> _Rules:
    """Return the rules of a grammar that passes every check."""
    parser = _Parser(text)
    rules = parser.parse()
    alternatives = rules.alternatives
    ending = _derivable(alternatives, with_characters=True)
    for rule in range(len(alternatives)):
        if rule not in ending:
            parser.fail(f"a way for {parser.describe(rule)} to end", parser.places[rule])
    empty = _derivable(alternatives, with_characters=False)
    for items, place in parser.repeated:  # in (x?){200} llama.cpp tries 200-over-n ways to read n characters
        if all(item in empty for item in items):
            parser.fail("something to repeat that cannot be empty", place)
    begins = [list(_leftmost(options, empty)) for options in alternatives]
    try:
        order = list(graphlib.TopologicalSorter({rule: set(refs) for rule, refs in enumerate(begins)}).static_order())
    except graphlib.CycleError as error:
        rule = min(error.args[1])
        parser.fail(f"a character before {parser.describe(rule)} comes again (left recursion)", parser.places[rule])
    depth, paths = [1] * len(begins), [1] * len(begins)
    for rule in order:
        for reference in begins[rule]:
            depth[rule] = max(depth[rule], depth[reference] + 1)
            paths[rule] += paths[reference]
        if depth[rule] > MAX_LEFT_DEPTH or paths[rule] > MAX_LEFT_PATHS:
            parser.fail(f"fewer rules that begin with rules in {parser.describe(rule)}", parser.places[rule])
    if sum(paths) > MAX_LEFT_PATHS:
        parser.fail(f"at most {MAX_LEFT_PATHS:,} paths through rules that begin with rules", 0)
    try:
        _Readings(rules)
    except GenerationError as error:
        raise ConfigurationError(str(error)) from error
    return rules


def _derivable(alternatives: list[list[_Alternative]], *, with_characters: bool) -> set[int]:
    """Return the rules that can end: within some text, or without any character."""
    users: dict[int, list[list[int]]] = defaultdict(list)
    ready: list[int] = []
    for rule, options in enumerate(alternatives):
        for items in options:
            if with_characters or all(isinstance(item, int) for item in items):
                references = [item for item in items if isinstance(item, int)]
                entry = [rule, len(references)]  # how many references are still open
                for reference in references:
                    users[reference].append(entry)
                if not references:
                    ready.append(rule)
    found: set[int] = set()
    while ready:
        rule = ready.pop()
        if rule not in found:
            found.add(rule)
            for entry in users[rule]:
                entry[1] -= 1
                if entry[1] == 0:
                    ready.append(entry[0])
    return found


def _leftmost(options: list[_Alternative], empty: set[int]) -> Iterator[int]:
    """Yield the rules that a text of these alternatives can begin with."""
    for items in options:
        for item in items:
            if isinstance(item, _Chars):
                break
            yield item
            if item not in empty:
                break


_END = "\0"
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n\0]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n\0]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_BOUNDS = re.compile(r"\{[ \t]*([0-9]+)[ \t]*(?:(,)[ \t]*([0-9]*)[ \t]*)?\}")
_ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_HEX_SIZES = {"x": 2, "u": 4, "U": 8}


class _Parser:
    """Reads GBNF as llama.cpp does, making the same rules in the same order."""

    def __init__(self, text: object) -> None:
        if not isinstance(text, str):
            raise ConfigurationError(f"a grammar is a string, got {text!r:.80}")
        if len(text) > MAX_CHARS:
            raise ConfigurationError(f"a grammar has at most {MAX_CHARS:,} characters, got {len(text):,}")
        self._text, self._at, self._owner = text, 0, ""
        bad = re.search("[\0\ud800-\udfff]", text)
        if bad:
            self.fail("text without NUL and surrogates", bad.start())
        self._text += _END
        self._numbers: dict[str, int] = {}  # of named rules
        self._uses: dict[int, int] = {}  # where a rule is first referred to
        self._rules: dict[int, list[_Alternative]] = {}
        self._elements = 0
        self.places: list[int] = []  # of each rule, for messages
        self.repeated: list[tuple[list[_Item], int]] = []  # what is repeated more than once, and where
        self._owners: list[str] = []

    def parse(self) -> _Rules:
        self._skip(_BLANK_LINES)
        while self._peek() != _END:
            self._rule()
        for name, number in self._numbers.items():
            if number not in self._rules:
                self.fail(f"a rule `{name}` to be defined", self._uses[number])
        if "root" not in self._numbers:
            self.fail("a rule `root`", 0)
        return _Rules([self._rules[number] for number in range(len(self._rules))], self._numbers["root"])

    def describe(self, rule: int) -> str:
        return f"rule `{self._owners[rule]:.60}`"

    def fail(self, expected: str, at: int | None = None) -> NoReturn:
        at = self._at if at is None else at
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        found = self._text[at : at + 20]
        found = repr(found.rstrip(_END)) if found.rstrip(_END) else "the end"
        raise ConfigurationError(f"grammar, line {line}, column {column}: expected {expected}, found {found}")

    def _peek(self) -> str:
        return self._text[self._at]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _expect(self, token: str) -> None:
        if not self._text.startswith(token, self._at):
            self.fail(f"`{token}`")
        self._at += len(token)

    def _new_rule(self, owner: str, at: int) -> int:
        if len(self.places) == MAX_RULES:
            self.fail(f"at most {MAX_RULES:,} rules, groups and optional repetitions", at)
        self.places.append(at)
        self._owners.append(owner)
        return len(self.places) - 1

    def _count(self, elements: int, at: int) -> None:
        self._elements += elements
        if self._elements > MAX_ELEMENTS:
            self.fail(f"a grammar of at most {MAX_ELEMENTS:,} elements once repetitions are written out", at)

    def _named(self) -> tuple[str, int]:
        match = _NAME.match(self._text, self._at)
        if not match:
            self.fail("the name of a rule (letters, digits, -)")
        name = match.group()
        if name not in self._numbers:
            self._numbers[name] = self._new_rule(name, self._at)
        self._at = match.end()
        return name, self._numbers[name]

    def _rule(self) -> None:
        start = self._at
        name, number = self._named()
        if number in self._rules:
            self.fail(f"`{name}` to be defined once", start)
        self.places[number] = start
        self._skip(_BLANK)
        self._expect("::=")
        self._skip(_BLANK_LINES)
        self._owner = name
        self._rules[number] = self._alternatives(0)
        if self._peek() not in ("\r", "\n", _END):
            self.fail("a literal, a class, a name, a group, `|`, a repetition or the end of the line")
        self._skip(_BLANK_LINES)

    def _alternatives(self, depth: int) -> list[_Alternative]:
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            self._count(1, self._at)
            self._skip(_BLANK_LINES)
            found.append(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> _Alternative:
        items: list[_Item] = []
        last: list[_Item] = []  # what a repetition is about
        weight = 1  # rules made by the last group, as llama.cpp counts them
        blank = _BLANK_LINES if depth else _BLANK
        while True:
            start, before, character = self._at, len(self.places), self._peek()
            if character in "*+?{":
                if not last:
                    self.fail("something to repeat before it: one repetition for each item, none for an empty one")
                items[len(items) - len(last) :] = self._repeated(last, weight, start)
                last = []
            else:
                found = self._item(depth)
                if found is None:
                    return tuple(items)
                last = found
                self._count(sum(_size(item) for item in last), start)
                items += last
                weight = max(1, len(self.places) - before) if character == "(" else 1
            self._skip(blank)

    def _item(self, depth: int) -> list[_Item] | None:
        """Return what one literal, class, name or group stands for; None when something else comes."""
        start, character = self._at, self._peek()
        if character == '"':
            return list(self._literal())
        if character == "[":
            return [self._class()]
        if character == ".":
            self._at += 1
            return [_Chars(((0, 0x10FFFF),))]
        if character == "(":
            return [self._group(depth)]
        if character in "<!":
            self.fail("no token references; write the text of a token as a literal")
        if not _NAME.match(character):
            return None
        number = self._named()[1]
        self._uses.setdefault(number, start)
        return [number]

    def _group(self, depth: int) -> int:
        if depth == MAX_NESTING:
            self.fail(f"at most {MAX_NESTING} groups within each other")
        number = self._new_rule(self._owner, self._at)
        self._at += 1
        self._skip(_BLANK_LINES)
        self._rules[number] = self._alternatives(depth + 1)
        self._expect(")")
        return number

    def _literal(self) -> Iterator[_Chars]:
        self._at += 1
        while self._peek() != '"':
            point = self._character('a closing `"`')
            yield _Chars(((point, point),))
        self._at += 1

    def _class(self) -> _Chars:
        start = self._at
        self._at += 1
        is_negated = self._peek() == "^"
        self._at += is_negated
        ranges = []
        while self._peek() != "]":
            low = high = self._character("a closing `]`")
            if self._peek() == "-" and self._text[self._at + 1] != "]":
                self._at += 1
                high = self._character("the end of a range")
            if low > high:
                self.fail("a range that ascends", start)
            ranges.append((low, high))
        if not ranges:
            self.fail("a character in the class", start)
        self._at += 1
        return _Chars(tuple(ranges), is_negated)

    def _character(self, otherwise: str) -> int:
        character = self._peek()
        if character == _END:
            self.fail(otherwise)
        if character != "\\":
            self._at += 1
            return ord(character)
        escape = self._text[self._at + 1]
        size = _HEX_SIZES.get(escape)
        if size is None:
            if escape not in _ESCAPES:
                self.fail(r"an escape: \n \r \t \\ \" \[ \] \- \x41 \u0041 \U00000041")
            self._at += 2
            return ord(_ESCAPES[escape])
        digits = self._text[self._at + 2 : self._at + 2 + size]
        if len(digits) < size or not set(digits) <= set(string.hexdigits):
            self.fail(f"{size} hexadecimal digits after \\{escape}")
        point = int(digits, 16)
        if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
            self.fail("a code point of Unicode that is no surrogate")
        self._at += 2 + size
        return point

    def _repeated(self, items: list[_Item], weight: int, start: int) -> list[_Item]:
        """Return the items that stand for a repetition, as llama.cpp rewrites it.

        x{2,4} is x x y with y ::= x z | and z ::= x | ; x{2,} is x x y with y ::= x y | .
        """
        least, most = self._bounds()
        if most is not None and (most < least or most == 0):
            self.fail("an upper bound of at least 1 and at least the lower one", start)
        if weight * (most or least or 1) > MAX_REPEAT or least > MAX_REPEAT:
            self.fail(f"at most {MAX_REPEAT:,} repetitions, times the rules within the group", start)
        if most != 1:
            self.repeated.append((items, start))
        optional = 1 if most is None else most - least
        self._count(sum(_size(item) for item in items) * (least + optional) + 2 * optional, start)
        tail: list[_Item] = []
        for _ in range(optional):
            number = self._new_rule(self._owner, start)
            self._rules[number] = [(*items, *([number] if most is None else tail)), ()]
            tail = [number]
        return items * least + tail

    def _bounds(self) -> tuple[int, int | None]:
        character = self._peek()
        if character in "*+?":
            self._at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[character]
        match = _BOUNDS.match(self._text, self._at)
        if not match:
            self.fail("a repetition {m}, {m,} or {m,n}")
        low, comma, high = match.groups()
        if max(len(low), len(high or "")) > 9:
            self.fail(f"bounds of at most {MAX_REPEAT:,}")
        self._at = match.end()
        return int(low), int(low) if not comma else int(high) if high else None


def _size(item: _Item) -> int:
    return 1 if isinstance(item, int) else 2 * len(item.ranges)


class _Readings:
    """The ways to read what was written so far, as llama.cpp keeps them: its stacks, with a limit.

    `{"child": A} | {"child": B}`, each of them with such a child, doubles its stacks with each level until the memory is
    full. Here equal stacks are one number, so following a text costs microseconds a character.
    """

    def __init__(self, rules: _Rules) -> None:
        self._options: list[list[int]] = []  # of each rule, numbers into `_items`
        self._items: list[_Alternative] = []
        for alternatives in rules.alternatives:
            self._options.append(list(range(len(self._items), len(self._items) + len(alternatives))))
            self._items += alternatives
        self._cells: list[tuple[int, int, int]] = [(0, 0, 0)]  # of a stack: alternative, place in it, the stack below
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._stacks: set[int] = set()  # 0 is the empty one: the text may end
        for option in self._options[rules.root]:
            self._stacks |= self._advance(self._push(option, 0, 0))
        if len(self._stacks) > MAX_READINGS:
            raise _too_ambiguous()

    def follow(self, text: str) -> None:
        """Take the characters of `text`.

        Raises:
            GenerationError: There are more than `MAX_READINGS` ways to read it.
        """
        for point in map(ord, text):
            stacks: set[int] = set()
            for stack in self._stacks - {0}:
                option, place, below = self._cells[stack]
                item = self._items[option][place]
                assert isinstance(item, _Chars)
                if any(low <= point <= high for low, high in item.ranges) != item.is_negated:
                    stacks |= self._advance(self._push(option, place + 1, below))
                    if len(stacks) > MAX_READINGS:
                        raise _too_ambiguous()
            self._stacks = stacks

    def _push(self, option: int, place: int, below: int) -> int:
        if place == len(self._items[option]):
            return below
        cell = (option, place, below)
        number = self._numbers.setdefault(cell, len(self._cells))
        if number == len(self._cells):
            self._cells.append(cell)
        return number

    def _advance(self, stack: int) -> set[int]:
        """Return the stacks with a character on top, or nothing, that references on top of `stack` lead to."""
        found, seen, waiting = set(), set(), [stack]
        while waiting:
            stack = waiting.pop()
            if stack in seen:
                continue
            seen.add(stack)
            option, place, below = self._cells[stack]
            item = self._items[option][place] if stack else None
            if isinstance(item, int):
                rest = self._push(option, place + 1, below)
                waiting += [self._push(choice, 0, rest) for choice in self._options[item]]
            else:
                found.add(stack)
            if len(seen) > MAX_STEPS or len(found) > MAX_READINGS:
                raise _too_ambiguous()
        return found


def _too_ambiguous() -> GenerationError:
    return GenerationError(
        f"the grammar can be read in more than {MAX_READINGS:,} ways at one place; llama.cpp would take ever more time and "
        "memory. Make its alternatives begin differently, for a schema with a property of one constant value first"
    )


# The grammar of one generation

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama.h, llama_token_data


class Grammar:
    """What one generation keeps to; used by the thread that owns the model, and closed before the model is freed.

    Call `pick` and `accept` in turn, until the token picked is an end token.
    """

    def __init__(self, vocabulary: Vocabulary, gbnf: str) -> None:
        """Check `gbnf` and make llama.cpp read it.

        Raises:
            ConfigurationError: As `check_gbnf`.
        """
        self._readings = _Readings(_read(gbnf))
        self._vocabulary, self._lib = vocabulary, library()
        with native_errors() as native:
            self._native = self._lib.llama_sampler_init_grammar(vocabulary._vocab, gbnf.encode(), b"root")
            if not self._native:
                raise ConfigurationError(f"llama.cpp refuses the grammar: {native}. Simplify it")
        self._finalizer = weakref.finalize(self, self._lib.llama_sampler_free, self._native)
        self._control = [token for token in vocabulary.control_tokens if not vocabulary.is_end(token)]
        self._all, self._all_view = self._candidates(vocabulary.n_tokens)
        self._all["id"] = np.arange(vocabulary.n_tokens)
        self._one, self._one_view = self._candidates(1)
        self._partial = b""  # first bytes of a character whose rest is to come

    def close(self) -> None:
        """Free it; idempotent."""
        self._finalizer()

    def pick(self, logits: NDArray[np.float32], sampler: Chooser) -> int:
        """Return the token that `sampler` draws among those that the grammar allows.

        A first draw is from all tokens: mostly the model keeps to the grammar by itself, and testing one token is cheap.
        If it is refused, the next is drawn with all that the grammar refuses at minus infinity. For greedy sampling that is
        the best allowed token. For temperature alone it is exactly the distribution restricted to the allowed tokens, for
        P(y) = p(y) + (1 - p(allowed)) p(y) / p(allowed) = p(y) / p(allowed). `top_k`, `top_p` and `min_p` cut off the tail of
        all tokens in the first draw and that of the allowed ones in the second, as llama.cpp's `common_sampler_sample` does.

        Control tokens are refused, except end tokens, which are allowed exactly when the text is complete. So are tokens
        that hold a NUL or would break the UTF-8 of the text.

        Args:
            logits: `(n_vocab,)`, not changed.
            sampler: Draws.

        Raises:
            GenerationError: No token is allowed.
            ConfigurationError: The grammar is closed, or `logits` has another shape.
        """
        self._check_open()
        if logits.shape != self._all.shape:
            raise ConfigurationError(f"`logits` must be of shape {self._all.shape}, got {logits.shape}")
        token = sampler(logits)
        if self._allows(token):
            return token
        masked = np.where(self._allowed(), logits, -np.inf).astype(np.float32, copy=False)
        while not np.isneginf(masked).all():
            token = sampler(masked)
            if self._allows(token):
                return token
            masked[token] = -np.inf  # bytes that are no text: drawing again without it keeps the distribution
        raise GenerationError(
            "the grammar has no way on: no token of the model may come next. Allow more in the grammar, or check that the "
            "model's vocabulary can spell what it asks for"
        )

    def accept(self, token: int) -> None:
        """Take `token`, allowed now, as written.

        Raises:
            ConfigurationError: The grammar is closed or does not allow `token`; nothing changed.
            GenerationError: The text can be read in too many ways; the generation must stop.
        """
        self._check_open()
        if not self._allows(token):
            raise ConfigurationError(
                f"token {token!r} is not allowed by the grammar here; accept only what `pick` returned"
            )
        if self._vocabulary.is_end(token):
            return
        data = self._partial + self._vocabulary.piece(token)
        text, consumed = codecs.utf_8_decode(data, "strict", False)
        self._readings.follow(text)
        self._lib.llama_sampler_accept(self._native, token)
        self._partial = data[consumed:]

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise ConfigurationError("the grammar is closed; make a new one")

    def _candidates(self, n: int) -> tuple[NDArray[np.void], Any]:
        """Return `n` candidates, and the structure that shows them to llama.cpp."""
        candidates = np.zeros(n, _CANDIDATE)
        data = candidates.ctypes.data_as(self._lib.llama_token_data_p)
        return candidates, self._lib.llama_token_data_array(data, n, -1, False)

    def _allows(self, token: int) -> bool:
        vocabulary = self._vocabulary
        if not 0 <= token < vocabulary.n_tokens:
            return False
        self._one[0] = (token, 0, 0)
        self._lib.llama_sampler_apply(self._native, ctypes.byref(self._one_view))
        if self._one["logit"][0] != 0:
            return False
        return vocabulary.is_end(token) or (token not in vocabulary.control_tokens and self._is_text(token))

    def _is_text(self, token: int) -> bool:
        piece = self._vocabulary.piece(token)
        data = self._partial + piece
        try:
            _, consumed = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return False
        is_surrogate = data[consumed : consumed + 1] == b"\xed" and data[consumed + 1 : consumed + 2] >= b"\xa0"
        return not is_surrogate and b"\0" not in piece  # llama.cpp reads a piece up to a NUL

    def _allowed(self) -> NDArray[np.bool_]:
        """Return which tokens the grammar allows, `(n_vocab,)`; a few of them may still not be text."""
        self._all["logit"] = 0
        self._lib.llama_sampler_apply(self._native, ctypes.byref(self._all_view))
        allowed: NDArray[np.bool_] = self._all["logit"] == 0
        allowed[self._control] = False
        return allowed
