import threading

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import leanrag
from leanrag.generation import BaseLanguageModel, PieceStream
from leanrag.serving.app import create_app
from leanrag.testing import FakeModel, HashEmbedder
from tests.serving.live import Live, Paused

HANDBOOK = "# Permits\n\nAda Park signs all permits. Bo Lind keeps the keys of the archive.\n"


class PausedModel(BaseLanguageModel):
    """Writes its first word, and the rest when it may go on."""

    name = "paused"

    def __init__(self):
        self.replies = []
        self.replies_begun = threading.Event()

    def stream(self, prompt, options):
        reply = Paused()
        self.replies.append(reply)
        self.replies_begun.set()
        return PieceStream(
            reply.pieces(lambda: not (options.cancel and options.cancel.cancelled)), self, prompt, options
        )


@pytest.fixture
def paused():
    return PausedModel()


@pytest.fixture(scope="module")
def rag(tmp_path_factory):
    """A folder with a short handbook, and a model that answers with one sentence of it."""
    folder = tmp_path_factory.mktemp("serving") / "handbook"
    model = FakeModel("Ada Park signs all permits.")
    with leanrag.open(folder, model=model, embedder=HashEmbedder()) as rag:
        rag.add_text(HANDBOOK, title="Handbook", id="handbook")
        yield rag


@pytest.fixture(scope="module")
def live(rag):
    """A server of that folder and of a model that repeats its prompt."""
    echo = FakeModel(lambda prompt: prompt[-40:], name="echo")
    with Live(create_app({"handbook": rag}, models=[echo], embedders={"hash-64": HashEmbedder()})) as server:
        yield server
