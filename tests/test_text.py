import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.text import content_words, split_sentences, split_thoughts, stem, without_marks, words

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
        ["Die Prüfung ist am 3. Mai um 9 Uhr in Raum 12.", "Danach ist Pause."],
        ["Der Antrag gilt z. B. für Vereine und kostet ca. 12 Euro.", "Er gilt ab dem 1. Januar, d. h. sofort."],
        [
            "Siehe Nr. 5, Abs. 2 und Abb. 3.",
            "Der 2. Weltkrieg endete 1945.",
            "Es gab Birnen usw.",
            "Der Markt schloss.",
        ],
        ["Prenez p. ex. le train de 9 h.", "Mme. Blanc habite au no. 5, av. Foch."],
        ["Véase la pág. 3 y el núm. 5, p. ej. la tabla.", "La Sra. Ruiz firma."],
        ["The year was 1945.", "Berlin fell.", "He scored 3.", "May was next."],
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


@pytest.mark.parametrize(
    "text",
    [
        "Use items[0] for the first one. The cell is m[2][3].",
        "The list is [1, 2].",
        "sorted([2, 1]) returns [1, 2].",
        "[1, 2]",
        "x = [1]",
        "Write `a [1]` here.",
        "```\na [1]\n```",
        "See the [1](https://a.b) link.",
        "The range [0, 5] is closed.",
    ],
)
def test_brackets_that_are_no_marks_stay(text):
    assert without_marks(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Park [7]. Bo Lind [1, 2].", "Ada Park. Bo Lind."),
        ("Ada signs.[1] Bo pays. [2][3]", "Ada signs. Bo pays."),
        ("北京[1]。", "北京。"),
        ("Ada [1] signs it, Bo [2], and Cy [3]\n", "Ada signs it, Bo, and Cy\n"),
    ],
)
def test_marks_go_with_the_space_before_them(text, expected):
    assert without_marks(text) == expected


THOUGHTS = [
    ("<think>\nBo? No: Ada Park.\n</think>\n\nAda Park signs.", "Bo? No: Ada Park.", "Ada Park signs."),
    ("<THINKING>Bo?</THINKING>Ada", "Bo?", "Ada"),
    ("<think>Bo? And then", "Bo? And then", ""),
    (
        "<|channel|>analysis<|message|>Bo?<|end|><|start|>assistant<|channel|>final<|message|>Ada.<|return|>",
        "Bo?",
        "Ada.",
    ),
    ("<|channel|>analysis<|message|>Bo?<|end|><|start|>assistant<|", "Bo?", ""),
    ("[THINK]Bo?[/THINK]Ada", "Bo?", "Ada"),
    ("The `<think>` tag opens a thought.", "", "The `<think>` tag opens a thought."),
    ("2 < 3 and <b>bold</b>", "", "2 < 3 and <b>bold</b>"),
]


@pytest.mark.parametrize(("text", "thoughts", "answer"), [*THOUGHTS, ("Bo?</think>Ada", "Bo?", "Ada")])
def test_thoughts_are_parted_from_the_answer(text, thoughts, answer):
    assert split_thoughts(text) == (thoughts, answer)
