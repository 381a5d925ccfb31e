"""Machines that can be rented, with their prices: a file of the user."""

from __future__ import annotations

import datetime
import math
import os
from dataclasses import dataclass

import pydantic

from leanrag.errors import ConfigurationError
from leanrag.planning.fields import Fields, NotNegative, Positive, read_fields

__all__ = ["Machine", "MachinePrices", "Packing", "cheapest_packing", "read_prices"]

_FREE_SHARE = 0.1  # of the memory, for the system


class Machine(Fields):
    """A machine that can be rented.

    Attributes:
        name: Its name, as the provider writes it.
        cores: Cores.
        memory_gib: Memory in GiB.
        gpus: GPUs.
        hour: Price of an hour.
        spot_hour: Price of an hour if the provider may take the machine away; None if it is not rented in this way.
    """

    name: str = pydantic.Field(min_length=1)
    cores: int = pydantic.Field(ge=1)
    memory_gib: Positive
    gpus: int = pydantic.Field(default=0, ge=0)
    hour: NotNegative
    spot_hour: NotNegative | None = None


class MachinePrices(Fields):
    """Prices of machines and disks.

    Attributes:
        machines: The machines that can be rented.
        disk_gib_month: Price of a GiB of disk for a month.
        currency: The currency of all prices.
        as_of: The day on which the prices were read; None when nobody noted it.
    """

    machines: tuple[Machine, ...] = pydantic.Field(min_length=1)
    disk_gib_month: NotNegative = 0.0
    currency: str = "USD"
    as_of: datetime.date | None = None


def read_prices(path: str | os.PathLike[str]) -> MachinePrices:
    """Return the prices in a YAML or JSON file with the fields of `MachinePrices`.

    Raises:
        ConfigurationError: The file cannot be read, or a field is wrong.
    """
    return read_fields(path, MachinePrices, "prices")


@dataclass(frozen=True, slots=True)
class Packing:
    """How replicas are packed on machines of one kind.

    Attributes:
        machine: The kind.
        replicas: Replicas on a machine.
        hour: Price of an hour of such a machine.
    """

    machine: Machine
    replicas: int
    hour: float


def cheapest_packing(
    prices: MachinePrices, *, cores: int, gpus: int, shared_bytes: float, replica_bytes: float, is_spot: bool = False
) -> Packing:
    """Return the machine on which a replica costs least.

    Args:
        prices: The machines.
        cores: Cores of a replica.
        gpus: GPUs of a replica.
        shared_bytes: Memory that the replicas of a machine share: the index and the weights, which are mapped files.
        replica_bytes: Further memory of each replica.
        is_spot: Whether to take the price of a machine that may be taken away, where there is one.

    Raises:
        ConfigurationError: A replica fits on no machine.
    """
    packings = []
    for machine in prices.machines:
        memory = machine.memory_gib * 2**30 * (1 - _FREE_SHARE) - shared_bytes
        fits = [machine.cores // max(cores, 1), math.floor(memory / max(replica_bytes, 1))]
        if gpus:
            fits.append(machine.gpus // gpus)
        if min(fits) >= 1:
            hour = machine.spot_hour if is_spot and machine.spot_hour is not None else machine.hour
            packings.append(Packing(machine, min(fits), hour))
    if not packings:
        needed = (shared_bytes + replica_bytes) / (1 - _FREE_SHARE) / 2**30
        raise ConfigurationError(
            f"a replica needs {cores} cores, {gpus} GPUs and {needed:,.1f} GiB of memory, and no machine of the prices has them; "
            f"the largest has {max(machine.memory_gib for machine in prices.machines):,.1f} GiB. Add a larger machine, or divide "
            "the documents over several folders"
        )
    return min(packings, key=lambda packing: (packing.hour / packing.replicas, packing.machine.name))
