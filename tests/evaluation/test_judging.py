"""A model as a judge, and its agreement with the rule."""

import re

import pytest

from leanrag import ConfigurationError
from leanrag.evaluation import judge, run
from leanrag.evaluation.judging import cohen_kappa
from leanrag.testing import FakeModel
from tests.stories import PARK, model, open_rag

ROWS = [(f"Who signs off release {n}?", ["Ada Park"]) for n in range(8)]


@pytest.fixture
def result(tmp_path):
    with open_rag(tmp_path / "kb", model=model()) as rag:
        rag.add_text(PARK)
        return run(rag, [*ROWS, "Who signs off release 9?"])


def lenient(prompt):
    """Calls right what the rule calls right, and release 4."""
    number = int(re.search(r"release (\d+)", prompt)[1])
    return "Yes." if number == 4 or "Ada Park" in prompt.split("student")[1] else "No, it does not."


def test_agreement_with_the_rule(result):
    judgement = judge(result, FakeModel(lenient, name="judge"))
    assert judgement.verdicts == (False, True, True, True, True, True, True, True, None)
    assert (judgement.value, judgement.agreement, judgement.unclear) == (7 / 8, 7 / 8, 0)
    assert judgement.kappa == pytest.approx((7 / 8 - 0.6875) / (1 - 0.6875))
    assert judgement.low <= judgement.value <= judgement.high
    assert str(judgement).startswith("judge calls 87.5%")
    assert "agrees with 'contained' on 87.5%" in str(judgement)


def test_unclear_replies_are_counted_and_not_used(result):
    judgement = judge(result, FakeModel(lambda prompt: "Maybe" if "release 1?" in prompt else lenient(prompt)))
    assert judgement.unclear == 1
    assert judgement.verdicts[1] is None
    with pytest.raises(ConfigurationError, match="judged no answer: 8 of its replies"):
        judge(result, FakeModel("Perhaps"))


def test_kappa_by_hand():
    assert cohen_kappa([(True, True), (False, False)]) == 1
    assert cohen_kappa([(True, False), (False, True)]) == -1
    assert cohen_kappa([(True, True), (True, True)]) is None
