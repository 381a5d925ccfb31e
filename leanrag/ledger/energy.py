"""Energy of the machine, read from the counters of its processors."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["EnergyMeter", "NvmlMeter", "RaplMeter", "find_meter"]

logger = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the counters of the processor packages (kernel documentation, power/powercap)."""


class EnergyMeter(Protocol):
    """Counts the energy that the machine uses."""

    @property
    def method(self) -> str:
        """How it is counted; value of `Row.energy_method`."""

    def start(self) -> Callable[[], float]:
        """Return a function that returns the joules used since this call."""


class RaplMeter:
    """Counts the energy of the processor packages by RAPL ("running average power limit") of Intel and AMD.

    Args:
        folder: Has a folder `intel-rapl:N` for each package.

    Raises:
        OSError: There is no counter, or it may not be read. Many systems let only root read it.
    """

    method = "rapl"

    def __init__(self, folder: Path = POWERCAP) -> None:
        packages = sorted(folder.glob("intel-rapl:[0-9]*"))
        # `intel-rapl:0:1` is a part of `intel-rapl:0`
        self._packages = [package for package in packages if package.name.count(":") == 1]
        if not self._packages:
            raise FileNotFoundError(f"{str(folder)!r} has no counter of energy")
        self._ranges = [_read_number(package / "max_energy_range_uj") for package in self._packages]
        self._read()

    def start(self) -> Callable[[], float]:
        """Return a function that returns the joules used since this call."""
        begin = self._read()
        return lambda: self._between(begin, self._read())

    def _read(self) -> list[int]:
        return [_read_number(package / "energy_uj") for package in self._packages]

    def _between(self, begin: Sequence[int], end: Sequence[int]) -> float:
        """Return the joules between two readings; a counter begins again at 0 after its range."""
        parts = zip(begin, end, self._ranges, strict=True)
        return sum((last - first) % (most + 1) for first, last, most in parts) / 1e6


class NvmlMeter:
    """Counts the energy of all NVIDIA GPUs.

    Args:
        pynvml: The module of the package `nvidia-ml-py`.
    """

    method = "nvml"

    def __init__(self, pynvml: Any) -> None:
        pynvml.nvmlInit()
        self._pynvml = pynvml
        self._devices = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        self._read()

    def start(self) -> Callable[[], float]:
        """Return a function that returns the joules used since this call."""
        begin = self._read()
        return lambda: self._read() - begin

    def _read(self) -> float:
        used = (self._pynvml.nvmlDeviceGetTotalEnergyConsumption(device) for device in self._devices)
        return float(sum(used)) / 1e3


class _BothMeters:
    method = "rapl+nvml"

    def __init__(self, *meters: EnergyMeter) -> None:
        self._meters = meters

    def start(self) -> Callable[[], float]:
        readings = [meter.start() for meter in self._meters]
        return lambda: sum(read() for read in readings)


@functools.cache
def find_meter() -> EnergyMeter | None:
    """Return the meter of this machine; None if its energy cannot be read."""
    meters: list[EnergyMeter] = []
    try:
        meters.append(RaplMeter())
    except (OSError, ValueError) as error:
        logger.debug("the energy of the processor is not measured: %s", error)
    if importlib.util.find_spec("pynvml") is not None:
        try:
            meters.append(NvmlMeter(importlib.import_module("pynvml")))
        except Exception as error:  # noqa: BLE001 - the errors of NVML have no common base without the package
            logger.debug("the energy of the GPUs is not measured: %s", error)
    return _BothMeters(*meters) if len(meters) > 1 else next(iter(meters), None)


def _read_number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
