"""How much slower a question is answered while other processes compute on the same two cores.

Each measurement runs in a process of its own, because libgomp reads its environment once. The competing processes do nothing but
count.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import leanrag
from benchmarks.common import read_squad
from leanrag.models import resolve

__all__ = ["measure"]

_MODEL = "smollm2-135m"
_MAX_TOKENS = 48
_DOCUMENTS = 20
_LIMIT_SECONDS = 240.0  # of a process; a process that takes longer counts as this long
_PLAIN = {"GOMP_SPINCOUNT": "300000"}  # what libgomp takes by itself while there are no more threads than cores


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return seconds a question over seconds on the idle machine, and seconds of `llama_cpp.Llama` over ours."""
    squad = read_squad(data)
    documents = squad.documents[:_DOCUMENTS]
    known = {document.id for document in documents}
    questions = [question.text for question in squad.questions if question.document_id in known]
    questions = questions[:: max(1, len(questions) // 4)][: 2 if is_quick else 4]
    _use_two_cores()
    with tempfile.TemporaryDirectory() as folder:
        with leanrag.open(folder, model=_MODEL) as rag:
            rag.add(*documents, progress=False)
            prompts = [rag.explain(question).prompt for question in questions]
        ours = ["ours", folder, json.dumps(questions)]
        theirs = ["llama", str(resolve(_MODEL)), json.dumps(prompts)]
        seconds: dict[str, list[float]] = {}
        for _ in range(1 if is_quick else 2):
            for name, competing, arguments, environment in (
                ("idle", 0, ours, {}),
                ("plain", 0, ours, _PLAIN),
                ("busy2", 2, ours, {}),
                ("busy8", 8, ours, {}),
                ("llama8", 8, theirs, {}),
            ):
                with _competition(competing):
                    seconds.setdefault(name, []).append(_run(arguments, environment))
                print(name, *(f"{value:.2f}" for value in seconds[name]), flush=True)
    of = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "busy2_ask_ratio": of["busy2"] / of["idle"],
        "busy8_ask_ratio": of["busy8"] / of["idle"],
        "busy8_vs_llama_ratio": of["llama8"] / of["busy8"],
        "idle_ratio": of["idle"] / of["plain"],
    }


def _use_two_cores() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


@contextlib.contextmanager
def _competition(count: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _run(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Return the median seconds a question of a new process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    command = [sys.executable, "-m", "benchmarks.models.busy", *arguments]
    try:
        child = subprocess.run(
            command, env=kept | environment, capture_output=True, text=True, check=True, timeout=_LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return _LIMIT_SECONDS
    return float(statistics.median(json.loads(child.stdout.splitlines()[-1])))


def _ask_ours(folder: str, questions: Sequence[str]) -> Iterator[float]:
    with leanrag.open(folder, model=_MODEL, max_tokens=_MAX_TOKENS) as rag:
        rag.ask("Where is it?", max_tokens=1)  # loads the models
        for question in questions:
            started = time.perf_counter()
            rag.ask(question)
            yield time.perf_counter() - started


def _ask_llama(path: str, prompts: Sequence[str]) -> Iterator[float]:
    from llama_cpp import Llama

    model = Llama(path, n_ctx=4096, verbose=False)
    model.create_completion("Where is it?", max_tokens=1)
    for prompt in prompts:
        started = time.perf_counter()
        model.create_completion(prompt, max_tokens=_MAX_TOKENS, temperature=0)
        yield time.perf_counter() - started


if __name__ == "__main__":
    who, target, asked = sys.argv[1:]
    print(json.dumps(list((_ask_ours if who == "ours" else _ask_llama)(target, json.loads(asked)))))
