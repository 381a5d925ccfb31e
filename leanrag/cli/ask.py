"""`leanrag ask`: answer a question, with quotes and a receipt."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands, metadata_of, open_folder, question_of
from leanrag.cli.output import OK, UNSUPPORTED, show
from leanrag.display import to_text

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("ask", _run, commands.asking, "answer a question from the documents")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 gives the same answer each time (default)")
    parser.add_argument("--seed", type=int, help="repeats an answer if the temperature is above 0")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="time limit of the generation")
    parser.add_argument(
        "--calibration",
        action="append",
        default=[],
        metavar="FILE",
        help="file that `calibrate` wrote; repeat it for each model, or for each model except the last",
    )
    parser.add_argument(
        "--abstain-below",
        type=float,
        metavar="CONFIDENCE",
        help="if the confidence is lower than this, say that the sources do not answer",
    )


def _run(options: argparse.Namespace) -> int:
    with open_folder(options) as rag:
        answer = rag.ask(
            question_of(options),
            where=metadata_of(options.where),
            temperature=options.temperature,
            seed=options.seed,
            timeout_seconds=options.timeout,
        )
    show(options, answer, to_text(answer))
    return OK if answer.is_supported else UNSUPPORTED
