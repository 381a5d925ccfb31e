"""What a reasoning model thinks is not what it answers."""

import asyncio

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag import Cascade, ConfigurationError
from leanrag.generation import BaseLanguageModel, PieceStream, _for_event_loops
from leanrag.pipeline.turn import NO_ANSWER, UNFINISHED
from leanrag.protocols import GenerateOptions
from leanrag.testing import FakeModel
from leanrag.text import THOUGHT_TAGS
from tests.examples import max_examples
from tests.stories import PARK, QUESTION, RIGHT, open_rag

MARKED = "Releases are signed off by Ada Park [1]."
THOUGHT = "Okay, who signs? Perhaps Bo. No: Ada Park."


class Cut(BaseLanguageModel):
    """Writes a text in pieces of chosen lengths."""

    def __init__(self, text, lengths):
        self.text, self.lengths = text, lengths

    def stream(self, prompt, options):
        ends = [sum(self.lengths[: i + 1]) for i in range(len(self.lengths))]
        pieces = [self.text[start:end] for start, end in zip([0, *ends], [*ends, None], strict=True)]
        return PieceStream(filter(None, pieces), self, prompt, options)


@pytest.mark.parametrize(("opening", "closing"), THOUGHT_TAGS)
@pytest.mark.slow
def test_an_answer_is_judged_and_shown_without_thoughts(tmp_path, opening, closing):
    with open_rag(tmp_path, f"{opening}\n{THOUGHT}\n{closing}\n\n{RIGHT}") as rag:
        rag.add_text(PARK)
        stream = rag.stream(QUESTION)
        assert "".join(stream) == RIGHT
        assert (stream.answer.text, stream.answer.is_supported, stream.answer.support) == (MARKED, True, 1.0)
        generation = stream.answer.generation
        assert (generation.text, generation.thoughts) == (RIGHT, THOUGHT)


def test_thoughts_are_streamed_apart(tmp_path):
    with open_rag(tmp_path, f"<think>{THOUGHT}</think>\n\n{RIGHT}") as rag:
        rag.add_text(PARK)
        stream = rag.stream(QUESTION)
        pieces = list(stream.pieces())
        again = "".join(stream)
    assert "".join(piece.text for piece in pieces if piece.is_thought) == THOUGHT == stream.answer.thoughts
    assert "".join(piece.text for piece in pieces if not piece.is_thought) == RIGHT == again
    assert [piece.is_thought for piece in pieces] == sorted((piece.is_thought for piece in pieces), reverse=True)


def test_thoughts_of_an_answer_that_is_not_shown_are_not_shown(tmp_path):
    small, large = FakeModel(f"<think>{THOUGHT}</think>{RIGHT}", name="small"), FakeModel(RIGHT, name="large")
    with open_rag(tmp_path, model=Cascade([small, large], threshold=1.0)) as rag:
        rag.add_text(PARK)
        stream = rag.stream(QUESTION)
        assert "".join(piece.text for piece in stream.pieces()) == RIGHT
    assert (stream.answer.model, stream.answer.thoughts) == ("large", None)


@pytest.mark.parametrize("option", ["ask", "open"])
def test_thoughts_can_have_tokens_of_their_own(tmp_path, option):
    reply = f"<think>{THOUGHT}</think> {RIGHT}"
    options = {"max_tokens": 20, "thinking_tokens": 40}
    with open_rag(tmp_path, reply, **(options if option == "open" else {})) as rag:
        rag.add_text(PARK)
        asked = options if option == "ask" else {}
        answer = rag.ask(QUESTION, **asked)
        plan = rag.explain(QUESTION, **asked)
    assert (answer.text, answer.thoughts) == (MARKED, THOUGHT)
    assert plan.max_tokens == 60


@pytest.mark.parametrize("thinking_tokens", [-1, 1.5, "9"])
def test_a_budget_of_thoughts_is_a_whole_number(tmp_path, thinking_tokens):
    with open_rag(tmp_path, RIGHT) as rag, pytest.raises(ConfigurationError, match="thinking_tokens"):
        rag.ask(QUESTION, thinking_tokens=thinking_tokens)


def test_thoughts_are_streamed_apart_for_asyncio():
    model = FakeModel(f"<think>{THOUGHT}</think>{RIGHT}")

    async def read():
        stream = _for_event_loops(model.stream("?", GenerateOptions(99)))
        return [piece async for piece in stream.apieces()]

    pieces = asyncio.run(read())
    assert "".join(piece.text for piece in pieces if piece.is_thought) == THOUGHT
    assert "".join(piece.text for piece in pieces if not piece.is_thought) == RIGHT


def test_a_thought_whose_opening_tag_the_prompt_had_is_not_part_of_the_answer(tmp_path):
    with open_rag(tmp_path, f"{THOUGHT}\n</think>\n{RIGHT}") as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION)
    assert (answer.text, answer.is_supported, answer.generation.thoughts) == (MARKED, True, THOUGHT)


@given(
    st.sampled_from(
        ["", "\n", f"<think>{THOUGHT}</think>\n\n", f"<think>{THOUGHT}</think>", f"<THINK>\n{THOUGHT}\n</think> "]
    ),
    st.lists(st.integers(1, 9), max_size=30),
)
@max_examples(50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_that_is_cut_anywhere_is_the_text_of_its_result(before, lengths):
    model = Cut(before + RIGHT, lengths)

    async def later():
        return "".join([piece async for piece in model.astream("?", max_tokens=99)])

    result = model.generate("?", max_tokens=99)
    assert (result.thoughts, result.text) == ((THOUGHT, RIGHT) if THOUGHT in before else (None, before + RIGHT))
    assert asyncio.run(later()) == result.text


@pytest.mark.parametrize("reply", [f"<think>{THOUGHT * 20}", f"<think>{THOUGHT * 20}</think>{RIGHT}"])
def test_tokens_that_went_into_thoughts_are_not_an_answer(tmp_path, reply):
    with open_rag(tmp_path, reply) as rag:
        rag.add_text(PARK)
        stream = rag.stream(QUESTION, max_tokens=20)
        assert "".join(stream) == UNFINISHED
    answer = stream.answer
    assert (answer.text, answer.abstained, answer.is_supported, answer.citations) == (UNFINISHED, True, False, ())
    assert (answer.finish_reason, answer.usage.completion_tokens) == ("length", 20)
    assert answer.generation.thoughts.startswith("Okay, who signs?")
    assert [(step.outcome, step.reason) for step in answer.steps] == [("kept", "only thoughts, no answer")]
    assert "max_tokens" in str(answer)


def test_a_model_that_writes_nothing_has_not_answered(tmp_path):
    with open_rag(tmp_path, " \n") as rag:
        rag.add_text(PARK)
        stream = rag.stream(QUESTION)
        assert "".join(stream).strip() == NO_ANSWER
    assert (stream.answer.text, stream.answer.abstained) == (NO_ANSWER, True)
    assert [step.reason for step in stream.answer.steps] == ["no text"]


def test_the_next_model_is_asked_after_thoughts_without_an_answer(tmp_path):
    small, large = FakeModel(f"<think>{THOUGHT * 20}", name="small"), FakeModel(RIGHT, name="large")
    with open_rag(tmp_path, model=Cascade([small, large], threshold=0.0)) as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION, max_tokens=20)
    assert (answer.text, answer.model, answer.abstained) == (MARKED, "large", False)
    assert [(step.outcome, step.reason) for step in answer.steps] == [
        ("escalated", "only thoughts, no answer"),
        ("kept", "the last model"),
    ]
