"""`leanrag doctor`: report what is installed, and what would improve it."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add(
        "doctor", _run, commands.common, "report versions, devices, models, and what would make answers faster"
    )


def _run(options: argparse.Namespace) -> int:
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
