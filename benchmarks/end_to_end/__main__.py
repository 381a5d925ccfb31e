"""Is a question answered with fewer seconds, tokens and CPU seconds than by the usual way, and as well?

The usual way, B0: the largest model by name reads the ten best passages whole, in `llama_cpp.Llama`, one request at a time. B1 is
the same with the small model. LangChain and LlamaIndex are measured if they are installed. Then leanrag answers, with a stage more
in each row. All rows get the same questions over the same documents, question by question, in the same run. The cost of a question
is its CPU seconds. The questions are about articles on which the trained reader was not trained.

`cascade` counts the calls of the largest model that a cascade saves. `tune` is measured by how often the chosen settings keep their
bound on questions that it did not see, and by how few of the points that it looks at ask a model. `hotpot` is measured if the data
folder has `hotpot.json.gz`.

Each answer is kept in the folder for temporary files. A run that was stopped measures only what is missing when it starts again.

    python -m benchmarks.end_to_end --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.common import Measure, run_sections
from benchmarks.end_to_end import against_b0, cascade, tuning

SECTIONS: Mapping[str, Measure] = {
    "nq": against_b0.nq,
    "squad": against_b0.squad,
    "hotpot": against_b0.hotpot,
    "cascade": cascade.measure,
    "tune": tuning.measure,
}

if __name__ == "__main__":
    run_sections(__doc__, SECTIONS)
