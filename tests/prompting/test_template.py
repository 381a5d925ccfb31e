import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import Chunk, ConfigurationError, Hit, Message, PromptTemplate
from leanrag.prompting import CHAT_TEMPLATE, COMPLETION_TEMPLATE
from leanrag.types import PackedItem, Segment


def items_of(*texts):
    return [
        PackedItem(
            n,
            Hit(Chunk("d", 0, len(text), text, title=f"T{n}"), 1.0),
            text,
            (Segment(0, len(text), 0, 0, len(text)),),
            1,
        )
        for n, text in enumerate(texts, 1)
    ]


def test_fixed_text_first_question_last():
    template = PromptTemplate(system="S", source="[{number}] {title}: {text}\n", question="Q: {question}")
    assert template.build("why?", items_of("a", "b")) == [
        Message("system", "S"),
        Message("user", "[1] T1: a\n[2] T2: b\nQ: why?"),
    ]


def test_no_system_message_when_there_is_none():
    assert [message.role for message in CHAT_TEMPLATE.build("why?", [])] == ["user"]


def test_a_completion_is_one_string():
    prompt = COMPLETION_TEMPLATE.build("why?", items_of("a"))
    assert isinstance(prompt, str)
    assert prompt.endswith("Text: a\nQuestion: why?\nAnswer:")
    assert COMPLETION_TEMPLATE.stop == ("\n",)


@given(st.text(), st.text())
def test_braces_in_text_and_question_stay(text, question):
    template = PromptTemplate(system="", source="<{text}>", question="({question})")
    (message,) = template.build(question, items_of(text))
    assert message.content == f"<{text}>({question})"


def test_a_field_in_a_text_is_not_filled():
    template = PromptTemplate(system="", source="{title}{text}", question="{question}")
    (message,) = template.build("{text}", items_of("{title}{question}"))
    assert message.content == "T1{title}{question}{text}"


@pytest.mark.parametrize(("source", "question"), [("no field", "{question}"), ("{text}", "no field")])
def test_templates_that_lose_something_are_refused(source, question):
    with pytest.raises(ConfigurationError, match="must contain"):
        PromptTemplate(system="", source=source, question=question)
