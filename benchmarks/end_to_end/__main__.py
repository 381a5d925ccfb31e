"""Is a question answered with fewer seconds, tokens and CPU seconds than by the usual way, and as well?

The usual way, B0: the largest model by name reads the ten best passages whole, in `llama_cpp.Llama`, one request at a time. leanrag
asks the same questions over the same documents, on the same machine, in the same run. `tune` is measured by how often the chosen
settings keep their bound on questions that it did not see, and by how few of the points that it looks at ask a model.

    python -m benchmarks.end_to_end --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.common import finish, parse_arguments
from benchmarks.end_to_end import against_b0, tuning

Figures = dict[str, float | int | None]
Measure = Callable[[Path, bool], Figures]
"""Takes the folder of the data sets and whether a minute must do."""

SECTIONS: Mapping[str, Measure] = {"squad": against_b0.squad, "nq": against_b0.nq, "tune": tuning.measure}


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
