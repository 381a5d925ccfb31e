"""Ask a server with 64 clients at once for a minute: lost and mixed answers, requests a second, and what HTTP adds to `ask`.

python -m benchmarks.serving --data DIR --json FILE [--quick]

Half of the requests are streamed. The clients are a process of their own. Every answer is compared with that of `ask`: an answer is
lost if it does not come to its end, and mixed if it is the answer to another question.
"""

from __future__ import annotations

import collections
import contextlib
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx
import numpy as np

import leanrag
from benchmarks.common import finish, parse_arguments, read_nq
from benchmarks.models.tiny import write_model
from benchmarks.serving.clients import CLIENTS, Outcome, ask_at_once
from leanrag.models import resolve
from leanrag.serving.app import create_app
from leanrag.serving.running import make_server, open_port
from leanrag.testing import HashEmbedder

SECONDS, QUICK_SECONDS = 60.0, 10.0
QUESTIONS, PASSAGES = 16, 300
MAX_TOKENS = 24
ROUNDS = 3  # of the comparison with `ask`


@contextlib.contextmanager
def serving(rag: leanrag.Rag) -> Iterator[str]:
    """Serve a folder and yield the address."""
    port = open_port("127.0.0.1", 0)
    server = make_server(create_app({"kb": rag}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        port.close()


def count(outcomes: Sequence[Outcome], expected: Sequence[str]) -> dict[str, float | int]:
    """Return the figures of the requests."""
    kinds: collections.Counter[str] = collections.Counter()
    for outcome in outcomes:
        if outcome.status == httpx.codes.TOO_MANY_REQUESTS:
            kinds["refused"] += 1
        elif outcome.text is None:
            kinds["lost"] += 1
        elif outcome.text == expected[outcome.question]:
            kinds["same"] += 1
        else:
            kinds["mixed" if outcome.text in expected else "changed"] += 1
    return {f"serving_{name}": kinds[name] for name in ("lost", "mixed", "changed", "refused", "same")}


def compare_with_ask(rag: leanrag.Rag, url: str, questions: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return the seconds of `ask`, and those of the same questions over HTTP, asked in turn by one client."""
    alone, over_http = [], []
    with httpx.Client(base_url=url, timeout=600, trust_env=False) as client:
        for question in list(questions) * ROUNDS:
            started = time.perf_counter()
            rag.ask(question)
            middle = time.perf_counter()
            body = {"model": "kb", "messages": [{"role": "user", "content": question}]}
            client.post("/v1/chat/completions", json=body).raise_for_status()
            alone.append(middle - started)
            over_http.append(time.perf_counter() - middle)
    return alone, over_http


def measure(rag: leanrag.Rag, questions: Sequence[str], seconds: float) -> dict[str, float | int]:
    """Return the figures of a folder."""
    expected = [rag.ask(question).text for question in questions]
    with (
        serving(rag) as url,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as clients,
    ):
        alone, over_http = compare_with_ask(rag, url, questions)
        outcomes, elapsed = clients.submit(ask_at_once, url, questions, seconds).result()
    times = [outcome.seconds for outcome in outcomes if outcome.text is not None]
    return {
        **count(outcomes, expected),
        "serving_clients": CLIENTS,
        "serving_requests_per_second": len(times) / elapsed,
        "serving_p50_s": float(np.median(times)),
        "serving_p95_s": float(np.quantile(times, 0.95)),
        "serving_ask_p50_ms": 1000 * float(np.median(alone)),
        "serving_http_p50_ms": 1000 * float(np.median(over_http)),
        "serving_http_overhead_ms": 1000 * float(np.median(np.subtract(over_http, alone))),
        "n": len(outcomes),
    }


def main() -> None:
    arguments = parse_arguments(__doc__)
    nq = read_nq(arguments.data)
    questions = [question.text for question in nq.questions[:QUESTIONS]]
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / "tiny.gguf", "llama") if arguments.is_quick else resolve("smollm2-135m")
        seconds = QUICK_SECONDS if arguments.is_quick else SECONDS
        with leanrag.open(
            Path(folder) / "kb", model=model, embedder=HashEmbedder(dim=384), max_tokens=MAX_TOKENS
        ) as rag:
            rag.add(*nq.documents[:PASSAGES], progress=False)
            figures = measure(rag, questions, seconds)
    for name, value in figures.items():
        print(f"{name:32} {value:.4f}")
    finish(
        figures,
        arguments.json_path,
        models={} if arguments.is_quick else {"smollm2-135m": resolve("smollm2-135m")},
        is_quick=arguments.is_quick,
    )


if __name__ == "__main__":
    main()
