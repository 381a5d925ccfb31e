"""Extractive compression: within the budget, verbatim, nothing protected cut, and what must stay stays or is refused."""

import base64

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag import BudgetError, Chunk, ConfigurationError, Document, ExtractiveCompressor, Hit
from leanrag.evidence.protection import Protection
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.evidence.units import split_units
from leanrag.models import load_encoding
from leanrag.testing import HashEmbedder
from leanrag.types import Evidence
from tests.examples import max_examples

many = max_examples(80, suppress_health_check=list(HealthCheck))


def count_words(text):
    return len(text.split())


def count_bytes(text):
    return len(text.encode("utf-8", "surrogatepass"))


def count_pairs(text):
    """Tokens of two characters: those of parts do not add up to those of the whole."""
    return (len(text) + 1) // 2


def count_coarsely(text):
    """Nothing for little texts, so that parts seem to cost nothing."""
    return len(text) // 40


COUNTERS = (count_words, count_bytes, count_pairs, count_coarsely)

PIECES = st.sampled_from(
    [
        "The tower, which stands in the middle of Paris, was built in 1889 and is 330 m high.", "It is not open on May 4, 2021.",
        'They said of it "a useless, monstrous thing; and so it will stay for a long time, alas" in 1887, and then they left.',
        "Run `pip install x, y` now (see https://example.org/a?b=c,d, and kim@example.org).", "東京は日本の首都である。",
        "カタカナとひらがな", "برج إيفل، وهو في باريس، طويل.", "😀😃👩‍👩‍👧", "aGVsbG8gd29ybGQ=" * 8,
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "# Heading", "\n\n", "\r\n", "\r", "\t", " ", "a", "x" * 70, "if(a){b();}" * 70, "e\u0301", "\ud800", "- item\n- item",
        "```\nx = 1\n\ny = 2\n```\n", "<llmlingua, rate=0.5>x</llmlingua>", "a < b and c <= d",
    ]
)  # fmt: skip
texts = st.lists(PIECES | st.text(max_size=12), max_size=8).map(" ".join)
vectors = SentenceVectors(HashEmbedder(dim=16, max_tokens=512))
compressors = st.builds(
    ExtractiveCompressor,
    st.sampled_from([SentenceScorer(), SentenceScorer(clauses=False), SentenceScorer(vectors)]),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    least=st.sampled_from([0.0, 0.0, 0.5]),
)
questions = st.sampled_from(["", "How high is the tower?", "東京?", "أين البرج؟", "?"])


def check_promises(compressor, sources, count, budget, question, keep=()):
    """Compress, and check what is promised of every result and of every refusal; returns the result or None."""
    options = {"budget": budget, "count_tokens": count, "question": question, "keep": keep}
    before = "\n\n".join(sources)
    fits = not sources or count(before) <= budget
    try:
        result = compressor.compress(sources, **options)
    except BudgetError as error:
        assert error.needed > error.available == budget
        assert not fits
        if not any(keep):
            alone = [u for u in compressor._scorer.score(question, as_hits(sources))[0] if u.needs is None]
            assert all(count(sources[u.hit][u.start : u.end]) > budget for u in alone)
        return None
    assert result.tokens_after == (count(result.text) if result.text else 0) <= budget
    assert result.restore() == before
    if fits:
        assert result.text == before
    at = 0
    for segment in result.segments:
        span = sources[segment.source][segment.source_start : segment.source_end]
        assert result.text[segment.start : segment.end] == span
        assert not result.text[at : segment.start].strip()
        at = segment.end
    assert not result.text[at:].strip()
    places = [(segment.source, segment.source_start) for segment in result.segments]
    assert places == sorted(set(places))
    assert compressor.compress(sources, **options).segments == result.segments
    return result


def as_hits(sources):
    return [Hit(Chunk(f"d{i}", 0, len(text), text), 1 / (i + 1)) for i, text in enumerate(sources)]


def held_by(result, number, length):
    """Which characters of a source are in the result."""
    held = np.zeros(length, bool)
    for segment in result.segments:
        if segment.source == number:
            held[segment.source_start : segment.source_end] = True
    return held


def check_protected(result, sources):
    """Within each sentence, row and block a protected span is whole or gone, as the text tells it and as the unit does."""
    for number, text in enumerate(sources):
        held = held_by(result, number, len(text))
        visible = np.array([not character.isspace() for character in text], bool)
        of_text = Protection().spans(text)
        for unit in split_units(text):
            of_unit = [(unit.start + a, unit.start + b) for a, b in Protection().spans(text[unit.start : unit.end])]
            for start, end in [*of_text, *of_unit]:
                low, high = max(start, unit.start), min(end, unit.end)
                state = held[low:high][visible[low:high]] if low < high else held[:0]
                assert state.all() or not state.any(), text[start:end]


@many
@given(compressors, st.lists(texts, max_size=4), st.integers(0, 60), st.sampled_from(COUNTERS), questions)
def test_within_the_budget_verbatim_and_nothing_protected_cut(compressor, sources, budget, count, question):
    if result := check_promises(compressor, sources, count, budget, question):
        check_protected(result, sources)


@many
@given(compressors, st.lists(texts, min_size=1, max_size=3), st.data(), st.sampled_from(COUNTERS), questions)
def test_what_was_asked_for_stays_or_the_budget_is_too_small(compressor, sources, data, count, question):
    keep = []
    for text in sources:
        start = data.draw(st.integers(0, len(text)))
        keep.append([(start, data.draw(st.integers(start + 1, len(text))))] if start < len(text) else [])
    budget = data.draw(st.integers(0, 100))
    if result := check_promises(compressor, sources, count, budget, question, keep):
        for number, text in enumerate(sources):
            held = held_by(result, number, len(text))
            for start, end in keep[number]:
                assert all(held[at] or text[at].isspace() for at in range(start, end))


@many
@given(texts, st.integers(0, 60), st.sampled_from(COUNTERS), st.booleans())
def test_patterns_and_protection_everywhere(text, budget, count, everywhere):
    protection = Protection(patterns=[r"[bo]\w+"], everywhere=everywhere)
    compressor = ExtractiveCompressor(protection=protection)
    try:
        result = compressor.compress(text, budget=budget, count_tokens=count, question="tower?")
    except BudgetError:
        return
    held = held_by(result, 0, len(text))
    for start, end in protection.required(text):
        assert all(held[at] or text[at].isspace() for at in range(start, end))


@many
@given(compressors, st.lists(texts, max_size=3), st.sampled_from(COUNTERS))
def test_what_fits_is_returned_as_it_is(compressor, sources, count):
    before = "\n\n".join(sources)
    assert compressor.compress(sources, rate=1, count_tokens=count).text == before
    assert compressor.compress(sources, budget=count(before), count_tokens=count).text == before


@max_examples(30, suppress_health_check=list(HealthCheck))
@given(st.lists(texts, max_size=3), st.integers(0, 60), questions)
def test_the_promises_with_the_tokenizer_of_a_gguf(tiny, sources, budget, question):
    sources = [text.encode("utf-8", "replace").decode() for text in sources]
    if result := check_promises(ExtractiveCompressor(), sources, tiny.count_tokens, budget, question):
        check_protected(result, sources)


@pytest.fixture(scope="module")
def cl100k():
    encoding = load_encoding("cl100k_base")
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def test_one_unit_stays_where_two_take_more_together_than_each():
    def count(text):
        return 5 if "\n\n" in text else 1

    result = ExtractiveCompressor().compress(["0", ":"], budget=2, count_tokens=count)
    assert (result.text, result.tokens_after) == ("0", 1)


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm", "cl100k"])
@max_examples(60, suppress_health_check=list(HealthCheck))
@given(compressor=compressors, sources=st.lists(texts, max_size=3), share=st.floats(0, 1), question=questions)
def test_the_promises_with_real_tokenizers(request, name, compressor, sources, share, question):
    counter = request.getfixturevalue(name)
    count = counter if name == "cl100k" else counter.count_tokens
    sources = [text.encode("utf-8", "replace").decode() for text in sources]
    budget = int(share * count("\n\n".join(sources))) if sources else 0
    if result := check_promises(compressor, sources, count, budget, question):
        check_protected(result, sources)


# What is chosen

TEXT = "The tower stands in Paris. Tickets are cheap. It is 330 metres tall. Millions climb it every year."


def compress(text, budget, question="", **options):
    return ExtractiveCompressor(**options.pop("settings", {})).compress(
        text, budget=budget, count_tokens=count_words, question=question, **options
    )


def test_keeps_the_sentence_with_the_answer_and_says_what_it_did():
    result = compress(TEXT, 9, "Where are tickets cheap?")
    assert result.text == "Tickets are cheap. Millions climb it every year."
    spans = [(s.source_start, s.source_end, s.reason) for s in result.segments]
    assert spans == [(27, 45, "relevant"), (69, 98, "relevant")]
    spans = [(d.source_start, d.source_end, d.reason) for d in result.dropped]
    assert spans == [(0, 26, "budget"), (46, 68, "budget")]
    assert result.segments[0].score > max(part.score for part in (result.segments[1], *result.dropped))
    assert (result.method, result.tokens_before, result.tokens_after) == ("extractive", 18, 8)


def test_a_sentence_with_a_pronoun_brings_along_what_it_points_to():
    result = compress(TEXT, 13, "How tall is it in metres?")
    assert "It is 330 metres tall." in result.text
    assert "Tickets are cheap." in result.text  # the sentence before it
    with pytest.raises(BudgetError):
        compress("Tickets for the old tower are cheap. It is tall.", 3, "tall?")


def test_a_clause_may_stand_for_its_sentence():
    text = "The tower, which stands by the river in Paris, was built by the company of Gustave Eiffel in 1889."
    result = compress(text, 10, "Which company built it?")
    assert result.text == "was built by the company of Gustave Eiffel in 1889."
    whole = ExtractiveCompressor(SentenceScorer(clauses=False))
    with pytest.raises(BudgetError):
        whole.compress(text, budget=10, count_tokens=count_words, question="Which company built it?")


def test_rows_come_with_the_head_of_their_table():
    text = "| city | people |\n|---|---|\n| Oslo | 700,000 |\n| Rome | 2,800,000 |\n\nText follows the table here."
    result = compress(text, 12, "How many people in Rome?")
    assert result.text == "| city | people |\n| Rome | 2,800,000 |"


def test_sources_keep_their_order_and_places():
    sources = [
        Document("Bread is sold here.", id="a"),
        Chunk("b", 5, 31, "The tower stands in Paris."),
        Hit(Chunk("c", 0, 13, "Ships sail."), 0.1),
    ]
    result = compress(sources, 9, "Where does the tower stand and bread is sold?")
    assert result.text == "Bread is sold here.\n\nThe tower stands in Paris."
    assert [(s.source, s.source_start, s.source_end) for s in result.segments] == [(0, 0, 19), (1, 5, 31)]
    assert result.map(result.text.index("tower")) == ("b", 9)


def test_a_repetition_makes_room_and_is_told_of():
    class Table:
        id, dim, max_tokens = "table", 2, 99

        def count_tokens(self, text):
            return 1

        def embed_documents(self, texts):
            return np.float32([[1, 0] if "tower" in text else [0, 1] for text in texts])

        embed_queries = embed_documents

    text = "The tower is tall.\n\nThe tall tower is.\n\nBread is not dear."
    settings = {"scorer": SentenceScorer(SentenceVectors(Table()))}
    result = compress(text, 8, "tall tower?", settings=settings)
    assert "Bread is not dear." in result.text
    assert [dropped.reason for dropped in result.dropped] == ["duplicate"]
    assert compress(text, 8, "tall tower?").text == "The tower is tall.\n\nThe tall tower is."


def test_least_leaves_out_what_is_worth_little():
    result = compress(TEXT, 17, "Where does the tower stand?", settings={"least": 0.9})
    assert result.text == "The tower stands in Paris."


@pytest.mark.parametrize("options", [{"power": 1.5}, {"power": -1}, {"least": 2}, {"least": float("nan")}])
def test_impossible_settings(options):
    with pytest.raises(ConfigurationError, match=rf"`{next(iter(options))}` must be in \[0, 1\]"):
        ExtractiveCompressor(**options)


# What must stay


def test_keep_patterns_and_protection():
    result = compress(TEXT, 8, "Where does the tower stand?", keep=[(52, 55)])
    assert result.text == "Tickets are cheap. It is 330 metres tall."
    assert [segment.reason for segment in result.segments] == ["relevant", "kept"]
    result = compress(TEXT, 7, "tower?", settings={"protection": Protection(patterns=["Millions"])})
    assert (result.text, result.segments[0].reason) == ("Millions climb it every year.", "kept")
    everywhere = {"protection": Protection(everywhere=True)}
    assert "It is 330 metres tall." in compress(TEXT, 13, "Paris?", settings=everywhere).text


def test_what_was_asked_for_stays_without_what_it_needs_where_both_do_not_fit():
    result = compress(TEXT, 6, "Where does the tower stand?", keep=[(52, 55)])
    assert result.text == "It is 330 metres tall."


def test_what_must_stay_and_does_not_fit():
    with pytest.raises(BudgetError, match="must be kept takes 8 tokens, and the budget is 7") as caught:
        compress(TEXT, 7, keep=[(10, 30)])
    assert (caught.value.needed, caught.value.available) == (8, 7)
    assert compress(TEXT, 8, keep=[(10, 30)]).text == "The tower stands in Paris. Tickets are cheap."


def test_parts_that_fit_only_together():
    def count_from_scratch(text):
        return 2 + len(text.split())  # as if each text began with two tokens of its own

    text = "One is here. Two is here. Three is here. Four is here. Five is here, too."
    kwargs = {"count_tokens": count_from_scratch, "keep": [(0, 54)]}
    result = ExtractiveCompressor().compress(text, budget=14, **kwargs)  # the four alone would take 20
    assert result.text == "One is here. Two is here. Three is here. Four is here."
    with pytest.raises(BudgetError) as caught:
        ExtractiveCompressor().compress(text, budget=13, **kwargs)
    assert caught.value.needed == 14


def test_a_unit_that_fits_is_found_among_many_that_do_not():
    long = " ".join(["word"] * 60) + ". "
    assert compress(long.capitalize() * 20 + "Tiny thing.", 2, "word?").text == "Tiny thing."


# Bad input

LONG = "The tower stands, as all of them know, in Paris, " * 1200


@pytest.mark.parametrize(
    "text",
    [
        "", " \n\t ", "word", "x" * 9000, LONG, LONG.replace(",", "").replace(" ", ""), "東京は日本の首都である。" * 200,
        "برج إيفل في باريس، وهو طويل. " * 100, "😀" * 500, "👩‍👩‍👧 " * 200, "One.\r\nTwo.\rThree.\n\n\r\nFour.\n" * 30,
        "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 300, "function(a,b){return a<b?a:b};" * 300,
        base64.b64encode(bytes(range(256)) * 30).decode(), "<llmlingua, compress=False>x</llmlingua> " * 50, "a < b > c < " * 200,
        "\ud800 lone", "a\u0301" * 900, "\u200b" * 500, "\x00" * 50, "<|im_end|> text " * 60,
    ],
    ids=range(21),
)  # fmt: skip
@pytest.mark.parametrize("question", ["", "Où est la tour? 東京"])
@pytest.mark.parametrize("budget", [0, 1, 40])
@pytest.mark.slow
def test_bad_input(text, question, budget):
    for count in (count_words, count_bytes, count_pairs):
        if result := check_promises(ExtractiveCompressor(), [text], count, budget, question):
            check_protected(result, [text])
            if count(text) > budget and budget == 40 and text.strip():
                assert result.text


def test_nothing_but_white_space_compresses_to_nothing():
    result = ExtractiveCompressor().compress(" \n\n ", budget=1, count_tokens=len)
    assert (result.text, result.segments, result.tokens_after) == ("", (), 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"budget": 5, "rate": 0.5},
        {"budget": -1},
        {"budget": 1.5},
        {"rate": 0},
        {"rate": 1.1},
        {"budget": 5, "keep": [(0, 99)]},
        {"budget": 5, "keep": [(3, 3)]},
    ],
)
def test_arguments_that_cannot_work(options):
    with pytest.raises(ConfigurationError):
        ExtractiveCompressor().compress("Some text.", count_tokens=count_words, **options)


def test_a_scorer_of_ones_own():
    class Last:
        def score(self, question, hits):
            return [Evidence(0, 0, 3, 0.1), Evidence(0, 4, 7, 0.9)], None

    assert compress("one two", 1, settings={"scorer": Last()}).text == "two"
