from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrag.documents.loading import can_load, find_files, html_to_text, load_file
from leanrag.errors import ConfigurationError, DocumentError

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX files")


def write(folder, name, content="words"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def names(folder):
    return [path.relative_to(folder).as_posix() for path in find_files(folder)]


# ------------------------------------------------------------------------------------------------------------- folders


def test_files_come_sorted_and_without_hidden_or_junk(tmp_path):
    for name in [
        "b.md", "a/z.txt", "a/b/c.py", "a.txt", "Ä.txt", ".hidden.md", ".git/config", "node_modules/x.js",
        "a/__pycache__/c.pyc", ".venv/lib/x.py", "~$lock.txt", "Thumbs.db",
    ]:  # fmt: skip
        write(tmp_path, name)
    assert names(tmp_path) == ["a/b/c.py", "a/z.txt", "a.txt", "b.md", "Ä.txt"]


def test_a_file_comes_alone_even_when_hidden(tmp_path):
    path = write(tmp_path, ".notes")
    assert list(find_files(path)) == [path]
    assert list(find_files(str(path))) == [path]


def test_a_missing_folder_is_an_error_at_once(tmp_path):
    with pytest.raises(DocumentError, match=r"cannot read .*gone") as caught:
        find_files(tmp_path / "gone")
    assert caught.value.path == tmp_path / "gone"
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@needs_posix
def test_links_are_followed_once_and_loops_end(tmp_path):
    write(tmp_path, "docs/a.txt")
    write(tmp_path, "outside/b.txt")
    kb = tmp_path / "docs"
    (kb / "loop").symlink_to(kb)
    (kb / "more").symlink_to(tmp_path / "outside")
    (kb / "again").symlink_to(tmp_path / "outside")
    (kb / "same.txt").symlink_to(kb / "a.txt")
    (kb / "broken").symlink_to(tmp_path / "nowhere")
    (kb / "self").symlink_to(kb / "self")
    assert names(kb) == ["a.txt", "again/b.txt"]


@needs_posix
def test_pipes_are_neither_listed_nor_opened(tmp_path):
    write(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    assert names(tmp_path) == ["a.txt"]
    with pytest.raises(DocumentError, match="pipe, socket or device"):
        load_file(tmp_path / "pipe.txt")  # opening it would wait for ever
    with pytest.raises(DocumentError, match="neither a file nor a folder"):
        find_files(tmp_path / "pipe.txt")


def test_a_folder_that_cannot_be_listed_is_reported_and_the_rest_comes(tmp_path, monkeypatch, caplog):
    write(tmp_path, "a/x.txt")
    write(tmp_path, "b/y.txt")
    scandir = os.scandir

    def deny(path):
        if os.fspath(path).endswith("a"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    errors = []
    assert [path.name for path in find_files(tmp_path, on_error=errors.append)] == ["y.txt"]
    assert [error.path for error in errors] == [tmp_path / "a"]
    assert [path.name for path in find_files(tmp_path)] == ["y.txt"]
    assert "cannot list the folder" in caplog.text


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.txt", "text"), ("a.MD", "markdown"), ("a.rst", "markdown"), ("a.html", "markdown"), ("a.py", "code"),
     ("a.yaml", "code"), ("README", "text"), ("a.unknown", "text")],
)  # fmt: skip
def test_the_suffix_chooses_the_kind(tmp_path, name, kind):
    assert load_file(write(tmp_path, name)).kind == kind


def test_identity_is_the_resolved_path(tmp_path):
    path = write(tmp_path, "a/notes.txt")
    document = load_file(tmp_path / "a" / ".." / "a" / "notes.txt")
    assert document.id == path.resolve().as_posix()
    assert document.source == str(path.resolve())
    assert document.title == "notes.txt"
    assert load_file(path, title="Notes").title == "Notes"
    assert load_file(path, title="").title == ""


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_text_is_exactly_what_was_decoded(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("docs"), "a.txt", "x" + text)
    assert load_file(path).text == "x" + text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood_and_dropped(tmp_path, encoding):
    path = write(tmp_path, "a.txt", "Zürich\r\n二\n".encode(encoding))
    assert load_file(path).text == "Zürich\r\n二\n"
    assert can_load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9", "not UTF-8: byte 0xe9 at offset 3. Save it as UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8: byte 0xe9 at offset 6"),
        (b"\xff\xfea\x00b", "not UTF-16: byte 0x62 at offset 4"),
        (b"abc\0def", "not a text file: it holds a NUL byte at offset 3"),
        (b"\xff\xfea\x00\x00\x00", "not a text file: it holds a NUL character"),
        (b"", "holds no text"),
        (b" \n\t\xc2\xa0", "holds no text"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, content, message):
    path = write(tmp_path, "a.txt", content)
    with pytest.raises(DocumentError) as caught:
        load_file(path)
    assert message in str(caught.value)
    assert str(path.resolve()) in str(caught.value)
    assert caught.value.path == path.resolve()


def test_a_large_file_is_refused_with_both_sizes(tmp_path):
    path = write(tmp_path, "a.txt", "x" * 2001)
    with pytest.raises(DocumentError, match="2,001 bytes, at most 2,000"):
        load_file(path, max_bytes=2000)
    assert len(load_file(path, max_bytes=2001).text) == 2001
    with pytest.raises(ConfigurationError, match="max_bytes"):
        load_file(path, max_bytes=0)


@pytest.mark.parametrize("name", ["a.pdf", "a.DOCX", "a.xlsx", "a.epub", "a.rtf"])
def test_formats_that_are_not_read_say_so(tmp_path, name):
    path = write(tmp_path, name)
    with pytest.raises(DocumentError, match="not read in this version"):
        load_file(path)
    assert not can_load(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DocumentError, match="cannot read") as caught:
        load_file(tmp_path / "gone.txt")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(DocumentError, match="cannot read"):
        load_file(tmp_path / "gone.pdf")
    with pytest.raises(DocumentError, match="is a folder"):
        load_file(tmp_path)
    with pytest.raises(DocumentError, match="cannot read"):
        load_file("a\0b")


@needs_posix
def test_a_loop_of_links_is_an_error(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "a.txt")
    with pytest.raises(DocumentError, match="cannot read"):
        load_file(tmp_path / "a.txt")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_an_error(tmp_path):
    path = write(tmp_path, "a.txt")
    path.chmod(0)
    with pytest.raises(DocumentError, match="cannot read") as caught:
        load_file(path)
    assert isinstance(caught.value.__cause__, PermissionError)


def test_unknown_suffixes_are_sniffed(tmp_path):
    assert can_load(write(tmp_path, "LICENSE", "text"))
    assert can_load(write(tmp_path, "long.xyz", "é" * 8000 + "x"))  # a character is cut by the sniffed head
    assert can_load(write(tmp_path, "long2.xyz", "x" + "é" * 8000))
    assert not can_load(write(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n\0"))
    assert not can_load(write(tmp_path, "a.bin", b"ab\0"))
    assert can_load(tmp_path / "gone.bin")  # load_file says why


# ---------------------------------------------------------------------------------------------------------------- HTML


def test_html_becomes_markdown(tmp_path):
    html = """<!DOCTYPE html><html><head><title>T</title><style>p{color:red}</style></head><body>
    <nav>Menu <nav>deep</nav> more</nav><!-- <p>comment</p> -->
    <h2 id=x>Caf&eacute;
      &amp; <b>Bar</b><a class="headerlink" href="#x">\xb6</a></h2>
    <p title="a > b">One&nbsp;two, 1 < 2,<br>next <em>it</em>al.</p>
    <ol start="3"><li>first<ul><li>inner</li></ul></li><li><p>second</p></li></ol>
    <pre><code>def <i>f</i>():
    # no heading
</code></pre>
    <table><tr><th>A</th><th>B</th></tr><tr><td><p>1</p></td><td>two<br>lines</td></tr></table>
    <script>document.write("<p>no</p>")</script>end</body></html>"""
    document = load_file(write(tmp_path, "a.html", html))
    assert document.kind == "markdown"
    assert document.text == (
        "## Café & Bar\n\n"
        "One two, 1 < 2,\nnext ital.\n\n"
        "3. first\n  - inner\n4. second\n\n"
        "```\ndef f():\n    # no heading\n```\n\n"
        "| A | B |\n| --- | --- |\n| 1 | two lines |\n\n"
        "end\n"
    )


def test_a_table_that_lays_out_a_page_is_read_as_blocks():
    html = "<table><tr><td><h1>Title</h1><p>Body</p></td><td>side</td></tr></table>"
    assert html_to_text(html) == "# Title\n\nBody\n\nside\n"


def test_a_fence_is_longer_than_those_it_holds():
    assert html_to_text("<pre>```\nx\n```</pre>") == "````\n```\nx\n```\n````\n"


def test_a_page_without_text_is_an_error(tmp_path):
    with pytest.raises(DocumentError, match="holds no text"):
        load_file(write(tmp_path, "a.html", "<p><script>var x = 1</script></p>"))


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<ul><li>a<li>b", "- a\n- b\n"),
        ("<p>a<p>b<h1>c", "a\n\nb\n\n# c\n"),
        ("<table><tr><td>a<td>b<tr><td>c", "| a | b |\n| c |\n"),
        ("x</div></table></td></ul></pre>y", "x\n\ny\n"),
        ("<![if mso]>a<![endif]><?php x ?>b", "ab\n"),
        ("a<p class='x", "a\n"),
        ("<p class='x>a</p><p>b</p>", "a\n\nb\n"),
        ("a <!-- b", "a\n"),
        ("<pre>a", "```\na\n```\n"),
        ("", ""),
    ],
)
def test_broken_html_is_forgiven(html, text):
    assert html_to_text(html) == text


@pytest.mark.parametrize(
    "part", ["<a ", "<", "<table>", "<table><tr><td>", "<ul><li>", "<!--", '<a ">"', "</script ", "<nav>", "&", "<a '>"]
)
def test_hostile_html_is_read_in_linear_time(part):
    html_to_text("<script>" * (part == "</script ") + part * 20_000)  # were it quadratic, this would take minutes


@given(
    st.lists(
        st.sampled_from(
            "<p> <h1> <td> <tr> <table> </table> <pre> </pre> <li> <ul> </ul> <nav> </nav> a # ' \"".split()
        )
    )
)
def test_any_html_is_read(parts):
    text = html_to_text(" ".join(parts))
    assert "<p>" not in text
    if "<nav>" not in parts and "<" in "".join(parts):
        assert text.count("a") == parts.count("a")
