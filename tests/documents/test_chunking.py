from __future__ import annotations

import base64
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.documents import cutting
from leanrag.documents.chunking import (
    CodeChunker,
    DocumentChunker,
    MarkdownChunker,
    RecursiveChunker,
)
from leanrag.documents.embedding_text import compose, embedding_text
from leanrag.documents.noise import find_noise
from leanrag.errors import ConfigurationError
from leanrag.types import Chunk, Document
from tests.examples import max_examples


def count_words(text):
    return len(text.split())


def count_pieces(text):
    """Words and marks, and two special tokens."""
    return len(re.findall(r"\w+|[^\w\s]", text)) + 2


def count_quarters(text):
    """A rough count that is not additive."""
    return len(text) // 4


COUNTERS = [count_words, count_pieces, count_quarters, len]


def check(chunks, document, count, max_tokens):
    position = 0
    for chunk in chunks:
        assert chunk.document_id == document.id
        assert chunk.title == document.title
        assert chunk.start >= position
        assert chunk.text == document.text[chunk.start : chunk.end]
        assert chunk.text.strip() == chunk.text != ""
        assert not document.text[position : chunk.start].strip()
        assert chunk.lead == document.text[chunk.lead_start : chunk.lead_start + len(chunk.lead)]
        embedded = embedding_text(chunk, count, max_tokens)
        assert count(embedded) <= max_tokens
        assert embedded.endswith(compose(chunk.heading, chunk.lead, chunk.text))  # none of it vanishes
        assert len(chunk.text) <= 8 * max_tokens
        position = chunk.end
    assert not document.text[position:].strip()


def texts(chunks):
    return [chunk.text for chunk in chunks]


def headings(chunks):
    return [chunk.heading for chunk in chunks]


# ------------------------------------------------------------------------------------------------------- any document

PARTS = [
    "Word", "foo bar ", "e.g. ", ". ", "\n", "\n\n", "\r\n", "\r", "# H\n", "## H2\n", "===\n", "---\n", "```\n", "~~~\n",
    "| a | b |\n", "|---|---|\n", "- item\n", "def f():\n", "class X:\n", "    ", "\t", "@dec\n", "# c\n", '"""', "(", "}\n",
    "{\n", "。", "é", "e\u0301", "\U0001f469\u200d\U0001f4bb", ": ", "x" * 50, "\u2028", "\x1c", "void f(int a) {\n",
]  # fmt: skip
ANY_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300),
    st.lists(st.sampled_from(PARTS), max_size=120).map("".join),
)


@max_examples(150)
@given(
    text=ANY_TEXT,
    kind=st.sampled_from(["text", "markdown", "code"]),
    title=st.sampled_from(["", "H", "a.rst"]),
    count=st.sampled_from(COUNTERS),
    max_tokens=st.sampled_from([10, 24, 160]),
)
def test_chunks_are_the_document(text, kind, title, count, max_tokens):
    document = Document(text, title=title, kind=kind)
    check(DocumentChunker(count, max_tokens=max_tokens).chunk(document), document, count, max_tokens)


@pytest.mark.parametrize("kind", ["text", "markdown", "code"])
@pytest.mark.parametrize("count", [count_pieces, len])
@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "| " + "cell | " * 5_000, "word " * 10_000, "a" + " " * 100_000 + "b", "{\"a\": [1,2,3]}," * 1000,
     "e\u0301" * 5_000, "\U0001f469\u200d\U0001f4bb" * 2000, "# " + "long heading " * 2000 + "\n\ntext " * 500],
    ids=["word", "row", "words", "blanks", "json", "marks", "emoji", "heading"],
)  # fmt: skip
@pytest.mark.slow
def test_giants_are_cut(text, kind, count):
    document = Document(text, kind=kind)
    chunks = DocumentChunker(count, max_tokens=40).chunk(document)
    check(chunks, document, count, 40)


@pytest.mark.parametrize(
    ("text", "whole"), [("e\u0301" * 400, "e\u0301"), ("\U0001f44d\U0001f3fd" * 400, "\U0001f44d\U0001f3fd")]
)
def test_no_cut_inside_a_grapheme(text, whole):
    for chunk in RecursiveChunker(len, max_tokens=41).chunk(Document(text)):
        assert chunk.text == whole * (len(chunk.text) // len(whole))


def test_a_character_that_cannot_fit_is_an_error():
    chunker = RecursiveChunker(lambda text: 50 * text.count("\u2603") + len(text), max_tokens=40)
    with pytest.raises(ConfigurationError, match="'\u2603' takes more than `max_tokens`=40"):
        chunker.chunk(Document("snow \u2603"))


def test_max_tokens_must_leave_room():
    with pytest.raises(ConfigurationError, match="at least 10 with this tokenizer, got 9"):
        DocumentChunker(count_pieces, max_tokens=9)
    assert DocumentChunker(count_pieces, max_tokens=10).id == "document-6:max_tokens=10"


@pytest.mark.parametrize("mark", ["?", "？", "؟", ":"])
@pytest.mark.parametrize("kind", ["text", "markdown"])
def test_a_line_that_asks_stays_with_its_answer(mark, kind):
    text = "\n\n".join(
        f"How often is number {n} copied{mark}\n\nA copy is made every {n} hours. It is kept." for n in range(9)
    )
    chunks = DocumentChunker(count_words, max_tokens=40).chunk(Document(text, kind=kind))
    assert len(chunks) > 3
    for chunk in chunks:
        assert not chunk.text.endswith(mark)


def test_ids_tell_settings_apart():
    ids = {DocumentChunker(count_words, max_tokens=n).id for n in (160, 161)} | {RecursiveChunker(count_words).id}
    assert len(ids) == 3


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ConfigurationError, match="'pdf'"):
        DocumentChunker(count_words).chunk(Document("x", kind="pdf"))


@pytest.mark.parametrize("kind", ["text", "markdown", "code"])
def test_a_document_that_fits_is_one_chunk_and_an_empty_one_none(kind):
    chunker = DocumentChunker(count_words)
    text = "\n # One\n\ndef f():\n  pass\n\n# Two \n"
    assert chunker.chunk(Document(text, id="d", title="T", kind=kind)) == [
        Chunk("d", 2, len(text) - 2, text.strip(), title="T")
    ]
    assert chunker.chunk(Document(" \n\t", kind=kind)) == []


def test_what_an_embedder_does_not_read_is_the_title_first_and_the_heading_second():
    chunk = Chunk("d", 9, 12, "x y z", title="the title", heading="A > B", lead="p q", lead_start=0)
    texts = ["the title > A > B\np q\nx y z", "A > B\np q\nx y z", "p q\nx y z", "x y z"]
    sizes = list(map(count_words, texts))
    for max_tokens in range(sizes[0] + 2):
        expected = next((text for text in texts if count_words(text) <= max_tokens), "x y z")
        assert embedding_text(chunk, count_words, max_tokens) == expected
    assert embedding_text(Chunk("d", 0, 1, "x"), count_words, 9) == "x"


@pytest.mark.parametrize("kind", ["text", "markdown", "code"])
@pytest.mark.parametrize("line", ["The quick brown fox jumps over the lazy dog. ", "short line\n", "# h\n\n"])
@pytest.mark.slow
def test_each_character_is_counted_a_few_times_only(kind, line):
    counted = 0

    def count(text):
        nonlocal counted
        counted += len(text)
        return count_words(text)

    text = line * (60_000 // len(line))
    DocumentChunker(count).chunk(Document(text, kind=kind))
    assert counted < 8 * len(text)


# --------------------------------------------------------------------------------------------------------------- prose


def test_sizes_are_even():
    text = " ".join(f"This is sentence number {n} here." for n in range(22))  # 132 words
    chunks = RecursiveChunker(count_words, max_tokens=60).chunk(Document(text))
    assert [count_words(chunk.text) for chunk in chunks] == [48, 42, 42]


def test_a_paragraph_end_is_worth_a_little_unevenness():
    first, second = "One two three four. " * 5, "Five six seven eight. " * 6  # 20 and 24 words
    chunks = RecursiveChunker(count_words, max_tokens=30).chunk(Document(f"{first}\n\n{second}"))
    assert texts(chunks) == [first.strip(), second.strip()]


def test_a_long_sentence_is_cut_at_a_clause():
    text = "one two three four five six seven, eight nine ten eleven twelve thirteen fourteen fifteen"
    chunks = RecursiveChunker(count_words, max_tokens=10).chunk(Document(text))
    assert texts(chunks) == [text[:34], text[35:]]


def test_a_rough_counter_still_gives_full_chunks():
    text = "Ten letters are here. " * 200
    chunks = RecursiveChunker(count_quarters, max_tokens=60).chunk(Document(text))
    check(chunks, Document(text), count_quarters, 60)
    assert min(count_quarters(chunk.text) for chunk in chunks) > 40


# ------------------------------------------------------------------------------------------------------------ Markdown

GUIDE = """---
title: not a heading
---
# Guide

Install
-------

{body}

```sh
# not a heading
pip install x
```

## Use `it` [now](http://x) ##

{body}

### Deep

{body}

Last
====

{body}
"""


def test_markdown_is_cut_by_headings():
    document = Document(GUIDE.format(body="Some words to read here. " * 4), title="guide", kind="markdown")
    chunks = MarkdownChunker(count_words, max_tokens=40).chunk(document)
    check(chunks, document, count_words, 40)
    assert headings(chunks) == ["", "Install", "Use it now", "Use it now > Deep", "Last"]
    assert chunks[0].text == "---\ntitle: not a heading\n---"
    assert chunks[1].text.startswith("# Guide\n\nInstall\n---")  # a bare heading stays with what follows
    assert chunks[1].text.endswith("pip install x\n```")
    assert chunks[2].text.startswith("## Use")
    untitled = MarkdownChunker(count_words, max_tokens=40).chunk(Document(document.text, kind="markdown"))
    assert headings(untitled)[2] == "Guide > Use it now"


def test_small_sections_share_a_chunk_under_their_common_heading():
    text = "# A\n\n" + "".join(f"## Q{n}\n\nshort answer number {n} indeed\n\n" for n in range(6))
    chunks = MarkdownChunker(count_words, max_tokens=24).chunk(Document(text, kind="markdown"))
    assert headings(chunks) == ["A", "A"]
    assert [re.findall(r"Q\d", chunk.text) for chunk in chunks] == [["Q0", "Q1", "Q2"], ["Q3", "Q4", "Q5"]]


@pytest.mark.parametrize(
    "block",
    [
        "```py\nx = 1\n\n# no heading\ny = 2. Z\n```",
        "| a | b |\n|---|---|\n| One. Two | x |",
        "a | b\n--|--\nOne. Two | x",
    ],
)
def test_blocks_that_fit_stay_whole(block):
    text = "# A\n\n" + "Some words to read here. " * 6 + f"\n\n{block}\n\n" + "Some words to read here. " * 6
    chunks = MarkdownChunker(count_words, max_tokens=30).chunk(Document(text, kind="markdown"))
    assert len(chunks) > 1
    assert sum(block in chunk.text for chunk in chunks) == 1
    assert headings(chunks) == ["A"] * len(chunks)


def test_a_table_that_does_not_fit_is_cut_between_rows():
    rows = [f"| row {n} | two words |" for n in range(30)]
    chunks = MarkdownChunker(count_words, max_tokens=40).chunk(Document("\n".join(rows), kind="markdown"))
    assert [line for chunk in chunks for line in chunk.text.split("\n")] == rows


def test_long_headings_give_way_from_the_outside():
    text = f"# {'outer ' * 12}\n\n## {'inner ' * 3}\n\n" + "Some words to read here. " * 12
    chunks = MarkdownChunker(count_words, max_tokens=30).chunk(Document(text, kind="markdown"))
    check(chunks, Document(text, kind="markdown"), count_words, 30)
    assert headings(chunks)[-1] == "inner inner inner"


def test_restructured_text_headings():
    body = "Some words to read here. " * 4
    text = f"=====\nTitle\n=====\n\nOne\n---\n\n{body}\n\nTwo\n~~~\n\n{body}\n\nThree\n-----\n\n{body}"
    chunks = MarkdownChunker(count_words, max_tokens=30).chunk(Document(text, title="x.rst", kind="markdown"))
    assert headings(chunks) == ["Title > One", "Title > One > Two", "Title > Three"]


# ---------------------------------------------------------------------------------------------------------------- code

PYTHON = '''"""Doc of the module.

def not_a_definition():
"""

import os

# About Foo.
@decorator(
    1,
)
class Foo(Base):
    """Doc."""

    limit = 3

    # About bar.
    async def bar(self, a,
                  b):
        one = two(three, four, five, six, seven)
        text = """
not indented at all, yet inside
"""
        return one + text + other_thing + more_of_it

    def baz(self):
        one = two(three, four, five, six, seven)
        return one + one + other_thing + more_of_it


def last():
    return one + one + other_thing + more_of_it
'''


def test_python_is_cut_by_definitions():
    document = Document(PYTHON, kind="code")
    chunks = CodeChunker(count_words, max_tokens=38).chunk(document)
    check(chunks, document, count_words, 38)
    found = [(chunk.heading, chunk.text.split("\n")[0].strip(), chunk.text.split("\n")[-1].strip()) for chunk in chunks]
    assert found == [
        ("", '"""Doc of the module.', "import os"),
        ("class Foo", "# About Foo.", "limit = 3"),
        ("class Foo > def bar", "# About bar.", "return one + text + other_thing + more_of_it"),
        ("class Foo > def baz", "def baz(self):", "return one + one + other_thing + more_of_it"),
        ("def last", "def last():", "return one + one + other_thing + more_of_it"),
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("func (s *Server) Run(a int) error {\n\tBODY\n}\n\ntype Server struct {\n\tBODY\n}\n", ["func Run", "type Server"]),
        ("impl<T> Show for Foo<T> {\n    pub fn show(&self) {\n        BODY\n    }\n    fn hide() {\n        BODY\n    }\n}\n",
         ["impl<T> Show for Foo<T> > fn show", "impl<T> Show for Foo<T> > fn hide"]),
        ("export class A {\n  run(a) {\n    BODY\n  }\n  static walk() {\n    BODY\n  }\n}\n",
         ["class A > run()", "class A > walk()"]),
        ("export const f = async (a) => {\n  BODY\n};\nfunction g() {\n  BODY\n}\n", ["function f", "function g"]),
        ("static int\tmain(int n, char **a)\n{\n    BODY\n}\n\n/* About g. */\nvoid *g(void) {\n    if (x) {\n    BODY\n    }\n}\n",
         ["main()", "g()"]),
        ("CREATE TABLE IF NOT EXISTS a (\n  BODY\n);\ncreate or replace view b as\n  BODY;\n", ["table a", "view b"]),
        ("start() {\n  BODY\n}\n\nfunction stop {\n  BODY\n}\n", ["start()", "function stop"]),
    ],
    ids=["go", "rust", "js", "arrow", "c", "sql", "sh"],
)  # fmt: skip
def test_other_languages_are_cut_by_definitions(source, expected):
    text = source.replace("BODY", "one two three " * 10)
    chunks = CodeChunker(count_words, max_tokens=52).chunk(Document(text, kind="code"))
    check(chunks, Document(text, kind="code"), count_words, 52)
    assert headings(chunks) == expected


def test_a_long_function_is_cut_between_lines_at_blank_ones():
    body = "\n\n".join("\n".join(f"    name_{i}_{j} = value of it" for j in range(4)) for i in range(4))
    text = f"def f():\n{body}\n"
    chunks = CodeChunker(count_words, max_tokens=48).chunk(Document(text, kind="code"))
    assert headings(chunks) == ["def f", "def f"]
    assert chunks[1].text.startswith("name_2_0")


# ------------------------------------------------------------------------------------------------------------- tables

HEADER = "| Part | Shelf | Price EUR |"


def table(rows):
    return f"{HEADER}\n|---|---|---|\n" + "".join(f"| P-{i:03d} | {i} | {100 + i} |\n" for i in range(rows))


@pytest.mark.parametrize(
    "before", ["", "# Stock\n\n", "# Stock\n\nAll parts of Oslo:\n\n", "# A\n\n" + "Some words to read. " * 40 + "\n\n"]
)
@pytest.mark.parametrize("after", ["", "\nMore words come after it. " * 30])
def test_each_chunk_of_a_table_has_the_names_of_the_columns(before, after):
    document = Document(before + table(60) + after, kind="markdown")
    chunks = MarkdownChunker(count_pieces, max_tokens=80).chunk(document)
    check(chunks, document, count_pieces, 80)
    with_rows = [chunk for chunk in chunks if "| P-" in chunk.text]
    assert len(with_rows) > 5
    for chunk in with_rows:
        assert (chunk.lead == HEADER) != (HEADER in chunk.text)
        assert not chunk.lead or chunk.text.startswith("| P-")
    assert not any(chunk.lead == HEADER for chunk in chunks if "| P-" not in chunk.text)


def test_two_tables_keep_their_own_headers():
    text = table(40) + "\nThen:\n\n" + table(40).replace("Part", "Tool").replace("P-", "T-")
    for chunk in MarkdownChunker(count_pieces, max_tokens=80).chunk(Document(text, kind="markdown")):
        if chunk.lead:
            assert ("Tool" in chunk.lead) == ("T-" in chunk.text)


@pytest.mark.parametrize("title", ["stock.rst", "stock.md"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_simple_table_keeps_the_names_of_its_columns(title, newline):
    rule = "=====  =====  ============="
    rows = [f"P-{i:03d}  {i * 3 % 7}      {200 + i}" for i in range(40)]
    lines = ["Our stock:", "", rule, "Part   Shelf  Selling price", rule, *rows, rule, "", "Ask at the desk."]
    document = Document(newline.join(lines), title=title, kind="markdown")
    chunks = MarkdownChunker(count_pieces, max_tokens=80).chunk(document)
    check(chunks, document, count_pieces, 80)
    assert len(chunks) > 3
    for chunk in chunks:
        if "P-" in chunk.text:
            assert "Part   Shelf  Selling price" in (chunk.lead, *chunk.text.splitlines())


def test_a_header_that_leaves_no_room_for_rows_is_no_lead():
    text = f"| {' | '.join(f'c{i}' for i in range(60))} |\n|{'---|' * 60}\n" + "| a | b |\n" * 60
    document = Document(text, kind="markdown")
    check(MarkdownChunker(count_pieces, max_tokens=60).chunk(document), document, count_pieces, 60)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("title", ["stock.csv", "stock"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_each_chunk_of_separated_values_has_the_names_of_the_columns(separator, title, newline):
    rows = [
        separator.join(row)
        for row in [("part", "shelf", "price"), *((f"P-{i}", f"{i}", "two words") for i in range(60))]
    ]
    document = Document(newline.join(rows), title=title)
    chunks = DocumentChunker(count_pieces, max_tokens=60).chunk(document)
    check(chunks, document, count_pieces, 60)
    assert len(chunks) > 5
    assert [line for chunk in chunks for line in chunk.text.splitlines()] == rows
    assert [chunk.lead for chunk in chunks] == ["", *[rows[0]] * (len(chunks) - 1)]


def test_a_row_with_line_breaks_in_quotes_is_not_cut():
    rows = ["id,text", *(f'{i},"first line of {i}\nsecond line"' for i in range(40))]
    chunks = DocumentChunker(count_pieces, max_tokens=40).chunk(Document("\n".join(rows), title="a.csv"))
    assert len(chunks) > 5
    assert all(re.match(r"id,text|\d+,", chunk.text) and chunk.text.endswith('second line"') for chunk in chunks)


def test_values_without_names_of_columns_have_no_lead():
    text = "\n".join(f"{i},{i + 1},{i + 2}" for i in range(100))
    assert not any(
        chunk.lead for chunk in DocumentChunker(count_pieces, max_tokens=40).chunk(Document(text, title="a.csv"))
    )


# ------------------------------------------------------------------------------------------------------------ records

LONG = "the fan has stopped. It will not start again, for the key of the room is lost"
RECORDS = {
    "log": [f"2024-05-01T10:{i:02d}:00Z INFO svc[{i}]: {LONG}" for i in range(50)],
    "traces": [
        f"2024-05-01 10:{i:02d}:00 ERROR: no key. Retry later\n  at main.py line {i}\n  at rooms.py" for i in range(50)
    ],
    "chat": [f"{'Ann' if i % 2 else 'Bob'}: I think of {i} that {LONG}." for i in range(50)],
    "messages": [f"12/05/2024, 10:{i:02d} - Ann: {LONG}." for i in range(50)],
    "json": [f'{{"id": {i}, "text": "{LONG}. And so on."}}' for i in range(50)],
}


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("joint", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("count", [count_pieces, count_quarters])
def test_records_are_not_cut(kind, joint, count):
    records = RECORDS[kind]
    document = Document(joint.join(records))
    chunks = DocumentChunker(count, max_tokens=90).chunk(document)
    check(chunks, document, count, 90)
    assert len(chunks) > 5
    assert [
        record for chunk in chunks for record in chunk.text.split(joint if joint == "\n\n" else joint + records[0][0])
    ]
    starts = {document.text.index(record) for record in records}
    assert all(chunk.start in starts for chunk in chunks)


def test_a_record_that_is_too_long_is_cut_alone():
    text = "\n".join(["10:01:01.000 one", f"10:01:02.000 {'word ' * 200}", "10:01:03.000 three"])
    document = Document(text)
    check(RecursiveChunker(count_pieces, max_tokens=60).chunk(document), document, count_pieces, 60)


JSON = (
    '{"servers": ['
    + ", ".join(f'{{"name": "host{i}", "port": {8000 + i}, "tags": ["a", "b"]}}' for i in range(60))
    + '], "mode": "on"}'
)
YAML = "".join(
    f"# About service {i}\nservice{i}:\n  port: {8000 + i}\n  hosts:\n    - name: a{i}\n      zone: north\n"
    for i in range(30)
)
INI = "".join(f"; About {i}\n[service{i}]\nport = {8000 + i}\nzone = north of the river\n\n" for i in range(30))


def test_json_is_cut_between_members():
    document = Document(JSON, kind="code", title="a.json")
    chunks = CodeChunker(count_pieces, max_tokens=80).chunk(document)
    check(chunks, document, count_pieces, 80)
    for i in range(60):
        (chunk,) = [chunk for chunk in chunks if f'"host{i}"' in chunk.text]
        assert f'"port": {8000 + i}' in chunk.text
        assert "servers" in chunk.heading + chunk.text


@pytest.mark.parametrize(("text", "name"), [(YAML, "a.yaml"), (INI, "a.ini"), (INI, "a.toml")])
def test_settings_keep_their_section(text, name):
    document = Document(text, kind="code", title=name)
    chunks = CodeChunker(count_pieces, max_tokens=60).chunk(document)
    check(chunks, document, count_pieces, 60)
    assert len(chunks) > 5
    for i in range(30):
        (chunk,) = [chunk for chunk in chunks if re.search(rf"\b{8000 + i}\b", chunk.text)]
        assert re.search(rf"service{i}\b", chunk.heading + chunk.text)
        assert f"About {'service ' * (name == 'a.yaml')}{i}\n" in chunk.text


def test_a_value_in_a_long_yaml_section_has_its_path():
    text = "database:\n  primary:\n" + "".join(f"    option_{i}: value of it\n" for i in range(60))
    chunks = CodeChunker(count_pieces, max_tokens=60).chunk(Document(text, kind="code", title="a.yml"))
    assert headings(chunks)[1:] == ["database > primary"] * (len(chunks) - 1)


# -------------------------------------------------------------------------------------------------------------- noise

BASE64 = base64.b64encode(random.Random(1).randbytes(30_000)).decode()


def wrapped(text):
    return "\n".join(text[i : i + 76] for i in range(0, len(text), 76))


@pytest.mark.parametrize(
    ("kind", "noise"),
    [
        ("markdown", f"![shot](data:image/png;base64,{BASE64})"),
        ("markdown", f"[image1]: <data:image/png;base64,{BASE64}>"),
        ("markdown", f'<img src="data:image/svg+xml;utf8,{"%3Cpath%20d=1" * 200}">'),
        ("text", BASE64),
        ("text", wrapped(BASE64)),
        ("code", f"@font-face {{ src: url(data:font/woff2;base64,{BASE64}) }}"),
        ("code", "!function(e,t){" + "var a=e[0];t.push(a);return function(){b(a)};" * 200 + "}"),
        ("code", "a{color:red}.b{margin:0}" * 200),
    ],
)
def test_what_is_not_text_is_left_out(kind, noise):
    text = f"# Guide\n\nPress the red key.\n\n{noise}\n\nThen wait ten minutes.\n"
    document = Document(text, kind=kind)
    chunks = DocumentChunker(lambda text: len(text) // 2 + 2, max_tokens=160).chunk(document)
    assert 1 <= len(chunks) <= 3
    together = " ".join(texts(chunks))
    assert "Press the red key." in together
    assert "Then wait ten minutes." in together
    assert len(together) < 150
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]


@pytest.mark.parametrize(
    "text",
    ["x" * 500, "ACGT" * 200, "https://example.com/" + "path/" * 80, '{"a": [1,2,3]},' * 200, "word " * 900, "data: " * 300,
     "-" * 400, "a_long_name_of_a_thing" * 3, "INSERT INTO t VALUES " + "(1,'a b',2)," * 300],
)  # fmt: skip
def test_long_lines_of_text_are_kept(text):
    document = Document(text, kind="code")
    check(DocumentChunker(count_pieces).chunk(document), document, count_pieces, 160)


@given(
    st.lists(
        st.one_of(
            st.text("ab c\n.#|", max_size=40),
            st.sampled_from([f"(data:a/b;base64,{BASE64[:150]})", BASE64[:220], wrapped(BASE64[:400]) + "\n"]),
        ),
        max_size=8,
    )
)
def test_chunks_of_a_text_with_noise_are_spans_of_it(parts):
    document = Document("".join(parts), kind="markdown")
    position = 0
    for chunk in DocumentChunker(count_quarters, max_tokens=24).chunk(document):
        assert position <= chunk.start < chunk.end
        assert chunk.text == document.text[chunk.start : chunk.end]
        assert len(chunk.text) // 4 <= 24
        assert not find_noise(chunk.text, is_code=False)
        position = chunk.end


def test_value_of_data_has_its_key_as_lead():
    services = {
        name: {"image": "base:1", "env": {f"VAR_{i}": f"value{i}" for i in range(25)}, "memory": f"{100 + n}Mi"}
        for n, name in enumerate(["alpha", "beta", "gamma"])
    }
    text = json.dumps({"services": services}, indent=2)
    chunks = CodeChunker(count_pieces, max_tokens=120).chunk(Document(text))
    for n, name in enumerate(services):
        chunk = next(chunk for chunk in chunks if f'"memory": "{100 + n}Mi"' in chunk.text)
        assert f'"{name}": {{' in chunk.lead + chunk.text
        assert chunk.lead == text[chunk.lead_start : chunk.lead_start + len(chunk.lead)]
    assert not any("services" in chunk.lead for chunk in chunks)  # the name of all of them tells none apart


def test_object_without_key_is_named_by_its_first_value():
    parts = [{"name": f"pump-{n}", **{f"size_{i}": i for i in range(40)}, "shelf": n} for n in range(4)]
    text = json.dumps(parts, indent=1)
    chunks = CodeChunker(count_pieces, max_tokens=90).chunk(Document(text))
    for n in range(4):
        chunk = next(chunk for chunk in chunks if f'"shelf": {n}' in chunk.text)
        assert f'"pump-{n}"' in chunk.lead


@pytest.mark.parametrize("last", ["def close", "async def close"])
def test_method_has_its_class_as_lead(last):
    methods = "".join(f"    def method_{i}(self, a, b):\n        return self.call(a, b, {i})\n\n" for i in range(8))
    text = "".join(
        f"# {name} client\nclass {name}:\n{methods}    {last}(self, timeout={n}):\n        self.stop(timeout)\n\n\n"
        for n, name in enumerate(["Alpha", "Beta", "Gamma"])
    )
    chunks = CodeChunker(count_pieces, max_tokens=90).chunk(Document(text, source="clients.py"))
    for n, name in enumerate(["Alpha", "Beta", "Gamma"]):
        chunk = next(chunk for chunk in chunks if f"close(self, timeout={n})" in chunk.text)
        assert f"class {name}:" in chunk.lead + chunk.text


def test_a_chunk_that_goes_on_with_an_item_has_its_first_line_as_lead():
    start = "\n   ".join(["It controls how the service starts, and when, and by whom it is stopped."] * 7)
    items = [
        f" * add the option Ready{n}.\n   {start}\n\n   It defaults to {n} and is read once at the start."
        for n in range(4)
    ]
    chunks = DocumentChunker(count_pieces, max_tokens=120).chunk(Document("\n\n".join(items)))
    apart = 0
    for n in range(4):
        chunk = next(chunk for chunk in chunks if f"defaults to {n}" in chunk.text)
        assert f"the option Ready{n}" in chunk.lead + chunk.text
        apart += f"Ready{n}" not in chunk.text
    assert apart  # some of them stand in another chunk than their item


class CountingPattern:
    """Finds what a pattern finds, and counts the characters that it looks at."""

    def __init__(self, pattern):
        self.pattern, self.n_read = pattern, 0

    def search(self, text, start):
        found = self.pattern.search(text, start)
        self.n_read += (found.end() if found else len(text)) - start
        return found


def test_a_long_run_of_spaces_is_read_a_few_times(monkeypatch):
    pattern = CountingPattern(cutting._LETTER)
    monkeypatch.setattr(cutting, "_LETTER", pattern)
    text = "Begin" + " " * 200_000 + "end."

    chunks = RecursiveChunker(count_words, max_tokens=16).chunk(Document(text))

    assert "".join(chunk.text.strip() for chunk in chunks) == "Beginend."
    assert pattern.n_read < 4 * len(text)
