"""What a way of answering does with a question, measured from outside, and the file that keeps it for the next run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.common import Question
from leanrag import metrics
from leanrag.ledger.energy import find_meter
from leanrag.types.codec import from_json, to_json

__all__ = ["Load", "Log", "Observation", "Reply", "Way", "observe"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        text: The answer, without marks.
        context: The sources in the prompt; None if the way does not tell.
        prompt_tokens: Tokens that all models read.
        first_token_seconds: Seconds until the first token of the answer.
        large_calls: How often the largest model was asked.
    """

    text: str
    context: str | None
    prompt_tokens: int
    first_token_seconds: float
    large_calls: int


class Way(Protocol):
    """A way of answering a question from the documents."""

    name: str

    def ask(self, question: str) -> Reply:
        """Answer a question."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What happened when a question was asked.

    Attributes:
        row: Name of the way.
        question: The question.
        text: The answer.
        right: 1 if the answer contains a right answer.
        exact: 1 if it equals a right answer.
        f1: Word-level F1 with the nearest right answer.
        in_context: 1 if the prompt contained a right answer; None if that is unknown.
        prompt_tokens: Tokens read.
        seconds: Wall time.
        first_token_seconds: Wall time until the first token of the answer.
        cpu_seconds: CPU time of the process.
        joules: Energy of the machine; None if it does not tell.
        large_calls: How often the largest model was asked.
    """

    row: str
    question: str
    text: str
    right: float
    exact: float
    f1: float
    in_context: float | None
    prompt_tokens: int
    seconds: float
    first_token_seconds: float
    cpu_seconds: float
    joules: float | None
    large_calls: int


@dataclass(frozen=True, slots=True)
class Load:
    """What happened when several callers asked questions at the same time.

    Attributes:
        row: Name of the way.
        part: Which questions were asked.
        questions: How many.
        seconds: Wall time until all were answered.
        cpu_seconds: CPU time of the process.
        right: Answers that contain a right answer.
        hits: Answers that a cache had.
        hit_seconds: Median wall time of those; None without a hit.
    """

    row: str
    part: str
    questions: int
    seconds: float
    cpu_seconds: float
    right: int
    hits: int = 0
    hit_seconds: float | None = None


def observe(way: Way, question: Question) -> Observation:
    """Ask a question, and measure what that takes."""
    meter = find_meter()
    read_joules = None if meter is None else meter.start()
    started, cpu_started = time.perf_counter(), time.process_time()
    reply = way.ask(question.text)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return Observation(
        row=way.name,
        question=question.text,
        text=reply.text,
        right=float(metrics.contains_answer(reply.text, question.answers)),
        exact=float(metrics.exact_match(reply.text, question.answers)),
        f1=metrics.f1(reply.text, question.answers),
        in_context=None if reply.context is None else float(metrics.answer_in_context(reply.context, question.answers)),
        prompt_tokens=reply.prompt_tokens,
        seconds=seconds,
        first_token_seconds=reply.first_token_seconds,
        cpu_seconds=cpu_seconds,
        joules=None if read_joules is None else read_joules(),
        large_calls=reply.large_calls,
    )


class Log:
    """Observations and loads in a file of JSON lines. A run that was stopped reads it and measures only what is missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.observations: dict[tuple[str, str], Observation] = {}
        self.loads: dict[tuple[str, str], Load] = {}
        raw = path.read_bytes() if path.exists() else b""
        whole = raw[: raw.rfind(b"\n") + 1]  # a run that was killed may have cut the last line
        for line in whole.splitlines():
            kind, _, value = line.partition(b" ")
            self._keep(from_json(Observation, value) if kind == b"Observation" else from_json(Load, value))
        path.write_bytes(whole)

    def add(self, values: Iterable[Observation | Load]) -> None:
        """Keep what was measured."""
        with self._path.open("a", encoding="utf-8") as file:
            for value in values:
                file.write(f"{type(value).__name__} {to_json(value)}\n")
                self._keep(value)

    def _keep(self, value: Observation | Load) -> None:
        if isinstance(value, Observation):
            self.observations[value.row, value.question] = value
        else:
            self.loads[value.row, value.part] = value
