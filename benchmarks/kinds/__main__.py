"""Does the prompt hold the answer, whatever kind of document it stands in? Search, packing and readers on many kinds.

The documents of a kind look alike, and the questions paraphrase them. The answer is in the prompt when every span that it
takes is there: the steps of a how-to, a row and its header, a question with its answer. The default packer and `GreedyPacker`
get the same hits and the same budget, counted by the tokenizer of smollm2-135m. The library may be tuned on one half of the
kinds; figures whose names begin with `kinds` are those of the other half, and those that end in `_all` are of all kinds.

    python -m benchmarks.kinds --data DIR --json FILE [--quick] [--readers] [--failures]
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import finish, parse_arguments
from benchmarks.kinds import QUESTIONS, make_kinds
from benchmarks.kinds.measuring import BUDGETS, KS, KindResult, RememberedVectors, measure_kind
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.model import LlamaCppModel
from leanrag.metrics import bootstrap_interval
from leanrag.models import resolve
from leanrag.pipeline.copies import find_embedder

EMBEDDER, COUNTER = "all-minilm-l6-v2", "smollm2-135m"
QUICK_QUESTIONS = 4
FLAGS = {
    "readers": "let readers answer too, which takes many minutes",
    "failures": "print each question whose answer is not in the prompt, and why",
}

Figures = dict[str, float | int | None]


def main() -> None:
    arguments = parse_arguments(__doc__, flags=FLAGS)
    kinds = make_kinds(arguments.data, n=QUICK_QUESTIONS if arguments.is_quick else QUESTIONS)
    models = {EMBEDDER: find_embedder(EMBEDDER), COUNTER: resolve(COUNTER)}
    results = []
    with LlamaCppEmbedder(models[EMBEDDER]) as embedder, LlamaCppModel(models[COUNTER]) as counter:
        vectors = RememberedVectors(embedder, Path(tempfile.gettempdir()))
        print(_row("kind", "half", "n", *_COLUMNS), flush=True)
        for kind in kinds:
            result = measure_kind(kind, counter, vectors)
            vectors.save()
            results.append(result)
            print(_row(kind.name, kind.half, str(len(kind.questions)), *_cells(result)), flush=True)
            if "failures" in arguments.flags:
                for question, reason in result.failures:
                    print(f"    {question.text!r}: {reason}")
    figures = {**summary([result for result in results if result.kind.half == "held-out"]), **details(results)}
    figures |= {f"{name}_all": value for name, value in summary(results).items()}
    print_spread(results)
    finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick)


_COLUMNS = (
    *(f"found@{k}" for k in KS),
    *(f"ours@{budget}" for budget in BUDGETS),
    *(f"greedy@{budget}" for budget in BUDGETS),
    "gain",
)


def _row(name: str, half: str, n: str, *cells: str) -> str:
    return f"{name:15} {half:9} {n:>4} " + " ".join(f"{cell:>10}" for cell in cells)


def _cells(result: KindResult) -> list[str]:
    values = [*result.found.values(), *result.in_prompt.values()]
    return [f"{value:.3f}" for value in values] + [f"{result.gain:+.3f}"]


def summary(results: Sequence[KindResult]) -> Figures:
    """Return the figures over kinds: mean, worst, and the least gain over the greedy packer."""
    figures: Figures = {"n": sum(len(result.kind.questions) for result in results)}
    for budget in BUDGETS:
        ours = [result.in_prompt["default", budget] for result in results]
        greedy = [result.in_prompt["greedy", budget] for result in results]
        figures |= {
            f"kinds_prompt_mean@{budget}": statistics.fmean(ours),
            f"kinds_prompt_worst@{budget}": min(ours),
            f"kinds_greedy_mean@{budget}": statistics.fmean(greedy),
            f"kinds_greedy_worst@{budget}": min(greedy),
        }
    for k in KS:
        figures[f"kinds_found@{k}"] = statistics.fmean(result.found[k] for result in results)
    figures["kinds_gain_over_greedy_worst"] = min(result.gain for result in results)
    return figures


def details(results: Sequence[KindResult]) -> Figures:
    """Return the figures of each kind."""
    figures: Figures = {}
    for result in results:
        name = result.kind.name
        figures |= {f"{name}_found@{k}": value for k, value in result.found.items()}
        figures |= {f"{name}_{packer}@{budget}": value for (packer, budget), value in result.in_prompt.items()}
    return figures


def print_spread(results: Sequence[KindResult]) -> None:
    """Print the interval of each mean over the questions of all kinds, which are equally many in each kind."""
    for key in results[0].outcomes:
        outcomes = [float(value) for result in results for value in result.outcomes[key]]
        low, high = bootstrap_interval(outcomes)
        print(f"{key[0]:8} {key[1]} tokens: {statistics.fmean(outcomes):.3f} [{low:.3f}, {high:.3f}] n={len(outcomes)}")


if __name__ == "__main__":
    main()
