"""Machines of a cluster are killed while callers ask and documents are added; and the work that SIGTERM costs."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import leanrag
from benchmarks.common import Figures, read_squad
from benchmarks.scale_out.machines import ROOT, Machines, free_port, running_machines
from leanrag import LeanRAGError, Message, RemoteError, RemoteModel
from leanrag.adapters.ray import RayWorkers
from leanrag.remote.waiting import Retry, Timeouts
from leanrag.retrieval.resharding import divide_corpus
from leanrag.serving.app import create_app
from leanrag.serving.on_ray import make_application
from leanrag.stopping import EXIT_CODE
from leanrag.testing import FakeModel, HashEmbedder

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["measure"]

_MACHINES, _CALLERS, _ITEMS = 3, 8, 50
_KILL_SECONDS = 20.0
_TRIES = 3  # of a caller; `RemoteModel` tries again itself before the first word arrives
_PAUSE_SECONDS = 0.1  # of a caller between two questions: a person reads


def measure(data: Path, is_quick: bool) -> Figures:
    with tempfile.TemporaryDirectory() as name:
        figures = _measure_chaos(Path(name), 45.0 if is_quick else 180.0)
        return {**figures, **_measure_lost_work(data, Path(name), 60 if is_quick else 300)}


def code_of(i: int) -> str:
    """Return the code of an item: what its document says, and no other."""
    return f"K{(7919 * (i + 1)) % 100_003:06d}"


def _reply(rendered: str) -> str:
    """Answer as a model that reads: with the code that a source names for the item of the question."""
    item = re.findall(r"item number (\d+)", rendered)[-1]
    found = re.search(rf"The code of item number {item} is (K\d+)", rendered)
    return f"The code of item number {item} is {found[1]} [1]." if found else "I do not know."


@contextlib.contextmanager
def open_app(folder: str) -> Iterator[FastAPI]:
    """Open what a replica answers with."""
    model = FakeModel(_reply, n_ctx=4096, token_seconds=0.01)
    with leanrag.open(folder, model=model, embedder=HashEmbedder(), create=False) as rag:
        yield create_app({"kb": rag}, can_add=False)


class _Callers:
    """Ask for codes until they are stopped; count what came back.

    Args:
        address: The server.
    """

    def __init__(self, address: str) -> None:
        self.right = self.wrong = self.refused = self.other = 0
        self.worst_seconds = 0.0
        self._stop, self._lock = threading.Event(), threading.Lock()
        retry = Retry(max_retries=10, breaker_failures=1000)
        timeouts = Timeouts(first_token_seconds=20.0, total_seconds=60.0)
        self._model = RemoteModel("kb", base_url=f"{address}/v1", n_ctx=4096, retry=retry, timeouts=timeouts)
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(_CALLERS)]
        for thread in self._threads:
            thread.start()

    def _run(self, i: int) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            i = (i + _CALLERS) % _ITEMS
            started = time.perf_counter()
            outcome = self._ask(i)
            with self._lock:
                setattr(self, outcome, getattr(self, outcome) + 1)
                self.worst_seconds = max(self.worst_seconds, time.perf_counter() - started)

    def _ask(self, i: int) -> str:
        """Ask a question, and again if the error says so; return what came of it."""
        prompt = [Message("user", f"What is the code of item number {i}?")]
        for _ in range(_TRIES):
            try:
                return "right" if code_of(i) in self._model.generate(prompt, max_tokens=60).text else "wrong"
            except RemoteError as error:
                if not error.retryable:
                    break
            except LeanRAGError:
                break
            except Exception as error:  # noqa: BLE001 - counted: none is allowed
                print(f"not a typed error: {error!r}", flush=True)
                return "other"
        return "refused"

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._model.close()


def _measure_chaos(folder: Path, seconds: float) -> Figures:
    from ray import serve

    kb = str(folder / "kb")
    with leanrag.open(kb, model=FakeModel(), embedder=HashEmbedder()) as rag:
        for i in range(_ITEMS):
            rag.add_text(f"The code of item number {i} is {code_of(i)}.", id=f"item-{i}")
    port = free_port()
    with running_machines(_MACHINES - 1, cpus=2) as machines:  # the first step adds another
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        try:
            application = make_application(
                functools.partial(open_app, kb), min_replicas=_MACHINES, max_replicas=_MACHINES, poll_seconds=1.0
            )
            serve.run(application, name="leanrag", route_prefix="/", logging_config={"log_level": "CRITICAL"})
            callers = _Callers(f"http://127.0.0.1:{port}")
            try:
                kills, acknowledged, lost, doubled = _add_while_killing(machines, folder, seconds)
            finally:
                callers.stop()
        finally:
            serve.shutdown()
    asked = callers.right + callers.wrong + callers.refused + callers.other
    return {
        "chaos_wrong": callers.wrong,
        "chaos_lost": lost,
        "chaos_doubled": doubled,
        "chaos_availability": callers.right / max(1, asked),
        "chaos_untyped_errors": callers.other,
        "chaos_refused": callers.refused,
        "chaos_questions": asked,
        "chaos_acknowledged": acknowledged,
        "chaos_kills": kills,
        "chaos_worst_seconds": callers.worst_seconds,
    }


def _add_while_killing(machines: Machines, folder: Path, seconds: float) -> tuple[int, int, int, int]:
    """Kill machines for some time, while documents are added; return kills, and documents acknowledged, lost and doubled."""
    grown = folder / "grown"
    with leanrag.open(grown, model=FakeModel(), embedder=HashEmbedder()) as rag:
        rag.add_text("The first document.", id="first")
    divide_corpus(grown, 2)
    stop, acknowledged = threading.Event(), set[str]()
    adder = threading.Thread(target=_add_documents, args=(grown, folder / "docs", stop, acknowledged))
    adder.start()
    kills, end = 0, time.monotonic() + seconds
    try:
        while time.monotonic() + _KILL_SECONDS < end:
            next_kill = time.monotonic() + _KILL_SECONDS
            machines.add()  # takes seconds, only in the main thread
            time.sleep(max(0.0, next_kill - time.monotonic()))
            machines.kill()
            kills += 1
    finally:
        stop.set()
        adder.join()
    with leanrag.open(grown, model=FakeModel(), embedder=HashEmbedder()) as rag:
        stored = [record.id for record in rag.documents()]
    return kills, len(acknowledged), len(acknowledged - set(stored)), len(stored) - len(set(stored))


def _add_documents(grown: Path, docs: Path, stop: threading.Event, acknowledged: set[str]) -> None:
    """Write files and add them on the cluster, 20 at a time, until `stop`; note the ids that `add` reports as stored."""
    docs.mkdir()
    workers = RayWorkers(HashEmbedder, actors=2, cpus=0.4, readers=1)
    with leanrag.open(grown, model=FakeModel(), embedder=HashEmbedder(), workers=workers) as rag:
        while not stop.is_set():
            for i in range(len(acknowledged), len(acknowledged) + 20):
                (docs / f"{i:05}.md").write_text(f"# Note {i}\n\nThe note {i} says {code_of(i)}.\n", encoding="utf-8")
            with contextlib.suppress(LeanRAGError):  # the next round adds what is not stored
                report = rag.add(docs)
                acknowledged.update(report.added, report.unchanged)


def _measure_lost_work(data: Path, folder: Path, count: int) -> Figures:
    """Stop `leanrag add` by SIGTERM in its middle and call it again; return the work that was done twice, in CPU seconds."""
    docs = folder / "passages"
    docs.mkdir()
    for i, document in enumerate(read_squad(data).documents[:count]):
        (docs / f"{i:04}.md").write_text(f"# {document.title}\n\n{document.text}\n", encoding="utf-8")
    whole = _run_add(folder / "whole", docs)
    start = _run_add(folder / "whole", docs)  # all is stored: what remains is the start of the program
    stopped = _run_add(folder / "parts", docs, stop_after=(whole.seconds + start.seconds) / 2)
    with leanrag.open(folder / "parts", model=FakeModel(), create=False) as rag:
        stored = rag.stats().documents
    rest = _run_add(folder / "parts", docs)
    with leanrag.open(folder / "parts", model=FakeModel(), create=False) as rag:
        assert rag.stats().documents == count
    work = whole.cpu_seconds - start.cpu_seconds
    lost = max(0.0, stopped.cpu_seconds + rest.cpu_seconds - 2 * start.cpu_seconds - work)
    return {
        "work_lost_s": lost,
        "work_lost_share": lost / work,
        "spot_stop_s": stopped.stop_seconds,
        "spot_stored_share": stored / count,
    }


@dataclass(frozen=True, slots=True)
class _Run:
    """What a process took.

    Attributes:
        seconds: Wall time.
        cpu_seconds: CPU time.
        stop_seconds: Wall time from SIGTERM to its end.
    """

    seconds: float
    cpu_seconds: float
    stop_seconds: float | None = None


def _run_add(folder: Path, docs: Path, *, stop_after: float | None = None) -> _Run:
    """Run `leanrag add` in a process, and perhaps stop it after some seconds."""
    command = [sys.executable, "-m", "leanrag", "add", str(docs), "--folder", str(folder)]
    cpu_before, started, told = _children_cpu_seconds(), time.perf_counter(), None
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    if stop_after is not None:
        time.sleep(stop_after)
        child.send_signal(signal.SIGTERM)
        told = time.perf_counter()
    code, ended = child.wait(), time.perf_counter()
    assert code == (0 if stop_after is None else EXIT_CODE), code
    cpu_seconds = _children_cpu_seconds() - cpu_before
    return _Run(ended - started, cpu_seconds, None if told is None else ended - told)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
