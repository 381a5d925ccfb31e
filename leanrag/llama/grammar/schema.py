"""Converts a JSON Schema to GBNF, llama.cpp's notation for grammars."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from leanrag.errors import ConfigurationError
from leanrag.llama.grammar.automata import Ranges, State
from leanrag.llama.grammar.formats import FORMATS
from leanrag.llama.grammar.gbnf import check_gbnf
from leanrag.llama.grammar.keywords import (
    BOUNDS,
    KEYWORDS,
    Location,
    find_target,
    list_types,
    read_number,
    read_schema,
    refuse,
    show,
)
from leanrag.llama.grammar.merging import merge_members
from leanrag.llama.grammar.patterns import PatternError, read_patterns
from leanrag.llama.grammar.ranges import MAX_INTEGER, Bound, write_decimals, write_integers

__all__ = ["schema_to_gbnf"]

MAX_SCHEMAS = 5_000
MAX_SCHEMA_DEPTH = 64  # parts of a JSON pointer
MAX_CHOICES = 500  # values of an enum, properties of an object: each can be a way to read the text so far
MAX_LENGTH = 100_000  # characters of a string or items of an array that are counted
MAX_UNIQUE = 40  # values of an enum whose use is recorded

_LIBRARY = {
    "gap": '" "?',  # if a grammar allows any white space, small models write only white space
    # Ranges, not exclusions: llama.cpp then refuses the first bytes of a surrogate too.
    "char": r'[ !#-[\]-~\u00a0-\ud7ff\ue000-\U0010ffff] | "\\" (["\\/bfnrt] | "u" code)',
    "code": "[0-9a-ce-fA-CE-F] hex hex hex | [dD] [0-7] hex hex",  # without surrogates, which are not characters
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
}
_REFERENCES = re.compile(r'"(?:\\.|[^"\\])*"|\[(?:\\.|[^\]\\])*\]|\{[^}]*\}|([A-Za-z][A-Za-z0-9-]*)')

_BLOCK = 256  # how many repetitions have a rule of their own: llama.cpp writes all of them out
_SHORT_ESCAPES = {
    0x08: "b",
    0x09: "t",
    0x0A: "n",
    0x0C: "f",
    0x0D: "r",
    0x22: r"\"",
    0x5C: r"\\",
}  # of JSON, within GBNF


def schema_to_gbnf(schema: Mapping[str, object]) -> str:
    r"""Return the grammar of the compact JSON texts that `schema` describes.

    Every text of the grammar is valid JSON and fits the schema. But not every valid text can be written: objects have their
    properties in the declared order and no others; numbers have at most 16 digits before and after the point, and two in the
    exponent; with bounds they have at most 15 digits and no exponent; a `pattern` has no control characters; dates are in the
    years 1000 to 2999 and never 29 February; times have an offset; URIs begin with http; `oneOf` is treated as `anyOf`; unique
    items come in the order of their `enum`.
    Annotations (title, description, default, ...) are ignored.

    Args:
        schema: JSON Schema, e.g. from pydantic's `model_json_schema()`.

    Returns:
        GBNF that passes `check_gbnf`.

    Raises:
        ConfigurationError: A keyword is unknown, unsupported or has a wrong value; the message names it and its JSON pointer.

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
        raise ConfigurationError(f"the schema cannot be turned into a grammar: {error}") from error
    return text


class _SchemaWriter:
    """Writes the rules for a schema; each visit of a part returns the name of the rule for this part."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema
        self._rules = {"root": ""}
        self._names: dict[str, str] = {}  # names of rules by their body: equal rules are written once
        self._targets: dict[str, str] = {}  # names of rules by their $ref
        self._pending: list[tuple[str, object, Location]] = []
        self._visits = 0

    def write(self) -> str:
        self._rules["root"] = self._visit(self._schema, ())
        while self._pending:  # a loop, no recursion: definitions may refer to each other in a long chain or a circle
            name, target, location = self._pending.pop()
            self._rules[name] = self._visit(target, location)
        waiting = list(self._rules)
        while waiting:
            for name in _REFERENCES.findall(self._rules[waiting.pop()]):
                if name in _LIBRARY and name not in self._rules:
                    self._rules[name] = _LIBRARY[name]
                    waiting.append(name)
        return "\n".join(f"{name} ::= {body}" for name, body in self._rules.items())

    def _visit(self, schema: object, location: Location) -> str:
        self._visits += 1
        if self._visits > MAX_SCHEMAS or len(location) > MAX_SCHEMA_DEPTH:
            limits = f"more than {MAX_SCHEMAS:,} parts, or parts nested in more than {MAX_SCHEMA_DEPTH} levels"
            refuse(location, f"the schema has {limits}. Use a smaller schema")
        schema = read_schema(schema, location)
        if "allOf" in schema:
            members = schema["allOf"]
            if len(schema) == 1 and isinstance(members, list) and len(members) == 1:
                return self._visit(members[0], (*location, "allOf", "0"))
            return self._visit(merge_members(self._schema, schema, location), location)
        for keyword, visit in (
            ("$ref", self._reference),
            ("anyOf", self._union),
            ("oneOf", self._union),
            ("const", self._choice),
            ("enum", self._choice),
        ):
            if keyword in schema:
                _check_keywords(schema, (keyword, "type") if visit == self._choice else (keyword,), location)
                return visit(schema, keyword, location)
        return self._typed(schema, location)

    def _typed(self, schema: Mapping[str, object], location: Location) -> str:
        visits = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer}
        visits["number"] = self._number
        kinds = list_types(schema, location)
        if not kinds:  # no `type`: use the types of its keywords, or any type
            kinds = [kind for kind, words in KEYWORDS.items() if not schema.keys().isdisjoint(words)]
        _check_keywords(schema, ("type", *itertools.chain(*(KEYWORDS[kind] for kind in kinds))), location)
        names = [visits[kind](schema, location) if kind in visits else kind for kind in kinds]
        return self._either(names or ["any"], location)

    def _reference(self, schema: Mapping[str, object], keyword: str, location: Location) -> str:
        pointer = schema[keyword]
        target, path = find_target(self._schema, pointer, (*location, keyword))
        assert isinstance(pointer, str)
        if pointer == "#":
            return "root"
        if pointer not in self._targets:
            self._targets[pointer] = name = self._new_name(path)
            self._pending.append((name, target, path))
        return self._targets[pointer]

    def _union(self, schema: Mapping[str, object], keyword: str, location: Location) -> str:
        members = schema[keyword]
        if not isinstance(members, list) or not 1 <= len(members) <= MAX_CHOICES:
            refuse((*location, keyword), f"must be a list of 1 to {MAX_CHOICES} schemas, got {show(members)}")
        return self._either(
            [self._visit(item, (*location, keyword, str(i))) for i, item in enumerate(members)], location
        )

    def _choice(self, schema: Mapping[str, object], keyword: str, location: Location) -> str:
        return self._either(_list_values(schema, keyword, location), location)

    def _object(self, schema: Mapping[str, object], location: Location) -> str:
        extra = schema.get("additionalProperties", False)
        if extra is False and "properties" not in schema and "additionalProperties" not in schema:
            refuse(location, "the object has no `properties`. Declare them, or set `additionalProperties` to true")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or len(properties) > MAX_CHOICES:
            refuse(
                (*location, "properties"),
                f"must be an object of at most {MAX_CHOICES} schemas, got {show(properties)}",
            )
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            refuse((*location, "required"), f"must be a list of names in `properties`, got {show(required)}")
        if extra is not False:
            if properties:
                refuse((*location, "additionalProperties"), "must be false next to `properties`")
            value = self._visit(extra, (*location, "additionalProperties"))
            member = self._name(f'string ":" gap {value}', ("member",))
            return self._name(f'"{{" ({member} ("," gap {member})*)? "}}"', location)
        # The first property has no comma before it. `rest` matches the later properties, each with its comma.
        first: list[str] = []
        rest = ""
        for name, value in reversed(list(properties.items())):
            rule = self._visit(value, (*location, "properties", name))
            member = self._name(f'{_literal(name, location)} ":" gap {rule}', (name,))
            after = self._name(rest.rstrip(), ("rest",)) if rest else ""
            if name in required:
                first = []
            first.insert(0, f"{member} {after}".rstrip())
            rest = (f'"," gap {member} ' if name in required else f'("," gap {member})? ') + after
        members = f"({' | '.join(first)}){'' if required else '?'} " if first else ""
        return self._name(f'"{{" {members}"}}"', location)

    def _array(self, schema: Mapping[str, object], location: Location) -> str:
        least, most = _lengths(schema, "minItems", "maxItems", location)
        if "prefixItems" in schema:
            prefix = schema["prefixItems"]
            if schema.get("items", False) is not False:
                refuse((*location, "items"), "must be false next to `prefixItems`")
            if not isinstance(prefix, list) or not 1 <= len(prefix) <= MAX_CHOICES:
                refuse((*location, "prefixItems"), f"must be a list of 1 to {MAX_CHOICES} schemas, got {show(prefix)}")
            if not least <= len(prefix) <= (len(prefix) if most is None else most):
                refuse(
                    (*location, "prefixItems"),
                    "all of them are written; `minItems` and `maxItems` must allow their number",
                )
            if schema.get("uniqueItems", False) is not False:
                refuse((*location, "uniqueItems"), "a grammar cannot keep to it next to `prefixItems`")
            names = [self._visit(item, (*location, "prefixItems", str(i))) for i, item in enumerate(prefix)]
            written = ' "," gap '.join(names)
            return self._name(f'"[" {written} "]"', location)
        if most == 0:
            return self._name('"[" "]"', location)
        if schema.get("uniqueItems", False) is not False and most != 1:
            return self._unique(schema, least, most, location)
        item = self._visit(schema.get("items", True), (*location, "items"))
        more = self._name(f'"," gap {item}', ("more",))
        items = f"{item} {self._repeat(more, max(least - 1, 0), None if most is None else most - 1)}".rstrip()
        return self._name(f'"[" {items} "]"' if least else f'"[" ({items})? "]"', location)

    def _unique(self, schema: Mapping[str, object], least: int, most: int | None, location: Location) -> str:
        """Return the rule of an array of different items: values of an `enum`, in its order."""
        items = merge_members(self._schema, {"allOf": [schema.get("items", True)]}, (*location, "items"))
        keyword = "const" if "const" in items else "enum"
        values = _list_values(items, keyword, (*location, "items")) if keyword in items else []
        if not 1 <= len(values) <= MAX_UNIQUE:
            refuse(
                (*location, "uniqueItems"),
                f"a grammar can keep to it only if `items` is an `enum` of at most {MAX_UNIQUE} values, or if `maxItems` is 1",
            )
        most = len(values) if most is None else min(most, len(values))
        if least > most:
            refuse((*location, "minItems"), f"must be at most {most}, the number of different items, got {least}")
        rules = {
            n: self._name('""', ("rest",)) for n in range(least, most + 1)
        }  # by the number of items before the rule
        for index in reversed(range(len(values))):
            later, rules = rules, {}
            for n in range(min(index, most) + 1):
                comma = '"," gap ' if n else ""
                options = [f"{comma}{values[index]} {later[n + 1]}"] if n + 1 in later else []
                options += [later[n]] if n in later else []
                if options:
                    rules[n] = self._either(options, ("rest",))
        return self._name(f'"[" {rules[0]} "]"', location)

    def _string(self, schema: Mapping[str, object], location: Location) -> str:
        least, most = _lengths(schema, "minLength", "maxLength", location)
        patterns = schema.get("pattern", [])
        patterns = patterns if isinstance(patterns, list) else [patterns]  # `allOf` may have several
        if not all(isinstance(pattern, str) for pattern in patterns):
            refuse((*location, "pattern"), f"must be a regular expression, got {show(patterns)}")
        if "format" in schema:
            kind = schema["format"]
            if not isinstance(kind, str) or kind not in FORMATS:
                refuse((*location, "format"), f"must be one of {', '.join(FORMATS)}, got {show(kind)}")
            patterns = [*patterns, FORMATS[kind]]
        patterns = list(filter(None, patterns))
        if patterns:
            return self._matching(patterns, least, most, location)
        if (least, most) == (0, None):
            return "string"
        return self._name(rf'"\"" {self._repeat("char", least, most)} "\""', location)

    def _matching(self, patterns: list[str], least: int, most: int | None, location: Location) -> str:
        """Return the rule of a string in which each pattern is found."""
        key = f"/{patterns!r} {least} {most}"  # no body of a rule begins with a slash
        if key not in self._names:
            keyword = "pattern" if patterns[0] not in FORMATS.values() else "format"
            try:
                states = read_patterns(patterns, least, most)
            except PatternError as error:
                refuse((*location, keyword), f"{show(patterns[0])} cannot be turned into a grammar: {error}")
            self._names[key] = name = self._new_name(location)
            self._rules[name] = rf'"\"" {name}-0'
            for number, state in enumerate(states):
                self._rules[f"{name}-{number}"] = self._write_state(state, name)
        return self._names[key]

    def _write_state(self, state: State, name: str) -> str:
        options = [r'"\""'] if state.is_final else []
        for ranges, target in state.steps:
            for characters in _write_characters(ranges):
                if len(characters) > 20:  # a rule of its own, written once
                    characters = self._name(characters, ("characters",))
                options.append(f"{characters} {name}-{target}")
        return " | ".join(options)

    def _repeat(self, name: str, least: int, most: int | None) -> str:
        """Return GBNF for `least` to `most` texts of the rule `name`; large numbers count in blocks."""
        if max(least, most or 0) <= 2 * _BLOCK:
            return _repeat(name, least, most)
        block = self._name(f"{name}{{{_BLOCK}}}", ("block",))
        blocks, singles = divmod(least, _BLOCK)
        needed = f"{_repeat(block, blocks, blocks)} {_repeat(name, singles, singles)}".strip()
        if most is None:
            return f"{needed} {name}*"
        blocks, singles = divmod(most - least, _BLOCK)
        if not blocks:
            return f"{needed} {_repeat(name, 0, singles)}".strip()
        within = f"{_repeat(block, 0, blocks - 1)} {_repeat(name, 0, _BLOCK - 1)}".strip()
        full = f"{_repeat(block, blocks, blocks)} {_repeat(name, 0, singles)}".strip()
        return f"{needed} {self._name(f'{within} | {full}', ('up-to',))}".strip()

    def _number(self, schema: Mapping[str, object], location: Location) -> str:
        """Return the rule of a number; with bounds, it has no exponent."""
        if not any(keyword in schema for keyword in BOUNDS):
            return "number"
        least, most = Bound(Decimal(-MAX_INTEGER)), Bound(Decimal(MAX_INTEGER))
        for keyword in BOUNDS:
            if keyword in schema:
                bound = Bound(read_number(schema[keyword], (*location, keyword)), keyword.startswith("exclusive"))
                if keyword.endswith("inimum"):
                    least = max(least, bound)
                else:
                    most = min(most, bound, key=lambda bound: (bound.value, not bound.is_open))
        parts = write_decimals(least, most)
        if not parts:
            refuse(location, "no number of at most 15 digits lies within the bounds")
        return self._name(" | ".join(parts), location)

    def _integer(self, schema: Mapping[str, object], location: Location) -> str:
        least, most = -MAX_INTEGER, MAX_INTEGER
        for keyword in BOUNDS:
            if keyword in schema:
                bound, is_open = read_number(schema[keyword], (*location, keyword)), keyword.startswith("exclusive")
                if keyword.endswith("inimum"):
                    least = max(least, math.floor(bound) + 1 if is_open else math.ceil(bound))
                else:
                    most = min(most, math.ceil(bound) - 1 if is_open else math.floor(bound))
        if (least, most) == (-MAX_INTEGER, MAX_INTEGER):
            return "integer"
        if least > most:
            refuse(location, "no integer of at most 16 digits lies within the bounds")
        return self._name(" | ".join(write_integers(least, most)), location)

    def _either(self, names: list[str], location: Location) -> str:
        names = list(dict.fromkeys(names))
        return names[0] if len(names) == 1 else self._name(" | ".join(names), location)

    def _name(self, body: str, location: Location) -> str:
        """Return the name of the rule with this body; add the rule if it is new."""
        if body not in self._names:
            self._names[body] = name = self._new_name(location)
            self._rules[name] = body
        return self._names[body]

    def _new_name(self, location: Location) -> str:
        word = next(
            (part for part in reversed(location) if not part.isdecimal() and part.isascii() and part.isalnum()), "value"
        )
        return f"{word[:32]}-{len(self._names) + len(self._targets) + 1}"


def _check_keywords(keywords: Iterable[str], allowed: Sequence[str], location: Location) -> None:
    for keyword in keywords:
        if keyword not in allowed:
            others = ", ".join(f"`{word}`" for word in allowed)
            refuse((*location, keyword), f"`{keyword}` is not supported" + (f" next to {others}" if others else ""))


def _list_values(schema: Mapping[str, object], keyword: str, location: Location) -> list[str]:
    """Return the literals of the values of `enum` or `const` that are of the type of the schema."""
    values = [schema[keyword]] if keyword == "const" else schema[keyword]
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES:
        refuse((*location, keyword), f"must be a list of 1 to {MAX_CHOICES} values, got {show(values)}")
    kinds = list_types(schema, location)
    values = [value for value in values if not kinds or any(_is_kind(value, kind) for kind in kinds)]
    if not values:
        refuse((*location, keyword), f"no value is of the type {show(schema['type'])}")
    return list(dict.fromkeys(_literal(value, (*location, keyword)) for value in values))


def _is_kind(value: object, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, Any] = {"object": Mapping, "array": list, "string": str, "number": (int, float)}
    return isinstance(value, kinds.get(kind, ()))


def _literal(value: object, location: Location) -> str:
    """Return a GBNF literal that matches exactly the compact JSON of `value`."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # lone surrogates are a ValueError
        refuse(location, f"{show(value)} cannot be written as JSON ({error!s:.80})")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lengths(schema: Mapping[str, object], low: str, high: str, location: Location) -> tuple[int, int | None]:
    for keyword in (low, high):
        value = schema.get(keyword, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_LENGTH:
            refuse((*location, keyword), f"must be an integer in [0, {MAX_LENGTH:,}], got {show(value)}")
    least, most = schema.get(low, 0), schema.get(high)
    assert isinstance(least, int)
    assert most is None or isinstance(most, int)
    if most is not None and least > most:
        refuse((*location, low), f"must be at most `{high}`, got {least} and {most}")
    return least, most


def _repeat(name: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{name}*" if (least, most) == (0, None) else f"{name}{{{least},{'' if most is None else most}}}"


def _write_characters(ranges: Ranges) -> list[str]:
    """Return GBNF for the characters of `ranges` as JSON writes them: alternatives."""
    plain: list[tuple[int, int]] = []
    escapes = ""
    for low, high in ranges:
        start = low
        for point, escape in _SHORT_ESCAPES.items():
            if low <= point <= high:
                escapes += escape
                plain += [(start, point - 1)] if start < point else []
                start = point + 1
        plain += [(start, high)] if start <= high else []
    written = "".join(_escape(low) + (f"-{_escape(high)}" if low < high else "") for low, high in plain)
    return ([f"[{written}]"] if written else []) + ([rf'"\\" [{escapes}]'] if escapes else [])


def _escape(point: int) -> str:
    character = chr(point)
    if character.isascii() and character.isalnum():
        return character
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
