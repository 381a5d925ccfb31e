import random

import pytest

torch = pytest.importorskip("torch")

from leanrag.training.base import load_decoder  # noqa: E402
from leanrag.training.encoding import EncodedRow  # noqa: E402
from leanrag.training.options import TrainingOptions  # noqa: E402

END = 61


@pytest.fixture
def decoder(tiny_gguf):
    return load_decoder(tiny_gguf)


@pytest.fixture(scope="session")
def make_rows():
    """Rows whose reply is the last token of the prompt: what a tiny model can learn."""

    def make(count, seed=0):
        source = random.Random(seed)
        rows = []
        for _ in range(count):
            prompt = tuple(source.randrange(40, 60) for _ in range(source.randrange(3, 9)))
            rows.append(EncodedRow(prompt, (prompt[-1], END)))
        return rows

    return make


@pytest.fixture(scope="session")
def quick_options():
    return TrainingOptions(
        learning_rate=0.05, epochs=3, batch_rows=8, evaluations=6, patience=None, checkpoint_steps=2, device="cpu"
    )
