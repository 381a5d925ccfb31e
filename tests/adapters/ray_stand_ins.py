"""What the tests run on the machines of a Ray cluster: an embedder and a model that tell where they run, and wait to be killed."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import leanrag
from leanrag.serving.app import create_app
from leanrag.serving.workers import Workers
from leanrag.testing import FakeModel, HashEmbedder

ENOUGH_SECONDS = 60.0


def wait_for(condition, what: str, seconds: float = ENOUGH_SECONDS):
    """Return the first true value of `condition()`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not happen in {seconds} seconds"
        time.sleep(0.05)
    return value


class Location(NamedTuple):
    """Where some work runs: the id of a node of Ray, and of a process on it."""

    node: str
    process: int


def say_location(folder: Path) -> None:
    """Write into `folder` where this process runs."""
    import ray

    (folder / f"at-{ray.get_runtime_context().get_node_id()}-{os.getpid()}").touch()


def find_location(folder: Path) -> Location | None:
    """Return a location that was written into `folder`; None if none was."""
    for path in folder.glob("at-*"):
        _, node, process = path.name.split("-")
        return Location(node, int(process))
    return None


class WaitingEmbedder(HashEmbedder):
    """Says on which node it embeds, and goes on when the test says so."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def embed_documents(self, texts):
        if "RAY_RAYLET_PID" in os.environ or os.environ.get("RAY_JOB_ID"):
            say_location(self._folder)
            wait_for((self._folder / "go").exists, "the signal to go on")
        return super().embed_documents(texts)


class WaitingModel(FakeModel):
    """Says on which node it answers; answers a question with "slow" when the test says so."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        super().__init__(self._answer)

    def _answer(self, rendered: str) -> str:
        if "slow" in rendered.rpartition("<user>")[2]:
            say_location(self._folder)
            wait_for((self._folder / "go").exists, "the signal to go on")
        return "The apple is red [1]."


@contextlib.contextmanager
def open_app(kb: str, folder: str):
    with leanrag.open(kb, model=WaitingModel(folder), embedder=HashEmbedder(), create=False) as rag:
        yield create_app({"kb": rag}, can_add=False, workers=Workers(parallel=4, queue=32))
