"""`leanrag explain`: show what `ask` would send."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, metadata_of, open_folder, question_of
from leanrag.cli.output import OK, show
from leanrag.display import to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add("explain", _run, commands.asking, "show what `ask` would send, without generating")


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        explanation = rag.explain(question_of(options), where=metadata_of(options.where))
    show(options, explanation, to_text(explanation))
    return OK
