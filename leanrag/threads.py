"""How many threads to compute with, and how important they are beside other programs.

On a busy machine more threads are slower: those that compute together wait for the last one, and the last one waits for a core.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

__all__ = [
    "Priority",
    "ThreadCount",
    "lower_priority",
    "processor_name",
    "running_elsewhere",
    "shared_property",
    "usable_cores",
]

T = TypeVar("T")

Priority: TypeAlias = Literal["normal", "background"]
"""Who computes first where cores are scarce: "background" uses half of the cores, and only the time that others leave there."""

_FRESH_SECONDS = 0.05  # how long `recent` returns a number; to ask the system takes .07 ms
_NICENESS = 10  # from 0 (normal) to 19: beside a normal thread on the same core, it gets a tenth of the time


class shared_property(functools.cached_property[T]):  # noqa: N801 - like `property`
    """A cached property that one thread computes while the others wait for it.

    From Python 3.12 on, `functools.cached_property` computes it in each thread that asks before it is there.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        super().__init__(compute)
        self._computing = threading.RLock()

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        with self._computing:
            return super().__get__(instance, owner)


def usable_cores() -> int:
    """Return the physical cores within this process's CPU affinity and cgroup quota, at least 1.

    Decoding is bound by memory: a second hardware thread on a core slows it down.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, math.ceil(min(len(set(map(_core_of, allowed))), _cgroup_quota())))


class ThreadCount:
    """How many threads to compute with now.

    Args:
        threads: The number that the caller chose; None follows what is free: affinity, quota and what other programs compute.
        priority: "background" uses at most half of the cores.
        cores: Returns the cores that this process may use.
        running: Returns how many threads of other processes compute now.
        cpus: CPUs of the machine.
        clock: Returns the time in seconds.

    Attributes:
        priority: As above.

    Example:
        >>> count = ThreadCount(None, cores=lambda: 4, running=lambda: 3, cpus=4)
        >>> count.most, count.now()
        (4, 1)
    """

    def __init__(
        self,
        threads: int | None,
        priority: Priority = "normal",
        *,
        cores: Callable[[], int] | None = None,
        running: Callable[[], int] | None = None,
        cpus: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads, self.priority = threads, priority
        self._cores, self._running = cores or usable_cores, running or running_elsewhere
        self._cpus, self._clock = cpus or os.cpu_count() or 1, clock
        self._last, self._asked = 0, -math.inf

    @property
    def most(self) -> int:
        """The threads to compute with on an idle machine."""
        if self._threads is not None:
            return self._threads
        cores = self._cores()
        return max(1, cores // 2) if self.priority == "background" else cores

    def now(self) -> int:
        """Return the threads to compute with at this moment."""
        threads = self.most
        if self._threads is None and threads > 1:
            threads = max(1, min(threads, self._cpus - self._running()))
        self._last, self._asked = threads, self._clock()
        return threads

    def recent(self) -> int:
        """Return what `now` returned, if that is at most 50 ms old, or else `now`."""
        return self._last if self._clock() - self._asked <= _FRESH_SECONDS else self.now()


def running_elsewhere() -> int:
    """Return how many threads of other processes compute or wait for a core, on the whole machine; 0 if unknown."""
    try:
        running = int(_read("/proc/loadavg").split()[3].partition("/")[0])  # runnable threads / all threads
    except (IndexError, ValueError):
        return 0
    return max(0, running - _running_here()) if running > 1 else 0


def processor_name() -> str:
    """Return the name of the processor, as the system writes it."""
    names = (
        line.partition(":")[2].strip() for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")
    )
    return next(names, "") or platform.processor() or platform.machine() or os.name


def lower_priority() -> None:
    """Let the calling thread, and those that it starts, give way to other programs; without effect except on Linux."""
    if sys.platform == "linux":  # elsewhere the whole process would give way
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))


def _running_here() -> int:
    """Return how many threads of this process compute or wait for a core, the calling one included."""
    stats = (_read(str(thread / "stat")) for thread in Path("/proc/self/task").iterdir())
    return sum(stat.rpartition(")")[2].startswith(" R") for stat in stats)  # the name before may contain ")"


@functools.cache
def _core_of(cpu: int) -> str:
    return _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _cgroup_quota() -> float:
    """CPUs that the control group grants: version 2, then version 1, else unlimited."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not period:
        quota = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    try:
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (ValueError, ZeroDivisionError):
        return math.inf


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
