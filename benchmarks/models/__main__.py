"""Do models of every architecture answer rightly, do bad files and templates do no harm, and how well do the readers answer?

Each section is a module of this folder. Tiny models are made by the program; templates and vocabularies come from the source
distribution of llama-cpp-python.

    python -m benchmarks.models --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.common import Measure, run_sections
from benchmarks.models import architectures, busy, cascade, files, prompts, readers, rerankers, templates

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

if __name__ == "__main__":
    run_sections(__doc__, SECTIONS)
