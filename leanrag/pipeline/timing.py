"""Times the stages of one question."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from leanrag.types import Scalar, Stage

__all__ = ["StageTimer"]


class StageTimer:
    """Times the stages of one question."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Scalar]]:
        """Time the block as stage `name`. What the block puts into the dictionary becomes the stage's details."""
        details: dict[str, Scalar] = {}
        started, cpu_started = time.perf_counter(), time.process_time()
        yield details
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
        self._stages.append(Stage(name, seconds, details, cpu_seconds))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have ended, in order."""
        return tuple(self._stages)
