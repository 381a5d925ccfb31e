"""Patterns, decimal bounds, formats, large lengths, merged schemas: what is allowed, and what pydantic's models become."""

import datetime
import decimal
import enum
import json
import re
import uuid
from typing import Annotated, Literal

import pydantic
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from leanrag import ConfigurationError
from leanrag.llama.grammar.gbnf import Readings, read_gbnf
from leanrag.llama.grammar.patterns import PatternError, read_patterns
from leanrag.llama.grammar.schema import schema_to_gbnf
from tests.examples import max_examples
from tests.llama.grammar.writing import write


def allows(schema, text):
    readings = Readings(read_gbnf(schema_to_gbnf(schema)))
    readings.follow(text)
    return 0 in readings._stacks


def string(**keywords):
    return {"type": "string", **keywords}


@pytest.mark.parametrize(
    ("pattern", "allowed", "refused"),
    [
        ("^[A-Z]{2}-[0-9]+$", ["AB-1", "ZZ-007"], ["AB-", "xAB-1", "AB-1 "]),
        ("a+", ["a", "xay", '\n"a\\'], ["", "xyz"]),
        ("^ab|cd$", ["abx", "xcd", "ab"], ["xab", "cdx"]),
        (r"^(?:\d{3}|\(\d\))?\s?[^\W_]{2,3}?$", ["123ab", "(1) abc", "xy"], ["12ab", "_ab", "abcd"]),
        (r"^\x41\u00e9\.\/$", ["Aé./"], ["Aéx/"]),
        (r"^(?=.*\d)(?!0).{2}$", ["1a", "a1", "10"], ["01", "ab", "a"]),
        ("^(a|b)*c{2,}$", ["cc", "abacc"], ["c", "abc"]),
        (r"^[\s\S]{0,2}$", ["", "é\n"], ["abc"]),
        ("^a?$", ["", "a"], ["aa"]),
        ("^[]-]$".replace("[]", "[\\]"), ["]", "-"], ["["]),
        ("x{y}", ["x{y}"], ["xy"]),
        ("(?<year>[0-9]{4})$", ["in 2024"], ["2024 x"]),
    ],
)
def test_what_a_pattern_allows(pattern, allowed, refused):
    schema = string(pattern=pattern)
    assert [text for text in allowed if not allows(schema, json.dumps(text, ensure_ascii=False))] == []
    assert [text for text in refused if allows(schema, json.dumps(text, ensure_ascii=False))] == []
    assert all(re.search(pattern.replace("?<year", "?P<year"), text) for text in allowed)


@pytest.mark.parametrize(
    ("pattern", "construct"),
    [
        (r"(a)\1", "a backreference"),
        (r"\bword\b", "a word boundary"),
        ("(?<=a)b", "a lookbehind"),
        ("(?<!a)b", "a lookbehind"),
        ("(?i)a", "a group with flags"),
        ("(?i:a)", "a group with flags"),
        ("(?>a)", "an atomic group"),
        (r"\p{L}+", "a Unicode property"),
        (r"\Aa\Z", "an anchor other than"),
        ("a++", "a possessive repetition"),
        ("a**", "a repetition of nothing"),
        ("*a", "a repetition of nothing"),
        ("a{3,1}", "falling bounds"),
        ("(a", "`(` without"),
        ("a)", "`)` without"),
        ("[a", "`[` without"),
        ("[]", "an empty class"),
        ("[z-a]", "a range that does not ascend"),
        ("[[:alpha:]]", "a named class"),
        (r"\q", "this escape"),
        ("a\\", "this escape"),
        (r"\ud800", "a surrogate"),
        ("^(a$)*", "within a repetition"),
        ("a*^b", "`^` behind something"),
        ("^$a", "no text"),
        ("^(.*a){3}.{40}$|(a|b)*a.{12}", "more than 1,500 states"),
        ("(" * 30 + ")" * 30, "more than 20 groups"),
        ("a" * 501, "at most 500"),
    ],
)
def test_a_refused_pattern_names_its_construct(pattern, construct):
    with pytest.raises(ConfigurationError, match="'#/pattern'") as caught:
        schema_to_gbnf(string(pattern=pattern))
    assert construct in str(caught.value)


atoms = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\W", "1", "é", "(?=a)", "(?!b)", "^", "$"])
regexes = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


@max_examples(150)
@given(regexes, st.lists(st.text("ab1 é", max_size=4), max_size=8), st.integers(0, 2), st.integers(2, 4))
def test_a_pattern_is_read_as_python_reads_it(pattern, texts, least, most):
    try:
        states = read_patterns([pattern], least, most)
    except PatternError as error:
        assume("no text" in str(error))
        states = []
    for text in texts:
        state = 0 if states else None
        for character in text:
            if state is not None:
                follows = (
                    target for ranges, target in states[state].steps if any(a <= ord(character) <= b for a, b in ranges)
                )
                state = next(follows, None)
        is_matched = state is not None and states[state].is_final
        expected = least <= len(text) <= most and re.search(pattern, text, re.ASCII) is not None
        assert is_matched == expected or ("é" in text and not is_matched)  # only ASCII is certain for \W


numbers = st.decimals(-1000, 1000, allow_nan=False, places=3).map(float) | st.integers(-30, 30)


@max_examples(150)
@given(numbers, numbers, st.booleans(), st.booleans(), st.lists(numbers, min_size=1, max_size=6))
def test_decimal_bounds_are_exact(one, other, is_open_low, is_open_high, values):
    low, high = sorted([one, other])
    schema = {
        "type": "number",
        "exclusiveMinimum" if is_open_low else "minimum": low,
        "exclusiveMaximum" if is_open_high else "maximum": high,
    }
    try:
        readings = schema_to_gbnf(schema)
    except ConfigurationError:
        assert low == high
        assert is_open_low or is_open_high
        return
    for value in [*values, low, high, (low + high) / 2]:
        text = format(decimal.Decimal(repr(value)).normalize(), "f")
        if len(text) < 14:
            reading = Readings(read_gbnf(readings))
            reading.follow(text)
            inside = (low < value if is_open_low else low <= value) and (
                value < high if is_open_high else value <= high
            )
            assert (0 in reading._stacks) == inside, text


@pytest.mark.parametrize("bound", [1, 10, 0.1, 12345.678, 9007199254740993, 0.1 + 0.2, 1e-12])
def test_a_float_of_the_text_is_within_an_open_bound(vocabulary, bound):
    for seed in range(6):
        near = {"type": "number", "minimum": bound - abs(bound) / 1e13, "exclusiveMaximum": bound}
        try:
            gbnf = schema_to_gbnf(near)
        except ConfigurationError as error:
            assert "no number" in str(error)
            return
        assert float(write(vocabulary, gbnf, seed)) < bound


@pytest.mark.parametrize("size", [2001, 5000, 20_000])
@pytest.mark.slow
def test_large_lengths_need_few_rules(size):
    gbnf = schema_to_gbnf(string(maxLength=size))
    assert len(gbnf) < 1000
    readings = Readings(read_gbnf(gbnf))
    readings.follow('"' + "x" * size)
    assert len(readings._stacks) < 10
    readings.follow('"')
    assert 0 in readings._stacks
    assert not allows(string(maxLength=size), '"' + "x" * (size + 1) + '"')


def test_large_numbers_of_items_are_exact():
    schema = {"type": "array", "items": {"const": 1}, "minItems": 700, "maxItems": 2600}
    counts = [0, 1, 699, 700, 701, 956, 1500, 2599, 2600, 2601]
    assert [n for n in counts if allows(schema, f"[{','.join('1' * n)}]")] == [700, 701, 956, 1500, 2599, 2600]


@pytest.mark.slow
def test_a_pattern_with_a_large_length_writes_shorter_texts():
    schema = string(pattern="^[a-z]+$", minLength=3, maxLength=5000)
    assert [n for n in (2, 3, 400) if allows(schema, f'"{"x" * n}"')] == [3, 400]


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("email", ["ada.park@mail.example.org", "a@b.de"], ["a@b", "@b.de", "a b@c.de"]),
        ("uri", ["https://example.org", "http://a.example.org/b/c.html?x=1#y"], ["example.org", "ftp:x", "http://"]),
        ("ipv4", ["127.0.0.1", "255.255.255.255"], ["256.1.1.1", "01.1.1.1", "1.2.3"]),
        ("uuid", ["01234567-89ab-cdef-0123-456789abcdef"], ["0123"]),
        ("date", ["2024-12-31"], ["2023-02-30"]),
        ("duration", ["P3D", "PT5S", "P1DT2H30M0S"], ["P", "PT", "3D"]),
    ],
)
@pytest.mark.slow
def test_what_a_format_allows(name, allowed, refused):
    assert [text for text in allowed if not allows(string(format=name), f'"{text}"')] == []
    assert [text for text in refused if allows(string(format=name), f'"{text}"')] == []


NAMED = {"type": "object", "properties": {"name": string(), "age": {"type": "integer"}}, "required": ["name"]}


@pytest.mark.parametrize(
    ("schema", "allowed", "refused"),
    [
        (
            {"allOf": [{"type": "integer", "minimum": 1}, {"type": "number", "maximum": 3.5}]},
            ["1", "3"],
            ["0", "4", "1.5"],
        ),
        ({"allOf": [string(minLength=2), string(maxLength=3)]}, ['"ab"', '"abc"'], ['"a"', '"abcd"']),
        ({"allOf": [string(pattern="^a"), string(pattern="z$")]}, ['"az"', '"abz"'], ['"ab"', '"bz"']),
        ({"allOf": [{"enum": [1, 2, 3]}, {"enum": [3, 4, 1]}]}, ["1", "3"], ["2", "4"]),
        ({"allOf": [{"enum": [1, "a"]}, {"type": "string"}]}, ['"a"'], ["1"]),
        ({"minLength": 2, "allOf": [{"type": "string"}]}, ['"ab"'], ['"a"']),
        (
            {
                "$defs": {"named": NAMED},
                "allOf": [
                    {"$ref": "#/$defs/named"},
                    {"properties": {"age": {"minimum": 18}, "id": {"type": "null"}}, "required": ["age"]},
                ],
            },
            ['{"name":"x","age":18}', '{"name":"x","age":20,"id":null}'],
            ['{"name":"x"}', '{"name":"x","age":17}', '{"age":18}'],
        ),
        (
            {"allOf": [{"anyOf": [string(), {"type": "null"}]}, {"anyOf": [string(maxLength=1), {"type": "integer"}]}]},
            ['"a"', '""'],
            ['"ab"', "null", "1"],
        ),
        (
            {"allOf": [NAMED | {"additionalProperties": False}, {"properties": {"other": True}}]},
            ['{"name":""}'],
            ['{"name":"","other":1}'],
        ),
        (
            {"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 1, "maxItems": 2},
            ['["a"]', '["c"]', '["a", "c"]', '["b","c"]'],
            ["[]", '["a","a"]', '["a","b","c"]'],
        ),
        ({"type": "array", "items": string(), "uniqueItems": True, "maxItems": 1}, ['["x"]', "[]"], ['["x","y"]']),
        ({"type": "integer", "minimum": 0.5, "maximum": 2.5}, ["1", "2"], ["0", "3"]),
    ],
)
def test_what_merged_schemas_and_unique_items_allow(schema, allowed, refused):
    assert [text for text in allowed if not allows(schema, text)] == []
    assert [text for text in refused if allows(schema, text)] == []


# Models of pydantic


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Inner(BaseModel):
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{2,4}$")]
    share: float = Field(ge=0, le=1)


ALLOWED = {
    "optional": int | None,
    "literal": Literal["a", 1, True, None],
    "enum": Colour,
    "nested": list[Inner],
    "mapping": dict[str, int],
    "bounded list": Annotated[list[Annotated[int, Field(gt=0, lt=5)]], Field(min_length=1, max_length=3)],
    "length": Annotated[str, Field(min_length=2, max_length=4)],
    "long": Annotated[str, Field(max_length=5000)],
    "pattern": Annotated[str, Field(pattern="^(on|off)$")],
    "share": Annotated[float, Field(gt=0, lt=1)],
    "small": Annotated[float, Field(ge=-0.25, le=0.001)],
    "decimal": decimal.Decimal,
    "bounded decimal": Annotated[decimal.Decimal, Field(ge=0, le=decimal.Decimal("9.99"))],
    "date": datetime.date,
    "time": datetime.time,
    "datetime": datetime.datetime,
    "timedelta": datetime.timedelta,
    "uuid": uuid.UUID,
    "uuid4": pydantic.UUID4,
    "url": pydantic.HttpUrl,
    "secret": pydantic.SecretStr,
    "set": set[Literal["a", "b", "c"]],
    "set of an enum": Annotated[frozenset[Colour], Field(min_length=1)],
    "tuple": tuple[int, str, Inner | None],
    "bytes": bytes,
    "union": Inner | list[bool] | None,
}


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.slow
def test_a_type_of_pydantic_reads_what_was_written(vocabulary, name):
    adapter = pydantic.TypeAdapter(ALLOWED[name])
    gbnf = schema_to_gbnf(adapter.json_schema())
    for seed in range(4):
        adapter.validate_json(write(vocabulary, gbnf, seed))


@pytest.mark.parametrize(
    ("kind", "keyword"),
    [
        (set[int], "uniqueItems"),
        (Annotated[int, Field(multiple_of=3)], "multipleOf"),
        (Annotated[float, Field(multiple_of=0.5)], "multipleOf"),
        (Annotated[str, Field(pattern=r"\bword\b")], "pattern"),
        (pydantic.IPvAnyAddress, "format"),
        (pydantic.PostgresDsn, "format"),
        (Annotated[dict[str, int], Field(min_length=1)], "minProperties"),
        (dict[Annotated[str, Field(max_length=3)], int], "propertyNames"),
    ],
)
def test_a_type_that_a_grammar_cannot_keep_to_is_refused_by_keyword(kind, keyword):
    with pytest.raises(ConfigurationError, match=f"/{keyword}'"):
        schema_to_gbnf(pydantic.TypeAdapter(kind).json_schema())
