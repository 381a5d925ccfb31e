"""Several processes, each with a GPU, that compute shares of each batch; `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist

__all__ = ["Workers"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """The processes of a training.

    Attributes:
        device: Where this process computes.
        rank: Its number.
        count: The number of processes.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @classmethod
    def join(cls, device: str) -> Workers:
        """Join the processes that `torchrun` started; without it, this process is alone."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls(torch.device(device))
        is_gpu = device.startswith("cuda")
        if not dist.is_initialized():
            dist.init_process_group("nccl" if is_gpu else "gloo")
        joined = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_gpu else torch.device(device)
        if is_gpu:
            torch.cuda.set_device(joined)
        return cls(joined, dist.get_rank(), count)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def share(self, rows: Sequence[T]) -> Sequence[T]:
        """Return the rows that this process computes."""
        return rows[self.rank :: self.count]

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Add up each tensor over all processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def add_up_number(self, number: float) -> float:
        """Return the sum of a number over all processes."""
        if self.count == 1:
            return number
        total = torch.tensor(number, device=self.device, dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)
