"""Spans keep what they cover, whatever is done with them."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from leanrag.spans import join_spans, merge_neighbours, merge_spans, trim_span

SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda ends: (min(ends), max(ends))), max_size=8)
TEXTS = st.text(alphabet="ab \n\t", max_size=30)


def covered(spans):
    return {i for start, end in spans for i in range(start, end)}


def test_spans_that_touch_are_joined_only_if_that_is_asked_for():
    spans = [(4, 6), (0, 2), (2, 3), (5, 9), (3, 3)]
    assert merge_spans(spans) == [(0, 3), (4, 9)]
    assert merge_spans(spans, joins_touching=False) == [(0, 2), (2, 3), (4, 9)]


@given(SPANS, st.booleans())
def test_merged_spans_cover_the_same_characters_once(spans, joins_touching):
    merged = merge_spans(spans, joins_touching=joins_touching)
    assert covered(merged) == covered(spans)
    assert sum(end - start for start, end in merged) == len(covered(spans))
    assert merged == sorted(merged)
    if joins_touching:
        assert all(last < start for (_, last), (start, _) in itertools.pairwise(merged))


@given(TEXTS, SPANS)
def test_neighbours_are_merged_over_white_space_alone(text, spans):
    spans = [span for span in merge_spans(spans) if span[1] <= len(text)]
    merged = merge_neighbours(text, spans)
    added = covered(merged) - covered(spans)
    assert covered(spans) <= covered(merged)
    assert all(text[i].isspace() for i in added)
    assert all(text[last:start].strip() for (_, last), (start, _) in itertools.pairwise(merged))


@given(TEXTS, SPANS)
def test_joined_spans_stand_where_their_offsets_say(text, spans):
    spans = [span for span in merge_spans(spans) if span[1] <= len(text)]
    joined, starts = join_spans(text, spans)
    pieces = [joined[at : at + end - start] for at, (start, end) in zip(starts, spans, strict=True)]
    assert pieces == [text[start:end] for start, end in spans]


def test_a_span_without_the_white_space_around_it():
    assert trim_span("  ab \n", 1, 6) == (2, 4)
    assert trim_span("  ab \n", 4, 6) is None
