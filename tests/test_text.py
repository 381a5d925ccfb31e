import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.text import content_words, split_sentences, stem, words

ANY_TEXT = st.text(max_size=200)


def test_words_keep_numbers_and_apostrophes_whole():
    assert words("Don't pay 3,000.50 to U.S. firms!") == ["don't", "pay", "3,000.50", "to", "u.s", "firms"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("walking", "walk"), ("walked", "walk"), ("walks", "walk"), ("3,000", "3000"), ("is", "is"), ("red", "red")],
)
def test_stems(word, expected):
    assert stem(word) == expected


def test_content_words_leave_out_what_says_nothing():
    assert content_words("What is the capital of France?") == ["capital", "franc"]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith paid $3.50.", "He left, e.g. by train, at 5 p.m. sharp."],
        ["The U.S. Army came.", "It stayed in the U.S.", "The end."],
        ["J. R. R. Tolkien wrote it.", "See Fig. 3, No. 5 and p. 7.", "Take vitamin C.", "It helps."],
        ['"What?" he said.', '"Go!"', "She went... and came.", "(It works.)", "Done [1]."],
        ["Version 1.2.3 is at https://a.b/c.html, in foo.py.", "Apple Inc. grew.", "So did ACME Corp.", "It is new."],
        ["これは文です。", "「本当？」", "はい！", "値は3.5です。"],
        ["हिन्दी वाक्य।", "दूसरा वाक्य।"],
        ["A line wrapped by hand goes on for quite a while, until\nit ends here.", "Then more."],
        ["See below.", "pip installs it."],
    ],
)
def test_sentences(sentences):
    text = " ".join(sentences)
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


@pytest.mark.parametrize(
    "sentences",
    [
        ["1. First item", "2. Second item", "- bullet", "* bullet"],
        ["# Heading", "Text under it.", "Name: Ann", "Age: 12"],
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_that_end_a_sentence(sentences, newline):
    text = newline.join(sentences)
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


def test_blank_lines_end_a_sentence():
    assert split_sentences("and so\n\nit goes\n") == [(0, 6), (8, 15)]
    assert split_sentences(" \n ") == []


@given(ANY_TEXT)
def test_sentences_cover_the_text(text):
    position = 0
    for start, end in split_sentences(text):
        assert position <= start < end
        assert text[start:end].strip() == text[start:end]
        assert not text[position:start].strip()
        position = end
    assert not text[position:].strip()
