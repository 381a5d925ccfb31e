"""`leanrag search`: find text for a question, without a model that answers."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, add_where, metadata_of, open_folder
from leanrag.cli.output import OK, UNSUPPORTED, show
from leanrag.display import hits_to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("search", _run, commands.folder, "find text for a question")
    parser.add_argument("question", help="in quotes")
    parser.add_argument("-k", type=int, default=5, help="most hits (default: %(default)s)")
    add_where(parser)


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        hits = rag.search(options.question, options.k, where=metadata_of(options.where))
    show(options, hits, hits_to_text(hits))
    return OK if hits else UNSUPPORTED
