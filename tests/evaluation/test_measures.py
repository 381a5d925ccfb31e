"""Metrics of runs: values worked out by hand, intervals, and comparisons."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError
from leanrag.evaluation import METRICS, Metric, Passage, Question, compare, run, summarize
from leanrag.evaluation.measures import is_silent, ranked_hits
from leanrag.evaluation.summaries import questions_for
from leanrag.evaluation.tables import text_table
from leanrag.ledger import Prices
from leanrag.metrics import bootstrap_interval, mcnemar, ndcg, paired_bootstrap
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.routing.cascade import Cascade
from leanrag.testing import FakeModel
from tests.stories import NILE, PARK, RIGHT, WRONG, model, open_rag

BY_NAME = {metric.name: metric for metric in METRICS}
ROWS = [(f"Who signs off release {n}?", ["Ada Park"]) for n in range(8)]


@pytest.fixture
def outcome_of(tmp_path):
    """Asks one question about two documents."""

    def call(reply, *, price=None, **known):
        chosen = Cascade([FakeModel(reply)], prices=[price] if price else ())
        with open_rag(tmp_path / "kb", model=chosen) as rag:
            rag.add_text(PARK, id="park")
            rag.add_text(NILE, id="nile")
            return run(rag, [Question("Who signs off the releases?", **known)]).outcomes[0]

    return call


def values(outcome):
    return {name: metric.value(outcome) for name, metric in BY_NAME.items()}


def test_a_right_answer(outcome_of):
    found = values(outcome_of(RIGHT, answers=("Ada Park",), passages=(Passage("park", 0, 39),)))
    assert found["exact match"] == 0
    assert found["F1"] == pytest.approx(2 * 2 / (7 + 2))
    assert found["contained"] == found["answer in context"] == found["recall@10"] == found["nDCG@10"] == 1
    assert found["citation precision"] == found["citation recall"] == found["supported"] == 1
    assert found["refused rightly"] is None
    assert found["refused wrongly"] == 0
    assert found["prompt tokens"] > 20
    assert found["cost"] is None


def test_a_wrong_answer_and_a_passage_that_is_not_there(outcome_of):
    found = values(outcome_of(WRONG, answers=("Lee Chen",), passages=(Passage("elsewhere"), Passage("nile"))))
    assert found["contained"] == found["F1"] == found["answer in context"] == found["citation recall"] == 0
    assert found["citation precision"] is None
    assert found["recall@10"] == 0.5


def test_silence_is_right_only_without_an_answer(outcome_of):
    silent = "The text does not mention it."
    answerable, unanswerable = outcome_of(silent, answers=("Ada Park",)), outcome_of(silent, answers=())
    assert is_silent(answerable.answer)
    assert [values(one)["contained"] for one in (answerable, unanswerable)] == [0, 1]
    assert [values(one)["refused wrongly"] for one in (answerable, unanswerable)] == [1, None]
    assert [values(one)["refused rightly"] for one in (answerable, unanswerable)] == [None, 1]
    assert values(outcome_of(RIGHT, answers=()))["contained"] == 0


def test_nothing_is_said_where_nothing_is_known(outcome_of):
    found = values(outcome_of(RIGHT))
    assert {name for name, value in found.items() if value is not None} == {
        "supported",
        "prompt tokens",
        "seconds",
        "CPU seconds",
    }


def test_hits_are_ranked_by_score(outcome_of):
    answer = outcome_of(RIGHT).answer
    scores = [hit.score for hit in ranked_hits(answer)]
    assert scores == sorted(scores, reverse=True)
    assert {hit.chunk.document_id for hit in ranked_hits(answer)} == {"park", "nile"}


def test_failures_count_as_wrong(tmp_path):
    with open_rag(tmp_path / "kb", model=model(wrong=lambda n: False, fails=lambda n: n < 2)) as rag:
        rag.add_text(PARK)
        summary = summarize(run(rag, ROWS, most_failed=0.5))
    assert summary.failed == 2
    assert summary.figure("contained").n == 8
    assert summary.figure("contained").value == 0.75
    assert summary.figure("prompt tokens").n == 6
    assert any("no power at 0" in note for note in summary.notes)


def test_the_cost_of_a_right_answer(tmp_path):
    chosen = Cascade([model()], prices=[Prices(1e6, 0.0)])
    with open_rag(tmp_path / "kb", model=chosen) as rag:
        rag.add_text(PARK)
        result = run(rag, ROWS)
    summary = summarize(result)
    tokens = sum(one.answer.usage.prompt_tokens for one in result.outcomes)
    figure = summary.figure("cost of a right answer")
    assert summary.figure("contained").value == 0.75
    assert figure.value == pytest.approx(tokens / 6)
    assert figure.low <= figure.value <= figure.high


def test_own_metrics_and_few_questions(tmp_path):
    def words(question, answer):
        return len(answer.text.split())

    with open_rag(tmp_path / "kb", model=model(wrong=lambda n: False)) as rag:
        rag.add_text(PARK)
        summary = summarize(run(rag, ROWS, name="mine"), [words])
    assert summary.figure("words").value == len(RIGHT.split()) + 1  # the mark
    assert summary.notes[0].startswith("8 questions say little")
    assert "97 questions on" in summary.notes[0]
    assert str(summary).startswith("mine: 8 questions, 0 failed\nmetric")
    assert "100.0% [100.0%, 100.0%]" in str(summary)
    with pytest.raises(ConfigurationError, match=r"`name` must be one of .*got 'speed'"):
        summary.figure("speed")


def test_nothing_found_is_silence(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text(PARK, metadata={"team": "core"})
        outcome = run(rag, [("Who?", [])], where={"team": "other"}).outcomes[0]
    assert outcome.answer.text == NO_ANSWER
    assert BY_NAME["refused rightly"].value(outcome) == 1


# Comparisons


def runs(tmp_path, *models, rows=ROWS):
    for chosen in models:
        with open_rag(tmp_path / "kb", model=chosen) as rag:
            rag.add_text(PARK, id="park")
            yield run(rag, rows, name=chosen.name)


def test_two_runs_question_by_question(tmp_path):
    small, large = runs(tmp_path, model(), model("large", wrong=lambda n: False))
    result = compare(small, large)
    assert (result.metric, result.n, result.before, result.after, result.difference) == ("contained", 8, 0.75, 1, 0.25)
    assert result.mcnemar_p == mcnemar(0, 2) == 0.5
    assert result.low <= 0.25 <= result.high
    assert result.needed == math.ceil((2.8 * math.sqrt(0.25 * 0.75) / 0.25) ** 2)
    assert "no evidence of a difference" in str(result)
    assert compare(large, small).difference == -0.25
    same = compare(small, small)
    assert (same.difference, same.low, same.high, same.p, same.mcnemar_p, same.needed) == (0, 0, 0, 1, 1, None)


def test_a_metric_between_0_and_1_has_no_test_of_changes(tmp_path):
    small, large = runs(tmp_path, model(), model("large"))
    assert compare(small, large, BY_NAME["F1"]).mcnemar_p is None


def test_runs_that_cannot_be_compared(tmp_path):
    (small,) = runs(tmp_path, model())
    (other,) = runs(tmp_path, model(), rows=ROWS[:3])
    with pytest.raises(ConfigurationError, match="different questions"):
        compare(small, other)
    with pytest.raises(ConfigurationError, match="no question has the metric 'recall@10'"):
        compare(small, small, BY_NAME["recall@10"])


# Formulas


def test_ndcg_by_hand():
    assert ndcg([1, 0], [1]) == 1
    assert ndcg([0, 2, 1], [2, 1]) == pytest.approx((2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3)))
    assert ndcg([0, 0], []) == ndcg([], [1]) == 0


@given(st.lists(st.floats(0, 3), max_size=8), st.randoms())
def test_ndcg_is_highest_for_the_best_order(gains, random):
    shuffled = random.sample(gains, len(gains))
    best = ndcg(sorted(gains, reverse=True), gains)
    assert 0 <= ndcg(shuffled, gains) <= best + 1e-9
    assert best == (pytest.approx(1) if any(gains) else 0)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == mcnemar(3, 3) == 1
    assert mcnemar(0, 6) == mcnemar(6, 0) == 2 / 64
    assert mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 256)


pairs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


@given(pairs)
def test_a_paired_interval_is_inside_the_differences_and_turns_with_them(rows):
    before, after = zip(*rows, strict=True)
    differences = [y - x for x, y in rows]
    low, high, p = paired_bootstrap(before, after, resamples=200)
    assert min(differences) - 1e-9 <= low <= high <= max(differences) + 1e-9
    assert 0 < p <= 1
    turned = paired_bootstrap(after, before, resamples=200)
    assert turned == pytest.approx((-high, -low, p))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_a_wider_level_contains_a_narrower_one(values):
    narrow, wide = (bootstrap_interval(values, level=level, resamples=200) for level in (0.5, 0.95))
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1]


def test_formulas_refuse_what_is_not_defined():
    with pytest.raises(ConfigurationError, match="as many values"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(ConfigurationError, match="empty lists"):
        paired_bootstrap([], [])
    with pytest.raises(ConfigurationError, match="only_before"):
        mcnemar(-1, 2)


def test_questions_needed():
    assert [questions_for(width) for width in (0.05, 0.1)] == [385, 97]


def test_a_table_has_aligned_columns():
    assert text_table(("run", "n"), [("small", "8"), ("l", "10")]) == "run     n\n-----  --\nsmall   8\nl      10"


def test_a_metric_that_a_failure_does_not_have():
    assert Metric("x", lambda question, answer: 1, None).of_failure is None
