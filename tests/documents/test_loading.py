from __future__ import annotations

import gzip
import os
import sys
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.documents.loading import can_load, find_files, load_file
from leanrag.errors import ConfigurationError, DocumentError
from leanrag.types import Document
from tests.examples import max_examples

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


def test_files_that_git_ignores_are_left_out(tmp_path):
    write(tmp_path, ".gitignore", "*.log\n/build/\n!keep.log\nnotes/*.tmp.md\n")
    write(tmp_path, "deep/.gitignore", "!x.log\nsecret.md\n")
    files = ["a.md", "x.log", "keep.log", "build/b.md", "deep/build/c.md", "deep/x.log", "deep/secret.md", "secret.md",
             "notes/d.tmp.md", "notes/d.md"]  # fmt: skip
    for name in files:
        write(tmp_path, name)
    assert names(tmp_path) == ["a.md", "deep/build/c.md", "deep/x.log", "keep.log", "notes/d.md", "secret.md"]
    assert len(list(find_files(tmp_path, gitignore=False))) == len(files)


def test_files_can_be_excluded(tmp_path):
    for name in ("a.md", "b.md", "deep/b.md"):
        write(tmp_path, name)
    found = find_files(tmp_path, exclude=lambda path: path.name == "b.md")
    assert [path.name for path in found] == ["a.md"]


def test_deep_folders_are_listed_in_little_time(tmp_path):
    folder = tmp_path
    for _ in range(700):
        folder = folder / "d"
    folder.mkdir(parents=True)
    (folder / "a.md").write_text("words", encoding="utf-8")
    assert [path.name for path in find_files(tmp_path)] == ["a.md"]


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


@max_examples(50)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_text_is_exactly_what_was_decoded(tmp_path_factory, text):
    path = write(tmp_path_factory.mktemp("docs"), "a.txt", "x" + text)
    assert load_file(path).text == "x" + text


UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


@pytest.mark.parametrize("name", ["a.txt", "README"])
@pytest.mark.parametrize("encoding", UNICODE)
def test_unicode_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding, name):
    path = write(tmp_path, name, "Zürich is open\r\n二\n".encode(encoding))
    assert load_file(path).text == "Zürich is open\r\n二\n"
    assert can_load(path)


@pytest.mark.parametrize(
    ("name", "text", "encoding"),
    [
        ("a.html", '<meta charset="iso-8859-1"><p>Die Gebühr</p>', "latin-1"),
        ("a.htm", "<META content='text/html; charset=windows-1252' http-equiv=content-type><p>“Gebühr”", "cp1252"),
        ("a.html", '<meta charset="latin1"><p>5 €', "cp1252"),
        ("b.html", '<meta http-equiv="Content-Type" content="text/html; charset=Shift_JIS"><p>料金</p>', "shift_jis"),
        ("c.html", '<meta charset="iso-2022-jp"><p>料金</p>', "iso-2022-jp"),
        ("c.html", '<meta charset="gb2312"><p>费用</p>', "gbk"),
        ("d.xml", '<?xml version="1.0" encoding="ISO-8859-15"?><a>5 € Gebühr</a>', "iso-8859-15"),
        ("e.py", "# -*- coding: latin-1 -*-\nname = 'Gebühr'\n", "latin-1"),
        ("f.py", "#!/usr/bin/python\n# vim: set fileencoding=koi8-r :\nname = 'цена'\n", "koi8-r"),
        ("g.css", '@charset "windows-1251"; /* цена */', "cp1251"),
        ("README", "# coding: big5\n費用\n", "big5"),
        ("h.html", '<meta charset="iso-8859-1"><p>Die Gebühr</p>', "utf-8"),  # a false declaration
    ],
)  # fmt: skip
def test_declared_encodings_are_used(tmp_path, name, text, encoding):
    path = write(tmp_path, name, text.encode(encoding))
    words = "".join(character for character in text if ord(character) > 127)
    assert can_load(path)
    assert "".join(character for character in load_file(path).text if ord(character) > 127) == words


def test_the_caller_can_name_the_encoding(tmp_path):
    path = write(tmp_path, "a.txt", "Gebühr".encode("cp1252"))
    with pytest.raises(DocumentError, match="encoding='cp1252'"):
        load_file(path)
    assert load_file(path, encoding="windows-1252").text == "Gebühr"
    assert load_file(write(tmp_path, "b.txt", "Gebühr".encode("utf-8-sig")), encoding="cp1252").text == "Gebühr"
    for wrong in ("klingon", "rot13", "a\0b"):
        with pytest.raises(ConfigurationError, match="`encoding` must be the name of a text encoding"):
            load_file(path, encoding=wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9", "not UTF-8: byte 0xe9 at offset 3. Save it as UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9", "not UTF-8: byte 0xe9 at offset 6"),
        (b"\xff\xfea\x00b", "not UTF-16: byte 0x62 at offset 4"),
        (b"\xff\xfe\x00\x00a\x00", "not UTF-32: byte 0x61 at offset 4"),
        (b"abc\0def", "not a text file: it contains a NUL byte at offset 3"),
        (b"\xff\xfea\x00\x00\x00", "not a text file: it contains a NUL character"),
        (b"", "contains no text"),
        (b" \n\t\xc2\xa0", "contains no text"),
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


@pytest.mark.parametrize("name", ["a.doc", "a.PPT", "a.xls", "a.msg"])
def test_formats_that_are_not_read_say_so(tmp_path, name):
    path = write(tmp_path, name)
    with pytest.raises(DocumentError, match="files are not read"):
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


def test_a_reader_of_the_caller_reads_its_suffix(tmp_path):
    def read_backwards(data, path, encoding):
        return Document(data.decode(encoding or "utf-8")[::-1], id="ignored", title="Backwards")

    path = write(tmp_path, "a.back", "cba")
    document = load_file(path, readers={".back": read_backwards})
    assert (document.text, document.title, document.id) == ("abc", "Backwards", path.resolve().as_posix())
    assert can_load(path, readers={".back": read_backwards})


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), RecursionError("too deep"), KeyError("x")])
def test_any_error_of_a_reader_is_the_error_of_its_file(tmp_path, error):
    def read(data, path, encoding):
        raise error

    path = write(tmp_path, "a.back", "cba")
    with pytest.raises(DocumentError, match=rf"is damaged or not of the format .*{type(error).__name__}") as caught:
        load_file(path, readers={".back": read})
    assert (caught.value.path, caught.value.__cause__) == (path.resolve(), error)


def test_a_reader_that_needs_too_much_memory_says_so(tmp_path):
    def read(data, path, encoding):
        raise MemoryError

    with pytest.raises(DocumentError, match="needs more memory than a file may take"):
        load_file(write(tmp_path, "a.back", "cba"), readers={".back": read})


def test_the_title_of_the_file_comes_before_its_name(tmp_path):
    page = write(tmp_path, "a.html", "<title>Refund policy</title><p>Thirty days.</p>")
    assert load_file(page).title == load_file(page, default_title="deep/a.html").title == "Refund policy"
    assert load_file(page, title="Mine").title == "Mine"
    assert load_file(write(tmp_path, "b.html", "<p>x</p>"), default_title="deep/b.html").title == "deep/b.html"


# Compressed files


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.md.gz", "# Title\n\nText.", "markdown"),
        ("A.PY.GZ", "x = 1\n", "code"),
        ("app.log.gz", "lines\n", "text"),
        ("b.gz", "b", "text"),
    ],
)
def test_the_suffix_before_gz_chooses_the_reader(tmp_path, name, content, kind):
    path = write(tmp_path, name, gzip.compress(content.encode(), mtime=0))
    document = load_file(path)
    assert (document.text, document.kind) == (content, kind)
    assert (document.id, document.source) == (path.resolve().as_posix(), str(path.resolve()))
    assert can_load(path)


@given(st.lists(st.text("aé東.\r\n", min_size=1), min_size=1, max_size=3))
def test_a_compressed_text_is_the_text(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("compressed") / "a.txt.gz"
    path.write_bytes(
        b"".join(gzip.compress(part.encode(), mtime=0) for part in [*parts, "."])
    )  # gzip allows several in one file
    assert load_file(path).text == "".join([*parts, "."])


def test_a_compressed_file_that_unpacks_to_too_much_is_refused(tmp_path):
    path = write(tmp_path, "a.txt.gz", gzip.compress(b"x" * 2001, mtime=0))
    assert len(load_file(path, max_bytes=2001).text) == 2001
    with pytest.raises(DocumentError, match="more than 2,000 bytes when it is unpacked"):
        load_file(path, max_bytes=2000)
    bomb = write(tmp_path, "b.txt.gz", gzip.compress(b"0" * 10**8, compresslevel=1, mtime=0))
    tracemalloc.start()
    with pytest.raises(DocumentError, match="more than 1,000,000 bytes when it is unpacked"):
        load_file(bomb, max_bytes=10**6)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@given(st.data())
@max_examples(60)
def test_a_damaged_compressed_file_is_the_text_or_an_error(tmp_path_factory, data):
    text = "The bridge opened in 1932. " * 20
    packed = bytearray(gzip.compress(text.encode(), mtime=0))
    at = data.draw(st.integers(0, len(packed) - 1))
    if data.draw(st.booleans()):
        packed[at] ^= data.draw(st.integers(1, 255))
    else:
        del packed[at:]
    path = tmp_path_factory.mktemp("damaged") / "a.txt.gz"
    path.write_bytes(packed)
    try:
        assert load_file(path).text == text  # a byte of the header may say anything
    except DocumentError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pdf.gz", b"%PDF-1.4", r"contains a \.pdf file.*Unpack it"),
        ("a.doc.gz", b"\xd0\xcf", r"contains a \.doc file.*Unpack it"),
        ("a.tar.gz", b"name\0\0\0", "not a text file"),
        ("a.md.gz.gz", gzip.compress(b"text", mtime=0), "not"),
    ],
)
def test_only_text_is_read_from_compressed_files(tmp_path, name, content, message):
    path = write(tmp_path, name, gzip.compress(content, mtime=0))
    assert not can_load(path)
    with pytest.raises(DocumentError, match=message):
        load_file(path)


def test_what_gzip_did_not_make_is_refused(tmp_path):
    for name in ("a.txt.gz", "a.gz"):
        path = write(tmp_path, name, "plain text")
        assert can_load(path)
        with pytest.raises(DocumentError, match=r"damaged or not a gzip file.*add the original"):
            load_file(path)


def test_a_reader_of_the_caller_reads_compressed_files(tmp_path):
    path = write(tmp_path, "a.txt.gz", gzip.compress(b"text", mtime=0))
    readers = {".gz": lambda data, path, encoding: Document(f"{len(data)} bytes", id="a")}
    assert load_file(path, readers=readers).text == f"{path.stat().st_size} bytes"
    assert (
        load_file(path, readers={".txt": lambda data, path, encoding: Document(data.decode(), id="a")}).text == "text"
    )
