import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import Chunk, Hit
from leanrag.grounding import ground
from leanrag.types import PackedItem, Segment

NILE = "The Nile is 6,650 km long. It flows through eleven countries. Its source was long disputed."
PARK = "Releases are signed off by Ada Park. She works in Oslo."


def items_of(*texts, start=100):
    return [
        PackedItem(
            n,
            Hit(Chunk(f"d{n}", start, start + len(t), t, title=f"T{n}"), 1.0),
            t,
            (Segment(0, len(t), 0, start, start + len(t)),),
            1,
        )
        for n, t in enumerate(texts, 1)
    ]


def test_a_supported_sentence_is_marked_and_quoted_verbatim():
    result = ground("Who signs off releases?", "Ada Park signs off the releases.", items_of(NILE, PARK))
    assert result.text == "Ada Park signs off the releases [2]."
    assert result.is_supported
    (citation,) = result.citations
    assert (citation.number, citation.document_id, citation.quote) == (2, "d2", "Releases are signed off by Ada Park.")
    assert PARK[citation.start - 100 : citation.end - 100] == citation.quote
    assert citation.support == pytest.approx(1.0)


def test_what_the_sources_do_not_say_is_not_supported():
    result = ground("Who signs off releases?", "Bo Lind signs off the releases.", items_of(NILE, PARK))
    assert not result.is_supported
    assert result.citations == ()
    assert result.text == "Bo Lind signs off the releases."


def test_a_number_that_is_not_there_is_not_supported():
    assert ground("How long is the Nile?", "The Nile is 6,650 km long.", items_of(NILE)).is_supported
    assert not ground("How long is the Nile?", "The Nile is 7,650 km long.", items_of(NILE)).is_supported


def test_sources_that_speak_of_something_else_do_not_support():
    result = ground("Who won the football world cup in 1998?", "The Nile is 6,650 km long.", items_of(NILE))
    assert result.support == pytest.approx(1.0)
    assert result.subject == 0.0
    assert not result.is_supported


def test_repeating_the_question_is_no_answer():
    assert not ground("Who signs off releases?", "Releases are signed off.", items_of(PARK)).is_supported


def test_marks_that_the_model_wrote_are_not_believed():
    result = ground("Who signs off releases?", "Ada Park [7]. Bo Lind [1, 2].", items_of(PARK))
    assert result.text == "Ada Park [1]. Bo Lind."


def test_two_sentences_may_carry_one():
    result = ground("Who signs off releases?", "Ada Park, who works in Oslo.", items_of(PARK))
    assert result.citations[0].quote == PARK


# Sources of several spans

DOCUMENT = "Ada Park signs off releases. Nobody else may. The Nile, which is 6,650 km long, flows north. Ada Park works in Oslo."


def item_of(*spans):
    """A source that shows spans of the document, a space between each two, whatever stands between them in the document."""
    text, segments = "", []
    for start, end in spans:
        text += " " if text else ""
        segments.append(Segment(len(text), len(text) + end - start, 0, start, end))
        text += DOCUMENT[start:end]
    hit = Hit(Chunk("d", 0, len(DOCUMENT), DOCUMENT), 1.0)
    return PackedItem(1, hit, text, tuple(segments), 1, "extracted")


def span(words):
    at = DOCUMENT.index(words)
    return at, at + len(words)


def test_a_quote_from_a_later_span_is_cited_where_it_stands():
    item = item_of(span("Ada Park signs off releases."), span("Ada Park works in Oslo."))
    result = ground("Where does Ada Park work?", "Ada Park works in Oslo.", [item])
    (citation,) = result.citations
    assert citation.quote == "Ada Park works in Oslo."
    assert (citation.start, citation.end) == span("Ada Park works in Oslo.")


def test_no_quote_reaches_over_what_was_left_out():
    item = item_of(span("Ada Park signs off releases."), span("The Nile, which is 6,650 km long,"))
    result = ground("Who signs off releases?", "Ada Park signs off releases of 6,650 km.", [item])
    for citation in result.citations:
        assert DOCUMENT[citation.start : citation.end] == citation.quote
    assert not result.is_supported  # both stand in the source, and nowhere together in the document


def test_clauses_that_follow_each_other_are_quoted_as_one():
    clauses = span("The Nile, which is 6,650 km long,"), span("flows north.")
    answer = "The Nile flows north for 6,650 km."
    result = ground("Where does the Nile flow?", answer, [item_of(*clauses)])
    assert result.is_supported
    assert result.citations[0].quote == "The Nile, which is 6,650 km long, flows north."
    apart = item_of(clauses[0], span("Nobody else may."), clauses[1])
    (citation,) = ground("Where does the Nile flow?", answer, [apart]).citations
    assert citation.quote == "The Nile, which is 6,650 km long,"


@given(
    st.lists(st.integers(0, len(DOCUMENT)), min_size=2, max_size=8, unique=True).map(sorted),
    st.text("ANiParkOslo 6,50.", max_size=40),
)
def test_every_quote_of_several_spans_is_verbatim(places, answer):
    item = item_of(*zip(places[::2], places[1::2], strict=False))
    for citation in ground("Who?", answer + DOCUMENT, [item]).citations:
        assert citation.quote == DOCUMENT[citation.start : citation.end]
        assert citation.quote in item.text


@pytest.mark.parametrize("answer", ["", "  ", "...", "Yes.", "[1]"])
def test_an_answer_without_content_is_not_supported(answer):
    result = ground("Who?", answer, items_of(PARK))
    assert not result.is_supported
    assert result.citations == ()


@given(st.text(max_size=60), st.text(max_size=120), st.lists(st.text(min_size=1, max_size=120), max_size=3))
def test_every_citation_is_verbatim_and_every_figure_a_share(question, answer, texts):
    items = items_of(*texts)
    result = ground(question, answer, items)
    assert 0 <= result.support <= 1 + 1e-9
    assert 0 <= result.subject <= 1
    for citation in result.citations:
        item = items[citation.number - 1]
        assert citation.quote == item.text[citation.start - 100 : citation.end - 100]
        assert f"[{citation.number}]" in result.text


@pytest.mark.parametrize("cited", [(1,), (2,)])
def test_of_equal_quotes_the_one_from_the_source_that_the_model_named_is_cited(cited):
    texts = "The dam was built in 1962. It is tall.", "The dam was built in 1962. It is wide."
    for answer in ("The dam was built in 1962.", "1962"):
        result = ground("When was the dam built?", answer, items_of(*texts), cited=cited)
        assert [citation.number for citation in result.citations] == list(cited)


def test_a_source_that_the_model_named_wrongly_is_not_cited():
    result = ground("Who signs off releases?", "Ada Park signs off the releases.", items_of(NILE, PARK), cited=[1])
    assert [citation.number for citation in result.citations] == [2]
