"""Calibrating a cascade from what its models answer, refusing what belongs to other models, and auditing what is kept."""

import dataclasses
import hashlib
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import (
    Calibration,
    Cascade,
    ConfigurationError,
    DocumentError,
    DriftAudit,
    GenerationCancelled,
    GenerationError,
    Limits,
    StorageError,
)
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.routing.cascade import model_name
from leanrag.routing.labels import answer_text, is_right_or_silent, texts_agree
from leanrag.routing.questions import read_questions
from leanrag.routing.signals import SIGNAL_NAMES
from leanrag.testing import FakeModel, HashEmbedder
from tests.stories import DAY, PARK, RIGHT, WRONG, model, number_in

QUESTIONS = [f"Who signs off release {n}?" for n in range(120)]
ROWS = [(question, ["Ada Park"]) for question in QUESTIONS]


def large(**options):
    return model("large", wrong=lambda n: False, **options)


@pytest.fixture
def rag(tmp_path):
    """Opens the handbook with models asked in turn."""
    opened = []

    def call(*models, abstain_below=None, **policy):
        one = leanrag.open(
            tmp_path / "kb", model=Cascade(models, **policy), embedder=HashEmbedder(), abstain_below=abstain_below
        )
        opened.append(one)
        one.add_text(PARK, id="park")
        return one

    yield call
    for one in opened:
        one.close()


# What is learnt


@pytest.mark.slow
def test_what_gold_answers_teach_decides_which_answers_are_kept(rag):
    (calibration,) = rag(model(), large()).calibrate(ROWS, created=DAY)
    assert calibration.label_source == "labelled"
    assert [(one.name, one.sha256) for one in calibration.models] == [("small", None), ("large", None)]
    assert (calibration.features, calibration.created) == (SIGNAL_NAMES, DAY)
    assert (calibration.alpha, calibration.delta) == (0.05, 0.1)
    assert (calibration.rows_fitted, calibration.rows_certified) == (60, 60)
    assert calibration.gap is not None
    assert calibration.auroc == 1.0
    assert calibration.losses == 0
    assert calibration.bound == pytest.approx(1 - 0.1 ** (1 / 60))
    assert calibration.least_escalated == pytest.approx(1 - calibration.kept - 0.05)

    used = rag(model(), large(), calibrations=[calibration])
    kept, passed_on = used.ask(QUESTIONS[1]), used.ask(QUESTIONS[4])
    assert (kept.model, kept.calibrated) == ("small", True)
    assert kept.confidence > 0.9 > 0.5 > passed_on.steps[0].confidence
    assert [step.outcome for step in passed_on.steps] == ["escalated", "kept"]


@pytest.mark.slow
def test_a_wrong_answer_costs_nothing_where_the_last_model_is_wrong_too(rag):
    both_wrong = model("large", wrong=lambda n: n % 4 == 0)
    calibration, _ = rag(model(), both_wrong).calibrate(ROWS)
    assert calibration.gap is None
    assert (calibration.kept, calibration.losses, calibration.least_escalated) == (1.0, 0, 0.0)


@pytest.mark.slow
def test_questions_without_an_answer_teach_when_to_abstain(rag):
    rows = [(question, [] if n % 4 == 0 else ["Ada Park"]) for n, question in enumerate(QUESTIONS)]
    small, big = rag(model(), model("large")).calibrate(rows, created=DAY)
    assert 0.1 < small.abstain_below < 0.9
    assert (small.kept, small.losses, small.least_escalated) == (
        1.0,
        0,
        0.0,
    )  # to abstain is right where the small one is wrong
    assert [one.name for one in big.models] == ["large"]
    assert big.abstain_below == small.abstain_below

    used = rag(model(), model("large"), calibrations=[small, big])
    given, kept_back = used.ask(QUESTIONS[1]), used.ask(QUESTIONS[4])
    assert (given.abstained, kept_back.abstained) == (False, True)
    assert (given.model, kept_back.model) == ("small", "small")
    assert kept_back.text == NO_ANSWER
    assert kept_back.generation.text == WRONG


@pytest.mark.slow
def test_no_model_is_asked_where_the_search_shows_that_nothing_comes_of_it(rag):
    def question(n):
        return f"Where do pandas sleep, by release {n}?" if n % 3 == 0 else QUESTIONS[n]

    rows = [(question(n), [] if n % 3 == 0 else ["Ada Park"]) for n in range(120)]
    wrong = {"wrong": lambda n: n % 3 == 0 or n % 10 == 1}
    calibrations = rag(model(**wrong), model("large", **wrong)).calibrate(rows, created=DAY)
    assert all(0 < one.ask_from < 1 for one in calibrations)

    small, big = model(**wrong), model("large", **wrong)
    used = rag(small, big, calibrations=calibrations)
    answer = used.ask(question(3))
    assert (answer.text, answer.abstained, answer.model, answer.usage.total_tokens) == (NO_ANSWER, True, None, 0)
    assert [(step.model, step.outcome, step.reason) for step in answer.steps] == [("small", "kept", "not worth asking")]
    assert list(used.stream(question(3))) == [NO_ANSWER]
    assert small.prompts == big.prompts == []
    assert used.ask(question(4)).model == "small"
    alone = rag(big, calibrations=calibrations[1:])
    assert (list(alone.stream(question(3))), big.prompts) == ([NO_ANSWER], [])


@pytest.mark.slow
def test_an_audit_looks_at_what_was_not_worth_asking(rag):
    def question(n):
        return f"Where do pandas sleep, by release {n}?" if n % 3 == 0 else QUESTIONS[n]

    rows = [(question(n), [] if n % 3 == 0 else ["Ada Park"]) for n in range(120)]
    wrong = {"wrong": lambda n: n % 3 == 0}
    calibrations = rag(model(**wrong), large()).calibrate(rows, created=DAY)
    audited = rag(model(**wrong), large(), calibrations=calibrations, audit=DriftAudit(0.5, share=1.0))
    answer = audited.ask(question(3))
    assert [(step.model, step.outcome) for step in answer.steps] == [("small", "kept"), ("large", "audited")]
    assert (audited.audit.n, audited.audit.losses) == (1, 0)  # the last model would not be sure either


@pytest.mark.parametrize(("reply", "losses"), [("The text does not mention it.", 0), (RIGHT, 1)])
def test_an_audit_knows_other_words_for_none(rag, reply, losses):
    last = FakeModel(reply, name="large")
    audited = rag(model(), last, threshold=0.0, audit=DriftAudit(0.5, share=1.0), abstain_below=0.5)
    answer = audited.ask(QUESTIONS[4])
    assert (answer.abstained, answer.model, answer.steps[-1].outcome) == (True, "small", "audited")
    assert (audited.audit.n, audited.audit.losses) == (1, losses)


@pytest.mark.slow
def test_only_the_first_model_and_the_last_may_be_not_worth_asking(rag):
    def question(n):
        return f"Where do pandas sleep, by release {n}?" if n % 3 == 0 else QUESTIONS[n]

    rows = [(question(n), [] if n % 3 == 0 else ["Ada Park"]) for n in range(120)]
    wrong = {"wrong": lambda n: n % 3 == 0 or n % 10 == 1}
    chain = [model(name, **wrong) for name in ("small", "middle", "large")]
    first, middle, last = rag(*chain).calibrate(rows, alpha=0.1, delta=0.2, created=DAY)
    assert 0 < first.ask_from < 1
    assert 0 < last.ask_from < 1
    assert (middle.before, middle.ask_from) == (None, None)  # it is asked in any case, and that is what is certified


@pytest.mark.slow
def test_what_was_learnt_beside_a_model_that_abstains_needs_its_calibration(rag):
    rows = [(question, [] if n % 4 == 0 else ["Ada Park"]) for n, question in enumerate(QUESTIONS)]
    small, big = rag(model(), model("large")).calibrate(rows, created=DAY)
    assert small.larger_abstain_below == big.abstain_below > 0
    assert big.larger_abstain_below is None
    for calibrations in ([small], [small, None]):
        with pytest.raises(
            ConfigurationError,
            match=r"calibration 1 was made with a model 'large' that abstains .* including the calibration of the last model",
        ):
            Cascade([model(), model("large")], calibrations=calibrations)
    plain, _ = rag(model(), model("large")).calibrate(ROWS, created=DAY)
    assert Cascade([model(), model("large")], calibrations=[plain]).calibration(1) is None
    with pytest.raises(
        ConfigurationError, match=r"abstains below a confidence of 0\.000, but in this cascade it abstains below 0\.\d"
    ):
        Cascade([model(), model("large")], calibrations=[plain, big])


@pytest.mark.slow
def test_nobody_abstains_where_every_question_has_an_answer(rag):
    small, big = rag(model(), model("large")).calibrate(ROWS)
    assert small.abstain_below is big.abstain_below is None


@pytest.mark.slow
def test_the_last_model_has_a_calibration_when_it_can_be_wrong(rag):
    small, big = rag(model(), model("large", wrong=lambda n: n % 3 == 0)).calibrate(ROWS)
    used = rag(model(), model("large", wrong=lambda n: n % 3 == 0), calibrations=[small, big])
    answer = used.ask(QUESTIONS[12])  # both are wrong
    assert [(step.model, step.outcome) for step in answer.steps][-1] == ("large", "kept")
    assert answer.calibrated
    assert answer.confidence < 0.2


@pytest.mark.slow
def test_a_model_alone_can_be_calibrated_with_right_answers(rag):
    (calibration,) = rag(model()).calibrate(ROWS, alpha=0.3)
    assert [one.name for one in calibration.models] == ["small"]
    answer = rag(model(), calibrations=[calibration]).ask(QUESTIONS[4])
    assert (answer.calibrated, answer.model) == (True, "small")
    assert answer.confidence < 0.2
    with pytest.raises(ConfigurationError, match="no larger model to compare with"):
        rag(model()).calibrate(QUESTIONS)
    with pytest.raises(ConfigurationError, match="large cannot be calibrated"):
        rag(large()).calibrate(ROWS)


@pytest.mark.parametrize(
    ("answer", "answers", "is_right"),
    [
        ("It is Oslo.", ["Oslo"], True),
        ("It is Rome.", ["Oslo"], False),
        ("The text does not mention Oslo.", ["Oslo"], False),
        ("The text does not mention it.", [], True),
        ("It is Oslo.", [], False),
    ],
)
def test_an_answer_is_right_when_it_holds_one_of_those_or_none_exists_and_it_says_so(answer, answers, is_right):
    assert is_right_or_silent(answer, answers) is is_right


@pytest.mark.slow
def test_plain_questions_are_labelled_by_agreement_with_the_last_model(rag):
    (calibration,) = rag(model(), large()).calibrate(QUESTIONS)
    assert calibration.label_source == "agreement with large"
    assert calibration.gap is None
    assert (calibration.auroc, calibration.losses) == (1.0, 0)
    assert 0.6 < calibration.kept < 0.9


@pytest.mark.slow
def test_the_same_seed_gives_the_same_calibration_however_many_work_at_once(rag):
    first, second = (rag(model(), large()).calibrate(ROWS, created=DAY, parallel=n) for n in (1, 8))
    assert first == second
    assert first != rag(model(), large()).calibrate(ROWS, created=DAY, seed=1)


@pytest.mark.slow
def test_each_step_of_a_chain_is_beside_the_last_model_and_has_its_part_of_the_risk(rag):
    models = model(), model("middle", wrong=lambda n: n % 8 == 0), large()
    found = rag(*models).calibrate(ROWS, alpha=0.2, delta=0.2)
    assert [[one.name for one in each.models] for each in found] == [["small", "large"], ["middle", "large"]]
    assert [(each.alpha, each.delta) for each in found] == [(0.1, 0.1)] * 2
    assert found[0].kept < found[1].kept
    used = rag(*models, calibrations=found)
    assert [used.ask(QUESTIONS[n]).model for n in (1, 4, 8)] == ["small", "middle", "large"]


@pytest.mark.slow
def test_what_is_right_may_be_said_by_the_user(rag):
    seen = []

    def is_right(answer, answers):
        seen.append((answer, tuple(answers)))
        return answer == answers[0]

    marked = FakeModel(lambda prompt: "Ada Park [1]." if number_in(prompt) % 4 else "Lee [2]", name="small")
    rows = [(question, "Ada Park.") for question in QUESTIONS]
    (calibration,) = rag(marked, FakeModel("Ada Park.", name="large")).calibrate(rows, is_right=is_right)
    assert set(seen) == {("Ada Park.", ("Ada Park.",)), ("Lee", ("Ada Park.",))}
    assert calibration.auroc == 1.0
    assert len(seen) == 240


@pytest.mark.slow
def test_every_model_gets_every_question_packed_for_its_own_window(rag):
    small, big = model(n_ctx=125), large()
    rag(small, big).calibrate(ROWS, max_tokens=20)
    assert len(small.prompts) == len(big.prompts) == 120
    assert len(small.prompts[0]) < len(big.prompts[0])


@pytest.mark.slow
def test_progress_is_logged(rag, caplog):
    with caplog.at_level(logging.INFO, "leanrag"):
        rag(model(), large()).calibrate(ROWS)
    assert "small answers 120 questions" in caplog.messages
    assert "large answers 120 questions" in caplog.messages


# What fails


@pytest.mark.slow
def test_questions_that_fail_are_left_out_with_a_warning(rag, caplog):
    small, big = model(fails=lambda n: n < 2), large(fails=lambda n: n in (50, 51, 52))
    (calibration,) = rag(small, big).calibrate(ROWS)
    assert calibration.rows_fitted + calibration.rows_certified == 115
    assert [message for message in caplog.messages if message.startswith("5 of 120 questions failed")]
    assert re.search(r"no power at (0|1|50|51|52)\b", caplog.text)  # whichever of those at work failed first
    assert 0 not in map(number_in, big.prompts)


def test_too_many_failures_end_it(rag):
    small = model(fails=lambda n: n % 2 == 0)
    big = large()
    with pytest.raises(
        GenerationError, match=r"13 of 120 questions failed, which is more than 10%.*no power at \d+"
    ) as caught:
        rag(small, big).calibrate(ROWS, parallel=1)
    assert caught.value.model == "small"
    assert len(small.prompts) == 25  # up to the thirteenth even number
    assert big.prompts == []


@pytest.mark.slow
def test_a_tenth_may_fail(rag):
    (calibration,) = rag(model(fails=lambda n: n < 12), large()).calibrate(ROWS)
    assert calibration.rows_fitted + calibration.rows_certified == 108


def test_a_window_that_is_too_small_is_a_failure(rag):
    with pytest.raises(GenerationError, match="Shorten the question"):
        rag(model(n_ctx=80), large()).calibrate(ROWS)


def test_a_cancelled_model_ends_it(rag):
    def cancelled(prompt):
        raise GenerationCancelled("enough")

    with pytest.raises(GenerationCancelled, match="enough"):
        rag(FakeModel(cancelled, name="small"), large()).calibrate(ROWS)


def test_questions_for_which_nothing_is_found_teach_nothing(rag):
    small = model()
    with pytest.raises(ConfigurationError, match="small cannot be calibrated: `right` is empty"):
        rag(small, large()).calibrate(ROWS, where={"team": "none"})
    assert small.prompts == []


@pytest.mark.slow
def test_a_model_that_is_always_right_cannot_be_calibrated(rag):
    message = (
        "small cannot be calibrated: at least 5 rows of each class are needed, got 60 with label 1 and 0 with label 0"
    )
    with pytest.raises(ConfigurationError, match=message):
        rag(model(wrong=lambda n: False), large()).calibrate(ROWS)


@pytest.mark.parametrize(
    ("questions", "options", "message"),
    [
        (
            ROWS[:89],
            {},
            "89 questions cannot certify a risk of at most 0.05 with probability 0.9: at least 90 are needed",
        ),
        ([], {}, "0 questions cannot certify"),
        ([*ROWS, (" ", ["x"])], {}, "question 121 is ' '"),
        (
            [*ROWS, {"question": "Who?"}],
            {},
            "a list of right answers .*; question 121 is {'question': 'Who\\?'}",
        ),
        ([*ROWS, ("Who?",)], {}, "question 121 is"),
        ([*ROWS, ("Who?", [None])], {}, "question 121 is"),
        ([*ROWS, ("Who?", [""])], {}, "question 121 is"),
        ([*ROWS, ("Who?", " ")], {}, "question 121 is"),
        ([*ROWS[:3], "Who?", *ROWS], {}, "question 4 has no answers, but other questions have"),
        (QUESTIONS, {"is_right": lambda answer, answers: True}, "Give the questions with their answers"),
        (ROWS, {"delta": 0.7}, r"`delta` must be in \(0, 0.5\], got 0.7"),
        (ROWS, {"alpha": 0}, r"`alpha` must be in \(0, 1\), got 0"),
        (ROWS, {"alpha": float("nan")}, "got nan"),
        (ROWS, {"parallel": 0}, "`parallel` must be at least 1, got 0"),
    ],
)
@pytest.mark.slow
def test_what_cannot_work_is_said_before_a_model_is_asked(rag, questions, options, message):
    small, big = model(), large()
    with pytest.raises(ConfigurationError, match=message):
        rag(small, big).calibrate(questions, **options)
    assert small.prompts == big.prompts == []


def test_one_model_cannot_be_calibrated(tmp_path):
    with (
        leanrag.open(tmp_path, model=model(), embedder=HashEmbedder()) as one,
        pytest.raises(ConfigurationError, match="open the folder with a `Cascade`"),
    ):
        one.calibrate(ROWS)


def test_files_of_one_name_cannot_be_told_apart(rag, tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.gguf").write_bytes(b"x")
    two = rag(tmp_path / "a" / "same.gguf", tmp_path / "b" / "same.gguf")
    with pytest.raises(ConfigurationError, match="need different names, got same, same"):
        two.calibrate(ROWS)


# For which models it holds


class OfFile(FakeModel):
    def __init__(self, path, *arguments, **options):
        super().__init__(*arguments, **options)
        self.path = path


@pytest.mark.slow
def test_a_calibration_for_other_models_is_refused_by_name(rag):
    (calibration,) = rag(model(), large()).calibrate(ROWS)
    Cascade([model(), model("middle"), large()], calibrations=[calibration, None])
    for models in ([model("tiny"), large()], [model(), model("huge")], [large(), model()]):
        with pytest.raises(
            ConfigurationError, match="calibration 1 was made for 'small' and 'large', but the cascade has '"
        ):
            Cascade(models, calibrations=[calibration])


@pytest.mark.slow
def test_a_calibration_from_other_signals_is_refused(rag):
    (calibration,) = rag(model(), large()).calibrate(ROWS)
    older = calibration.model_copy(update={"features": (*SIGNAL_NAMES[:-1], "mood")})
    with pytest.raises(
        ConfigurationError, match=r"from other signals \(\['mood', 'no_self_check'\]\). Calibrate again"
    ):
        Cascade([model(), large()], calibrations=[older])


@pytest.mark.parametrize("changed", ["small", "large"])
@pytest.mark.slow
def test_a_calibration_for_another_file_is_refused_when_the_model_is_asked(rag, tmp_path, changed):
    def models():
        return [
            OfFile(tmp_path / "small", lambda prompt: RIGHT if number_in(prompt) % 4 else WRONG, name="small"),
            OfFile(tmp_path / "large", RIGHT, name="large"),
        ]

    for name in ("small", "large"):
        (tmp_path / name).write_text(name)
    (calibration,) = rag(*models()).calibrate(ROWS)
    assert [one.sha256 for one in calibration.models] == [
        hashlib.sha256(name.encode()).hexdigest() for name in ("small", "large")
    ]
    assert rag(*models(), calibrations=[calibration]).ask(QUESTIONS[4]).model == "large"

    (tmp_path / changed).write_text("another")
    used = rag(*models(), calibrations=[calibration])
    with pytest.raises(
        ConfigurationError, match=f"made for the file of '{changed}' with sha256 .* Calibrate again for this file"
    ):
        used.ask(QUESTIONS[4])
    (tmp_path / changed).unlink()  # without a file it goes by its name
    assert rag(*models(), calibrations=[calibration]).ask(QUESTIONS[4]).model == "large"


@pytest.mark.slow
def test_a_calibration_survives_its_file_and_a_torn_one_is_refused(rag, tmp_path):
    (calibration,) = rag(model(), large()).calibrate(ROWS)
    path = tmp_path / "small.json"
    calibration.save(path)
    assert Calibration.load(path, features=SIGNAL_NAMES) == calibration
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StorageError, match="cut short"):
        Calibration.load(path)


def test_the_hash_is_that_of_the_models_file(tiny, tiny_gguf):
    assert Reader(Lazy.of(tiny)).sha256 == hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    assert Reader(Lazy.of(FakeModel())).sha256 is None
    assert model_name(tiny_gguf) == model_name(str(tiny_gguf)) == tiny.name == "tiny"
    assert model_name("smollm2-135m:q4_0") == "smollm2-135m:q4_0"


# Audit

ALL = DriftAudit(alpha=0.05, share=1)


def outcomes(answer):
    return [(step.model, step.outcome, step.reason) for step in answer.steps]


@pytest.mark.parametrize(("reply", "losses", "reason"), [(WRONG, 1, "it disagrees"), (RIGHT, 0, "it agrees")])
def test_an_audited_answer_is_kept_and_checked_by_the_last_model(rag, reply, losses, reason):
    middle, big = model("middle"), FakeModel(reply, name="large")
    audited = rag(FakeModel(RIGHT, name="small"), middle, big, audit=ALL)
    assert audited.audit == ALL
    answer = audited.ask(QUESTIONS[0])
    assert (answer.model, answer.text, answer.stopped_by) == ("small", "Releases are signed off by Ada Park [1].", None)
    assert outcomes(answer) == [("small", "kept", "sure enough"), ("large", "audited", reason)]
    assert answer.usage.total_tokens == sum(step.usage.total_tokens for step in answer.steps)
    assert answer.steps[1].usage.completion_tokens > 0
    assert audited.audit == dataclasses.replace(ALL, n=1, losses=losses)
    assert (middle.prompts, len(big.prompts)) == ([], 1)


def test_an_audited_question_that_is_passed_on_loses_nothing(rag):
    audited = rag(FakeModel(WRONG, name="small"), FakeModel(RIGHT, name="large"), audit=ALL)
    answer = audited.ask(QUESTIONS[0])
    assert [step.outcome for step in answer.steps] == ["escalated", "kept"]
    assert audited.audit == dataclasses.replace(ALL, n=1)


def test_a_question_that_is_not_chosen_is_not_audited(rag):
    big = FakeModel(WRONG, name="large")
    audited = rag(FakeModel(RIGHT, name="small"), big, audit=DriftAudit(alpha=0.05, share=0))
    audited.ask(QUESTIONS[0])
    assert (audited.audit.n, big.prompts) == (0, [])
    assert rag(FakeModel(name="small"), FakeModel(name="large")).audit is None


@pytest.mark.parametrize(
    ("policy", "fails", "expected"),
    [({}, True, ["kept", "failed"]), ({"limits": Limits(tokens=1)}, False, ["kept"])],
)
def test_an_audit_that_cannot_be_made_is_not_counted(rag, policy, fails, expected):
    audited = rag(FakeModel(RIGHT, name="small"), large(fails=lambda n: fails), audit=ALL, **policy)
    answer = audited.ask(QUESTIONS[0])
    assert (answer.model, answer.stopped_by, audited.audit) == ("small", None, ALL)
    assert [step.outcome for step in answer.steps] == expected


def test_a_question_for_which_nothing_is_found_is_not_counted(rag):
    audited = rag(FakeModel(RIGHT, name="small"), large(), audit=ALL)
    assert audited.ask(QUESTIONS[0], where={"team": "none"}).model is None
    assert audited.audit == ALL


def test_audits_of_many_questions_at_once_are_all_counted_and_a_drift_is_logged_once(rag, caplog):
    audited = rag(FakeModel(RIGHT, name="small"), model("large", wrong=lambda n: n % 2 == 0), audit=ALL)
    audited.ask_many(QUESTIONS[:40])
    assert audited.audit == dataclasses.replace(ALL, n=40, losses=20)
    assert audited.audit.has_drifted
    assert len([message for message in caplog.messages if message.startswith("the risk is above 0.05: ")]) == 1


def test_a_stream_is_audited_too(rag):
    audited = rag(FakeModel(RIGHT, name="small"), FakeModel(WRONG, name="large"), audit=ALL)
    assert "".join(audited.stream(QUESTIONS[0])) == "Releases are signed off by Ada Park [1]."
    assert (audited.audit.n, audited.audit.losses) == (1, 1)
    passed_on = rag(FakeModel(WRONG, name="small"), FakeModel(RIGHT, name="large"), audit=ALL)
    stream = passed_on.stream(QUESTIONS[0])
    assert "".join(stream) == RIGHT
    assert (stream.answer.model, passed_on.audit.n, passed_on.audit.losses) == ("large", 1, 0)


# Words


@given(st.text(), st.text())
def test_agreement_is_mutual_and_an_answer_agrees_with_itself(one, other):
    assert texts_agree(one, one)
    assert texts_agree(one, other) == texts_agree(other, one)


def test_where_agreement_begins():
    assert texts_agree("one two three", "one two three four five six seven")  # 2 * 3 / 10
    assert not texts_agree("one two three", "one two three four five six seven eight")  # 2 * 3 / 11
    assert not texts_agree("Oslo [1]", "Rome [1]")


def test_marks_are_no_words():
    assert answer_text(" In Oslo [1]. By train [2, 3]. ") == "In Oslo. By train."
    assert answer_text("see [a] and [ ]") == "see [a] and [ ]"


# Files of questions


def test_questions_are_read_from_lines(tmp_path):
    path = tmp_path / "questions.jsonl"
    lines = [{"question": "Who?", "answers": ["Ada", "Ada Park"], "id": 7}, {"question": "Où?"}]
    text = "\r\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_questions(path) == [("Who?", ["Ada", "Ada Park"]), "Où?"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "the line: Invalid JSON"),
        (b"[]", "the line: Input should be an object"),
        (b'{"answers": ["x"]}', "question: Field required"),
        (b'{"question": " "}', "question: String should match"),
        (b'{"question": 7}', "question: Input should be a valid string"),
        (b'{"question": "Who?", "answers": "Ada"}', "answers: Input should be a valid array"),
        (b'{"question": "Who?", "answers": [1]}', "answers[0]: Input should be a valid string"),
        (b'{"question": "\xff"}', "the line: Invalid JSON"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "questions.jsonl"
    path.write_bytes(b'{"question": "Who?"}\n\n' + line + b"\n")
    with pytest.raises(
        DocumentError, match=re.escape(f"line 3 of {str(path)!r} is not a question ({reason}")
    ) as caught:
        read_questions(path)
    assert caught.value.path == path


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"cannot read the questions .*nowhere\.jsonl"):
        read_questions(tmp_path / "nowhere.jsonl")
