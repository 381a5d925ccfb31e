"""What the application asks leanrag for. Nothing here knows of windows, and every function may take long."""

from __future__ import annotations

import bisect
import hashlib
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import faiss  # noqa: F401 - loading a large library stops all threads, so both are loaded before the window is shown
import llama_cpp  # noqa: F401

import leanrag
from leanrag import AnswerStream, CancelToken, Citation, LeanRAGError, Rag

__all__ = ["Indexed", "Library", "OpenRag", "Passage"]

_AROUND = 8_000  # most characters shown before and after a quote: text views are slow with whole books


class OpenRag(Protocol):
    """Opens a database: `leanrag.open`, or that with other models. It travels to a child process."""

    def __call__(self, path: Path) -> Rag: ...


@dataclass(frozen=True, slots=True)
class Indexed:
    """What indexing came to.

    Attributes:
        documents: Documents of the database now.
        chunks: Chunks that were new or had changed.
        failed: What could not be read, and why.
    """

    documents: int
    chunks: int
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A quote with the text around it: the page that it is on, or, without pages, as much as can be shown."""

    title: str
    location: str
    before: str
    quote: str
    after: str


class Library:
    """A folder of documents, and its database, which lies elsewhere. Any thread may call.

    Args:
        documents: The folder of documents; nothing is written to it.
        home: The folder of all databases.
        open_rag: Opens the database, here and in the process that indexes.

    Attributes:
        documents: The folder of documents, absolute.
        rag: The database.
    """

    def __init__(self, documents: Path, home: Path, open_rag: OpenRag = leanrag.open) -> None:
        self.documents = documents.resolve()
        digest = hashlib.sha256(os.fsencode(self.documents)).hexdigest()[:12]
        self._database = home / f"{self.documents.name}-{digest}"
        self._database.mkdir(parents=True, exist_ok=True)
        self._open_rag, self.rag = open_rag, open_rag(self._database)
        self._indexing: multiprocessing.process.BaseProcess | None = None

    def index(self, tell: Callable[[int, int], None]) -> Indexed | None:
        """Index new and changed files in a process of low priority, so that neither the window nor other programs wait.

        Args:
            tell: Is called with the number of files read, and of all.

        Returns:
            What was indexed; None if `stop_indexing` ended it. What was read until then is kept.

        Raises:
            RuntimeError: The process failed; the message says why.
        """
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_index, args=(self.documents, self._database, self._open_rag, sender))
        self._indexing = process
        process.start()
        sender.close()  # the child has its own
        try:
            while True:
                message = receiver.recv()
                if isinstance(message, Indexed):
                    return message
                if isinstance(message, str):
                    raise RuntimeError(message)
                tell(*message)
        except EOFError:  # the process was stopped
            return None
        finally:
            process.join()
            receiver.close()

    def stop_indexing(self) -> None:
        """End the process that indexes. A database of leanrag survives that at any moment."""
        if self._indexing is not None and self._indexing.is_alive():
            self._indexing.terminate()

    def ask(self, question: str, cancel: CancelToken) -> AnswerStream:
        """Begin to answer a question."""
        return self.rag.stream(question, cancel=cancel)

    def find(self, citation: Citation) -> Passage:
        """Return the passage of a citation."""
        document = self.rag.get_document(citation.document_id)
        text, start, end = document.text, citation.start, citation.end
        marks = [mark.start for mark in document.marks]
        i, j = bisect.bisect_right(marks, start), bisect.bisect_left(marks, end)
        first = max(marks[i - 1] if i else 0, start - _AROUND)
        last = min(marks[j] if j < len(marks) else len(text), end + _AROUND)
        return Passage(document.title, citation.location, text[first:start], text[start:end], text[end:last])

    def close(self) -> None:
        """Stop indexing, and close the database and its models."""
        self.stop_indexing()
        self.rag.close()


def _index(documents: Path, database: Path, open_rag: OpenRag, sender: Connection) -> None:
    """Index a folder and report; this is what the child process does."""
    if hasattr(os, "nice"):
        os.nice(10)
    try:
        with open_rag(database) as rag:
            report = rag.sync(documents, progress=lambda done, total: sender.send((done, total)))
            failed = tuple(str(failure.error) for failure in report.failed)
            sender.send(Indexed(rag.stats().documents, report.chunks, failed))
    except LeanRAGError as error:
        sender.send(str(error))
