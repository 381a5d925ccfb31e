"""Tune a folder each night on the questions that people asked, and let the morning's program use the result.

    python -m examples.nightly FOLDER QUESTIONS.jsonl CONFIG.json --model SMALL --model LARGE

Each line of the file is a question with its right answers, such as `{"question": "Who?", "answers": ["Ada Park"]}`. The
configuration is replaced only if the new settings are proven on questions that did not choose them. If there are too few questions,
or if nothing cheaper is proven, the old file stays and the program says why. `leanrag.open(FOLDER, config=CONFIG)` uses the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from leanrag import ConfigurationError
from leanrag.evaluation import read_questions, tune
from leanrag.evaluation.tuning import CostMeasure
from leanrag.routing.cascade import Model

CONTEXT_TOKENS = (100, 200, 300)


def tune_folder(
    folder: Path,
    questions: Path,
    config: Path,
    models: Sequence[Model],
    *,
    cost: CostMeasure = "prompt tokens",
    **settings: Any,
) -> str:
    """Write the cheapest settings that are proven to keep the quality; return what was done and why.

    Args:
        folder: The database.
        questions: Questions with right answers.
        config: The configuration to replace.
        models: The models, the smallest first.
        cost: What to save.
        settings: Further arguments of `tune`.
    """
    runs = config.with_suffix(".runs")
    try:
        result = tune(
            folder,
            read_questions(questions),
            models=models,
            context_tokens=CONTEXT_TOKENS,
            cost=cost,
            out=runs,
            **settings,
        )
    except ConfigurationError as error:
        return f"{config} stays as it is: {error}"
    finally:
        for path in runs.glob("*.jsonl"):  # tomorrow's documents and questions are others
            path.unlink()
    if result.chosen == result.reference and config.exists():
        return f"{config} stays as it is: nothing cheaper is proven\n\n{result}"
    result.settings.save(config)
    config.with_suffix(".svg").write_text(result.to_svg(), encoding="utf-8")
    return f"{config}: {result.settings}\n\n{result}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("config", type=Path)
    parser.add_argument("--model", action="append", required=True)
    options = parser.parse_args()
    print(tune_folder(options.folder, options.questions, options.config, options.model))


if __name__ == "__main__":
    main()
