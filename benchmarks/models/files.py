"""Can a GGUF file end the process that loads it?

Tiny models of several architectures get changed headers: numbers that contradict each other, values of the wrong type, random
fields and bytes. A child process loads one file after the other, without a trial before; if a file ends it, a new child goes on.
Such a file is then loaded as users load files, in another process, which must survive.
"""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.models.mutations import Parts, header_changes, random_change
from benchmarks.models.tiny import write_model

__all__ = ["Loader", "measure"]

_QUICK_NAMES = ("llama", "qwen3moe", "gemma3")
_NAMES = (
    "llama",
    "qwen2",
    "qwen3moe",
    "phi3",
    "deepseek2",
    "gemma2",
    "gemma3",
    "gpt-oss",
    "llama4",
    "lfm2",
    "jamba",
    "falcon-h1",
    "granitehybrid",
    "mamba",
    "rwkv7",
)
_QUICK_HEADERS, _QUICK_RANDOM, _RANDOM = 30, 120, 5000

_LOAD = """
import json, logging, os, sys
from leanrag import LeanRAGError, LlamaCppModel
logging.disable(logging.CRITICAL)
output = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
for line in sys.stdin:
    first = json.loads(line)
    try:
        with LlamaCppModel(first["path"], n_ctx=64, threads=1, parallel=2, trial=first["trial"]) as model:
            model.generate("Once upon a time é 漢", max_tokens=2)
        result = "answers"
    except LeanRAGError as error:
        result = type(error).__name__
    print(json.dumps(result), file=output, flush=True)
os._exit(0)
"""


@dataclass
class Loader:
    """A child process that loads files, and is started again when a file ends it.

    Attributes:
        trial: As for `LlamaCppModel`.
        limit_seconds: The child is killed if a file takes longer.
    """

    trial: bool | None
    limit_seconds: float = 60.0
    _child: subprocess.Popen[str] | None = field(default=None, init=False)

    def load(self, path: Path) -> str:
        """Return "answers", the name of an error of leanrag, or "ended" if the process ended or was killed after the limit."""
        if self._child is None:
            environment = {key: value for key, value in os.environ.items() if key != "LEANRAG_TRIAL"}
            self._child = subprocess.Popen(
                [sys.executable, "-c", _LOAD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, "GGML_NO_BACKTRACE": "1"},
                encoding="utf-8",
            )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps({"path": str(path), "trial": self.trial}) + "\n")
        self._child.stdin.flush()
        timer = threading.Timer(self.limit_seconds, self._child.kill)
        timer.start()
        line = self._child.stdout.readline()
        timer.cancel()
        if line:
            return str(json.loads(line))
        self.close()
        return "ended"

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.communicate()


def measure(_data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return how many files were tried, and how many ended the process: as users load them, and without a trial."""
    alone, as_users = Loader(trial=False), Loader(trial=None, limit_seconds=300.0)
    results: collections.Counter[str] = collections.Counter()
    n_ended = 0
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "changed.gguf"
        try:
            for label, content in _cases(Path(name), is_quick):
                path.write_bytes(content)
                result = alone.load(path)
                results[result] += 1
                if result == "ended":
                    protected = as_users.load(path)
                    n_ended += protected == "ended"
                    print(f"  past the check of the header: {label}; with a trial: {protected}", flush=True)
        finally:
            alone.close()
            as_users.close()
    print(f"  {dict(results)}")
    return {
        "host_ended": n_ended,
        "host_tried": results.total(),
        "host_ended_without_trial": results["ended"],
        "host_answered": results["answers"],
    }


def _cases(folder: Path, is_quick: bool) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each changed file."""
    rng = random.Random(0)
    names = _QUICK_NAMES if is_quick else _NAMES
    n_random = (_QUICK_RANDOM if is_quick else _RANDOM) // len(names) + 1
    for name in names:
        parts = Parts.read(write_model(folder / f"{name}.gguf", name).read_bytes())
        changes = list(header_changes(name))
        for label, change in rng.sample(changes, _QUICK_HEADERS) if is_quick else changes:
            changed = parts.copy()
            change(changed)
            yield f"{name}: {label}", changed.write()
        for i in range(n_random):
            yield f"{name}: random change {i}", random_change(parts, rng)
