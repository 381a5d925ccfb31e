import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError, StorageError
from leanrag.routing import query_router as routing
from leanrag.routing.query_router import ZERO_LABEL_WEIGHTS, QueryRouter
from leanrag.routing.question_features import QUESTION_FEATURES, question_features
from leanrag.text import words
from tests.records import rewrite_record

EASY, HARD = "Which city lies on the river", "Prove that the integral over the manifold"


def questions_of(seed, n):
    """Questions whose gap depends on their words: 1 for a hard one, 0 for an easy one, in mixed lengths."""
    random = np.random.default_rng(seed)
    fillers = "amber basil cedar delta ember fjord grove haven inlet jetty".split()
    is_hard = random.random(n) < 0.4
    texts = [
        " ".join([HARD if hard else EASY, *random.choice(fillers, random.integers(1, 9))]) + "?" for hard in is_hard
    ]
    return texts, is_hard.astype(float)


@pytest.fixture(scope="module")
def fitted():
    return QueryRouter.fit(*questions_of(0, 200), models=("small", "large"))


def feature(question, name):
    return question_features(question)[QUESTION_FEATURES.index(name)]


@pytest.mark.parametrize(
    ("question", "name", "count"),
    [
        ("Who was it?", "characters", 11),
        ("Who was it?", "words", 3),
        ("One. Two! Three?", "sentences", 3),
        ("Pi is 3.14, not 3.", "numbers", 2),
        ("It costs $5, 10% off", "amounts", 2),
        ("2 + 2 = x^2", "maths", 3),
        ("Which?\nA. one\nB. two\n(C) three", "choices", 3),
        ("Which?\nA. one\nB. two", "stem_characters", 6),
        ("If each of them has twice as many", "relations", 3),
        ("All are true EXCEPT; it isn't", "negations", 2),
        ("How many apples, and how much?", "asks_quantity", 2),
        ("Who ate what?", "asks_fact", 2),
        ("Why? Explain.", "asks_reason", 2),
        ("x[0]; {y}", "code", 5),
        ("He is 3/4 or 1/2 done", "fractions", 2),
        ("Of 3,000 pens 2.5 are 17", "largest_number", 3000),
        (f"What is {'9' * 400}?", "largest_number", 1e12),
        ("I had 5. How much is left of 12?", "last_words", 6),
        ("I had 5. How much is left of 12?", "last_numbers", 1),
        ("All had 5. How many in total?", "last_totals", 1),
        ("Which one? Say.\nA. it is so\nB. two", "last_words", 1),
        ("Which?\nA. one\nB. three", "choice_characters", 4),
        ("Which?\nA. one\nB. three", "choice_spread", 1),
        ("Which?\nA.\nB.\n", "choices", 2),
        ("Which?\nA.\nB.\n", "choice_characters", 0),
        ("Add it to the sum", "sums", 2),
        ("She sold more or fewer", "differences", 2),
        ("Each is double, 3 times", "products", 3),
        ("Split in half", "parts", 2),
        ("If so, until then", "conditions", 2),
        ("He is older than her", "comparisons", 2),
        ("An hour a day", "times", 2),
        ("First one, then next", "order", 3),
        ("He gave them his", "pronouns", 3),
        ("It costs a dollar", "money", 2),
        ("Two and twenty", "number_words", 2),
    ],
)
def test_features_count(question, name, count):
    assert feature(question, name) == pytest.approx(np.log1p(count))


def test_features_that_are_shares_and_means():
    assert feature("aa bb aa cccc", "word_length") == pytest.approx(2.5)
    assert feature("aa bb aa cccc", "distinct_words") == pytest.approx(0.75)
    assert feature("ABcd", "capitals") == pytest.approx(0.5)
    assert feature("a,b.", "punctuation") == pytest.approx(0.5)
    asked = "Is it big?\nA. 12\nB. 3 big\nC. big one\nD. one"
    assert feature(asked, "choices_with_number") == pytest.approx(0.5)
    assert feature(asked, "choices_without_letter") == pytest.approx(0.25)
    assert feature(asked, "choice_likeness") == pytest.approx(1 - 4 / 6)  # 12, 3, big and one, of six words
    assert feature(asked, "choice_echoes") == pytest.approx(2 / 6)
    assert [feature(asked, "stem_asks"), feature(asked, "stem_opens")] == [1, 0]
    assert [feature("It is a\n_\nA. 1", "stem_asks"), feature("It is:\nA. 1", "stem_opens")] == [0, 1]


def test_an_empty_question_has_nothing():
    assert not question_features("").any()
    assert QueryRouter.zero_label().score("") == 0.0


def test_a_question_without_choices_has_nothing_of_them():
    assert not any(feature("Who was it?", name) for name in QUESTION_FEATURES if name.startswith("choice"))


def test_every_feature_has_one_place():
    assert question_features("Who?").shape == (len(QUESTION_FEATURES),)
    assert len(set(QUESTION_FEATURES)) == len(QUESTION_FEATURES)


def test_of_a_long_question_both_ends_are_read():
    long = "w " * 50_000
    assert feature(long, "words") < np.log1p(1100)
    assert feature(long, "characters") == pytest.approx(np.log1p(99_999))
    assert feature(f"If {long}", "relations") == feature(f"{long} if", "relations") == pytest.approx(np.log1p(1))


@given(st.text(max_size=300))
def test_any_text_has_finite_features_and_a_finite_score(text):
    assert np.isfinite(question_features(text)).all()
    assert np.isfinite(QueryRouter.zero_label().score(text))


@given(st.text(st.characters(), max_size=100))
def test_any_text_is_scored_alike_alone_and_among_others(fitted, text):
    others = fitted.score_many(["Who?", text, HARD])
    assert others[1] == fitted.score(text)
    assert np.isfinite(others).all()


def test_lone_surrogates_are_scored(fitted):
    assert np.isfinite(fitted.score("broken \ud800 text"))


def test_the_rule_without_labels_is_its_written_weights():
    question = "If each box is not full, how many remain?"
    expected = sum(weight * feature(question, name) for name, weight in ZERO_LABEL_WEIGHTS.items())
    assert QueryRouter.zero_label().score(question) == pytest.approx(expected)
    assert set(ZERO_LABEL_WEIGHTS) <= set(QUESTION_FEATURES)


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_rule_without_labels_grows_with_length(shorter, more):
    router = QueryRouter.zero_label()
    assert router.score("word " * shorter) < router.score("word " * (shorter + more))


def test_a_fitted_router_tells_questions_apart_that_it_never_saw(fitted):
    texts, gaps = questions_of(1, 100)
    scores = fitted.score_many(texts)
    assert scores[gaps == 1].min() > scores[gaps == 0].max()
    assert np.abs(scores - gaps).mean() < 0.25  # it estimates the gap itself


def test_it_learns_the_gap_and_not_the_length():
    texts, gaps = questions_of(2, 200)
    padded = [text + " padding" * 30 if gap == 0 else text for text, gap in zip(texts, gaps, strict=True)]
    router = QueryRouter.fit(padded, gaps)
    assert router.score(f"{HARD} delta?") > router.score(f"{EASY} delta" + " padding" * 30 + "?")
    zero = QueryRouter.zero_label()
    assert zero.score(f"{HARD} delta?") < zero.score(f"{EASY} delta" + " padding" * 30 + "?")


def test_the_solution_is_that_of_ridge_regression():
    """Against the normal equations of the same kernel, solved directly."""
    texts, gaps = questions_of(3, 60)
    gaps = gaps + np.random.default_rng(0).normal(0, 0.3, 60)
    grams = np.zeros((60, routing._BUCKETS))
    for row, text in zip(grams, texts, strict=True):
        buckets, values = routing._hashed(words(text))
        np.add.at(row, buckets, values)
    dense = np.stack([question_features(text) for text in texts])
    kernel = grams @ grams.T
    for block, power in ((dense, 0.5), (dense @ QueryRouter.zero_label().dense_weights[:, None], 1.0)):
        varied = block[:, block.std(axis=0) > 1e-9]
        scaled = (varied - varied.mean(axis=0)) / varied.std(axis=0) ** power
        kernel += scaled @ scaled.T / np.mean(np.sum(scaled**2, axis=1))
    expected = gaps.mean() + kernel @ np.linalg.solve(kernel + 5.0 * np.eye(60), gaps - gaps.mean())
    assert QueryRouter.fit(texts, gaps, ridge=5.0).score_many(texts) == pytest.approx(expected, abs=2e-3)


def test_a_stronger_penalty_holds_scores_closer_together():
    texts, gaps = questions_of(4, 100)
    spreads = [QueryRouter.fit(texts, gaps, ridge=ridge).score_many(texts).std() for ridge in (1.0, 30.0, 1000.0)]
    assert spreads[0] > spreads[1] > spreads[2] > 0


def test_shifting_all_gaps_shifts_all_scores():
    texts, gaps = questions_of(5, 80)
    scores = QueryRouter.fit(texts, gaps).score_many(texts)
    assert QueryRouter.fit(texts, gaps - 0.5).score_many(texts) == pytest.approx(scores - 0.5, abs=1e-6)


def test_the_same_rows_give_the_same_router(fitted):
    again = QueryRouter.fit(*questions_of(0, 200))
    assert (again.gram_weights == fitted.gram_weights).all()
    assert (again.dense_weights == fitted.dense_weights).all()


def test_hashes_are_the_same_in_every_process():
    buckets, values = routing._hashed(words("the first 3,000 pages, the last page"))
    again = routing._hashed(words("The FIRST 9,999 pages the last page!"))
    assert (buckets == again[0]).all()  # digits count by their number, case and marks not at all
    assert (values == again[1]).all()
    assert len(buckets) == 6 + 6  # "the" stands twice
    assert values @ values == pytest.approx(1.0)
    assert set(np.sign(values)) == {-1.0, 1.0}
    assert [int(number) for number in routing._hashed(words("alpha"))[0]] == [31205]


def test_word_order_counts():
    assert sorted(routing._hashed(words("one two"))[0]) != sorted(routing._hashed(words("two one"))[0])


def test_extra_features_are_learned_and_then_asked_for():
    random = np.random.default_rng(0)
    texts = [f"question {number}" for number in range(120)]
    extra = random.normal(size=(120, 3)) * [1, 100, 0] + [0, 7, 5]  # a constant column says nothing
    gaps = np.sign(extra[:, 0])
    router = QueryRouter.fit(texts, gaps, extra=extra)
    scores = router.score_many(texts, extra)
    assert np.corrcoef(scores, gaps)[0, 1] > 0.7
    assert scores[4] == router.score(texts[4], extra[4])
    with pytest.raises(ConfigurationError, match="fitted with 3 extra features"):
        router.score("question")
    with pytest.raises(ConfigurationError, match=r"got \(1, 2\)"):
        router.score("question", [1.0, 2.0])
    with pytest.raises(ConfigurationError, match="NaN"):
        router.score("question", [1.0, np.nan, 2.0])
    with pytest.raises(ConfigurationError, match="fitted with 0 extra features"):
        QueryRouter.zero_label().score("question", [1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": ["one"] * 29, "gaps": [0, 1] * 14 + [0]}, "at least 30 questions, got 29"),
        ({"gaps": [0, 1] * 15 + [1]}, r"\(30,\), got \(31,\)"),
        ({"gaps": [np.nan] + [1] * 29}, "`gaps` contains NaN"),
        ({"gaps": [1.0] * 30}, "all gaps are 1.0"),
        ({"extra": np.ones((29, 2))}, r"`extra` must have the shape \(30, columns\)"),
        ({"extra": np.ones((30, 0))}, r"`extra` must have the shape \(30, columns\)"),
        ({"extra": np.full((30, 2), np.inf)}, "`extra` contains NaN or infinity"),
        ({"ridge": 0.0}, "`ridge` must be positive"),
        ({"ridge": float("nan")}, "`ridge` must be positive"),
    ],
)
def test_rows_that_teach_nothing_are_refused(change, message):
    values = {"questions": ["one"] * 30, "gaps": [0, 1] * 15, **change}
    with pytest.raises(ConfigurationError, match=message):
        QueryRouter.fit(**values)


def test_questions_without_words_can_be_fitted():
    assert np.isfinite(QueryRouter.fit(["", "?!", "word"] * 10, [0, 1, 1] * 10).score(""))


@pytest.mark.parametrize("with_extra", [False, True])
def test_a_saved_router_scores_as_before(tmp_path, with_extra):
    texts, gaps = questions_of(6, 60)
    extra = gaps[:, None] * 2 + 1 if with_extra else None
    router = QueryRouter.fit(texts, gaps, extra=extra, models=("a", "b"))
    router.save(tmp_path / "router.json")
    loaded = QueryRouter.load(tmp_path / "router.json", models=["a", "b"])
    assert (loaded.score_many(texts, extra) == router.score_many(texts, extra)).all()
    assert (loaded.rows, loaded.models) == (60, ("a", "b"))
    assert [path.name for path in tmp_path.iterdir()] == ["router.json"]


def test_the_rule_without_labels_can_be_saved(tmp_path):
    QueryRouter.zero_label().save(tmp_path / "zero.json")
    assert QueryRouter.load(tmp_path / "zero.json").score("Who?") == QueryRouter.zero_label().score("Who?")


def test_a_router_for_other_models_is_refused(fitted, tmp_path):
    fitted.save(tmp_path / "router.json")
    assert QueryRouter.load(tmp_path / "router.json").models == ("small", "large")
    with pytest.raises(ConfigurationError, match=re.escape("('small', 'large'), not for ('small', 'other')")):
        QueryRouter.load(tmp_path / "router.json", models=("small", "other"))


@given(st.data())
def test_a_torn_file_is_refused(fitted, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("torn") / "router.json"
    fitted.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))])
    with pytest.raises(StorageError, match="is not a valid router") as caught:
        QueryRouter.load(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": 0.5}, "changed after it was written"),
        ({"rows": 7}, "changed after it was written"),
        ({"bias": float("nan")}, "changed after it was written"),
        ({"dense_weights": "many"}, "changed after it was written"),
        ({"gram_weights": "AAAA"}, "changed after it was written"),
        ({"version": 1}, "version 1,"),
        ({"version": None}, "version None"),
        ({"features": ["characters"]}, "changed after it was written"),
        ({"format": "leanrag-calibration"}, "`format` is not"),
    ],
)
def test_an_edited_file_is_refused(fitted, tmp_path, change, message):
    path = tmp_path / "router.json"
    fitted.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StorageError, match=message):
        QueryRouter.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gram_weights": "AAAA"}, "cannot be unpacked"),
        ({"gram_weights": "?"}, "gram_weights|base64|padded"),
        ({"dense_weights": [1.0]}, "1 weights for"),
        ({"bias": float("inf")}, "bias: .*finite"),
        ({"features": ["characters"]}, "other question features"),
        ({"rows": -1}, "rows"),
        ({"more": 1}, "more"),
    ],
)
def test_wrong_fields_are_refused_even_under_a_right_checksum(fitted, tmp_path, change, message):
    path = tmp_path / "router.json"
    fitted.save(path)
    rewrite_record(path, lambda fields: fields.update(change))
    with pytest.raises(StorageError, match=message):
        QueryRouter.load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"PK\x03\x04", b"[" * 100_000, b"null"])
def test_a_file_that_is_no_router_is_refused(tmp_path, content):
    path = tmp_path / "router.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="is not a valid router"):
        QueryRouter.load(path)


def test_a_file_too_large_is_refused_unread(tmp_path):
    path = tmp_path / "router.json"
    with path.open("wb") as file:
        file.truncate(9 << 20)
    with pytest.raises(StorageError, match="larger than 8,388,608 bytes"):
        QueryRouter.load(path)


def test_files_that_cannot_be_read_or_written(fitted, tmp_path):
    with pytest.raises(StorageError, match="cannot read the router"):
        QueryRouter.load(tmp_path / "none.json")
    with pytest.raises(StorageError, match="cannot write"):
        fitted.save(tmp_path / "no folder" / "router.json")


def test_a_failed_save_leaves_the_old_file(fitted, tmp_path):
    path = tmp_path / "router.json"
    fitted.save(path)
    before = path.read_bytes()
    broken = QueryRouter(fitted.dense_weights, models=(object(),))
    with pytest.raises(ValueError, match="valid string"):
        broken.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["router.json"]


def test_its_repr_is_short(fitted):
    assert repr(fitted) == "QueryRouter(rows=200, models=('small', 'large'))"
