"""`leanrag sync`: make the documents of folders equal to their files, once or until it is stopped."""

from __future__ import annotations

import argparse
import contextlib

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import OK, PARTIAL, show
from leanrag.display import to_text
from leanrag.errors import DocumentError

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    about = "make the documents of folders equal to their files: add, update and remove"
    parser = commands.add("sync", _run, commands.folder, about)
    parser.add_argument("sources", nargs="+", metavar="FOLDER")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="metadata for each document")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="leave this out, as in a .gitignore"
    )
    parser.add_argument("--pattern", action="append", default=[], metavar="PATTERN", help="read only such files")
    parser.add_argument(
        "--watch", action="store_true", help="go on, and follow each change until Ctrl-C (needs the extra `watch`)"
    )


def _run(options: argparse.Namespace) -> int:
    settings = {"metadata": metadata_of(options.set), "ignore": options.ignore, "pattern": options.pattern}
    with open_folder(options, create=True) as rag:
        if options.watch:
            with contextlib.suppress(KeyboardInterrupt):
                for report in rag.watch(*options.sources, **settings):
                    show(options, report, to_text(report))
            return OK
        try:
            report = rag.sync(*options.sources, **settings)
        except DocumentError as error:
            if error.report is None:
                raise
            report = error.report
    show(options, report, to_text(report))
    return PARTIAL if report.failed else OK
