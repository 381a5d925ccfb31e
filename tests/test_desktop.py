"""The desktop application, driven on a virtual screen with stand-ins for the models."""

import functools
import os
import re
import time

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError)

from PySide6.QtCore import QDeadlineTimer, QEvent, QEventLoop, QPoint, Qt, QUrl
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

import leanrag
from examples.desktop.library import Library
from examples.desktop.window import Window, to_html
from leanrag import CancelToken
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Citation, Document, Mark
from tests.stories import NILE, PARK, RIGHT

pytestmark = pytest.mark.slow  # imports Qt

MARKUP = "<b>Bananas</b> &amp; <img src='http://example.org/x.png'> grow in Brazil since 1999."


@pytest.fixture(scope="module")
def application():
    return QApplication.instance() or QApplication([])


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "documents"
    folder.mkdir()
    for name, text in (("park.txt", PARK), ("nile.txt", NILE), ("bananas.txt", MARKUP)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def opening(reply=RIGHT, **options):
    return functools.partial(leanrag.open, model=FakeModel(reply, **options), embedder=HashEmbedder())


@pytest.fixture
def show(application, documents, tmp_path):
    """Show a window whose dialog chooses the folder of documents; `is_known`: the folder has been indexed before."""
    windows = []

    def show(open_rag=None, *, is_known=False):
        open_rag = open_rag or opening()
        if is_known:
            library = Library(documents, tmp_path / "home", open_rag)
            library.rag.sync(documents)
            library.close()
        window = Window(tmp_path / "home", open_rag=open_rag, pick_folder=lambda: str(documents))
        window.show()
        windows.append(window)
        if is_known:
            click(window.choose)
            wait(window.question.isEnabled)  # the files are looked at meanwhile
        return window

    yield show
    for window in windows:
        window.shut_down()
        window.deleteLater()  # now and here: the garbage collector may run on another thread, and only this one may delete widgets
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def wait(condition):
    """Let the window work until a condition holds."""
    deadline = QDeadlineTimer(300_000)
    while not condition():
        assert not deadline.hasExpired(), "the window never came to it"
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents, deadline)


def click(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def ask(window, question):
    window.question.setText(question)
    QTest.keyClick(window.question, Qt.Key.Key_Return)
    wait(lambda: window.send.text() == "&Ask")


def first_link(browser):
    """Return a point on the first link of a text."""
    browser.moveCursor(browser.textCursor().MoveOperation.Start)
    points = (QPoint(x, y) for y in range(0, browser.height(), 4) for x in range(0, browser.width(), 4))
    return next(point for point in points if browser.anchorAt(point))


def test_a_question_is_answered_and_its_passage_shown(show):
    window = show(is_known=True)
    ask(window, "Who signs off the releases?")
    first_line = window.answer.toPlainText().splitlines()[0]
    assert re.fullmatch(rf"{RIGHT[:-1]} \[\d\]\.", first_line)
    assert window.note.text().startswith("fake, ")
    QTest.mouseClick(window.answer.viewport(), Qt.MouseButton.LeftButton, pos=first_link(window.answer))
    wait(lambda: window.where.text() != "")
    assert window.where.text() == "park.txt"
    assert window.passage.toPlainText() == PARK
    assert highlighted(window.passage) == RIGHT


def highlighted(view):
    """Return the text with a background."""
    found, block = "", view.document().begin()
    while block.isValid():
        for piece in block:
            found += piece.fragment().text() * (
                piece.fragment().charFormat().background().style() != Qt.BrushStyle.NoBrush
            )
        block = block.next()
    return found


def test_markup_in_documents_is_text(show):
    window = show(opening(MARKUP), is_known=True)
    ask(window, "Where do bananas grow?")
    assert MARKUP[:-1] in window.answer.toPlainText()
    window.open_citation(QUrl("#0"))
    wait(lambda: window.where.text() != "")
    assert window.passage.toPlainText() == MARKUP


class Waiting(FakeModel):
    """Writes two words, and waits until it is cancelled."""

    def stream(self, prompt, options):
        self.cancel = options.cancel
        return super().stream(prompt, options)

    def _say(self, rendered):
        yield from ("word ", "word ")
        while not self.cancel.cancelled:
            time.sleep(0.01)
        yield "word "


def test_an_answer_is_streamed_and_stopped(show):
    window = show(functools.partial(leanrag.open, model=Waiting(), embedder=HashEmbedder()), is_known=True)
    QTest.keyClicks(window.question, "Who signs off the releases?")
    click(window.send)
    assert window.send.text() == "&Cancel"
    wait(lambda: "word word" in window.answer.toPlainText())
    click(window.send)
    wait(lambda: window.send.text() == "&Ask")
    assert window.note.text() == "Stopped."
    assert window.answer.toPlainText().count("word") == 2


class WaitingEmbedder(HashEmbedder):
    """Embeds documents when a file is there."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def embed_documents(self, texts):
        while not self.path.exists():
            time.sleep(0.01)
        return super().embed_documents(texts)


def test_indexing_that_is_stopped_goes_on_later(show, documents, tmp_path):
    for i in range(150):  # more than what is embedded together
        (documents / f"{i}.txt").write_text(f"Release {i} is next.", encoding="utf-8")
    (documents / "broken.txt").write_bytes(b"\xff\xfe\x00")
    embedder = WaitingEmbedder(tmp_path / "go")
    window = show(functools.partial(leanrag.open, model=FakeModel(RIGHT), embedder=embedder))
    assert not window.question.isEnabled()
    click(window.choose)
    wait(lambda: window.progress.maximum() == 154)
    click(window.stop)
    wait(window.choose.isEnabled)
    assert window.status.text() == "Stopped. What was read is kept; choose the folder again to go on."
    embedder.path.touch()
    click(window.choose)
    wait(window.choose.isEnabled)
    assert window.status.text() == "Documents: 153, could not be read: 1"
    assert "broken.txt" in window.status.toolTip()
    assert (window.progress.value(), window.progress.maximum()) == (154, 154)
    assert not window.progress.isVisible()


def test_a_question_that_cannot_be_answered_is_refused(show):
    window = show(is_known=True)
    ask(window, "word " * 3000)
    assert "tokens" in window.note.text()
    assert window.answer.toPlainText() == ""


def test_a_window_that_is_closed_leaves_nothing_behind(show):
    window = show(opening("word " * 1000, token_seconds=0.001), is_known=True)
    QTest.keyClicks(window.question, "Who signs off the releases?")
    click(window.send)
    window.shut_down()
    assert not window.isVisible()


def test_a_library_says_why_it_cannot_index(tmp_path):
    library = Library(tmp_path / "absent", tmp_path / "home", opening())
    with pytest.raises(RuntimeError, match="absent"):
        library.index(lambda _done, _total: None)
    library.close()


def test_a_passage_is_shown_with_its_page(documents, tmp_path):
    pages = ("Contents\n\n", "Permits are signed by Ada Park.\n\n", "Keys are kept by Bo Lind.\n")
    marks = tuple(Mark(sum(map(len, pages[:i])), f"page {i + 1}") for i in range(3))
    document = Document("".join(pages), id="handbook", title="Handbook", marks=marks)
    library = Library(documents, tmp_path / "home", opening("Permits are signed by Ada Park."))
    library.rag.add(document)
    answer = library.ask("Who signs permits?", CancelToken()).answer
    passage = library.find(answer.citations[0])
    assert (passage.title, passage.location) == ("Handbook", "page 2")
    assert passage.before + passage.quote + passage.after == pages[1]
    assert to_html(answer).startswith('<p>Permits are signed by Ada Park <a href="#0">[1]</a>.</p><hr>')
    library.close()


def test_little_of_a_book_is_shown(documents, tmp_path):
    text = "x" * 100_000 + PARK + "y" * 100_000
    library = Library(documents, tmp_path / "home", opening())
    library.rag.add(Document(text, id="book", title="Book"))
    quote = Citation(1, "book", "Book", None, 100_000, 100_000 + len(PARK), PARK, 1.0)
    passage = library.find(quote)
    assert passage.quote == PARK
    assert (len(passage.before), len(passage.after)) == (8_000, 8_000)
    library.close()
