from __future__ import annotations

import json
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrag.documents.chunking import DocumentChunker
from leanrag.documents.formats.markdown import front_matter, front_matter_end
from leanrag.documents.loading import load_file
from leanrag.errors import DocumentError
from leanrag.types import Document


def load(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_file(path)


# ---------------------------------------------------------------------------------------------------------- subtitles


def cues(*texts, seconds=2, gap=0.0, mark=","):
    def stamp(time):
        return f"{int(time // 3600):02d}:{int(time // 60 % 60):02d}:{time % 60:06.3f}".replace(".", mark)

    return "\n".join(
        f"{i + 1}\n{stamp(i * (seconds + gap))} --> {stamp(i * (seconds + gap) + seconds)}\n{text}\n"
        for i, text in enumerate(texts)
    )


def test_cues_are_joined_to_sentences(tmp_path):
    text = cues("The alpha launch was moved", "from May to the 3rd of June.", "<i>Nobody</i> knew.")
    document = load(tmp_path, "a.srt", text)
    assert document.kind == "text"
    assert document.text == "[00:00:00] The alpha launch was moved from May to the 3rd of June. Nobody knew.\n"
    assert load(tmp_path, "b.srt", text.replace("\n", "\r\n")).text == document.text
    assert load(tmp_path, "c.vtt", "WEBVTT\n\nNOTE none\n\n" + text.replace(",", ".")).text == document.text


def test_paragraphs_of_a_transcript_have_their_time(tmp_path):
    long = load(tmp_path, "a.srt", cues(*[f"Sentence {i}." for i in range(40)]))
    assert long.text.split("\n\n")[1].startswith("[00:00:32] Sentence 16. Sentence 17.")
    assert load(tmp_path, "b.srt", cues("One", "two.", seconds=2, gap=10)).text == "[00:00:00] One\n\n[00:00:12] two.\n"


def test_speakers_have_lines_of_their_own(tmp_path):
    text = "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>Is it on?\n\n00:02.000 --> 00:03.000\n- Yes.\n- No &amp; no.\n"
    assert load(tmp_path, "a.vtt", text).text == "[00:00:01] Ann: Is it on?\n- Yes.\n- No & no.\n"


def test_a_file_of_subtitles_without_cues_is_text(tmp_path):
    assert load(tmp_path, "a.srt", "Only words.\n").text == "Only words.\n"


# -------------------------------------------------------------------------------------------------------------- mails

MAIL = (
    b"From: a@example.com\nTo: b@example.com\nSubject: =?utf-8?q?F=C3=BCnf_keys?=\n"
    b"Date: Mon, 6 May 2024 10:00:00 +0000\n\nAda signs.\n"
)


def test_a_mail_has_its_fields_above_its_text(tmp_path):
    document = load(tmp_path, "a.eml", MAIL)
    assert document.title == "Fünf keys"
    assert document.text == (
        "From: a@example.com\nTo: b@example.com\nDate: Mon, 06 May 2024 10:00:00 +0000\nSubject: Fünf keys\n\nAda signs.\n"
    )


def test_the_plain_form_of_a_mail_is_read_and_attachments_are_named(tmp_path):
    message = EmailMessage()
    message["Subject"] = "Hi"
    message.set_content("Ada signs.")
    message.add_alternative("<p>Ada <b>signs</b> (HTML).</p>", subtype="html")
    message.add_attachment(b"\x00\x01", maintype="application", subtype="pdf", filename="a.pdf")
    assert load(tmp_path, "a.eml", bytes(message)).text == "Subject: Hi\n\nAda signs.\n\nAttachment: a.pdf\n"
    html = EmailMessage()
    html.set_content("<p>Ada <b>signs</b>.</p>", subtype="html")
    assert "Ada signs.\n" in load(tmp_path, "b.eml", bytes(html)).text


@pytest.mark.parametrize("charset", ["latin-1", "utf-8"])
def test_the_text_of_a_mail_has_its_own_encoding(tmp_path, charset):
    head = f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: 8bit\n\n".encode()
    assert "Gebühr" in load(tmp_path, "a.eml", head + "Gebühr\n".encode(charset)).text


def test_each_message_of_a_mailbox_has_its_subject_as_heading(tmp_path):
    box = (
        b"From a@example.com Mon May  6 10:00:00 2024\n"
        + MAIL
        + b"\nFrom b Mon May  6 11:00:00 2024\nSubject: B\n\n>From here on.\n"
    )
    document = load(tmp_path, "a.mbox", box)
    assert document.kind == "markdown"
    assert [line for line in document.text.splitlines() if line.startswith("#")] == ["# Fünf keys", "# B"]
    assert "Ada signs." in document.text
    assert document.text.endswith("\nFrom here on.\n")


@settings(deadline=None)
@given(
    data=st.binary(max_size=400),
    head=st.sampled_from(
        [b"Subject: x\n", MAIL[:-12], b"Subject: x\nContent-Type: multipart/mixed; boundary=x\n\n--x\n"]
    ),
)
def test_any_bytes_are_a_mail(tmp_path_factory, data, head):
    folder = tmp_path_factory.mktemp("mail")
    assert load(folder, "a.eml", head + data).text.endswith("\n")


# ---------------------------------------------------------------------------------------------------------- notebooks


def test_the_cells_of_a_notebook_are_markdown(tmp_path):
    picture = {"data": {"image/png": "iVBORw0KGgo" * 99}}
    cells = [
        {"cell_type": "markdown", "source": ["# Ada signs\n", "every day"]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"text": ["\x1b[31m1\x1b[0m\n"]}, picture]},
        {"cell_type": "code", "source": [], "outputs": []},
        {"cell_type": "raw", "source": "End."},
    ]
    notebook = {"cells": cells, "nbformat": 4, "metadata": {"language_info": {"name": "python"}}}
    document = load(tmp_path, "a.ipynb", json.dumps(notebook))
    assert document.kind == "markdown"
    assert document.text == "# Ada signs\nevery day\n\n```python\nprint(1)\n```\n\n```\n1\n```\n\nEnd.\n"


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000])
def test_a_broken_notebook_is_an_error(tmp_path, content):
    with pytest.raises(DocumentError, match="is a damaged notebook"):
        load(tmp_path, "a.ipynb", content)


# ------------------------------------------------------------------------------------------------------- front matter


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("end", ["---", "..."])
def test_front_matter_gives_title_and_metadata(tmp_path, newline, end):
    lines = [
        "---",
        "title: Refund policy",
        "year: 2024",
        "draft: false",
        "date: 2024-05-06",
        "tags: [a, b]",
        "by:",
        end,
        "",
        "Text.",
    ]
    document = load(tmp_path, "a.md", newline.join(lines))
    assert document.title == "Refund policy"
    assert document.metadata == {"year": 2024, "draft": False, "date": "2024-05-06", "tags": ["a", "b"], "by": None}
    assert document.text == newline.join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "Text.",
        "---\nText: no end.\n",
        "---\n\nA rule: above.\n\n---\n- [\n",
        "---\n[" * 99 + "\n---\n",
        "--- x\na: b\n---\n",
        "",
    ],
)
def test_what_is_not_front_matter_has_no_values(text):
    assert front_matter(text) == {} or text.startswith("---\n\n")


def test_a_rule_at_the_beginning_is_read_in_little_time():
    text = "---\r\n" + "Some line\r\n" * 20_000
    assert front_matter_end(text) == 0
    DocumentChunker(lambda text: len(text.split()) + 2).chunk(Document(text[:600], kind="markdown"))


@pytest.mark.parametrize("name", ["Subject", "To", "Content-Type", "Content-Disposition"])
def test_a_hostile_field_of_a_mail_costs_its_beginning_only(tmp_path, name):
    path = tmp_path / "a.eml"
    path.write_text(f"{name}: =?utf-8?{'=?' * 300_000}\n\nThe text.\n")
    assert "The text." in load_file(path).text


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Type: message/rfc822\n\n" * 3000,
        b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (i, i) for i in range(2000)),
    ],
    ids=["messages", "parts"],
)
@pytest.mark.slow
def test_a_mail_that_nests_too_deeply_is_an_error(tmp_path, head):
    (tmp_path / "deep.eml").write_bytes(head + b"Content-Type: text/plain\n\ntext\n")
    with pytest.raises(DocumentError, match="is damaged"):
        load_file(tmp_path / "deep.eml")
