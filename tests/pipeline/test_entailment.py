"""An entailment check has the last word on the verdict."""

import pytest

import leanrag
from leanrag import Cascade, ConfigurationError
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Scores
from tests.stories import PARK, QUESTION, RIGHT, WRONG, open_rag


class Check:
    def __init__(self, probability):
        self.probability, self.pairs = probability, []

    def check(self, pairs):
        self.pairs += pairs
        return [self.probability] * len(pairs)


class Scoring(FakeModel):
    """Finds "Yes" as probable as it is told, and is asked in the way that it reads."""

    def __init__(self, yes, **options):
        super().__init__(RIGHT, **options)
        self.yes, self.conditions = yes, []

    def score_many(self, pairs, *, timeout_seconds=None, cancel=None):
        pairs = list(pairs)
        self.conditions += [self.render(condition) for condition, _ in pairs]
        return [Scores((1,), (self.yes if word == "Yes" else -1.0,)) for _, word in pairs]


@pytest.mark.parametrize(("probability", "is_supported"), [(0.0, False), (0.49, False), (0.5, True), (1.0, True)])
def test_a_check_may_refuse_what_the_rules_let_pass(tmp_path, probability, is_supported):
    check = Check(probability)
    with open_rag(tmp_path, entailment=check) as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION)
    assert (answer.is_supported, bool(answer.citations)) == (is_supported, is_supported)
    [(text, claim)] = check.pairs
    assert "signed off by Ada Park" in text
    assert RIGHT in claim


def test_a_check_cannot_support_what_the_rules_refuse(tmp_path):
    check = Check(1.0)
    with open_rag(tmp_path, WRONG, entailment=check) as rag:
        rag.add_text(PARK)
        assert not rag.ask(QUESTION).is_supported
    assert check.pairs == []


@pytest.mark.parametrize(("yes", "is_supported"), [(-0.1, True), (-9.0, False)])
@pytest.mark.parametrize("is_chat", [True, False])
def test_the_model_that_answered_is_asked(tmp_path, yes, is_supported, is_chat):
    model = Scoring(yes, is_chat=is_chat)
    with open_rag(tmp_path, model=model, entailment="reader") as rag:
        rag.add_text(PARK)
        assert rag.ask(QUESTION).is_supported is is_supported
    assert all(condition.startswith("<user>") is is_chat for condition in model.conditions)
    assert all(RIGHT in condition for condition in model.conditions)
    assert len(model.conditions) == 2


def test_each_model_of_a_cascade_checks_its_answer(tmp_path):
    small, large = Scoring(-9.0, name="small"), Scoring(-0.1, name="large")
    with open_rag(tmp_path, model=Cascade([small, large], threshold=1.0), entailment="reader") as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION)
    assert (answer.model, answer.is_supported) == ("large", True)
    assert small.conditions == large.conditions != []


def test_a_model_that_does_not_score_texts_cannot_check_and_is_not_asked(tmp_path):
    model = FakeModel(RIGHT)
    with open_rag(tmp_path, model=model, entailment="reader") as rag:
        rag.add_text(PARK)
        with pytest.raises(ConfigurationError, match=r"needs a model that scores texts .*, and 'fake' does not"):
            rag.ask(QUESTION)
    assert model.prompts == []


@pytest.mark.parametrize("entailment", ["model", "", 3])
def test_what_cannot_check_is_refused_at_once(tmp_path, entailment):
    with pytest.raises(ConfigurationError, match="`entailment` must be 'reader' or an object with a method `check`"):
        open_rag(tmp_path, entailment=entailment)


def test_an_answer_that_was_checked_is_another_one_for_the_cache(tmp_path):
    class Cache(dict):
        put = dict.__setitem__

    cache, check = Cache(), Check(0.0)
    for entailment, is_supported in [(None, True), (check, False), (None, True)]:
        with open_rag(tmp_path, entailment=entailment, cache=cache) as rag:
            rag.add_text(PARK)
            assert rag.ask(QUESTION).is_supported is is_supported
    assert len({key.scope for key in cache}) == 2


@pytest.mark.model
def test_a_small_model_checks_its_answer(tmp_path, smollm):
    with leanrag.open(tmp_path, model=smollm, embedder=HashEmbedder(), entailment="reader") as rag:
        rag.add_text(PARK)
        checked = rag.ask(QUESTION)
    with leanrag.open(tmp_path, model=smollm, embedder=HashEmbedder()) as rag:
        by_rules = rag.ask(QUESTION)
    assert checked.generation.text == by_rules.generation.text
    assert by_rules.is_supported or not checked.is_supported  # the check only refuses
