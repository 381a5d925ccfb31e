"""Make the calibration that ships with the reader: from held-out questions to a file beside the adapter.

    python -m benchmarks.training.calibrating --data DIR [--out FILE]

The questions are about articles that no training row was about. A part of them is asked without the documents of these articles, so
that the sources do not answer. Every answer is stored in the temporary folder, and a killed run goes on where it was. The
calibration is fitted on all answers. The figures are about calibrations for articles that they were not fitted on.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.training.material import is_held_out, read_nq, read_squad
from leanrag.models import resolve_model
from leanrag.prompting import Style
from leanrag.routing import Calibration
from leanrag.routing.calibration import auroc, expected_calibration_error
from leanrag.routing.labels import answer_text, is_right_or_silent
from leanrag.routing.refusals import is_refusal
from leanrag.routing.samples import Sample
from leanrag.routing.signals import SIGNAL_NAMES, Signals
from leanrag.training.examples import Example
from leanrag.types import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Reply", "ask_questions", "evaluate", "fit", "measure_calibration"]

READER = "smollm2-135m+reader"
ALPHA, DELTA = 0.2, 0.1
"""The risk of a kept answer that is wrong, and the probability that it is higher."""

_OF_THE_FOLDER = (
    *(f"dense_{name}" for name in ("best", "gap", "mean")),
    *(f"bm25_{name}" for name in ("best", "gap")),
    *("score_gap", "agreement", "log_hits", "kept_share"),
    *("no_dense", "no_bm25", "no_hits", "no_agreement"),
)
"""Signals that depend on how many documents a folder has, on their length, and on the embedder."""

_COUNTS = {"nq": 70, "nq-without": 40, "squad": 40, "squad-near-miss": 40, "xquad": 30}
_QUICK_SHARE = 10
_DISTRACTORS = 12  # every twelfth document of the articles that are not held out
_FOLDS = 5
_ABSTAIN_BELOW = 0.3  # the example of `abstain_below` in the figures


@dataclass(frozen=True, slots=True)
class Reply:
    """What the reader answered to a question.

    Attributes:
        set_name: The set of the question.
        unit: The article of the question.
        answers: Accepted answers; none if the sources do not answer.
        sample: The words of the reader, and the signals.
    """

    set_name: str
    unit: str
    answers: tuple[str, ...]
    sample: Sample

    @property
    def is_right(self) -> bool:
        """Whether the answer holds an accepted one, or refuses if there is none."""
        return is_right_or_silent(self.sample.text, self.answers)


def ask_questions(data: Path, work: Path, *, is_quick: bool = False) -> list[Reply]:
    """Return what the reader answers to held-out questions; those that the work folder has are not asked again."""
    documents, asked = _choose_questions(data, is_quick)
    path = work / "replies.jsonl"
    known = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if known and not known[-1].endswith("\n"):  # the end of a killed run
        path.write_text("".join(known := known[:-1]), encoding="utf-8")
    with leanrag.open(
        work / "documents", model=leanrag.Cascade([READER], calibrations=[None]), abstain_below=0.0
    ) as rag:
        rag.add(*documents, progress=False)
        with path.open("a", encoding="utf-8") as file:
            for name, example in tqdm(asked[len(known) :], desc="questions", disable=None):
                where = {"is_held_out": False} if name.endswith("without") else None
                answer = rag.ask(example.question, style=_style_of(example), where=where)
                assert answer.generation is not None
                details = next(stage.details for stage in answer.trace if stage.name == "confidence")
                fields = {
                    "set": name,
                    "unit": example.unit,
                    "answers": [] if name.endswith("without") else example.answers,
                    "text": answer_text(answer.generation.text),
                    "signals": {each: details.get(each) for each in Signals.__dataclass_fields__},
                }
                file.write(json.dumps(fields) + "\n")
                file.flush()
    return [_parse_reply(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _parse_reply(line: str) -> Reply:
    fields = json.loads(line)
    sample = Sample(fields["text"], Signals(**fields["signals"]))
    return Reply(fields["set"], fields["unit"], tuple(fields["answers"]), sample)


def _choose_questions(data: Path, is_quick: bool) -> tuple[list[Document], list[tuple[str, Example]]]:
    """Return the documents of the folder, and the questions with their sets, in random order."""
    nq, squad, xquad = read_nq(data), read_squad(data, "squad-v2-dev"), read_squad(data, "xquad-en")
    documents = [
        dataclasses.replace(document, metadata={"is_held_out": is_held_out(document.title)})
        for material in (nq, squad, xquad)
        for i, document in enumerate(material.documents)
        if is_held_out(document.title) or i % _DISTRACTORS == 0
    ]
    pools = {
        "nq": nq.examples,
        "nq-without": nq.examples,
        "squad": [example for example in squad.examples if example.answers],
        "squad-near-miss": [example for example in squad.examples if not example.answers],
        "xquad": xquad.examples,
    }
    source = random.Random(0)
    asked = []
    for name, pool in pools.items():
        examples = [example for example in pool if is_held_out(example.group)]
        source.shuffle(examples)
        asked += [(name, example) for example in examples[: _COUNTS[name] // (_QUICK_SHARE if is_quick else 1)]]
    source.shuffle(asked)
    return documents, asked


def _style_of(example: Example) -> Style:
    """Return the form of the answer that is asked for: mostly a phrase, as in use."""
    return random.Random(example.question).choice(("phrase", "phrase", "phrase", "phrase", "sentence", "explanation"))


def fit(replies: Sequence[Reply], sha256: str | None) -> Calibration:
    """Return the calibration that the replies give. It looks at signals that mean the same in every folder.

    It does not say when to abstain: the reader itself refuses, and further refusals gave no more right answers.
    """
    return Calibration.fit(
        _features(replies),
        [reply.is_right for reply in replies],
        names=SIGNAL_NAMES,
        models={READER: sha256},
        created=datetime.datetime.now(datetime.timezone.utc).date(),
        alpha=ALPHA,
        delta=DELTA,
    )


def _features(replies: Sequence[Reply]) -> NDArray[np.float64]:
    """Return the signals of replies `(n, len(SIGNAL_NAMES))`; those of the folder are 0, so that they get no weight."""
    features = np.array([reply.sample.signals.vector() for reply in replies])
    return features * ~np.isin(SIGNAL_NAMES, _OF_THE_FOLDER)


def measure_calibration(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return how good calibrations are for the articles that they were not made from, and what they change."""
    replies = ask_questions(data, _work_folder(is_quick), is_quick=is_quick)
    return evaluate(replies, folds=2 if is_quick else _FOLDS)


def _work_folder(is_quick: bool = False) -> Path:
    work = Path(tempfile.gettempdir()) / ("leanrag-reader-calibration" + ("-quick" if is_quick else ""))
    work.mkdir(exist_ok=True)
    return work


def evaluate(replies: Sequence[Reply], folds: int) -> dict[str, float | int | None]:
    """Return the figures of replies, each judged by the calibration of the other parts; an article is in one part."""
    units = sorted({reply.unit for reply in replies})
    random.Random(0).shuffle(units)
    part_of = {unit: i % folds for i, unit in enumerate(units)}
    confidences = np.zeros(len(replies))
    kept = np.zeros(len(replies), bool)
    for part in range(folds):
        inside = [i for i, reply in enumerate(replies) if part_of[reply.unit] == part]
        calibration = fit([reply for reply in replies if part_of[reply.unit] != part], None)
        rows = _features([replies[i] for i in inside])
        confidences[inside] = calibration.confidence(rows)
        kept[inside] = calibration.keeps(rows)
    right = np.array([reply.is_right for reply in replies])
    refuses = np.array([is_refusal(reply.sample.text) for reply in replies])
    answerable = np.array([bool(reply.answers) for reply in replies])
    near_miss = np.array([reply.set_name == "squad-near-miss" for reply in replies])
    abstains = confidences < _ABSTAIN_BELOW
    figures: dict[str, float | int | None] = {
        "calibrated_auroc": auroc(confidences, right),
        "calibrated_ece": expected_calibration_error(confidences, right),
        "calibrated_kept": float(kept.mean()),
        "calibrated_kept_wrong": float((kept & ~right).mean()),
        "calibrated_n": len(replies),
    }
    ways = {"in_use": (refuses, right), "abstaining": (refuses | abstains, np.where(abstains, ~answerable, right))}
    for name, (silent, is_good) in ways.items():
        figures[f"{name}_right"] = float(is_good.mean())
        figures[f"{name}_wrongly_refuses"] = float(silent[answerable].mean())
        figures[f"{name}_refuses_distractors"] = float(silent[~answerable & ~near_miss].mean())
        figures[f"{name}_refuses_near_miss"] = float(silent[near_miss].mean())
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LEANRAG_DATA"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, help="file of the calibration (default: beside the shipped adapter)")
    arguments = parser.parse_args()
    work = _work_folder()
    replies = ask_questions(arguments.data, work)
    with leanrag.open(work / "documents", model=READER) as rag:
        sha256 = rag._asking.readers[0].sha256
    shipped = resolve_model(READER).adapters[0].with_suffix(".calibration.json")
    fit(replies, sha256).save(arguments.out or shipped)
    print(json.dumps(evaluate(replies, _FOLDS), indent=1))


if __name__ == "__main__":
    main()
