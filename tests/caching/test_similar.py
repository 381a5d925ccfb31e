"""Similar questions: which gate lets an answer pass, and what is learnt from comparing answers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import ConfigurationError
from leanrag.bounds import clopper_pearson_upper
from leanrag.caching import AnswerCache, MatchModel, SimilarQuestions
from leanrag.caching.match import FEATURES, match_features
from leanrag.caching.similar import FIRST_CHECK, Comparison, error_bound, error_share, lowest_threshold
from leanrag.testing import FakeModel
from tests.examples import max_examples
from tests.stories import open_rag

LIKELY = MatchModel(tuple(20.0 if name == "constant" else 0.0 for name in FEATURES))
"""Finds all pairs alike, so that the other gates decide."""
EAGER = {"threshold": 0.5, "least_cosine": 0.1, "margin": 0.0, "audit": 1e-9, "model": LIKELY}
KEYS = "The cellar keys are kept by Ada Park in the office."
SAWS = "The band saw is kept by Bo Lind in the cellar."
SAME = "Who keeps the cellar keys in the office?"
SAME_AGAIN = "By whom are the cellar keys kept in the office?"


def open_cached(folder, *, reply=KEYS, confidence=0.0, **policy):
    cache = AnswerCache(similar=SimilarQuestions(least_confidence=confidence, **{**EAGER, **policy}))
    model = FakeModel(reply)
    rag = open_rag(folder, model=model, cache=cache)
    rag.add(leanrag.Document(KEYS, id="keys"), leanrag.Document(SAWS, id="saws"))
    return rag, model, cache


def tiers(answer):
    return [stage.details.get("tier") for stage in answer.trace if stage.name == "cache"]


def test_the_same_question_in_other_words_gets_the_answer_with_quotes_from_its_own_evidence(tmp_path):
    rag, model, cache = open_cached(tmp_path)
    with rag:
        first, second = rag.ask(SAME), rag.ask(SAME_AGAIN)
    assert (len(model.prompts), tiers(second), second.question) == (1, [None, "similar"], SAME_AGAIN)
    assert (second.text, second.is_supported, second.usage.total_tokens) == (first.text, True, 0)
    assert [citation.quote for citation in second.citations] == [KEYS]
    assert cache.stats().similar.hits == 1


@pytest.mark.parametrize(
    ("policy", "question", "gate"),
    [
        ({}, "Who keeps the cellar keys in the office of Bo Lind?", "names"),
        ({}, "Who keeps 2 cellar keys in the office?", "numbers"),
        ({"threshold": None}, SAME_AGAIN, "threshold"),
        ({"threshold": 0.999, "model": MatchModel((0.0,) * len(FEATURES))}, SAME_AGAIN, "threshold"),
    ],
)
def test_each_gate_says_what_it_refused(tmp_path, policy, question, gate):
    rag, model, cache = open_cached(tmp_path, **policy)
    with rag:
        rag.ask(SAME)
        rag.ask(question)
    assert len(model.prompts) == 2
    assert cache.stats().similar.refused == {gate: 1}


def test_an_edited_document_refuses_the_old_answer(tmp_path):
    rag, model, _ = open_cached(tmp_path)
    with rag:
        rag.ask(SAME)
        rag.add(leanrag.Document(KEYS.replace("the office", "the attic"), id="keys"))
        assert tiers(rag.ask(SAME_AGAIN)) == [None, None]
    assert len(model.prompts) == 2


@pytest.mark.parametrize(
    ("reply", "confidence"), [("Bananas grow in Brazil.", 0.0), (KEYS, 1.0)], ids=["unsupported", "unsure"]
)
def test_an_answer_that_is_not_good_enough_is_not_given_to_others(tmp_path, reply, confidence):
    rag, model, _ = open_cached(tmp_path, reply=reply, confidence=confidence)
    with rag:
        rag.ask(SAME)
        rag.ask(SAME_AGAIN)
    assert len(model.prompts) == 2


def test_two_stored_questions_that_are_as_near_with_other_answers_are_ambiguous(tmp_path):
    replies = iter([KEYS, "Ada Park.", KEYS])
    rag, model, cache = open_cached(tmp_path, reply=lambda prompt: next(replies), margin=1.0, threshold=0.999999)
    with rag:
        rag.ask(SAME)
        rag.ask("Which person in the office is it that the cellar keys are with?")
        rag.ask(SAME_AGAIN)
    assert len(model.prompts) == 3
    assert cache.stats().similar.refused["ambiguous"] == 1


def test_tenants_and_folders_do_not_share_answers(tmp_path):
    for namespace, folder in (("a", "x"), ("b", "x"), ("a", "y")):
        policy = SimilarQuestions(least_confidence=0.0, **EAGER)
        cache = AnswerCache(tmp_path / "answers.db", namespace=namespace, similar=policy)
        model = FakeModel(KEYS)
        with cache, open_rag(tmp_path / folder, model=model, cache=cache) as rag:
            rag.add(leanrag.Document(KEYS, id="keys"))
            rag.ask(SAME)
            rag.ask(SAME_AGAIN)
        assert len(model.prompts) == 1


def test_a_poisoned_question_with_a_colliding_vector_finds_nothing(tmp_path):
    class Colliding(leanrag.testing.HashEmbedder):
        def embed_queries(self, texts):
            return np.tile(np.eye(1, self.dim, dtype=np.float32), (len(texts), 1))

    policy = SimilarQuestions(least_confidence=0.0, **EAGER)
    model = FakeModel(KEYS)
    with open_rag(tmp_path, model=model, embedder=Colliding(), cache=AnswerCache(similar=policy)) as rag:
        rag.add(leanrag.Document(KEYS, id="keys"), leanrag.Document(SAWS, id="saws"))
        rag.ask(SAME)
        rag.ask("Who keeps the band saw?")
    assert len(model.prompts) == 2


def test_an_audited_hit_is_computed_again_and_compared(tmp_path):
    rag, model, cache = open_cached(tmp_path, audit=1.0)
    with rag:
        rag.ask(SAME)
        rag.ask(SAME_AGAIN)
    stats = cache.stats().similar
    assert (len(model.prompts), stats.hits, stats.compared, stats.disagreed) == (2, 0, 1, 0)
    assert stats.bound == pytest.approx(clopper_pearson_upper(0, 1, 0.025), abs=1e-9)


def test_an_entry_that_was_once_wrong_is_not_used_at_that_score_again(tmp_path):
    replies = iter([KEYS, "In the cellar.", KEYS])
    rag, _, cache = open_cached(tmp_path, reply=lambda prompt: next(replies), audit=1.0)
    with rag:
        for question in (SAME, SAME_AGAIN, "By whom are the cellar keys kept at the office?"):
            rag.ask(question)
    assert cache.stats().similar.disagreed == 1
    assert cache.stats().similar.refused == {"entry": 1}


# What is learnt

comparisons = st.lists(
    st.builds(Comparison, st.integers(0, 20).map(lambda n: n / 20), st.booleans(), st.sampled_from([1.0, 1.0, 10.0])),
    min_size=1,
    max_size=80,
)


@max_examples(60)
@given(rows=comparisons, error=st.sampled_from([0.05, 0.2, 0.5]), delta=st.sampled_from([0.05, 0.2]))
def test_the_lowest_threshold_keeps_the_bound_and_the_next_lower_one_does_not(rows, error, delta):
    lowest = lowest_threshold(rows, error=error, delta=delta)
    scores = sorted({row.score for row in rows}, reverse=True)
    passing = []
    for score in scores:
        if error_bound(rows, score, delta) > error:
            break
        passing.append(score)
    assert lowest == (passing[-1] if passing else None)
    for score in passing:
        assert error_share(rows, score) <= error + 1e-9


def test_without_a_mistake_the_bound_is_that_of_clopper_and_pearson():
    rows = [Comparison(0.9, True)] * 200
    assert error_bound(rows, 0.5, 0.05) == clopper_pearson_upper(0, 200, 0.025)
    assert lowest_threshold(rows, error=0.02, delta=0.05) == 0.9
    assert lowest_threshold(rows, error=0.01, delta=0.05) is None


def test_audited_hits_count_for_those_that_were_not_compared():
    rows = [Comparison(0.2, False)] * 80 + [Comparison(0.9, True, 20.0)] * 1
    expected = clopper_pearson_upper(0, 100, 0.025) + 0.2 * clopper_pearson_upper(0, 1, 0.025)
    assert error_bound(rows, 0.5, 0.05) == pytest.approx(expected)
    assert (error_share(rows, 0.5), error_share(rows, 0.1)) == (0.0, 0.8)


@pytest.mark.parametrize(("agreed", "threshold"), [(True, 0.9), (False, None)])
def test_the_threshold_follows_the_comparisons(tmp_path, agreed, threshold):
    path = tmp_path / "answers.db"
    with AnswerCache(path, similar=SimilarQuestions()) as cache, cache._file.writing() as connection:
        connection.executemany(
            "INSERT INTO comparisons (entry, score, agreed, weight) VALUES (1, 0.95, ?, 1.0)",
            [(agreed,)] * 8 * FIRST_CHECK,
        )
    with AnswerCache(path, similar=SimilarQuestions(threshold=0.9)) as cache:
        assert cache.stats().similar.threshold == threshold


# The score


def test_a_threshold_that_lets_too_many_wrong_answers_pass_rises_at_once(tmp_path):
    with AnswerCache(tmp_path / "a.db", similar=SimilarQuestions(error=0.05, threshold=0.5)) as cache:
        compare(cache, [(0.9, True)] * 90)  # the next check that may lower the threshold is at 128
        assert cache.stats().similar.threshold == 0.5
        compare(cache, [(0.6, False)] * 5)
        assert cache.stats().similar.threshold == 0.9


def compare(cache, pairs):
    """Write comparisons as `learn` does."""
    with cache._file.writing() as connection:
        connection.executemany("INSERT INTO comparisons (entry, score, agreed, weight) VALUES (1, ?, ?, 1.0)", pairs)
    cache._similar._learn_threshold()


def test_the_shipped_score_prefers_near_questions():
    model = MatchModel.shipped()
    pairs = [
        model.probability("How do I reset my password?", other, cosine)
        for other, cosine in (
            ("How can I reset the password?", 0.96),
            ("How can I reset the password?", 0.8),
            ("Where is the canteen?", 0.3),
        )
    ]
    assert pairs == sorted(pairs, reverse=True)
    assert 0 < pairs[-1] < 0.1 < 0.7 < pairs[0] < 1


def test_a_score_is_learnt_from_pairs():
    draw = np.random.default_rng(0)
    cosines = draw.uniform(0.5, 1, 400)
    labels = draw.random(400) < 1 / (1 + np.exp(-20 * (cosines - 0.8)))
    model = MatchModel.fit([match_features("a b", "a b", cosine) for cosine in cosines], labels.tolist(), ridge=0.1)
    middle = [model.probability("a b", "a b", cosine) for cosine in (0.7, 0.8, 0.9)]
    assert middle == sorted(middle)
    assert math.isclose(middle[1], 0.5, abs_tol=0.15)


@pytest.mark.parametrize(
    "options", [{"error": 0}, {"delta": 1}, {"threshold": 1.5}, {"margin": -1}, {"least_cosine": 2}, {"audit": 0}]
)
def test_policies_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        SimilarQuestions(**options)
