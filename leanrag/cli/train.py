"""`leanrag train`: teach a small model to answer questions about a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("train", _run, commands.folder, "teach a small model to answer questions about a folder")
    parser.add_argument("out", metavar="OUT", type=Path, help="GGUF file of the adapter to write")
    parser.add_argument(
        "--questions",
        type=Path,
        metavar="FILE",
        help="a JSON object on each line, with `question`, `answers` and `document_id`; without it, --teacher makes questions",
    )
    parser.add_argument("--teacher", help="name or GGUF file of a larger model that makes the questions")
    parser.add_argument("--model", default="smollm2-135m", help="model to train (default: %(default)s)")
    parser.add_argument(
        "--start-from",
        metavar="MODEL",
        help="reader to begin with, such as smollm2-135m+reader, or the file of an adapter",
    )
    parser.add_argument("--epochs", type=int, default=2, help="times that each question is seen (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest rate (default: %(default)s)")
    parser.add_argument("--rank", type=int, help="rank of a new adapter (default: 16)")
    parser.add_argument(
        "--device", default="auto", help="where torch computes, such as cpu or cuda (default: a GPU if there is one)"
    )


def _run(options: argparse.Namespace) -> int:
    import contextlib

    from leanrag.llama import LlamaCppModel
    from leanrag.models import resolve
    from leanrag.training import TrainingOptions, train

    with contextlib.ExitStack() as stack:
        teacher = None
        if options.questions is None and options.teacher is not None:
            teacher = stack.enter_context(LlamaCppModel(resolve(options.teacher), name=options.teacher))
        report = train(
            options.folder,
            options.out,
            questions=options.questions,
            teacher=teacher,
            model=options.model,
            embedder=options.embedder,
            options=TrainingOptions(epochs=options.epochs, learning_rate=options.learning_rate, device=options.device),
            rank=options.rank,
            start_from=options.start_from,
        )
    lines = [
        f"{report.adapter}: {report.record.rows} rows, {report.record.steps} steps, {report.record.seconds:.0f} s",
        f"answered exactly, before and after: {report.exact_match_before:.2f}  {report.exact_match_after:.2f}",
        f"use it with: leanrag ask --model '{report.model}' ...",
    ]
    fields = {
        "adapter": str(report.adapter),
        "model": report.model,
        "record": report.record.model_dump(mode="json"),
        "exact_match_before": report.exact_match_before,
        "exact_match_after": report.exact_match_after,
    }
    show(options, fields, "\n".join(lines))
    return OK
