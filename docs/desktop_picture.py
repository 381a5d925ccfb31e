"""Writes the picture of the desktop example, with a real model on a virtual screen.

python docs/desktop_picture.py
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtCore import QUrl
from PySide6.QtWidgets import QApplication

import leanrag
from benchmarks.desktop.__main__ import wait
from docs.page_picture import PAGES
from examples.desktop.window import Window

HERE = Path(__file__).parent


def main() -> None:
    """Write the picture."""
    QApplication([])
    with tempfile.TemporaryDirectory() as folder:
        documents = Path(folder) / "harbour"
        documents.mkdir()
        (documents / "handbook.md").write_text("".join(PAGES), encoding="utf-8")
        window = Window(Path(folder) / "home", open_rag=functools.partial(leanrag.open, model="qwen2.5-coder-0.5b"))
        window.show()
        window.open_folder(documents)
        wait(window.choose.isEnabled)
        window.question.setText("Who signs all permits?")
        window.ask()
        wait(lambda: window.send.text() == "&Ask")
        window.open_citation(QUrl("#0"))
        wait(lambda: window.where.text() != "")
        window.folder.setText("/home/ada/harbour")
        window.grab().save(str(HERE / "desktop.png"))
        window.shut_down()


if __name__ == "__main__":
    main()
