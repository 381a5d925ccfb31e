"""Writes the pictures of the page: a question in a real browser, with a real model.

python docs/page_picture.py
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import leanrag
from leanrag.serving.app import create_app
from leanrag.types import Document, Mark
from tests.serving.browser import Browser
from tests.serving.live import Live

HERE = Path(__file__).parent
PAGES = (
    "Handbook of the harbour office\n\nThis handbook says who decides what. It is kept in the archive.\n\n",
    "Permits\n\nA ship needs a permit for each night in the harbour. Ada Park signs all permits. The others may not.\n\n",
    "Keys\n\nBo Lind keeps the keys of the archive. He lends them for a day, and writes down to whom.\n",
)
PICTURES = [("page.png", 1100, 660, "light"), ("page-narrow.png", 380, 760, "dark")]


def main() -> None:
    """Write the pictures."""
    starts = [sum(map(len, PAGES[:i])) for i in range(len(PAGES))]
    marks = tuple(Mark(start, f"page {i}") for i, start in enumerate(starts, 1))
    handbook = Document("".join(PAGES), id="handbook", title="Handbook of the harbour office", marks=marks)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        leanrag.open(Path(folder) / "harbour", model="qwen2.5-coder-0.5b") as rag,
        Live(create_app({"harbour": rag})) as server,
        Browser(Path(folder) / "profile") as browser,
    ):
        rag.add(handbook)
        rag.ask("Who keeps the keys?")  # loads the model
        for name, width, height, scheme in PICTURES:
            tab = browser.open(server.url, width=width, height=height, scheme=scheme)
            tab.until("document.querySelector('#documents li') && document.activeElement.id === 'question'")
            tab.type("Who signs all permits?")
            tab.press("Enter")
            tab.until("document.querySelector('.citation')")
            if width > 960:
                tab.run("document.querySelector('.citation').click()")
                tab.until("!document.querySelector('#passage').hidden")
            tab.picture(HERE / name)


if __name__ == "__main__":
    main()
