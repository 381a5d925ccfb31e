from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.retrieval.expanding import ExpandingRetriever, grow
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document, Hit, Mark

TEXT = "Alpha one. Alpha two.\n\nBeta one. Beta two. Beta three. "
EDGES = [(0, 11, "A"), (11, 21, "A"), (23, 33, "B"), (33, 43, "B"), (43, 55, "B")]
MARKS = (Mark(0, "page 1"), Mark(23, "page 2"), Mark(43, "page 3"))


class Ranked:
    """A retriever that returns stored chunks by their numbers."""

    def __init__(self, store: Store, numbers: list[int]) -> None:
        self.hits = [Hit(chunk, 1 / (i + 1)) for i, chunk in enumerate(store.get_chunks(numbers))]

    def retrieve(self, question, k, *, where=None):
        return self.hits[:k]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with Store(tmp_path_factory.mktemp("expanding") / "kb") as store:
        store.bind("same", 2, "by hand")
        chunks = [Chunk("d", start, end, TEXT[start:end], "T", heading) for start, end, heading in EDGES]
        vectors = np.tile(np.array([1, 0], np.float32), (len(chunks), 1))
        store.put(Document(TEXT, id="d", title="T", marks=MARKS), chunks, vectors)
        yield store


def expand(store: Store, numbers: list[int], k: int = 5, **options) -> list[str]:
    hits = ExpandingRetriever(Ranked(store, numbers), store, **options).retrieve("?", k)
    for hit in hits:
        assert hit.chunk.text == TEXT[hit.chunk.start : hit.chunk.end]
    return [hit.chunk.text for hit in hits]


def test_neighbours_are_added_on_both_sides(store):
    assert expand(store, [4]) == [TEXT[23:]]
    assert expand(store, [2]) == [TEXT[:33]]
    assert expand(store, [1], neighbours=2) == [TEXT[:33]]


def test_a_section_is_what_has_the_same_headings(store):
    assert expand(store, [4], by="section") == [TEXT[23:]]
    assert expand(store, [1], by="section") == [TEXT[:21]]


def test_a_span_keeps_to_its_most_characters(store):
    assert expand(store, [4], by="section", most_chars=30) == [TEXT[33:]]
    assert expand(store, [4], by="section", most_chars=3) == [TEXT[33:43]]


def test_a_hit_in_a_better_one_is_left_out_and_none_overlap(store):
    assert expand(store, [4, 5, 3, 1]) == [TEXT[23:], TEXT[:21]]
    assert expand(store, [5, 3]) == [TEXT[33:], TEXT[11:33]]


def test_the_first_hits_fill_what_was_asked_for(store):
    assert expand(store, [4, 5, 1], k=2) == [TEXT[23:], TEXT[:21]]
    assert expand(store, [4, 5, 1], k=1) == [TEXT[23:]]


def test_a_span_has_the_place_of_its_beginning_and_the_score_of_its_hit(store):
    hit = ExpandingRetriever(Ranked(store, [4]), store).retrieve("?", 1)[0]
    assert (hit.chunk.heading, hit.chunk.title, hit.score) == ("B", "T", 1)
    assert hit.chunk.marks == MARKS[1:]


def test_a_hit_that_is_not_in_the_store_stays(store):
    ranked = Ranked(store, [])
    ranked.hits = [Hit(Chunk("web", 0, 3, "web"), 1.0), Hit(Chunk("d", 1, 5, "lpha"), 0.5)]
    assert ExpandingRetriever(ranked, store).retrieve("?", 2) == ranked.hits


@pytest.mark.parametrize("options", [{"by": "page"}, {"neighbours": 0}, {"most_chars": 0}])
def test_values_that_cannot_work_are_refused(store, options):
    with pytest.raises(ConfigurationError):
        ExpandingRetriever(Ranked(store, []), store, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    numbers=st.lists(st.integers(1, len(EDGES)), unique=True),
    by=st.sampled_from(["neighbours", "section"]),
    neighbours=st.integers(1, 3),
    most_chars=st.integers(1, 60),
    k=st.integers(1, 6),
)
def test_spans_are_text_of_the_document_and_do_not_overlap(store, numbers, by, neighbours, most_chars, k):
    retriever = ExpandingRetriever(Ranked(store, numbers), store, by=by, neighbours=neighbours, most_chars=most_chars)
    hits = retriever.retrieve("?", k)
    assert len(hits) <= k
    for hit in hits:
        assert hit.chunk.text == TEXT[hit.chunk.start : hit.chunk.end]
    spans = sorted((hit.chunk.start, hit.chunk.end) for hit in hits)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


@given(st.integers(1, 9), st.data())
def test_a_span_has_the_chunk_that_it_began_with(n, data):
    chunks = [Chunk("d", 5 * i, 5 * i + 5, "words") for i in range(n)]
    i = data.draw(st.integers(0, n - 1))
    first, last = grow(chunks, i, data.draw(st.none() | st.integers(1, 9)), data.draw(st.integers(1, 60)))
    assert 0 <= first <= i <= last < n
