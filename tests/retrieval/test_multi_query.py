from __future__ import annotations

import pytest

from leanrag.errors import ConfigurationError
from leanrag.retrieval.multi_query import ModelRewriter, MultiQueryRetriever
from leanrag.testing import FakeModel
from leanrag.types import Chunk, Hit


class ByWord:
    """Finds fixed chunks for each question."""

    def __init__(self, **found: str) -> None:
        self.found, self.asked = found, []

    def retrieve(self, question, k, *, where=None):
        self.asked.append((question, k, where))
        names = self.found.get(question, "")[:k]
        return [Hit(Chunk(name, 0, 1, name), score=9 - i, bm25=len(question)) for i, name in enumerate(names)]


def test_the_rankings_of_all_wordings_are_fused():
    retriever = ByWord(one="abc", two="bd")
    hits = MultiQueryRetriever(retriever, lambda question: ["two"]).retrieve("one", 3, where={"x": 1})
    assert [hit.chunk.text for hit in hits] == ["b", "a", "d"]
    assert [hit.score for hit in hits] == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62])
    assert hits[0].bm25 == len("one")
    assert retriever.asked == [("one", 3, {"x": 1}), ("two", 3, {"x": 1})]


def test_equal_and_empty_wordings_are_searched_once_and_never():
    retriever = ByWord(one="ab")
    hits = MultiQueryRetriever(retriever, lambda question: ["one", " ", "two", "two"]).retrieve("one", 2)
    assert [question for question, _, _ in retriever.asked] == ["one", "two"]
    assert [hit.chunk.text for hit in hits] == ["a", "b"]


@pytest.mark.parametrize("others", ["two", [None]])
def test_other_values_than_texts_are_refused(others):
    with pytest.raises(ConfigurationError, match="must return a list of texts"):
        MultiQueryRetriever(ByWord(), lambda question: others).retrieve("one", 2)


@pytest.mark.parametrize(
    "reply",
    [
        "Who keeps keys?\nBy whom are keys kept?\n",
        "1. Who keeps keys?\n2) By whom are keys kept?",
        "Here they are:\n- Who keeps keys?\n\n* By whom are keys kept?\nMore?",
    ],
)
def test_a_model_writes_wordings_in_lines(reply):
    model = FakeModel(reply)
    assert ModelRewriter(model, count=2)("Who has the keys?") == ["Who keeps keys?", "By whom are keys kept?"]
    assert "Who has the keys?" in model.prompts[0]


def test_the_question_itself_is_not_another_wording():
    assert ModelRewriter(FakeModel("Who has the keys?"))("Who has the keys?") == []


def test_a_model_that_completes_text_gets_text():
    model = FakeModel("Who?", is_chat=False)
    assert ModelRewriter(model)("Which person?") == ["Who?"]
    assert model.prompts[0].endswith("Other wordings:\n")


def test_a_count_of_none_is_refused():
    with pytest.raises(ConfigurationError):
        ModelRewriter(FakeModel("x"), count=0)
