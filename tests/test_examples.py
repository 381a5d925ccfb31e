"""The example programs run, with stand-ins for the models."""

import csv
import json
import re

import pytest

from examples import batch, nightly, prompts, stages
from leanrag import GenerationError
from leanrag.evaluation import read_settings
from leanrag.testing import FakeModel, HashEmbedder
from tests.stories import NILE, PARK, RIGHT, model, open_rag


@pytest.fixture
def folder(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text(PARK, id="park")
    return tmp_path / "kb"


def test_a_batch_goes_on_where_it_stopped(folder, tmp_path):
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.csv"
    questions.write_text("".join(f"Who signs off release {n}?\n\n" for n in range(40)), encoding="utf-8")
    broken = model(fails=lambda n: n % 2 == 1 or n > 20, wrong=lambda n: False)
    with pytest.raises(GenerationError, match="of 40 questions failed"):
        batch.answer_file(folder, questions, answers, model=broken, embedder=HashEmbedder())
    assert not answers.exists()  # part of the answers is no table
    known = {
        json.loads(line)[0]
        for line in answers.with_suffix(".jsonl").read_text().splitlines()[1:]
        if '"error":null' in line
    }
    mended = model(wrong=lambda n: False)
    result = batch.answer_file(folder, questions, answers, model=mended, embedder=HashEmbedder())
    assert result.failed == ()
    asked = [int(re.search(r"release (\d+)\?", prompt)[1]) for prompt in mended.prompts]
    assert sorted(asked) == sorted(set(range(40)) - known)
    with answers.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["question"] for row in rows] == [f"Who signs off release {n}?" for n in range(40)]
    assert {(row["answer"], row["supported"], row["sources"], row["error"]) for row in rows} == {
        (f"{RIGHT[:-1]} [1].", "True", "park", "")
    }


def test_a_batch_lists_the_questions_that_failed(folder, tmp_path):
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.csv"
    questions.write_text("\n".join(f"Who signs off release {n}?" for n in range(4)), encoding="utf-8")
    batch.answer_file(folder, questions, answers, model=model(fails=lambda n: n == 2), embedder=HashEmbedder())
    with answers.open(encoding="utf-8", newline="") as file:
        errors = [row["error"] for row in csv.DictReader(file)]
    assert errors == ["", "", "GenerationError: no power at 2", ""]


def test_every_stage_can_be_of_ones_own(tmp_path, monkeypatch, capsys):
    path = tmp_path / "glossary.terms"
    path.write_text("chunk: A part of a document.\nhit: A chunk that a search found.\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["stages", str(path), "What is a hit?"])
    stages.main()
    out = capsys.readouterr().out
    assert out.startswith("A chunk that a search found [1].\n")
    assert "tokens: {'first-source': " in out
    tally = stages.Tally()
    with stages.open_glossary(tmp_path / "glossary.kb", tally) as rag:
        first, again = rag.ask("What is a chunk?"), rag.ask("What is a chunk?")
    assert (first.text, again.text) == ("A part of a document [1].",) * 2
    assert first.citations[0].quote in "chunk: A part of a document."
    assert tally.tokens["first-source"] == first.usage.total_tokens  # the second answer came from the cache


def test_a_prompt_is_shortened_and_sent():
    material = f"{PARK} {NILE} Bananas grow in Brazil since 1999."
    reader = FakeModel(RIGHT)
    assert prompts.send(reader, material, "Who signs off releases?", 20) == RIGHT
    (prompt,) = reader.prompts
    assert "Releases are signed off by Ada Park." in prompt
    assert "Bananas" not in prompt
    assert "Question: Who signs off releases?" in prompt
    result = prompts.shorten(material, "How long is the Nile?", 20, count_tokens=reader.count_tokens)
    assert result.tokens_after <= 20
    assert "6,650 km" in result.text


@pytest.fixture
def asked(tmp_path):
    path = tmp_path / "asked.jsonl"
    rows = [{"question": f"Who signs off release {n}?", "answers": ["Ada Park"]} for n in range(90)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_nightly_tune_writes_what_is_proven(folder, asked, tmp_path):
    config = tmp_path / "config.json"
    right = [model(name, wrong=lambda n: False) for name in ("small", "large")]
    said = nightly.tune_folder(folder, asked, config, right, embedder=HashEmbedder())
    settings = read_settings(config)
    assert str(settings) in said
    assert config.with_suffix(".svg").read_text(encoding="utf-8").startswith("<svg ")
    assert list(config.with_suffix(".runs").iterdir()) == []
    asked.write_text('{"question": "Who?", "answers": ["Ada"]}\n', encoding="utf-8")
    said = nightly.tune_folder(folder, asked, config, right, embedder=HashEmbedder())
    assert "stays as it is: 1 questions with right answers cannot show" in said
    assert read_settings(config) == settings


@pytest.mark.parametrize("example", [prompts, stages])
def test_an_example_without_arguments_says_how_to_call_it(example, monkeypatch):
    monkeypatch.setattr("sys.argv", ["example"])
    with pytest.raises(SystemExit, match="python -m examples"):
        example.main()
