"""Units cover a text exactly once, whatever it is; clauses cover their sentence and cut nothing that is protected."""

import base64
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from leanrag.evidence import units
from leanrag.evidence.protection import Protection
from leanrag.evidence.units import Unit, split_clauses, split_units
from tests.examples import max_examples

many = max_examples(200)

PIECES = st.sampled_from(
    [
        "The tower, which is old,", "was built in 1889.", "It is tall; very tall (330 m) - and heavy.", "\n", "\n\n", "\r\n",
        "\r", " ", "\t", "\u2028", "\u3000", "# Heading", "- item", "1. item", "| a | b |", "|---|---|", "| 1 | 2 |", "---",
        "```", "```py", "~~~", "````", "`x, y`", '"one, two, three"', "“quoted; text”", "May 5, 2021", "(555) 123-4567",
        "C:\\Program Files (x86)\\a.txt", "東京は日本の首都である。", "برج إيفل، في باريس؛ طويل.", "😀😃", "👩‍👩‍👧",
        "aGVsbG8=" * 100, "\ud800", "e\u0301", "\u200b", "x" * 700, "if(a){b();}" * 80,
    ]
)  # fmt: skip
texts = st.lists(PIECES | st.text(max_size=8), max_size=14).map(lambda pieces: "".join(pieces)) | st.lists(
    PIECES, max_size=14
).map(" ".join)


def kinds_of(text):
    return [(unit.kind, text[unit.start : unit.end]) for unit in split_units(text)]


def covers(text, spans):
    """Whether disjoint, trimmed, non-empty spans in order leave out nothing but white space."""
    at = 0
    for start, end in spans:
        if not at <= start < end <= len(text) or text[at:start].strip() or text[start:end] != text[start:end].strip():
            return False
        at = end
    return not text[at:].strip()


@many
@given(texts)
@example("```\n\n")
@example("\n~~~")
@example(" \r\n ```\r\nx\r\n```\r\ny")
def test_units_hold_every_character_once(text):
    found = split_units(text)
    assert covers(text, [(unit.start, unit.end) for unit in found])
    assert all(unit.end - unit.start <= 600 for unit in found)
    for place, unit in enumerate(found):
        if unit.needs is not None:
            assert unit.needs < place


@many
@given(texts)
def test_clauses_hold_every_character_of_their_sentence_once(text):
    for unit in split_units(text):
        spans = split_clauses(text, unit)
        assert (spans[0][0], spans[-1][1]) == (unit.start, unit.end)
        assert covers(text[unit.start : unit.end], [(start - unit.start, end - unit.start) for start, end in spans])
        if unit.kind not in ("sentence", "item"):
            assert len(spans) == 1
        if len(spans) > 1:
            assert all(len(text[start:end].split()) >= 6 for start, end in spans)


@many
@given(
    st.lists(
        st.sampled_from(
            [
                *"a, b; c) (d e: - – 5 11 ` `` \" ' “ ” ‘ ’ „ « » ‹ › 「 」 [ ] May June 2021 $ No. +1 (555) 123-4567".split(" "),
                "\\", "C:\\a", "(x86)\\b", "of", "\n", "\n---", "two", "12th", "pm", "5:30", "the", "old", "town", "hall",
            ]
        ),
        min_size=14,
        max_size=50,
    ),
    st.sampled_from([" ", " ", ""]),
)  # fmt: skip
@pytest.mark.slow
def test_clauses_cut_nothing_that_is_protected(words, joint):
    text = joint.join(words)
    of_text = Protection().spans(text)
    for unit in split_units(text):
        of_sentence = [(unit.start + a, unit.start + b) for a, b in Protection().spans(text[unit.start : unit.end])]
        ends = [end for _, end in split_clauses(text, unit)[:-1]]
        for start, end in [*of_text, *of_sentence]:
            assert not any(start < cut < end for cut in ends), text[start:end]


def clauses(text):
    (unit,) = split_units(text)
    return [text[start:end] for start, end in split_clauses(text, unit)]


@pytest.mark.parametrize(
    "text",
    [
        'He called the whole thing once more "a policy, and I say this with care, of extending one\'s own power" to them all.',
        "The old treaty of the two countries was signed May 5, 2021 in the very old town hall of Geneva.",
        "You will then find all of it under C:\\Program Files (x86)\\Some Tool\\a.txt once the tool was run by you.",
        "Call the `one two three four five six, seven eight nine ten eleven` function of this module before lunch.",
        "The number of their office in the old town is +1 (555) 123-4567 and nobody there picks up before nine.",
    ],
)
def test_what_is_protected_is_in_one_clause(text):
    without = re.sub(r"[\"`+\\]|, 2021", "", text)
    assert len(clauses(text)) == 1
    assert len(clauses(without)) > 1 or "2021" in text


def test_a_quotation_over_two_sentences_is_in_one_clause_of_each():
    text = 'They said "we came here for it. We saw it all by ourselves, and we were not at all impressed" and then they left.'
    _, second = split_units(text)
    assert split_clauses(text, second) == [(second.start, second.end)]
    assert len(split_clauses(text.replace('"', ""), Unit(second.start - 1, second.end - 2, "sentence"))) == 2


def test_clauses_end_at_pauses_and_are_no_shorter_than_six_words():
    assert clauses(
        "The tower, which stands by the river in Paris, was built by a company of engineers - the very best of all of them "
        "(or so they said of themselves) and was painted red, in 1889."
    ) == [
        "The tower, which stands by the river in Paris,",
        "was built by a company of engineers -",
        "the very best of all of them",
        "(or so they said of themselves)",
        "and was painted red, in 1889.",
    ]
    assert clauses("Short, very short; all of it, yes.") == ["Short, very short; all of it, yes."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two!\nThree", [("sentence", "One."), ("sentence", "Two!"), ("sentence", "Three")]),
        ("# Head\nText here.", [("heading", "# Head"), ("sentence", "Text here.")]),
        ("- one\n- two\n1. three", [("item", "- one"), ("item", "- two"), ("item", "1. three")]),
        ("A.\n```py\na = 1\n\nb = 2\n```\nB.", [("sentence", "A."), ("code", "```py\na = 1\n\nb = 2\n```"), ("sentence", "B.")]),
        ("```\r\nx\r\n```\r\nAfter it.", [("code", "```\r\nx\r\n```"), ("sentence", "After it.")]),
        ("~~~\nx\n```\ny\n~~~~\nz", [("code", "~~~\nx\n```\ny\n~~~~"), ("sentence", "z")]),
        ("````\n```\nx\n```\n````\ny", [("code", "````\n```\nx\n```\n````"), ("sentence", "y")]),
        ("```never closed\nx", [("code", "```never closed\nx")]),
        ("```inline``` code.", [("sentence", "```inline``` code.")]),
        ("```\n```", [("code", "```\n```")]),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", [("row", "| a | b |"), ("mark", "|---|:-:|"), ("row", "| 1 | 2 |")]),
        ("| a |\n|-|\n| - |\n| - |", [("row", "| a |"), ("mark", "|-|"), ("row", "| - |"), ("row", "| - |")]),
        ("東京は首都。大阪は町。", [("sentence", "東京は首都。"), ("sentence", "大阪は町。")]),
        ("هل هو طويل؟ نعم هو طويل.", [("sentence", "هل هو طويل؟"), ("sentence", "نعم هو طويل.")]),
        ("One.\r\rTwo.\r\n\r\nThree.", [("sentence", "One."), ("sentence", "Two."), ("sentence", "Three.")]),
        ("Text.\n\n---\n\n| a |", [("sentence", "Text."), ("mark", "---"), ("row", "| a |")]),
        ("*/\nText.\n***", [("mark", "*/"), ("sentence", "Text."), ("mark", "***")]),
        ("", []),
        (" \n\t\u3000", []),
    ],
)  # fmt: skip
def test_kinds(text, expected):
    assert kinds_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("## A\n\nText.\n\n## B\n\nMore.", [None, 0, None, 2]),
        ("# A\n\n## B\n\nText.\n\n## C\n\nMore.", [None, 0, 1, 0, 3]),
        ("Q: One?\nA: Yes.\n\nQ: Two?\nA: No.", [None, 0, None, 2]),
        ("Do this:\n\n1. Open.\n2. Close.\n\nThen go.", [None, 0, 0, None]),
        ("It is:\n\n```\nx\n```\n\nMore.", [None, 0, None]),
        ("a:\n  b: 1\n  c:\n    d: 2\ne: 3", [None, 0, 0, 2, None]),
        ("[a]\nx = 1\n\n[b]\ny = 2", [None, 0, None, 2]),
        ("Ana: What is it?\nBo: A lamp.\nAna: Where is it?\nBo: There.", [None, 0, None, 2]),
        ("open(path)\n    Return a file.\n\nclose()\n    Close it.", [None, 0, None, 2]),
        ("part,shelf,price\nP-1,3,5\nP-2,4,6", [None, 0, 0]),
        ("1.2.0 (2024-01-02)\n\n- Added a.\n\n1.1.0 (2023-01-02)\n\n- Added b.", [None, 0, None, 2]),
        ("- one\n  - two\n- three", [None, 0, None]),
    ],
)
def test_what_stands_under_a_head_needs_it(text, expected):
    assert [unit.needs for unit in split_units(text)] == expected


def test_what_is_read_together_is_a_group():
    text = "## A\n\n1. Open.\n2. Close.\n\n## B\n\nText is here. More is here."
    groups = [unit.group for unit in split_units(text)]
    assert groups[0] is groups[3] is None
    assert groups[1] == groups[2] is not None
    assert groups[4] == groups[5] is not None
    assert groups[1] != groups[4]
    long = split_units("## A\n\n" + "This is a sentence of it. " * 30)
    assert all(unit.group is None for unit in long)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("The tower is tall. It is old. Tickets are cheap.", [None, 0, None]),
        ("The tower is tall. It is old. It is red. Bo came. He left.", [None, 0, 0, None, 3]),
        ("It is old. It is red.", [None, 0]),
        ("The tower is tall.\n\nIt is old.", [None, None]),
        ("The tower is tall.\n \nIt is old.", [None, None]),
        ("The tower is tall.\r\rIt is old.", [None, None]),
        ("# It\nIt is old.", [None, 0]),
        ("It is old.", [None]),
        ("| a |\n|---|\n| 1 |\n| 2 |", [None, None, 0, 0]),
        ("| 1 |\n| 2 |\n| b |", [None, None, None]),
        ("a,b,c\n1,2,3\nd,e,f", [None, 0, 0]),
        ("1,2,3\na,b,c\nd,e,f", [None, None, None]),
        ("| a |\n| 1 |\n\n| b |\n| 2 |", [None, 0, None, 2]),
        ("| a |\n| 1 |\n \n| b |", [None, 0, None]),
        ("| a |\nText.\n| b |", [None, None, None]),
        ("- The tower\n- It is old", [None, None]),
    ],
)
def test_what_a_unit_needs(text, needs):
    assert [unit.needs for unit in split_units(text)] == needs


def test_a_long_sentence_is_cut_at_clauses_and_words():
    words = split_units("word " * 10_000)
    assert {text.strip() for text in ("word " * 10_000)[words[3].start : words[3].end].split(" ")} == {"word"}
    assert all(300 <= unit.end - unit.start <= 600 for unit in words[:-1])
    text = "one two three four, five six " * 100
    assert all(text[unit.start : unit.end].endswith((",", "six")) for unit in split_units(text))


def test_a_long_row_needs_its_head_in_all_its_parts():
    text = "| head |\n|---|\n| " + "word " * 300 + "|"
    assert [(unit.kind, unit.needs) for unit in split_units(text)] == [("row", None), ("mark", None), *[("row", 0)] * 3]


@pytest.mark.parametrize(
    "rows", ["| Ann | Oslo |\n| Bo | Rome |\n| Cy | Bonn |", "Ann,Oslo,Norse\nBo,Rome,Latin\nCy,Bonn,German"]
)
def test_the_first_row_of_a_chunk_inside_a_table_does_not_name_the_columns(rows):
    assert [unit.needs for unit in split_units(rows)] == [None, 0, 0]
    assert [unit.needs for unit in split_units(rows, begins_inside=True)] == [None, None, None]


def test_what_is_protected_is_in_one_part_of_a_long_sentence():
    for at in range(280, 620, 7):
        text = "x" * at + " see https://example.org/" + "a" * 60 + "?q=1,2 now " + "y" * 700
        for start, end in Protection(["url"]).spans(text):
            assert any(unit.start <= start and end <= unit.end for unit in split_units(text))


@pytest.mark.parametrize(
    "text",
    [
        base64.b64encode(bytes(range(256)) * 60).decode(), "if(a){b();}" * 1000, "😀" * 5000, "東京" * 5000, "a\u0301" * 5000,
        "{\"key\": [1, 2, 3]}, " * 500, "\ud800" * 2000, "\r\n".join(["a line of text"] * 500),
    ],
    ids=["base64", "minified", "emoji", "han", "combining", "json", "surrogates", "crlf"],
)  # fmt: skip
def test_hostile_texts_are_cut_into_parts(text):
    found = split_units(text)
    assert covers(text, [(unit.start, unit.end) for unit in found])
    assert len(found) >= len(text) / 600
    for unit in found:
        assert covers(
            text[unit.start : unit.end], [(a - unit.start, b - unit.start) for a, b in split_clauses(text, unit)]
        )


@pytest.mark.parametrize(
    "text",
    [
        "| a |\nx" + " " * 50_000 + "x", "| a |\n" + " " * 50_000 + "x", "-" * 50_000 + "x", "|" * 50_000 + "x",
        "word" + " " * 50_000 + "word", "word" + " -" * 25_000, "(" * 50_000, "```\n" * 12_000, "`" * 50_000,
        "\n".join("`" * n for n in range(3, 300)), "~~~ `\n" * 8000, "- " * 25_000, "#" * 50_000, "\n" * 50_000, "|\n" * 25_000,
        '"' * 50_000, "\\" * 50_000, "It. " * 12_000, "| a |\n" + "|---|\n" * 8000,
    ],
)  # fmt: skip
@pytest.mark.slow
def test_hostile_texts_are_done_with(text):
    """A text of 50,000 characters: where work grows with its square, this test does not end."""
    found = split_units(text)
    assert covers(text, [(unit.start, unit.end) for unit in found])
    for unit in found:
        split_clauses(text, unit)


def test_work_grows_with_the_text_and_not_with_its_square(monkeypatch):
    """Characters that the sentence splitter and the patterns of this module are given, for a text and for one ten times as long."""
    given_characters = []
    original = units.split_sentences
    monkeypatch.setattr(units, "split_sentences", lambda text: given_characters.append(len(text)) or original(text))
    paragraph = "Text of it, here.\n\n```py\nx = 1\n```\n\n| a |\n|---|\n| 1 |\n\nIt is so.\n\n"
    totals = []
    for n in (20, 200):
        given_characters.clear()
        split_units(paragraph * n)
        totals.append(sum(given_characters))
    assert totals[1] <= 10.5 * totals[0]


def test_sentences_of_scripts_without_full_stops_end_at_spaces():
    sentence = "พิพิธภัณฑ์แห่งนี้เปิดให้เข้าชมทุกวัน"
    text = f"{sentence}1 {sentence}2 {sentence}3"
    found = split_units(text)
    assert [text[unit.start : unit.end] for unit in found] == [f"{sentence}{i}" for i in (1, 2, 3)]
    assert len(split_units("คำสั้น คำสั้น คำสั้น")) == 1


@pytest.mark.parametrize("head", ["Ticket #{}", "INC{}", "Case {}", "Bug no. {}"])
def test_lines_of_a_ticket_belong_to_its_number(head):
    text = "\n\n---\n\n".join(
        f"{head.format(4700 + i)}\nStatus: closed\n\nDescription:\nThe {name} printer shows a red lamp.\n\n"
        f"Resolution:\nReplaced fuse {30 + i} on the board."
        for i, name in enumerate(["alpha", "beta"])
    )
    units = split_units(text)
    for i in range(2):
        (heading,) = (k for k, unit in enumerate(units) if text[unit.start : unit.end] == head.format(4700 + i))
        (lamp, fuse) = (
            k
            for k, unit in enumerate(units)
            if unit.kind == "sentence" and unit.group == units[heading + 1].group and text[unit.start] in "TR"
        )
        assert text[units[fuse].start : units[fuse].end] == f"Replaced fuse {30 + i} on the board."
        assert units[units[lamp].needs].needs == units[units[fuse].needs].needs == heading


def test_an_item_goes_on_below_a_blank_line():
    text = "1. I found a bug.\n\n    Send it to us.\n\n2. I want more.\n\n    Write it."
    units = split_units(text)
    assert [(text[unit.start : unit.end], unit.needs) for unit in units] == [
        ("1. I found a bug.", None),
        ("Send it to us.", 0),
        ("2. I want more.", None),
        ("Write it.", 2),
    ]
