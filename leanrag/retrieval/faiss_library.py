"""FAISS: loaded when it is needed, and how many threads it computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from leanrag.checks import ProcessGuard
from leanrag.openmp import limit_spinning
from leanrag.threads import ThreadCount

__all__ = ["faiss_threads", "load_faiss"]

_PROCESS = ProcessGuard()
_MANY = 200_000  # rows times queries above which the threads of FAISS pay for their start


def load_faiss() -> Any:
    """Return the module; untyped, for its stubs know neither all of its classes nor their keyword arguments (1.15)."""
    limit_spinning()
    import faiss

    return faiss


@contextmanager
def faiss_threads(faiss: Any, work: int) -> Iterator[None]:
    """Keep FAISS to the threads that are free, to one where more do not pay, and in a fork, whose thread pool is dead.

    Args:
        faiss: The module.
        work: Rows times queries that are compared.
    """
    threads = faiss.omp_get_max_threads()  # a setting of the calling thread
    is_alone = work < _MANY or not _PROCESS.is_here
    faiss.omp_set_num_threads(1 if is_alone else min(threads, ThreadCount(None).now()))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
