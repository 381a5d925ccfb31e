"""How fast a replica answers and what its data needs: measured on a machine, or written by a user."""

from __future__ import annotations

import itertools
import math
import os
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from leanrag.errors import ConfigurationError
from leanrag.planning.fields import Fields, NotNegative, Positive, read_fields

if TYPE_CHECKING:
    from leanrag.planning.simulation import Seconds

__all__ = ["Rates", "parse_speedup", "read_rates"]


class Rates(Fields):
    """What a replica does in a second, and what a chunk needs.

    Attributes:
        model: Name of the model that answers.
        machine: What was measured, in words.
        question_seconds: Seconds of a question that is alone in a replica, on average; with the search of a small folder.
        variation: Standard deviation of these seconds, divided by their mean.
        speedup: How many times as many questions a replica answers in a second if it has 1, 2, ... of them at once; for some of
            these numbers, 1 among them, where it is 1. Between them it is interpolated.
        search_seconds_million: Seconds that the search of a million chunks adds.
        add_seconds_chunk: Seconds to add a chunk, nearly all of them to embed it; None if unknown.
        disk_bytes_chunk: Disk space of a chunk with its text and its vector in the database.
        terms_bytes_chunk: Size of the files that are searched for words, for each chunk.
        dim: Columns of a vector.
        weights_bytes: Size of the model's files, which the replicas of a machine share.
        replica_bytes: Further memory of a replica.
        cores: Cores of a replica.
        gpus: GPUs of a replica.
    """

    model: str = ""
    machine: str = ""
    question_seconds: Positive
    variation: NotNegative = 0.0
    speedup: dict[int, Positive] = pydantic.Field(default={1: 1.0}, validate_default=True)
    search_seconds_million: NotNegative = 0.009  # `benchmarks/LOG.md`: hybrid search of a million chunks on two cores
    add_seconds_chunk: NotNegative | None = None
    disk_bytes_chunk: NotNegative = 4000.0
    terms_bytes_chunk: NotNegative = 400.0  # about 80 different words of 5 bytes
    dim: int = pydantic.Field(default=384, ge=1)
    weights_bytes: int = pydantic.Field(default=0, ge=0)
    replica_bytes: int = pydantic.Field(default=500_000_000, ge=0)
    cores: int = pydantic.Field(default=1, ge=1)
    gpus: int = pydantic.Field(default=0, ge=0)

    @pydantic.field_validator("speedup")
    @classmethod
    def _check_speedup(cls, speedup: dict[int, float]) -> dict[int, float]:
        if speedup.get(1) != 1 or min(speedup) < 1 or max(speedup) > 4096:
            raise ValueError("it must have numbers of questions from 1 to 4096, and 1 must have the speedup 1")
        return dict(sorted(speedup.items()))

    def alone_seconds(self, chunks: int) -> float:
        """Return the seconds of a question that is alone in a replica, on average."""
        return self.question_seconds + self.search_seconds_million * chunks / 1e6

    def speedups(self) -> list[float]:
        """Return how many times as many questions a replica answers if it has 1, 2, ... of them; up to the most that is known."""
        values = [1.0]
        for (low, first), (high, last) in itertools.pairwise(self.speedup.items()):
            values += [first + (last - first) * (n - low) / (high - low) for n in range(low + 1, high + 1)]
        return values

    def draw_work(self, count: int, chunks: int, *, seed: int = 0) -> Seconds:
        """Return the seconds of questions that are alone in a replica, drawn from a gamma distribution, float64 `(count,)`."""
        mean = self.alone_seconds(chunks)
        if not self.variation:
            return np.full(count, mean)
        shape = self.variation**-2
        drawn: Seconds = np.random.default_rng([seed, 1]).gamma(shape, mean / shape, count)
        return np.maximum(drawn, mean * 1e-6)


def read_rates(path: str | os.PathLike[str]) -> Rates:
    """Return the rates in a YAML or JSON file with the fields of `Rates`.

    Raises:
        ConfigurationError: The file cannot be read, or a field is wrong.
    """
    return read_fields(path, Rates, "rates")


def parse_speedup(text: str) -> dict[int, float]:
    """Parse numbers of questions with their speedups.

    Raises:
        ConfigurationError: It is not such a list.

    Example:
        >>> parse_speedup("4:2.5,8:3.5")
        {1: 1.0, 4: 2.5, 8: 3.5}
    """
    speedup = {1: 1.0}
    for part in text.split(","):
        count, _, value = part.partition(":")
        try:
            speedup[int(count)] = float(value)
        except ValueError:
            raise ConfigurationError(
                f"a speedup must be written as QUESTIONS:TIMES, such as 4:2.5,8:3.5, got {part!r}"
            ) from None
        if int(count) < 1 or not 0 < speedup[int(count)] < math.inf:
            raise ConfigurationError(f"the numbers of a speedup must be positive, got {part!r}")
    return speedup
