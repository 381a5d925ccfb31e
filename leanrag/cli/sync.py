"""`leanrag sync`: make the documents of folders equal to their files, once or until it is stopped."""

from __future__ import annotations

import argparse
import contextlib

from leanrag.cli.options import Commands, add_selection, open_folder, selection_of
from leanrag.cli.output import OK, show, show_adding
from leanrag.display import to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    about = "make the documents of folders equal to their files: add, update and remove"
    parser = commands.add("sync", _run, commands.folder, about)
    parser.add_argument("sources", nargs="+", metavar="FOLDER", help="folder of documents")
    add_selection(parser)
    parser.add_argument(
        "--watch", action="store_true", help="go on, and follow each change until Ctrl-C (needs the extra `watch`)"
    )


def _run(options: argparse.Namespace) -> int:
    selection = selection_of(options)
    with open_folder(options, create=True) as rag:
        if not options.watch:
            return show_adding(options, lambda: rag.sync(*options.sources, **selection))
        with contextlib.suppress(KeyboardInterrupt):
            for report in rag.watch(*options.sources, **selection):
                show(options, report, to_text(report))
        return OK
