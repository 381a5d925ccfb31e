"""Does the prompt hold the answer, whatever kind of document it stands in? Search, packing and readers on many kinds.

The documents of a kind look alike, and the questions paraphrase them. The answer is in the prompt when every span that it
takes is there: the steps of a how-to, a row and its header, a question with its answer. The default packer and `GreedyPacker`
get the same hits and the same budget. The tokenizer of qwen2.5-coder-0.5b counts, for all kinds: it has tokens for the words
of many languages. A full run prints a second table, counted by the tokenizer of smollm2-135m, whose figures end in the name
of that model; it takes a token or more for each letter of Thai or Hindi, so that a budget of 100 tokens is a few words there.
A question whose answer alone takes more than the budget is not counted. The library may be tuned on one half of the kinds;
figures whose names begin with `kinds` are those of the other half, and those that end in `_all` are of all kinds.

Readers answer a few questions of each kind of that half. A quick run leaves them out, unless `--readers` asks for them; it asks
three questions of each kind and reads their files alone.

    python -m benchmarks.kinds --data DIR --json FILE [--quick] [--readers] [--failures] [--only SECTION]
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.common import finish, parse_arguments
from benchmarks.kinds import QUESTIONS, Kind, identifiers, make_kinds, verdict
from benchmarks.kinds.measuring import BUDGETS, KS, PACKERS, KindResult, RememberedVectors, measure_kind
from benchmarks.kinds.readers import READERS, measure_reader
from leanrag.errors import ModelLoadError
from leanrag.llama import LlamaCppEmbedder, LlamaCppModel
from leanrag.metrics import bootstrap_interval
from leanrag.models import resolve
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import Embedder

EMBEDDER = "all-minilm-l6-v2"
COUNTER, SECOND_COUNTER = "qwen2.5-coder-0.5b", "smollm2-135m"
READ_QUESTIONS, QUICK_QUESTIONS, QUICK_READ_QUESTIONS = 3, 3, 1
SECTIONS = ("packing", "identifiers", "verdict", "readers")
FLAGS = {
    "readers": "let the readers answer in a quick run too, which takes minutes",
    "failures": "print each question whose answer is not in the prompt, and why",
}

Figures = dict[str, float | int | None]


def main() -> None:
    arguments = parse_arguments(__doc__, sections=SECTIONS, flags=FLAGS)
    kinds = make_kinds(arguments.data, n=QUICK_QUESTIONS if arguments.is_quick else QUESTIONS)
    if arguments.is_quick:
        kinds = tuple(map(_without_other_files, kinds))
    figures: Figures = {"n": sum(len(kind.questions) for kind in kinds)}
    with LlamaCppEmbedder(find_embedder(EMBEDDER)) as embedder:
        vectors = RememberedVectors(embedder, Path(tempfile.gettempdir()))
        if arguments.only in (None, "packing"):
            figures |= packing(kinds, vectors, COUNTER, print_failures="failures" in arguments.flags)
            if not arguments.is_quick:
                second = packing(kinds, vectors, SECOND_COUNTER)
                figures |= {f"{name}_{SECOND_COUNTER}": value for name, value in second.items() if "found" not in name}
        if arguments.only in (None, "identifiers"):
            figures |= identifiers.measure(arguments.is_quick, embedder)
        if arguments.only in (None, "verdict"):
            figures |= verdict.measure(quick=arguments.is_quick)
        if arguments.only == "readers" or "readers" in arguments.flags or not (arguments.is_quick or arguments.only):
            held_out = [kind for kind in kinds if kind.half == "held-out"]
            figures |= readers(held_out, vectors, QUICK_READ_QUESTIONS if arguments.is_quick else READ_QUESTIONS)
    models = {EMBEDDER: find_embedder(EMBEDDER), **{name: resolve(name) for name in (COUNTER, SECOND_COUNTER)}}
    finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)


def _without_other_files(kind: Kind) -> Kind:
    """Return a kind without the files that no question is about: embedding them takes most of the time of a quick run."""
    asked = {name for question in kind.questions for name in question.files}
    return replace(kind, files={name: text for name, text in kind.files.items() if name in asked})


# Search and packing


def packing(
    kinds: Sequence[Kind], embedder: RememberedVectors, counter_name: str, *, print_failures: bool = False
) -> Figures:
    """Return the figures of search and packing with the tokenizer of a model; a line a kind is printed."""
    results = []
    print(f"tokens of {counter_name}", flush=True)
    with LlamaCppModel(resolve(counter_name)) as counter:
        print(_row("kind", "half", "n", *_COLUMNS), flush=True)
        for kind in kinds:
            results.append(result := measure_kind(kind, counter, embedder))
            embedder.save()
            print(_row(kind.name, kind.half, str(len(kind.questions)), *_cells(result)), flush=True)
            for question, reason in result.failures if print_failures else ():
                print(f"    {question.text!r}: {reason}")
    _print_spread(results)
    figures = _summary([result for result in results if result.kind.half == "held-out"])
    figures |= {f"{name}_all": value for name, value in _summary(results).items()}
    for result in results:
        name = result.kind.name
        figures |= {f"{name}_found@{k}": value for k, value in result.found.items()}
        figures |= {f"{name}_{packer}@{budget}": value for (packer, budget), value in result.in_prompt.items()}
    return figures


_COLUMNS = (
    *(f"found@{k}" for k in KS),
    *(f"ours@{budget}" for budget in BUDGETS),
    *(f"greedy@{budget}" for budget in BUDGETS),
    "gain",
)


def _row(name: str, half: str, n: str, *cells: str) -> str:
    return f"{name:15} {half:9} {n:>4} " + " ".join(f"{cell:>10}" for cell in cells)


def _cells(result: KindResult) -> list[str]:
    shares = [result.in_prompt.get((packer, budget)) for packer in PACKERS for budget in BUDGETS]
    values = [*result.found.values(), *shares]
    return ["-" if value is None else f"{value:.3f}" for value in values] + [f"{result.gain:+.3f}"]


def _summary(results: Sequence[KindResult]) -> Figures:
    """Return the figures over kinds: mean, worst, and the least gain over the greedy packer."""
    figures: Figures = {}
    for budget in BUDGETS:
        ours, greedy = (
            [result.in_prompt[packer, budget] for result in results if (packer, budget) in result.in_prompt]
            for packer in PACKERS
        )
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


def _print_spread(results: Sequence[KindResult]) -> None:
    """Print the interval of each mean over the questions of all kinds."""
    for key in results[0].outcomes:
        outcomes = [float(value) for result in results for value in result.outcomes[key]]
        low, high = bootstrap_interval(outcomes)
        print(f"{key[0]:8} {key[1]} tokens: {statistics.fmean(outcomes):.3f} [{low:.3f}, {high:.3f}] n={len(outcomes)}")


# Readers


def readers(kinds: Sequence[Kind], embedder: Embedder, questions: int) -> Figures:
    """Return how often each reader is right, and how often the verdict is; None for a reader that was not pulled."""
    figures: Figures = {}
    for name in READERS:
        try:
            readings = measure_reader(name, kinds, embedder, questions=questions)
        except ModelLoadError as error:
            print(f"{name}: not measured: {error}", flush=True)
            figures |= {f"kinds_right_{name}": None, f"kinds_verdict_right_{name}": None}
            continue
        right = [float(value) for reading in readings for value in reading.right]
        low, high = bootstrap_interval(right)
        print(f"{name:8} right: {statistics.fmean(right):.3f} [{low:.3f}, {high:.3f}] n={len(right)}", flush=True)
        figures |= {
            "kinds_right_n": len(right),
            f"kinds_right_{name}": statistics.fmean(right),
            f"kinds_verdict_right_{name}": statistics.fmean(reading.verdict_right for reading in readings),
        }
        figures |= {f"{reading.kind.name}_right_{name}": statistics.fmean(reading.right) for reading in readings}
    return figures


if __name__ == "__main__":
    main()
