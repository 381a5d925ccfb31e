"""The same work for many items, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from leanrag.checks import check_whole

__all__ = ["in_parallel"]

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Iterable[T], parallel: int) -> list[R]:
    """Return `work(item)` for each item, in their order, computing `parallel` of them at once.

    The first failure is raised; items that still wait are then not worked on.
    """
    check_whole(1, parallel=parallel)
    with ThreadPoolExecutor(parallel, thread_name_prefix="leanrag ask") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
