import itertools
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.text import (
    content_words,
    estimate_tokens,
    fence_code,
    fenced_blocks,
    find_page_end,
    split_sentences,
    split_thoughts,
    stem,
    without_marks,
    words,
)

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


RECORDS = {
    "log": [f"2024-05-01T10:{i:02d}:00Z INFO svc[{i}]: the fan has stopped. It will not start again" for i in range(9)],
    "syslog": [f"May  {i} 10:00:01 host sshd[{i}]: accepted the key of the user who came from {i}" for i in range(1, 9)],
    "access": [f'10.0.0.{i} - - [01/May/2024:10:00:00 +0000] "GET /a HTTP/1.1" 200 {i}' for i in range(9)],
    "level": [f"ERROR the disk {i} of the cluster is full and nothing was written to it" for i in range(9)],
    "csv": [f"part-{i},the shelf at the end of the hall,{i}.50,Oslo" for i in range(9)],
    "semicolons": [f"Teil {i};das Regal am Ende der langen Halle;{i},50;Oslo" for i in range(9)],
    "tabs": [f"part {i}\tthe shelf at the end of the long hall\t{i}" for i in range(9)],
    "keys": [f"setting_{i}: a value that is longer than forty characters {i}" for i in range(9)],
    "environment": [f"SETTING_{i}=a value that is longer than forty characters {i}" for i in range(9)],
    "json": [f'{{"id": {i}, "text": "the fan has stopped and will not start again"}}' for i in range(9)],
    "chat": [f"[10:{i:02d}] Ann: I think that we should meet at number {i} for lunch" for i in range(9)],
    "messages": [f"12/05/2024, 10:{i:02d} - Ann: I think that we should meet at number {i}" for i in range(9)],
    "speakers": [f"{name}: I think that we should meet for lunch at the corner" for name in ("Ann", "Bob", "Dr. Mo")],
    "columns": ["Fare          Days     Hours of the day", "12.50 EUR     Monday   10 to 12", "9.00 EUR      Sunday   8 to 22"],
    "dots": [f"Soup of the day number {i} with bread and butter ....... {i}.50 EUR" for i in range(9)],
    "statement": ["create table boat (", "number integer not null primary key,", "name text not null default 'unnamed',",
                  "length numeric check (length > 0),", "harbour text references harbour (name) on delete cascade"],
    "verse with commas": ["we rowed beyond the yellow buoy,", "the wind came up, the light went down;",
                          "my father sang for fear or joy,", "and nobody could hear the town."],
    "verse": ["The falcon climbs above the frozen river mouth", "And nobody below can tell",
              "Where the wide circle of its hunting ends", "Or what it saw before it fell from all that height"],
}  # fmt: skip


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("kind", RECORDS)
def test_lines_that_are_records_are_sentences(kind, newline):
    lines = RECORDS[kind]
    text = newline.join(lines)
    assert [text[start:end] for start, end in split_sentences(text)] == lines


PROSE = (
    "the harbour of the old town was opened in 1887 by King Oscar. Ships from Bergen came twice a week, and on"
    " Sundays the Governor himself waited at the pier. Nobody knows why he did so: the letters that he wrote were"
    " burnt in March 1902 (see the report of Dr. Olsen), together with the house on Castle Street. Only the fence is left."
)


@given(width=st.integers(28, 110), start=st.integers(0, 60), newline=st.sampled_from(["\n", "\r\n", "\n   "]))
def test_prose_that_was_wrapped_by_hand_is_joined(width, start, newline):
    prose = PROSE[PROSE.index(" ", start) + 1 :]
    lines = textwrap.wrap(prose, width, break_long_words=False, break_on_hyphens=False)
    text = newline.join(lines)
    found = [" ".join(text[a:b].split()) for a, b in split_sentences(text)]
    assert found == [prose[a:b] for a, b in split_sentences(prose)]


def test_wrapped_prose_with_sloppy_ends_is_joined():
    text = "The committee that met on the second floor of the house of\nParliament has agreed to pay for the repair of the\nbridge."
    assert split_sentences(text) == [(0, len(text))]


@pytest.mark.slow
def test_lines_are_read_in_linear_time():
    for line in ("a: b\n", "x,y\n", "[" * 50 + "\n", "word " * 30 + "\n", "1:2:3:4 \n", "[1 \n"):
        split_sentences(line * 20_000)
        split_sentences(line.strip() * 20_000)


def test_a_space_ends_thai_sentences_but_not_names_and_numbers():
    sentences = [
        "พิพิธภัณฑ์ภูเก็ตก่อตั้งขึ้นในปี 1860 โดยอรุณ รัตนกุล",
        "ค่าเข้าชมพิพิธภัณฑ์พะเยาคือ 60 บาท",
        "สวนของที่นี่ร่มรื่นและมีผู้คนมาเยี่ยมชมมากในวันหยุด",
    ]
    text = " ".join(sentences)
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
        '"abc"[1] is b.',
        "See RFC [2119] for it.",
        "See RFC [793].",
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
        ("「北京」[1]。", "「北京」。"),
        ('Ada said "I sign."[1] Bo said "no" [2].', 'Ada said "I sign." Bo said "no".'),
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
    ("Use the <think> tag to mark thoughts.", "", "Use the <think> tag to mark thoughts."),
    ("Write <think> and </think> around them.", "", "Write <think> and </think> around them."),
    ("First.\n<think>Bo?</think>", "", "First.\n<think>Bo?</think>"),
    ("\n <think>Bo?</think> Write [THINK] first.", "Bo?", "Write [THINK] first."),
    ("<think>Bo?</think><think>Cy?</think>Ada", "Bo?\nCy?", "Ada"),
    ("2 < 3 and <b>bold</b>", "", "2 < 3 and <b>bold</b>"),
]


@pytest.mark.parametrize(("text", "thoughts", "answer"), [*THOUGHTS, ("Bo?</think>Ada", "Bo?", "Ada")])
def test_thoughts_are_parted_from_the_answer(text, thoughts, answer):
    assert split_thoughts(text) == (thoughts, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vive en la Avda. Sol núm. 3. Es alto.", ["Vive en la Avda. Sol núm. 3.", "Es alto."]),
        ("He moved to Ft. Knox. It is 5 ft. The end.", ["He moved to Ft. Knox.", "It is 5 ft.", "The end."]),
        ("Die Prüfung ist am 1. 2. 2024 um neun. Ende.", ["Die Prüfung ist am 1. 2. 2024 um neun.", "Ende."]),
        ("Он живёт на ул. Ленина д. 5. Она тоже.", ["Он живёт на ул. Ленина д. 5.", "Она тоже."]),
        ("В 2020 г. Он уехал в г. Тверь.", ["В 2020 г.", "Он уехал в г. Тверь."]),
        ("Abre el 5 ene. 2024. Fin.", ["Abre el 5 ene. 2024.", "Fin."]),
    ],
)
def test_abbreviations_of_places_and_months_end_no_sentence(text, expected):
    assert [text[start:end] for start, end in split_sentences(text)] == expected


@given(st.text(alphabet="ab 1.\n字", max_size=200), st.integers(1, 20))
def test_pages_follow_each_other_without_a_gap(text, max_tokens):
    starts = [0]
    while starts[-1] < len(text):
        end = find_page_end(text, starts[-1], max_tokens)
        assert end > starts[-1]
        assert estimate_tokens(text[starts[-1] : end]) <= max_tokens
        assert end - starts[-1] <= 8 * max_tokens
        starts.append(end)
    assert "".join(text[start:end] for start, end in itertools.pairwise(starts)) == text
    assert find_page_end(text, len(text), max_tokens) == len(text)


def test_a_page_ends_at_a_paragraph_a_line_or_a_word():
    assert find_page_end("one two\n\nsix ten", 0, 2) == 9
    assert find_page_end("one two six\nten one", 0, 3) == 12
    assert find_page_end("one two six ten", 0, 3) == 12
    assert find_page_end("x" * 100, 0, 10) == 40


@given(st.text(alphabet="`a\n", max_size=40), st.sampled_from(["", "python"]))
def test_fenced_code_is_one_block_whatever_is_in_it(code, language):
    block = fence_code(code, language)
    assert list(fenced_blocks(block)) == [(0, len(block))]
    assert block.split("\n", 1)[1].rsplit("\n", 1)[0] == code


def test_blocks_between_fences():
    text = "a\n```py\nx\n```  \nb\n~~~\n```\n~~~~\nc\n````\nopen"
    assert [text[start:end] for start, end in fenced_blocks(text)] == ["```py\nx\n```", "~~~\n```\n~~~~", "````\nopen"]
