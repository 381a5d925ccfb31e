"""Words that were tokenized before are not tokenized again, and nobody can tell."""

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from leanrag import LlamaCppModel
from leanrag.llama import LlamaCppEmbedder
from leanrag.llama.library import library
from leanrag.llama.vocabulary import Vocabulary
from leanrag.llama.weights import Weights
from leanrag.models import resolve
from leanrag.pipeline.copies import find_embedder
from tests.examples import max_examples

PIECES = st.sampled_from(
    ["word", " word", "Über", " naïve", "don't", " I'LL", ", ", ". ", "; ", ": ", " ", "  ", "\n", "\r\n", "\t", "1889", " 3.14",
     "東京は", " مرحبا", "👩🏽\u200d🚀", "\ud800", "<|im_start|>", "<tool_call>", "<", " <b> ", "e ", " a", "ab. C", "\u00a0",
     "\u2581", "Ġ", "x" * 80]
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tiny_gguf):
    weights = Weights.acquire(tiny_gguf, vocab_only=True)
    yield weights
    weights.release()


texts = st.lists(PIECES | st.text(max_size=4), max_size=30).map("".join)
many = max_examples(150, suppress_health_check=list(HealthCheck))


def check(vocabulary, text):
    for parse_special in (False, True):
        expected = vocabulary._tokenize(text, parse_special)
        assert vocabulary.tokenize(text, parse_special=parse_special) == expected
        assert vocabulary.tokenize(text, parse_special=parse_special) == expected  # of words that are known now


def known(vocabulary):
    return vocabulary._memory._known


@many
@given(texts)
def test_tokens_are_those_of_the_tokenizer(tiny, text):
    check(tiny._engine.vocabulary, text)


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m", "qwen2.5-coder-0.5b"])
def test_tokens_are_those_of_real_tokenizers(name):
    with LlamaCppModel(resolve(name), n_ctx=64, threads=1) as model:
        vocabulary = model._engine.vocabulary

        @many
        @given(texts)
        @example("word. word <|im_start|> word. word")
        @example("<|im_start|>user\nWho is it?<|im_end|>\n<start_of_turn>user\nWho<end_of_turn>\n")
        @example("a b" * 40)
        @example("The tower, which is in Paris; was built: in 1889. By WHOM? By us.")
        def check_model(text):
            check(vocabulary, text)

        check_model()
        assert len(known(vocabulary)[False][" tower,"]) == 2
        assert known(vocabulary)[True][" tower,"] == known(vocabulary)[False][" tower,"]
        assert len(known(vocabulary)[False]) > 10


@pytest.mark.model
def test_a_tokenizer_that_folds_case_has_no_memory():
    with LlamaCppEmbedder(find_embedder("all-minilm-l6-v2")) as embedder:
        assert embedder._encoder._weights.vocabulary._memory is None


def test_only_new_words_are_tokenized(weights, monkeypatch):
    read, tokenize = [], Vocabulary._tokenize
    monkeypatch.setattr(
        Vocabulary, "_tokenize", lambda self, text, special: read.append(text) or tokenize(self, text, special)
    )
    vocabulary = Vocabulary(library(), weights.model)
    vocabulary.tokenize("It is red, and it is old.", parse_special=False)
    read.clear()
    for parse_special in (False, True):
        vocabulary.tokenize("It is old, and it is red, and new.", parse_special=parse_special)
    assert read == [" old, new."]
    text = "It is <|im_end|> old. And it is red,"
    tokens = [vocabulary.tokenize(text, parse_special=parse_special) for parse_special in (False, True, False, True)]
    assert tokens[:2] == tokens[2:]
    assert tokens[0] != tokens[1]
    assert read[1:] == [" And", " is <|im_end|> old.", " is <|im_end|> old."]


def test_what_is_remembered_is_bounded(weights, monkeypatch):
    monkeypatch.setattr("leanrag.llama.token_memory._MOST", 10)
    vocabulary = Vocabulary(library(), weights.model)
    for first in range(0, 60, 6):
        check(vocabulary, " ".join("abcdefgh"[: 1 + i % 8] + chr(97 + i % 26) for i in range(first, first + 6)))
        assert all(len(words) <= 10 for words in known(vocabulary).values())
    check(vocabulary, "b" * 100 + " a")
    assert "b" * 100 not in known(vocabulary)[False]


def test_a_text_of_many_control_tokens_is_tokenized_whole(weights, monkeypatch):
    monkeypatch.setattr("leanrag.llama.token_memory._MOST_SPECIAL", 3)
    vocabulary = Vocabulary(library(), weights.model)
    for n in (3, 4):
        text = "".join(f" a{i}{n}<|im_end|>c" for i in range(n))
        check(vocabulary, text)
        assert (f" a0{n}<|im_end|>c" in known(vocabulary)[True]) is (n == 3)


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
def test_no_text_is_parted_where_a_token_may_reach_across(weights, joined, parts):
    parting = OneJoined(weights.model, joined).parting
    assert parting is not None
    assert parting.split("Up to. Date") == parts
