"""Pages of PDF files as pictures: of a bounded size, of the right page, and without harm from bad files."""

import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("pypdfium2")

from leanrag import DocumentError
from leanrag.documents import load_file, pictures
from leanrag.documents.pictures import draw_page, find_page
from leanrag.types import Document, Mark
from tests.documents.formats.files import pdf


def pixels_of(png):
    """Return the pixels of a PNG file, read by the rules of its specification."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    blocks, position = {}, 8
    while position < len(png):
        (length,) = struct.unpack_from(">I", png, position)
        name, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", png, position + 8 + length) == (zlib.crc32(name + data),)
        blocks[name], position = data, position + 12 + length
    width, height, *kind = struct.unpack(">IIBBBBB", blocks[b"IHDR"])
    assert kind == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(blocks[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "manual.pdf"
    path.write_bytes(pdf(["Contents"], [], ["Ada Park signs all permits."]))
    return path


def test_the_page_of_an_offset(path):
    document = load_file(path)
    assert [find_page(document, document.text.index(word)) for word in ("Contents", "permits")] == [1, 3]
    marks = (Mark(0, "page 1"),)
    assert find_page(Document("Ada", id="a", marks=marks), 0) is None
    assert find_page(Document("Ada", id="a", source="/a.pptx", marks=(Mark(0, "slide 1"),)), 0) is None
    assert find_page(Document("Ada", id="a", source="/a.pdf"), 0) is None


@pytest.mark.slow
def test_a_page_is_drawn(path):
    document = load_file(path)
    first, third = (pixels_of(draw_page(document, page)) for page in (1, 3))
    assert first.shape == third.shape
    height, width, _ = third.shape
    assert width <= 1000
    assert height <= 1400
    assert max(width / 1000, height / 1400) > 0.99
    assert np.median(third) == 255  # paper
    assert (third < 100).sum() > (first < 100).sum() > 100  # letters: more of them on the third page


@pytest.mark.parametrize("box", ["0 0 3 14000", "0 0 14000 3", "0 0 14000 14000"])
@pytest.mark.slow
def test_a_page_of_any_size_gives_a_picture_of_a_bounded_size(path, box):
    data = path.read_bytes()
    assert b"/MediaBox [0 0 600 800]" in data
    path.write_bytes(data.replace(b"/MediaBox [0 0 600 800]", f"/MediaBox [{box}]".encode()))
    height, width, _ = pixels_of(draw_page(load_file(path), 1)).shape
    assert 1 <= width <= 1000
    assert 1 <= height <= 1400


@pytest.mark.slow
def test_a_file_that_changed_is_not_shown(path):
    document = load_file(path)
    path.write_bytes(pdf(["Contents"], [], ["A secret."]))
    with pytest.raises(DocumentError, match=r"Page 3 .* has changed since it was added"):
        draw_page(document, 3)
    path.write_bytes(pdf(["Contents"]))
    with pytest.raises(DocumentError, match="has changed"):
        draw_page(document, 3)


@pytest.mark.slow
def test_a_file_that_is_gone_or_broken_is_said(path):
    document = load_file(path)
    path.write_bytes(b"%PDF-1.7 nothing")
    with pytest.raises(DocumentError, match="PdfiumError"):
        draw_page(document, 1)
    path.unlink()
    with pytest.raises(DocumentError, match="FileNotFoundError"):
        draw_page(document, 1)


def test_a_page_that_takes_too_long_is_given_up(path, monkeypatch):
    monkeypatch.setattr(pictures, "_SECONDS", 0.0)
    with pytest.raises(DocumentError, match="more than 0 seconds"):
        draw_page(load_file(path), 1)
