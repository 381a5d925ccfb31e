"""`leanrag stats`: report the content of the database."""

from __future__ import annotations

import argparse
import dataclasses

from leanrag.cli.options import Commands, open_folder
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add("stats", _run, commands.folder, "report the content of the database")


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        stats = rag.stats()
    rows = dataclasses.asdict(stats)
    lines = [f"{name:12} {value:,}" if isinstance(value, int) else f"{name:12} {value}" for name, value in rows.items()]
    show(options, stats, "\n".join(lines))
    return OK
