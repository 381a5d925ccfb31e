import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError
from leanrag.evidence.scoring import SentenceScorer
from leanrag.prompting import profile_named
from leanrag.training.examples import Example
from leanrag.training.orders import ORDERS
from leanrag.training.rows import RowMaker, Variant
from leanrag.types import Chunk, Hit

PROFILE = profile_named("smollm2-135m+reader")
TEXTS = {
    "tower": "The Eiffel Tower is in Paris. It was built in 1889 by the company of Gustave Eiffel. It is 330 metres high.",
    "bridge": "Tower Bridge crosses the Thames. It was finished in 1894. Two lifts carry visitors to the top.",
    "wall": "The Great Wall is long. Several dynasties built it over many centuries, to keep raiders out.",
}
QUESTION = Example("When was the Eiffel Tower built?", ("1889",), "tower")


def count_tokens(text):
    return len(text.split())


def search(example, k):
    texts = list(TEXTS.items())[:k]
    return [Hit(Chunk(name, 0, len(text), text, name.title()), 1 / (1 + i)) for i, (name, text) in enumerate(texts)]


@pytest.fixture
def maker():
    return RowMaker(search, SentenceScorer(), count_tokens, PROFILE)


def only(maker, example, variant):
    [row] = maker.rows(example, [variant])
    return row


def test_the_passage_alone(maker):
    row = only(maker, QUESTION, Variant("gold"))
    assert row.documents == ("tower",)
    assert row.reply == "1889 [1]"
    assert row.prompt[-1].content.endswith("Question: When was the Eiffel Tower built?")


def test_the_mark_is_the_number_of_the_source_in_the_prompt(maker):
    row = only(maker, QUESTION, Variant("all"))
    assert len(row.documents) > 1
    after = row.prompt[-1].content.partition(f"[{row.number}] ")[2]
    assert after.startswith("Tower\n")
    assert row.reply == f"1889 [{row.number}]"


def test_without_the_passage_the_reply_is_the_refusal(maker):
    row = only(maker, QUESTION, Variant("without"))
    assert "tower" not in row.documents
    assert (row.reply, row.number, row.answers) == ("not in the sources", 0, ())


def test_a_question_without_an_answer_is_refused_from_its_own_passage(maker):
    row = only(maker, Example("Who painted the Eiffel Tower?", (), "tower"), Variant("gold"))
    assert row.documents == ("tower",)
    assert row.reply == "not in the sources"


def test_an_answer_in_another_passage_makes_no_row_without_answer(maker):
    assert not list(maker.rows(Example("Where is it?", ("built",), "wall"), [Variant("without", 3)]))
    rows = list(maker.rows(Example("What is it of?", ("it",), "tower"), [Variant("without")]))
    assert not rows  # every passage holds the answer


def test_a_passage_that_search_does_not_find_makes_no_row(maker):
    assert not list(maker.rows(Example("Who?", ("Ada",), "gone"), [Variant("gold"), Variant("few")]))


def test_a_sentence_is_copied_with_its_mark(maker):
    asked = dataclasses.replace(QUESTION, style="sentence")
    row = only(maker, asked, Variant("gold"))
    assert row.reply == "It was built in 1889 by the company of Gustave Eiffel [1]."
    assert row.prompt[-1].content.endswith("Answer in a full sentence.")


def test_an_explanation_has_the_next_sentence_too(maker):
    row = only(maker, dataclasses.replace(QUESTION, style="explanation"), Variant("gold"))
    assert row.reply == "It was built in 1889 by the company of Gustave Eiffel [1]. It is 330 metres high [1]."


@given(st.integers(0, 50), st.sampled_from(["gold", "few", "all"]))
def test_an_order_in_a_source_changes_the_prompt_and_not_the_reply(seed, sources):
    maker = RowMaker(search, SentenceScorer(), count_tokens, PROFILE, seed=seed)
    plain, ordered = (only(maker, QUESTION, Variant(sources, has_order=order)) for order in (False, True))
    assert plain.reply == ordered.reply
    openings = {order.partition(":")[0] for order in ORDERS}
    assert any(opening in ordered.prompt[-1].content for opening in openings)
    assert not any(opening in plain.prompt[-1].content for opening in openings)


@given(st.integers(8, 120), st.sampled_from(["gold", "few", "all"]), st.sampled_from([0.0, 0.1]))
def test_sources_keep_to_their_budget_and_hold_the_reply(tokens, sources, least):
    maker = RowMaker(search, SentenceScorer(), count_tokens, PROFILE)
    for row in maker.rows(QUESTION, [Variant(sources, tokens, least)]):
        shown, _, _ = row.prompt[-1].content.rpartition("Question: ")
        assert count_tokens(shown) <= tokens
        assert row.reply == "not in the sources" or "1889" in shown


def test_a_profile_without_numbers_or_refusal_is_refused():
    for changes in ({"refusal": ""}, {"source": "{text}\n"}):
        with pytest.raises(ConfigurationError, match="a reader is trained with a profile"):
            RowMaker(search, SentenceScorer(), count_tokens, dataclasses.replace(PROFILE, **changes))
