"""The keywords of JSON Schema that a grammar keeps to, and the errors about them."""

from __future__ import annotations

import reprlib
import urllib.parse
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn

from leanrag.errors import ConfigurationError
from leanrag.llama.grammar.formats import FORMATS

__all__ = [
    "ANNOTATIONS",
    "BOUNDS",
    "KEYWORDS",
    "ContradictionError",
    "Location",
    "find_target",
    "list_types",
    "read_number",
    "read_schema",
    "refuse",
    "show",
]

Location = tuple[str, ...]
"""The parts of a JSON pointer."""

ANNOTATIONS = frozenset(
    "$comment $defs $id $schema default definitions deprecated description discriminator example examples readOnly title "
    "writeOnly".split()
)
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
KEYWORDS = {
    "object": ("properties", "required", "additionalProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "integer": BOUNDS,
    "number": BOUNDS,
    "boolean": (),
    "null": (),
}
_SUPPORTED = (
    "Supported: type, enum, const, anyOf, oneOf, allOf, $ref to '#/...', "
    + ", ".join(f"{', '.join(words)} ({kind})" for kind, words in KEYWORDS.items() if words)
    + f"; formats {', '.join(FORMATS)}"
)


class ContradictionError(ConfigurationError):
    """No value fits a part of a schema."""


def refuse(location: Location, problem: str, kind: type[ConfigurationError] = ConfigurationError) -> NoReturn:
    """Raise an error of this kind about the part of a schema at `location`."""
    pointer = "#" + "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in location)
    raise kind(f"JSON Schema at {pointer!r:.300}: {problem}. {_SUPPORTED}")


def show(value: object) -> str:
    """Return a short text for a value in a message."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of thousands of digits
        return f"a {type(value).__name__}"


def read_schema(schema: object, location: Location) -> dict[str, Any]:
    """Return the keywords of a schema without annotations; none for `true`, which every value fits."""
    if schema is True:
        return {}
    if not isinstance(schema, Mapping) or not all(isinstance(key, str) for key in schema):
        refuse(location, f"a schema must be an object or true, got {show(schema)}")
    return {key: value for key, value in schema.items() if key not in ANNOTATIONS}


def list_types(schema: Mapping[str, object], location: Location) -> list[str]:
    """Return the types that `schema` names; none if it has no `type`."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and kind in KEYWORDS for kind in kinds):
        refuse((*location, "type"), f"must be among {', '.join(KEYWORDS)}, got {show(kinds)}")
    if "type" in schema and not kinds:
        refuse((*location, "type"), "must name a type, got an empty list")
    return kinds


def read_number(value: object, location: Location) -> Decimal:
    """Return a finite number of a schema as it is written."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not Decimal(value).is_finite():
        refuse(location, f"must be a number, got {show(value)}")
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def find_target(schema: object, pointer: object, location: Location) -> tuple[object, Location]:
    """Return the part of `schema` to which a `$ref` points, and its location."""
    if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
        refuse(location, f"a reference must be to this schema ('#/...'), got {show(pointer)}")
    parts = urllib.parse.unquote(pointer[2:]).split("/") if pointer != "#" else []
    path = tuple(part.replace("~1", "/").replace("~0", "~") for part in parts)
    for part in path:
        if isinstance(schema, Mapping) and part in schema:
            schema = schema[part]
        elif isinstance(schema, list) and part.isdecimal() and int(part[:9]) < len(schema):
            schema = schema[int(part[:9])]
        else:
            refuse(location, f"{show(pointer)} does not exist; a reference must name a part of this schema")
    return schema, path
