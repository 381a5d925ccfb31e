"""What is written under a schema validates; what a grammar cannot keep to is refused by name."""

import datetime
import ipaddress
import json
import re
import urllib.parse
import uuid
from enum import Enum
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from leanrag import ConfigurationError
from leanrag.llama.grammar.schema import schema_to_gbnf
from tests.examples import max_examples
from tests.llama.grammar.writing import spells, write

STRING = {"type": "string"}

FORMATS = {
    "date": datetime.date.fromisoformat,
    "time": lambda text: datetime.time.fromisoformat(tidy(text)),
    "date-time": lambda text: datetime.datetime.fromisoformat(tidy(text)),
    "uuid": uuid.UUID,
    "uuid4": lambda text: uuid.UUID(text).version == 4,
    "ipv4": ipaddress.IPv4Address,
    "ipv6": ipaddress.IPv6Address,
    "email": lambda text: re.fullmatch(r"[\w+.-]+@(?:[\w-]+\.)+[a-z]{2,}", text),
    "uri": lambda text: urllib.parse.urlsplit(text).hostname,
    "hostname": lambda text: re.fullmatch(r"(?:[\w-]{1,63}\.)+[a-z]+", text),
    "duration": pydantic.TypeAdapter(datetime.timedelta).validate_python,
    "password": lambda text: True,
}
KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def tidy(text):
    """RFC 3339 as Python 3.10 reads it: six digits of a second, no Z."""
    head, point, tail = text.replace("Z", "+00:00").partition(".")
    digits = tail[: len(tail) - 6]
    return head + (point and point + digits.ljust(6, "0") + tail[len(digits) :])


def is_kind(value, kind):
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, KINDS[kind])


def is_format(text, name):
    try:
        return name is None or bool(FORMATS[name](text))
    except ValueError:
        return False


def is_valid(value, schema, root):
    """A small validator, written apart from the grammar."""
    if schema is True:
        return True
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].split("/")[1:]:
            target = target[part]
        return is_valid(value, target, root)
    if not all(is_valid(value, member, root) for member in schema.get("allOf", [])):
        return False
    for options in (schema[keyword] for keyword in ("anyOf", "oneOf") if keyword in schema):
        return any(is_valid(value, option, root) for option in options)
    values = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    if json.dumps(value) not in map(json.dumps, values):
        return False
    kinds = schema.get("type", [])
    if kinds and not any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        return (
            is_format(value, schema.get("format"))
            and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9)
            and re.search(schema.get("pattern", ""), value) is not None
        )
    if isinstance(value, list):
        prefix, rest = schema.get("prefixItems", []), schema.get("items", True)
        if schema.get("uniqueItems", False) and len({json.dumps(item) for item in value}) < len(value):
            return False
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9) and all(
            is_valid(item, prefix[i] if i < len(prefix) else rest, root) for i, item in enumerate(value)
        )
    if isinstance(value, dict):
        return is_valid_object(value, schema, root)
    return {"integer", "number"}.isdisjoint(kinds) or (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", value - 1) < value < schema.get("exclusiveMaximum", value + 1)
    )


def is_valid_object(value, schema, root):
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties", "properties" not in schema)
    declared = [name for name in properties if name in value]
    return (
        set(schema.get("required", [])) <= set(value)
        and [name for name in value if name in properties] == declared  # in the order declared
        and (extra is not False or set(value) <= set(properties))
        and all(is_valid(item, properties.get(name, extra), root) for name, item in value.items())
    )


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
whole = st.integers(-(10**6), 10**6)


@st.composite
def between(draw, kind, low, high, largest=6):
    least, most = sorted(draw(st.tuples(st.integers(0, largest), st.integers(0, largest))))
    return draw(st.sampled_from([{}, {low: least}, {high: most}, {low: least, high: most}])) | {"type": kind}


@st.composite
def integers(draw):
    low, high = sorted([draw(whole), draw(whole)])
    keys = draw(st.sampled_from([("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")]))
    bounds = {keys[0]: low, keys[1]: high + 2}
    return {"type": "integer"} | {key: bounds[key] for key in draw(st.sets(st.sampled_from(keys)))}


@st.composite
def decimals(draw):
    low = draw(st.one_of(st.floats(-(10.0**6), 10.0**6), st.integers(-20, 20)))
    high = low + draw(st.one_of(st.sampled_from([1e-9, 0.1, 0.5, 1, 10, 1e4]), st.floats(1e-6, 1e6)))
    keys = draw(
        st.tuples(st.sampled_from(["minimum", "exclusiveMinimum"]), st.sampled_from(["maximum", "exclusiveMaximum"]))
    )
    bounds = {keys[0]: low, keys[1]: high}
    return {"type": "number"} | {key: bounds[key] for key in draw(st.sets(st.sampled_from(keys)))}


PATTERNS = [
    "a+",
    "^[A-Z]{2}-[0-9]+$",
    r"^\d{3}[- ]?\w*$",
    r"\.py$",
    "^(yes|no|maybe)$",
    r"^(?=.*\d)(?=.*[a-z]).{4,8}$",
    r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$",
    r'^["\\]\D\W\S$',
    r"^[^\w\s]{2}",
    "x|^y|z$",
    r"^\u00e9\x41{2,}?(?:b|c)*$",
]


def objects(members):
    @st.composite
    def build(draw):
        properties = draw(st.dictionaries(words, members, max_size=4))
        required = [name for name in properties if draw(st.booleans())]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    return build()


@st.composite
def lists(draw, items):
    kind = draw(st.integers(0, 2))
    if kind == 0:
        prefix = draw(st.lists(items, min_size=1, max_size=3))
        return {"type": "array", "prefixItems": prefix, "minItems": len(prefix), "maxItems": len(prefix)}
    return draw(between("array", "minItems", "maxItems", 3)) | {"items": draw(items)}


leaves = st.one_of(
    st.sampled_from(["string", "number", "boolean", "null", "integer"]).map(lambda kind: {"type": kind, "title": "x"}),
    st.just({}),
    st.just({"$ref": "#/$defs/leaf"}),
    st.just({"type": ["string", "null"], "maxLength": 3}),
    between("string", "minLength", "maxLength"),
    integers(),
    decimals(),
    st.sampled_from(PATTERNS).map(lambda pattern: {"type": "string", "pattern": pattern, "maxLength": 12}),
    st.just({"type": "array", "items": {"enum": ["a", "b", 3]}, "uniqueItems": True, "minItems": 1}),
    st.just({"allOf": [{"type": "number", "minimum": 0.5}, {"type": ["integer", "null"], "maximum": 9}]}),
    st.sampled_from(list(FORMATS)).map(lambda name: {"type": "string", "format": name}),
    st.lists(st.one_of(words, whole, st.booleans(), st.none()), min_size=1, max_size=4).map(lambda v: {"enum": v}),
    st.one_of(words, whole, st.lists(words, max_size=2)).map(lambda value: {"const": value}),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        objects(inner),
        lists(inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options}),
        inner.map(lambda schema: {"allOf": [schema]}),
        inner.map(lambda schema: {"type": "object", "additionalProperties": schema}),
    ),
    max_leaves=6,
)


@max_examples(150)
@given(schemas, st.integers(0, 2**32))
@example({"type": "object", "properties": {"": {"const": '"\\\n'}, "é\x7f": STRING}, "required": ["é\x7f"]}, 1)
@pytest.mark.slow
def test_what_is_written_parses_and_validates(vocabulary, schema, seed):
    schema = {"$defs": {"leaf": {"type": "integer", "minimum": 7, "maximum": 1234}}} | schema
    text = write(vocabulary, schema_to_gbnf(schema), seed)
    assert is_valid(json.loads(text), schema, schema), text


@max_examples(60)
@given(whole, whole, st.data())
def test_integer_bounds_are_exact(vocabulary, one, other, data):
    low, high = sorted([one, other])
    gbnf = schema_to_gbnf({"type": "integer", "minimum": low, "maximum": high})
    inside = data.draw(st.integers(low, high))
    outside = data.draw(st.one_of(st.integers(max_value=low - 1), st.integers(min_value=high + 1)))
    assert all(spells(vocabulary, gbnf, str(number)) for number in (low, high, inside))
    assert not any(spells(vocabulary, gbnf, str(number)) for number in (low - 1, high + 1, outside))


def test_small_integer_ranges_are_exact(vocabulary):
    for low, high in [(-11, 3), (0, 0), (-1, -1), (9, 10), (95, 105)]:
        gbnf = schema_to_gbnf({"type": "integer", "exclusiveMinimum": low - 1, "exclusiveMaximum": high + 1.0})
        written = [number for number in range(-120, 121) if spells(vocabulary, gbnf, str(number))]
        assert written == list(range(low, high + 1))


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    kind: Literal["leaf"]
    colour: Colour = Colour.RED
    when: datetime.datetime | None = None
    day: datetime.date | None = None
    clock: datetime.time | None = None
    id: uuid.UUID | None = None


class Tree(BaseModel):
    """A recursive model with most of what pydantic writes."""

    kind: Literal["tree"]
    name: str = Field(min_length=1, max_length=8, description="of the tree")
    score: int = Field(ge=0, le=100)
    pair: tuple[int, str]
    counts: dict[str, int] = {}
    anything: Any = None
    child: "Leaf | Tree | None" = Field(None, discriminator="kind")
    leaves: list[Leaf] = Field(default=[], max_length=3)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.slow
def test_a_pydantic_model_reads_what_was_written(vocabulary, seed):
    tree = Tree.model_validate_json(write(vocabulary, schema_to_gbnf(Tree.model_json_schema()), seed))
    assert tree.kind == "tree"
    assert 1 <= len(tree.name) <= 8
    assert 0 <= tree.score <= 100


OBJECT = {"type": "object", "properties": {"a": STRING, "b": STRING, "c": STRING}, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "allowed", "refused"),
    [
        (OBJECT, ['{"b":"x"}', '{"a": "", "b": ""}', '{"b":"","c":""}'], ["{}", '{"b":"",}', '{"b":"","a":""}']),
        (OBJECT | {"required": []}, ["{}", '{"c":""}', '{"a":"", "c":""}'], ['{,"a":""}', '{"d":""}']),
        ({"type": "object", "properties": {}}, ["{}"], ['{"a":1}', "{ }"]),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, ["[null,null]", "[null, null,null]"], ["[null]"]),
        ({"type": "array", "maxItems": 1}, ["[]", '[{"a":[1.5e-3]}]'], ["[1,2]", "[01]", "[,]"]),
        ({"type": "array", "maxItems": 0}, ["[]"], ["[1]"]),
        ({"prefixItems": [{"const": 1}, True], "items": False}, ["[1,2]"], ["[1]", "[2,2]", "[1,2,3]"]),
        (STRING, ['"é"', r'"\u00e9\n"', r'"\/"'], ['"\n"', '"\x00"', r'"\ud800"', r'"\x41"', '"']),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"éé"', r'"\u00e9\n"'], ['"a"', '"abcd"']),
        ({"type": "string", "maxLength": 0}, ['""'], ['"a"']),
        ({"type": "number"}, ["-0.5", "1E9", "0", "1234567890123456"], ["12345678901234567", "01", ".5", "1.", "+1"]),
        ({"type": "integer"}, ["0", "-12"], ["-0", "1.0", "1e3", "00"]),
        ({"type": ["integer", "null"], "minimum": 3}, ["3", "null"], ["2", "true"]),
        ({"minLength": 1}, ['"a"'], ['""', "1"]),
        ({"type": "string", "enum": ["a", 1, "é"]}, ['"a"', '"é"'], ["1", r'"\u00e9"']),
        ({"const": {"a": [1, None]}}, ['{"a":[1,null]}'], ["{}"]),
        ({"oneOf": [{"const": 1}, {"const": "a"}]}, ["1", '"a"'], ["2"]),
        ({"$defs": {"a/b~c": {"const": 5}}, "$ref": "#/$defs/a~1b~0c"}, ["5"], ["6"]),
        ({"type": "array", "items": {"$ref": "#"}}, ["[]", "[[],[[]]]"], ["[1]"]),
        ({"type": "object", "additionalProperties": {"type": "null"}}, ["{}", '{"x":null, "y":null}'], ['{"x":1}']),
        (
            {"type": "number", "minimum": 0, "maximum": 1},
            ["0", "1", "0.5", "1.0", "0.0625"],
            ["1.5", "-0.5", "1.01", "1e3", "2"],
        ),
        (
            {"type": "number", "exclusiveMinimum": 0, "maximum": 10.0},
            ["0.01", "10", "10.0", "9.9"],
            ["0", "0.0", "10.1", "11"],
        ),
        (
            {"type": "number", "minimum": -5, "exclusiveMaximum": 0},
            ["-5", "-5.0", "-0.5", "-4.99"],
            ["0", "-5.1", "-6", "1"],
        ),
        ({"type": "number", "minimum": -2, "maximum": 12}, ["-2", "-1.5", "0", "11.9", "12"], ["-2.5", "12.5", "13"]),
        ({"type": "number", "minimum": 3}, ["3", "3.5", "1234567.8"], ["2.9", "-3"]),
        ({"type": "number", "exclusiveMinimum": 3, "exclusiveMaximum": 4}, ["3.5", "3.01"], ["3", "3.0", "4"]),
        ({"type": "string", "format": "date"}, ['"2024-12-31"'], ['"2023-02-29"', '"2024-13-01"', '"2024-04-31"']),
        ({"type": "string", "format": "time"}, ['"23:59:59Z"', '"00:00:00.5+01:30"'], ['"24:00:00Z"', '"10:00:00"']),
        ({"type": "string", "format": "date-time"}, ['"2024-01-02T03:04:05Z"'], ['"2024-01-02"']),
    ],
)
def test_what_a_schema_allows(vocabulary, schema, allowed, refused):
    gbnf = schema_to_gbnf(schema)
    assert [text for text in allowed if not spells(vocabulary, gbnf, text)] == []
    assert [text for text in refused if spells(vocabulary, gbnf, text)] == []


def test_annotations_mean_nothing():
    noted = {"title": "T", "description": "d", "default": 1, "examples": [2], "$schema": "s", "deprecated": True}
    assert schema_to_gbnf({"type": "integer", **noted}) == schema_to_gbnf({"type": "integer"})


@pytest.mark.parametrize(
    ("schema", "at"),
    [
        ({"type": "string", "contentEncoding": "base64"}, "#/contentEncoding"),
        ({"type": "integer", "multipleOf": 2}, "#/multipleOf"),
        ({"type": "number", "minimum": 0.5, "exclusiveMaximum": 0.5}, "#"),
        ({"type": "number", "minimum": "0.5"}, "#/minimum"),
        ({"type": "number", "minimum": 2, "exclusiveMaximum": 2}, "#"),
        ({"type": "array", "uniqueItems": True}, "#/uniqueItems"),
        ({"type": "array", "contains": {}}, "#/contains"),
        ({"type": "object", "patternProperties": {}}, "#/patternProperties"),
        ({"type": "object", "propertyNames": STRING}, "#/propertyNames"),
        ({"type": "object", "properties": {}, "minProperties": 1}, "#/minProperties"),
        ({"not": STRING}, "#/not"),
        ({"if": STRING, "then": STRING}, "#/if"),
        ({"type": "string", "minItems": 1}, "#/minItems"),
        ({"anyOf": [STRING], "type": "string"}, "#/type"),
        ({"enum": ["a"], "const": "a"}, "#/enum"),
        ({"$ref": "#", "type": "string"}, "#/type"),
        ({"type": "array", "items": {"type": "string", "pattern": 3}}, "#/items/pattern"),
        ({"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b"]}, "minItems": 3}, "#/minItems"),
        ({"prefixItems": [STRING, STRING], "uniqueItems": True}, "#/uniqueItems"),
        ({"$defs": {"a~/": {"oops": 1}}, "$ref": "#/$defs/a~0~1"}, "#/$defs/a~0~1/oops"),
        ({"type": "text"}, "#/type"),
        ({"type": []}, "#/type"),
        ({"type": [["string"]]}, "#/type"),
        ({"type": "object"}, "#"),
        ({"type": "object", "properties": []}, "#/properties"),
        ({"type": "object", "properties": {"a": 3}}, "#/properties/a"),
        ({"type": "object", "properties": {"a": False}}, "#/properties/a"),
        ({"type": "object", "properties": {str(i): STRING for i in range(501)}}, "#/properties"),
        ({"type": "object", "properties": {"a": STRING}, "required": ["b"]}, "#/required"),
        ({"type": "object", "properties": {"a": STRING}, "required": True}, "#/required"),
        ({"type": "object", "properties": {"a": STRING}, "additionalProperties": True}, "#/additionalProperties"),
        ({"type": "object", "additionalProperties": "yes"}, "#/additionalProperties"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "#/minItems"),
        ({"type": "array", "minItems": -1}, "#/minItems"),
        ({"type": "array", "maxItems": True}, "#/maxItems"),
        ({"type": "array", "prefixItems": []}, "#/prefixItems"),
        ({"type": "array", "prefixItems": [STRING], "minItems": 2}, "#/prefixItems"),
        ({"type": "array", "prefixItems": [STRING], "items": STRING}, "#/items"),
        ({"type": "string", "maxLength": 1_000_000}, "#/maxLength"),
        ({"type": "string", "minLength": 10**5000}, "#/minLength"),
        ({"type": "string", "maxLength": "3"}, "#/maxLength"),
        ({"type": "string", "format": "iri"}, "#/format"),
        ({"type": "string", "format": ["date"]}, "#/format"),
        ({"type": "string", "format": "date", "maxLength": 3}, "#/format"),
        ({"type": "integer", "minimum": 0.5, "maximum": 0.9}, "#"),
        ({"type": "integer", "exclusiveMinimum": True}, "#/exclusiveMinimum"),
        ({"type": "integer", "minimum": float("nan")}, "#/minimum"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "#"),
        ({"type": "integer", "minimum": 10**20}, "#"),
        ({"anyOf": []}, "#/anyOf"),
        ({"allOf": []}, "#/allOf"),
        ({"allOf": [STRING, {"type": "integer"}]}, "#/type"),
        ({"allOf": [STRING, {"minimum": 3}]}, "#/minimum"),
        ({"allOf": [{"format": "date"}, {"format": "time"}]}, "#/format"),
        ({"allOf": [{"enum": ["a", "b"]}, {"minLength": 1}]}, "#/minLength"),
        ({"allOf": [{"enum": ["a", "b"]}, {"const": "c"}]}, "#/enum"),
        ({"allOf": [{"prefixItems": [STRING]}, {"prefixItems": [True]}]}, "#/prefixItems"),
        (
            {
                "allOf": [
                    {"properties": {"a": STRING}, "additionalProperties": False},
                    {"properties": {"b": True}, "required": ["b"]},
                ]
            },
            "#/required",
        ),
        ({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, STRING]}}, "$ref": "#/$defs/a"}, "#/$defs/a/allOf/0"),
        ({"enum": []}, "#/enum"),
        ({"enum": "abc"}, "#/enum"),
        ({"enum": list(range(501))}, "#/enum"),
        ({"enum": ["a"], "type": "integer"}, "#/enum"),
        ({"const": float("inf")}, "#/const"),
        ({"const": {1, 2}}, "#/const"),
        ({"const": "\ud800"}, "#/const"),
        ({"$ref": "https://example.org/schema"}, "#/$ref"),
        ({"$ref": "#/$defs/none"}, "#/$ref"),
        ({"$ref": "#anchor"}, "#/$ref"),
        ({"$ref": 3}, "#/$ref"),
        ([], "#"),
        ({3: "x"}, "#"),
    ],
)
def test_what_cannot_be_kept_to_is_refused_by_name(schema, at):
    with pytest.raises(ConfigurationError) as caught:
        schema_to_gbnf(schema)
    assert f"JSON Schema at {at!r}: " in str(caught.value)
    assert "Supported: type, enum" in str(caught.value)


@pytest.mark.slow
def test_circles_and_monsters_are_refused():
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"type": "array", "items": deep}
    circle: dict[str, Any] = {"type": "array"}
    circle["items"] = circle
    wide: dict[str, Any] = STRING
    for _ in range(30):
        wide = {"anyOf": [wide, wide]}
    needy = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    itself = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    for schema in (deep, circle, wide, needy, itself, {"$ref": "#"}, {"const": deep}):
        with pytest.raises(ConfigurationError):
            schema_to_gbnf(schema)


@pytest.mark.slow
def test_a_long_chain_of_definitions_is_no_recursion(vocabulary):
    definitions = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(1500)}
    schema = {"$defs": definitions | {"d1500": {"type": "null"}}, "$ref": "#/$defs/d0"}
    assert spells(vocabulary, schema_to_gbnf(schema), "[[[]]]")


@pytest.mark.model
def test_a_real_vocabulary_writes_what_validates(smollm):
    vocabulary = smollm._engine.vocabulary
    for seed in range(2):
        Tree.model_validate_json(write(vocabulary, schema_to_gbnf(Tree.model_json_schema()), seed))
