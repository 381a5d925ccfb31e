"""The profile of a model decides its prompt, its budget and what counts as a refusal; what the caller says wins."""

import dataclasses

import pytest

import leanrag
from leanrag import Cascade, ConfigurationError, Document
from leanrag.evidence.greedy import GreedyPacker
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.prompting import AnswerForm, ModelProfile
from leanrag.testing import FakeModel, HashEmbedder

QUESTION = "Who signs off the releases?"
TEXTS = (
    "Releases are signed off by Ada Park. She works in Oslo and likes trains.",
    "All the releases of the firm are signed off by Ada Park. Holidays are booked by Bo Lind in Rome.",
)
PROFILE = ModelProfile(
    source="[{number}] {text}\n",
    question="\nQuestion: {question}{form}",
    forms={
        "phrase": AnswerForm(" (phrase)", 9),
        "sentence": AnswerForm(" (sentence)", 20),
        "explanation": AnswerForm(" (explanation)", 40),
    },
    style="phrase",
    system="S",
    stop=("\n",),
    context_tokens=60,
    refusal="not in the sources",
)


def open_rag(folder, *models, **options):
    model = Cascade(models) if len(models) > 1 else models[0]
    rag = leanrag.open(folder, model=model, embedder=HashEmbedder(), **options)
    rag.add(*(Document(text, id=f"d{number}") for number, text in enumerate(TEXTS)))
    return rag


def test_a_profile_makes_the_prompt_and_divides_the_window(tmp_path):
    model = FakeModel("Ada Park and others who work in Oslo.")
    with open_rag(tmp_path, model, profile=PROFILE) as rag:
        answer = rag.ask(QUESTION)
        plan = rag.explain(QUESTION, style="explanation", context_tokens=20)
    assert model.prompts[0].startswith("<system>S</system><user>[1] ")
    assert model.prompts[0].endswith("\n\nQuestion: Who signs off the releases? (phrase)</user><assistant>")
    assert answer.usage.completion_tokens == 9
    assert 20 < answer.packing.tokens <= 60
    assert plan.packing.tokens <= 20
    assert plan.max_tokens == 40
    assert plan.prompt.endswith("(explanation)</user><assistant>")


@pytest.mark.parametrize("ask", ["ask", "stream", "ask_many", "explain"])
def test_every_way_of_asking_takes_a_style(tmp_path, ask):
    model = FakeModel("Ada Park")
    with open_rag(tmp_path, model, profile=PROFILE, style="sentence") as rag:
        rag.ask(QUESTION)
        if ask == "stream":
            assert rag.stream(QUESTION, style="explanation").answer
        elif ask == "ask_many":
            rag.ask_many([QUESTION], style="explanation")
        elif ask == "explain":
            model.prompts.append(rag.explain(QUESTION, style="explanation").prompt)
        else:
            rag.ask(QUESTION, style="explanation")
        with pytest.raises(
            ConfigurationError, match="`style` must be one of 'phrase', 'sentence', 'explanation', got 'poem'"
        ):
            rag.ask(QUESTION, style="poem")
    assert "(sentence)" in model.prompts[0]
    assert "(explanation)" in model.prompts[1]


def test_each_model_of_a_cascade_has_its_own_profile(tmp_path):
    small, large = FakeModel("Bananas.", name="small"), FakeModel("Ada Park", name="large")
    with open_rag(tmp_path, small, large, profile={"large": PROFILE}) as rag:
        rag.ask(QUESTION)
    assert "(phrase)" not in small.prompts[0]
    assert "(phrase)" in large.prompts[0]


def test_a_template_wins_over_a_profile_and_refuses_a_style(tmp_path):
    template = leanrag.PromptTemplate(system="", source="<{text}>", question="Q={question}")
    model = FakeModel("Ada Park")
    with open_rag(tmp_path, model, template=template, profile=PROFILE) as rag:
        rag.ask(QUESTION)
        with pytest.raises(ConfigurationError, match="`style` has no effect on your own `template`"):
            rag.ask(QUESTION, style="phrase")
    assert model.prompts[0].endswith("Q=Who signs off the releases?</user><assistant>")


def test_a_refusal_in_the_words_of_the_profile_becomes_the_answer_that_there_is_none(tmp_path):
    with open_rag(tmp_path, FakeModel("Not in the sources."), profile=PROFILE) as rag:
        answer, stream = rag.ask(QUESTION), rag.stream(QUESTION)
        assert "".join(stream) == NO_ANSWER
    assert (answer.text, answer.abstained, answer.is_supported, answer.citations) == (NO_ANSWER, True, False, ())
    assert answer.confidence == 0.0
    assert str(answer) == NO_ANSWER
    assert answer.generation.text == "Not in the sources."


def test_a_refusal_is_passed_to_the_next_model(tmp_path):
    small, large = FakeModel("not in the sources", name="small"), FakeModel("Ada Park", name="large")
    with open_rag(tmp_path, small, large, profile=PROFILE) as rag:
        answer = rag.ask(QUESTION)
    assert [step.outcome for step in answer.steps] == ["escalated", "kept"]
    assert answer.text == "Ada Park [1]"
    assert not answer.abstained


@pytest.mark.parametrize("number", [1, 2])
def test_the_mark_of_the_model_chooses_among_equal_quotes(tmp_path, number):
    with open_rag(
        tmp_path, FakeModel(f"Ada Park [{number}]"), profile=PROFILE, packer=GreedyPacker(), context_tokens=99
    ) as rag:
        answer = rag.ask(QUESTION)
    assert [item.number for item in answer.packing.items if "Ada Park" in item.text] == [1, 2]
    assert answer.text == f"Ada Park [{number}]"
    assert [citation.number for citation in answer.citations] == [number]


def test_marks_mean_nothing_where_the_sources_have_no_numbers(tmp_path):
    plain = dataclasses.replace(PROFILE, source="{text}\n")
    with open_rag(tmp_path, FakeModel("Ada Park [2]"), profile=plain) as rag:
        assert rag.ask(QUESTION).text == "Ada Park [1]"
