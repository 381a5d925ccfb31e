"""Merges the schemas of `allOf` into a single schema without `allOf`."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from typing import Any

from leanrag.llama.grammar.keywords import (
    ContradictionError,
    Location,
    find_target,
    list_types,
    read_number,
    read_schema,
    refuse,
    show,
)

__all__ = ["merge_members"]

MAX_MEMBERS = 100
MAX_ALTERNATIVES = 2_000
MAX_DEPTH = 20  # references to references, and `allOf` within `allOf`

_Schema = dict[str, Any]
_HIGHER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_LOWER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def merge_members(root: object, schema: Mapping[str, object], location: Location) -> Mapping[str, object]:
    """Return a schema of what fits all members of `allOf`, and the other keywords of `schema`.

    Args:
        root: The whole schema, for references.
        schema: A schema with the keyword `allOf`.
        location: Where it is.

    Raises:
        ConfigurationError: The members cannot be merged; the message names the keyword.
    """
    return _Merger(root).flatten(schema, location, 0)


class _Merger:
    def __init__(self, root: object) -> None:
        self._root, self._n_alternatives = root, 0

    def flatten(self, schema: object, location: Location, depth: int) -> _Schema:
        """Return a schema without annotations, and without `$ref` and `allOf` at its top."""
        if depth > MAX_DEPTH:
            refuse(location, f"`allOf` and `$ref` lead to each other in more than {MAX_DEPTH} steps")
        schema = read_schema(schema, location)
        parts: list[_Schema] = [{key: value for key, value in schema.items() if key not in ("allOf", "$ref")}]
        if "$ref" in schema:
            target, path = find_target(self._root, schema["$ref"], (*location, "$ref"))
            parts.append(self.flatten(target, path, depth + 1))
        members = schema.get("allOf", [])
        if not isinstance(members, list) or len(members) > MAX_MEMBERS or ("allOf" in schema and not members):
            refuse((*location, "allOf"), f"must be a list of 1 to {MAX_MEMBERS} schemas, got {show(members)}")
        parts += [
            self.flatten(member, (*location, "allOf", str(index)), depth + 1) for index, member in enumerate(members)
        ]
        return functools.reduce(lambda one, other: self._merge(one, other, location, depth), filter(None, parts), {})

    def _merge(self, one: _Schema, other: _Schema, location: Location, depth: int) -> _Schema:
        if not one or not other:
            return one or other
        for keyword in ("anyOf", "oneOf"):
            for schema, rest in ((one, other), (other, one)):
                if keyword in schema:
                    return self._distribute(schema, keyword, rest, location, depth)
        if not {"enum", "const"}.isdisjoint(one | other):
            return self._merge_values(one, other, location)
        merged = one | other
        for keyword in one.keys() & other.keys():
            if json.dumps(one[keyword], default=repr) != json.dumps(other[keyword], default=repr):
                merged[keyword] = self._merge_keyword(keyword, one[keyword], other[keyword], location)
        if "properties" in merged or "additionalProperties" in merged:
            self._merge_properties(one, other, merged, location)
        return merged

    def _merge_keyword(self, keyword: str, one: Any, other: Any, location: Location) -> object:
        location = (*location, keyword)
        if keyword in _HIGHER or keyword in _LOWER:
            ordered = sorted([one, other], key=lambda value: read_number(value, location))
            return ordered[keyword in _HIGHER]
        if keyword == "type":
            return _common_types(one, other, location)
        if keyword == "pattern":
            return [*_as_list(one), *_as_list(other)]
        if keyword == "uniqueItems":
            return bool(one or other)
        if keyword == "required" and isinstance(one, list) and isinstance(other, list):
            return [*one, *(name for name in other if name not in one)]
        if keyword in ("items", "additionalProperties") and False not in (one, other):
            return {"allOf": [one, other]}
        if keyword in ("properties", "additionalProperties"):
            return one  # `_merge_properties` does it
        refuse(location, f"`{keyword}` has different values in `allOf`, and they cannot be merged")

    @staticmethod
    def _merge_properties(one: _Schema, other: _Schema, merged: _Schema, location: Location) -> None:
        """Set `properties` and `additionalProperties` to what both schemas allow."""
        found, extras = [], []
        for schema in (one, other):
            properties = schema.get("properties", {})
            if not isinstance(properties, Mapping):
                refuse((*location, "properties"), f"must be an object of schemas, got {show(properties)}")
            found.append(properties)
            extras.append(schema.get("additionalProperties", True))
        properties = {}
        for name in dict.fromkeys(itertools.chain(*found)):
            members = [schema.get(name, extra) for schema, extra in zip(found, extras, strict=True)]
            members = [member for member in members if member is not True]
            if False in members:  # one of the schemas does not allow this property
                if name in merged.get("required", []):
                    refuse((*location, "required"), f"another schema of `allOf` does not allow the property {name!r}")
            else:
                properties[name] = members[0] if len(members) == 1 else {"allOf": members} if members else True
        if properties:
            merged["properties"] = properties
            merged.pop("additionalProperties", None)  # no others are written
        elif False in extras:
            merged |= {"properties": {}, "additionalProperties": False}

    def _distribute(self, schema: _Schema, keyword: str, rest: _Schema, location: Location, depth: int) -> _Schema:
        """Merge `rest` into each alternative; leave out alternatives that no value fits."""
        options = schema[keyword]
        if not isinstance(options, list):
            refuse((*location, keyword), f"must be a list of schemas, got {show(options)}")
        others = {key: value for key, value in schema.items() if key != keyword}
        merged: list[_Schema] = []
        contradiction: ContradictionError | None = None
        for option in options:
            self._n_alternatives += 1
            if self._n_alternatives > MAX_ALTERNATIVES:
                refuse(location, f"`allOf` combines more than {MAX_ALTERNATIVES:,} alternatives of {keyword}")
            try:
                merged.append(self.flatten({"allOf": [option, others, rest]}, location, depth + 1))
            except ContradictionError as error:
                contradiction = error
        if contradiction is not None and not merged:
            raise contradiction
        return {keyword: merged}

    @staticmethod
    def _merge_values(one: _Schema, other: _Schema, location: Location) -> _Schema:
        """Merge two schemas of which at least one lists its values."""
        values: list[object] | None = None
        merged: _Schema = {}
        for schema in (one, other):
            for keyword, value in schema.items():
                if keyword == "type":
                    merged["type"] = _common_types(merged.get("type", value), value, (*location, "type"))
                elif keyword in ("enum", "const"):
                    listed = [value] if keyword == "const" else value
                    if not isinstance(listed, list):
                        refuse((*location, keyword), f"must be a list of values, got {show(listed)}")
                    texts = {json.dumps(item, default=repr) for item in listed}
                    values = (
                        listed
                        if values is None
                        else [item for item in values if json.dumps(item, default=repr) in texts]
                    )
                else:
                    refuse((*location, keyword), f"`{keyword}` cannot be merged with `enum` or `const`")
        if not values:
            refuse((*location, "enum"), "no value is in all lists of `allOf`", ContradictionError)
        return merged | {"enum": values}


def _common_types(one: object, other: object, location: Location) -> list[str]:
    some, others = (list_types({"type": kinds}, location[:-1]) for kinds in (one, other))
    common = [kind for kind in some if kind in others or (kind == "integer" and "number" in others)]
    common += [kind for kind in others if kind == "integer" and "number" in some and kind not in common]
    if not common:
        refuse(location, f"no type is both {show(one)} and {show(other)}", ContradictionError)
    return common


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]
