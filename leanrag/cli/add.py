"""`leanrag add`: add files and folders to the database."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import OK, PARTIAL, show
from leanrag.display import to_text
from leanrag.errors import DocumentError

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("add", _run, commands.folder, "add files and folders; unchanged files are skipped")
    parser.add_argument("sources", nargs="+", metavar="PATH")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="metadata for each document")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="leave this out of folders, as in a .gitignore"
    )
    parser.add_argument(
        "--pattern", action="append", default=[], metavar="PATTERN", help="read only such files of folders"
    )
    parser.add_argument("--sync", action="store_true", help="remove the documents of folders that are not selected")


def _run(options: argparse.Namespace) -> int:
    with open_folder(options, create=True) as rag:
        try:
            add = rag.sync if options.sync else rag.add
            report = add(
                *options.sources,
                metadata=metadata_of(options.set),
                ignore=options.ignore,
                pattern=options.pattern,
            )
        except DocumentError as error:
            if error.report is None:
                raise
            report = error.report
    show(options, report, to_text(report))
    return PARTIAL if report.failed else OK
