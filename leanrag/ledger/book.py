"""A ledger of every stage of every question, with sums by model, stage, day or tier; here in a SQLite file."""

from __future__ import annotations

import csv
import datetime
import importlib
import io
import json
import logging
import operator
import os
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from leanrag._optional import require
from leanrag.checks import check_at_least, check_choice, check_whole
from leanrag.errors import StorageError
from leanrag.ledger.baseline import Baseline, estimate_baseline
from leanrag.ledger.budget import Budget
from leanrag.ledger.prices import Prices
from leanrag.ledger.rows import KINDS, Row, row_of, rows_of
from leanrag.sqlite import SqliteFile, SqliteFormat
from leanrag.types import Answer, Stage

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["COLUMNS", "CostLedger", "Receipt", "RecordedRow", "RowLedger", "Summary", "values_of"]

logger = logging.getLogger(__name__)

COLUMNS = tuple(field.name for field in fields(Row))
values_of = operator.attrgetter(*COLUMNS)
_FORMAT = SqliteFormat(
    noun="ledger",
    application_id=0x6C726C65,  # "lrle"
    version=1,
    mend="Move it away; a new ledger is begun. What can be read of the old file is in it still: `sqlite3 FILE .recover`",
    schema=f"""
CREATE TABLE stages (time REAL NOT NULL, request TEXT NOT NULL, {", ".join(COLUMNS)});
CREATE INDEX stages_by_time ON stages (time)
""",
)
_MOST_WAITING = 10_000  # rows that wait for a file that cannot be written
_KIND = (
    "CASE WHEN outcome = 'audited' THEN 'maintenance' "
    + " ".join(f"WHEN stage = '{stage}' THEN '{kind}'" for stage, kind in KINDS.items())
    + " ELSE 'inference' END"
)
By = Literal["model", "stage", "day", "tier", "outcome", "kind"]
"""What the rows are summed by. The kinds of cost are "training", "inference", "data", "infrastructure" and "maintenance"."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a part of the rows sums to.

    Attributes:
        name: The model, stage, day, tier, outcome or kind; "" for all rows together.
        requests: Questions, or calls of `record_rows`.
        prompt_tokens: Tokens read.
        cached_tokens: Tokens of them that were not computed again.
        completion_tokens: Tokens written.
        full_tokens: Estimate of the tokens that all that was retrieved would have had.
        seconds: Wall time.
        cpu_seconds: CPU time; None if a part was not measured.
        cost: Money; None if a part is unknown.
        joules: Energy; None if a part was not measured.
        share: Share of the seconds of all rows.
    """

    name: str
    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    full_tokens: int
    seconds: float
    cpu_seconds: float | None
    cost: float | None
    joules: float | None
    share: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the questions of a ledger cost; `leanrag.display` shows it.

    Attributes:
        by: What the rows are summed by.
        parts: The sums.
        stages: The sums by stage.
        total: The sum of all rows; None if there are no rows.
        baseline: What the questions would have cost without any saving; None if that is unknown.
    """

    by: By
    parts: tuple[Summary, ...]
    stages: tuple[Summary, ...]
    total: Summary | None
    baseline: Baseline | None = None

    def _repr_html_(self) -> str:
        return str(importlib.import_module("leanrag.display").to_html(self))


@dataclass(frozen=True, slots=True)
class RecordedRow:
    """A row with what tells it from all others.

    Attributes:
        time: Seconds since the epoch.
        request: Rows that belong together have the same.
        part: Number of the row among these.
        row: The row.
    """

    time: float
    request: str
    part: int
    row: Row


class RowLedger(ABC):
    """What every ledger of rows does; a subclass has a database, which it reads and writes.

    Args:
        budget: What may be spent; see `Budget`.
        watts: Power that the machine draws while it works; see `CostLedger`.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: An argument is out of range.
    """

    table: str
    """Has the rows."""

    mark: str
    """Stands for a value in a statement."""

    order: str
    """Columns that put the rows into the order of their writing."""

    day: str
    """Expression for the day of a row, in UTC, as "2026-01-31"."""

    def __init__(self, *, budget: Budget | None, watts: float | None, clock: Callable[[], float]) -> None:
        check_at_least(0, optional=True, watts=watts)
        self.budget = budget
        self._watts, self._clock = watts, clock
        self._lock = threading.Lock()
        self._waiting: list[RecordedRow] = []
        self._dropped = 0

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Any]:
        """Hold a connection; failures are `StorageError`s."""

    @abstractmethod
    def _insert(self, rows: Sequence[RecordedRow]) -> None:
        """Write rows in one transaction; failures are `StorageError`s. Rows that are there already stay as they are."""

    @abstractmethod
    def _close(self) -> None:
        """Close the database; idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, and close the database; idempotent."""
        with self._lock:
            if self._waiting:
                self._write()
        self._close()

    # Writing

    def record(self, answer: Answer) -> None:
        """Write the rows of an answered question."""
        self.record_rows(rows_of(answer))

    def record_stage(self, stage: Stage) -> None:
        """Write the row of work that belongs to no question."""
        self.record_rows([row_of(stage)])

    def record_rows(self, rows: Iterable[Row]) -> None:
        """Write rows that belong together, such as those of an `add` or of a training run."""
        now, request = self._clock(), secrets.token_hex(8)
        with self._lock:
            self._waiting += [RecordedRow(now, request, i, self._with_energy(row)) for i, row in enumerate(rows)]
            self._write()

    @property
    def unwritten(self) -> int:
        """Rows that this object could not write yet, or had to drop."""
        return len(self._waiting) + self._dropped

    def _write(self) -> None:
        """Write the rows that wait. They go on waiting if that fails; the oldest are dropped if they are too many."""
        try:
            self._insert(self._waiting)
        except StorageError as error:
            logger.error("%d rows of the ledger are not written: %s", len(self._waiting), error)
            too_many = max(0, len(self._waiting) - _MOST_WAITING)
            self._dropped += too_many
            del self._waiting[:too_many]
        else:
            self._waiting.clear()

    def _with_energy(self, row: Row) -> Row:
        if self._watts is None or row.joules is not None or row.cpu_seconds is None or row.stage == "remote":
            return row
        return replace(row, joules=self._watts * row.cpu_seconds, energy_method="watts")

    # The budget

    def refusal(self, most: float | None, of_question: float) -> str | None:
        """Return why a model that can cost `most` must not be asked; None if it may be, or if there is no budget."""
        if self.budget is None:
            return None
        return self.budget.refusal(most=most, of_question=of_question, of_day=self.spent_today())

    @property
    def ends_question(self) -> bool:
        """Whether a question ends when the budget refuses a model, rather than going on with models that have no price."""
        return self.budget is not None and self.budget.otherwise == "refuse"

    def spent_today(self) -> float:
        """Return what the rows since midnight in UTC cost together; unknown costs count as nothing."""
        today = datetime.datetime.fromtimestamp(self._clock(), datetime.timezone.utc).date()
        midnight = datetime.datetime.combine(today, datetime.time(), datetime.timezone.utc).timestamp()
        with self._reading() as connection:
            (cost,) = connection.execute(
                f"SELECT sum(cost) FROM {self.table} WHERE time >= {self.mark}", (midnight,)
            ).fetchone()
        with self._lock:
            waiting = [row.row.cost for row in self._waiting if row.time >= midnight]
        return float(cost or 0.0) + sum(each or 0.0 for each in waiting)

    # Reading

    def summary(self, by: By | None = None) -> list[Summary]:
        """Return the sums of the rows, by a column, the longest first (days in their order); one sum of all rows for None."""
        check_choice(get_args(By), optional=True, by=by)
        name = {None: "''", "day": self.day, "kind": _KIND}.get(by, by)
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT {name} AS name, count(DISTINCT request), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),"
                " coalesce(sum(full_tokens), 0), sum(seconds), sum(cpu_seconds), count(cpu_seconds) = count(*), sum(cost),"
                f" count(cost) = count(*), sum(joules), count(joules) = count(*) FROM {self.table} GROUP BY 1 ORDER BY"
                + (" 1" if by == "day" else " sum(seconds) DESC, 1")
            ).fetchall()
        whole = sum(row[6] for row in rows) or 1.0
        return [
            Summary(
                row[0], row[1], int(row[2]), int(row[3]), int(row[4]), int(row[5]), row[6],
                row[7] if row[8] else None, row[9] if row[10] else None, row[11] if row[12] else None, row[6] / whole,
            )
            for row in rows
        ]  # fmt: skip

    def receipt(self, by: By = "model", *, model: str | None = None, prices: Prices | None = None) -> Receipt:
        """Return the sums, beside an estimate of what the questions would have cost without any saving.

        Args:
            by: What the rows are summed by.
            model: The model of the estimate, with `prices`; see `estimate_baseline`.
            prices: Its prices.
        """
        total = next(iter(self.summary()), None)
        baseline = estimate_baseline(self.rows(), model=model, prices=prices)
        return Receipt(by, tuple(self.summary(by)), tuple(self.summary("stage")), total, baseline)

    def _repr_html_(self) -> str:
        return self.receipt()._repr_html_()

    def rows(self) -> list[dict[str, Any]]:
        """Return all rows, oldest first, with `time` (seconds since the epoch) and `request`."""
        names = ("time", "request", *COLUMNS)
        with self._reading() as connection:
            rows = connection.execute(f"SELECT {', '.join(names)} FROM {self.table} ORDER BY {self.order}")
            return [dict(zip(names, row, strict=True)) for row in rows]

    def to_csv(self) -> str:
        """Return all rows as CSV with a header; what is unknown is empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("time", "request", *COLUMNS))
        writer.writerows(row.values() for row in self.rows())
        return text.getvalue()

    def to_json(self) -> str:
        """Return all rows as a JSON list of objects; what is unknown is null."""
        return json.dumps(self.rows())

    def to_pandas(self) -> Any:
        """Return all rows as a `pandas.DataFrame`.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return require("pandas", extra="pandas", why="for a data frame").DataFrame(self.rows())


class CostLedger(RowLedger):
    """Writes a row for each stage of each question; any thread and any process may write to the same file.

    Rows are only added, each question in one transaction. No text of a question, an answer or a document is written. An answer is
    never lost because its receipt cannot be written: that is logged, and the rows wait in memory for the next attempt.

    Args:
        path: The file; None keeps the rows in memory.
        budget: What may be spent; see `Budget`.
        keep_days: Rows older than this are removed when the ledger is opened; None keeps all.
        watts: Power that the machine draws while it works. With it, `joules` of a stage whose energy was not measured is this power
            times its CPU seconds.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: An argument is out of range.
        StorageError: The file cannot be opened, is damaged, or is of another version.

    Example:
        >>> with CostLedger() as ledger:
        ...     ledger.record_rows([Row("ingest", seconds=2.0, cost=0.5), Row("pack", seconds=1.0)])
        ...     [(part.name, part.cost, round(part.share, 2)) for part in ledger.summary(by="stage")]
        [('ingest', 0.5, 0.67), ('pack', 0.0, 0.33)]
    """

    table, mark, order, day = "stages", "?", "rowid", "date(time, 'unixepoch')"

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        budget: Budget | None = None,
        keep_days: int | None = None,
        watts: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        check_whole(1, optional=True, keep_days=keep_days)
        super().__init__(budget=budget, watts=watts, clock=clock)
        self._file = SqliteFile(path, _FORMAT)
        if keep_days is not None:
            with self._file.writing() as connection:
                connection.execute("DELETE FROM stages WHERE time < ?", (clock() - keep_days * 86_400,))

    def _reading(self) -> AbstractContextManager[Any]:
        return self._file.reading()

    def _insert(self, rows: Sequence[RecordedRow]) -> None:
        marks = ", ".join("?" * (2 + len(COLUMNS)))
        with self._file.writing() as connection:  # what fails was not written, so that no row can be there already
            connection.executemany(
                f"INSERT INTO stages VALUES ({marks})", [(row.time, row.request, *values_of(row.row)) for row in rows]
            )

    def _close(self) -> None:
        self._file.close()
