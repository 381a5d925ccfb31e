"""The record of a training: what was learnt, how, what was measured, and what it cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from leanrag.files import RecordFormat, read_record, write_record

if TYPE_CHECKING:
    from leanrag.training.options import TrainingOptions, TrainingResult

__all__ = ["TrainingRecord", "load_record", "save_record"]

_FORMAT = RecordFormat("leanrag training", 1, "record of a training", "Train again")


class TrainingRecord(pydantic.BaseModel):
    """What is known of a training.

    Attributes:
        base: Name of the model that was trained.
        base_sha256: Hash of its file.
        adapter_sha256: Hash of the adapter.
        rows: Rows that were learnt.
        development_rows: Rows that were measured.
        rows_sha256: Hash of the rows that were learnt.
        units: Articles, documents or questions that the rows are about. What is measured must be about others.
        options: The options.
        rank: Rank of the adapter.
        steps: Steps that were made.
        planned_steps: Steps that were planned.
        evaluations: Step, training loss, development loss and share of exact replies, of each evaluation.
        figures: What else was measured, by name.
        tokens: Tokens that were read.
        seconds: Time of the training.
        device: What computed it.
        cost: What it cost in the currency of the prices; None if it is unknown.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    base: str
    base_sha256: str
    adapter_sha256: str
    rows: int
    development_rows: int
    rows_sha256: str
    units: tuple[str, ...]
    options: dict[str, str | int | float | bool | None]
    rank: int
    steps: int
    planned_steps: int
    evaluations: tuple[tuple[int, float, float, float], ...]
    figures: dict[str, float]
    tokens: int
    seconds: float
    device: str
    cost: float | None = None


def result_fields(options: TrainingOptions, result: TrainingResult) -> dict[str, object]:
    """Return the fields of a record that follow from the options and the result of a training."""
    return {
        "options": dataclasses.asdict(options),
        "steps": result.steps,
        "planned_steps": result.planned_steps,
        "evaluations": tuple((e.step, e.train_loss, e.loss, e.exact) for e in result.evaluations),
        "tokens": result.tokens,
        "seconds": result.seconds,
    }


def save_record(path: Path, record: TrainingRecord) -> None:
    """Write a record.

    Raises:
        StorageError: The file cannot be written.
    """
    write_record(path, record, _FORMAT)


def load_record(path: Path) -> TrainingRecord:
    """Return the record in a file.

    Raises:
        StorageError: The file is missing, damaged, or not such a record.
    """
    return read_record(path, TrainingRecord, _FORMAT)
