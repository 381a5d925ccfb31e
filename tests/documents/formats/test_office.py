"""PDF, Office and OpenDocument files, books and rich text: what is read, where it stands, and what bad files say."""

from __future__ import annotations

import builtins
import importlib.util
import struct
import zipfile

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.documents.formats import archives
from leanrag.documents.loading import HEAVY_READERS, can_load, load_file
from leanrag.errors import DocumentError, MissingDependencyError
from leanrag.types import Document, Mark
from tests.documents.formats.files import book, encrypted_pdf, opendocument, pdf, sheets, slides, word, zipped
from tests.examples import max_examples

ODT = """<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>
<text:h text:outline-level="1">Rules</text:h><text:p>One<text:s text:c="2"/>two<text:tab/>three<text:line-break/>four
</text:p><text:section><text:list><text:list-item><text:p>first</text:p></text:list-item><text:list-item><text:p>second
</text:p></text:list-item></text:list></text:section><text:h text:outline-level="2">Fees</text:h>
<text:p>Ten euros<text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>a month</text:p></text:note-body>
</text:note>.<office:annotation><text:p>check</text:p></office:annotation></text:p>
<table:table table:name="T"><table:table-row><table:table-cell><text:p>a</text:p></table:table-cell><table:table-cell>
<text:p>b</text:p></table:table-cell></table:table-row></table:table></office:text>"""
ODP = """<office:presentation><drawing:page><drawing:frame><text:p>Hello</text:p></drawing:frame></drawing:page>
<drawing:page><text:p>World</text:p></drawing:page></office:presentation>"""
ODS = """<office:spreadsheet><table:table table:name="Costs"><table:table-row><table:table-cell><text:p>Item</text:p>
</table:table-cell><table:table-cell table:number-columns-repeated="2"><text:p>Price</text:p></table:table-cell></table:table-row>
<table:table-row><table:table-cell><text:p>Rent</text:p></table:table-cell><table:table-cell/><table:table-cell><text:p>9</text:p>
</table:table-cell><table:table-cell table:number-columns-repeated="16381"/></table:table-row>
<table:table-row table:number-rows-repeated="1048574"><table:table-cell table:number-columns-repeated="16384"/></table:table-row>
</table:table></office:spreadsheet>"""
RTF = (
    rb"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}\f0 Caf\'e9 \u8364? opens at {\b nine}.\par It closes at five.\par}"
)


def load(folder, name, data) -> Document:
    path = folder / name
    path.write_bytes(data)
    return load_file(path)


def located(document: Document) -> dict[str, str]:
    """The text of each mark up to the next."""
    ends = [mark.start for mark in document.marks[1:]] + [len(document.text)]
    return {mark.label: document.text[mark.start : end].strip() for mark, end in zip(document.marks, ends, strict=True)}


def test_pages_of_a_pdf(tmp_path):
    data = pdf(["Apples are red.", "They grow on trees."], [], ["Pears are green."], title="Fruit")
    document = load(tmp_path, "a.pdf", data)
    assert document.text == "Apples are red.\nThey grow on trees.\n\nPears are green.\n"
    assert document.marks == (Mark(0, "page 1"), Mark(37, "page 3"))
    assert (document.title, document.kind) == ("Fruit", "text")
    assert load(tmp_path, "b.PDF", pdf(["words"])).title == "b.PDF"


def test_sections_of_a_word_file(tmp_path):
    document = load(tmp_path, "a.docx", word())
    assert (document.title, document.kind) == ("Handbook", "markdown")
    assert located(document) == {
        "section Handbook": "# Handbook\n\nRead me first.",
        "section Releases": "# Releases\n\nReleases are signed off by Ada Park.\n\n- Run the tests\n- Tag the commit\n\n"
        "| Team | Lead | Room |\n| --- | --- | --- |\n| Docs | Bo \\| Al 12 |  |",
        "section Holidays": "## Holidays\n\nHolidays are booked with Bo.",
    }


def test_slides_with_tables_groups_and_notes(tmp_path):
    document = load(tmp_path, "a.pptx", slides())
    assert (document.title, document.kind) == ("Plan", "markdown")
    assert located(document) == {
        "slide 1": "## Goals\n\nFaster answers\nFewer tokens\n\nNotes: Say why.",
        "slide 2": "| Year | Users |\n| --- | --- |\n| 2026 | 900 |\n\nGrouped words.",
    }


def test_sheets_are_tables(tmp_path):
    document = load(tmp_path, "a.xlsx", sheets())
    assert document.title == "Numbers"
    assert located(document) == {
        "sheet Costs": "## Costs\n\n| Item | Price | Since |\n| --- | --- | --- |\n| Rent | 1200 | 2026-03-01 |\n| Tea | 2.5 |  |",
        "sheet People": "## People\n\n| Ada | True |\n| --- | --- |",
    }


def test_chapters_of_a_book_in_reading_order(tmp_path):
    document = load(tmp_path, "a.epub", book())
    assert (document.title, document.kind) == ("A Day", "markdown")
    assert located(document) == {"chapter Morning": "# Morning\n\nThe sun rose.", "chapter 2": "It set again."}


def test_opendocument_files(tmp_path):
    document = load(tmp_path, "a.odt", opendocument(ODT, title="Club"))
    assert document.title == "Club"
    assert located(document) == {
        "section Rules": "# Rules\n\nOne  two\tthree\nfour\n\n- first\n- second",
        "section Fees": "## Fees\n\nTen euros [a month].\n\n| a | b |\n| --- | --- |",
    }
    assert located(load(tmp_path, "a.odp", opendocument(ODP))) == {"slide 1": "Hello", "slide 2": "World"}
    table = "| Item | Price | Price |\n| --- | --- | --- |\n| Rent |  | 9 |"
    assert located(load(tmp_path, "a.ods", opendocument(ODS))) == {"sheet Costs": f"## Costs\n\n{table}"}


def test_rich_text(tmp_path):
    document = load(tmp_path, "a.rtf", RTF)
    assert document.text == "Café € opens at nine.\nIt closes at five.\n"
    assert (document.title, document.marks) == ("a.rtf", ())


# Bad files


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pdf", encrypted_pdf(), "is encrypted.* without a password"),
        ("a.docx", archives._COMPOUND_FILE + bytes(600), "is encrypted, or has a format from before 2007"),
        ("a.epub", book(encrypted="OPS/text/one.xhtml"), "is encrypted, by the protection of its shop"),
        ("a.odt", opendocument(ODT, manifest="<encryption-data/>"), "is encrypted"),
        ("a.pdf", pdf([], []), "has 2 pages without text.*ocrmypdf"),
        ("a.pdf", b"%PDF-1.7 and no more", "is damaged or not of the format"),
        ("a.docx", sheets(), "is damaged or not of the format"),
        ("a.xlsx", zipped({"a": "b"}), "is damaged or not of the format"),
        ("a.pptx", b"words", "is damaged or not of the format"),
        ("a.epub", zipped({"META-INF/container.xml": "<container/>"}), "is damaged or not of the format"),
        ("a.odt", opendocument("<unclosed>"), "is damaged or not of the format"),
        ("a.rtf", b"words", "is not rich text"),
        ("a.odt", opendocument(""), "contains no text"),
    ],
)
def test_a_bad_file_says_what_is_wrong_and_what_to_do(tmp_path, name, data, message):
    with pytest.raises(DocumentError, match=message) as caught:
        load(tmp_path, name, data)
    assert name in str(caught.value)
    assert caught.value.path == (tmp_path / name).resolve()


def test_a_book_with_encrypted_fonts_is_read(tmp_path):
    assert load(tmp_path, "a.epub", book(encrypted="OPS/font.ttf")).text.startswith("# Morning")


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx", ".epub", ".odt"])
def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 10**6)
    data = zipped({"content.xml": b"0" * (10**6 + 1)})
    assert len(data) < 2000
    with pytest.raises(DocumentError, match="is too large: its 1 parts have 1,000,001 bytes"):
        load(tmp_path, f"a{suffix}", data)


def test_a_part_is_not_read_beyond_the_size_that_the_archive_says(tmp_path):
    data = bytearray(zipped({"content.xml": b"0" * 10**6, "mimetype": b""}))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)  # its unpacked size in the directory
    with archives.open_archive(bytes(data), tmp_path) as archive, pytest.raises(zipfile.BadZipFile):
        archive.read("content.xml")


def test_entities_of_xml_cannot_grow_without_bounds(tmp_path):
    levels = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    bomb = f'<!DOCTYPE x [<!ENTITY a0 "ha">{levels}]><x>&a11;</x>'
    with pytest.raises(DocumentError, match="is damaged or not of the format"):
        load(tmp_path, "a.odt", zipped({"content.xml": bomb}))


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.pptx", "a.xlsx", "a.rtf"])
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leanrag\[files\]'") as caught:
        load(tmp_path, name, b"data")
    assert caught.value.extra == "files"


def test_nothing_is_imported_to_know_what_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(builtins, "__import__", None)
    assert all(can_load(tmp_path / f"a{suffix}") for suffix in HEAVY_READERS)


@max_examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["pdf", "docx", "xlsx", "pptx", "epub", "odt", "rtf"]), st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path, samples, kind, data):
    content = bytearray(samples[kind])
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=8)):
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(content) // 2, len(content)))
    try:
        document = load(tmp_path, f"a.{kind}", bytes(content[:cut]))
    except DocumentError as error:
        assert f"a.{kind}" in str(error)
    else:
        assert all(0 <= mark.start <= len(document.text) for mark in document.marks)


@pytest.fixture(scope="module")
def samples():
    return {
        "pdf": pdf(["Apples."], ["Pears."]),
        "docx": word(),
        "xlsx": sheets(),
        "pptx": slides(),
        "epub": book(),
        "odt": opendocument(ODT),
        "rtf": RTF,
    }
