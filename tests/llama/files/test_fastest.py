"""The fastest type of weights without a loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.llama.files.fastest import (
    AS_SHIPPED,
    CANDIDATES,
    choose_type,
    describe_help_topics,
    measure_types,
    question_seconds,
    read_help_topics,
)
from leanrag.llama.files.quantize import QUANTIZED_TYPES, Figures

figures = st.builds(
    Figures,
    size_bytes=st.just(1),
    prefill_tokens_per_second=st.floats(1, 1e4),
    decode_tokens_per_second=st.one_of(st.none(), st.floats(1, 1e3)),
    perplexity=st.floats(1, 1e3),
)


@given(st.dictionaries(st.sampled_from(CANDIDATES), figures), figures)
def test_the_chosen_type_loses_nothing_and_no_such_type_is_faster(copies, shipped):
    choice = choose_type({AS_SHIPPED: shipped, **copies})
    chosen = choice.figures[choice.type]
    assert chosen.perplexity <= 1.02 * shipped.perplexity
    equal = [each for each in choice.figures.values() if each.perplexity <= 1.02 * shipped.perplexity]
    fastest = min(map(question_seconds, equal))
    if choice.type == AS_SHIPPED:
        assert fastest * 1.1 > question_seconds(shipped)
    else:
        assert question_seconds(chosen) == fastest
        assert fastest * 1.1 <= question_seconds(shipped)


@pytest.mark.slow
def test_each_type_is_measured_and_no_copy_stays(tiny_gguf, tmp_path):
    measured = measure_types(tiny_gguf, tmp_path, ("q8_0", "q4_0"), text="The quick brown fox jumps over the lazy dog.")
    assert list(measured) == [AS_SHIPPED, "q8_0", "q4_0"]
    assert measured["q8_0"].perplexity == pytest.approx(measured[AS_SHIPPED].perplexity, rel=0.01)
    assert all(each.prefill_tokens_per_second > 0 for each in measured.values())
    assert list(tmp_path.iterdir()) == []


def test_the_candidates_can_be_made():
    assert set(CANDIDATES) <= set(QUANTIZED_TYPES)


def test_a_question_takes_reading_and_writing():
    assert question_seconds(Figures(1, 256.0, 16.0, 9.0)) == 4.0
    assert question_seconds(Figures(1, 256.0, None, 9.0)) == 2.0


def test_the_text_is_on_every_machine():
    text = read_help_topics()
    assert len(text) == 8_000
    assert describe_help_topics(text).startswith("the first 8,000 characters of the help topics of Python 3.")
