"""`leanrag sync`: make the documents of folders equal to their files, once or until it is stopped."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import OK, show, show_adding
from leanrag.display import to_text

if TYPE_CHECKING:
    from leanrag.pipeline.documents import AddOptions

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    about = "make the documents of folders equal to their files: add, update and remove"
    parser = commands.add("sync", _run, commands.folder, about)
    parser.add_argument("sources", nargs="+", metavar="FOLDER", help="folder of documents")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="metadata for each document")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out such files and folders, as in a .gitignore",
    )
    parser.add_argument(
        "--pattern", action="append", default=[], metavar="PATTERN", help="read only such files, as in a .gitignore"
    )
    parser.add_argument(
        "--watch", action="store_true", help="go on, and follow each change until Ctrl-C (needs the extra `watch`)"
    )


def _run(options: argparse.Namespace) -> int:
    settings: AddOptions = {
        "metadata": metadata_of(options.set) or None,  # without any, documents keep theirs
        "ignore": options.ignore,
        "pattern": options.pattern,
    }
    with open_folder(options, create=True) as rag:
        if not options.watch:
            return show_adding(options, lambda: rag.sync(*options.sources, **settings))
        with contextlib.suppress(KeyboardInterrupt):
            for report in rag.watch(*options.sources, **settings):
                show(options, report, to_text(report))
        return OK
