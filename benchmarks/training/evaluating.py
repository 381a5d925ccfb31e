"""What a reader makes of questions that it was not trained on: the sets, and the figures of its replies.

Measures any reader through llama.cpp:

    python -m benchmarks.training.evaluating --data DIR --model qwen2.5-coder-0.5b+FILE [--count 20]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

import leanrag
from benchmarks.training.material import Material, read_nq, read_squad
from leanrag.evidence.scoring import SentenceScorer
from leanrag.llama import LlamaCppModel
from leanrag.metrics import exact_match, f1, mean
from leanrag.models import resolve_model
from leanrag.prompting import ModelProfile, profile_named
from leanrag.protocols import LanguageModel
from leanrag.testing import HashEmbedder
from leanrag.training import load_record
from leanrag.training.examples import Example
from leanrag.training.rows import Row, RowMaker, Variant
from leanrag.types import Generation, Hit

__all__ = ["REPLY_TOKENS", "SETS", "Asked", "ask_reader", "figures_of", "make_asked", "measure_reader", "parse_reply"]

SETS: Mapping[str, tuple[str, bool, Variant]] = {
    "nq1": ("nq", True, Variant("gold")),
    "nq3": ("nq", True, Variant("few", 450)),
    "nq0": ("nq", True, Variant("without")),
    "squad": ("squad-v2-dev", True, Variant("gold")),
    "near_miss": ("squad-v2-dev", False, Variant("gold")),
}
"""Data set, whether the questions have answers, and what the prompt shows: the gold passage, it and two others, or others."""

SHIPPED = "smollm2-135m+reader"
REPLY_TOKENS = 24
_PARTS = {
    "nq1_em": "nq1_em",
    "nq3_em": "nq3_em",
    "squad_em": "squad_em",
    "refuses_distractors": "nq0_refuses",
    "refuses_near_miss": "near_miss_refuses",
    "mark_right": "mark_right",
}
_ANSWERABLE = ("nq1", "nq3", "squad")
_MARK = re.compile(r"\s*\[(\d+)\][.!?]?\s*$")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of a set.

    Attributes:
        set_name: The set.
        row: The prompt and the right reply.
        answers: Accepted answers; none if the right reply is the refusal.
    """

    set_name: str
    row: Row
    answers: tuple[str, ...]


def measure_reader(data: Path, model: str, count: int) -> dict[str, float | int | None]:
    """Return the figures of a reader.

    Args:
        data: Folder of the data sets.
        model: Its name.
        count: Most questions of a set.
    """
    asked, replies = ask_reader(data, model, count)
    found = figures_of(asked, [reply.text for reply in replies], _profile())
    figures: dict[str, float | int | None] = {key: found.get(name) for key, name in _PARTS.items()}
    figures["wrongly_refuses"] = mean(found[f"{name}_refuses"] for name in _ANSWERABLE)
    figures |= {f"{name}_f1": found[f"{name}_f1"] for name in _ANSWERABLE}
    figures["n"] = len(asked)
    return figures


def ask_reader(data: Path, model: str, count: int) -> tuple[list[Asked], list[Generation]]:
    """Return questions of all sets, at most `count` of each, and the replies of a reader."""
    files, profile = resolve_model(model), _profile()
    # All readers are trained on rows about the same articles.
    seen = load_record(resolve_model(SHIPPED).adapters[0].with_suffix(".json")).units
    with LlamaCppModel(files.path, adapters=files.adapters, n_ctx=1024) as reader:
        asked = make_asked(data, reader, profile, seen=frozenset(seen), count=count)
        replies = [
            reader.generate(list(each.row.prompt), max_tokens=REPLY_TOKENS) for each in tqdm(asked, disable=None)
        ]
    return asked, replies


def _profile() -> ModelProfile:
    profile = profile_named(SHIPPED)
    assert profile is not None
    return profile


def make_asked(
    data: Path, model: LanguageModel, profile: ModelProfile, *, seen: Collection[str], count: int | None = None
) -> list[Asked]:
    """Return the questions of all sets about articles that no training row is about.

    Args:
        data: Folder of the data sets.
        model: Counts tokens.
        profile: How the reader is asked.
        seen: Articles that training rows are about.
        count: Most questions of a set; None for all.
    """
    asked: list[Asked] = []
    for material in (read_nq(data), read_squad(data, "squad-v2-dev")):
        with (
            tempfile.TemporaryDirectory() as folder,
            leanrag.open(folder, model=model, embedder=HashEmbedder(dim=512)) as rag,
        ):
            rag.add(*material.documents, progress=False)
            maker = RowMaker(functools.partial(_search, rag), SentenceScorer(), model.count_tokens, profile)
            for name, (source, has_answers, variant) in SETS.items():
                if source == material.name:
                    asked += _asked_of(name, material, maker, has_answers, variant, seen, count)
    return asked


def _search(rag: leanrag.Rag, example: Example, k: int) -> Sequence[Hit]:
    return rag.search(example.question, k)


def _asked_of(
    name: str,
    material: Material,
    maker: RowMaker,
    has_answers: bool,
    variant: Variant,
    seen: Collection[str],
    count: int | None,
) -> list[Asked]:
    examples = [
        example for example in material.examples if example.unit not in seen and bool(example.answers) == has_answers
    ]
    if count is not None:
        examples = examples[:: max(1, len(examples) // count)][:count]
    return [
        Asked(name, row, () if variant.sources == "without" else example.answers)
        for example in examples
        for row in maker.rows(example, [variant])
    ]


def parse_reply(reply: str) -> tuple[str, int | None]:
    """Return the answer of a reply, and the number of its mark."""
    found = _MARK.search(reply)
    return (reply[: found.start()], int(found[1])) if found else (reply.strip(), None)


def figures_of(asked: Sequence[Asked], replies: Sequence[str], profile: ModelProfile) -> dict[str, float]:
    """Return the figures of replies: by set, EM and F1 or the share of refusals, the share wrongly refused, and of right marks."""
    figures: dict[str, float] = {}
    marks: list[bool] = []
    for name in SETS:
        pairs = [(each, reply) for each, reply in zip(asked, replies, strict=True) if each.set_name == name]
        if not pairs:
            continue
        figures[f"{name}_n"] = len(pairs)
        figures[f"{name}_refuses"] = mean(profile.refuses(reply) for _, reply in pairs)
        if SETS[name][1] and SETS[name][2].sources != "without":
            parsed = [parse_reply(reply) for _, reply in pairs]
            figures[f"{name}_em"] = mean(
                exact_match(text, each.answers) for (text, _), (each, _) in zip(parsed, pairs, strict=True)
            )
            figures[f"{name}_f1"] = mean(
                f1(text, each.answers) for (text, _), (each, _) in zip(parsed, pairs, strict=True)
            )
        if name == "nq3":
            marks += [parse_reply(reply)[1] == each.row.number for each, reply in pairs if not profile.refuses(reply)]
    if marks:
        figures["mark_right"] = mean(marks)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LEANRAG_DATA"), help="folder of the data sets")
    parser.add_argument("--model", default=SHIPPED, help="the reader (default: %(default)s)")
    parser.add_argument("--count", type=int, default=20, help="most questions of a set (default: %(default)s)")
    arguments = parser.parse_args()
    print(json.dumps(measure_reader(arguments.data, arguments.model, arguments.count), indent=1))


if __name__ == "__main__":
    main()
