import json

import pytest

torch = pytest.importorskip("torch")

import leanrag  # noqa: E402
from leanrag.errors import ConfigurationError, MissingDependencyError, ModelLoadError  # noqa: E402
from leanrag.models import REGISTRY  # noqa: E402
from leanrag.models.cache import packaged_adapter  # noqa: E402
from leanrag.testing import FakeModel, HashEmbedder  # noqa: E402
from leanrag.training import Example, TrainingOptions, load_record, train  # noqa: E402
from tests.tiny_gguf import write_tiny_gguf  # noqa: E402

NAMES = "anvil basket compass drill easel funnel gasket hammer inkwell jigsaw kettle ladder".split()
OPTIONS = TrainingOptions(epochs=1, batch_rows=16, evaluations=2, device="cpu", checkpoint_steps=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return str(write_tiny_gguf(tmp_path_factory.mktemp("base") / "base.gguf", n_ctx=4096))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("folder") / "kb"
    with leanrag.open(path, model=FakeModel(), embedder=HashEmbedder()) as rag:
        for i, name in enumerate(NAMES):
            text = f"The {name} costs {i + 11} euros. The {name} was made in {i + 1901}."
            rag.add(leanrag.Document(text, id=name, title=name), progress=False)
    return path


@pytest.fixture
def questions():
    prices = [Example(f"What does the {name} cost?", (f"{i + 11} euros",), name) for i, name in enumerate(NAMES)]
    years = [Example(f"When was the {name} made?", (str(i + 1901),), name) for i, name in enumerate(NAMES)]
    return prices + years


def run(folder, out, base, **arguments):
    return train(folder, out, model=base, embedder=HashEmbedder(), options=OPTIONS, rank=2, progress=False, **arguments)


@pytest.mark.slow
def test_a_folder_and_questions_become_an_adapter_that_opens(folder, tmp_path, base, questions):
    report = run(folder, tmp_path / "mine.gguf", base, questions=questions)
    assert report.record == load_record(tmp_path / "mine.gguf.json")
    assert report.record.steps == report.record.planned_steps > 0
    assert report.record.rows > report.record.development_rows > 0
    assert set(report.record.units) < set(NAMES)
    assert not list(tmp_path.glob("*.checkpoint"))
    with leanrag.open(folder, model=report.model, embedder=HashEmbedder()) as rag:
        explained = rag.explain("What does the anvil cost?")
    assert "[1] " in explained.prompt
    assert "Answer from the sources." in explained.prompt


@pytest.mark.slow
def test_a_file_of_questions_and_an_adapter_to_begin_with(folder, tmp_path, base, questions):
    path = tmp_path / "questions.jsonl"
    rows = [{"question": e.question, "answers": e.answers, "document_id": e.document_id} for e in questions]
    path.write_text("\n".join(map(json.dumps, rows)))
    first = run(folder, tmp_path / "first.gguf", base, questions=path)
    second = run(folder, tmp_path / "second.gguf", base, questions=path, start_from=first.adapter)
    assert second.record.evaluations != first.record.evaluations
    assert second.record.rows_sha256 == first.record.rows_sha256


def test_a_teacher_makes_the_questions(folder, tmp_path, base):
    def write(prompt):
        name = next(name for name in NAMES if f"The {name} costs" in prompt)
        is_first = "Write one short question" in prompt
        return f"What does the {name} cost today?" if is_first else f"{NAMES.index(name) + 11} euros"

    with pytest.raises(ConfigurationError, match="at least 20 questions, got 12"):  # one for each chunk
        run(folder, tmp_path / "mine.gguf", base, teacher=FakeModel(write))
    assert len((tmp_path / "mine.gguf.questions.jsonl").read_text().splitlines()) == 12


def test_wrong_arguments_are_refused(folder, tmp_path, base, questions):
    with pytest.raises(ConfigurationError, match="`questions`, or a `teacher`"):
        run(folder, tmp_path / "mine.gguf", base)
    with pytest.raises(ConfigurationError, match="at least 20 questions, got 2"):
        run(folder, tmp_path / "mine.gguf", base, questions=questions[:2])
    wrong = [Example(e.question, ("nowhere",), e.document_id) for e in questions]
    with pytest.raises(ConfigurationError, match="search found no passage with the answers"):
        run(folder, tmp_path / "mine.gguf", base, questions=wrong)


def test_an_adapter_that_a_training_cannot_begin_with_is_refused(folder, tmp_path, base, questions):
    reader = packaged_adapter(REGISTRY["smollm2-135m+reader"])
    with pytest.raises(ConfigurationError, match=r"`rank` is 2, but '.*reader\.gguf' has the rank 16"):
        run(folder, tmp_path / "mine.gguf", base, questions=questions, start_from=reader)
    with pytest.raises(ConfigurationError, match="`start_from` must be a GGUF file, or the model with one adapter"):
        run(folder, tmp_path / "mine.gguf", base, questions=questions, start_from="smollm2-135m+reader")
    with pytest.raises(ModelLoadError, match="does not fit"):
        train(
            folder, tmp_path / "mine.gguf", model=base, embedder=HashEmbedder(), questions=questions, start_from=reader
        )


def test_without_torch_the_error_names_the_extra(folder, tmp_path, base, questions, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find(name, *rest))
    with pytest.raises(MissingDependencyError, match=r"leanrag\[train\]"):
        run(folder, tmp_path / "mine.gguf", base, questions=questions)
