"""Filters on tags allow what the same filters allow in SQLite."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.retrieval.store import Store
from leanrag.retrieval.tags import AllOf, HasTag, Not, tag_filter, tags_of
from leanrag.types import Chunk, Document
from tests.examples import max_examples

VALUES = [None, True, 0, 1, 1.0, 1.5, -0.0, 2**60, float(2**60), 2**60 + 1, "", "1", "a", "ä", "\udc80"]
METADATA = [
    {},
    *({"x": value} for value in VALUES),
    {"x": VALUES, "y": "a"},
    {"x": ["a", 1.0], "\udc80": [None]},
    {"y": [], "source": "a"},
]
NAMES = st.sampled_from(["x", "y", "\udc80"])
SCALARS = st.sampled_from(VALUES)
LISTS = st.lists(SCALARS, max_size=3)
COMPARISONS = st.dictionaries(st.sampled_from(["=", "eq", "$ne", "!="]), SCALARS, min_size=1, max_size=2) | st.one_of(
    st.fixed_dictionaries({"in": LISTS}), st.fixed_dictionaries({"$nin": LISTS, "exists": st.booleans()})
)
FIELDS = st.dictionaries(NAMES, SCALARS | LISTS | COMPARISONS, max_size=2)


def _nested(filters):
    groups = st.dictionaries(st.sampled_from(["any", "$or", "all", "and"]), st.lists(filters, max_size=3), max_size=2)
    return groups | st.fixed_dictionaries({"not": filters})


FILTERS = st.recursive(FIELDS, _nested, max_leaves=6)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("tags")) as store:
        store.bind("embedder", 2, "chunker")
        for i, metadata in enumerate(METADATA):
            document = Document("x", id=str(i), metadata=metadata)
            store.put(document, [Chunk(str(i), 0, 1, "x")], np.array([[1, 0]], np.float32))
        yield store


def matches(tags, condition):
    if isinstance(condition, HasTag):
        return bool(set(tags) & set(condition.tags))
    if isinstance(condition, Not):
        return not matches(tags, condition.part)
    return (all if isinstance(condition, AllOf) else any)(matches(tags, part) for part in condition.parts)


@max_examples(300)
@given(where=FILTERS)
@pytest.mark.slow
def test_tags_tell_what_sqlite_tells(store, where):
    rows, _ = next(store.outbox.all_chunks(0, 1000, 2))
    condition = tag_filter(where)
    allowed = [number for number, tags in zip(rows.ids.tolist(), rows.tags, strict=True) if matches(tags, condition)]
    assert allowed == store.filter_ids(where).tolist()


@pytest.mark.parametrize(
    "where",
    [{"x": {">=": 1}}, {"x": {"=": 1, "<": 2}}, {"source": "docs/"}, {"any": [{"x": 1}, {"not": {"source": "a"}}]}],
)
def test_order_and_files_are_left_to_sqlite(where):
    assert tag_filter(where) is None


def test_a_document_has_a_tag_for_each_name_and_each_value():
    assert len(tags_of([("x", 1), ("x", 2), ("y", "1")])) == 5
    assert tags_of([]) == ()
    assert tags_of([("x", 1)]) == tags_of([("x", 1.0)])
    assert len(set(tags_of([("x", 1)])) & set(tags_of([("x", "1")]))) == 1
