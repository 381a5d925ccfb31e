"""How values are shown, whatever the documents and the model wrote."""

import doctest
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag.display
from leanrag import AddReport, DocumentError
from leanrag.display import hits_to_text, printable, table_to_text, to_html, to_json, to_text
from leanrag.types import Failure
from tests.stories import NILE, PARK, QUESTION, WRONG, open_rag

UNSAFE = "\x00\x07\x08\x0b\x0c\r\x1b\x7f\x80\x9b\x9f\u061c\u200e\u200f\u202a\u202e\u2066\u2069"


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text(PARK, id="park", title="Hand<b>book")
        rag.add_text(NILE, id="nile", title="Rivers")
        yield rag


def test_the_examples_in_the_docs_run():
    assert doctest.testmod(leanrag.display).failed == 0


# Text


@given(st.text(st.sampled_from(UNSAFE + "ab \n\t")))
def test_nothing_that_a_terminal_obeys_is_left(text):
    shown = printable(text)
    assert not set(shown) & set(UNSAFE)
    assert re.sub(r"\\(x[0-9a-f]{2}|u[0-9a-f]{4}|r)", "", shown) == re.sub(f"[{re.escape(UNSAFE)}]", "", text)


@given(st.text(st.characters(exclude_categories=["Cc", "Cf", "Cs"])))
def test_other_text_stays_as_it_is(text):
    assert printable(text) == text


def test_an_answer_has_its_quotes_and_its_receipt(rag):
    answer = rag.ask(QUESTION)
    first, empty, quote, source, _, receipt = to_text(answer).split("\n")
    assert (first, empty) == (answer.text, "")
    assert quote == f'[{answer.citations[0].number}] "Releases are signed off by Ada Park."'
    assert source == "    Hand<b>book [0:36]"
    assert receipt.startswith(f"fake: {answer.usage.prompt_tokens} + {answer.usage.completion_tokens} tokens, ")
    assert f"confidence {answer.confidence:.2f}" in receipt


@pytest.mark.parametrize("value", [AddReport(added=("a",)), AddReport(skipped=("b\x1b.bin",))])
def test_print_shows_a_report(value):
    assert str(value) == to_text(value) != repr(value)


def test_an_explanation_shows_the_sources_and_the_prompt(rag):
    text = to_text(rag.explain(QUESTION))
    assert str(rag.explain(QUESTION)) == text
    assert text.startswith("model   fake, window ")
    assert "[1] kept" in text
    assert PARK in text


def test_hits_are_numbered(rag):
    lines = hits_to_text(rag.search(QUESTION, 1)).split("\n")
    assert lines[0].startswith("1. Hand<b>book [0:72]  ")
    assert lines[1] == "   " + PARK
    assert hits_to_text([]) == "nothing was found"


def test_a_report_says_what_was_done():
    report = AddReport(added=("a", "b"), failed=(Failure("c", DocumentError("c is empty")),), chunks=3, seconds=0.25)
    assert to_text(report) == "2 added, 1 failed; 3 chunks in 0.2 s\nfailed: c is empty"
    assert to_text(AddReport()) == "nothing to do; 0 chunks in 0.0 s"
    skipped = AddReport(skipped=tuple(f"docs/{letter}.gz" for letter in "abcdefg"))
    assert to_text(skipped).splitlines() == [
        "7 skipped; 0 chunks in 0.0 s",
        "skipped, because they are empty or no reader can read them: a.gz, b.gz, c.gz, d.gz and 3 more",
    ]
    assert to_text(AddReport(skipped=("a.bin",))).endswith("read them: a.bin")


def test_a_table_has_columns():
    assert table_to_text([("A", "B", "C"), ("long", "1", "x")]) == "A     B  C\nlong  1  x"


# HTML


def test_notebooks_show_an_answer(rag):
    answer = rag.ask(QUESTION)
    shown = answer._repr_html_()
    assert shown == to_html(answer)
    assert "<q>Releases are signed off by Ada Park.</q>" in shown
    assert "Hand&lt;b&gt;book [0:36]" in shown
    assert "<b>" not in shown


@pytest.mark.parametrize(
    "reply", ["<script>alert(1)</script>", WRONG + " <img src=x onerror=alert(1)>", "a\u202eb\x1b[2J"]
)
def test_what_a_model_writes_is_never_markup(tmp_path, reply):
    with open_rag(tmp_path, reply) as rag:
        rag.add_text(PARK + " <i>")
        answer, explanation = rag.ask(QUESTION), rag.explain(QUESTION)
    for shown in (answer._repr_html_(), explanation._repr_html_()):
        assert set(re.findall(r"</?(\w+)", shown)) <= {"p", "ol", "li", "q", "br", "small", "pre"}
        assert not set(shown) & set(UNSAFE)


def test_notebooks_show_a_report():
    report = AddReport(added=("a",), failed=(Failure("c", DocumentError("<c> is empty")),))
    assert report._repr_html_() == (
        "<p>1 added, 1 failed; 0 chunks in 0.0 s</p><p>failed:</p><ul><li>&lt;c&gt; is empty</li></ul>"
    )


# JSON


def test_json_holds_the_whole_value(rag):
    answer = rag.ask(QUESTION)
    fields = json.loads(to_json(answer))
    assert (fields["text"], fields["usage"]["prompt_tokens"]) == (answer.text, answer.usage.prompt_tokens)
    assert fields["citations"][0]["quote"] == answer.citations[0].quote
    assert to_json({"text": "é\u202e"}).isascii()
