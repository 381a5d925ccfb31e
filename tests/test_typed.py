"""What a type checker sees of leanrag from another package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import leanrag

ROOT = Path(leanrag.__file__).parent

USER_CODE = '''
"""A package of somebody else."""

import leanrag
from leanrag.evidence import SentenceScorer
from leanrag.types import Step


def ask(folder: str) -> str:
    with leanrag.open(folder, model="smollm2-135m") as rag:
        rag.add("docs/")
        answer = rag.ask("Why?", max_tokens=5)
        steps: tuple[Step, ...] = answer.steps
        print(steps, SentenceScorer)
        reveal_type(leanrag.evidence.GreedyPacker())
        reveal_type(rag)
        reveal_type(answer)
        reveal_type(answer.citations[0].quote)
        reveal_type(answer.confidence)
        reveal_type(rag.search("Why?")[0].chunk.text)
        reveal_type(leanrag.Limits(cost=1.0).cost)
        reveal_type(leanrag.Prices(1.0, 2.0).cost(answer.usage))
        return answer.text


def wrong() -> int:
    return leanrag.__version__  # an error that must be seen


leanrag.nonsense
'''


def test_the_marker_of_a_typed_package_is_there():
    assert (ROOT / "py.typed").is_file()


@pytest.mark.slow
def test_another_package_sees_the_types(tmp_path):
    code = tmp_path / "theirs.py"
    code.write_text(USER_CODE, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache", "--no-error-summary", code.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = result.stdout.splitlines()
    revealed = [line.split('Revealed type is "')[1].rstrip('"') for line in lines if "Revealed type" in line]
    assert result.stderr == ""
    assert [name.rsplit(".", 1)[-1] for name in revealed] == [
        "GreedyPacker",
        "Rag",
        "Answer",
        "str",
        "float | None",
        "str",
        "float | None",
        "float | None",
    ]
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 2, errors
    assert "[return-value]" in errors[0]
    assert "[attr-defined]" in errors[1]
