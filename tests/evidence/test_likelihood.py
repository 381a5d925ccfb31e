"""A model reads the promising sentences: what it finds likely rises, the rest keeps its order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrag import Chunk, ConfigurationError, EvidencePacker, ExtractiveCompressor, Hit, LikelihoodScorer
from leanrag.errors import CompressionError, GenerationError
from leanrag.evidence.scoring import SentenceScorer
from leanrag.types import Scores
from tests.compression.test_self_information import StrictScorer, texts

TEXT = "Alpha is tall and wide and old, and it is the first tower of the town. Beta is wide. Gamma is blue. Delta is small."


def hits_of(*texts):
    return [Hit(Chunk(f"d{i}", 0, len(text), text), 1 / (i + 1)) for i, text in enumerate(texts)]


class Reader(StrictScorer):
    """Finds the question as likely as a word of the text tells."""

    def __init__(self, **likelihoods):
        super().__init__()
        self.likelihoods, self.read = likelihoods, []

    def _score(self, condition, tokens):
        self.read.append(condition)
        total = next((value for word, value in self.likelihoods.items() if word in condition), -20.0)
        return Scores(tuple(tokens), (total, *[0.0] * (len(tokens) - 1)))


def shares(scorer, question, hits):
    units, _ = scorer.score(question, hits)
    return {hits[u.hit].chunk.text[u.start : u.end]: u.value for u in units}


def test_a_unit_is_worth_its_evidence_times_a_power_of_the_likelihood():
    base = shares(SentenceScorer(), "How wide is it?", hits_of(TEXT))
    reader = Reader(Alpha=-4.0, Beta=-9.0, Gamma=-5.0)
    found = shares(LikelihoodScorer(reader, weight=0.5), "How wide is it?", hits_of(TEXT))
    likelihoods = [-4.0, -4.0, -9.0, -5.0, -20.0]  # two clauses of the first sentence
    expected = {text: base[text] * np.exp(0.5 * own) for text, own in zip(base, likelihoods, strict=True)}
    total = sum(expected.values())
    assert found == pytest.approx({text: value / total for text, value in expected.items()})


def test_the_most_promising_sentences_are_read_and_the_others_count_as_the_least_likely():
    hits = hits_of(TEXT)
    base = shares(SentenceScorer(), "Is Gamma blue, or Beta?", hits)
    reader = Reader(Beta=-9.0, Gamma=-2.0)
    found = shares(LikelihoodScorer(reader, sentences=2, weight=1.0), "Is Gamma blue, or Beta?", hits)
    assert sorted(reader.read) == ["\nBeta is wide.", "\nGamma is blue."]
    expected = {text: value * np.exp(0.0 if "Gamma" in text else -7.0) for text, value in base.items()}
    total = sum(expected.values())
    assert found == pytest.approx({text: value / total for text, value in expected.items()})


@pytest.mark.parametrize("question", ["", " \n"])
def test_without_a_question_nothing_is_read(question):
    reader = Reader()
    assert shares(LikelihoodScorer(reader), question, hits_of(TEXT)) == shares(
        SentenceScorer(), question, hits_of(TEXT)
    )
    assert reader.read == []


def test_nothing_in_nothing_out():
    assert LikelihoodScorer(Reader()).score("Who?", []) == ([], None)
    assert LikelihoodScorer(Reader()).score("Who?", hits_of("", " \n")) == ([], None)


@settings(deadline=None)
@given(
    st.lists(texts, max_size=4), st.sampled_from(["Who?", "東京はどこ?", "x" * 2000]), st.integers(1, 4), st.booleans()
)
def test_the_units_are_those_of_the_evidence_and_their_values_sum_to_one(sources, question, sentences, clauses):
    scorer, evidence = StrictScorer(), SentenceScorer(clauses=clauses)
    units, repeats = LikelihoodScorer(scorer, evidence, sentences=sentences).score(question, hits_of(*sources))
    expected, _ = evidence.score(question, hits_of(*sources))
    assert [(u.hit, u.start, u.end, u.needs) for u in units] == [(u.hit, u.start, u.end, u.needs) for u in expected]
    assert repeats is None
    if units:
        assert sum(unit.value for unit in units) == pytest.approx(1.0)
        assert all(unit.value >= 0 for unit in units)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sentences": 0}, "at least 1, got 0"),
        ({"weight": -0.1}, "at least 0, got -0.1"),
        ({"weight": float("nan")}, "got nan"),
    ],
)
def test_arguments_that_cannot_work(options, message):
    with pytest.raises(ConfigurationError, match=message):
        LikelihoodScorer(StrictScorer(), **options)


def test_a_window_too_small():
    with pytest.raises(ConfigurationError, match="at least 64 tokens, got 63"):
        LikelihoodScorer(StrictScorer(n_ctx=63))


def test_a_model_that_fails():
    class Failing(StrictScorer):
        def _score(self, condition, tokens):
            raise GenerationError("out of memory")

    with pytest.raises(CompressionError, match="strict could not score the sources: out of memory"):
        LikelihoodScorer(Failing()).score("Who?", hits_of(TEXT))


def test_it_serves_packers_and_compressors():
    reader = Reader(Gamma=-2.0)
    count = lambda text: len(text.split())  # noqa: E731
    scorer = LikelihoodScorer(reader, weight=1.0)
    result = ExtractiveCompressor(scorer).compress(TEXT, budget=3, count_tokens=count, question="What is it?")
    assert result.text == "Gamma is blue."
    packing = EvidencePacker(scorer).pack(
        hits_of(TEXT), 3, lambda number, title, text: count(text), question="What is it?"
    )
    assert [item.text for item in packing.items] == ["Gamma is blue."]


@pytest.mark.model
def test_a_real_model_finds_what_words_do_not(smollm):
    hits = hits_of("The shop sells hats and gloves. The price of a hat is ten pounds. The owner was born in York.")
    found = shares(LikelihoodScorer(smollm, weight=1.0), "How much does it cost?", hits)
    assert max(found, key=found.get) == "The price of a hat is ten pounds."
