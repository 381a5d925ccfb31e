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
        started = time.perf_counter()
        yield details
        self._stages.append(Stage(name, time.perf_counter() - started, details))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages that have ended, in order."""
        return tuple(self._stages)
