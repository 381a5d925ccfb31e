"""Files that are read in other processes: as in this one, and within bounds."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from leanrag.documents.loading import load_file
from leanrag.documents.parsing import FileParser
from leanrag.errors import DocumentError, MissingDependencyError
from tests.documents.formats.files import encrypted_pdf, pdf, slides, word


@pytest.fixture
def parser():
    with FileParser(processes=2) as parser:
        yield parser


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.slow
def test_files_are_read_as_in_this_process(tmp_path, parser):
    files = [
        write(tmp_path, "a.pdf", pdf(["Apples."], ["Pears."])),
        write(tmp_path, "b.docx", word()),
        write(tmp_path, "c.pptx", slides()),
        write(tmp_path, "d.md", "---\ntags: [a, b]\nday: 2026-03-05\n---\n# Café\ud800".encode("utf-8", "replace")),
    ]
    results = [parser.submit(file, default_title="T", encoding="utf-8") for file in files]
    assert [result.result() for result in results] == [load_file(file, default_title="T") for file in files]


def test_an_error_of_a_file_is_its_own(tmp_path, parser):
    bad = parser.submit(write(tmp_path, "a.pdf", encrypted_pdf()))
    good = parser.submit(write(tmp_path, "b.pdf", pdf(["Apples."])))
    with pytest.raises(DocumentError, match="is encrypted") as caught:
        bad.result()
    assert caught.value.path == tmp_path / "a.pdf"
    assert good.result().text == "Apples.\n"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder before all others on the path of the child processes."""
    folder = tmp_path / "site"
    (folder / "striprtf").mkdir(parents=True)
    (folder / "striprtf" / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

    def parse(code):
        text = f"def rtf_to_text(text, **_):\n{textwrap.indent(code, '    ')}\n"
        (folder / "striprtf" / "striprtf.py").write_text(text, encoding="utf-8")

    return parse


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("while 'slow' in text: pass\nreturn text", "it took more than 5 seconds"),
        ("import os\nif 'slow' in text: os._exit(9)\nreturn text", "the process that read it ended"),
        ("if 'slow' in text: bytearray(2 ** 40)\nreturn text", "needs more memory than a file may take"),
        ("print('noise' * 10000, flush=True)\nif 'slow' in text: raise ZeroDivisionError\nreturn text", "is damaged"),
    ],
)
@pytest.mark.slow
def test_a_file_that_takes_too_much_fails_alone(tmp_path, site, code, message):
    site(code)
    slow, sound = write(tmp_path, "slow.rtf", b"{\\rtf slow}"), write(tmp_path, "b.rtf", b"{\\rtf b}")
    with FileParser(processes=1, seconds=5 if "while" in code else 300) as parser:
        result = parser.submit(slow)
        with pytest.raises(DocumentError, match=message) as caught:
            result.result()
        parser._seconds = 300  # a busy machine needs seconds for a new process
        assert parser.submit(sound).result().text == "{\\rtf b}\n"
    assert caught.value.path == slow
    assert "slow.rtf" in str(caught.value)


@pytest.mark.slow
def test_a_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [name for name in sys.path if "site-packages" not in name])
    code = "import sys; from importlib.util import find_spec; sys.exit(find_spec('striprtf') is not None)"
    if subprocess.run([sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": ""}, check=False).returncode:
        pytest.skip("the library is part of this Python")
    with FileParser(processes=1) as parser, pytest.raises(MissingDependencyError, match=r"leanrag\[files\]") as caught:
        parser.submit(write(tmp_path, "a.rtf", b"{\\rtf a}")).result()
    assert caught.value.extra == "files"


def test_closing_ends_what_is_being_read(tmp_path, site):
    site("while True: pass")
    parser = FileParser(processes=1)
    results = [parser.submit(write(tmp_path, f"{name}.rtf", b"{\\rtf}")) for name in "ab"]
    parser.close()
    parser.close()
    assert all(result.cancelled() or isinstance(result.exception(), DocumentError) for result in results)
