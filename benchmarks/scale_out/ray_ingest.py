"""Documents added on a Ray cluster against a local `add`, and what Ray Serve adds to the time of an answer."""

from __future__ import annotations

import contextlib
import functools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import uvicorn

import leanrag
from benchmarks.common import Figures, read_squad
from benchmarks.scale_out.machines import free_port, running_machines
from leanrag.adapters.ray import RayWorkers
from leanrag.serving.app import create_app
from leanrag.serving.on_ray import make_application
from leanrag.serving.running import make_server, open_port
from leanrag.testing import FakeModel, HashEmbedder

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["measure"]

_EMBEDDER = "all-minilm-l6-v2"
_FACT = "The apple is red."


def measure(data: Path, is_quick: bool) -> Figures:
    documents = read_squad(data).documents[: 40 if is_quick else 400]
    with tempfile.TemporaryDirectory() as name, running_machines(2, cpus=2):
        folder = Path(name)
        (folder / "docs").mkdir()
        for i, document in enumerate(documents):
            (folder / "docs" / f"{i:04}.md").write_text(f"# {document.title}\n\n{document.text}\n", encoding="utf-8")
        return {**_compare_content(folder), **_measure_overhead(folder, 100 if is_quick else 400)}


def _compare_content(folder: Path) -> Figures:
    """Add the same files here and on the cluster, and compare what is stored."""
    workers = RayWorkers(_EMBEDDER, actors=2, readers=1)
    contents, seconds = [], []
    for name, options in (("here", {}), ("there", {"workers": workers})):
        with leanrag.open(folder / name, model=FakeModel(), embedder=_EMBEDDER, **options) as rag:  # type: ignore[arg-type]
            report = rag.add(folder / "docs")
            seconds.append(report.seconds)
            store = rag._store
            ids, vectors = store.all_vectors()
            chunks = [(chunk.id, chunk.text) for chunk in store.get_chunks(ids.tolist())]
            order = sorted(range(len(chunks)), key=chunks.__getitem__)
            contents.append((store.content_hash(), [chunks[i] for i in order], vectors[order]))
    (hash_here, chunks_here, here), (hash_there, chunks_there, there) = contents
    is_same = hash_here == hash_there and chunks_here == chunks_there
    cosine = float((here * there).sum(axis=1).min()) if is_same else 0.0
    return {
        "ray_ingest_identical": int(is_same and cosine > 1 - 1e-6),
        "ray_ingest_least_cosine": cosine,
        "ray_ingest_chunks": len(chunks_there),
        "ray_ingest_equal_vectors": int(np.array_equal(here, there)) if is_same else 0,
        "ray_ingest_seconds": seconds[1],
        "local_ingest_seconds": seconds[0],
    }


@contextlib.contextmanager
def open_app(folder: str) -> Iterator[FastAPI]:
    """Open the application that both servers run."""
    with leanrag.open(folder, model=FakeModel(f"{_FACT} [1]"), embedder=HashEmbedder(), create=False) as rag:
        yield create_app({"kb": rag}, can_add=False)


def _measure_overhead(folder: Path, count: int) -> Figures:
    """Ask both servers in turn, one question at a time."""
    from ray import serve

    kb = str(folder / "kb")
    with leanrag.open(kb, model=FakeModel(), embedder=HashEmbedder()) as rag:
        rag.add_text(_FACT)
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
    try:
        application = make_application(functools.partial(open_app, kb), min_replicas=1, max_replicas=1)
        serve.run(application, name="leanrag", route_prefix="/", logging_config={"log_level": "CRITICAL"})
        with open_app(kb) as app, _serving(app) as direct, httpx.Client(timeout=60) as client:
            ask_direct = functools.partial(_ask, client, direct)
            ask_on_ray = functools.partial(_ask, client, f"http://127.0.0.1:{port}")
            times: tuple[list[float], list[float]] = ([], [])
            for i in range(count + 10):
                for seconds, ask in zip(times, (ask_direct, ask_on_ray), strict=True):
                    started = time.perf_counter()
                    ask(i)
                    if i >= 10:
                        seconds.append(time.perf_counter() - started)
    finally:
        serve.shutdown()
    here, there = (1000 * statistics.median(seconds) for seconds in times)
    return {"serve_overhead_ms": there - here, "serve_direct_p50_ms": here, "serve_ray_p50_ms": there}


def _ask(client: httpx.Client, address: str, i: int) -> None:
    message = {"role": "user", "content": f"What colour is apple {i}?"}
    response = client.post(f"{address}/v1/chat/completions", json={"model": "kb", "messages": [message]})
    assert response.json()["choices"][0]["message"]["content"].startswith(_FACT[:-1]), response.text


@contextlib.contextmanager
def _serving(app: FastAPI) -> Iterator[str]:
    """Run the server of `leanrag serve` in a thread."""
    port = open_port("127.0.0.1", 0)
    server: uvicorn.Server = make_server(app)
    run: Callable[[], None] = functools.partial(server.run, sockets=[port])
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
