"""`leanrag costs`: what the questions and documents of the database cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, print_text, show
from leanrag.display import to_text
from leanrag.errors import StorageError
from leanrag.ledger import CostLedger

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("costs", _run, commands.folder, "report what the questions and documents cost")
    parser.add_argument(
        "--by",
        choices=("model", "stage", "day", "tier", "outcome", "kind"),
        default="model",
        help="what the costs are summed by (default: %(default)s)",
    )
    parser.add_argument("--csv", action="store_true", help="print all rows as CSV")


def _run(options: argparse.Namespace) -> int:
    from leanrag.retrieval.database import COSTS

    path = Path(options.folder) / COSTS
    if not path.is_file():
        raise StorageError(
            f"{options.folder!r} has no ledger. `leanrag ask` and `leanrag add` write it unless LEANRAG_LEDGER is off",
            path=path,
        )
    with CostLedger(path) as ledger:
        if options.csv:
            print_text(ledger.to_csv().rstrip("\n"))
        else:
            receipt = ledger.receipt(options.by)
            show(options, receipt, to_text(receipt))
    return OK
