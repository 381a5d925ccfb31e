"""What was tokenized before is not tokenized again, and nobody can tell."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leanrag.llama.library import library
from leanrag.llama.vocabulary import Vocabulary
from leanrag.llama.weights import Weights

BEGINNING = (
    "The quick brown fox jumps over the lazy dog; it runs, and it hides. 42 more dogs: éléphant, 東京 <|im_start|> \n\n"
    * 12
)
WORDS = st.text(st.sampled_from("ab Z,.;:\n1é東<|>_"), max_size=60)


@pytest.fixture(scope="module")
def weights(tiny_gguf):
    weights = Weights.acquire(tiny_gguf, vocab_only=True)
    yield weights
    weights.release()


def check(model, texts, parse_special):
    remembering = Vocabulary(library(), model)
    for text in texts:
        assert remembering.tokenize(text, parse_special=parse_special) == remembering._tokenize(text, parse_special)
    return remembering


@given(st.lists(st.tuples(st.integers(0, len(BEGINNING)), WORDS), max_size=4), st.booleans())
@example([(len(BEGINNING), ""), (1100, "of it"), (1101, " of it"), (len(BEGINNING), " and")], True)
def test_texts_that_begin_alike_have_their_own_tokens(weights, texts, parse_special):
    check(weights.model, [BEGINNING[:length] + end for length, end in texts], parse_special)


@pytest.mark.model
@given(st.lists(st.tuples(st.integers(900, len(BEGINNING)), WORDS), max_size=4), st.booleans())
def test_so_they_have_in_a_real_vocabulary(smollm, texts, parse_special):
    model = smollm._engine._model.weights.model
    check(model, [BEGINNING[:length] + end for length, end in texts], parse_special)
