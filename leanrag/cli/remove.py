"""`leanrag remove`: remove documents from the database."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, open_folder
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("remove", _run, commands.folder, "remove documents by path or id")
    parser.add_argument("sources", nargs="+", metavar="PATH", help="id, file or folder")


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        removed = rag.remove(*options.sources)
    show(options, {"removed": removed}, f"removed {removed} documents")
    return OK
