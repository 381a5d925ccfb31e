from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.retrieval.index import FaissIndex, FlatIndex
from leanrag.retrieval.reading import is_spelled, split_question
from leanrag.retrieval.retrievers import (
    BM25Retriever,
    DenseRetriever,
    HybridRetriever,
    _collapse,
    copy_key,
    decide,
    mix,
    reciprocal_rank_fusion,
    softmax,
)
from leanrag.retrieval.store import Store
from leanrag.testing import HashEmbedder
from leanrag.types import Chunk, Document, Hit
from tests.examples import max_examples

NAN = float("nan")


class CompassEmbedder:
    """Turns a text into the direction named in it: "0°" is east; angles make cosines that can be worked by hand."""

    id, dim, max_tokens = "compass", 2, 100

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_documents(self, texts):
        angles = np.radians([float(text.partition("°")[0]) for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    embed_queries = embed_documents


TEXTS = ["0° apple", "60° apple pie", "90° cherry", "180° durian", "10° elder", "75° fig", "85° grape"]


@pytest.fixture(params=[FlatIndex, FaissIndex])
def parts(request, tmp_path):
    embedder = CompassEmbedder()
    with Store(tmp_path) as store:
        store.bind(embedder.id, embedder.dim, "whole")
        for text in TEXTS:
            document = Document(text, id=text, metadata={"even": TEXTS.index(text) % 2 == 0})
            store.put(document, [Chunk(text, 0, len(text), text)], embedder.embed_documents([text]))
        index = request.param(embedder.dim)
        index.add(*store.all_vectors())
        yield store, index, embedder


def texts(hits):
    return [hit.chunk.text for hit in hits]


def test_dense_is_cosine(parts):
    hits = DenseRetriever(*parts).retrieve("0° cherry", 3)
    assert texts(hits) == ["0° apple", "10° elder", "60° apple pie"]
    assert [hit.score for hit in hits] == pytest.approx([1, np.cos(np.radians(10)), 0.5], abs=1e-6)
    assert [hit.dense for hit in hits] == [hit.score for hit in hits]
    assert [hit.bm25 for hit in hits] == [None] * 3


def test_bm25_finds_only_what_matches(parts):
    store, *_ = parts
    hits = BM25Retriever(store).retrieve("180° cherry", 3)
    assert sorted(texts(hits)) == ["180° durian", "90° cherry"]
    assert [(hit.dense, hit.bm25 == hit.score > 0) for hit in hits] == [(None, True)] * 2
    assert BM25Retriever(store).retrieve("zebra", 3) == []


def test_hybrid_scores_are_the_mixture(parts):
    store, *_ = parts
    hits = HybridRetriever(*parts).retrieve("0° apple", 7)
    by_text = {hit.chunk.text: hit for hit in hits}
    assert len(by_text) == 7
    words = {hit.chunk.text: hit.score for hit in BM25Retriever(store).retrieve("0° apple", 7)}
    dense = np.array([by_text[text].dense for text in TEXTS])
    np.testing.assert_allclose(dense, np.cos(np.radians([0, 60, 90, 180, 10, 75, 85])), atol=1e-6)
    assert {text: hit.bm25 for text, hit in by_text.items()} == {text: words.get(text) for text in TEXTS}
    expected = mix(dense, np.array([words.get(text, NAN) for text in TEXTS]))
    np.testing.assert_allclose([by_text[text].score for text in TEXTS], expected, rtol=1e-5)
    assert sum(hit.score for hit in hits) == pytest.approx(1)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize("candidates", [1, 2, 50])
def test_either_side_scores_what_only_the_other_found(parts, candidates):
    hits = HybridRetriever(*parts, candidates=candidates).retrieve("12° cherry", 7)
    by_text = {hit.chunk.text: hit for hit in hits}
    assert by_text["90° cherry"].dense == pytest.approx(np.cos(np.radians(78)), abs=1e-6)
    assert by_text["90° cherry"].bm25 > 0
    assert by_text["10° elder"].dense == pytest.approx(np.cos(np.radians(2)), abs=1e-6)
    assert by_text["10° elder"].bm25 is None


def test_hybrid_without_a_matching_word_ranks_as_dense(parts):
    question = "40° zebra"
    hybrid, dense = HybridRetriever(*parts).retrieve(question, 7), DenseRetriever(*parts).retrieve(question, 7)
    matched = {hit.chunk.text for hit in hybrid if hit.bm25 is not None}
    assert matched == set()
    assert texts(hybrid) == texts(dense)


@pytest.mark.parametrize("kind", ["dense", "bm25", "hybrid"])
def test_filters_hold(parts, kind):
    store = parts[0]
    retriever = {
        "dense": DenseRetriever(*parts),
        "bm25": BM25Retriever(store),
        "hybrid": HybridRetriever(*parts, candidates=2),
    }[kind]
    question = "60° apple pie fig grape"
    everywhere, even = retriever.retrieve(question, 7), retriever.retrieve(question, 7, where={"even": True})
    assert "60° apple pie" in texts(everywhere)
    assert set(texts(even)) <= set(TEXTS[::2])
    assert texts(even)
    assert retriever.retrieve(question, 7, where={"even": 7}) == []
    assert retriever.retrieve(question, 7, where={}) == everywhere


def test_a_chunk_removed_since_indexing_is_passed_over(parts):
    store, *_ = parts
    store.remove(["0° apple"])
    assert texts(DenseRetriever(*parts).retrieve("0° zebra", 2)) == ["10° elder", "60° apple pie"]
    assert texts(HybridRetriever(*parts).retrieve("0° zebra", 2)) == ["10° elder", "60° apple pie"]


def test_a_chunk_stored_since_indexing_is_found_by_its_words(parts):
    store, _, embedder = parts
    text = "120° mango"
    store.put(Document(text, id=text), [Chunk(text, 0, len(text), text)], embedder.embed_documents([text]))
    hit = next(hit for hit in HybridRetriever(*parts).retrieve("0° mango", 8) if hit.chunk.text == text)
    assert (hit.dense, hit.bm25 > 0) == (None, True)


def test_nothing_stored_nothing_found(tmp_path):
    embedder = CompassEmbedder()
    with Store(tmp_path) as store:
        index = FaissIndex(2)
        assert HybridRetriever(store, index, embedder).retrieve("0° apple", 3) == []
        assert DenseRetriever(store, index, embedder).retrieve("0° apple", 3) == []


def test_wrong_arguments(parts):
    for retriever in (DenseRetriever(*parts), BM25Retriever(parts[0]), HybridRetriever(*parts)):
        with pytest.raises(ConfigurationError, match="`k` must be at least 1, got 0"):
            retriever.retrieve("0°", 0)
    for options in ({"candidates": 0}, {"dense_scale": -1.0}, {"bm25_scale": NAN}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            HybridRetriever(*parts, **options)


# The arithmetic


def test_softmax_by_hand():
    np.testing.assert_allclose(softmax(np.log([1.0, 2.0, 5.0])), [1 / 8, 2 / 8, 5 / 8])
    np.testing.assert_allclose(softmax(np.array([1000.0, 1000.0, -np.inf])), [0.5, 0.5, 0])
    assert softmax(np.array([])).tolist() == []
    assert softmax(np.array([-np.inf])).tolist() == [0.0]


def test_mix_by_hand():
    # Meaning: odds 1 : 3; words: odds 1 : 1 (no term, a score of 0) and 4 for the third, which has no vector.
    dense = np.array([0.0, np.log(3) / 20, NAN])
    bm25 = np.array([NAN, 0.0, np.log(4) / 0.5])
    np.testing.assert_allclose(mix(dense, bm25), [(1 / 4 + 1 / 6) / 2, (3 / 4 + 1 / 6) / 2, (0 + 4 / 6) / 2])


def test_mix_believes_the_side_that_is_sure():
    hesitant, sure = np.array([0.5, 0.49, 0.48]), np.array([1.0, 2.0, 20.0])
    assert np.argmax(mix(hesitant, sure)) == 2
    sure, hesitant = np.array([0.9, 0.2, 0.1]), np.array([1.0, 1.2, 1.1])
    assert np.argmax(mix(sure, hesitant)) == 0


def test_one_weak_word_does_not_outrank_a_clear_meaning():
    assert np.argmax(mix(np.array([0.7, 0.1, 0.1]), np.array([NAN, 0.5, NAN]))) == 0


@max_examples(60)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 40) | st.just(NAN)), min_size=1, max_size=20), st.randoms())
def test_mix_is_a_distribution_that_ignores_order_and_favours_the_better(rows, random):
    dense, bm25 = np.array(rows).T
    scores = mix(dense, bm25)
    assert scores.sum() == pytest.approx(1)
    order = random.sample(range(len(rows)), len(rows))
    np.testing.assert_allclose(mix(dense[order], bm25[order]), scores[order])
    best = np.flatnonzero((dense == dense.max()) & (np.nan_to_num(bm25) == np.nan_to_num(bm25).max()))
    if len(best):
        assert scores[best[0]] == pytest.approx(scores.max())


def test_reciprocal_ranks_by_hand():
    scores, ids = reciprocal_rank_fusion([np.array([5, 9, 7]), np.array([9, 5]), np.array([], np.int64)], constant=1)
    assert ids.tolist() == [5, 9, 7]
    np.testing.assert_allclose(scores, [1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 4])


def test_decide_by_hand():
    scores = np.array([0.7, 0.2, 0.1])
    np.testing.assert_allclose(decide(scores, np.array([0, 1, 1])), [0.035, 0.01 + 0.95 * 2 / 3, 0.005 + 0.95 / 3])
    np.testing.assert_allclose(decide(scores, np.array([1, 2, 1])), [0.035, 0.96, 0.005])
    assert decide(scores, np.zeros(3)).tolist() == scores.tolist()
    assert decide(np.array([1.0, 0.0]), np.array([0, 1])).tolist() == [1.0, 0.0]


@max_examples(60)
@given(st.lists(st.tuples(st.floats(1e-6, 1), st.integers(0, 3)), min_size=1, max_size=12))
def test_deciding_keeps_the_sum_and_the_order_among_equals(rows):
    scores, counts = np.array(rows).T
    decided = decide(scores, counts)
    assert decided.sum() == pytest.approx(scores.sum())
    assert counts[np.argmax(decided)] == counts.max()
    for count in set(counts):
        same = counts == count
        assert np.argmax(decided[same]) == np.argmax(scores[same])


# Whole searches


def searchable(store, embedder, texts, *, heading="", dim=64):
    """A hybrid retriever over one chunk a text."""
    store.bind(embedder.id, dim, "whole")
    for i, text in enumerate(texts):
        chunk = Chunk(f"d{i}", 0, len(text), text, heading=heading)
        store.put(Document(text, id=f"d{i}"), [chunk], embedder.embed_documents([text]))
    index = FaissIndex(dim)
    index.update(store)
    return HybridRetriever(store, index, embedder)


class SkewedEmbedder(HashEmbedder):
    """Finds every question nearest to the texts that hold the word "lure"."""

    def embed_queries(self, texts):
        return self.embed_documents(["lure"] * len(texts))


@pytest.mark.parametrize(
    ("wanted", "lures"),
    [
        ("Release 1.2.3 is out.", ["Release 1.3.2 lure.", "Release 3.2.1 lure.", "1.2 release lure lure"]),
        ("Log of 2024-03-05: all well.", ["lure 2024-05-03", "lure lure on 2024-03"]),
        ("ERR_4021: disk full.", ["ERR_4022 lure", "lure lure ERR"]),
    ],
)
def test_an_identifier_decides_against_meaning_and_other_words(tmp_path, wanted, lures):
    with Store(tmp_path) as store:
        retriever = searchable(store, SkewedEmbedder(), [*lures, wanted, *(f"filler {i}" for i in range(9))])
        for name in ("1.2.3", "2024-03-05", "err-4021"):
            if name.casefold().replace("-", "") in wanted.casefold().replace("-", "").replace("_", ""):
                hits = retriever.retrieve(f"What about the release or log of {name}?", 3)
                assert texts(hits)[0] == wanted
                assert hits[0].score > 0.9


@max_examples(200)
@given(
    st.lists(
        st.sampled_from(
            ["one two three four five", "**One** two\nthree four five.", "one two", "> one  two", "three", ""]
        )
    ),
    st.integers(1, 5),
)
def test_hits_of_one_key_are_one_hit(bodies, k):
    texts = [f"{body}{' and much more text' * (i % 3)}" for i, body in enumerate(bodies)]
    hits = [Hit(Chunk(str(i), 0, len(text), text), 1.0) for i, text in enumerate(texts)]
    found = _collapse(iter(hits), k)
    keys = list(dict.fromkeys(copy_key(hit.chunk) for hit in hits))
    assert [copy_key(hit.chunk) for hit in found] == keys[:k]
    for hit in found:
        assert all(copy_key(copy) == copy_key(hit.chunk) for copy in hit.copies)
    if len(keys) <= k:
        assert sum(1 + len(hit.copies) for hit in found) == len(hits)


def test_copies_leave_room_for_other_texts(tmp_path):
    copies = [
        "The desk opens at nine.",
        "The  desk\nopens at nine",
        "> The desk opens at NINE.",
        "**The** desk opens at nine.",
    ]
    others = ["The desk opens at ten.", "The desk opens at nine. Not on Sunday."]
    with Store(tmp_path) as store:
        retriever = searchable(store, HashEmbedder(), [*copies * 20, *others])
        for each in (retriever, BM25Retriever(store), DenseRetriever(store, retriever._index, HashEmbedder())):
            hits = each.retrieve("When does the desk open at nine?", 3)
            assert len(hits) == 3
            assert set(others) < set(texts(hits))
            copied = next(hit for hit in hits if hit.chunk.text in copies)
            assert len(copied.copies) == len(copies) * 20 - 1
            assert {chunk.text for chunk in copied.copies} == set(copies)
            assert all(hit.copies == () for hit in hits if hit is not copied)


def test_the_same_words_under_another_heading_are_another_text():
    chunks = [Chunk("d", 0, 5, "5 kg.", heading=heading) for heading in ("Model A", "Model B", "model a")]
    assert copy_key(chunks[0]) == copy_key(chunks[2]) != copy_key(chunks[1])
    for one, other in (("5 kg", "6 kg"), ("-5", "5"), ("1.2", "12"), ("a < b", "a = b"), ("is safe", "is not safe")):
        assert copy_key(Chunk("d", 0, 1, one)) != copy_key(Chunk("d", 0, 1, other))


class ConstantEmbedder(HashEmbedder):
    """Gives every text one vector."""

    def embed_documents(self, texts):
        return super().embed_documents(["x"] * len(texts))

    embed_queries = embed_documents


class LatinEmbedder(HashEmbedder):
    """Sees an unknown token in each word of another script."""

    def embed_documents(self, texts):
        return super().embed_documents([re.sub(r"[^\W\d_a-zA-Z]+", "unknown", text) for text in texts])

    embed_queries = embed_documents


def test_one_vector_for_all_texts_is_noticed_and_words_decide(tmp_path, caplog):
    with Store(tmp_path) as store:
        retriever = searchable(store, ConstantEmbedder(), ["apple pie", "cherry cake", "plum jam", "fig"])
        hits = retriever.retrieve("Who bakes a cherry cake?", 3)
        assert texts(hits)[0] == "cherry cake"
        assert {hit.dense for hit in hits} == {None}
    assert "hash-64 has one vector for different texts" in caplog.text


def test_a_question_in_an_unknown_script_is_noticed_and_words_decide(tmp_path, caplog):
    documents = ["เมืองหลวงของไทยคือกรุงเทพ", "อาหารไทยมีรสเผ็ด", "ช้างเป็นสัตว์ประจำชาติ", "The elephant is an animal."]
    with Store(tmp_path) as store:
        retriever = searchable(store, LatinEmbedder(), documents)
        assert texts(retriever.retrieve("สัตว์ประจำชาติคืออะไร", 1)) == documents[2:3]
        assert "cannot read the question 'สัตว์" in caplog.text
        caplog.clear()
        assert texts(retriever.retrieve("Which animal is the “elephant”?", 1)) == documents[3:]
        assert caplog.text == ""


def test_a_script_that_the_embedder_reads_is_left_to_it(tmp_path, caplog):
    with Store(tmp_path) as store:
        retriever = searchable(store, HashEmbedder(), ["собака лает", "кошка спит", "the dog"])
        hits = retriever.retrieve("собака", 1)
        assert hits[0].dense > 0.5
    assert caplog.text == ""


class SpellingEmbedder(HashEmbedder):
    """Knows Latin words; of other scripts it knows the letters."""

    def count_tokens(self, text: str) -> int:
        return sum(1 if word.isascii() else len(word) for word in text.split()) + 2


@pytest.mark.parametrize(
    "question", ["როდის არის დახურული?", "Когда открыт музей?", "기차가 어디서 출발해요?", "كم عدد الزوار"]
)
def test_words_decide_where_letters_are_read(tmp_path, question):
    assert is_spelled(question, SpellingEmbedder())
    assert not is_spelled(question, HashEmbedder())


@pytest.mark.parametrize(
    "question", ["When is it open?", "Où est-ce?", "在哪些地方？", "熊本はどこ", "ใครเป็นผู้ก่อตั้ง", "🚀", ""]
)
def test_other_questions_are_not_spelled(question):
    assert not is_spelled(question, SpellingEmbedder())


def test_copies_of_one_text_are_no_sign_of_a_blind_embedder(tmp_path, caplog):
    with Store(tmp_path) as store:
        retriever = searchable(store, HashEmbedder(), ["apple pie"] * 5 + ["plum jam"])
        assert retriever.retrieve("apple pie", 2)[0].dense == pytest.approx(1, abs=1e-4)
    assert caplog.text == ""


def test_a_question_longer_than_the_embedder_reads_is_searched_in_parts(tmp_path):
    embedder = HashEmbedder(max_tokens=12)
    with Store(tmp_path) as store:
        retriever = searchable(store, embedder, ["apple pie", "cherry cake", "plum jam", "fig"])
        question = (
            "It rained all day in the north of the country. " * 5
            + "\n\nWho has plum jam?\n\n"
            + "Best wishes to all! " * 9
        )
        for each in (retriever, DenseRetriever(store, retriever._index, embedder)):
            hits = each.retrieve(question, 4)
            assert texts(hits)[0] == "plum jam"
            parts = split_question(question, embedder)
            best = (embedder.embed_queries(parts) @ embedder.embed_documents(["plum jam"])[0]).max()
            assert hits[0].dense == pytest.approx(best, abs=1e-5)


@max_examples(100)
@given(st.text(st.sampled_from("ab .!\n\u3000"), max_size=120), st.integers(3, 9))
def test_the_parts_of_a_question_are_the_question(question, max_tokens):
    embedder = HashEmbedder(max_tokens=max_tokens)
    parts = split_question(question, embedder)
    assert "".join(parts) == question
    assert all(embedder.count_tokens(part) <= max_tokens for part in parts)


@pytest.mark.parametrize("question", ["same words here", "4021-77", "x"])
def test_equals_come_in_the_order_of_their_ids(tmp_path, question):
    with Store(tmp_path) as store:
        documents = [*(f"same words here ({mark})" for mark in "áéí"), "4021-77 z", "4021-77 y"]
        retriever = searchable(store, HashEmbedder(), documents)
        once = [hit.chunk.document_id for hit in retriever.retrieve(question, 5)]
        assert all([hit.chunk.document_id for hit in retriever.retrieve(question, 5)] == once for _ in range(3))
