"""`leanrag train`: what it prints, and the codes it exits with."""

import json
import re

import pytest

pytest.importorskip("torch")

import leanrag
from leanrag import training
from leanrag.cli import main as cli
from leanrag.cli import output
from leanrag.testing import FakeModel, HashEmbedder
from tests.tiny_gguf import write_tiny_gguf

NAMES = "anvil basket compass drill easel funnel gasket hammer inkwell jigsaw kettle ladder".split()


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the command on a folder of twelve documents with a tiny model; returns (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    base = write_tiny_gguf(tmp_path / "base.gguf", n_ctx=4096)
    with leanrag.open("kb", model=FakeModel(), embedder=HashEmbedder()) as rag:
        for i, name in enumerate(NAMES):
            text = f"The {name} costs {i + 11} euros. The {name} was made in {i + 1901}."
            rag.add(leanrag.Document(text, id=name, title=name), progress=False)
    train = training.train

    def train_with_small_embedder(*arguments, **options):
        return train(*arguments, **(options | {"embedder": HashEmbedder()}))

    monkeypatch.setattr(training, "train", train_with_small_embedder)

    def run(*arguments):
        defaults = ["--folder", "kb", "--model", str(base), "--epochs", "1", "--rank", "2", "--device", "cpu"]
        code = cli.main(["train", "mine.gguf", *defaults, *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def questions(tmp_path):
    """Writes the first questions about the documents to a file."""

    def write(count=24, **changes):
        rows = [
            {"question": question.format(name), "answers": [answer.format(i + 11, i + 1901)], "document_id": name}
            for question, answer in (("What does the {} cost?", "{0} euros"), ("When was the {} made?", "{1}"))
            for i, name in enumerate(NAMES)
        ]
        path = tmp_path / "questions.jsonl"
        path.write_text("\n".join(json.dumps(row | changes) for row in rows[:count]))
        return str(path)

    return write


@pytest.mark.slow
def test_train_writes_an_adapter_and_says_how_to_use_it(run, questions, tmp_path):
    code, out, _ = run("--questions", questions())
    assert code == output.OK
    assert out.startswith("mine.gguf: ")
    assert "answered exactly, before and after: 0.00  0.00" in out
    assert f"leanrag ask --model '{tmp_path / 'base.gguf'}+mine.gguf'" in out
    assert training.load_record(tmp_path / "mine.gguf.json").options["epochs"] == 1


@pytest.mark.slow
def test_train_as_json_is_the_report(run, questions):
    code, out, _ = run("--questions", questions(), "--json")
    report = json.loads(out)
    assert code == output.OK
    assert report["adapter"] == "mine.gguf"
    assert report["record"]["rank"] == 2


@pytest.mark.parametrize(
    ("count", "changes", "arguments", "code", "message"),
    [
        (None, {}, (), output.USAGE, "training needs `questions`, or a `teacher`"),
        (5, {}, (), output.USAGE, "at least 20 questions, got 5"),
        (24, {"answers": []}, (), output.USAGE, "none of the 24 questions has an answer"),
        (24, {"answers": ["nowhere"]}, (), output.USAGE, "search found no passage with the answers"),
        (24, {"question": ""}, (), output.FAILED, "line 1 of '.*' has no text in its field `question`"),
        (24, {}, ("--rank", "0"), output.USAGE, "`rank` must be at least 1, got 0"),
        (24, {}, ("--epochs", "0"), output.USAGE, "`epochs` must be .*, got 0"),
        (24, {}, ("--start-from", "missing.gguf"), output.USAGE, "`start_from` must be a GGUF file"),
        (24, {}, ("--model", "unknown"), output.USAGE, "'unknown'"),
        (24, {}, ("--folder", "nowhere"), output.FAILED, "nowhere"),
    ],
)
def test_train_names_what_is_wrong(run, questions, count, changes, arguments, code, message):
    found, _, err = run(*(() if count is None else ("--questions", questions(count, **changes))), *arguments)
    assert found == code
    assert re.search(message, err)
