"""`leanrag calibrate`: learn from questions when to keep the answer of a smaller model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import OK, show
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.routing.calibration import Calibration

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "calibrate", _run, commands.reading, "learn from questions when to keep the answer of a smaller model"
    )
    parser.add_argument(
        "questions", metavar="QUESTIONS.jsonl", help='lines such as {"question": "Who?", "answers": ["Ada Park"]}'
    )
    parser.add_argument("--alpha", type=float, default=0.05, help="highest risk (default: %(default)s)")
    parser.add_argument(
        "--delta", type=float, default=0.1, help="probability that the risk is higher (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random parts (default: %(default)s)")
    parser.add_argument(
        "--out",
        action="append",
        required=True,
        metavar="FILE",
        help="file to write; repeat it for each model, or for each model except the last",
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.routing.questions import read_questions

    paths = [Path(name) for name in options.out]
    models = options.model or []
    if not models or len(models) - len(paths) not in ((0,) if len(models) == 1 else (0, 1)):
        raise ConfigurationError(
            f"got {len(models)} times `--model` and {len(paths)} times `--out`. Pass `--model` for each model, the smallest first, "
            "and `--out` for each model, or for each model except the last"
        )
    if missing := [path for path in paths if not path.absolute().parent.is_dir()]:
        raise ConfigurationError(f"the folder of {str(missing[0])!r} does not exist. Make it, or name another file")
    questions = read_questions(options.questions)
    if len(paths) < len(models) and any(not isinstance(row, str) and not row[1] for row in questions):
        raise ConfigurationError(
            "some questions have no answer. From them the last model also learns when to abstain, and the calibrations of the "
            "other models depend on that. Pass `--out` for each model, and later pass each file to `ask` with `--calibration`"
        )
    with open_folder(options) as rag:
        calibrations = rag.calibrate(
            questions, alpha=options.alpha, delta=options.delta, seed=options.seed, where=metadata_of(options.where)
        )
    saved = list(zip(paths, calibrations, strict=False))  # the last model may have no calibration, or no file
    for path, calibration in saved:
        calibration.save(path)
    lines = [line for path, calibration in saved for line in _lines(path, calibration)]
    if len(calibrations) < len(paths):
        lines.append(f"{models[-1]}: the last model has no calibration, so {paths[-1]} was not written")
    show(options, [calibration.model_dump(mode="json") for calibration in calibrations], "\n".join(lines))
    return OK


def _lines(path: Path, calibration: Calibration) -> list[str]:
    names = ", then ".join(model.name for model in calibration.models)
    auroc = "-" if calibration.auroc is None else f"{calibration.auroc:.3f}"
    kept = f"{calibration.kept:.1%}" if calibration.threshold is not None else "0.0%, because nothing can be certified"
    rows = f"  rows             {calibration.rows_fitted} to learn from, {calibration.rows_certified} to"
    passing = [  # the last model passes nothing on
        f"  least passed on  {calibration.least_escalated:.1%}, by every method with a risk of at most {calibration.alpha:g}",
        f"{rows} certify with",
        f"  kept             {kept}",
        f"  bound            {calibration.bound:.4f}, with probability {1 - calibration.delta:g}",
    ]
    return [
        f"{names} ({calibration.label_source})",
        *(passing if len(calibration.models) > 1 else [f"{rows} judge it by"]),
        f"  AUROC            {auroc}",
        f"  ECE              {calibration.ece:.3f}",
        *(() if calibration.abstain_below is None else (f"  abstains         below {calibration.abstain_below:.3f}",)),
        *(() if calibration.ask_from is None else (f"  asks             from {calibration.ask_from:.3f}",)),
        f"  {path}",
    ]
