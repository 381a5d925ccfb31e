"""The tour notebook runs in a real kernel; event loops and interrupts leave a folder usable."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from leanrag import Document
from tests.stories import NILE, PARK, QUESTION, open_rag

TOUR = Path(__file__).parent.parent / "examples" / "tour.ipynb"


@pytest.fixture
def tour():
    nbformat = pytest.importorskip("nbformat")
    return nbformat.read(TOUR, as_version=4)


def test_the_tour_is_committed_without_results(tour):
    code = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert code
    assert not any(cell.outputs or cell.execution_count for cell in code)


@pytest.mark.model
def test_the_tour_runs(tour, tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbclient.NotebookClient(tour, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.id: "".join(map(text_of, cell.outputs)) for cell in tour.cells if cell.cell_type == "code"}
    everything = "\n".join(shown.values())
    assert "2 added" in everything
    assert "330 metres" in everything
    assert "Who signs off" in everything
    assert "When was the Eiffel Tower opened?" in everything
    assert everything.count("1889") >= 2
    assert "<script" not in everything


def text_of(output):
    """Return the text and the HTML of an output."""
    data = output.get("data", {})
    return "".join((output.get("text", ""), data.get("text/plain", ""), data.get("text/html", "")))


def test_a_question_can_be_asked_while_an_event_loop_runs(tmp_path):
    async def cell():
        chat = rag.chat()
        return (
            rag.ask(QUESTION), "".join(rag.stream(QUESTION)), await rag.aask(QUESTION), chat.ask(QUESTION),
            await chat.aask(QUESTION),
        )  # fmt: skip

    with open_rag(tmp_path) as rag:
        rag.add(Document(PARK, id="park"), Document(NILE, id="nile"))
        answers = asyncio.run(cell())
    assert all("Ada Park" in str(answer) for answer in answers)


INTERRUPTED = """
import signal, sys
import leanrag
from leanrag.testing import HashEmbedder

signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores Ctrl-C

class Interrupted:  # a stream that somebody stops with Ctrl-C while its answer is written
    def __init__(self, stream):
        self.stream = stream

    def close(self):
        self.stream.close()

    @property
    def result(self):
        signal.raise_signal(signal.SIGINT)
        return self.stream.result

class Model(leanrag.LlamaCppModel):
    interrupts = 2

    def stream(self, prompt, options):
        stream = super().stream(prompt, options)
        self.interrupts -= 1
        return Interrupted(stream) if self.interrupts >= 0 else stream

with Model(sys.argv[1]) as model, leanrag.open(sys.argv[2], model=model, embedder=HashEmbedder(), max_tokens=60) as rag:
    rag.add_text("The Nile is long.")
    chat = rag.chat()
    for ask in (rag.ask, chat.ask):
        try:
            ask("How long is it?")
        except KeyboardInterrupt:
            print("interrupted")
    print(rag.ask("How long is it?").question)
    print(chat.ask("How long is it?").question, len(chat.exchanges))
"""


@pytest.mark.slow
def test_an_interrupt_during_a_question_leaves_the_folder_and_the_conversation_usable(tiny_gguf, tmp_path):
    command = [sys.executable, "-c", INTERRUPTED, str(tiny_gguf), str(tmp_path / "kb")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = result.stdout.splitlines()
    assert lines == ["interrupted", "interrupted", "How long is it?", "How long is it? 1"], result.stderr
