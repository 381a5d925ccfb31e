"""`leanrag doctor`: report what is installed, and what would improve it; with a folder, whether the database is damaged."""

from __future__ import annotations

import argparse

import leanrag
from leanrag.cli.options import Commands
from leanrag.cli.output import FAILED, OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "doctor",
        _run,
        commands.common,
        "report versions, devices, models, and what would make answers faster; with a folder, check the database in it",
    )
    parser.add_argument("database", nargs="?", metavar="FOLDER", help="a database to check")


def _run(options: argparse.Namespace) -> int:
    if options.database is not None:
        return _check(options)
    from leanrag.cli.installation import examine

    findings = examine()
    lines = []
    for title, rows in findings.sections.items():
        lines += [title, *(f"  {name:24} {value}" for name, value in rows.items()), ""]
    lines += [
        "What would improve it" if findings.advice else "There is nothing to repair.",
        *(f"  - {advice}" for advice in findings.advice),
    ]
    show(options, findings, "\n".join(lines))
    return OK


def _check(options: argparse.Namespace) -> int:
    """Read all of a database. The exit code says whether it is damaged."""
    with leanrag.open(options.database, create=False) as rag:
        damage, documents = rag.check(), rag.stats().documents
    lines = [*map(str, damage), f"{len(damage)} problems; `leanrag repair {options.database}` repairs what it can"]
    show(options, damage, "\n".join(lines) if damage else f"{documents} documents are sound")
    return FAILED if damage else OK
