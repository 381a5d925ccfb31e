"""Small first, larger when it matters: who is asked, what it costs, and what is returned when somebody fails."""

import asyncio
import dataclasses
import logging
import math

import numpy as np
import pytest

import leanrag
import leanrag.routing.signals
from leanrag import BudgetError, CancelToken, Cascade, ConfigurationError, GenerationCancelled, GenerationError, Limits
from leanrag.errors import ContextOverflowError, GenerationTimeout, QueueFullError, RemoteError
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.routing.calibration import CalibratedModel
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Scores
from tests.stories import PARK, QUESTION, Failing
from tests.stories import RIGHT as SURE
from tests.stories import WRONG as UNSURE


class Priced(FakeModel):
    """Charges a cent a token."""

    def price(self, usage):
        return usage.total_tokens / 100


class Router:
    def __init__(self, score):
        self.value = score

    def score(self, question):
        return self.value


@pytest.fixture
def ask(tmp_path):
    """Asks models in turn about the handbook."""

    def call(*models, method="ask", question=QUESTION, options=None, **policy):
        with leanrag.open(tmp_path / "kb", model=Cascade(models, **policy), embedder=HashEmbedder()) as rag:
            rag.add_text(PARK, id="park")
            return getattr(rag, method)(question, **(options or {}))

    return call


def outcomes(answer):
    return [(step.model, step.outcome) for step in answer.steps]


def test_an_answer_that_is_sure_enough_is_kept_and_nobody_else_is_asked(ask):
    small, large = FakeModel(SURE, name="small"), FakeModel("Ada Park.", name="large")
    answer = ask(small, large)
    assert answer.text == "Releases are signed off by Ada Park [1]."
    assert (answer.model, answer.stopped_by, answer.calibrated) == ("small", None, False)
    assert outcomes(answer) == [("small", "kept")]
    assert answer.confidence == answer.steps[0].confidence >= 0.5
    assert (len(small.prompts), len(large.prompts)) == (1, 0)


def test_an_answer_that_is_not_sure_goes_on_and_both_are_charged(ask):
    small, large = FakeModel(UNSURE, name="small"), Priced(SURE, name="large")
    answer = ask(small, large)
    assert answer.model == "large"
    assert outcomes(answer) == [("small", "escalated"), ("large", "kept")]
    assert answer.steps[0].text.startswith("Bananas")
    assert answer.steps[0].confidence < 0.5 < answer.steps[1].confidence
    first, second = (step.usage for step in answer.steps)
    assert answer.usage.prompt_tokens == first.prompt_tokens + second.prompt_tokens
    assert answer.usage.completion_tokens == first.completion_tokens + second.completion_tokens
    assert (answer.steps[0].cost, answer.cost) == (None, second.total_tokens / 100)
    assert [stage.name for stage in answer.trace].count("generate") == 2


def test_each_model_gets_a_prompt_packed_for_its_own_window(ask):
    text = "Who signs off the releases? " * 3
    small, large = FakeModel(UNSURE, name="small", n_ctx=157), FakeModel(SURE, name="large")
    answer = ask(small, large, question=text, options={"max_tokens": 20})
    assert PARK not in small.prompts[0]
    assert PARK in large.prompts[0]
    assert answer.model == "large"


def test_a_question_that_does_not_fit_the_first_window_goes_on(ask):
    small, large = FakeModel(SURE, name="small", n_ctx=80), FakeModel(SURE, name="large")
    answer = ask(small, large)
    assert outcomes(answer) == [("small", "failed"), ("large", "kept")]
    assert "Shorten the question" in answer.steps[0].reason
    assert small.prompts == []


def test_the_last_answer_is_kept_however_unsure(ask):
    answer = ask(FakeModel(UNSURE, name="small"), FakeModel(UNSURE, name="large"))
    assert (answer.model, answer.stopped_by) == ("large", None)
    assert [step.reason for step in answer.steps] == ["not sure enough", "the last model"]


def test_the_threshold_is_the_users(ask):
    answer = ask(FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large"), threshold=0.0)
    assert answer.model == "small"


# Failures


def test_a_first_model_that_fails_is_passed_over(ask):
    answer = ask(Failing(name="small"), FakeModel(SURE, name="large"))
    assert outcomes(answer) == [("small", "failed"), ("large", "kept")]
    assert answer.steps[0].reason == "the GPU is on fire"
    assert answer.stopped_by is None


@pytest.mark.parametrize("after", [None, 0, 2])
def test_when_the_larger_one_fails_the_best_answer_so_far_is_returned_and_marked(ask, after):
    answer = ask(FakeModel(UNSURE, name="small"), Failing(name="large", after=after))
    assert (answer.model, answer.stopped_by) == ("small", "outage")
    assert outcomes(answer) == [("small", "escalated"), ("large", "failed")]
    assert answer.text.startswith("Bananas")


@pytest.mark.parametrize("limits", [Limits(), Limits(cost=0), Limits(joules=1e9, watts=15)])
def test_when_the_larger_one_cannot_be_loaded_the_best_answer_so_far_is_returned(ask, tmp_path, limits):
    (tmp_path / "large.gguf").write_text("no model")
    answer = ask(Priced(UNSURE, name="small"), tmp_path / "large.gguf", limits=limits)
    assert (answer.model, answer.stopped_by) == ("small", "outage")
    assert "is not a GGUF file" in answer.steps[-1].reason


def test_the_surest_answer_is_the_best(ask):
    answer = ask(
        FakeModel("Ada grows bananas since 1999, in Rome.", name="a"),
        FakeModel("I do not know.", name="b"),
        Failing(name="c"),
    )
    assert (answer.model, answer.stopped_by) == ("a", "outage")
    assert answer.confidence == answer.steps[0].confidence > answer.steps[1].confidence


def test_when_all_fail_the_last_error_is_raised(ask):
    with pytest.raises(GenerationError, match="no answer here"):
        ask(Failing(name="a"), Failing(GenerationError("no answer here"), name="b"))
    with pytest.raises(BudgetError):
        ask(Failing(name="a"), FakeModel(name="b", n_ctx=80))


def test_a_cancelled_question_ends(ask):
    token = CancelToken()
    token.cancel()
    large = FakeModel(SURE, name="large")
    with pytest.raises(GenerationCancelled):
        ask(FakeModel(SURE, name="small"), large, options={"cancel": token})
    assert large.prompts == []


# Limits


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (Limits(seconds=0), "seconds"),
        (Limits(tokens=10), "tokens"),
        (Limits(cost=0.5), "cost"),
        (Limits(joules=0, watts=15), "joules"),
    ],
)
def test_a_limit_keeps_the_next_model_from_being_asked(ask, limits, name):
    large = Priced(SURE, name="large")
    answer = ask(Priced(UNSURE, name="small"), large, limits=limits)
    assert (answer.model, answer.stopped_by, large.prompts) == ("small", name, [])


def test_no_limit_of_money_keeps_from_being_asked_what_costs_none(ask):
    priced, free = Priced(UNSURE, name="small"), FakeModel(SURE, name="large")
    answer = ask(priced, free, limits=Limits(cost=0))
    assert (answer.model, answer.stopped_by) == ("large", None)
    both = ask(
        priced, free, limits=Limits(cost=0, joules=0, watts=15)
    )  # the first works elsewhere: no power is drawn yet
    assert (both.model, both.stopped_by) == ("small", "joules")


def test_a_free_model_is_asked_after_one_that_there_is_no_money_for(ask):
    small, dear = FakeModel(UNSURE, name="small"), Priced(SURE, name="dear")
    answer = ask(small, dear, FakeModel(SURE, name="large"), limits=Limits(cost=0))
    assert (answer.model, answer.stopped_by, dear.prompts) == ("large", None, [])
    stopped = ask(small, dear, Failing(name="broken"), Priced(SURE, name="dearer"), limits=Limits(cost=0))
    assert (stopped.model, stopped.stopped_by, dear.prompts) == ("small", "cost", [])


def test_what_will_not_pass_by_itself_is_a_warning(ask, caplog):
    def levels(error):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="leanrag.pipeline.turn"):
            ask(FakeModel(UNSURE, name="small"), Failing(error, name="large"))
        return [record.levelname for record in caplog.records]

    assert levels(RemoteError("a wrong key", status=401)) == ["WARNING"]
    assert levels(RemoteError("too many", status=429, retryable=True)) == ["INFO"]
    assert levels(GenerationTimeout("late")) == ["INFO"]


def test_a_limit_that_is_not_reached_changes_nothing(ask):
    limits = Limits(seconds=1e6, tokens=10**9, cost=1e9, joules=1e9, watts=15)
    answer = ask(FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large"), limits=limits)
    assert (answer.model, answer.stopped_by) == ("large", None)


def test_the_next_model_gets_the_time_that_is_left(ask):
    class Watching(FakeModel):
        def stream(self, prompt, options):
            self.timeout = options.timeout_seconds
            return super().stream(prompt, options)

    small, large = Watching(UNSURE, name="small"), Watching(SURE, name="large")
    ask(small, large, limits=Limits(seconds=100))
    assert small.timeout is None
    assert 0 < large.timeout < 100
    ask(small, large, limits=Limits(seconds=100), options={"timeout_seconds": 3})
    assert (small.timeout, large.timeout) == (3, 3)


# Before anything is generated


@pytest.mark.parametrize(
    ("score", "expected"), [(0.9, [("small", "skipped"), ("large", "kept")]), (0.5, [("small", "kept")])]
)
def test_a_router_may_skip_the_first_model(ask, score, expected):
    small, large = FakeModel(SURE, name="small"), FakeModel(SURE, name="large")
    assert outcomes(ask(small, large, router=Router(score), skip_above=0.5)) == expected
    plan = ask(small, large, router=Router(score), skip_above=0.5, method="explain")
    assert plan.model == expected[-1][0]


# Calibrated


@dataclasses.dataclass
class FixedCalibration:
    keep: bool
    models: tuple = (CalibratedModel(name="small"), CalibratedModel(name="large"))
    features: tuple = leanrag.routing.signals.SIGNAL_NAMES
    abstain_below: float | None = None
    ask_from: float | None = None
    larger_abstain_below: float | None = None
    label_source: str = "labelled"

    def confidence(self, rows):
        assert rows.shape == (1, len(leanrag.routing.signals.SIGNAL_NAMES))
        return np.array([0.25])

    def keeps(self, rows):
        return np.array([self.keep])

    def asks(self, rows):
        return np.array([False])


@pytest.mark.parametrize(("keep", "model"), [(True, "small"), (False, "large")])
def test_a_calibration_decides_where_there_is_one(ask, keep, model):
    answer = ask(FakeModel(SURE, name="small"), FakeModel(UNSURE, name="large"), calibrations=[FixedCalibration(keep)])
    assert answer.model == model
    assert (answer.steps[0].confidence, answer.calibrated) == (0.25, keep)


# Streams, many, asyncio


def test_a_stream_shows_only_the_answer_that_is_kept(ask):
    stream = ask(FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large"), method="stream")
    assert "".join(stream) == SURE
    assert stream.answer.model == "large"
    stream = ask(FakeModel(SURE, name="small"), FakeModel(UNSURE, name="large"), method="stream")
    assert "".join(stream) == stream.answer.text
    assert stream.answer.model == "small"


def test_a_stream_that_breaks_says_so_and_goes_on_with_the_best_answer(ask):
    stream = ask(FakeModel(UNSURE, name="small"), Failing(name="large", after=2), method="stream")
    text = "".join(stream)
    assert text.startswith("One")
    assert "[large failed; small answered:]" in text
    assert text.endswith(stream.answer.text)
    assert (stream.answer.model, stream.answer.stopped_by) == ("small", "outage")


def test_many_questions_keep_their_order(tmp_path):
    models = FakeModel(UNSURE, name="small"), FakeModel(lambda prompt: prompt[-60:], name="large")
    questions = [f"Who signs off release {n}?" for n in range(12)]
    with leanrag.open(tmp_path, model=Cascade(models), embedder=HashEmbedder()) as rag:
        rag.add_text(PARK)
        answers = rag.ask_many(questions, parallel=4, max_tokens=30)
        alone = asyncio.run(rag.aask(questions[3], max_tokens=30))
    assert [answer.question for answer in answers] == questions
    assert {answer.model for answer in answers} == {"large"}
    assert alone.text == answers[3].text


def test_one_question_of_many_that_fails_is_the_error(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(SURE), embedder=HashEmbedder()) as rag:
        rag.add_text(PARK)
        with pytest.raises(ConfigurationError, match="non-empty text"):
            rag.ask_many([QUESTION, " ", QUESTION])
        with pytest.raises(ConfigurationError, match="at least 1, got 0"):
            rag.ask_many([QUESTION], parallel=0)
        assert rag.ask_many([]) == []


# Bad input


@pytest.mark.parametrize(
    ("models", "policy", "message"),
    [
        ([], {}, "needs at least one model"),
        (["a", "a"], {}, "different names, got a, a"),
        ([FakeModel(name="x"), FakeModel(name="x")], {}, "different names, got x, x"),
        (["a", "b"], {"threshold": 1.5}, r"in \[0, 1\], got 1.5"),
        (["a", "b"], {"threshold": float("nan")}, "got nan"),
        (
            ["a", "b"],
            {"calibrations": [None] * 3},
            "for each of the 2 models, or for each model except the last, got 3",
        ),
        (
            ["a", "b", "c"],
            {"calibrations": [None]},
            "for each of the 3 models, or for each model except the last, got 1",
        ),
        (["a", "b"], {"context_tokens": [100]}, "for each of the 2 models, got 1"),
        (["a", "b"], {"context_tokens": [0, None]}, "`context_tokens` must be at least 1, got 0"),
        (["a", "b"], {"skip_above": 0.5}, "work only together"),
        (["a", "b"], {"router": Router(1)}, "work only together"),
    ],
)
def test_a_cascade_that_cannot_work(models, policy, message):
    with pytest.raises(ConfigurationError, match=message):
        Cascade(models, **policy)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seconds": -1}, "`seconds` must be at least 0, got -1"),
        ({"tokens": float("nan")}, "got nan"),
        ({"cost": float("inf")}, "got inf"),
        ({"joules": 5}, "needs `watts`"),
    ],
)
def test_limits_that_cannot_work(limits, message):
    with pytest.raises(ConfigurationError, match=message):
        Limits(**limits)


# Saying that there is no answer


def test_an_answer_that_is_not_sure_enough_is_not_given(tmp_path):
    model = FakeModel(UNSURE, name="small")
    with leanrag.open(tmp_path, model=model, embedder=HashEmbedder(), abstain_below=0.5) as rag:
        rag.add_text(PARK, id="park")
        answer = rag.ask(QUESTION)
        shown = list(rag.stream(QUESTION))
    assert (str(answer), answer.abstained, answer.is_supported) == (NO_ANSWER, True, False)
    assert (answer.citations, answer.support, answer.model) == ((), 0.0, "small")
    assert answer.generation.text == UNSURE
    assert answer.confidence < 0.5
    assert shown == [NO_ANSWER]


def test_an_answer_that_is_sure_enough_is_given_where_others_would_not_be(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(SURE), embedder=HashEmbedder(), abstain_below=0.5) as rag:
        rag.add_text(PARK, id="park")
        answer, shown = rag.ask(QUESTION), list(rag.stream(QUESTION))
    assert (answer.text, answer.abstained) == ("Releases are signed off by Ada Park [1].", False)
    assert shown == [answer.text]  # at once, for it might not have been given


def test_leaving_a_stream_that_is_held_stops_the_generation(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(SURE), embedder=HashEmbedder(), abstain_below=0.5) as rag:
        rag.add_text(PARK, id="park")
        stream = rag.stream(QUESTION)
        stream.close()
        with pytest.raises(GenerationCancelled):
            stream.answer  # noqa: B018


def test_no_model_of_a_cascade_gives_an_answer_that_is_not_sure_enough(tmp_path):
    cascade = Cascade([FakeModel(UNSURE, name="small"), FakeModel("Cherries, in Chile.", name="large")])
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder(), abstain_below=0.5) as rag:
        rag.add_text(PARK, id="park")
        answer, shown = rag.ask(QUESTION), list(rag.stream(QUESTION))
    assert (answer.text, answer.abstained, answer.model) == (NO_ANSWER, True, "large")
    assert [step.text for step in answer.steps] == [UNSURE, "Cherries, in Chile."]
    assert shown == [NO_ANSWER]


def test_what_stands_in_for_a_model_that_fails_is_not_given_either_when_unsure(tmp_path):
    cascade = Cascade([FakeModel(UNSURE, name="small"), Failing(name="large", after=1)])
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder(), abstain_below=0.5) as rag:
        rag.add_text(PARK, id="park")
        stream = rag.stream(QUESTION)
        shown, answer = list(stream), stream.answer
    assert shown == [NO_ANSWER]
    assert (answer.text, answer.model, answer.stopped_by) == (NO_ANSWER, "small", "outage")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_confidence_to_abstain_below_is_a_share(tmp_path, value):
    with pytest.raises(ConfigurationError, match=r"`abstain_below` must be in \[0, 1\]"):
        leanrag.open(tmp_path, abstain_below=value)


def test_a_model_that_is_not_worth_asking_is_not_quoted_either(tmp_path):
    small, large = FakeModel(SURE, name="small"), FakeModel(SURE, name="large")
    cascade = Cascade([small, large], calibrations=[FixedCalibration(True, ask_from=0.5)])
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder()) as rag:
        rag.add_text(f"{PARK} {NO_ANSWER}", id="park")
        answer = rag.ask(QUESTION)
    assert (answer.text, answer.citations, answer.is_supported, answer.support) == (NO_ANSWER, (), False, 0.0)
    assert (answer.abstained, answer.confidence, answer.model, answer.prompt) == (True, None, None, "")
    assert "before" in [stage.name for stage in answer.trace]
    assert small.prompts == large.prompts == []


@pytest.mark.parametrize(("own", "model"), [(0.0, "small"), (0.1, "small"), (0.3, None)])
def test_who_wants_more_answers_than_were_worth_giving_has_every_model_asked(tmp_path, own, model):
    cascade = Cascade(
        [FakeModel(SURE, name="small"), FakeModel(SURE, name="large")],
        calibrations=[FixedCalibration(True, ask_from=0.5, abstain_below=0.2)],
    )
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder(), abstain_below=own) as rag:
        rag.add_text(PARK, id="park")
        answer = rag.ask(QUESTION)
    assert (answer.model, answer.abstained) == (model, model is None)


# Few tokens first


def test_each_model_reads_as_much_as_it_may(tmp_path):
    text = " ".join(f"The sign off of release {n} was by Ada Park in the year {1900 + n}." for n in range(60))
    small, large = FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large")
    cascade = Cascade([small, large], context_tokens=[60, None])
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder(), context_tokens=400) as rag:
        rag.add_text(text, id="log")
        answer = rag.ask(QUESTION)
        assert rag.explain(QUESTION).packing.budget == 60
    assert (answer.model, answer.packing.budget) == ("large", 400)
    assert small.count_tokens(small.prompts[0]) < 120 < 300 < large.count_tokens(large.prompts[0])


def test_a_cascade_of_one_model_asks_it_alone(ask):
    answer = ask(FakeModel(UNSURE, name="only"))
    assert (answer.model, answer.text, outcomes(answer)) == ("only", UNSURE, [("only", "kept")])


# Bad input, whichever way one asks


def by_stream(rag, question):
    stream = rag.stream(question)
    text = "".join(stream)
    assert text == stream.answer.text
    return stream.answer


async def by_astream(rag):
    return [piece async for piece in rag.astream(QUESTION)]


ways = pytest.mark.parametrize(
    "way",
    [
        lambda rag: rag.ask(QUESTION),
        lambda rag: by_stream(rag, QUESTION),
        lambda rag: rag.ask_many([QUESTION])[0],
        lambda rag: asyncio.run(rag.aask(QUESTION)),
    ],
    ids=["ask", "stream", "ask_many", "aask"],
)


def opened(folder, *models, **policy):
    rag = leanrag.open(folder, model=Cascade(models, **policy), embedder=HashEmbedder())
    rag.add_text(PARK, id="park")
    return rag


@ways
@pytest.mark.parametrize("limit", ["seconds", "tokens", "cost", "joules"])
def test_with_a_cap_of_zero_only_the_first_model_is_asked(tmp_path, way, limit):
    large = Priced(SURE, name="large") if limit == "cost" else FakeModel(SURE, name="large")
    limits = Limits(**{limit: 0}, watts=15)
    with opened(tmp_path, Priced(UNSURE, name="small"), large, limits=limits) as rag:
        if limit == "joules":  # a model with a price is elsewhere and draws no power here
            rag.close()
            rag = opened(tmp_path / "local", FakeModel(UNSURE, name="small"), large, limits=limits)
        with rag:
            answer = way(rag)
    assert (answer.model, answer.stopped_by, large.prompts) == ("small", limit, [])


@ways
def test_when_all_models_are_down_every_way_of_asking_raises_the_last_error(tmp_path, way):
    for after in (None, 0, 2):
        with opened(tmp_path, Failing(name="a"), Failing(GenerationError("b is down"), name="b", after=after)) as rag:
            with pytest.raises(GenerationError, match="b is down"):
                way(rag)
            with pytest.raises(GenerationError, match="b is down"):
                asyncio.run(by_astream(rag))


@ways
def test_when_the_second_is_down_every_way_of_asking_gives_the_first_answer(tmp_path, way):
    with opened(tmp_path, FakeModel(UNSURE, name="small"), Failing(name="large")) as rag:
        answer = way(rag)
        assert asyncio.run(by_astream(rag)) == [answer.text]
    assert (answer.model, answer.stopped_by) == ("small", "outage")


def test_a_larger_model_may_have_the_smaller_window(ask):
    text = "Who signs off the releases? " * 3
    small, large = FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large", n_ctx=157)
    answer = ask(small, large, question=text, options={"max_tokens": 20})
    assert PARK in small.prompts[0]
    assert PARK not in large.prompts[0]
    assert large.count(large.prompts[0]) + 20 <= 157
    assert (answer.model, answer.stopped_by) == ("large", None)


@ways
def test_a_question_that_does_not_fit_the_second_window_keeps_the_first_answer(tmp_path, way):
    small, large = FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large", n_ctx=80)
    with opened(tmp_path, small, large) as rag:
        answer = way(rag)
    assert (answer.model, answer.stopped_by) == ("small", "outage")
    assert outcomes(answer) == [("small", "escalated"), ("large", "failed")]
    assert "Shorten the question" in answer.steps[1].reason
    assert large.prompts == []


# Asking a model of its own answer


class Knowing(FakeModel):
    """Gives its answers a probability of .9 of being right, and notes what it was asked."""

    asked = ()

    def score_many(self, pairs, **options):
        self.asked = [*pairs]
        chances = {"Yes": 0.45, "No": 0.05}
        return [Scores((1,), (math.log(chances[text]),)) for _, text in self.asked]


def self_check_of(tmp_path, model, **options):
    with leanrag.open(tmp_path, model=model, embedder=HashEmbedder(), **options) as rag:
        rag.add_text(PARK, id="park")
        answer = rag.ask(QUESTION)
    return next(stage.details for stage in answer.trace if stage.name == "confidence").get("self_check")


def test_a_model_is_asked_how_likely_its_answer_is_right(tmp_path):
    model = Knowing(SURE)
    assert self_check_of(tmp_path, model, self_check=True) == pytest.approx(0.9)
    (condition, yes), (again, no) = model.asked
    assert (yes, no, again) == ("Yes", "No", condition)
    assert [message.role for message in condition] == ["user", "assistant", "user"]
    assert PARK in condition[0].content
    assert condition[1].content == SURE
    assert len(model.prompts) == 1  # nothing is generated for it


def test_a_model_that_completes_text_is_asked_in_its_own_way(tmp_path):
    model = Knowing(SURE, is_chat=False)
    assert self_check_of(tmp_path, model, self_check=True) == pytest.approx(0.9)
    condition = model.asked[0][0]
    assert condition.startswith(model.prompts[0])
    assert SURE in condition[len(model.prompts[0]) :]


def test_nobody_is_asked_unless_it_is_wanted_and_can_be_told(tmp_path):
    model = Knowing(SURE)
    assert self_check_of(tmp_path, model) is None
    assert model.asked == ()
    assert self_check_of(tmp_path, FakeModel(SURE), self_check=True) is None  # tells no probabilities


def test_an_answer_is_not_lost_when_asking_how_likely_it_is_fails(tmp_path):
    class Busy(FakeModel):
        def score_many(self, pairs, **options):
            raise QueueFullError("too much to do", model=self.name)

    assert self_check_of(tmp_path, Busy(SURE), self_check=True) is None


def test_a_window_too_short_to_ask_leaves_it_unknown(tmp_path):
    class Short(Knowing):
        def score_many(self, pairs, **options):
            raise ContextOverflowError("no room", needed=9, available=1)

    assert self_check_of(tmp_path, Short(SURE), self_check=True) is None
