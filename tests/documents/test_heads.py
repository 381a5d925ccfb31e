"""Which lines stand over others, and what chunkers make of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.documents.chunking import DocumentChunker
from leanrag.documents.embedding_text import compose, embedding_text
from leanrag.documents.heads import find_heads, heads_over
from leanrag.types import Document


def count_pieces(text):
    """Words and marks, and two special tokens."""
    return len(re.findall(r"\w+|[^\w\s]", text)) + 2


def scopes(text):
    return [
        (text[head.start : head.end], text[head.end : head.stop].strip()) for head in find_heads(text, [(0, len(text))])
    ]


def chunk(text, kind="text", max_tokens=60):
    return DocumentChunker(count_pieces, max_tokens=max_tokens).chunk(Document(text, kind=kind))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Q: Is it on?\nA: Yes.\n\nQ: Is it red?\nA: No.\n",
            [("Q: Is it on?", "A: Yes."), ("Q: Is it red?", "A: No.")],
        ),
        ("**Care**\nWash it.\n\n**Use**\nTurn it.\n", [("**Care**", "Wash it."), ("**Use**", "Turn it.")]),
        (
            "Where is it?\n\nIn Rome.\n\nWho has it?\n\nAnn has.",
            [("Where is it?", "In Rome."), ("Who has it?", "Ann has.")],
        ),
        (
            "Some words.\n\nYou need:\n\n- salt\n- oil\n\nMore words here.\n",
            [("You need:", "- salt\n- oil"), ("- salt", ""), ("- oil", "")],
        ),
        (
            "No: 1\nWho: Ann\nWhat: tea\n\nNo: 2\nWho: Bob\nWhat: jam\n",
            [("No: 1", "Who: Ann\nWhat: tea"), ("No: 2", "Who: Bob\nWhat: jam")],
        ),
        (
            "AB-17: no tea\nWho: Ann\nWhat: cup\n\nAB-18: no jam\nWho: Bob\nWhat: jar\n",
            [("AB-17: no tea", "Who: Ann\nWhat: cup"), ("AB-18: no jam", "Who: Bob\nWhat: jar")],
        ),
        (
            "Members of the guild:\n\nName    Town\nAnn     Oslo\nBo      Rome\n\n- salt\n",
            [
                ("Members of the guild:", "Name    Town\nAnn     Oslo\nBo      Rome"),
                ("Name    Town", "Ann     Oslo\nBo      Rome"),
                ("- salt", ""),
            ],
        ),
        ("Some words.\n\nAnn\t7\tOslo\nBo\t8\tRome\nCy\t9\tBonn\n", []),
        (
            "Ann: where is it?\nBob: anybody?\nCem: in Rome\nAnn: who has it?\nBob: I do\n",
            [
                ("Ann: where is it?", "Bob: anybody?\nCem: in Rome"),
                ("Bob: anybody?", "Cem: in Rome"),
                ("Ann: who has it?", "Bob: I do"),
            ],
        ),
    ],
)
def test_heads_and_their_scopes(text, expected):
    assert scopes(text) == expected


def test_a_turn_answers_the_question_only_if_few_turns_are_between():
    text = "Ann: where is it?\n" + "".join(f"Bob: word {i}\n" for i in range(6))
    assert scopes(text)[0] == ("Ann: where is it?", "Bob: word 0\nBob: word 1\nBob: word 2")


@given(
    st.lists(
        st.sampled_from(["# A", "## B", "Q: c?", "A: d.", "- e:", "  - f", "Words go on.", "k: v", "**G**", ""]),
        max_size=30,
    )
)
def test_scopes_lie_inside_each_other_or_apart(lines):
    text = "\n".join(lines)
    heads = find_heads(text, [(0, len(text))])
    assert [head.start for head in heads] == sorted(head.start for head in heads)
    for i, head in enumerate(heads):
        assert head.start < head.end <= head.stop <= len(text)
        for other in heads[i + 1 :]:
            assert other.start >= head.stop or other.stop <= head.stop
    positions = range(len(text))
    for position, above in zip(positions, heads_over(heads, positions), strict=True):
        assert above == [head for head in heads if head.start < position < head.stop]


# -------------------------------------------------------------------------------------------------------------- chunks

FILLER = "Some more words stand here to fill up the text. "
RECORDS = {
    "questions": ("Where do I find part {i}?\n\nLook on shelf {i}. " + FILLER + "\n\n", "?"),
    "markdown": ("### Part {i}\n\nLook on shelf {i}. " + FILLER + "\n\n", "Part"),
    "bold": ("**Part {i}**\nLook on shelf {i}. " + FILLER + "\n\n", "**"),
    "tickets": ("Ticket: {i}\nSummary: part {i} is lost\nOwner: Ann\nState: open on shelf {i}\n\n", "Ticket"),
    "changelog": ("parts ({i}.0-1) unstable; urgency=medium\n\n  * Look on shelf {i}.\n  * " + FILLER + "\n\n -- \n\n", "parts"),
    "chat": ("[2024-05-13 08:0{j}] Ann: where is part {i}?\n[2024-05-13 08:0{j}] Bob: on shelf {i} I guess\n", "where"),
}  # fmt: skip


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("max_tokens", [48, 60, 75, 100])
def test_a_head_goes_with_what_follows(form, max_tokens):
    record, mark = RECORDS[form]
    text = "".join(record.format(i=i, j=i % 10) for i in range(40))
    kind = "markdown" if form in ("markdown", "bold") else "text"
    for each in chunk(text, kind, max_tokens):
        assert mark not in each.text.splitlines()[-1]
        for i in re.findall(r"[Pp]art (\d+)", each.text):
            assert f"shelf {i}" in each.text


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("title", ["", "Parts"])
def test_a_chunk_that_begins_inside_a_section_has_its_head_as_lead(form, title):
    record, mark = RECORDS[form]
    kind = "markdown" if form in ("markdown", "bold") else "text"
    long = "- And a list item that is rather long.\n" * 20 if form != "chat" else ""
    text = "".join(record.format(i=i, j=i).rstrip("\n- ") + "\n\n" * (form != "chat") + long + "\n" for i in range(6))
    document = Document(text, title=title, kind=kind)
    inside = 0
    for each in DocumentChunker(count_pieces, max_tokens=60).chunk(document):
        assert each.lead == text[each.lead_start : each.lead_start + len(each.lead)]
        assert len(each.lead) <= 160
        if mark in each.text.splitlines()[0]:
            assert not each.lead
        elif each.lead:
            inside += 1
            head = text.rfind(each.lead, 0, each.start)
            assert head == each.lead_start
            assert mark in each.lead
        embedded = embedding_text(each, count_pieces, 60)
        assert count_pieces(embedded) <= 60
        if each.lead:
            assert embedded.count(each.lead.strip("#*- ")) == 1
    assert inside or not long


def test_the_title_of_a_document_is_no_lead():
    assert not any(each.lead for each in chunk("# Parts\n\n" + FILLER * 40, "markdown"))


def test_a_lead_that_repeats_the_headings_is_not_embedded_again():
    assert compose("Guide > Set up", "## Set up", "Run it.") == "Guide > Set up\nRun it."
    assert compose("Guide > Set up", "Run", "Run it.") == "Guide > Set up\nRun\nRun it."
    assert compose("Guide > Reset", "set", "Run it.") == "Guide > Reset\nset\nRun it."


def test_each_chunk_of_an_aligned_table_has_the_names_of_its_columns():
    names = "Name          Trade         Town"
    rows = [
        f"{name:<14}{trade:<14}{town}"
        for name in ("Ann", "Bo", "Cy", "Dee")
        for trade in ("baker", "pilot", "nurse")
        for town in ("Oslo", "Rome", "Bonn")
    ]
    text = "Members of the guild\n\n" + "\n".join([names, *rows]) + "\n\nThe list is kept by the secretary."
    chunks = chunk(text, max_tokens=40)
    inside = [part for part in chunks if part.text.startswith(tuple(rows))]
    assert len(inside) > 2
    assert {part.lead for part in inside} == {names}
    assert chunks[-1].lead == "" or chunks[-1] in inside
