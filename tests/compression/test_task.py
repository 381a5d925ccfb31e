import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.compression.task import BETWEEN_SOURCES, Part, Task, as_hits, assemble
from leanrag.errors import BudgetError, ConfigurationError
from leanrag.types import Chunk, Document, DroppedSpan, Hit, Segment


def count_words(text):
    return len(text.split())


def task_of(sources, *, budget=None, rate=None, keep=(), question=""):
    if budget is rate is None:
        budget = 10_000
    return Task.of(sources, count_tokens=count_words, budget=budget, rate=rate, question=question, keep=keep)


TEXTS = st.text(st.sampled_from("ab .\n\u3000"), max_size=30)
PLACES = st.lists(st.integers(0, 30), max_size=12).map(sorted)


@st.composite
def disjoint_parts(draw, texts, reason):
    """Some spans of some of the texts."""
    parts = []
    for number, text in enumerate(texts):
        places = [min(place, len(text)) for place in draw(PLACES)]
        pairs = zip(places[::2], places[1::2], strict=False)
        scores = st.none() | st.floats(0, 1)
        parts += [Part(number, start, end, draw(scores), reason) for start, end in pairs if start < end]
    return parts


@st.composite
def finished(draw):
    """Sources somewhere in their documents, parts of them that stay and parts of which something is known."""
    texts = draw(st.lists(TEXTS, max_size=4))
    starts = [draw(st.integers(0, 5)) for _ in texts]
    hits = [Hit(Chunk(f"d{i}", s, s + len(t), t), 1.0) for i, (s, t) in enumerate(zip(starts, texts, strict=True))]
    kept = draw(disjoint_parts(texts, "relevant"))
    known = draw(disjoint_parts(texts, "irrelevant"))
    compression = task_of(hits).finish(draw(st.permutations(kept)), "test", draw(st.permutations(known)))
    return hits, kept, known, compression


def document_of(hit):
    """The document of a hit: some other text stands before its chunk."""
    return "?" * hit.chunk.start + hit.chunk.text


@given(finished())
def test_segments_are_verbatim_and_only_white_space_lies_between(case):
    hits, kept, _, compression = case
    at = 0
    for segment in compression.segments:
        document = document_of(hits[segment.source])
        assert compression.text[segment.start : segment.end] == document[segment.source_start : segment.source_end]
        assert not compression.text[at : segment.start].strip()
        at = segment.end
    assert at == len(compression.text)
    places = [(s.source, s.source_start, s.source_end, s.score, s.reason) for s in compression.segments]
    offset = [hit.chunk.start for hit in hits]
    expected = sorted((p.source, offset[p.source] + p.start, offset[p.source] + p.end) for p in kept)
    assert [place[:3] for place in places] == expected
    assert {place[4] for place in places} <= {"relevant"}


@given(finished())
def test_every_character_is_kept_or_dropped_once(case):
    hits, _, known, compression = case
    for number, hit in enumerate(hits):
        spans = [(s.source_start, s.source_end) for s in compression.segments if s.source == number]
        spans += [(d.source_start, d.source_end) for d in compression.dropped if d.source == number]
        told = [place - hit.chunk.start for start, end in spans for place in range(start, end)]
        assert len(told) == len(set(told))
        assert set(told) <= set(range(len(hit.chunk.text)))
        assert {i for i, c in enumerate(hit.chunk.text) if not c.isspace()} <= set(told)
    for span in compression.dropped:
        piece = document_of(hits[span.source])[span.source_start : span.source_end]
        assert piece == piece.strip() != ""
        start, end = (place - hits[span.source].chunk.start for place in (span.source_start, span.source_end))
        reasons = {(p.score, p.reason) for p in known if p.source == span.source and p.start <= start and end <= p.end}
        assert (span.score, span.reason) in (reasons or {(None, "budget")})
    assert list(compression.dropped) == sorted(compression.dropped, key=lambda span: (span.source, span.source_start))


@given(finished())
def test_map_inverts_segments(case):
    hits, _, _, compression = case
    mapped = 0
    for offset, character in enumerate(compression.text):
        if place := compression.map(offset):
            hit = next(hit for hit in hits if hit.chunk.document_id == place[0])
            assert document_of(hit)[place[1]] == character
            mapped += 1
        else:
            assert character.isspace()
    assert mapped == sum(segment.end - segment.start for segment in compression.segments)
    assert compression.map(len(compression.text)) is None


@given(finished())
def test_what_a_compression_says_of_itself(case):
    hits, _, _, compression = case
    assert compression.restore() == BETWEEN_SOURCES.join(hit.chunk.text for hit in hits)
    assert compression.tokens_before == count_words(compression.restore())
    assert compression.tokens_after == count_words(compression.text)
    assert (compression.method, compression.sources) == ("test", tuple(hits))
    assert compression.seconds >= 0


@given(st.lists(TEXTS, max_size=4))
def test_whole_sources_come_back_as_they_were(texts):
    compression = task_of(texts).whole("test")
    assert compression.text == BETWEEN_SOURCES.join(texts)
    assert compression.dropped == ()
    assert {segment.reason for segment in compression.segments} <= {"whole"}
    assert compression.rate == 1


def test_what_is_told_of_a_part_fills_what_it_speaks_of_and_no_more():
    compression = task_of("One. Two. Three. Four.").finish(
        [Part(0, 5, 9)], "test", [Part(0, 10, 16, 0.5, "duplicate"), Part(0, 0, 2, 0.1, "irrelevant")]
    )
    assert compression.text == "Two."
    assert compression.dropped == (
        DroppedSpan(0, 0, 2, 0.1, "irrelevant"),
        DroppedSpan(0, 2, 4, None, "budget"),
        DroppedSpan(0, 10, 16, 0.5, "duplicate"),
        DroppedSpan(0, 17, 22, None, "budget"),
    )


def test_a_part_that_is_told_of_around_one_that_stays():
    compression = task_of("One. Two. Three.").finish([Part(0, 5, 9)], "test", [Part(0, 0, 16, 0.2, "irrelevant")])
    assert [(d.source_start, d.source_end, d.reason) for d in compression.dropped] == [
        (0, 4, "irrelevant"),
        (10, 16, "irrelevant"),
    ]


def test_assemble_keeps_sources_apart():
    hits = as_hits(["One. Two. Three.", "Four.\nFive."])
    text, segments = assemble(hits, [Part(0, 0, 4), Part(0, 10, 16, 0.5, "protected"), Part(1, 6, 11)])
    assert text == "One. Three.\n\nFive."
    assert segments == (
        Segment(0, 4, 0, 0, 4, None, "relevant"),
        Segment(5, 11, 0, 10, 16, 0.5, "protected"),
        Segment(13, 18, 1, 6, 11, None, "relevant"),
    )


def test_many_parts_of_many_sources_take_linear_time():
    """Three times ten thousand parts: comparing all with all would be hundreds of millions of steps."""
    text = "ab " * 10_000
    parts = [Part(number, 3 * i, 3 * i + 1) for number in range(3) for i in range(10_000)]
    known = [Part(number, 3 * i + 1, 3 * i + 2, 0.5, "irrelevant") for number in range(3) for i in range(10_000)]
    compression = Task.of([text] * 3, count_tokens=len, budget=10**6, rate=None, question="", keep=()).finish(
        parts, "test", known
    )
    assert len(compression.segments) == len(compression.dropped) == 30_000
    assert {span.score for span in compression.dropped} == {0.5}


def test_more_than_the_budget_is_refused():
    task = task_of("one two three four", budget=2)
    assert not task.fits
    assert task.finish([Part(0, 0, 7)], "test").tokens_after == 2
    with pytest.raises(BudgetError) as caught:
        task.finish([Part(0, 0, 13)], "test")
    assert (caught.value.needed, caught.value.available) == (3, 2)
    with pytest.raises(BudgetError, match="takes 4 tokens, and the budget is 2"):
        task.whole("test")


@pytest.mark.parametrize("sources", ["", [], ["", ""]])
def test_nothing_fits_any_budget(sources):
    task = task_of(sources, budget=0)
    assert task.fits
    assert task.whole("test").tokens_after == task.tokens_before == 0


@given(st.integers(1, 200), st.floats(0, 1, exclude_min=True))
def test_rate_is_a_share_of_the_tokens(n, rate):
    task = task_of("word " * n, rate=rate)
    assert task.budget <= n * rate < task.budget + 1
    assert task_of("word " * n, rate=1).budget == n


def test_sources_are_numbered_and_keep_what_is_known_of_them():
    chunk = Chunk("c", 3, 6, "two", "Title")
    hits = as_hits(["one", Document("three", id="d", title="T"), chunk, Hit(chunk, 7.5)])
    assert [hit.chunk.text for hit in hits] == ["one", "three", "two", "two"]
    assert [hit.score for hit in hits] == [1.0, 1 / 2, 1 / 3, 7.5]
    assert [(hit.chunk.document_id, hit.chunk.title) for hit in hits[1:]] == [
        ("d", "T"),
        ("c", "Title"),
        ("c", "Title"),
    ]
    assert (hits[1].chunk.start, hits[1].chunk.end, hits[2].chunk.start) == (0, 5, 3)


def test_one_source_and_a_list_of_one_are_the_same():
    one, several = task_of("a b c", keep=[(2, 3), (0, 1), (0, 3)]), task_of(["a b c"], keep=[[(2, 3), (0, 1), (0, 3)]])
    assert one.hits == several.hits
    assert one.keep == several.keep == ([(0, 3)],)
    assert task_of(["a", "b"]).keep == ([], [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": None, "rate": None}, "exactly one of `budget` and `rate`, got None and None"),
        ({"budget": 5, "rate": 0.5}, "exactly one of `budget` and `rate`, got 5 and 0.5"),
        ({"budget": -1}, "at least 0, got -1"),
        ({"budget": math.nan}, "whole number of tokens, at least 0, got nan"),
        ({"budget": 2.5}, "got 2.5"),
        ({"budget": None, "rate": 0}, r"in \(0, 1\], got 0"),
        ({"budget": None, "rate": 1.1}, r"in \(0, 1\], got 1.1"),
        ({"budget": None, "rate": math.nan}, r"in \(0, 1\], got nan"),
        ({"sources": 5}, "got 5"),
        ({"sources": ["a", 5]}, "a source must be a string, Document, Chunk or Hit, got 5"),
        ({"keep": [(2, 9)]}, r"5 characters, got \(2, 9\)"),
        ({"keep": [(2, 2)]}, r"got \(2, 2\)"),
        ({"keep": [3]}, "got 3"),
        ({"sources": ["abcde", "f"], "keep": [[(0, 1)]]}, "each of the 2 sources, got 1"),
        ({"sources": ["abcde"], "keep": [(0, 1)]}, "got 0"),
        ({"sources": ["abcde"], "keep": [3]}, "for each source, got 3"),
    ],
)
def test_what_cannot_work_is_refused(arguments, message):
    call = {"sources": "abcde", "budget": 5, "rate": None, "keep": ()} | arguments
    sources = call.pop("sources")
    with pytest.raises(ConfigurationError, match=message):
        Task.of(sources, count_tokens=count_words, question="", **call)
