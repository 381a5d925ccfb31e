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


def _run(options: argparse.Namespace) -> int:
    with open_folder(options, create=True) as rag:
        try:
            report = rag.add(*options.sources, metadata=metadata_of(options.set))
        except DocumentError as error:
            if error.report is None:
                raise
            report = error.report
    show(options, report, to_text(report))
    return PARTIAL if report.failed else OK
