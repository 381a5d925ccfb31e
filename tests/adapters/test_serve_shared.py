"""The program of the image that serves a folder with PostgreSQL and Redis, on servers that the test starts."""

import contextlib
import importlib.util
from pathlib import Path

import pytest

from leanrag.testing import FakeModel, HashEmbedder
from tests.adapters.test_redis import PROGRAM, running

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server")

PATH = Path(__file__).parents[2] / "deploy" / "serve_shared.py"


@pytest.fixture
def program():
    spec = importlib.util.spec_from_file_location("serve_shared", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_machines_share_vectors_answers_and_costs(program, database, tmp_path):
    with running(tmp_path) as (_, redis):
        environment = {"LEANRAG_FOLDER": str(tmp_path / "kb"), "LEANRAG_POSTGRES": database, "LEANRAG_REDIS": redis}
        model = FakeModel("Ada Park.")
        with contextlib.ExitStack() as stack:
            first, second = (
                program.open_shared(stack, environment, model=model, embedder=HashEmbedder()) for _ in range(2)
            )
            first.add_text("Releases are signed off by Ada Park.")
            assert first.ask("Who signs off releases?").text == second.ask("Who signs off releases?").text
            assert len(model.prompts) == 1
            assert {row["stage"] for row in second.ledger.rows()} >= {"retrieve", "cache"}


def test_a_server_that_others_can_reach_needs_keys(program, monkeypatch):
    monkeypatch.delenv("LEANRAG_KEYS", raising=False)
    with pytest.raises(SystemExit, match="put keys into LEANRAG_KEYS"):
        program.main()
