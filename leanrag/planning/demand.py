"""What users want: so many documents, questions and seconds; and when the questions arrive."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leanrag.checks import check_at_least, check_positive, check_whole
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    import os

    from leanrag.planning.simulation import Seconds

__all__ = ["Demand", "parse_count", "parse_rate", "parse_seconds", "poisson_arrivals", "read_trace"]

_HOUR = 3600.0
_MOST_DOCUMENTS = 10**12
_MOST_TRACE = 5_000_000  # questions of a trace
_FEW = 2000  # questions; a percentile of fewer says little
_MANY = 100_000  # questions; a percentile of more says little more
_MOST_HOURS = 1000

_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": _HOUR, "day": 86400.0}
_NUMBER = r"(\d+(?:[.,_]\d+)*(?:e\d+)?)"


@dataclass(frozen=True, slots=True)
class Demand:
    """What users want.

    Attributes:
        documents: Number of documents.
        chunks_per_document: Chunks of a document, on average. `leanrag stats` shows both numbers of a folder.
        questions_per_second: Questions in a second, on average, outside of the peak.
        p95_seconds: Seconds within which 95 of 100 questions have to be answered, in the peak as well.
        peak: How many times as many questions arrive in the peak; 1 for no peak.
        peak_seconds: Length of the peak, which comes once an hour.

    Raises:
        ConfigurationError: A number is not in its range.
    """

    documents: int
    questions_per_second: float
    p95_seconds: float
    chunks_per_document: float = 1.0
    peak: float = 1.0
    peak_seconds: float = 600.0

    def __post_init__(self) -> None:
        check_whole(1, _MOST_DOCUMENTS, documents=self.documents)
        check_positive(questions_per_second=self.questions_per_second, p95_seconds=self.p95_seconds)
        check_at_least(1, chunks_per_document=self.chunks_per_document, peak=self.peak)
        if not 0 < self.peak_seconds <= _HOUR / 2:
            raise ConfigurationError(
                f"`peak_seconds` must be above 0 and at most {_HOUR / 2:g}, got {self.peak_seconds!r}; the peak comes once an hour"
            )

    @property
    def chunks(self) -> int:
        """Chunks of all documents."""
        return math.ceil(self.documents * self.chunks_per_document)

    @property
    def peak_rate(self) -> float:
        """Questions in a second in the peak."""
        return self.questions_per_second * self.peak

    @property
    def questions_per_hour(self) -> float:
        """Questions in an hour, those of its peak included."""
        return self.questions_per_second * (_HOUR + (self.peak - 1) * self.peak_seconds)

    def profile(self) -> list[tuple[float, float]]:
        """Return what is simulated, as `(seconds, questions in a second)` for each part.

        It is an hour with the peak in its middle, or as many hours as have enough questions. Without a peak, some minutes may do.
        """
        rate = self.questions_per_second
        hours = min(max(1, math.ceil(_FEW / self.questions_per_hour)), _MOST_HOURS)
        if self.peak == 1:
            return [(hours * min(_HOUR, max(_HOUR / 6, _MANY / rate)), rate)]
        side = (_HOUR - self.peak_seconds) / 2, rate
        return [side, (self.peak_seconds, self.peak_rate), side] * hours

    def is_peak(self, times: Seconds) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which of the times, in seconds of the profile, are in a peak."""
        return np.abs(times % _HOUR - _HOUR / 2) <= self.peak_seconds / 2


def poisson_arrivals(profile: list[tuple[float, float]], *, seed: int = 0) -> Seconds:
    """Return when questions arrive that know nothing of each other: a Poisson process, whose rate follows a profile.

    Args:
        profile: `(seconds, questions in a second)` for each part, one after the other.
        seed: The same seed gives the same times.

    Returns:
        float64 `(n,)`, ascending, in seconds from the beginning of the profile.
    """
    random = np.random.default_rng(seed)
    parts, start = [np.empty(0)], 0.0
    for seconds, rate in profile:
        check_at_least(0, seconds=seconds, rate=rate)
        # of a Poisson process whose number of events is known, the events are uniform
        parts.append(start + np.sort(random.uniform(0, seconds, random.poisson(seconds * rate))))
        start += seconds
    return np.concatenate(parts)


def read_trace(path: str | os.PathLike[str]) -> Seconds:
    """Return the times of a trace: a text file with the seconds of an arrival in each line, such as "12.5", ascending.

    The first arrival becomes the time 0. Empty lines are passed over.

    Raises:
        ConfigurationError: The file cannot be read, has no line, too many lines, or a line that is not such a number.
    """
    times: list[float] = []
    try:
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    times.append(_checked_time(line.strip(), number, times))
                if len(times) > _MOST_TRACE:
                    raise ConfigurationError(
                        f"the trace {str(path)!r} has more than {_MOST_TRACE:,} lines; use a part of it"
                    )
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"cannot read the trace {str(path)!r} ({error}); it is a text file of seconds"
        ) from error
    if not times:
        raise ConfigurationError(f"the trace {str(path)!r} is empty; it needs the seconds of an arrival in each line")
    return np.array(times) - times[0]


def _checked_time(text: str, line: int, before: list[float]) -> float:
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not math.isfinite(time):
        raise ConfigurationError(f"line {line} of the trace must be a number of seconds, got {text[:60]!r}")
    if before and time < before[-1]:
        raise ConfigurationError(
            f"line {line} of the trace is {time!r}, which is earlier than {before[-1]!r} before it; sort the lines"
        )
    return time


def parse_count(text: str) -> int:
    """Parse a number with "k", "M" or "B" behind it.

    Raises:
        ConfigurationError: It is not such a number.

    Example:
        >>> parse_count("10M"), parse_count("2.5k"), parse_count("1,000")
        (10000000, 2500, 1000)
    """
    found = re.fullmatch(rf"{_NUMBER}\s*([kmb]?)", text.strip().lower())
    value = _to_float(found[1]) * _COUNTS[found[2]] if found else math.inf
    if not math.isfinite(value):
        raise ConfigurationError(f"a number must be written such as 500, 20k, 10M or 1B, got {text!r}")
    return round(value)


def parse_seconds(text: str) -> float:
    """Parse a length of time.

    Raises:
        ConfigurationError: It is not such a length.

    Example:
        >>> parse_seconds("2s"), parse_seconds("500ms"), parse_seconds("10min"), parse_seconds("3")
        (2.0, 0.5, 600.0, 3.0)
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(ms|s|min|h|)", text.strip().lower())
    value = _to_float(found[1]) * _SECONDS[found[2]] if found else math.inf
    if not math.isfinite(value):
        raise ConfigurationError(f"a length of time must be written such as 500ms, 2s, 10min or 1h, got {text!r}")
    return value


def parse_rate(text: str) -> float:
    """Parse questions in a second, or in another unit of time.

    Raises:
        ConfigurationError: It is not such a rate.

    Example:
        >>> parse_rate("100/s"), parse_rate("6k/min"), parse_rate("7200/h"), parse_rate("3")
        (100.0, 100.0, 2.0, 3.0)
    """
    found = re.fullmatch(rf"{_NUMBER}\s*([kmb]?)\s*(?:/\s*(s|min|h|day))?", text.strip().lower())
    value = _to_float(found[1]) * _COUNTS[found[2]] / _SECONDS[found[3] or ""] if found else math.inf
    if not math.isfinite(value):
        raise ConfigurationError(f"a rate must be written such as 100/s, 50/min, 2k/h or 1M/day, got {text!r}")
    return value


def _to_float(digits: str) -> float:
    """Return a number whose thousands may be separated by "," or "_"; nan if they are not."""
    if re.search(r"[,_]", digits) and not re.fullmatch(r"\d{1,3}([,_]\d{3})+(\.\d+)?", digits):
        return math.nan
    try:
        return float(re.sub("[,_]", "", digits))
    except ValueError:
        return math.nan
