"""Converts a JSON Schema to GBNF, llama.cpp's notation for grammars."""

from __future__ import annotations

import itertools
import json
import re
import reprlib
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from leanrag.errors import ConfigurationError
from leanrag.llama.grammar.gbnf import MAX_REPEAT, check_gbnf

__all__ = ["schema_to_gbnf"]

MAX_SCHEMAS = 5_000
MAX_SCHEMA_DEPTH = 64  # parts of a JSON pointer
MAX_CHOICES = 500  # values of an enum, properties of an object: each can be a way to read the text so far
MAX_INTEGER = 10**16 - 1

_ANNOTATIONS = frozenset(
    "$comment $defs $id $schema default definitions deprecated description discriminator example examples readOnly title "
    "writeOnly".split()
)
_KEYWORDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "format"),
    "integer": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
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
    "date": '[12] [0-9]{3} "-" month-day',  # years that every library can read
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

    Every text of the grammar is valid JSON and fits the schema. But not every valid text can be written: objects have their
    properties in the declared order and no others; numbers have at most 16 digits before and after the point, and two in the
    exponent, or no exponent if they have bounds, which must be whole numbers; dates are in the years 1000 to 2999 and never
    29 February; times have an offset; `oneOf` is treated as `anyOf`.
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
        self._pending: list[tuple[str, object, _Path]] = []
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

    def _visit(self, schema: object, location: _Path) -> str:
        self._visits += 1
        if self._visits > MAX_SCHEMAS or len(location) > MAX_SCHEMA_DEPTH:
            limits = f"more than {MAX_SCHEMAS:,} parts, or parts nested in more than {MAX_SCHEMA_DEPTH} levels"
            _refuse(location, f"the schema has {limits}. Use a smaller schema")
        if schema is True:
            return "any"
        if not isinstance(schema, Mapping) or not all(isinstance(key, str) for key in schema):
            _refuse(location, f"a schema must be an object or true, got {_shown(schema)}")
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
                _check_keywords(keywords, (keyword, "type") if visit == self._choice else (keyword,), location)
                return visit(schema, keyword, location)
        return self._typed(schema, keywords, location)

    def _typed(self, schema: Mapping[str, object], keywords: list[str], location: _Path) -> str:
        visits = {"object": self._object, "array": self._array, "string": self._string, "integer": self._integer}
        visits["number"] = self._number
        kinds = _kinds(schema, location)
        if not kinds:  # no `type`: use the types of its keywords, or any type
            kinds = [kind for kind, words in _KEYWORDS.items() if not set(words).isdisjoint(keywords)]
        _check_keywords(keywords, ("type", *itertools.chain(*(_KEYWORDS[kind] for kind in kinds))), location)
        names = [visits[kind](schema, location) if kind in visits else kind for kind in kinds]
        return self._either(names or ["any"], location)

    def _reference(self, schema: Mapping[str, object], keyword: str, location: _Path) -> str:
        pointer = schema[keyword]
        if not isinstance(pointer, str) or not re.match(r"#(/|$)", pointer):
            _refuse((*location, keyword), f"a reference must be to this schema ('#/...'), got {_shown(pointer)}")
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
                    _refuse(
                        (*location, keyword),
                        f"{_shown(pointer)} does not exist; a reference must name a part of this schema",
                    )
            self._targets[pointer] = name = self._new_name(path)
            self._pending.append((name, target, path))
        return self._targets[pointer]

    def _union(self, schema: Mapping[str, object], keyword: str, location: _Path) -> str:
        members = schema[keyword]
        allowed = 1 if keyword == "allOf" else MAX_CHOICES
        if not isinstance(members, list) or not 1 <= len(members) <= allowed:
            _refuse((*location, keyword), f"must be a list of 1 to {allowed} schemas, got {_shown(members)}")
        return self._either(
            [self._visit(item, (*location, keyword, str(i))) for i, item in enumerate(members)], location
        )

    def _choice(self, schema: Mapping[str, object], keyword: str, location: _Path) -> str:
        values = [schema[keyword]] if keyword == "const" else schema[keyword]
        if not isinstance(values, list) or not 1 <= len(values) <= MAX_CHOICES:
            _refuse((*location, keyword), f"must be a list of 1 to {MAX_CHOICES} values, got {_shown(values)}")
        kinds = _kinds(schema, location)
        values = [value for value in values if not kinds or any(_is_kind(value, kind) for kind in kinds)]
        if not values:
            _refuse((*location, keyword), f"no value is of the type {_shown(schema['type'])}")
        return self._either([_literal(value, (*location, keyword)) for value in values], location)

    def _object(self, schema: Mapping[str, object], location: _Path) -> str:
        extra = schema.get("additionalProperties", False)
        if extra is False and "properties" not in schema and "additionalProperties" not in schema:
            _refuse(location, "the object has no `properties`. Declare them, or set `additionalProperties` to true")
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if not isinstance(properties, Mapping) or len(properties) > MAX_CHOICES:
            _refuse(
                (*location, "properties"),
                f"must be an object of at most {MAX_CHOICES} schemas, got {_shown(properties)}",
            )
        if not isinstance(required, list) or not all(isinstance(name, str) and name in properties for name in required):
            _refuse((*location, "required"), f"must be a list of names in `properties`, got {_shown(required)}")
        if extra is not False:
            if properties:
                _refuse((*location, "additionalProperties"), "must be false next to `properties`")
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

    def _array(self, schema: Mapping[str, object], location: _Path) -> str:
        least, most = _lengths(schema, "minItems", "maxItems", location)
        if "prefixItems" in schema:
            prefix = schema["prefixItems"]
            if schema.get("items", False) is not False:
                _refuse((*location, "items"), "must be false next to `prefixItems`")
            if not isinstance(prefix, list) or not 1 <= len(prefix) <= MAX_CHOICES:
                _refuse(
                    (*location, "prefixItems"), f"must be a list of 1 to {MAX_CHOICES} schemas, got {_shown(prefix)}"
                )
            if not least <= len(prefix) <= (len(prefix) if most is None else most):
                _refuse(
                    (*location, "prefixItems"),
                    "all of them are written; `minItems` and `maxItems` must allow their number",
                )
            names = [self._visit(item, (*location, "prefixItems", str(i))) for i, item in enumerate(prefix)]
            written = ' "," gap '.join(names)
            return self._name(f'"[" {written} "]"', location)
        if most == 0:
            return self._name('"[" "]"', location)
        item = self._visit(schema.get("items", True), (*location, "items"))
        more = self._name(f'"," gap {item}', ("more",))
        items = f"{item} {_repeat(more, max(least - 1, 0), None if most is None else most - 1)}".rstrip()
        return self._name(f'"[" {items} "]"' if least else f'"[" ({items})? "]"', location)

    def _string(self, schema: Mapping[str, object], location: _Path) -> str:
        least, most = _lengths(schema, "minLength", "maxLength", location)
        if "format" in schema:
            kind = schema["format"]
            if kind not in _FORMATS:
                _refuse((*location, "format"), f"must be one of {', '.join(_FORMATS)}, got {_shown(kind)}")
            if (least, most) != (0, None):
                _refuse((*location, "format"), "cannot be combined with `minLength` or `maxLength`")
            return self._name(rf'"\"" {kind} "\""', location)
        if (least, most) == (0, None):
            return "string"
        return self._name(rf'"\"" {_repeat("char", least, most)} "\""', location)

    def _number(self, schema: Mapping[str, object], location: _Path) -> str:
        """Return the rule of a number; with bounds, it has no exponent."""
        least, most, open_least, open_most = -MAX_INTEGER, MAX_INTEGER, False, False
        if not any(keyword in schema for keyword in _KEYWORDS["number"]):
            return "number"
        for keyword in _KEYWORDS["number"]:
            if keyword in schema:
                bound, is_open = _whole(schema[keyword], (*location, keyword)), keyword.startswith("exclusive")
                if keyword.endswith("inimum") and (bound, is_open) > (least, open_least):
                    least, open_least = bound, is_open
                elif keyword.endswith("aximum") and (bound, not is_open) < (most, not open_most):
                    most, open_most = bound, is_open
        parts = []
        if least < 0:
            parts += [f'"-" ({part})' for part in _decimals(max(0, -most), -least, open_most and most <= 0, open_least)]
        if most >= 0:
            parts += _decimals(max(0, least), most, open_least and least >= 0, open_most)
        if not parts or max(abs(least), abs(most)) > MAX_INTEGER:
            _refuse(location, "no number of at most 16 digits before the point lies within the bounds")
        return self._name(" | ".join(parts), location)

    def _integer(self, schema: Mapping[str, object], location: _Path) -> str:
        least, most = -MAX_INTEGER, MAX_INTEGER
        for keyword in _KEYWORDS["integer"]:
            if keyword in schema:
                bound = _whole(schema[keyword], (*location, keyword))
                if keyword.endswith("inimum"):
                    least = max(least, bound + keyword.startswith("exclusive"))
                else:
                    most = min(most, bound - keyword.startswith("exclusive"))
        if (least, most) == (-MAX_INTEGER, MAX_INTEGER):
            return "integer"
        if least > most:
            _refuse(location, "no integer of at most 16 digits lies within the bounds")
        parts = []
        if least < 0:
            parts.append(f'"-" ({" | ".join(_naturals(max(1, -most), -least))})')
        if most >= 0:
            parts += _naturals(max(0, least), most)
        return self._name(" | ".join(parts), location)

    def _either(self, names: list[str], location: _Path) -> str:
        names = list(dict.fromkeys(names))
        return names[0] if len(names) == 1 else self._name(" | ".join(names), location)

    def _name(self, body: str, location: _Path) -> str:
        """Return the name of the rule with this body; add the rule if it is new."""
        if body not in self._names:
            self._names[body] = name = self._new_name(location)
            self._rules[name] = body
        return self._names[body]

    def _new_name(self, location: _Path) -> str:
        word = next(
            (part for part in reversed(location) if not part.isdecimal() and part.isascii() and part.isalnum()), "value"
        )
        return f"{word[:32]}-{len(self._names) + len(self._targets) + 1}"


def _refuse(location: _Path, problem: str) -> NoReturn:
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in location)
    raise ConfigurationError(f"JSON Schema at {pointer!r:.300}: {problem}. {_SUPPORTED}")


def _shown(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"


def _check_keywords(keywords: Iterable[str], allowed: Sequence[str], location: _Path) -> None:
    for keyword in keywords:
        if keyword not in allowed:
            others = ", ".join(f"`{word}`" for word in allowed)
            _refuse((*location, keyword), f"`{keyword}` is not supported" + (f" next to {others}" if others else ""))


def _kinds(schema: Mapping[str, object], location: _Path) -> list[str]:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and kind in _KEYWORDS for kind in kinds):
        _refuse((*location, "type"), f"must be among {', '.join(_KEYWORDS)}, got {_shown(kinds)}")
    if "type" in schema and not kinds:
        _refuse((*location, "type"), "must name a type, got an empty list")
    return kinds


def _is_kind(value: object, kind: str) -> bool:
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    kinds: dict[str, Any] = {"object": Mapping, "array": list, "string": str, "number": (int, float)}
    return isinstance(value, kinds.get(kind, ()))


def _literal(value: object, location: _Path) -> str:
    """Return a GBNF literal that matches exactly the compact JSON of `value`."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:  # lone surrogates are a ValueError
        _refuse(location, f"{_shown(value)} cannot be written as JSON ({error!s:.80})")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _lengths(schema: Mapping[str, object], low: str, high: str, location: _Path) -> tuple[int, int | None]:
    for keyword in (low, high):
        value = schema.get(keyword, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_REPEAT:
            _refuse((*location, keyword), f"must be an integer in [0, {MAX_REPEAT:,}], got {_shown(value)}")
    least, most = schema.get(low, 0), schema.get(high)
    assert isinstance(least, int)
    assert most is None or isinstance(most, int)
    if most is not None and least > most:
        _refuse((*location, low), f"must be at most `{high}`, got {least} and {most}")
    return least, most


def _repeat(name: str, least: int, most: int | None) -> str:
    if most == 0:
        return ""
    return f"{name}*" if (least, most) == (0, None) else f"{name}{{{least},{'' if most is None else most}}}"


def _whole(bound: object, location: _Path) -> int:
    """Return a bound, which must be a whole number."""
    if isinstance(bound, float) and bound.is_integer():  # pydantic may write 3.0 for an integer
        bound = int(bound)
    if not isinstance(bound, int) or isinstance(bound, bool):
        _refuse(location, f"must be a whole number, got {_shown(bound)}")
    return bound


def _decimals(least: int, most: int, is_open_least: bool, is_open_most: bool) -> list[str]:
    """Return GBNF for the decimal numbers from `least` to `most`, at least 0; an open bound is not one of them."""
    parts = []
    first = least
    if is_open_least and least < most:
        parts.append(f'"{least}." "0"{{0,8}} [1-9] [0-9]{{0,7}}')
        first += 1
    if first < most:
        parts += [f'({part}) ("." [0-9]{{1,16}})?' for part in _naturals(first, most - 1)]
    if not is_open_most and first <= most:
        parts.append(f'"{most}" ("." "0"{{1,16}})?')
    return parts


def _naturals(least: int, most: int) -> list[str]:
    """Return GBNF for the decimal numbers from `least` to `most`: an alternative for each number of digits."""
    sizes = range(len(str(least)), len(str(most)) + 1)
    return [_digits(str(max(least, 10 ** (n - 1) if n > 1 else 0)), str(min(most, 10**n - 1))) for n in sizes]


def _digits(low: str, high: str) -> str:
    """Return GBNF for the strings of digits from `low` to `high`, which have the same length."""
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
