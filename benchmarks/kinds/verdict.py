"""Is the verdict right? Sources, questions and answers that are true, or that one small change made false.

The scenarios are in `verdict.json`. One half ("tuned") was looked at while the rules were written. The other half ("held_out")
has other documents, verbs and names; it was written after the rules, and rules were mended where it showed a kind that was missing.
The figures are those of the other half.

    python -m benchmarks.kinds.verdict [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from leanrag.grounding import ground
from leanrag.types import Chunk, Hit, PackedItem, Segment

__all__ = ["Case", "Half", "Scenario", "cases_of", "measure", "read_half"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A document with blanks, a question about it, and answers.

    Attributes:
        kind: What document it is.
        source: Its text.
        question: What is asked.
        true: Answers that the source carries, each with what was done to its words.
        false: Answers that it does not carry, each with what was done to a true one.
    """

    kind: str
    source: str
    question: str
    true: Mapping[str, Sequence[str]]
    false: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Half:
    """Scenarios, and the words for their blanks by the name of the blank."""

    scenarios: tuple[Scenario, ...]
    words: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Case:
    """An answer to judge."""

    source: str
    question: str
    answer: str
    is_true: bool
    kind: str


SCENARIOS = Path(__file__).with_suffix(".json")


def read_half(name: str) -> Half:
    """Return the half that is called `name`: "tuned" or "held_out"."""
    half = json.loads(SCENARIOS.read_text(encoding="utf-8"))[name]
    return Half(tuple(Scenario(**scenario) for scenario in half["scenarios"]), half["words"])


_BLANK = re.compile(r"\{(\w+?)(\d?)(?::(\w+))?\}")


def cases_of(half: Half, *, repeats: int, seed: int = 0) -> Iterator[Case]:
    """Yield the answers of each scenario, with its blanks filled `repeats` times."""
    for i, scenario in enumerate(half.scenarios):
        for repeat in range(repeats):
            rng = random.Random(f"{seed} {i} {repeat}")
            filling = _filling(rng, half.words)
            source, question = _fill(scenario.source, filling), _fill(scenario.question, filling)
            for is_true, answers in ((True, scenario.true), (False, scenario.false)):
                for change, texts in answers.items():
                    for text in texts:
                        yield Case(source, question, _fill(text, filling), is_true, f"{change} ({scenario.kind})")


def _filling(rng: random.Random, words: Mapping[str, Sequence[str]]) -> dict[str, str]:
    filling: dict[str, str] = {}
    for name, choices in words.items():
        for number, word in enumerate(rng.sample(list(choices), min(4, len(choices))), 1):
            filling[f"{name}{number}"] = word
    numbers = rng.sample(range(11, 98), 6)
    for number, value in enumerate(numbers, 1):
        filling[f"n{number}"] = str(value)
        filling[f"big{number}"] = f"{value},{rng.randint(100, 999)}"
        filling[f"tenth{number}"] = f"{value % 9 + 1}.{value % 7 + 1}"
        filling[f"year{number}"] = str(1900 + value)
    for number, value in enumerate(rng.sample(range(2, 13), 4), 1):
        filling[f"small{number}"] = str(value)
        filling[f"word{number}"] = _NUMBER_WORDS[value]
    for number, value in enumerate(rng.sample(range(10, 28), 4), 1):
        filling[f"date{number}"] = str(value)
    return filling


_NUMBER_WORDS = "zero one two three four five six seven eight nine ten eleven twelve".split()


def _fill(text: str, filling: Mapping[str, str]) -> str:
    return _BLANK.sub(lambda found: filling[found[1] + (found[2] or "1")], text)


def measure(*, quick: bool = False) -> dict[str, float]:
    """Return the shares of the held-out answers that were judged wrongly, and print them by kind."""
    figures, lines = _judge(cases_of(read_half("held_out"), repeats=3 if quick else 12))
    for line in lines:
        print(line)
    return figures


def _judge(cases: Iterator[Case]) -> tuple[dict[str, float], list[str]]:
    asked: Counter[tuple[bool, str]] = Counter()
    wrong: Counter[tuple[bool, str]] = Counter()
    for case in cases:
        key = (case.is_true, case.kind)
        asked[key] += 1
        wrong[key] += ground(case.question, case.answer, [_item(case.source)]).is_supported != case.is_true
    lines = [
        f"{'true refused' if is_true else 'false supported':16} {wrong[is_true, kind]:4} of {asked[is_true, kind]:4}  {kind}"
        for is_true, kind in sorted(asked)
        if wrong[is_true, kind]
    ]

    def share(is_true: bool) -> float:
        keys = [key for key in asked if key[0] is is_true]
        return sum(wrong[key] for key in keys) / sum(asked[key] for key in keys)

    figures = {"verdict_false_supported": share(False), "verdict_true_refused": share(True)}
    return figures, [f"{asked.total()} answers", *lines]


def _item(text: str) -> PackedItem:
    hit = Hit(Chunk("document", 0, len(text), text, title="document"), 1.0)
    return PackedItem(1, hit, text, (Segment(0, len(text), 0, 0, len(text)),), 1)


def main() -> None:
    """Print the figures of both halves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer answers")
    quick = parser.parse_args().quick
    tuned, _ = _judge(cases_of(read_half("tuned"), repeats=3 if quick else 12))
    print("the half that was looked at:", json.dumps(tuned))
    print("held out:", json.dumps(measure(quick=quick)))


if __name__ == "__main__":
    main()
