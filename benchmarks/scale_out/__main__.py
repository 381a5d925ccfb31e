"""Past one machine: Ray, other vector engines, killed nodes, and a plan that a simulation checks.

    python -m benchmarks.scale_out --data DIR --json FILE [--quick] [--only SECTION]

A section is a module of this folder with `measure(data, is_quick)`, which returns the figures. It is imported late. A
section whose libraries are not installed is left out, and the run says so. The file is written after each section.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.common import Figures, Measure, run_sections

SECTIONS: Mapping[str, Sequence[str]] = {
    "ray_ingest": ("ray",),
    "chaos": ("ray",),
    "stores": ("psycopg", "pgserver", "qdrant_client", "pymilvus"),
    "simulation": (),
}
"""The modules, each with the packages that it imports."""


def measure_section(name: str, packages: Sequence[str], data: Path, is_quick: bool) -> Figures:
    """Return the figures of a section; none if a package is not installed."""
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        print(f"{name} is left out: {', '.join(missing)} cannot be imported", flush=True)
        return {}
    figures: Figures = importlib.import_module(f"benchmarks.scale_out.{name}").measure(data, is_quick)
    return figures


def main() -> None:
    sections: dict[str, Measure] = {
        name: functools.partial(measure_section, name, packages) for name, packages in SECTIONS.items()
    }
    run_sections(__doc__, sections)


if __name__ == "__main__":
    main()
