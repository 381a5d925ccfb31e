"""Structured answers: what is written under a schema validates, and no grammar reaches llama.cpp unread."""

import datetime
import itertools
import json
import uuid
from enum import Enum
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from leanrag import ConfigurationError, GenerationError
from leanrag.llama.grammar.gbnf import MAX_CHARS, MAX_READINGS, Readings, check_gbnf, read_gbnf
from leanrag.llama.grammar.sampler import Grammar
from leanrag.llama.grammar.schema import schema_to_gbnf
from leanrag.llama.sampling import Sampler, SamplingOptions

GREEDY = Sampler(SamplingOptions())
STRING = {"type": "string"}


@pytest.fixture(scope="module")
def vocabulary(tiny):
    return tiny._engine.vocabulary


def ids(vocabulary, text):
    return vocabulary.tokenize(text, parse_special=False)


def ends(vocabulary):
    return {token for token in vocabulary.control_tokens if vocabulary.is_end(token)}


def write(vocabulary, gbnf, seed, limit=3000):
    """Return a random text under a grammar; what closes becomes ever more probable."""
    random = np.random.default_rng(seed)
    closing = np.zeros(vocabulary.n_tokens, np.float32)
    for character, weight in {'"': 5, "}": 4, "]": 4, ",": -1, "[": -2, "{": -2, "\\": -1}.items():
        closing[ids(vocabulary, character)] = weight
    closing[list(ends(vocabulary))] = 6
    grammar, sampler = Grammar(vocabulary, gbnf), Sampler(SamplingOptions(temperature=1.0, seed=seed))
    written = b""
    for step in range(limit):
        logits = random.normal(0, 3, vocabulary.n_tokens).astype(np.float32) + closing * step / 5
        token = grammar.pick(logits, sampler)
        grammar.accept(token)
        if vocabulary.is_end(token):
            grammar.close()
            return written.decode()
        written += vocabulary.piece(token)
    raise AssertionError(f"no end: {written!r}")


def spells(vocabulary, gbnf, text):
    """Return whether `text` is a whole text of the grammar."""
    grammar = Grammar(vocabulary, gbnf)
    try:
        for token in ids(vocabulary, text):
            grammar.accept(token)
        return bool(grammar._allowed()[list(ends(vocabulary))].all())
    except ConfigurationError:
        return False
    finally:
        grammar.close()


# Schema to grammar

FORMATS = {
    "date": datetime.date.fromisoformat,
    "time": lambda text: datetime.time.fromisoformat(tidy(text)),
    "date-time": lambda text: datetime.datetime.fromisoformat(tidy(text)),
    "uuid": uuid.UUID,
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
    for options in (schema[keyword] for keyword in ("anyOf", "oneOf", "allOf") if keyword in schema):
        return any(is_valid(value, option, root) for option in options)
    values = [schema["const"]] if "const" in schema else schema.get("enum", [value])
    if json.dumps(value) not in map(json.dumps, values):
        return False
    kinds = schema.get("type", [])
    if kinds and not any(is_kind(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    if isinstance(value, str):
        return is_format(value, schema.get("format")) and schema.get("minLength", 0) <= len(value) <= schema.get(
            "maxLength", 10**9
        )
    if isinstance(value, list):
        prefix, rest = schema.get("prefixItems", []), schema.get("items", True)
        return schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9) and all(
            is_valid(item, prefix[i] if i < len(prefix) else rest, root) for i, item in enumerate(value)
        )
    if isinstance(value, dict):
        return is_valid_object(value, schema, root)
    return "integer" not in kinds or (
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


@settings(max_examples=150, deadline=None)
@given(schemas, st.integers(0, 2**32))
@example({"type": "object", "properties": {"": {"const": '"\\\n'}, "é\x7f": STRING}, "required": ["é\x7f"]}, 1)
def test_what_is_written_parses_and_validates(vocabulary, schema, seed):
    schema = {"$defs": {"leaf": {"type": "integer", "minimum": 7, "maximum": 1234}}} | schema
    text = write(vocabulary, schema_to_gbnf(schema), seed)
    assert is_valid(json.loads(text), schema, schema), text


@settings(max_examples=60, deadline=None)
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
        ({"type": "string", "pattern": "a+"}, "#/pattern"),
        ({"type": "string", "contentEncoding": "base64"}, "#/contentEncoding"),
        ({"type": "integer", "multipleOf": 2}, "#/multipleOf"),
        ({"type": "number", "minimum": 0.5}, "#/minimum"),
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
        ({"type": "array", "items": {"type": "string", "pattern": "x"}}, "#/items/pattern"),
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
        ({"type": "string", "format": "email"}, "#/format"),
        ({"type": "string", "format": ["date"]}, "#/format"),
        ({"type": "string", "format": "date", "maxLength": 3}, "#/format"),
        ({"type": "integer", "minimum": 0.5}, "#/minimum"),
        ({"type": "integer", "exclusiveMinimum": True}, "#/exclusiveMinimum"),
        ({"type": "integer", "minimum": float("nan")}, "#/minimum"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "#"),
        ({"type": "integer", "minimum": 10**20}, "#"),
        ({"anyOf": []}, "#/anyOf"),
        ({"allOf": [STRING, STRING]}, "#/allOf"),
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


def test_a_long_chain_of_definitions_is_no_recursion(vocabulary):
    definitions = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(1500)}
    schema = {"$defs": definitions | {"d1500": {"type": "null"}}, "$ref": "#/$defs/d0"}
    assert spells(vocabulary, schema_to_gbnf(schema), "[[[]]]")


# The check of GBNF

BAD = {
    "empty": "",
    "only a comment": "# root",
    "no root": 'start ::= "a"',
    "not a string": None,
    "bytes": b'root ::= "a"',
    "surrogate": 'root ::= "\ud800"',
    "nul": 'root ::= "a\0"',
    "too long": "root ::= " + '"a" ' * (MAX_CHARS // 4),
    "no definition sign": 'root = "a"',
    "no name": '::= "a"',
    "underscore": 'root ::= a_b\na ::= "a"',
    "undefined": "root ::= item",
    "defined twice": 'root ::= "a"\nroot ::= "b"',
    "open literal": 'root ::= "a',
    "open escape": 'root ::= "a\\',
    "open class": "root ::= [a",
    "open range": "root ::= [a-",
    "empty class": "root ::= []",
    "empty negated class": "root ::= [^]",
    "descending range": "root ::= [z-a]",
    "unknown escape": r'root ::= "\q"',
    "short escape": r'root ::= "\x4"',
    "wrong digits": r'root ::= "\u00g0"',
    "no digits": r'root ::= "\x+1"',
    "too large a code point": r'root ::= "\U00110000"',
    "escaped surrogate": r"root ::= [\ud800-\udfff]",
    "open group": 'root ::= ("a"',
    "closed group": 'root ::= "a")',
    "nothing to repeat": "root ::= *",
    "nothing to repeat in an alternative": 'root ::= "a" | +',
    "repeats the empty literal": 'root ::= ""*',
    "two repetitions": 'root ::= "a"*?',
    "huge repetition": 'root ::= "a"{1000000}',
    "huge upper bound": 'root ::= "a"{1,1000000}',
    "endless bound": 'root ::= "a"{' + "9" * 100 + "}",
    "falling bounds": 'root ::= "a"{3,1}',
    "zero times": 'root ::= "a"{0}',
    "no lower bound": 'root ::= "a"{,3}',
    "open bounds": 'root ::= "a"{3',
    "negative bound": 'root ::= "a"{-1}',
    "multiplied repetitions": 'root ::= ("a"{0,1500}){1500}',
    "long literal times many": 'root ::= "' + "a" * 1000 + '"{1000}',
    "many rules": "root ::= " + '"a"{0,2000} ' * 11,
    "10,000 parentheses": "root ::= " + "(" * 10_000 + '"a"' + ")" * 10_000,
    "10,000 open parentheses": "root ::= " + "(" * 10_000,
    "left recursion": 'root ::= root "a" | "b"',
    "itself": "root ::= root",
    "itself or the end": "root ::= root | ",
    "indirect left recursion": 'root ::= a "x"\na ::= b | "y"\nb ::= root',
    "left recursion behind the empty": 'root ::= "a"? root "b" | "c"',
    "left recursion that llama.cpp misses": 'root ::= a root "x" | "y"\na ::= b\nb ::= "b" | ""',
    "unreachable left recursion": 'root ::= "a"\nb ::= b "c" | "d"',
    "loop of the empty": 'root ::= ("a"?)*',
    "loop of the empty, once removed": 'root ::= a+\na ::= b b\nb ::= "b"*',
    "choices without end": 'root ::= ("a"?){200} "b"',
    "no end": 'root ::= "a" root',
    "no end together": 'root ::= "a" b\nb ::= "b" root',
    "deep beginnings": 'root ::= r0\nr2000 ::= "a"\n' + "\n".join(f"r{i} ::= r{i + 1}" for i in range(2000)),
    "2**40 beginnings": 'root ::= r0\nr40 ::= "a"\n'
    + "\n".join(f'r{i} ::= r{i + 1} "x" | r{i + 1}' for i in range(40)),
    "too many readings": "root ::= " + " | ".join(f'"a{i}"' for i in range(MAX_READINGS + 1)),
    "token": 'root ::= <[4]> "a"',
    "named token": "root ::= <|im_end|>",
    "negated token": "root ::= !<[4]>",
    "unicode space": 'root ::=\u00a0"a"',
    "two on one line": 'root ::= "a" b ::= "b"',
    "alternatives on lines": 'root ::= "a"\n| "b"',
}


@pytest.mark.parametrize("name", BAD)
def test_bad_grammars_never_reach_llama_cpp(name):
    class Unreachable:
        """Fails when anything is asked of it."""

    with pytest.raises(ConfigurationError):
        check_gbnf(BAD[name])
    with pytest.raises(ConfigurationError):
        Grammar(Unreachable(), BAD[name])


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ('root ::= "a"\nb ::= [z-a]', "line 2, column 7", "a range that ascends"),
        ('# note\nroot ::= ("a" |\n  item)', "line 3, column 3", "a rule `item` to be defined"),
        ('root ::= "a" )', "line 1, column 14", "the end of the line"),
        ('root ::= "abc', "line 1, column 14", 'a closing `"`, found the end'),
        ('root ::= item "x"\nitem ::= root?', "line 1, column 1", "left recursion"),
        ('root ::= "a"{9999}', "line 1, column 13", "at most 2,000 repetitions"),
        (r'root ::= "\q"', "line 1, column 11", "an escape"),
        ('root ::= "a" b?\nb ::= "b" b', "line 2, column 1", "a way for rule `b` to end"),
        ("root ::= \n", "line 1, column 1", None),
    ],
)
def test_messages_say_where_and_what(text, place, expected):
    if expected is None:
        check_gbnf(text)  # only the empty text, and llama.cpp takes it
        return
    with pytest.raises(ConfigurationError) as caught:
        check_gbnf(text)
    assert place in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("gbnf", "allowed", "refused"),
    [
        ('root ::= "a" | ("b" # note\n | "c")+', ["a", "b", "cbc"], ["", "ab"]),
        ("root ::= ", [""], ["a"]),
        (r"root ::= [^a-c\]\x00-\x1f]{2,3}" + "\r\n", ["dé", "x-y"], ["d", "da", "d]", "wxyz"]),
        (r'root ::= "\x41\u00e9\U0001F600\n"', ["Aé😀\n"], ["A"]),
        ('root ::= [a-] [-b] . "c"{2,}', ["a-xcc", "-béccc"], ["a-xc", "c-xcc"]),
        ('root ::= "a" root "b" | ""', ["", "aabb"], ["aab", "abb"]),
        ('root ::= ("a" "b"?){3} item\nitem ::= "" | "c"', ["aaa", "ababab", "aabac"], ["aa", "abb"]),
        ('root ::= "a\nb"', ["a\nb"], ["ab"]),
    ],
)
def test_the_dialect_is_that_of_llama_cpp(vocabulary, gbnf, allowed, refused):
    assert [text for text in allowed if not spells(vocabulary, gbnf, text)] == []
    assert [text for text in refused if spells(vocabulary, gbnf, text)] == []


atoms = st.sampled_from(
    [*'"a" "ab" "" [a-c] [^a] [a-] . r0 r1 r2 "é" [à-ï] "\\n" [\\x00-\\x20] "b" "c"'.split(), "( )", '[^\\]" ]']
)
bodies = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(" ".join),
        st.lists(inner, min_size=1, max_size=3).map(" | ".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)
grammars = st.tuples(bodies, bodies, bodies).map(
    lambda parts: "root ::= r0\n" + "\n".join(f"r{i} ::= {body}" for i, body in enumerate(parts))
)


@st.composite
def damaged(draw):
    text = draw(grammars)
    for _ in range(draw(st.integers(1, 4))):
        at, to = sorted(draw(st.tuples(st.integers(0, len(text)), st.integers(0, len(text)))))
        text = (
            text[:at]
            + draw(st.sampled_from([*'"[]()|*+?{}\\-^<>!.:=\n# r0é', "{2}", "\\x4", ""]))
            + text[min(to, at + 2) :]
        )
    return text


def passes(text):
    try:
        check_gbnf(text)
    except ConfigurationError:
        return False
    return True


def follow_closely(vocabulary, text, seed, steps=25):
    """Write at random, comparing what llama.cpp allows with what our own reading of the grammar allows."""
    random, grammar = np.random.default_rng(seed), Grammar(vocabulary, text)
    plain = [
        token
        for token in range(vocabulary.n_tokens)
        if len(vocabulary.piece(token)) == 1 and vocabulary.piece(token) < b"\x80"
    ]
    plain = [token for token in plain if token not in vocabulary.control_tokens and vocabulary.piece(token) != b"\0"]
    for _ in range(steps):
        readings, allowed = grammar._readings, grammar._allowed()
        tops = [readings._cells[stack] for stack in readings._stacks if stack]
        chars = [readings._items[option][place] for option, place, _ in tops]
        if not grammar._partial:
            for token in plain:
                point = ord(vocabulary.piece(token))
                ours = any(any(a <= point <= b for a, b in item.ranges) != item.is_negated for item in chars)
                assert allowed[token] == ours, (text, token)
            assert all(allowed[token] == (0 in readings._stacks) for token in ends(vocabulary))
        token = None
        try:
            token = grammar.pick(random.normal(size=vocabulary.n_tokens).astype(np.float32), GREEDY)
            grammar.accept(token)
        except GenerationError:
            break
        if vocabulary.is_end(token):
            break
    grammar.close()


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(grammars, st.integers(0, 2**32))
def test_what_passes_is_read_by_llama_cpp_as_by_us(vocabulary, text, seed):
    assume(passes(text))
    follow_closely(vocabulary, text, seed)


@settings(max_examples=600, deadline=None)
@given(
    st.one_of(
        damaged(),
        st.text(max_size=30),
        st.lists(atoms | st.sampled_from("root ::= | ( ) * { } \n".split(" "))).map(" ".join),
    )
)
def test_no_damage_gets_past_the_check(vocabulary, text):
    for grammar in (text, "root ::= " + text):
        if passes(grammar):
            follow_closely(vocabulary, grammar, 0, steps=5)


# Picking tokens

JSON = schema_to_gbnf({"type": "object", "properties": {"a": STRING}, "required": ["a"]})


@pytest.fixture
def grammar(vocabulary):
    made = Grammar(vocabulary, JSON)
    yield made
    made.close()


def logits_for(vocabulary, *best):
    logits = np.zeros(vocabulary.n_tokens, np.float32)
    for place, token in enumerate(best):
        logits[token] = 10 - place
    return logits


def test_greedy_takes_the_best_allowed_token(vocabulary, grammar):
    (x,), (brace,), (quote,) = (ids(vocabulary, text) for text in 'x{"')
    logits = logits_for(vocabulary, x, quote, brace)
    before = logits.copy()
    assert grammar.pick(logits, GREEDY) == brace
    assert grammar.pick(logits_for(vocabulary, brace), GREEDY) == brace
    assert (logits == before).all()


def test_a_draw_is_the_distribution_restricted_to_what_is_allowed(vocabulary):
    grammar, sampler = Grammar(vocabulary, "root ::= [abc]"), Sampler(SamplingOptions(temperature=1.0, seed=3))
    probabilities = np.full(vocabulary.n_tokens, 1e-6)
    for text, p in {"a": 0.1, "b": 0.05, "c": 0.05, "x": 0.5, "y": 0.3}.items():
        probabilities[ids(vocabulary, text)] = p
    drawn = [grammar.pick(np.log(probabilities).astype(np.float32), sampler) for _ in range(4000)]
    shares = [drawn.count(ids(vocabulary, text)[0]) / 4000 for text in "abc"]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.03)
    assert sum(shares) == pytest.approx(1)


def test_end_tokens_come_exactly_when_the_text_is_complete(vocabulary, grammar):
    end = next(iter(ends(vocabulary)))
    for token in ids(vocabulary, '{"a":"x"}'):
        assert grammar.pick(logits_for(vocabulary, end, token), GREEDY) == token
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(end)
        grammar.accept(token)
    assert grammar.pick(logits_for(vocabulary, *ids(vocabulary, "x")), GREEDY) in ends(vocabulary)
    grammar.accept(end)


def test_control_tokens_are_no_text(vocabulary, grammar):
    for token in ids(vocabulary, '{"a":"'):
        grammar.accept(token)
    control = vocabulary.control_tokens - ends(vocabulary)
    assert {vocabulary.text(token) for token in control} >= {"<|im_start|>", "<tool>"}
    (x,) = ids(vocabulary, "x")
    assert grammar.pick(logits_for(vocabulary, *control, x), GREEDY) == x
    for token in control:
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(token)


@pytest.mark.parametrize(
    "data", [b"\xff", b"\xc0", b"\xe0\x80", b"\xed\xa0", b"\xf0\x80", b"\xf5", b"\xc3(", b"\x80", b"\0"]
)
def test_bytes_that_are_no_text_are_refused(vocabulary, data):
    grammar = Grammar(vocabulary, "root ::= [^a]*")
    tokens = [6 + byte for byte in data]  # the byte tokens of the tiny vocabulary
    assert [vocabulary.piece(token) for token in tokens] == [bytes([byte]) for byte in data]
    for token in tokens[:-1]:
        grammar.accept(token)
    with pytest.raises(ConfigurationError, match="not allowed"):
        grammar.accept(tokens[-1])
    assert grammar.pick(logits_for(vocabulary, tokens[-1]), GREEDY) != tokens[-1]


def test_a_character_may_come_in_pieces(vocabulary):
    grammar = Grammar(vocabulary, 'root ::= "é"')
    first, second = (6 + byte for byte in "é".encode())
    (x,) = ids(vocabulary, "x")
    for token in (first, second):
        assert grammar.pick(logits_for(vocabulary, x, *ends(vocabulary)), GREEDY) == token
        grammar.accept(token)
    assert grammar.pick(logits_for(vocabulary, x), GREEDY) in ends(vocabulary)


def test_a_dead_end_is_an_error(vocabulary):
    grammar = Grammar(vocabulary, r'root ::= "a" [\x00]')
    (a,) = ids(vocabulary, "a")
    grammar.accept(a)
    with pytest.raises(GenerationError, match="no token of the model is allowed next"):
        grammar.pick(logits_for(vocabulary, a), GREEDY)


def test_ambiguity_ends_before_the_memory_does(vocabulary):
    grammar = Grammar(vocabulary, 'root ::= "a" root "b" | "a" root "c" | "d"')
    (a,) = ids(vocabulary, "a")
    for _ in range(8):
        grammar.accept(a)
    with pytest.raises(GenerationError, match="more than 1,000 ways"):
        grammar.accept(a)  # 3 * 2**9 ways


def test_nothing_impossible_is_accepted(vocabulary, grammar):
    for token in (-1, vocabulary.n_tokens, 2**31 - 1, *ids(vocabulary, "x")):
        with pytest.raises(ConfigurationError, match="not allowed"):
            grammar.accept(token)
    with pytest.raises(ConfigurationError, match="`logits` must be of shape"):
        grammar.pick(np.zeros(3, np.float32), GREEDY)
    assert grammar.pick(np.full(vocabulary.n_tokens, np.nan, np.float32), GREEDY) == ids(vocabulary, "{")[0]


def test_a_closed_grammar_says_so(vocabulary):
    grammar = Grammar(vocabulary, JSON)
    grammar.close()
    grammar.close()
    with pytest.raises(ConfigurationError, match="closed"):
        grammar.pick(logits_for(vocabulary, 0), GREEDY)
    with pytest.raises(ConfigurationError, match="closed"):
        grammar.accept(0)


@pytest.mark.model
def test_a_real_vocabulary_writes_what_validates(smollm):
    vocabulary = smollm._engine.vocabulary
    for seed in range(2):
        Tree.model_validate_json(write(vocabulary, schema_to_gbnf(Tree.model_json_schema()), seed))


# Work within a token


def shared_lengths(texts):
    return [
        next((n for n in range(min(len(a), len(b))) if a[n] != b[n]), min(len(a), len(b)))
        for a, b in itertools.pairwise(["", *texts])
    ]


@pytest.mark.parametrize("texts", [[" " * 64], [" " * n for n in range(65)], [" " * 63 + "x", " " * 63 + "y"]])
def test_ambiguity_within_a_text_is_bounded(texts):
    for grammar in (
        'root ::= (" " | " "){1,10} "x"',
        'root ::= " "{1,64} ("x" | "y")',
        'root ::= (" " | " ")+ "x"?',  # as ambiguous, but the first way reads the spaces to their end
    ):
        if "+" not in grammar or not texts[-1].endswith("y"):  # a y after spaces is refused, in each way
            Readings(read_gbnf(grammar)).check_work(texts, shared_lengths(texts))
    with pytest.raises(GenerationError, match="could take more than 2,00"):
        Readings(read_gbnf('root ::= (" " | " "){1,40} "x"')).check_work(texts, shared_lengths(texts))


def test_work_is_counted_at_the_place_that_was_reached():
    readings = Readings(read_gbnf('root ::= "a" (" " | " "){1,40} "x"'))
    readings.check_work(["", " " * 64], [0, 0])  # nothing of it may come
    readings.follow("a")
    with pytest.raises(GenerationError, match="Make its alternatives begin differently"):
        readings.check_work(["", " " * 64], [0, 0])
    readings.follow(" " * 40)
    readings.check_work(["", " " * 64], [0, 0])


def steps_from(readings, stack, text):
    """Steps to test the rest of a text from one stack, way by way, in the worst order; and whether it is read to its end."""
    if not text:
        return 0, True
    outcomes = [steps_from(readings, found, text[1:]) for found in readings._after(stack, text[0])]
    in_vain = sum(1 + steps for steps, is_read in outcomes if not is_read)
    accepted = [1 + steps for steps, is_read in outcomes if is_read]
    return in_vain + max(accepted, default=0), bool(accepted)


def steps_at(readings, text):
    outcomes = [steps_from(readings, stack, text) for stack in readings._stacks]
    accepted = [steps for steps, is_read in outcomes if is_read]
    return sum(steps for steps, is_read in outcomes if not is_read) + max(accepted, default=0)


@given(st.lists(st.text("ab .", max_size=8), min_size=1, max_size=12, unique=True).map(sorted), st.integers(1, 5))
def test_work_is_what_following_each_way_takes(texts, most):
    grammar = read_gbnf(f'root ::= ("a" | "ab" | [a-b]){{1,{most}}} " "?')
    work = sum(steps_at(Readings(grammar), text) for text in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrag.llama.grammar.gbnf.WORK_PER_TEXT", 0)
        patch.setattr("leanrag.llama.grammar.gbnf.MAX_WORK", work)
        Readings(grammar).check_work(texts, shared_lengths(texts))
        patch.setattr("leanrag.llama.grammar.gbnf.MAX_WORK", work - 1)
        with pytest.raises(GenerationError):
            Readings(grammar).check_work(texts, shared_lengths(texts))


@given(st.lists(st.text("ab .", max_size=8), min_size=1, max_size=12, unique=True).map(sorted))
def test_a_grammar_with_one_way_costs_its_characters(texts):
    grammar = read_gbnf('root ::= [a-b]+ "."')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("leanrag.llama.grammar.gbnf.WORK_PER_TEXT", 0)
        patch.setattr(
            "leanrag.llama.grammar.gbnf.MAX_WORK", 2 * sum(map(len, texts))
        )  # a letter or a full stop may come next
        Readings(grammar).check_work(texts, shared_lengths(texts))


@pytest.mark.model
def test_an_ambiguous_grammar_ends_with_an_error_and_the_model_goes_on(smollm):
    with pytest.raises(GenerationError, match="Make its alternatives begin differently"):
        smollm.generate("abc", max_tokens=5, grammar='root ::= (" " | " "){1,40} "x"')
    assert smollm.generate("abc", max_tokens=9, grammar='root ::= ("-" | "-")* "x"').usage.completion_tokens > 0
