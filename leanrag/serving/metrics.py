"""Figures of a running server, in the text format of Prometheus."""

from __future__ import annotations

import collections
import threading
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CONTENT_TYPE", "Counter", "Gauge", "Histogram", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # prometheus.io/docs/instrumenting/exposition_formats

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sample:
    suffix: str
    labels: Sequence[tuple[str, str]]
    value: float


class _Metric:
    """A named figure with labels; any thread may change it."""

    kind = ""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        self.name, self._about, self._labels = name, about, tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> list[str]:
        """Return the lines of the text format."""
        lines = [f"# HELP {self.name} {_escape(self._about)}", f"# TYPE {self.name} {self.kind}"]
        for sample in self._samples():
            labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels)
            lines.append(f"{self.name}{sample.suffix}{{{labels}}} {_number(sample.value)}" if labels else
                         f"{self.name}{sample.suffix} {_number(sample.value)}")  # fmt: skip
        return lines

    def _samples(self) -> list[_Sample]:
        raise NotImplementedError

    def _named(self, values: Labels) -> list[tuple[str, str]]:
        return list(zip(self._labels, values, strict=True))


class _Number(_Metric):
    """A number for each combination of labels."""

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        self._values: collections.defaultdict[Labels, float] = collections.defaultdict(float)

    def _samples(self) -> list[_Sample]:
        with self._lock:
            return [_Sample("", self._named(labels), value) for labels, value in sorted(self._values.items())]


class Counter(_Number):
    """A sum that only grows."""

    kind = "counter"

    def __init__(self, name: str, about: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, about, labels)
        if not labels:
            self._values[()] = 0.0

    def add(self, amount: float = 1, *labels: str) -> None:
        """Add an amount that is at least 0."""
        with self._lock:
            self._values[labels] += amount


class Gauge(_Number):
    """A figure as it is now."""

    kind = "gauge"

    def set(self, value: float, *labels: str) -> None:
        """Set the figure."""
        with self._lock:
            self._values[labels] = value


class Histogram(_Metric):
    """How often a number of seconds was at most each bound."""

    kind = "histogram"

    def __init__(self, name: str, about: str, labels: Sequence[str] = (), bounds: Sequence[float] = _SECONDS) -> None:
        super().__init__(name, about, labels)
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: collections.defaultdict[Labels, float] = collections.defaultdict(float)

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
            for i, bound in enumerate(self._bounds):
                counts[i] += value <= bound
            counts[-1] += 1
            self._sums[labels] += value

    def _samples(self) -> list[_Sample]:
        samples: list[_Sample] = []
        with self._lock:
            for labels, counts in sorted(self._counts.items()):
                named = self._named(labels)
                for bound, count in zip((*map(_number, self._bounds), "+Inf"), counts, strict=True):
                    samples.append(_Sample("_bucket", [*named, ("le", bound)], count))
                samples += [_Sample("_sum", named, self._sums[labels]), _Sample("_count", named, counts[-1])]
        return samples


class Metrics:
    """All figures of a server."""

    def __init__(self) -> None:
        self.requests = Counter("leanrag_requests_total", "Requests that ended, by status.", ("endpoint", "status"))
        self.request_seconds = Histogram("leanrag_request_seconds", "Seconds of whole requests.", ("endpoint",))
        self.first_word_seconds = Histogram("leanrag_first_word_seconds", "Seconds to the first word of a stream.")
        self.active = Gauge("leanrag_active_requests", "Requests that are being answered or wait.")
        self.refused = Counter(
            "leanrag_refused_total", "Requests that were refused because of a limit or a full queue."
        )
        self.cancelled = Counter("leanrag_cancelled_total", "Requests whose client went away before the end.")
        self.tokens = Counter(
            "leanrag_tokens_total", "Tokens, by model name of the API and by kind.", ("model", "kind")
        )
        self.cost = Counter("leanrag_cost_total", "Known costs, in the currency of the prices.", ("model",))
        self.answers = Counter("leanrag_answers_total", "Answers from folders.", ("model", "supported"))
        self.documents = Gauge("leanrag_documents", "Documents of each folder.", ("model",))

    def text(self) -> str:
        """Return all figures in the text format of Prometheus."""
        return "\n".join(line for metric in vars(self).values() for line in metric.lines()) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
