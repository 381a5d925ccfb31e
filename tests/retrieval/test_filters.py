"""Conditions of `where`, and the same conditions in plain Python."""

import datetime
import fnmatch
import math
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.retrieval.store import Entry, Store
from leanrag.types import Chunk, Document
from tests.examples import max_examples

DAY = datetime.date(2024, 3, 5)


def fill(store: Store, documents: list[Document]) -> None:
    store.bind("embedder", 1, "whole")
    row = np.ones((1, 1), np.float32)
    store.put_many(Entry(doc, [Chunk(doc.id, 0, 1, "x")], row) for doc in documents)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    metadata = [
        {"year": 2019, "tags": ["a", "b"], "day": DAY, "author": "Ann"},
        {"year": 2020.5, "tags": ["c"], "day": datetime.datetime(2024, 3, 5, 10), "author": None},
        {"year": 2024, "tags": [], "source": "crawler", "draft": True},
        {"year": "2024", "tags": {"b", 7}, "any": 1, "not": "x"},
        {},
    ]
    sources = ["/kb/docs/a.md", "/kb/docs/deep/b.md", "C:\\kb\\docs\\c[1].txt", None, "/kb/docs2/a.md"]
    with Store(tmp_path_factory.mktemp("kb")) as store:
        fill(
            store,
            [
                Document("x", id=str(i), metadata=values, source=source)
                for i, (values, source) in enumerate(zip(metadata, sources, strict=True), start=1)
            ],
        )
        yield store


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"year": {">=": 2020}}, [2, 3]),
        ({"year": {"gte": 2020, "lt": 2024}}, [2]),
        ({"year": {"$gt": 2019, "$lte": 2024}}, [2, 3]),
        ({"year": {">=": "2020"}}, [4]),
        ({"year": {"=": 2024}}, [3]),
        ({"year": {"!=": 2024}}, [1, 2, 4, 5]),
        ({"year": [2019, "2024"]}, [1, 4]),
        ({"year": {"in": [2019, 2024.0]}}, [1, 3]),
        ({"year": {"$nin": [2019, 2024]}}, [2, 4, 5]),
        ({"year": {"not in": ()}}, [1, 2, 3, 4, 5]),
        ({"year": []}, []),
        ({"tags": "b"}, [1, 4]),
        ({"tags": ["a", "c", 7]}, [1, 2, 4]),
        ({"tags": {"!=": "b"}}, [2, 3, 5]),
        ({"tags": {">=": "b", "<": "c"}}, [1, 4]),
        ({"tags": {"exists": True}}, [1, 2, 4]),
        ({"author": {"exists": False}}, [3, 4, 5]),
        ({"author": None}, [2]),
        ({"author": [None, "Ann"]}, [1, 2]),
        ({"draft": True}, [3]),
        ({"draft": 1}, [3]),
        ({"day": DAY}, [1]),
        ({"day": {">=": DAY}}, [1, 2]),
        ({"day": {">": "2024-03-05"}}, [2]),
        ({"any": [{"year": 2019}, {"tags": "c"}]}, [1, 2]),
        ({"$or": [{"year": 2019}, {"tags": "c"}], "author": "Ann"}, [1]),
        ({"all": [{"year": {">": 2000}}, {"year": {"<": 2020}}]}, [1]),
        ({"$and": []}, [1, 2, 3, 4, 5]),
        ({"any": []}, []),
        ({"not": {"tags": "b"}}, [2, 3, 5]),
        ({"$not": {"any": [{"tags": "b"}, {"year": 2024}]}}, [2, 5]),
        ({"any": 1}, [4]),
        ({"not": "x"}, [4]),
        ({"source": "docs"}, [1, 2, 3]),
        ({"source": "docs/"}, [1, 2, 3]),
        ({"source": "./docs/a.md"}, [1]),
        ({"source": "a.md"}, [1, 5]),
        ({"source": ["a.md", "deep"]}, [1, 2, 5]),
        ({"source": "*.md"}, [1, 2, 5]),
        ({"source": "docs/*.md"}, [1, 2]),
        ({"source": "/kb/docs"}, [1, 2]),
        ({"source": Path("/kb/docs/a.md")}, [1]),
        ({"source": "C:\\kb"}, [3]),
        ({"source": "c[1].txt"}, [3]),
        ({"source": "crawler"}, [3]),
        ({"source": None}, [4]),
        ({"source": {"not in": ["docs"]}}, [4, 5]),
        ({"source": {"!=": "a.md"}}, [2, 3, 4]),
        ({"source": "ocs"}, []),
        ({"x' OR 1 --": {"=": 1}}, []),
    ],
)
def test_conditions(store, where, ids):
    assert store.filter_ids(where).tolist() == ids


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ({"year": {"=>": 1}}, "'year' has the unknown operator '=>'; use one of =, "),
        ({"year": {"$regex": "a"}}, "unknown operator"),
        ({"year": {}}, "has no operator"),
        ({"year": {">": None}}, "must have a number, a text or a date, got None"),
        ({"year": {">": [1]}}, "must be a str"),
        ({"year": {"in": 4}}, "must have a list, got 4"),
        ({"year": {"exists": 1}}, "must be True or False"),
        ({"year": b"x"}, "must be a str"),
        ({"year": math.nan}, "finite"),
        ({"year": [2**64]}, "64 bits"),
        ({"year": list(range(40_000))}, "at most 30000 values"),
        ({"source": {">": "a"}}, "'source' allows only"),
        ({1: 2}, "names in a filter must be str"),
        ([("year", 1)], "must be a mapping"),
        ({"any": [{"x": 1}, 3]}, "must be a str"),
    ],
)
def test_what_cannot_be_compared_is_refused(store, where, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        store.filter_ids(where)


def test_deep_nesting_is_refused_and_long_lists_are_not(store):
    where: dict = {"year": 2024}
    for _ in range(20):
        where = {"not": where}
    assert store.filter_ids(where).tolist() == [3]
    for _ in range(2000):
        where = {"not": where}
    with pytest.raises(ConfigurationError, match="20 deep"):
        store.filter_ids(where)
    assert store.filter_ids({"year": list(range(20_000))}).tolist() == [1, 3]
    assert store.filter_ids({"any": [{"year": n} for n in range(2015, 2025)]}).tolist() == [1, 3]


def test_lists_and_dates_come_back_as_json_has_them(store):
    assert store.get_document("1").metadata == {"year": 2019, "tags": ["a", "b"], "day": "2024-03-05", "author": "Ann"}
    assert store.get_document("4").metadata["tags"] == [7, "b"]


# The same in plain Python

SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.5]) | st.text("ab\ud800", max_size=2)
)
COMPARED = st.integers(-3, 3) | st.sampled_from([0.5, 1.0]) | st.text("ab\ud800", max_size=2)
NAMES = st.sampled_from(["x", "y", "z"])
OPERATORS = (
    st.dictionaries(st.sampled_from(["<", "<=", ">", ">="]), COMPARED, min_size=1, max_size=2)
    | st.dictionaries(st.sampled_from(["=", "!="]), SCALARS, min_size=1)
    | st.dictionaries(st.sampled_from(["in", "not in"]), st.lists(SCALARS, max_size=3), min_size=1)
    | st.fixed_dictionaries({"exists": st.booleans(), ">": COMPARED})
)
FIELDS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3) | OPERATORS, max_size=2)
CONDITIONS = st.recursive(
    FIELDS | st.fixed_dictionaries({"source": st.sampled_from(["d", "d/a", "*.md", "/k/d", "b.md"])}),
    lambda inner: (
        st.fixed_dictionaries({"any": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"all": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"not": inner})
    ),
    max_leaves=5,
)
METADATA = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=3), max_size=3)
SOURCES = st.sampled_from([None, "/k/d/a", "/k/d/b.md", "/k/e/b.md", "/k/d2/a"])


def equals(stored, value):
    if stored is None or value is None:
        return stored is value
    return isinstance(stored, str) == isinstance(value, str) and stored == value


def compares(operator, stored, value):
    if operator == "=":
        return equals(stored, value)
    if stored is None or isinstance(stored, str) != isinstance(value, str):
        return False
    return {"<": stored < value, "<=": stored <= value, ">": stored > value, ">=": stored >= value}[operator]


def matches(where, metadata, source):
    return all(entry_matches(name, value, metadata, source) for name, value in where.items())


def entry_matches(name, value, metadata, source):
    if name in ("any", "all"):
        return {"any": any, "all": all}[name](matches(part, metadata, source) for part in value)
    if name == "not":
        return not matches(value, metadata, source)
    if name == "source":
        return source is not None and path_matches(value, source)
    stored = metadata.get(name, [])
    stored = stored if isinstance(stored, list) else [stored]
    if isinstance(value, list):
        return any(equals(each, wanted) for each in stored for wanted in value)
    if not isinstance(value, dict):
        return any(equals(each, value) for each in stored)
    of_value = {key: wanted for key, wanted in value.items() if key in ("=", "<", "<=", ">", ">=")}
    results = (
        [any(all(compares(key, each, wanted) for key, wanted in of_value.items()) for each in stored)]
        if of_value
        else []
    )
    if "!=" in value:
        results.append(not any(equals(each, value["!="]) for each in stored))
    if "in" in value:
        results.append(any(equals(each, wanted) for each in stored for wanted in value["in"]))
    if "not in" in value:
        results.append(not any(equals(each, wanted) for each in stored for wanted in value["not in"]))
    if "exists" in value:
        results.append(bool(stored) == value["exists"])
    return all(results)


def path_matches(pattern, source):
    paths = [str(path) for path in (PurePosixPath(source), *PurePosixPath(source).parents)]
    return any(fnmatch.fnmatchcase(path, pattern if pattern.startswith("/") else f"*/{pattern}") for path in paths)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("kb")) as store:
        yield store


@max_examples(150)
@given(
    documents=st.lists(st.tuples(METADATA, SOURCES), min_size=1, max_size=6),
    conditions=st.lists(CONDITIONS, max_size=8),
)
@pytest.mark.slow
def test_sql_finds_what_plain_python_finds(empty_store, documents, conditions):
    empty_store.remove([str(i) for i in range(6)])
    fill(
        empty_store,
        [Document("x", id=str(i), metadata=values, source=source) for i, (values, source) in enumerate(documents)],
    )
    ids = empty_store.chunk_ids().tolist()
    for where in conditions:
        expected = [i for i, (values, source) in zip(ids, documents, strict=True) if matches(where, values, source)]
        assert empty_store.filter_ids(where).tolist() == expected, where
