"""Ask every question of a data set and keep everything that happened, in a file that survives a kill."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tqdm.auto import tqdm

from leanrag.checks import check_share
from leanrag.errors import BudgetError, ConfigurationError, GenerationCancelled, GenerationError, StorageError
from leanrag.evaluation.questions import Dataset, Question, digest_of, to_questions
from leanrag.files import unwritable
from leanrag.pipeline.parallel import in_parallel
from leanrag.types import Answer, AskKey
from leanrag.types.codec import from_json, to_json

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from leanrag.pipeline.query import AskOptions
    from leanrag.pipeline.rag import Rag

__all__ = ["Outcome", "Run", "RunHeader", "read_run", "run"]

_FORMAT = "leanrag run 1"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to one question.

    Attributes:
        question: The question.
        answer: The answer with its signals, usage, cost and trace; None if the question failed.
        error: Class and message of the error; None if the question did not fail.
        seconds: Wall time.
    """

    question: Question
    answer: Answer | None
    error: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What a run was made with.

    Attributes:
        format: Format of the file.
        name: Name of the run, for tables.
        questions: Number of questions.
        sha256: Hash of the questions and of what is known about them.
        key: Documents, models, stages and options; its question and its folder are empty.
    """

    format: str
    name: str
    questions: int
    sha256: str
    key: AskKey


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that happened when the questions were asked.

    Attributes:
        header: What the run was made with.
        outcomes: What happened to each question, in the order of the questions.
    """

    header: RunHeader
    outcomes: tuple[Outcome, ...]

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.header.name

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The questions that failed."""
        return tuple(outcome for outcome in self.outcomes if outcome.answer is None)


def run(
    rag: Rag,
    questions: Dataset | Iterable[Question | str | tuple[str, Sequence[str]]],
    *,
    path: str | os.PathLike[str] | None = None,
    name: str = "",
    parallel: int = 1,
    most_failed: float = 0.1,
    progress: bool | None = None,
    **options: Unpack[AskOptions],
) -> Run:
    """Ask every question and return what happened.

    With `path`, each outcome is appended to a file as soon as it is known. A run that was killed goes on where it stopped when it
    is called again with the same file; questions that failed are asked again. The result is the same as without the kill.

    Args:
        rag: The folder, with its models and stages.
        questions: A data set; or questions, as values, texts, or pairs of a text and its right answers.
        path: The file, in JSON lines; None keeps the outcomes in memory only.
        name: Name of the run, for tables; by default that of the file.
        parallel: Questions asked at the same time. Measured seconds are those of a question alone only if it is 1.
        most_failed: Highest share of the questions that may fail; they count as wrong. If more fail, the run stops.
        progress: Show a bar on standard error; by default only if that is a terminal.
        options: As for `Rag.ask`.

    Raises:
        ConfigurationError: There are no questions, an option cannot work, or the file is of another run.
        GenerationError: More than `most_failed` of the questions failed. The file keeps all outcomes.
        StorageError: The file cannot be read or written.
    """
    rows = to_questions(questions)
    check_share(most_failed=most_failed)
    key = replace(rag.key("-", **options), question="", folder="")
    header = RunHeader(_FORMAT, name or ("run" if path is None else Path(path).stem), len(rows), digest_of(rows), key)
    with _Log(None if path is None else Path(path), header) as log:
        known = {i: outcome for i, outcome in log.known.items() if outcome.answer is not None}
        failures = _Failures(most_failed * len(rows), len(rows))
        hidden = None if progress is None else not progress
        with tqdm(total=len(rows), initial=len(known), desc=header.name, unit="question", disable=hidden) as bar:

            def ask(i: int) -> Outcome:
                outcome = known.get(i)
                if outcome is None:
                    failures.check()
                    outcome = _ask(rag, rows[i], options)
                    log.append(i, outcome)
                    bar.update()
                failures.add(outcome)
                return outcome

            return Run(header, tuple(in_parallel(ask, range(len(rows)), parallel)))


def read_run(path: str | os.PathLike[str]) -> Run:
    """Return the run that is stored in a file.

    Raises:
        StorageError: The file cannot be read, is damaged, or lacks questions because the run was stopped.
    """
    path = Path(path)
    header, known, _ = _read(path)
    if len(known) < header.questions:
        raise StorageError(
            f"{str(path)!r} has only {len(known)} of the {header.questions} questions of the run, which was stopped. Call "
            "`leanrag.evaluation.run` with the same questions and this file to finish it",
            path=path,
        )
    return Run(header, tuple(known[i] for i in range(header.questions)))


def _ask(rag: Rag, question: Question, options: AskOptions) -> Outcome:
    started = time.perf_counter()
    try:
        answer = rag.ask(question.text, **_without_hidden(question, options))
    except GenerationCancelled:
        raise
    except (GenerationError, BudgetError) as error:
        return Outcome(question, None, f"{type(error).__name__}: {error}", time.perf_counter() - started)
    return Outcome(question, answer, None, time.perf_counter() - started)


def _without_hidden(question: Question, options: AskOptions) -> AskOptions:
    """Return the options, with a filter that hides the files that the search must not find."""
    if not question.hidden:
        return options
    is_shown: Mapping[str, object] = {"not": {"source": list(question.hidden)}}
    where = options.get("where")
    return {**options, "where": {"all": [where, is_shown]} if where else is_shown}


class _Failures:
    """Stops a run in which too many questions fail. Any thread may call."""

    def __init__(self, most: float, questions: int) -> None:
        self._most, self._questions, self._lock = most, questions, threading.Lock()
        self._count = 0
        self._last: Outcome | None = None

    def add(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            with self._lock:
                self._count += 1
                self._last = outcome
            self.check()

    def check(self) -> None:
        if self._count > self._most and self._last is not None:
            raise GenerationError(
                f"{self._count} of {self._questions} questions failed, which is more than `most_failed` allows. The last failure "
                f"was {self._last.question.text[:80]!r}: {self._last.error}. Correct the cause, or raise `most_failed`"
            )


class _Log:
    """The file of a run: a line for the header, then a line for each outcome, appended when it is known."""

    def __init__(self, path: Path | None, header: RunHeader) -> None:
        self.known: dict[int, Outcome] = {}
        self._path, self._lock = path, threading.Lock()
        self._file: BinaryIO | None = None
        if path is None:
            return
        size = 0
        if path.exists() and not _is_cut_header(path, header):
            stored, self.known, size = _read(path)
            _check_same(path, stored, header)
        try:
            self._file = path.open("r+b" if size else "wb")
            self._file.truncate(size)  # a line that was cut by a kill
            self._file.seek(size)
        except OSError as error:
            raise unwritable(path, error) from error
        if not size:
            self._write(to_json(header))

    def append(self, i: int, outcome: Outcome) -> None:
        with self._lock:
            if self._file is not None:
                self._write(f"[{i},{to_json(outcome)}]")

    def _write(self, line: str) -> None:
        assert self._file is not None
        assert self._path is not None
        try:
            self._file.write(line.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise unwritable(self._path, error) from error

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _is_cut_header(path: Path, header: RunHeader) -> bool:
    """Return whether a file is the beginning of the header: the run was stopped before its first question, or is new."""
    with path.open("rb") as file:
        line = to_json(header).encode() + b"\n"
        return file.read(len(line)) in {line[:end] for end in range(len(line))}


def _check_same(path: Path, stored: RunHeader, header: RunHeader) -> None:
    differing = [
        word
        for word, is_same in (
            ("questions", stored.sha256 == header.sha256),
            ("documents", stored.key.documents == header.key.documents),
            ("models", stored.key.models == header.key.models),
            ("options", (stored.key.options, stored.key.where) == (header.key.options, header.key.where)),
            ("stages", stored.key.stages == header.key.stages),
        )
        if not is_same
    ]
    if differing:
        raise ConfigurationError(
            f"{str(path)!r} is a run with other {' and '.join(differing)}. Name another file, or repeat that run"
        )


def _read(path: Path) -> tuple[RunHeader, dict[int, Outcome], int]:
    """Return the header, the last outcome of each question by its index, and the size of the complete lines in bytes."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the run {str(path)!r} ({error}). Name another file", path=path) from error
    size = raw.rfind(b"\n") + 1
    lines = raw[:size].splitlines()
    number = 1
    try:
        header = from_json(RunHeader, lines[0] if lines else b"")
        if header.format != _FORMAT:
            raise ValueError(f"its format is {header.format!r}, not {_FORMAT!r}")
        known = {}
        for number, line in enumerate(lines[1:], 2):  # noqa: B007 - the error names it
            index, _, outcome = line.removeprefix(b"[").removesuffix(b"]").partition(b",")
            i = int(json.loads(index))
            if not 0 <= i < header.questions:
                raise ValueError(f"there is no question {i}")
            known[i] = from_json(Outcome, outcome)
    except ValueError as error:
        raise StorageError(
            f"line {number} of {str(path)!r} is not part of a run ({error}). Name another file, or remove this file to ask all "
            "questions again",
            path=path,
        ) from error
    return header, known, size
