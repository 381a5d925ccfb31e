"""SIGTERM stops a command where it can continue: real processes are told to end, and the same call goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import leanrag
from leanrag.stopping import EXIT_CODE, Terminated, stop_deferred, stopping_on_sigterm, time_limit
from leanrag.testing import FakeModel, HashEmbedder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")

ROOT = Path(leanrag.__file__).parents[1]

# It says what it does. When it has said a word for a given number of times, it waits until the handler of SIGTERM is called.
CHILD = """
import signal, sys, threading
from leanrag.testing import FakeModel, HashEmbedder
import leanrag.pipeline.opening as opening

install, is_called, said = signal.signal, threading.Event(), []

def install_watched(number, handler):
    def called(*arguments):
        is_called.set()
        handler(*arguments)
    return install(number, called if callable(handler) else handler)

signal.signal = install_watched

def say(word):
    print(word, flush=True)
    said.append(word)
    if (word, said.count(word)) == STOP_AT:
        is_called.wait()

class SayingEmbedder(HashEmbedder):
    def embed_documents(self, texts):
        say("embedding")
        return super().embed_documents(texts)

class SayingModel(FakeModel):
    def stream(self, prompt, options):
        say("answering")
        return super().stream(prompt, options)

opening.load_embedder = lambda *_, **__: SayingEmbedder()
opening.load_language_model = lambda name, **_: SayingModel("apple", name=str(name))
from leanrag.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, *arguments: str, stop_at: tuple[str, int] = ("", 0)) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEANRAG_LEDGER": "off"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD.replace("STOP_AT", repr(stop_at)), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    )


def stop_after(child: subprocess.Popen[str], word: str, times: int) -> str:
    """Send SIGTERM when the child has said a word so many times; return its standard error."""
    assert child.stdout is not None
    while times:
        line = child.stdout.readline()
        assert line, child.communicate()
        times -= line.strip() == word
    child.send_signal(signal.SIGTERM)
    return child.communicate(timeout=60)[1]


def write_documents(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:02}.md").write_text(f"# Topic {i}\n\n" + f"The apple number {i} is red. " * 400)


@pytest.mark.slow
def test_add_stores_what_it_read_and_continues(tmp_path):
    write_documents(tmp_path / "docs", 16)
    child = start(tmp_path, "add", "docs", "--folder", "kb", stop_at=("embedding", 2))
    error = stop_after(child, "embedding", 2)
    assert child.returncode == EXIT_CODE == 143
    assert "stopped by SIGTERM. What was finished is stored; run the same command again to continue" in error
    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel(), create=False) as rag:
        stored = {record.id: record.sha256 for record in rag.documents()}
        assert 0 < len(stored) < 16
    again = start(tmp_path, "add", "docs", "--folder", "kb")
    assert again.communicate(timeout=60) is not None
    assert again.returncode == 0
    with (
        leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel(), create=False) as rag,
        leanrag.open(tmp_path / "whole", embedder=HashEmbedder(), model=FakeModel()) as whole,
    ):
        whole.add(tmp_path / "docs")
        assert rag._store.content_hash() == whole._store.content_hash()
        assert stored.items() <= {record.id: record.sha256 for record in rag.documents()}.items()


@pytest.mark.slow
def test_tune_keeps_its_runs_and_continues(tmp_path):
    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel()) as rag:
        rag.add_text("The apple is red.")
    (tmp_path / "q.jsonl").write_text(
        "".join(f'{{"question": "apple {i}?", "answers": ["apple"]}}\n' for i in range(100))
    )
    command = ("tune", "q.jsonl", "--folder", "kb", "--model", "smollm2-135m", "-k", "1")
    child = start(tmp_path, *command, stop_at=("answering", 12))
    error = stop_after(child, "answering", 12)
    assert child.returncode == EXIT_CODE, error
    again = start(tmp_path, *command)
    output, error = again.communicate(timeout=60)
    assert again.returncode == 0, error
    assert 0 < output.count("answering") < 100  # the answers of the first run are used


def test_a_command_that_does_not_stop_ends_all_the_same():
    code = """
    import time
    from leanrag.stopping import stop_deferred, stopping_on_sigterm
    with stopping_on_sigterm(most_seconds=0.3), stop_deferred():
        print("working", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    stop_after(child, "working", 1)
    assert child.returncode == EXIT_CODE


def stop_in_two_blocks(steps: list[bool]) -> None:
    with stopping_on_sigterm(most_seconds=60), stop_deferred() as outer:
        with stop_deferred() as inner:
            signal.raise_signal(signal.SIGTERM)
            steps.append(inner.is_set)
        steps.append(outer.is_set)


def test_a_stop_is_deferred_to_the_end_of_the_outermost_block():
    steps: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)  # Ray leaves one of its own
    with pytest.raises(Terminated):
        stop_in_two_blocks(steps)
    assert steps == [True, True]
    assert signal.getsignal(signal.SIGTERM) is before
    with stop_deferred() as wish:
        assert not wish.is_set


def test_other_threads_have_no_signals():
    found = []

    def work() -> None:
        with stopping_on_sigterm(), stop_deferred() as wish:
            found.append(wish.is_set)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


def test_a_block_that_takes_too_long_is_stopped():
    stopped = threading.Event()
    with time_limit(0.0, stopped.set) as is_late:
        assert stopped.wait(60)
    assert is_late.is_set()


def test_a_block_within_its_time_is_not_stopped():
    stopped = threading.Event()
    with pytest.raises(KeyError), time_limit(3600.0, stopped.set) as is_late:
        raise KeyError
    assert not stopped.is_set()
    assert not is_late.is_set()
