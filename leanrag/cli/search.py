"""`leanrag search`: find text for a question, without a model that answers."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, add_question, add_where, metadata_of, open_folder, question_of
from leanrag.cli.output import OK, UNSUPPORTED, show
from leanrag.display import hits_to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("search", _run, commands.folder, "find text for a question")
    add_question(parser)
    parser.add_argument("-k", type=int, default=5, help="most hits (default: %(default)s)")
    add_where(parser)


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        hits = rag.search(question_of(options), options.k, where=metadata_of(options.where))
    show(options, hits, hits_to_text(hits))
    return OK if hits else UNSUPPORTED
