"""A Ray cluster on this machine whose machines can be killed: a head without cores, and workers."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["ROOT", "Machines", "free_port", "running_machines"]

_STORE_BYTES = 100 * 2**20
ROOT = Path(__file__).parents[2]


class Machines:
    """The machines of a cluster.

    Args:
        count: Workers.
        cpus: CPU cores of each worker, as Ray counts them.
    """

    def __init__(self, count: int, *, cpus: int) -> None:
        from ray.cluster_utils import Cluster

        self._cpus = cpus
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Add a worker."""
        self.nodes.append(self.cluster.add_node(num_cpus=self._cpus, object_store_memory=_STORE_BYTES))

    def kill(self, node_id: str | None = None) -> None:
        """Kill the worker that runs for the longest time, or the one with an id."""
        node = next(node for node in self.nodes if node_id in (None, node.node_id))
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def running_machines(count: int, *, cpus: int) -> Iterator[Machines]:
    """Start a cluster, connect to it, and end it with all of its processes."""
    import ray

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with mock.patch.dict(os.environ, {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": path}):
        machines = Machines(count, cpus=cpus)
        try:
            ray.init(address=machines.cluster.address, log_to_driver=False, logging_level="critical")
            yield machines
        finally:
            ray.shutdown()
            machines.cluster.shutdown()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        return int(port.getsockname()[1])
