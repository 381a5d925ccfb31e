"""Follow-up questions in words that need no conversation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.pipeline.followups import complete_question
from leanrag.types import Exchange

TOWER = [Exchange("How tall is the Eiffel Tower?", "It is 330 metres tall.")]
RELEASES = [Exchange("Who signs off the releases?", "Releases are signed off by Ada Park.")]
CUP = [Exchange("Who won the cup in 2019?", "Liverpool won it.")]
EXPENSES = [Exchange("What is the deadline for travel expenses?", "It is 30 June.")]
NORMANS = [Exchange("When were the Normans in Normandy?", "In the 10th century.")]


@pytest.mark.parametrize(
    ("before", "question", "complete"),
    [
        # pronouns
        (TOWER, "Who built it?", "Who built the Eiffel Tower?"),
        (TOWER, "And what is its weight?", "What is the Eiffel Tower's weight?"),
        (TOWER, "How long does it take to climb it?", "How long does it take to climb the Eiffel Tower?"),
        (TOWER, "what about its weight?", "What about the Eiffel Tower's weight?"),
        (RELEASES, "Where does she work?", "Where does Ada Park work?"),
        (RELEASES, "What is her phone number?", "What is Ada Park's phone number?"),
        (RELEASES, "And when are they made?", "When are the releases made?"),
        (RELEASES, "and who signs it off?", "Who signs the releases off?"),
        (CUP, "When did they win it?", "When did Liverpool win it?"),
        (NORMANS, "Who was their leader?", "Who was the Normans' leader?"),
        (NORMANS, "Who did they fight?", "Who did the Normans fight?"),
        # another year, name or phrase
        (CUP, "And in 2020?", "Who won the cup in 2020?"),
        (CUP, "and 2021?", "Who won the cup in 2021?"),
        (TOWER, "And the Louvre?", "How tall is the Louvre?"),
        (TOWER, "What about the Louvre?", "How tall is the Louvre?"),
        (RELEASES, "And the invoices?", "Who signs off the invoices?"),
        (EXPENSES, "And for hotels?", "What is the deadline for hotels?"),
        # no verb
        (TOWER, "Why?", "How tall is the Eiffel Tower? Why?"),
        (RELEASES, "Since when?", "Who signs off the releases? Since when?"),
        # the other side of a comparison
        ([*TOWER, Exchange("How tall is the Big Ben?", "96 metres.")], "Which is older?",
         "Which is older? (the Eiffel Tower, the Big Ben)"),
        # a short name
        (TOWER, "When was the tower finished?", "When was the Eiffel Tower finished?"),
        # nothing but a noun
        (CUP, "Who was the captain?", "Who was the captain? (the cup)"),
        # through several turns
        ([*TOWER, Exchange("Who built it?", "Gustave Eiffel.", standalone="Who built the Eiffel Tower?")],
         "When was it opened?", "When was the Eiffel Tower opened?"),
        ([*TOWER, Exchange("Who built it?", "Gustave Eiffel did.", standalone="Who built the Eiffel Tower?")],
         "Where was he born?", "Where was Gustave Eiffel born?"),
        # a refused answer names nothing
        ([Exchange("Who built the Eiffel Tower?", "Ada Park.", is_refusal=True)], "How old is it?",
         "How old is the Eiffel Tower?"),
        # other languages
        ([Exchange("Wann wurde der Eiffelturm gebaut?", "1889.")], "Und wer hat ihn gebaut?",
         "Und wer hat ihn gebaut? (Eiffelturm)"),
        ([Exchange("¿Cuándo se construyó la Torre Eiffel?", "En 1889.")], "¿Y cuál es su altura?",
         "¿Y cuál es su altura? (Torre Eiffel)"),
        ([Exchange("埃菲尔铁塔有多高？", "330米。")], "它是谁建造的？", "它是谁建造的？ (埃菲尔铁塔有多高？)"),
    ],
)  # fmt: skip
def test_a_question_is_completed(before, question, complete):
    assert complete_question(question, before).text == complete


@pytest.mark.parametrize(
    "question",
    [
        "Who wrote Hamlet?",
        "What is photosynthesis?",
        "Is it possible to book a hotel in Oslo?",
        "Is there a lift in the Louvre?",
        "When did Ada begin her work?",
        "What happens to the tenants when they leave?",
        "Which laws say that smoking is forbidden?",
        "Is the Nile longer than the Rhine?",
        "And when was Oslo founded?",
    ],
)
def test_a_question_that_lacks_nothing_stays(question):
    found = complete_question(question, TOWER)
    assert (found.text, found.kind) == (question, "complete")


def test_several_things_are_all_named_and_that_is_not_sure():
    before = [Exchange("When did France attack Algeria?", "In 1830.")]
    found = complete_question("What did it lose?", before)
    assert found.text == "What did it lose? (France, Algeria)"
    assert not found.is_sure


TEXTS = st.text(max_size=60) | st.sampled_from(["it", "And?", "what about it's", "((", "his'", "the", "?", "who than"])


@given(question=TEXTS, asked=TEXTS, answer=TEXTS, standalone=TEXTS)
def test_any_text_is_completed_without_loss_of_the_conversation(question, asked, answer, standalone):
    before = [Exchange(asked, answer, standalone=standalone)]
    found = complete_question(question, before)
    assert found == complete_question(question, before)
    assert len(found.text) <= len(question) + len(asked) + len(answer) + len(standalone) + 40
    assert bool(found.text.strip()) or not question.strip()
