import doctest
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag.routing.refusals
from leanrag.errors import ConfigurationError
from leanrag.routing.confidence import uncalibrated_confidence
from leanrag.routing.refusals import is_refusal
from leanrag.routing.signals import SIGNAL_NAMES, Signals, signals_of
from leanrag.text import words
from leanrag.types import Chunk, DroppedItem, Generation, Hit, PackedItem, Packing, Segment, Usage

NILE = "The Nile is 6,650 km long. It flows through eleven countries."
PARK = "Releases are signed off by Ada Park. She works in Oslo."


def hit_of(text, score=1.0, *, title="", heading="", dense=None, bm25=None):
    return Hit(Chunk(title or text[:5], 0, len(text), text, title=title, heading=heading), score, dense, bm25)


def packing_of(*hits, dropped=(), shown=None):
    items = tuple(
        PackedItem(n, hit, shown or hit.chunk.text, (Segment(0, len(shown or hit.chunk.text), 0, 0, 1),), 1)
        for n, hit in enumerate(hits, 1)
    )
    return Packing(items, tuple(dropped), 100, len(items))


def generation_of(text, finish="stop", **numbers):
    return Generation(text, "m", finish, Usage(10, len(text.split())), **numbers)


def signals(answer, *sources, question="Who signs off releases?", **numbers):
    hits = [hit_of(text) for text in sources]
    return signals_of(question, hits, packing_of(*hits), generation_of(answer, **numbers))


def test_the_examples_in_the_docs_run():
    assert doctest.testmod(leanrag.routing.refusals) == (0, 1)


# Tokens


def test_token_signals_have_known_values():
    found = signals(
        "Ada Park",
        PARK,
        logprobs=(-1.0, -0.5, 0.0, -3.0, -0.5),
        margins=(2.0, 1.0, 4.0, -0.5, 1.0),
        entropies=(0.5, 0.25, 0.0, 2.0, 0.25),
    )
    assert found.logprob_mean == pytest.approx(-1.0)
    assert found.logprob_min == -3.0
    assert found.logprob_p10 == pytest.approx(-3.0 + 0.4 * 2.0)  # sorted: -3, -1, -.5, -.5, 0; at place .4
    assert found.logprob_p25 == -1.0
    assert found.logprob_first == -1.0
    assert (found.margin_first, found.margin_mean) == (2.0, pytest.approx(1.5))
    assert (found.entropy_mean, found.entropy_max) == (pytest.approx(0.6), 2.0)
    assert found.log_length == pytest.approx(math.log(3))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=70))
def test_quantiles_are_those_of_numpy(values):
    found = signals("Ada Park", PARK, logprobs=tuple(values), margins=tuple(values), entropies=tuple(values))
    shares = (0.0, 0.1, 0.25, 1.0)
    quantiles = [found.logprob_min, found.logprob_p10, found.logprob_p25, found.entropy_max]
    assert quantiles == [float(np.quantile(values, share)) for share in shares]


def test_tokens_of_thoughts_do_not_count():
    scores = {"logprobs": (-9.0, -8.0, -0.5), "margins": (-3.0, -2.0, 1.0), "entropies": (4.0, 5.0, 0.25)}
    found = signals_of("?", [], packing_of(), Generation("Ada", "m", "stop", Usage(9, 3), **scores, thought_tokens=2))
    assert (found.logprob_min, found.logprob_first, found.margin_first, found.entropy_max) == (-0.5, -0.5, 1.0, 0.25)
    assert found.log_length == pytest.approx(math.log(2))
    unfinished = signals_of(
        "?", [], packing_of(), Generation("", "m", "length", Usage(9, 3), **scores, thought_tokens=3)
    )
    assert (unfinished.logprob_mean, unfinished.margin_mean, unfinished.entropy_mean) == (None, None, None)


@pytest.mark.parametrize("none", [None, (), (math.nan,)])
def test_what_a_model_does_not_tell_is_unknown(none):
    found = signals("Ada Park", PARK, logprobs=none, margins=none, entropies=none)
    names = [name for name in SIGNAL_NAMES if name.startswith(("logprob", "margin", "entropy"))]
    assert len(names) == 9
    assert all(getattr(found, name) is None for name in names)
    vector = dict(zip(SIGNAL_NAMES, found.vector(), strict=True))
    assert [vector[name] for name in names] == [0.0] * 9
    assert (vector["no_logprobs"], vector["no_margins"], vector["no_entropies"]) == (1.0, 1.0, 1.0)


def test_an_impossible_token_is_still_a_number():
    found = signals("Ada", PARK, logprobs=(-math.inf, 0.0), margins=(math.inf, 1.0))
    assert (found.logprob_min, found.margin_first) == (-100.0, 100.0)
    assert np.isfinite(found.vector()).all()


@pytest.mark.parametrize(
    ("finish", "flags"), [("stop", (0.0, 0.0)), ("length", (1.0, 0.0)), ("repetition", (0.0, 1.0))]
)
def test_how_it_ended_is_flagged(finish, flags):
    found = signals("Ada Park", PARK, finish=finish)
    assert (found.truncated, found.repetition) == flags


# Refusals


@pytest.mark.parametrize(
    "text",
    [
        "I don't know.",
        "I’m sorry, but I cannot answer that.",
        "The provided text does not mention Ada Park.",
        "The passage above doesn't specify a year.",
        "The documents do not contain it.",
        "This is not mentioned in the given text.",
        "It is not explicitly stated in the passage.",
        "There is not enough information to answer.",
        "There is no information about it.",
        "UNANSWERABLE",
        "The answer cannot be determined.",
    ],
)
def test_refusals_are_recognised(text):
    assert is_refusal(text)
    assert signals(text, PARK).refusal == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "Ada Park",
        "It does not rain there.",
        "The law does not mention taxes.",
        "No, it is not.",
        "Compression without loss: no information is lost.",
        "He did not know the king.",
        "",
    ],
)
def test_answers_are_not_refusals(text):
    assert not is_refusal(text)


# Retrieval


def test_retrieval_signals_have_known_values():
    hits = [
        hit_of(PARK, 0.03, title="Team", dense=0.8, bm25=6.0),
        hit_of(NILE, 0.02, dense=0.5, bm25=None),
        hit_of("Oslo", 0.01, dense=0.6, bm25=2.0),
    ]
    found = signals_of("Who in the team signs off 7 releases?", hits, packing_of(hits[1]), generation_of("Ada"))
    assert (found.dense_best, found.dense_gap, found.dense_mean) == (0.8, pytest.approx(0.2), pytest.approx(1.9 / 3))
    assert (found.bm25_best, found.bm25_gap) == (6.0, 0.5)
    assert found.score_gap == pytest.approx(0.2)
    assert found.agreement == 1.0  # .8 .6 .5 and 6 2 0
    assert found.log_hits == pytest.approx(math.log(4))
    assert found.question_in_best == 0.75  # team by the title, sign, releas; not 7
    assert found.question_in_sources == 0.0


def test_both_sides_may_disagree():
    def agreement(*pairs):
        hits = [hit_of("x", dense=dense, bm25=bm25) for dense, bm25 in pairs]
        return signals_of("q", hits, packing_of(), generation_of("a")).agreement

    assert agreement((0.9, 1.0), (0.8, 2.0), (0.7, 3.0)) == 0.0
    assert agreement((0.9, 2.0), (0.8, 3.0), (0.7, 1.0)) == pytest.approx(2 / 3)
    assert agreement((0.9, 2.0), (0.8, 2.0)) == 0.5
    assert agreement((0.9, None), (0.8, None)) is None
    assert agreement((None, 1.0), (None, 2.0)) is None
    assert agreement((0.9, 1.0)) is None


def test_one_hit_has_no_second_and_none_has_nothing():
    one = signals_of("q", [hit_of(PARK, 0.4, dense=0.4, bm25=3.0)], packing_of(), generation_of("a"))
    assert (one.dense_gap, one.bm25_gap, one.score_gap) == (0.4, 1.0, 1.0)
    none = signals_of("Was it?", [], packing_of(), generation_of("a"))
    assert (none.dense_best, none.bm25_best, none.score_gap, none.agreement) == (None, None, None, None)
    assert (none.question_in_best, none.question_in_sources) == (None, None)  # only stop words
    assert (none.words_in_sources, none.span_share, none.kept_share, none.log_hits) == (0.0, 0.0, 0.0, 0.0)
    vector = dict(zip(SIGNAL_NAMES, none.vector(), strict=True))
    assert [name for name in SIGNAL_NAMES[-12:] if vector[name] == 0.0] == []


# Groundedness


def test_how_much_of_the_question_stands_where_the_answer_does():
    question = "How long is the Nile in Egypt?"  # "egypt" stands nowhere
    found = signals("It is 6,650 km long.", NILE, PARK, question=question)
    # Of four sentences one holds "long" and "nil".
    one, none = math.log(5 / 1.5), math.log(5 / 0.5)
    assert found.question_in_sentence == pytest.approx(2 * one / (2 * one + none))
    assert found.question_by_answer == found.question_in_sentence
    elsewhere = signals("Eleven countries.", NILE, PARK, question=question)
    assert (elsewhere.question_in_sentence, elsewhere.question_by_answer) == (found.question_in_sentence, 0.0)
    nowhere = signals("In Peru.", NILE, PARK, question=question)
    assert nowhere.question_by_answer == 0.0
    assert signals("Oslo", PARK, question="Who?").question_in_sentence is None


def test_what_the_packer_found_the_place_of_the_answer_worth():
    hit = hit_of(NILE)
    parts = (Segment(0, 27, 0, 0, 27, 0.75), Segment(28, len(NILE), 0, 28, len(NILE), 0.25))
    packing = Packing((PackedItem(1, hit, NILE, parts, 1),), (), 100, 1)

    def found(answer, packing=packing):
        one = signals_of("How long is the Nile?", [hit], packing, generation_of(answer))
        return one.evidence_best, one.evidence_by_answer

    assert found("6,650 km") == (0.75, 0.75)
    assert found("Eleven countries.") == (0.75, 0.25)
    assert found("In Peru.") == (0.75, 0.0)
    unknown = Packing((PackedItem(1, hit, NILE, (replace(parts[0], score=None), parts[1]), 1),), (), 100, 1)
    assert found("6,650 km", unknown) == (None, None)


@pytest.mark.parametrize(
    ("question", "answer", "fits"),
    [
        ("When was it built?", "In 1889.", 1.0),
        ("When was it built?", "Long ago.", 0.0),
        ("How many people live there?", "4 million", 1.0),
        ("In what year did it fall?", "in spring", 0.0),
        ("Who built it?", "It was Ada Park.", 1.0),
        ("Who built it?", "It was built.", 0.0),
        ("Where is it?", "in Oslo", 1.0),
        ("What does it do?", "It counts.", None),
    ],
)
def test_the_kind_of_answer_that_a_question_asks_for(question, answer, fits):
    assert signals(answer, PARK, question=question).kind_fits == fits


def test_an_answer_that_stands_there():
    found = signals("Ada Park [1].", NILE, PARK)
    assert (found.span_share, found.contained, found.words_in_sources) == (1.0, 1.0, 1.0)
    assert (found.numbers_in_sources, found.names_in_sources, found.beyond_question) == (1.0, 1.0, 1.0)


def test_a_number_and_a_name_that_do_not():
    found = signals("Bo Lind and Ada Park walked 6650 km and 12 km", NILE, PARK)
    assert found.numbers_in_sources == 0.5  # "6,650" is the same number
    assert found.names_in_sources == 0.5
    assert found.words_in_sources == 0.5  # ada, park, 6650, km; not bo, lind, walk, 12
    assert found.contained == 0.0
    assert found.span_share == pytest.approx(2 / 11)


def test_a_run_of_words_does_not_cross_sources():
    assert signals("Ada Park lives", "by Ada", "Park lives").span_share == pytest.approx(2 / 3)
    assert signals("Ada Park lives", "by Ada Park lives").contained == 1.0


def test_words_of_the_question_are_not_beyond_it():
    assert signals("The releases are signed off.", PARK).beyond_question == 0.0
    assert signals("Releases: Ada.", PARK).beyond_question == 0.5


def test_an_answer_without_words():
    found = signals(" [1] ...", PARK)
    assert (found.empty, found.span_share, found.contained, found.words_in_sources) == (1.0, 0.0, 0.0, 0.0)
    assert uncalibrated_confidence(found).value == 0.0


def test_a_title_is_a_source_too():
    hit = hit_of(NILE, title="Ada Park")
    found = signals_of("q", [hit], packing_of(hit), generation_of("Ada Park"))
    assert (found.names_in_sources, found.contained) == (1.0, 0.0)


def test_the_share_that_the_prompt_shows():
    a, b, c = hit_of("a" * 100), hit_of("b" * 50), hit_of("c" * 50)
    packing = packing_of(a, shown="a" * 60, dropped=[DroppedItem(b, "budget", 9), DroppedItem(c, "duplicate", 9)])
    assert signals_of("q", [a, b, c], packing, generation_of("a")).kept_share == pytest.approx(60 / 150)
    heading = replace(packing.items[0], action="heading", segments=())
    assert signals_of("q", [a], replace(packing, items=(heading,)), generation_of("a")).kept_share == 0.0
    merged = replace(packing.items[0], text="a" * 150, more=(b,))
    assert signals_of("q", [a, b], Packing((merged,), (), 9, 9), generation_of("a")).kept_share == 1.0


texts = st.lists(st.sampled_from(["ada", "Park", "nile", "12", "the", "x."]), max_size=12).map(" ".join)


@given(texts, st.lists(texts, max_size=3))
def test_the_longest_run_is_that_of_a_plain_search(answer, sources):
    run = words(answer)
    plain = max(
        (
            end - start
            for start in range(len(run))
            for end in range(start + 1, len(run) + 1)
            for source in map(words, sources)
            if any(source[i : i + end - start] == run[start:end] for i in range(len(source)))
        ),
        default=0,
    )
    assert signals(answer, *sources).span_share == (plain / len(run) if run else 0.0)


# Vectors


@given(
    texts,
    texts,
    st.lists(
        st.tuples(texts, st.floats(-1, 1), st.none() | st.floats(-1, 1), st.none() | st.floats(0, 50)), max_size=4
    ),
    st.none() | st.lists(st.floats(-math.inf, 0), max_size=5).map(tuple),
    st.sampled_from(["stop", "length", "repetition"]),
    st.none() | st.floats(0, 1),
)
def test_every_answer_has_a_finite_vector_and_a_confidence(question, answer, found, logprobs, finish, support):
    hits = [hit_of(text, score, dense=dense, bm25=bm25) for text, score, dense, bm25 in found]
    generation = generation_of(answer, finish, logprobs=logprobs, margins=logprobs)
    result = signals_of(question, hits, packing_of(*hits), generation, support=support)
    vector = result.vector()
    assert vector.shape == (len(SIGNAL_NAMES),)
    assert vector.dtype == np.float64
    assert np.isfinite(vector).all()
    shares = [
        name
        for name in SIGNAL_NAMES
        if "_in_" in name or "share" in name or name in ("agreement", "bm25_gap", "score_gap", "question_by_answer")
    ]
    assert all(0 <= value <= 1 for name in shares if (value := getattr(result, name)) is not None)
    assert 0 <= uncalibrated_confidence(result).value <= 1


def test_columns_are_the_signals_and_then_the_indicators():
    found = signals("Ada Park", PARK, logprobs=(-1.0,))
    assert SIGNAL_NAMES[: len(found.as_dict())] == tuple(found.as_dict())
    assert len(set(SIGNAL_NAMES)) == len(SIGNAL_NAMES) == 50
    vector = dict(zip(SIGNAL_NAMES, found.vector(), strict=True))
    assert {name: vector[name] for name in SIGNAL_NAMES[-12:]} == {
        "no_logprobs": 0.0,
        "no_margins": 1.0,
        "no_entropies": 1.0,
        "no_dense": 1.0,
        "no_bm25": 1.0,
        "no_hits": 0.0,
        "no_agreement": 1.0,
        "no_question_words": 0.0,
        "no_evidence": 1.0,
        "no_kind": 0.0,
        "no_support": 1.0,
        "no_self_check": 1.0,
    }
    assert vector["logprob_mean"] == -1.0
    assert Signals(**found.as_dict()) == found


def test_a_signal_that_is_not_finite_is_refused():
    with pytest.raises(ConfigurationError, match="support=nan"):
        replace(signals("Ada", PARK), support=math.nan).vector()


# The fixed rule


def test_the_rule_by_hand():
    found = replace(signals("Ada Park", PARK, logprobs=(math.log(0.25),)), support=0.5)
    assert found.question_in_sources == 1.0
    confidence = uncalibrated_confidence(found)
    assert confidence.value == pytest.approx(math.sqrt(0.25 * 0.9))  # the mean of 1, 1, 1, 1 and .5
    assert float(confidence) == confidence.value
    assert (confidence.calibrated, confidence.signals) == (False, found)
    assert uncalibrated_confidence(replace(found, logprob_p10=None)).value == pytest.approx(0.9)
    assert uncalibrated_confidence(replace(found, truncated=1.0)).value == pytest.approx(confidence.value / 2)
    assert uncalibrated_confidence(replace(found, refusal=1.0)).value == 0.0
    assert uncalibrated_confidence(replace(found, repetition=1.0)).value == 0.0


GOOD = ("words_in_sources", "numbers_in_sources", "names_in_sources", "question_in_sources", "support", "self_check")


@given(
    st.fixed_dictionaries({name: st.floats(0, 1) for name in GOOD}),
    st.floats(-50, 0),
    st.sampled_from([*GOOD, "logprob_p10"]),
    st.floats(0, 1),
)
def test_more_of_what_is_good_is_never_less_confident(grounds, logprob, name, more):
    found = replace(signals("Ada Park", PARK), logprob_p10=logprob, **grounds)
    value = getattr(found, name)
    better = replace(found, **{name: value + more * ((0.0 if name == "logprob_p10" else 1.0) - value)})
    assert uncalibrated_confidence(better).value >= uncalibrated_confidence(found).value - 1e-12
    for flag in ("empty", "refusal", "repetition", "truncated"):
        assert uncalibrated_confidence(replace(found, **{flag: 1.0})).value <= uncalibrated_confidence(found).value


def test_better_answers_are_more_confident():
    right = signals("Ada Park", PARK, logprobs=(-0.1, -0.2))
    unsure = signals("Ada Park", PARK, logprobs=(-2.0, -0.2))
    made_up = signals("Bo Lind, in 1876", PARK, logprobs=(-0.1, -0.2))
    assert uncalibrated_confidence(right).value > uncalibrated_confidence(unsure).value > 0
    assert uncalibrated_confidence(right).value > uncalibrated_confidence(made_up).value
