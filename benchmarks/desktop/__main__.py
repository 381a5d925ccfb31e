"""How long does the window of the desktop example not react while it indexes and answers?

A timer of the event loop fires each millisecond; a pause is the time between two of its calls. The window indexes the reference of
Python and answers questions meanwhile, with real models, on a virtual screen. On a machine with other work, a pause is mostly spent
waiting for a core; `longest_busy_ms` is the most of a pause in which this process computed.

    python -m benchmarks.desktop --data DIR --json FILE [--quick]
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QEventLoop, Qt, QTimer, QUrl
from PySide6.QtWidgets import QApplication

import leanrag
from benchmarks.common import finish, parse_arguments
from examples.demo import QUESTIONS, write_topics
from examples.desktop.window import Window
from leanrag.models import resolve_model

READER = "qwen2.5-coder-0.5b"
QUICK_READER = "smollm2-135m"


class Pauses:
    """The times between the turns of the event loop, and the CPU time of this process in each of them, in milliseconds."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        self.busy: list[float] = []
        self._last, self._last_cpu = time.perf_counter(), time.process_time()
        self._timer = QTimer(timerType=Qt.TimerType.PreciseTimer, interval=1)
        self._timer.timeout.connect(self._note)
        self._timer.start()

    def _note(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.milliseconds.append(1000 * (now - self._last))
        self.busy.append(min(self.milliseconds[-1], 1000 * (cpu - self._last_cpu)))
        self._last, self._last_cpu = now, cpu


def wait(condition: Callable[[], bool]) -> None:
    """Let the window work until a condition holds."""
    loop = QEventLoop()
    while not condition():
        loop.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)


def wait_for(milliseconds: int) -> None:
    """Let the window work for some time."""
    loop = QEventLoop()
    QTimer.singleShot(milliseconds, loop.quit)
    loop.exec()


def use(window: Window, documents: Path) -> tuple[int, int]:
    """Index a folder and ask meanwhile; return how many questions were answered, and how many passages were shown."""
    window.open_folder(documents)
    wait(window.question.isEnabled)
    wait(lambda: window.progress.value() > 0)
    asked = shown = 0
    while asked < len(QUESTIONS) or not window.choose.isEnabled():
        window.question.setText(QUESTIONS[asked % len(QUESTIONS)])
        window.ask()
        wait(lambda: window.send.text() == "&Ask")
        if not window.answer.toPlainText():  # no document is there yet
            wait_for(200)
            continue
        asked += 1
        if "href" in window.answer.toHtml():
            window.where.clear()
            window.open_citation(QUrl("#0"))
            wait(lambda: window.where.text() != "")
            shown += 1
    return asked, shown


def main() -> None:
    arguments = parse_arguments(__doc__)
    reader = QUICK_READER if arguments.is_quick else READER
    application = QApplication([])
    with tempfile.TemporaryDirectory() as folder:
        documents = Path(folder) / "python-reference"
        write_topics(documents)
        if arguments.is_quick:
            for path in sorted(documents.iterdir())[12:]:
                path.unlink()
        window = Window(Path(folder) / "home", open_rag=functools.partial(leanrag.open, model=reader))
        window.show()
        pauses, started = Pauses(), time.perf_counter()
        asked, shown = use(window, documents)
        seconds, status = time.perf_counter() - started, window.status.text()
        window.shut_down()
    times = sorted(pauses.milliseconds)
    print(
        f"{status}; {asked} questions in {seconds:.1f} s; longest pauses: {', '.join(f'{t:.1f}' for t in times[-5:])} ms"
    )
    figures: dict[str, float | int | None] = {
        "longest_pause_ms": times[-1],
        "longest_busy_ms": max(pauses.busy),
        "pause_p99_ms": statistics.quantiles(times, n=100)[-1],
        "pauses_over_50_ms": sum(pause > 50 for pause in times),
        "seconds": seconds,
        "questions": asked,
        "passages": shown,
        "n": len(times),
    }
    finish(
        figures,
        arguments.json_path,
        models={reader: resolve_model(reader).path},
        is_quick=arguments.is_quick,
        only=None,
    )
    application.quit()


if __name__ == "__main__":
    main()
