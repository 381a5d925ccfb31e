"""Times the stages of one question, and work that belongs to no question."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from leanrag.abilities import RecordsStages
from leanrag.ledger.energy import EnergyMeter, find_meter
from leanrag.protocols import Ledger
from leanrag.types import Scalar, Stage

__all__ = ["StageTimer", "recording"]


class StageTimer:
    """Times the stages of one question.

    Args:
        meter: Measures the energy too; None does not.
    """

    def __init__(self, meter: EnergyMeter | None = None) -> None:
        self._meter = meter
        self._stages: list[Stage] = []

    @classmethod
    def of(cls, ledger: Ledger | None) -> StageTimer:
        """Return a timer that measures what a ledger can write; without a ledger the time only."""
        return cls(None if ledger is None else find_meter())

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Scalar]]:
        """Time the block as stage `name`. What the block puts into the dictionary becomes the stage's details."""
        details: dict[str, Scalar] = {}
        read_joules = None if self._meter is None else self._meter.start()
        started, cpu_started = time.perf_counter(), time.process_time()
        yield details
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        if self._meter is not None and read_joules is not None:
            details |= {"joules": read_joules(), "energy_method": self._meter.method}
        self._stages.append(Stage(name, seconds, details, cpu_seconds))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have ended, in order."""
        return tuple(self._stages)


@contextlib.contextmanager
def recording(ledger: Ledger | None, name: str) -> Iterator[None]:
    """Write the time of the block to the ledger, if it records such work, also when the block fails."""
    if not isinstance(ledger, RecordsStages):
        yield
        return
    timer, error = StageTimer.of(ledger), None
    with timer(name):
        try:
            yield
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
    ledger.record_stage(timer.stages[-1])
    if error is not None:
        raise error
