"""`leanrag tune`: find the cheapest settings that keep the quality on your questions."""

from __future__ import annotations

import argparse
from pathlib import Path

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "tune", _run, commands.folder, "find the cheapest settings that keep the quality on your questions"
    )
    parser.add_argument(
        "questions", metavar="QUESTIONS.jsonl", help='lines such as {"question": "Who?", "answers": ["Ada Park"]}'
    )
    parser.add_argument(
        "--model", action="append", required=True, help="name or GGUF file; repeat it, the smallest model first"
    )
    parser.add_argument("-k", type=int, action="append", help="chunks retrieved; repeat it (default: 5 and 10)")
    parser.add_argument(
        "--context-tokens",
        type=int,
        action="append",
        help="most tokens of sources; repeat it (default: what suits the model)",
    )
    parser.add_argument("--packer", action="append", choices=("evidence", "greedy"), help="default: evidence")
    parser.add_argument("--cost", choices=("seconds", "prompt tokens", "cost"), default="seconds", help="what to save")
    parser.add_argument("--margin", type=float, default=0.05, help="highest share to lose (default: %(default)s)")
    parser.add_argument("--delta", type=float, default=0.1, help="probability that more is lost (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the halves (default: %(default)s)")
    parser.add_argument(
        "--out", default="tune", help="folder for the runs, the settings and the picture (default: %(default)s)"
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.evaluation import read_questions, tune

    names = ("cost", "margin", "delta", "out", "seed", "embedder")
    lists = {"k": options.k, "context_tokens": options.context_tokens, "packers": options.packer}
    result = tune(
        options.folder,
        read_questions(options.questions),
        models=options.model,
        **{name: getattr(options, name) for name in names},
        **{name: values for name, values in lists.items() if values},
    )
    out = Path(options.out)
    result.settings.save(out / "settings.json")
    (out / "tune.svg").write_text(result.to_svg(), encoding="utf-8")
    show(options, result, f"{result}\n\n{out / 'settings.json'}\n{out / 'tune.svg'}")
    return OK
