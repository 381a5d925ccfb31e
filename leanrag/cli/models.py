"""`leanrag list`: list the models that have a name."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show
from leanrag.display import table_to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    commands.add(
        "list", _run, commands.common, "list the models that leanrag knows by name, and their files on this machine"
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.models import list_models

    models = list_models()
    rows = [("NAME", "KIND", "MB", "LICENCE", "PATH")]
    for model in models:
        spec = model.spec
        rows.append((spec.name, spec.kind, _megabytes(spec.size_bytes), spec.licence, str(model.path or "not pulled")))
    for model in models:
        for kind, path in model.copies.items():
            spec = model.spec
            rows.append((f"{spec.name}:{kind}", spec.kind, _megabytes(path.stat().st_size), spec.licence, str(path)))
    show(options, models, table_to_text(rows))
    return OK


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f}"
