"""`leanrag bench`: what each stage brings and costs on your documents, as a table and a picture."""

from __future__ import annotations

import argparse
from pathlib import Path

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("bench", _run, commands.reading, "measure what each stage brings and costs on your documents")
    parser.add_argument("documents", nargs="*", metavar="PATH", help="files and folders to add to the database first")
    parser.add_argument(
        "--questions",
        metavar="FILE.jsonl",
        help='lines such as {"question": "Who?", "answers": ["Ada Park"]} (default: questions made from the documents)',
    )
    parser.add_argument("-n", type=int, default=50, help="questions to make (default: %(default)s)")
    parser.add_argument("--writer", metavar="MODEL", help="model that writes the questions (default: rules make them)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the questions that are made (default: %(default)s)"
    )
    parser.add_argument(
        "--out", default="bench", help="folder for the runs, the table and the picture (default: %(default)s)"
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.evaluation import bench, read_questions
    from leanrag.llama.process import load_model
    from leanrag.models import resolve_model

    questions = read_questions(options.questions) if options.questions else None
    models = options.model or ["smollm2-135m"]
    if options.documents:
        options.model = models[:1]
        with open_folder(options, create=True) as rag:
            rag.add(*options.documents)
    names = ("k", "context_tokens", "max_tokens", "style")
    settings = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    writer = load_model(resolve_model(options.writer).path, name=options.writer) if options.writer else None
    try:
        result = bench(
            options.folder,
            questions,
            models=models,
            n=options.n,
            writer=writer,
            out=options.out,
            seed=options.seed,
            where=metadata_of(options.where),
            embedder=options.embedder,
            **settings,
        )
    finally:
        if writer is not None:
            writer.close()
    out = Path(options.out)
    (out / "bench.txt").write_text(f"{result}\n", encoding="utf-8")
    (out / "bench.svg").write_text(result.to_svg(), encoding="utf-8")
    show(options, [*result.summaries], f"{result}\n\n{out / 'bench.svg'}")
    return OK
