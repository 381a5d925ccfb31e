"""Files of heavy formats, read in child processes: several at once, with bounds of time and memory for each file.

A broken file can make a parser loop, take all memory or crash. It then costs its child process, not this one. The processes
exchange JSON, a value in each line, over the standard input and output of the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from leanrag.children import first_line, function_command
from leanrag.documents.loading import load_file
from leanrag.errors import DocumentError, MissingDependencyError
from leanrag.stopping import time_limit
from leanrag.types import Document, Mark

__all__ = ["FileParser", "limit_memory", "serve"]

_MEMORY_BYTES = 2 * 1024**3
_SECONDS = 120.0
_MOST_PROCESSES = 8


class FileParser:
    """Reads files ahead of their use. Processes are started when they are first needed.

    Args:
        processes: Files read at once; by default one for each core.
        seconds: Time limit of a file.
    """

    def __init__(self, *, processes: int | None = None, seconds: float = _SECONDS) -> None:
        self.processes = processes or min(os.cpu_count() or 1, _MOST_PROCESSES)
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(self.processes, "leanrag-parse")
        self._own = threading.local()  # .child: the process of this thread
        self._children: list[_Child] = []
        self._is_closed = False

    def __enter__(self) -> FileParser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; idempotent. Files that are still being read fail."""
        self._is_closed = True
        for child in self._children:
            child.kill()
        self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.close()

    def submit(self, path: Path, *, default_title: str | None = None, encoding: str | None = None) -> Future[Document]:
        """Begin to read a file, as `load_file` does; the result has the document or its error."""
        return self._threads.submit(self._read, path, {"default_title": default_title, "encoding": encoding})

    def _read(self, path: Path, options: Mapping[str, Any]) -> Document:
        child: _Child | None = getattr(self._own, "child", None)
        if child is not None and child.has_ended:
            child.close()
        if child is None or child.has_ended:
            child = self._own.child = _Child()
            self._children.append(child)
        if self._is_closed:
            child.kill()
        return _read_reply(child.ask({"path": os.fspath(path), **options}, path, self._seconds), path)


class _Child:
    """A process that reads one file after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            function_command("leanrag.documents.parsing", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="ascii",
        )
        self.has_ended = False
        self._first = first_line()

    def ask(self, request: Mapping[str, Any], path: Path, seconds: float) -> dict[str, Any]:
        """Return the reply to a request.

        Raises:
            DocumentError: The process ended, or took too long.
        """
        with time_limit(seconds, self.kill) as is_late:
            line = self._exchange(request)
        if line.endswith("\n"):
            reply: dict[str, Any] = json.loads(line)
            return reply
        self.kill()
        reason = f"it took more than {seconds:g} seconds" if is_late.is_set() else "the process that read it ended"
        raise DocumentError(
            f"cannot read {str(path)!r}: {reason}. The file is damaged or too large; split it, or save it again in the"
            " program that made it",
            path=path,
        )

    def _exchange(self, request: Mapping[str, Any]) -> str:
        """Return the line that answers a request, "" if the process ended before."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        first, self._first = self._first, ""
        try:
            stdin.write(first + json.dumps(request) + "\n")
            stdin.flush()
            return stdout.readline()
        except OSError:
            return ""

    def kill(self) -> None:
        """End the process; idempotent. Any thread may call."""
        self.has_ended = True
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close the pipes to a process that ended; idempotent."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was not written yet has no reader any more
                    stream.close()


def _read_reply(reply: dict[str, Any], path: Path) -> Document:
    if "package" in reply:
        raise MissingDependencyError(reply["error"], package=reply["package"], extra=reply["extra"])
    if "error" in reply:
        raise DocumentError(reply["error"], path=path)
    marks = tuple(Mark(start, label) for start, label in reply.pop("marks"))
    return Document(**reply, marks=marks)


# In the child process


def serve() -> None:
    """Read the files that the parent process names, until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a parser prints is no reply
    limit_memory()
    for line in sys.stdin:
        replies.write(json.dumps(_reply(json.loads(line))) + "\n")
        replies.flush()


def limit_memory() -> None:
    """Bound the memory of this process, which reads a file. Not every system enforces it."""
    with contextlib.suppress(ImportError, OSError, ValueError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def _reply(request: dict[str, Any]) -> dict[str, Any]:
    path = request.pop("path")
    try:
        document = load_file(path, **request)
    except MissingDependencyError as error:
        return {"error": str(error), "package": error.package, "extra": error.extra}
    except DocumentError as error:
        return {"error": str(error)}
    return {
        "text": document.text,
        "id": document.id,
        "title": document.title,
        "source": document.source,
        "kind": document.kind,
        "metadata": dict(document.metadata),
        "marks": [[mark.start, mark.label] for mark in document.marks],
    }
