"""Work on other threads whose results arrive on the thread of the window."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from PySide6.QtCore import QObject, Qt, Signal

__all__ = ["Background"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Background(QObject):
    """Runs functions on threads of their own. Only the thread of the window may touch widgets."""

    _arrived = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._arrived.connect(self._call, Qt.ConnectionType.QueuedConnection)
        self._threads: list[threading.Thread] = []

    def run(self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], object]) -> None:
        """Do `work` on another thread; then call `done` with its result, or `failed` with its error, on that of the window."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        self._threads.append(threading.Thread(target=self._work, args=(work, done, failed)))
        self._threads[-1].start()

    def call(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Call a function on the thread of the window, soon; any thread may ask for it."""
        self._arrived.emit(functools.partial(function, *args, **kwargs))

    def wait(self) -> None:
        """Wait until all work is done."""
        for thread in self._threads:
            thread.join()

    def _work(self, work: Callable[[], T], done: Callable[[T], object], failed: Callable[[Exception], object]) -> None:
        try:
            result = work()
        except Exception as error:  # the window shows it, whatever it is
            logger.info("The work failed", exc_info=True)
            self.call(failed, error)
        else:
            self.call(done, result)

    def _call(self, function: Callable[[], object]) -> None:
        function()
