"""`leanrag repair`: repair a damaged database."""

from __future__ import annotations

import argparse

import leanrag
from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "repair", _run, commands.common, "repair a damaged database: what is derived is made again from the texts"
    )
    parser.add_argument("database", metavar="FOLDER", help="the database")
    parser.add_argument(
        "--embedder", default="all-minilm-l6-v2", help="name, GGUF file or folder (default: %(default)s)"
    )


def _run(options: argparse.Namespace) -> int:
    with leanrag.open(options.database, embedder=options.embedder, create=False) as rag:
        report = rag.repair()
    lines = [
        f"{len(report.damage)} problems; {len(report.restored)} documents restored, {len(report.removed)} removed",
        *(f"removed: {document_id}; add it again" for document_id in report.removed),
    ]
    show(options, report, "\n".join(lines))
    return OK
