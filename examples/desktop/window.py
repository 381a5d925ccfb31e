"""The window: it starts work, shows what comes of it, and waits for nothing."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QCloseEvent, QKeySequence, QShortcut, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

import leanrag
from examples.desktop.background import Background
from examples.desktop.library import Indexed, Library, OpenRag, Passage
from leanrag import Answer, CancelToken, GenerationCancelled

__all__ = ["Window"]


class Window(QWidget):
    """The main window.

    Args:
        home: Folder of the databases.
        open_rag: Opens a database.
        pick_folder: Asks the user for a folder; returns "" if the user changed their mind.
    """

    def __init__(
        self, home: Path, *, open_rag: OpenRag = leanrag.open, pick_folder: Callable[[], str] | None = None
    ) -> None:
        super().__init__()
        self._home, self._open_rag, self._pick_folder = home, open_rag, pick_folder or self._show_dialog
        self._background = Background(self)
        self._library: Library | None = None
        self._is_indexing = False
        self._cancel: CancelToken | None = None  # of the question that is being answered
        self._answer: Answer | None = None
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._enable()

    # Folder

    def choose_folder(self) -> None:
        """Let the user choose a folder, and index it."""
        if name := self._pick_folder():
            self.open_folder(Path(name))

    def open_folder(self, documents: Path) -> None:
        """Open the database of a folder of documents, and index what is new in it."""
        previous, self._library = self._library, None
        self._is_indexing = True
        self.folder.setText(str(documents))
        self.progress.setRange(0, 0)  # busy, until the number of files is known
        self.status.setText("Opening ...")
        self._enable()

        def work() -> Library:
            if previous is not None:
                previous.close()
            return Library(documents, self._home, self._open_rag)

        self._background.run(work, self._start_indexing, self._show_indexing_failure)

    def _start_indexing(self, library: Library) -> None:
        self._library = library
        self.status.setText("Looking for new and changed files ...")
        self._enable()

        def work() -> Indexed | None:
            return library.index(lambda done, total: self._background.call(self._show_progress, done, total))

        self._background.run(work, self._show_indexed, self._show_indexing_failure)

    def _show_progress(self, done: int, total: int) -> None:
        self.progress.setRange(0, total)
        self.progress.setValue(done)
        self.status.setText(f"{done} of {total} files read. You can already ask.")

    def _show_indexed(self, indexed: Indexed | None) -> None:
        if indexed is None:
            self._end_indexing("Stopped. What was read is kept; choose the folder again to go on.")
        else:
            unread = f", could not be read: {len(indexed.failed)}" if indexed.failed else ""
            self._end_indexing(f"Documents: {indexed.documents}{unread}")
            self.status.setToolTip("\n".join(indexed.failed))

    def _show_indexing_failure(self, error: Exception) -> None:
        self._end_indexing(str(error))

    def _end_indexing(self, status: str) -> None:
        self._is_indexing = False
        self.status.setText(status)
        self._enable()

    def stop_indexing(self) -> None:
        """Stop reading files."""
        if self._library is not None:
            self._library.stop_indexing()

    # Questions

    def ask(self) -> None:
        """Answer what is in the field, or stop the answer that is being written."""
        if self._cancel is not None:
            self._cancel.cancel()
            return
        library, question = self._library, self.question.text().strip()
        if library is None or not question:
            return
        cancel = self._cancel = CancelToken()
        self._answer = None
        self.answer.clear()
        self.passage.clear()
        self.note.setText("Reading ...")
        self._enable()

        def work() -> Answer:
            stream = library.ask(question, cancel)
            for piece in stream:
                self._background.call(self._show_piece, piece)
            return stream.answer

        self._background.run(work, self._show_answer, self._show_failure)

    def _show_piece(self, piece: str) -> None:
        self.answer.moveCursor(QTextCursor.MoveOperation.End)
        self.answer.insertPlainText(piece)

    def _show_answer(self, answer: Answer) -> None:
        self._answer, self._cancel = answer, None
        self.answer.setHtml(to_html(answer))
        self.note.setText(describe(answer))
        self._enable()

    def _show_failure(self, error: Exception) -> None:
        self._cancel = None
        self.note.setText("Stopped." if isinstance(error, GenerationCancelled) else str(error))
        self._enable()

    # Passages

    def open_citation(self, link: QUrl) -> None:
        """Show the passage of a citation in its document."""
        if self._library is not None and self._answer is not None:
            library, citation = self._library, self._answer.citations[int(link.fragment())]
            self._background.run(lambda: library.find(citation), self._show_passage, self._show_failure)

    def _show_passage(self, passage: Passage) -> None:
        self.where.setText(", ".join(filter(None, (passage.title, passage.location))))
        self.passage.clear()
        cursor, plain, marked = self.passage.textCursor(), QTextCharFormat(), QTextCharFormat()
        marked.setBackground(self.palette().highlight())
        marked.setForeground(self.palette().highlightedText())
        cursor.insertText(passage.before, plain)  # as text: nothing in a document is markup here
        start = cursor.position()
        cursor.insertText(passage.quote, marked)
        cursor.insertText(passage.after, plain)
        cursor.setPosition(start)
        self.passage.setTextCursor(cursor)
        bar = self.passage.verticalScrollBar()
        bar.setValue(bar.value() + self.passage.cursorRect().top() - self.passage.height() // 3)

    # The window itself

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stop all work; the window is gone at once."""
        if self._cancel is not None:
            self._cancel.cancel()
        self.stop_indexing()
        event.accept()

    def shut_down(self) -> None:
        """Wait until the work has stopped, and close the database."""
        self.close()
        self._background.wait()
        if self._library is not None:
            self._library.close()

    def _make_widgets(self) -> None:
        self.setWindowTitle("Ask your documents")
        self.resize(1000, 640)
        self.choose, self.stop, self.send = QPushButton("&Choose folder ..."), QPushButton("&Stop"), QPushButton("&Ask")
        self.folder, self.status, self.note, self.where = QLabel("No folder"), QLabel(), QLabel(), QLabel()
        self.progress, self.question = QProgressBar(), QLineEdit(placeholderText="Ask a question")
        self.answer, self.passage = QTextBrowser(openLinks=False), QTextEdit(readOnly=True)
        for label in (self.folder, self.status, self.note, self.where):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
        for view in (self.answer, self.passage):
            view.document().setDocumentMargin(12)
        for widget, name in ((self.answer, "Answer"), (self.passage, "Passage"), (self.question, "Question")):
            widget.setAccessibleName(name)

    def _lay_out(self) -> None:
        top, reading, bottom = QHBoxLayout(), QHBoxLayout(), QHBoxLayout()
        top.addWidget(self.choose)
        top.addWidget(self.folder, 1)
        reading.addWidget(self.status, 1)
        reading.addWidget(self.progress, 1)
        reading.addWidget(self.stop)
        bottom.addWidget(self.question, 1)
        bottom.addWidget(self.send)
        panes = QSplitter(Qt.Orientation.Horizontal)
        for parts in ((self.note, self.answer), (self.where, self.passage)):
            pane = QWidget()
            column = QVBoxLayout(pane)
            column.setContentsMargins(0, 0, 0, 0)
            for part in parts:
                column.addWidget(part)
            panes.addWidget(pane)
        panes.setSizes([1, 1])
        whole = QVBoxLayout(self)
        whole.addLayout(top)
        whole.addLayout(reading)
        whole.addWidget(panes, 1)
        whole.addLayout(bottom)

    def _connect(self) -> None:
        self.choose.clicked.connect(self.choose_folder)
        self.stop.clicked.connect(self.stop_indexing)
        self.send.clicked.connect(self.ask)
        self.question.returnPressed.connect(self.ask)
        self.answer.anchorClicked.connect(self.open_citation)
        QShortcut(QKeySequence(Qt.Key.Key_Escape), self, self._stop_answer)

    def _stop_answer(self) -> None:
        if self._cancel is not None:
            self._cancel.cancel()

    def _enable(self) -> None:
        """Let the user do what can be done now."""
        is_asking, is_ready = self._cancel is not None, self._library is not None
        self.choose.setEnabled(not self._is_indexing and not is_asking)
        self.stop.setEnabled(is_ready)
        self.stop.setVisible(self._is_indexing)
        self.progress.setVisible(self._is_indexing)
        self.question.setEnabled(is_ready)
        self.send.setEnabled(is_ready)
        self.send.setText("&Cancel" if is_asking else "&Ask")

    def _show_dialog(self) -> str:
        return QFileDialog.getExistingDirectory(self, "Choose a folder of documents")


def to_html(answer: Answer) -> str:
    """Return an answer as HTML whose links name citations; nothing of the texts is markup."""
    indices = {citation.number: i for i, citation in reversed(list(enumerate(answer.citations)))}

    def link(mark: re.Match[str]) -> str:
        i = indices.get(int(mark[1]))
        return mark[0] if i is None else f'<a href="#{i}">{mark[0]}</a>'

    text = re.sub(r"\[(\d+)\]", link, html.escape(answer.text)).replace("\n", "<br>")
    rows = [
        f'<p><a href="#{i}">[{citation.number}] {html.escape(_name(citation.title, citation.location))}</a><br>'
        f"{html.escape(citation.quote)}</p>"
        for i, citation in enumerate(answer.citations)
    ]
    return f"<p>{text}</p>{'<hr>' if rows else ''}{''.join(rows)}"


def describe(answer: Answer) -> str:
    """Return what the user should know about an answer, in a line."""
    usage = answer.usage
    parts = [answer.model or "no model", f"{usage.prompt_tokens} + {usage.completion_tokens} tokens"]
    if not answer.is_supported and not answer.abstained:
        parts.append("not supported by the documents")
    return ", ".join(parts)


def _name(title: str, location: str) -> str:
    return ", ".join(filter(None, (title, location)))
