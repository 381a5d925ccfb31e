"""Do models of every architecture answer rightly, do bad files and templates do no harm, and how well do the readers answer?

Each section is a module of this folder. Tiny models are made by the program; templates and vocabularies come from the source
distribution of llama-cpp-python.

    python -m benchmarks.models --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.common import finish, parse_arguments
from benchmarks.models import architectures, busy, cascade, files, prompts, readers, rerankers, templates

Figures = dict[str, float | int | None]
Measure = Callable[[Path, bool], Figures]
"""Takes the folder of the data sets and whether a minute must do."""

SECTIONS: Mapping[str, Measure] = {
    "architectures": architectures.measure,
    "busy": busy.measure,
    "cascade": cascade.measure,
    "files": files.measure,
    "prompts": prompts.measure,
    "readers": readers.measure,
    "rerankers": rerankers.measure,
    "templates": templates.measure,
}


def main() -> None:
    arguments = parse_arguments(__doc__, sections=tuple(SECTIONS))
    figures: Figures = {}
    for name, measure in SECTIONS.items():
        if arguments.only in (None, name):
            print(f"== {name}", flush=True)
            figures |= measure(arguments.data, arguments.is_quick)
    figures.setdefault("n", len(figures))
    finish(figures, arguments.json_path, is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
