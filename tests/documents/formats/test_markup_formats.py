"""Formats that people write or export as text with marks: calendars, contacts, LaTeX, AsciiDoc, Org and feeds."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.documents.formats.calendar import read_calendar
from leanrag.documents.formats.feed import read_feed
from leanrag.documents.formats.latex import read_bibliography, read_latex
from leanrag.documents.formats.light_markup import read_asciidoc, read_org
from tests.documents.formats.test_formats import load
from tests.examples import max_examples

# ---------------------------------------------------------------------------------------------- calendars and contacts

EVENTS = (
    "BEGIN:VCALENDAR\nVERSION:2.0\nBEGIN:VEVENT\nUID:1@x\nDTSTART;TZID=Europe/Rome:20250107T184500\nSUMMARY:Choir\\, second part\n"
    'LOCATION:Hall B\nATTENDEE;CN="Ugo Neri":mailto:ugo@example.org\nDESCRIPTION:Bring the gre\n en book.\\nNo guests.\n'
    "BEGIN:VALARM\nTRIGGER:-PT15M\nEND:VALARM\nEND:VEVENT\nBEGIN:VTODO\nDUE;VALUE=DATE:20250201\nSUMMARY:Print the notes\n"
    "END:VTODO\nEND:VCALENDAR\n"
)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_events_and_tasks_are_paragraphs_of_named_lines(tmp_path, newline):
    assert load(tmp_path, "a.ics", EVENTS.replace("\n", newline)).text == (
        "Summary: Choir, second part\nStart: 2025-01-07 18:45 (Europe/Rome)\nLocation: Hall B\n"
        "Attendee: Ugo Neri (ugo@example.org)\nDescription: Bring the green book., No guests.\n\n"
        "Summary: Print the notes\nDue: 2025-02-01\n"
    )


def test_contacts_have_their_kinds_of_numbers_and_whole_addresses(tmp_path):
    card = (
        "BEGIN:VCARD\nVERSION:2.1\nN:Aho;Mirja;;;\nFN:Mirja Aho\nTEL;TYPE=CELL,VOICE:+358 40 555 01\n"
        "ADR;TYPE=HOME:;;Rantatie 4;Oulu;;90100;Finland\nitem1.EMAIL;TYPE=INTERNET:mirja@example.org\n"
        "NOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=UTF-8:Sp=C3=A4t =\nam Abend\nEND:VCARD\n"
    )
    assert load(tmp_path, "a.vcf", card).text == (
        "Name: Mirja Aho\nPhone (cell): +358 40 555 01\nAddress (home): Rantatie 4, Oulu, 90100, Finland\n"
        "Email: mirja@example.org\nNote: Spät am Abend\n"
    )
    assert load(tmp_path, "b.vcf", "BEGIN:VCARD\nN:Aho;Mirja\nEND:VCARD").text == "Name: Mirja Aho\n"
    assert load(tmp_path, "c.vcf", "Only words.\n").text == "Only words.\n"


# --------------------------------------------------------------------------------------------------------------- LaTeX

PAPER = r"""\documentclass{article} % a comment
\title{Bees \& \emph{Hives}}
\author{Ana Ruiz \and Jo\~ao Pe\~{n}a}
\begin{document}
\maketitle
\section{Results}\label{sec:results}
We counted 4\,210 bees, i.e.\ 12\% more~\cite{ruiz2020} than in 2019--2020.\footnote{By hand.}
\begin{itemize}
  \item One hive
  \item[Two] hives
\end{itemize}
\begin{tabular}{|l|r|}
\hline
Hive & Honey (kg) \\ \hline
North & 14 \\
South \& East & 9 \\
\end{tabular}
\begin{verbatim}
\raw{kept} % as it is
\end{verbatim}
\end{document}
"""


def test_latex_is_read_as_the_printed_page(tmp_path):
    document = load(tmp_path, "a.tex", PAPER)
    assert (document.title, document.kind) == ("Bees & Hives", "markdown")
    assert document.text == (
        "# Bees & Hives\n\nAna Ruiz; João Peña\n\n## Results\n\nWe counted 4210 bees, i.e. 12% more [ruiz2020] than in 2019–2020."
        " (By hand.)\n\n- One hive\n- Two: hives\n\n| Hive | Honey (kg) |\n| --- | --- |\n| North | 14 |\n| South & East | 9 |\n\n"
        "```\n\\raw{kept} % as it is\n```\n"
    )


def test_entries_of_a_bibliography_are_paragraphs(tmp_path):
    entries = (
        '@string{x = 1}\n@article{ruiz2020,\n  author = {Ruiz, Ana and M{\\"u}ller, Eva},\n'
        '  title = "The {H}ive",\n  year = 2020,\n'
        "  pages = {3--9}\n}\n\n@book{peña, title={Wax}}\n"
    )
    assert load(tmp_path, "a.bib", entries).text == (
        "Title: The Hive\nAuthor: Ruiz, Ana; Müller, Eva\nYear: 2020\nPages: 3–9\nType: article\nKey: ruiz2020\n\n"
        "Title: Wax\nType: book\nKey: peña\n"
    )
    assert load(tmp_path, "b.bib", "% nothing yet\n").text == "% nothing yet\n"


# -------------------------------------------------------------------------------------------------- AsciiDoc and Org


def test_asciidoc_is_read_as_markdown(tmp_path):
    document = load(
        tmp_path,
        "a.adoc",
        "= Otter pump\n:toc:\n// draft\n\n== Setup\n\n. Plug it in:\n+\n----\nplug --now\n----\n. Wait.\n\nThen:\n\n. Smile.\n\n"
        "* see link:https://example.org/m[the manual]\n** or ask\n\n[NOTE]\n====\nIt is loud.\n====\n\n"
        '[cols="1,2"]\n|===\n|Key |Meaning\n\n|F1\n|Help\n|===\n',
    )
    assert (document.title, document.kind) == ("Otter pump", "markdown")
    assert document.text == (
        "# Otter pump\n\n## Setup\n\n1. Plug it in:\n```\nplug --now\n```\n2. Wait.\n\nThen:\n\n1. Smile.\n\n"
        "- see the manual (https://example.org/m)\n  - or ask\n\nNote:\nIt is loud.\n\n"
        "| Key | Meaning |\n| --- | --- |\n| F1 | Help |\n"
    )


def test_a_table_that_is_not_closed_is_kept(tmp_path):
    assert load(tmp_path, "a.adoc", "|===\n|a |b\n|1 |2\n").text == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_org_is_read_as_markdown(tmp_path):
    document = load(
        tmp_path,
        "a.org",
        "#+TITLE: Workshop\n# a comment\n* Saws :tools:\n** TODO Sharpen\n- [ ] file\n#+BEGIN_SRC sh\n* not a heading\n#+END_SRC\n"
        "| Saw | Teeth |\n|-----+-------|\n| Rip | 5 |\n",
    )
    assert (document.title, document.kind) == ("Workshop", "markdown")
    assert document.text == (
        "# Workshop\n# Saws\n## TODO Sharpen\n- [ ] file\n```\n* not a heading\n```\n| Saw | Teeth |\n| --- | --- |\n| Rip | 5 |\n"
    )


# --------------------------------------------------------------------------------------------------------------- feeds

RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:dc="http://purl.org/dc/elements/1.1/"><channel><title>Harbour &amp; sea</title>
<item><title>New ferry</title><dc:creator>Lea</dc:creator><pubDate>Mon, 3 Feb 2025</pubDate>
<description>&lt;p&gt;It takes &lt;b&gt;90&lt;/b&gt; cars.&lt;/p&gt;</description></item>
<item><title>Dredging</title><description><![CDATA[<p>Until May.</p>]]></description></item></channel></rss>"""

ATOM = """<feed xmlns="http://www.w3.org/2005/Atom"><title>Notes</title><subtitle>Of the pier</subtitle><entry><title>Storm</title>
<link rel="alternate" href="https://example.org/storm"/><author><name>Kim</name></author>
<summary>Pier closed.</summary></entry></feed>"""


def test_entries_of_feeds_are_sections(tmp_path):
    document = load(tmp_path, "a.rss", RSS)
    assert (document.title, document.kind) == ("Harbour & sea", "markdown")
    assert document.text == (
        "# Harbour & sea\n\n## New ferry\n\nAuthor: Lea\nDate: Mon, 3 Feb 2025\n\nIt takes 90 cars.\n\n## Dredging\n\nUntil May.\n"
    )
    assert load(tmp_path, "b.xml", ATOM).text == (
        "# Notes\n\nOf the pier\n\n## Storm\n\nAuthor: Kim\nLink: https://example.org/storm\n\nPier closed.\n"
    )


def test_other_xml_is_read_as_it_is(tmp_path):
    document = load(tmp_path, "a.xml", "<config><port>80</port></config>")
    assert (document.text, document.kind) == ("<config><port>80</port></config>", "code")


@pytest.mark.parametrize("opening", ["<item>", "<item><title>", "<item><![CDATA["])
def test_a_hundred_thousand_elements_that_are_not_closed_are_read_at_once(tmp_path, opening):
    source = "<rss>" + opening * 100_000
    assert load(tmp_path, "a.rss", source).text == source
    entry = f"<item><title>Ferry</title>{opening.removeprefix('<item>') * 100_000}</item>"
    assert load(tmp_path, "b.rss", f"<rss><channel>{entry}</channel></rss>").text.startswith("## Ferry\n")


# ------------------------------------------------------------------------------------------------ exports of chats

SLACK = [
    {
        "type": "message",
        "user": "U1",
        "user_profile": {"real_name": "Ida Moe"},
        "text": "Who has the drill?",
        "ts": "1700000000.5",
    },
    {
        "type": "message",
        "user": "U2",
        "user_profile": {"real_name": "", "name": "bo"},
        "text": "<@U1> it is\nin the van",
        "ts": "1700000100",
    },
    {"type": "message", "subtype": "file", "ts": "1700000200"},
]
DISCORD = {
    "guild": {},
    "messages": [{"timestamp": "2024-03-01T18:05:09.123+00:00", "author": {"name": "ida"}, "content": "Hi"}],
}
TELEGRAM = {
    "messages": [{"date": "2024-03-01T18:05:09", "from": "Ida", "text": ["See ", {"type": "bold", "text": "this"}]}]
}


def test_a_line_of_a_transcript_is_a_message(tmp_path):
    document = load(tmp_path, "a.json", json.dumps(SLACK))
    assert document.kind == "text"
    assert document.text == (
        "[2023-11-14 22:13] Ida Moe: Who has the drill?\n[2023-11-14 22:15] bo: Ida Moe it is\n  in the van\n"
    )
    assert load(tmp_path, "b.json", json.dumps(DISCORD)).text == "[2024-03-01 18:05] ida: Hi\n"
    assert load(tmp_path, "c.json", json.dumps(TELEGRAM)).text == "[2024-03-01 18:05] Ida: See this\n"


@pytest.mark.parametrize(
    "value",
    [
        [{"date": "2024-03-01", "text": "no sender"}],
        {"messages": 3, "date": 1, "text": "x"},
        [{"ts": "never", "text": "x", "user": "a"}],
        [{"ts": 1e300, "text": "x", "user": "a"}],
    ],
)
def test_other_json_is_read_as_it_is(tmp_path, value):
    document = load(tmp_path, "a.json", json.dumps(value))
    assert (document.text, document.kind) == (json.dumps(value), "code")


# ---------------------------------------------------------------------------------------------------------- any bytes


@max_examples(60)
@given(
    st.sampled_from([read_calendar, read_latex, read_bibliography, read_asciidoc, read_org, read_feed]),
    st.text(alphabet=st.sampled_from(list("ab1 \n\\{}[]()&%$|=*.:;,#-<>/@\"'+~^_")), max_size=200),
)
def test_no_text_breaks_a_reader(tmp_path_factory, reader, text):
    document = reader(text.encode(), tmp_path_factory.getbasetemp() / "a.txt")
    assert isinstance(document.text, str)
