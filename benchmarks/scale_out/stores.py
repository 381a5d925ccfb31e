"""Vector engines behind the one contract: cases that fail, and how many of the nearest neighbours they find.

The contract is the suite of the tests; it runs here in a process of its own. PostgreSQL is the real server, Qdrant Edge the real
engine without a server. `milvus-lite` stands in for the server of Milvus.
"""

from __future__ import annotations

import collections
import contextlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import Figures
from leanrag.adapters import MilvusIndex, PgVectorIndex, QdrantIndex
from leanrag.protocols import VectorIndex
from leanrag.retrieval.index import FlatIndex
from leanrag.retrieval.store import Store
from tests.adapters.engines import EdgeClient, running_postgres
from tests.adapters.vector_index_contract import clustered, open_store, put

__all__ = ["measure"]

_ROOT = Path(__file__).parents[2]
_SUITES = (
    "tests/adapters/test_vector_engines.py",
    "tests/adapters/test_postgres_ledger.py",
    "tests/adapters/test_redis.py",
)
_DIM, _K, _QUERIES = 128, 10, 100


def measure(data: Path, is_quick: bool) -> Figures:  # noqa: ARG001 - needs no data
    """Return the figures of all engines."""
    return run_contract() | measure_recall(1_000 if is_quick else 5_000)


# The contract


def run_contract() -> Figures:
    """Run the suites and return how many cases there are, fail and are skipped, also for each engine."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *_SUITES]
        subprocess.run(command, cwd=_ROOT, check=False)
        return count_cases(report.read_text(encoding="utf-8"))


def count_cases(report: str) -> Figures:
    """Return the figures of a report in the format of JUnit."""
    counts: collections.Counter[str] = collections.Counter()
    for case in ElementTree.fromstring(report).iter("testcase"):
        outcome = {child.tag for child in case}
        engine = case.get("classname", "").rpartition(".")[2].removeprefix("Test").lower()
        is_failed, is_skipped = bool(outcome & {"failure", "error"}), "skipped" in outcome
        counts["contract_cases"] += 1
        counts["contract_failures"] += is_failed
        counts["contract_skipped"] += is_skipped
        counts[f"contract_failures_{engine}"] += is_failed
    return dict(counts)


# Recall


def measure_recall(count: int) -> Figures:
    """Return the recall at 10 against an exact search, and the milliseconds of a search, on `count` clustered vectors."""
    figures: Figures = {"recall_vectors": count}
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "kb", _DIM) as store:
        for start in range(0, count, 500):
            put(store, f"document {start}", clustered(500, _DIM, seed=start), part=start % 1_000)
        for name, index in _engines(Path(folder)):
            started = time.perf_counter()
            index.update(store)
            figures[f"fill_s_{name}"] = time.perf_counter() - started
            figures |= {f"{key}_{name}": value for key, value in _compare(index, store).items()}
            print(name, {key: value for key, value in figures.items() if key.endswith(name)}, flush=True)
    return figures


def _engines(folder: Path) -> Iterator[tuple[str, VectorIndex]]:
    with running_postgres() as address, PgVectorIndex(address) as index:
        yield "postgres", index
    (folder / "qdrant").mkdir()
    with contextlib.closing(EdgeClient(folder / "qdrant")) as client:
        yield "qdrant_edge", QdrantIndex(client)
    with MilvusIndex(str(folder / "milvus.db")) as index:
        yield "milvus_lite", index


def _compare(index: VectorIndex, store: Store) -> dict[str, float]:
    """Return the recall without and with a filter, and the median time of a search without one."""
    flat, queries = FlatIndex(_DIM), clustered(_QUERIES, _DIM, seed=7)
    flat.update(store)
    recalls, seconds = [], []
    for allowed in (None, store.filter_ids({"part": 500})):
        hits = 0
        for query in queries:
            started = time.perf_counter()
            found = index.search(query[np.newaxis], _K, allowed=allowed)[1][0]
            if allowed is None:
                seconds.append(time.perf_counter() - started)
            hits += len(set(found.tolist()) & set(flat.search(query[np.newaxis], _K, allowed=allowed)[1][0].tolist()))
        recalls.append(hits / (_K * len(queries)))
    return {
        "recall_at_10": recalls[0],
        "recall_at_10_filtered": recalls[1],
        "search_ms": float(np.median(seconds)) * 1e3,
    }
