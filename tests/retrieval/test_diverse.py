from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.retrieval.diverse import DiverseRetriever, choose_diverse
from leanrag.retrieval.store import Store
from leanrag.types import Chunk, Document, Hit


def direction(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


ANGLES = {"a": 0, "b": 5, "c": 30, "d": 90}


class Ranked:
    """A retriever with fixed hits."""

    def __init__(self, hits: list[Hit]) -> None:
        self.hits = hits
        self.asked: list[tuple[str, int, object]] = []

    def retrieve(self, question, k, *, where=None):
        self.asked.append((question, k, where))
        return self.hits[:k]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "kb") as store:
        store.bind("compass", 2, "whole")
        for name, angle in ANGLES.items():
            vectors = np.array([direction(angle)], np.float32)
            store.put(Document(name, id=name), [Chunk(name, 0, 1, name)], vectors)
        yield store


def hits_of(names: str) -> list[Hit]:
    return [Hit(Chunk(name, 0, 1, name), score=1 / (i + 1)) for i, name in enumerate(names)]


def texts(hits: list[Hit]) -> str:
    return "".join(hit.chunk.text for hit in hits)


def test_near_duplicates_are_left_out(store):
    retriever = DiverseRetriever(Ranked(hits_of("abcd")), store, diversity=0, duplicate=0.99)
    assert texts(retriever.retrieve("?", 4)) == "acd"
    assert texts(retriever.retrieve("?", 2)) == "ac"


def test_what_differs_comes_earlier(store):
    retriever = DiverseRetriever(Ranked(hits_of("abcd")), store, diversity=0.6, duplicate=1)
    assert texts(retriever.retrieve("?", 2)) == "ad"


def test_scores_do_not_rise(store):
    hits = DiverseRetriever(Ranked(hits_of("abcd")), store, diversity=0.6, duplicate=1).retrieve("?", 4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits[0].score == 1


def test_more_candidates_than_hits_are_asked_for(store):
    ranked = Ranked(hits_of("abcd"))
    DiverseRetriever(ranked, store, candidates=7).retrieve("?", 2, where={"year": 1})
    DiverseRetriever(ranked, store, candidates=7).retrieve("?", 5)
    assert ranked.asked == [("?", 7, {"year": 1}), ("?", 10, None)]


def test_a_hit_that_is_not_in_the_store_differs_from_all(store):
    elsewhere = Hit(Chunk("web", 0, 3, "web"), score=0.5)
    retriever = DiverseRetriever(Ranked([*hits_of("ab"), elsewhere, elsewhere]), store, diversity=0.6)
    assert texts(retriever.retrieve("?", 3)) == "awebweb"


def test_a_longer_hit_has_the_mean_of_its_chunks(store):
    vectors = np.array([direction(0), direction(60)], np.float32)
    store.put(Document("xy", id="xy"), [Chunk("xy", 0, 1, "x"), Chunk("xy", 1, 2, "y")], vectors)
    span = Hit(Chunk("xy", 0, 2, "xy"), score=0.9)  # its mean is at 30 degrees, as "c" is
    assert texts(DiverseRetriever(Ranked([span, *hits_of("cd")]), store, diversity=0).retrieve("?", 3)) == "xyd"


@pytest.mark.parametrize("options", [{"diversity": 1.1}, {"duplicate": 0}, {"candidates": 0}])
def test_values_that_cannot_work_are_refused(store, options):
    with pytest.raises(ConfigurationError):
        DiverseRetriever(Ranked([]), store, **options)


@given(st.lists(st.floats(0, 360), max_size=12), st.integers(1, 14), st.floats(0, 1), st.floats(0.01, 1))
def test_each_row_is_chosen_once_and_none_is_a_duplicate(angles, k, diversity, duplicate):
    vectors = np.array([direction(angle) for angle in angles], np.float32).reshape(-1, 2)
    chosen = choose_diverse(vectors, k, diversity=diversity, duplicate=duplicate)
    assert len(set(chosen)) == len(chosen) <= k
    assert chosen[:1] == [0][: len(angles)]
    for position, i in enumerate(chosen):
        assert (vectors[chosen[:position]] @ vectors[i] <= duplicate + 1e-6).all()


@given(st.integers(0, 10), st.integers(1, 12))
def test_without_diversity_the_order_stays(n, k):
    assert choose_diverse(np.eye(n, dtype=np.float32), k, diversity=0, duplicate=0.9) == list(range(min(n, k)))
