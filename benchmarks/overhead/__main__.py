"""Measure the time of leanrag itself: CPU seconds of its import, and milliseconds of `ask` without model, embedder and index.

python -m benchmarks.overhead --data DIR --json FILE [--quick]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import leanrag
from benchmarks.common import finish, parse_arguments, read_nq
from leanrag.generation import PieceStream
from leanrag.protocols import GenerateOptions
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Prompt

ROUNDS, QUICK_ROUNDS = 30, 10
ASKS, QUICK_ASKS = 300, 100
HEAVY = ("numpy", "pydantic", "faiss", "torch", "transformers", "llama_cpp", "jinja2", "httpx", "tqdm", "sqlite3")


class Outside:
    """Passes calls on and adds up their seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `function`, its seconds added up."""

        def call(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - started

        return call

    def wrap(self, target: Any, *methods: str) -> None:
        """Replace methods of one object by timed ones."""
        for name in methods:
            setattr(target, name, self.timed(getattr(target, name)))


class EagerModel(FakeModel):
    """Does all of its work in `stream`, so that none of it is taken for work of the library."""

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PieceStream:
        """Return a generation that has ended."""
        stream = super().stream(prompt, options)
        _ = stream.result
        return stream


def import_seconds(rounds: int) -> list[float]:
    """CPU seconds of `import leanrag` beyond a bare interpreter, pair by pair."""
    subprocess.run([sys.executable, "-c", "import leanrag"], check=True)  # compiles, and warms the file cache
    return [_cpu("import leanrag") - _cpu("pass") for _ in range(rounds)]


def _cpu(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def heavy_modules() -> list[str]:
    code = f"import sys, leanrag; print(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def ask_overhead(data: Any, asks: int) -> list[float]:
    """Seconds of each `ask` less those spent in model, embedder and index."""
    nq = read_nq(data)
    outside, own = Outside(), []
    model = EagerModel(lambda prompt: prompt[-2000:-1700])  # words of the sources, so that grounding has work to do
    embedder = HashEmbedder(dim=384)
    with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, model=model, embedder=embedder) as rag:
        rag.add(*nq.documents)
        outside.wrap(model, "count", "count_tokens", "render", "stream")
        rag.ask(nq.questions[0].text)
        outside.wrap(embedder, "embed_queries")
        outside.wrap(rag._searcher.index, "search")
        outside.wrap(rag._store, "search_terms")
        for question in nq.questions[:asks]:
            outside.seconds = 0.0
            started = time.perf_counter()
            rag.ask(question.text)
            own.append(time.perf_counter() - started - outside.seconds)
    return own


def main() -> None:
    arguments = parse_arguments(__doc__)
    imports = import_seconds(QUICK_ROUNDS if arguments.is_quick else ROUNDS)
    own = ask_overhead(arguments.data, QUICK_ASKS if arguments.is_quick else ASKS)
    figures = {
        "import_cpu_s": float(np.median(imports)),
        "import_cpu_s_p90": float(np.quantile(imports, 0.9)),
        "import_heavy_modules": len(heavy_modules()),
        "ask_overhead_p50_ms": 1000 * float(np.median(own)),
        "ask_overhead_p90_ms": 1000 * float(np.quantile(own, 0.9)),
        "n": len(own),
        "n_imports": len(imports),
    }
    for name, value in figures.items():
        print(f"{name:24} {value:.4f}")
    finish(figures, arguments.json_path, is_quick=arguments.is_quick)


if __name__ == "__main__":
    main()
