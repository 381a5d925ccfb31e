"""How long do searching, adding and removing take in a folder of ten thousand, a hundred thousand, a million chunks?

Vectors are given, so that the figures are those of the library alone. Times of searches, of `remove` and of adding again are CPU
time of all threads, because other programs may compute meanwhile; waits, the first search and the build are time on the clock. Only
what `add` costs beside an embedder, and the recall on real sentences, need the embedder and the data set SQuAD.

    python -m benchmarks.corpus --data DIR --json FILE [--quick] [--million] [--peers PYTHON] [--only SECTION]

The file is written after each section. `README.md` says how to make a Python that has the other libraries.
"""

from __future__ import annotations

import functools
import gc
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import leanrag
from benchmarks.common import Arguments, finish, parse_arguments, read_nq, read_squad
from benchmarks.corpus.damaged import damaged_databases
from benchmarks.corpus.ingesting import EMBEDDER, ingest_ratio, own_us_chunk, recall, recall_real
from benchmarks.corpus.kills import kill_writers
from benchmarks.corpus.material import CHUNKS, Questions, entries, fresh_document, questions
from benchmarks.corpus.peers import compare_peers
from leanrag.pipeline.copies import find_embedder
from leanrag.retrieval import GrowingIndex, HybridRetriever
from leanrag.retrieval.growing_index import update_graph
from leanrag.retrieval.store import Store
from leanrag.testing import HashEmbedder
from leanrag.types import Where

Figures = dict[str, float | int | None]

_WHERE: tuple[Where, ...] = ({"half": 1}, {"percent": 7}, {"permille": 7})
_BATCH = 100  # documents of a commit
_REMOVED = 1000
_TOP = 10
_COMPARED = 20_000  # chunks compared at once
_FILES = 10_000
_SIZES = {"10k": 10_000, "100k": 100_000, "1m": 1_000_000}
_OF_LARGEST = ("filter_hits_least", "longest_wait_ms", "disk_bytes_chunk")  # of the largest folder of a run
_SECTIONS = ("kills", "damaged", *_SIZES, "files", "ingest", "peers")


def main() -> None:
    arguments = parse_arguments(
        __doc__,
        sections=_SECTIONS,
        flags={"million": "measure a folder of a million chunks too"},
        options={"peers": "a Python that has the other libraries; without it, they are not measured"},
    )
    if arguments.only == "peers" and not arguments.options["peers"]:
        sys.exit("--only peers needs --peers PYTHON")
    asked = questions(20 if arguments.is_quick else 100)
    figures: Figures = {"n": len(asked.texts)}
    for section in _SECTIONS if arguments.only is None else (arguments.only,):
        if arguments.only is None and not _is_wanted(section, arguments):
            continue
        print(f"== {section}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            figures |= _measure_section(section, Path(folder), arguments, asked)
        finish(
            figures,
            arguments.json_path,
            models={EMBEDDER: find_embedder(EMBEDDER)},
            is_quick=arguments.is_quick,
            only=arguments.only,
        )


def _is_wanted(section: str, arguments: Arguments) -> bool:
    """Return whether a run of all sections measures this one."""
    if section == "100k":
        return not arguments.is_quick
    if section == "1m":
        return "million" in arguments.flags
    return section != "peers" or bool(arguments.options["peers"])


def _measure_section(
    section: str, folder: Path, arguments: Arguments, asked: Questions
) -> Mapping[str, float | int | None]:
    """Return the figures of a section."""
    few = 10 if arguments.is_quick else 1
    if section == "kills":
        return kill_writers(folder / section, 10 if arguments.is_quick else 300)
    if section == "damaged":
        return damaged_databases(folder / section, 10 if arguments.is_quick else 320)
    if section == "files":
        return {"readd_10000_s": add_again(folder, _FILES // few)}
    if section == "ingest":
        data = read_squad(arguments.data)
        return {
            "add_us_chunk": own_us_chunk((*data.documents, *read_nq(arguments.data).documents)),
            "ingest_ratio": ingest_ratio(data.documents[: 200 // few]),
            "recall10_real": recall_real(data, 10_000 // few, 500 // few),
        }
    if section == "peers":
        return compare_peers(arguments.options["peers"], 10_000 // few, asked)
    measured = measure(folder, _SIZES[section], asked)
    minutes = measured.pop("build_min")
    figures: Figures = {f"{key}@{section}": value for key, value in measured.items()}
    if section == "1m":
        figures["build_1m_min"] = minutes
    is_largest = section == "1m" or ("million" not in arguments.flags and arguments.only is None)
    if is_largest and (section != "10k" or arguments.is_quick):
        figures |= {key: measured[key] for key in _OF_LARGEST} | {"remove_1000_s": remove(folder)}
    return figures


def measure(folder: Path, n_chunks: int, asked: Questions) -> Figures:
    """Return the figures of a new folder of so many chunks."""
    figures: Figures = {}
    with Store(folder) as store:
        store.bind(asked.id, asked.dim, "given chunks")
        began = time.perf_counter()
        started, made, made_wall = time.process_time(), 0.0, 0.0
        for first in range(0, n_chunks // CHUNKS, _BATCH):
            before, before_wall = time.process_time(), time.perf_counter()
            batch = list(entries(first, first + _BATCH))
            made += time.process_time() - before
            made_wall += time.perf_counter() - before_wall
            store.put_many(batch)
        figures["write_us_chunk"] = (time.process_time() - started - made) / n_chunks * 1e6
        started = time.process_time()
        store.update_postings()
        figures["postings_us_chunk"] = (time.process_time() - started) / n_chunks * 1e6
        started = time.process_time()
        update_graph(store, asked.dim)
        figures["graph_us_chunk"] = (time.process_time() - started) / n_chunks * 1e6
        figures["build_min"] = (time.perf_counter() - began - made_wall) / 60
    figures["disk_bytes_chunk"] = sum(path.stat().st_size for path in folder.iterdir()) / n_chunks
    gc.collect()
    with Store(folder) as store:
        index = GrowingIndex(asked.dim)
        search = _searcher(store, index, asked)
        before, started = _rss_bytes(), time.perf_counter()
        search(asked.texts[0])
        figures["first_search_s"] = time.perf_counter() - started
        figures["rss_gb"] = (_rss_bytes() - before) / 2**30
        figures["hybrid_p50_ms"] = _median_ms(functools.partial(map, search, asked.texts))
        few = asked.texts[:20]
        counts = [search(text, where) for text in few for where in _WHERE]
        figures["filter_hits_least"] = min(counts)
        figures["filter_p50_ms_worst"] = max(
            _median_ms(functools.partial(map, search, few, [where] * len(few))) for where in _WHERE
        )
        found = index.search(asked.vectors, _TOP)[1]
        figures["recall10"] = recall(found, _nearest(store, asked.vectors))
        figures |= _add_and_search(store, search, asked)
    return figures


def _nearest(store: Store, queries: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the ids of the ten chunks nearest to each query, by comparing it with all."""
    scores, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    after = 0
    while True:
        new_ids, vectors = store.all_vectors(after=after, most=_COMPARED)
        if not len(new_ids):
            return ids
        after = int(new_ids[-1])
        scores = np.concatenate([scores, queries @ vectors.T], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(new_ids, (len(queries), len(new_ids)))], axis=1)
        best = np.argpartition(-scores, _TOP - 1, axis=1)[:, :_TOP]
        scores, ids = np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)


def _searcher(store: Store, index: GrowingIndex, asked: Questions) -> Callable[..., int]:
    def search(text: str, where: Where | None = None) -> int:
        index.update(store)
        return len(HybridRetriever(store, index, asked).retrieve(text, 10, where=where))

    return search


def _median_ms(calls: Callable[[], Iterator[object]]) -> float:
    """Return the median CPU time of the calls, in milliseconds."""
    times: list[float] = []
    running = iter(calls())
    while True:
        started = time.process_time()
        if next(running, None) is None:
            return float(statistics.median(times)) * 1e3
        times.append(time.process_time() - started)


def _add_and_search(store: Store, search: Callable[..., int], asked: Questions) -> Figures:
    """Add a document and search again, five times, while another thread searches."""
    seconds = []
    with _other_searches(search, asked) as waits:
        for number, text in enumerate(asked.texts[:5]):
            entry = fresh_document(number)
            started = time.perf_counter()
            store.put_many([entry])
            search(text)
            seconds.append(time.perf_counter() - started)
    return {"add_then_search_ms": statistics.median(seconds) * 1e3, "longest_wait_ms": max(waits) * 1e3}


@contextmanager
def _other_searches(search: Callable[..., int], asked: Questions) -> Iterator[list[float]]:
    waits: list[float] = [0.0]
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            for text in asked.texts:
                started = time.perf_counter()
                search(text)
                waits.append(time.perf_counter() - started)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield waits
    finally:
        is_over.set()
        thread.join()


def remove(folder: Path) -> float:
    """Return the CPU seconds to remove a thousand documents by their ids."""
    with leanrag.open(folder, embedder=questions(1)) as rag:
        started = time.process_time()
        removed = rag.remove(*(f"document-{number}" for number in range(_REMOVED)))
        seconds = time.process_time() - started
    assert removed == _REMOVED
    return seconds


def _rss_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * resource.getpagesize()


def add_again(folder: Path, n_files: int) -> float:
    """Return the CPU seconds to add 10,000 small files that did not change."""
    files = folder / "files"
    files.mkdir()
    for number in range(n_files):
        (files / f"{number}.txt").write_text(f"This is file {number}.", encoding="utf-8")
    with leanrag.open(folder / "kb", embedder=HashEmbedder()) as rag:
        rag.add(files, progress=False)
        time.sleep(2.5)  # a file that changed just now is read again
        rag.add(files, progress=False)
        started = time.process_time()
        report = rag.add(files, progress=False)
        seconds = time.process_time() - started
    assert len(report.unchanged) == n_files
    return seconds * _FILES / n_files


if __name__ == "__main__":
    main()
