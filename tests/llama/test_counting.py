import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from leanrag import LlamaCppModel
from leanrag.llama.chat import encode_text
from leanrag.llama.counting import TokenCounts
from leanrag.llama.library import library
from leanrag.llama.vocabulary import Vocabulary
from leanrag.models import resolve

PIECES = st.sampled_from(
    ["word", " word", "Über", " naïve", "don't", " I'LL", ", ", ". ", "; ", ": ", " ", "  ", "\n", "\r\n", "\t", "1889", " 3.14",
     "東京は", " مرحبا", "👩🏽\u200d🚀", "\ud800", "<|im_start|>", "<tool_call>", "<", " <b> ", "e ", " a", "ab. C", "\u00a0",
     "\u2581", "Ġ", "x" * 80]
)  # fmt: skip
texts = st.lists(PIECES | st.text(max_size=4), max_size=30).map("".join)
many = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def check(counts, vocabulary, text):
    expected = len(encode_text(text, vocabulary))
    assert counts(text) == expected
    assert counts(text) == expected  # of words that are known now


@many
@given(texts)
def test_counts_are_those_of_the_tokens(tiny, text):
    vocabulary = tiny._engine.vocabulary
    check(TokenCounts(vocabulary), vocabulary, text)
    check(tiny.count_tokens, vocabulary, text)


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
def test_counts_are_those_of_real_vocabularies(name):
    with LlamaCppModel(resolve(name), n_ctx=64, threads=1) as model:
        vocabulary = model._engine.vocabulary

        @many
        @given(texts)
        @example("word. word <|im_start|> word. word")
        @example("a b" * 40)
        @example("The tower, which is in Paris; was built: in 1889. By WHOM? By us.")
        def check_model(text):
            check(model.count_tokens, vocabulary, text)

        check_model()
        assert model._token_counts._known[" tower,"] == 2
        assert len(model._token_counts._known) > 10


def test_what_is_remembered_is_bounded(tiny, monkeypatch):
    monkeypatch.setattr("leanrag.llama.counting._MOST", 10)
    vocabulary = tiny._engine.vocabulary
    counts = TokenCounts(vocabulary)
    for first in range(0, 60, 6):
        check(counts, vocabulary, " ".join("abcdefgh"[: 1 + i % 8] + chr(97 + i % 26) for i in range(first, first + 6)))
        assert len(counts._known) <= 10
    check(counts, vocabulary, "b" * 100 + " a")
    assert "b" * 100 not in counts._known


class OneJoined(Vocabulary):
    """A vocabulary of which one token reaches over a space."""

    def __init__(self, model, joined):
        super().__init__(library(), model)
        self._joined = joined

    def raw_texts(self):
        return [*super().raw_texts(), self._joined]


@pytest.mark.parametrize(
    ("joined", "parts"),
    [
        (b"", ["Up", " to.", " Date"]),
        ("p▁t".encode(), ["Up to.", " Date"]),
        ("pĠ".encode(), ["Up to.", " Date"]),
        (b"p <", ["Up", " to.", " Date"]),
        (b". D", ["Up", " to. Date"]),
    ],
)
def test_no_text_is_parted_where_a_token_may_reach_across(tiny, joined, parts):
    counts = TokenCounts(OneJoined(tiny._engine._model.weights.model, joined))
    assert counts._parting is not None
    assert counts._parting.split("Up to. Date") == parts
