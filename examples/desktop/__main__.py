"""Starts the application: `python -m examples.desktop`."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

from leanrag.children import freeze_support


def main() -> int:
    """Show the window until it is closed."""
    from platformdirs import user_data_path  # here, because the process that indexes imports this file too
    from PySide6.QtWidgets import QApplication

    from examples.desktop.window import Window

    application = QApplication(sys.argv)
    window = Window(user_data_path("leanrag-desktop"))
    window.show()
    if folders := application.arguments()[1:]:
        window.open_folder(Path(folders[0]))
    code = application.exec()
    window.shut_down()
    return code


if __name__ == "__main__":
    multiprocessing.freeze_support()  # both return at once, unless this is a child process of the packaged application
    freeze_support()
    sys.exit(main())
