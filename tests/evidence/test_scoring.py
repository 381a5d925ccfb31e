"""What units are worth for a question: features by hand, stored vectors used when whole, and values that sum to 1."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.evidence import scoring as evidence
from leanrag.evidence.scoring import (
    UNIT_FEATURES,
    SentenceScorer,
    SentenceVectors,
    features_of,
    pack_vectors,
    unpack_vectors,
)
from leanrag.evidence.terms import terms_of
from leanrag.evidence.units import split_clauses, split_units
from leanrag.testing import HashEmbedder
from leanrag.types import Chunk, Hit
from tests.examples import max_examples

many = max_examples(60)


def hit(text, *, score=1.0, title="", dense=None, start=7, document="d"):
    return Hit(Chunk(document, start, start + len(text), text, title), score, dense=dense)


class TableEmbedder:
    """Knows the vectors of some texts, and which it was asked about."""

    id, dim, max_tokens = "table", 2, 100

    def __init__(self, **rows):
        self.rows = rows
        self.documents, self.queries = [], []

    def count_tokens(self, text):
        return len(text.split())

    def _vectors(self, texts):
        return np.array([self.rows[text.split()[-1].strip(".?")] for text in texts], np.float32).reshape(-1, 2)

    def embed_documents(self, texts):
        self.documents += texts
        return self._vectors(texts)

    def embed_queries(self, texts):
        self.queries += texts
        return self._vectors(texts)


TOWER = "The tower stands in Paris. It opened in 1889."
HITS = [
    hit(TOWER, score=3.0, title="Eiffel Tower", dense=0.5),
    hit("Bread is sold in Rome.", score=1.0),
]
QUESTION = "When did the tower open?"
ROWS = {"Paris": (1, 0), "1889": (0.6, 0.8), "Rome": (0, 1), "open": (0.8, 0.6)}


# Features


def test_features_by_hand():
    text = evidence._Text.of(HITS, clauses=True)
    vectors = np.array([ROWS["Paris"], ROWS["1889"], ROWS["Rome"]], np.float32)
    columns = dict(
        zip(UNIT_FEATURES, features_of(QUESTION, text, vectors, np.float32([0.8, 0.6])).T.tolist(), strict=True)
    )
    approx = {
        "prior": [math.log(0.75 + 1e-4)] * 2 + [math.log(0.25 + 1e-4)],
        "source_similarity": [0.5, 0.5, 0.6],  # the second hit's own similarity is not known
        "best_similarity": [0.96, 0.96, 0.6],
        "best_overlap": [1.0, 1.0, 0.0],
        "similarity": [0.8, 0.96, 0.6],
        "overlap": [0.5, 0.5, 0.0],
        "overlap_with_title": [0.5, 1.0, 0.0],
        "own_overlap": [0.5, 0.5, 0.0],
        "answer_type": [0.0, 1.0, 0.0],
        "first": [1.0, 0.0, 1.0],
        "new_words": [math.log(3), math.log(2), math.log(4)],
        "overlap_under_head": [0.0, 0.0, 0.0],
    }
    assert columns.keys() == approx.keys()
    for name, column in approx.items():
        assert columns[name] == pytest.approx(column, abs=1e-6), name


def test_rare_words_of_the_question_weigh_more():
    text = evidence._Text.of([hit("The tower is red. The tower is old. The gate is shut.")], clauses=True)
    overlap = features_of("tower gate", text, None, None)[:, UNIT_FEATURES.index("overlap")]
    tower, gate = math.log(1 + 3 / 3), math.log(1 + 3 / 2)
    assert overlap.tolist() == pytest.approx([tower / (tower + gate)] * 2 + [gate / (tower + gate)])


def test_clauses_share_what_their_sentence_has_and_have_their_own():
    text = "The tower was built by a company of engineers, which painted it red in the following year."
    parts = evidence._Text.of([hit(text)], clauses=True)
    features = features_of("Who painted the tower?", parts, None, None)
    assert [text[start:end] for start, end in parts.clauses] == [text[:46], text[47:]]
    columns = dict(zip(UNIT_FEATURES, features.T.tolist(), strict=True))
    assert columns["overlap"] == [1.0, 1.0]
    assert columns["own_overlap"] == pytest.approx([0.5, 0.5])
    assert len(evidence._Text.of([hit(text)], clauses=False).clauses) == 1


@pytest.mark.parametrize(
    ("question", "texts", "expected"),
    [
        ("When was it built?", ["built in 1889", "in the 19th century", "on May 5", "in 330 days"], [1, 1, 1, 0]),
        ("What year was it?", ["it was 2021", "it was 3021"], [1, 0]),
        ("How many steps are there?", ["some 1665 steps", "three hundred steps", "many steps"], [1, 1, 0]),
        ("Who built the tower?", ["built by Gustave", "Built by us", "at the Tower gate"], [1, 0, 0]),
        ("Which city is it in?", ["It is in Paris", "it is in town"], [1, 0]),
        ("Why is it red?", ["in 1889 by Gustave"], [0]),
    ],
)
def test_kinds_of_answers(question, texts, expected):
    wanted = evidence.terms_of(question)
    assert evidence._answer_types(question, wanted, texts).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "shares"),
    [
        ([3.0, 1.0], [0.75, 0.25]),
        ([-3.0, -1.0], [2 / 3, 1 / 3]),
        ([0.0, 0.0], [2 / 3, 1 / 3]),
        ([float("nan"), 1.0], [2 / 3, 1 / 3]),
        ([float("inf"), 1.0], [2 / 3, 1 / 3]),
    ],
)
def test_scores_of_an_unknown_kind_count_by_their_order(scores, shares):
    priors = evidence._priors([hit("x", score=score) for score in scores])
    assert np.exp(priors).tolist() == pytest.approx([share + 1e-4 for share in shares])


# Vectors


def test_vectors_are_made_of_units_and_come_back_from_their_bytes():
    embedder = TableEmbedder(**ROWS)
    vectors = SentenceVectors(embedder)
    chunks = [HITS[0].chunk, Chunk("e", 0, 2, " \n"), HITS[1].chunk]
    first, empty, second = vectors.compute(chunks)
    assert embedder.documents == ["The tower stands in Paris.", "It opened in 1889.", "Bread is sold in Rome."]
    np.testing.assert_allclose(unpack_vectors(first, 2, 2), [ROWS["Paris"], ROWS["1889"]], atol=1e-3)
    np.testing.assert_allclose(unpack_vectors(second, 1, 2), [ROWS["Rome"]], atol=1e-3)
    assert unpack_vectors(empty, 0, 2).shape == (0, 2)
    assert unpack_vectors(first, 2, 2).dtype == np.float32
    assert "table" in vectors.name
    assert vectors.compute([]) == []


GOOD = pack_vectors(np.array([[1, 0], [0.6, 0.8]], np.float32))
FOREIGN = {
    "none": None,
    "empty": b"",
    "header alone": GOOD[:12],
    "torn": GOOD[:-1],
    "longer": GOOD + b"\0\0",
    "magic": b"xxxx" + GOOD[4:],
    "version": GOOD[:4] + b"\x09\0" + GOOD[6:],
    "another text": pack_vectors(np.ones((3, 2), np.float32)),
    "another embedder": pack_vectors(np.ones((2, 3), np.float32)),
    "as long, other shape": pack_vectors(np.ones((4, 1), np.float32)),
    "not numbers": pack_vectors(np.full((2, 2), np.nan, np.float32)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_torn_and_foreign_bytes_are_not_used(name):
    assert unpack_vectors(FOREIGN[name], 2, 2) is None
    embedder = TableEmbedder(**ROWS)
    scorer = SentenceScorer(SentenceVectors(embedder), lambda chunk: FOREIGN[name])
    plain = SentenceScorer(SentenceVectors(TableEmbedder(**ROWS)))
    assert scorer.score(QUESTION, HITS)[0] == plain.score(QUESTION, HITS)[0]
    assert len(embedder.documents) == 3


@given(st.binary(max_size=40), st.integers(0, 3), st.integers(1, 3))
def test_any_bytes_are_vectors_or_nothing(data, n, dim):
    for bytes_ in (data, GOOD[:12] + data):
        vectors = unpack_vectors(bytes_, n, dim)
        assert vectors is None or (vectors.shape == (n, dim) and np.isfinite(vectors).all())


def test_stored_vectors_are_used_and_only_what_is_missing_is_embedded():
    asked = []
    stored = dict(
        zip(
            [h.chunk for h in HITS],
            SentenceVectors(TableEmbedder(**ROWS)).compute([h.chunk for h in HITS]),
            strict=True,
        )
    )

    def all_of_them(chunk):
        asked.append(chunk)
        return stored[chunk]

    embedder = TableEmbedder(**ROWS)
    units, _ = SentenceScorer(SentenceVectors(embedder), all_of_them).score(QUESTION, HITS)
    assert (embedder.documents, embedder.queries) == ([], [QUESTION])
    assert asked == [h.chunk for h in HITS]
    fresh, _ = SentenceScorer(SentenceVectors(TableEmbedder(**ROWS))).score(QUESTION, HITS)
    assert [unit.value for unit in units] == pytest.approx([unit.value for unit in fresh], abs=0.01)

    scorer = SentenceScorer(SentenceVectors(embedder), all_of_them)
    asked.clear()
    assert scorer.score(QUESTION, HITS) == scorer.score(QUESTION, HITS)  # the second time they are in memory
    assert asked == [h.chunk for h in HITS]
    changed = replace(HITS[0].chunk, document_id="new", text=HITS[1].chunk.text)
    stored[changed] = stored[HITS[1].chunk]
    scorer.score(QUESTION, [replace(HITS[0], chunk=changed)])
    assert asked[2:] == [changed]

    some = SentenceScorer(SentenceVectors(embedder), lambda chunk: stored[chunk] if chunk == HITS[0].chunk else None)
    some.score(QUESTION, HITS)
    assert embedder.documents == ["Bread is sold in Rome."]


def test_units_longer_than_the_embedder_reads_count_by_their_beginning():
    embedder = HashEmbedder(dim=16, max_tokens=12)  # refuses what is longer
    text = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    (vectors,) = SentenceVectors(embedder).embed([(text, split_units(text))])
    assert vectors.shape == (1, 16)
    assert SentenceVectors(embedder).embed_query("why " * 100).shape == (16,)
    with pytest.raises(ConfigurationError, match="reads at most 2"):  # not even one letter
        SentenceVectors(HashEmbedder(max_tokens=2)).embed_query("why")


# Values

PIECES = st.sampled_from(
    ["The tower is tall.", "It opened in 1889, and many people came to see it, by train.", "\n\n", "- item", "| a |\n|---|\n| 1 |",
     "東京は日本の首都である。", "برج إيفل.", "😀", "```\nx\n```", "\ud800", "# Head", "x" * 700]
)  # fmt: skip
texts = st.lists(PIECES | st.text(max_size=8), max_size=6).map(" ".join)
questions = st.sampled_from(["", " ", "When did it open?", "東京?", "أين؟", "?", "\ud800"]) | st.text(max_size=12)
scorers = st.sampled_from(
    [
        SentenceScorer(),
        SentenceScorer(clauses=False),
        SentenceScorer(SentenceVectors(HashEmbedder(dim=8, max_tokens=64))),
        SentenceScorer(SentenceVectors(HashEmbedder(dim=8, max_tokens=64)), lambda chunk: b"torn"),
    ]
)


@many
@given(scorers, questions, st.lists(texts, max_size=4), st.floats(-1, 2))
def test_values_are_shares_of_one_and_units_those_of_the_texts(scorer, question, sources, score):
    hits = [hit(text, score=score + i, title=text[:9]) for i, text in enumerate(sources)]
    units, repeats = scorer.score(question, hits)
    expected = []
    for number, text in enumerate(sources):
        for unit in split_units(text):
            spans = split_clauses(text, unit) if scorer._clauses else [(unit.start, unit.end)]
            expected += [(number, start, end) for start, end in spans]
    assert [(unit.hit, unit.start, unit.end) for unit in units] == expected
    assert all(0 <= unit.value <= 1 for unit in units)
    assert sum(unit.value for unit in units) == pytest.approx(1 if units else 0)
    for place, unit in enumerate(units):
        assert unit.needs is None or (unit.needs < place and units[unit.needs].hit == unit.hit)
    if repeats is not None:
        assert repeats.shape == (len(units),) * 2
        assert (repeats == repeats.T).all()
        assert 0 <= repeats.min() <= repeats.max() <= 1
        assert not repeats.diagonal().any()
    assert scorer.score(question, hits)[0] == units


def best(scorer, question, hits):
    units, _ = scorer.score(question, hits)
    unit = max(units, key=lambda unit: unit.value)
    return hits[unit.hit].chunk.text[unit.start : unit.end]


def test_words_alone_find_the_sentence():
    assert best(SentenceScorer(), QUESTION, HITS) == "It opened in 1889."
    assert best(SentenceScorer(), "Where is bread sold?", HITS) == "Bread is sold in Rome."


def test_vectors_find_a_sentence_that_shares_no_word_with_the_question():
    rows = {"here": (1, 0), "there": (0, 1), "ville": (0, 1)}
    hits = [hit("The people of the town live here. The mayor of the town is buried there.")]
    scorer = SentenceScorer(SentenceVectors(TableEmbedder(**rows)))
    assert best(scorer, "Quel homme de la ville?", hits) == "The mayor of the town is buried there."


def test_scripts_without_spaces_match_by_pairs_of_characters():
    hits = [hit("大阪は西日本の町である。東京の塔は高さが三百三十メートルである。名古屋は中部の町である。")]
    assert best(SentenceScorer(), "東京の塔の高さは？", hits) == "東京の塔は高さが三百三十メートルである。"


def test_a_question_in_another_language_leaves_the_order_of_the_hits():
    hits = [hit("The tower stands tall here.", score=3.0), hit("The market sells bread here.", score=1.0)]
    assert best(SentenceScorer(), "Où est la tour?", hits) == "The tower stands tall here."
    assert best(SentenceScorer(), "Où est la tour?", hits[::-1]) == "The tower stands tall here."


def test_without_a_question_what_is_like_the_rest_is_worth_most():
    text = "The tower is tall and old. The tower is tall and red. Bread costs little. The old tower is red and tall."
    for scorer in (SentenceScorer(), SentenceScorer(SentenceVectors(HashEmbedder()))):
        units, _ = scorer.score("", [hit(text)])
        assert min(units, key=lambda unit: unit.value).start == text.index("Bread")
    embedder = TableEmbedder(**ROWS)
    SentenceScorer(SentenceVectors(embedder)).score(" ", HITS)
    assert embedder.queries == []


def test_rows_need_their_head_and_pronouns_their_sentence():
    text = "| a |\n|---|\n| 1 |\n| 2 |\n\nThe tower stands by the river, and people come to see it. It is tall."
    units, _ = SentenceScorer().score("tower?", [hit("Before it."), hit(text)])
    assert [unit.needs for unit in units] == [None, None, None, 1, 1, None, None, 5]
    assert text[units[5].start : units[5].end] == "The tower stands by the river,"


# Repetitions


def test_sentences_much_alike_repeat_each_other_by_their_words():
    hits = [hit("The old tower is in Paris. Bread is sold in Rome."), hit("The tower in Paris. Ships sail to Genoa.")]
    rows = ROWS | {"Genoa": (-1, 0)}
    units, repeats = SentenceScorer(SentenceVectors(TableEmbedder(**rows))).score(QUESTION, hits)
    assert len(units) == 4
    expected = np.zeros((4, 4))
    expected[0, 2] = expected[2, 0] = 1.0  # {tower, paris} of {old, tower, paris}: all of the shorter one
    np.testing.assert_array_equal(repeats, expected)


@many
@given(st.lists(st.sampled_from(["Red cars park.", "Red vans park.", "Blue.", "Red cars, blue cars."]), min_size=1))
def test_units_repeat_the_terms_that_both_have(sentences):
    hits = [hit(" ".join(sentences))]
    units, repeats = SentenceScorer(SentenceVectors(HashEmbedder())).score("Which cars?", hits)
    terms = [terms_of(hits[0].chunk.text[unit.start : unit.end]) for unit in units]
    if repeats is not None:
        for i, j in zip(*np.nonzero(repeats), strict=True):
            shared = len(terms[i] & terms[j]) / min(len(terms[i]), len(terms[j]))
            assert repeats[i, j] == repeats[j, i] == pytest.approx(shared)


def test_a_text_of_one_repeated_sentence():
    _, repeats = SentenceScorer(SentenceVectors(HashEmbedder())).score("Who?", [hit("Red cars. " * 4000)])
    np.testing.assert_array_equal(repeats[:50, :50], 1 - np.eye(50))
    assert repeats.sum() == 4000 * 3999


def test_nothing_alike_repeats_nothing():
    assert SentenceScorer(SentenceVectors(TableEmbedder(**ROWS))).score(QUESTION, HITS)[1] is None
    assert SentenceScorer().score(QUESTION, [HITS[0], HITS[0]])[1] is None  # words alone know nothing of it


def test_too_many_are_not_compared(monkeypatch):
    scorer = SentenceScorer(SentenceVectors(TableEmbedder(**ROWS)))
    assert scorer.score(QUESTION, [HITS[0], HITS[0]])[1] is not None
    monkeypatch.setattr(evidence, "_MOST_COMPARED", 3)
    assert scorer.score(QUESTION, [HITS[0], HITS[0]])[1] is None


def test_long_texts_are_not_remembered():
    evidence._take_apart_again.cache_clear()
    scorer = SentenceScorer()
    scorer.score(QUESTION, [hit("Word. " * 20), hit("Word. " * 3000), hit("Word. " * 20)])
    assert evidence._take_apart_again.cache_info()[:2] == (1, 1)
    assert evidence._take_apart_again.cache_info().currsize == 1


def test_identifiers_are_compared_whole():
    assert "=p017" in terms_of("part P-017") & terms_of("| P-017 | 3 |")
    assert not {term for term in terms_of("ERR_4022, 1.2.3") & terms_of("ERR_4021, 1.3.2") if term.startswith("=")}
    assert "=1.2.3" in terms_of("release 1.2.3")


def test_scripts_without_spaces_and_words_with_particles_share_pairs():
    assert {"미술", "술관"} <= terms_of("미술관을") & terms_of("미술관의")
    assert "東京" in terms_of("東京は首都") & terms_of("東京の人口")


def test_a_heading_is_worth_nothing_and_what_stands_under_it_is_read_with_it():
    text = "## Windows\n\nPress F2 to start.\n\n## Linux\n\nPress F9 to start."
    units, _ = SentenceScorer().score("Which key starts it on Linux?", [hit(text)])
    values = {text[unit.start : unit.end]: unit.value for unit in units}
    assert values["## Linux"] == values["## Windows"] == 0
    assert values["Press F9 to start."] > 5 * values["Press F2 to start."]
    assert sum(values.values()) == pytest.approx(1)


def test_headings_count_where_there_is_nothing_else():
    units, _ = SentenceScorer().score("Linux?", [hit("## Windows\n\n## Linux")])
    assert units[1].value > units[0].value > 0
