"""Runs: everything that happened, appended to a file, the same after a kill at any byte."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import ConfigurationError, GenerationCancelled, GenerationError, StorageError
from leanrag.evaluation import Question, read_run, run
from leanrag.testing import FakeModel, HashEmbedder
from tests.examples import max_examples
from tests.stories import NILE, PARK, RIGHT, model, open_rag

ROWS = [(f"Who signs off release {n}?", ["Ada Park"]) for n in range(6)]


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb", model=model()) as rag:
        rag.add_text(PARK, id="park")
        yield rag


def timeless(run):
    """A run without what the clock said."""
    return [
        (one.question, one.error, one.answer and dataclasses.replace(one.answer, trace=(), steps=()))
        for one in run.outcomes
    ]


def test_a_run_has_everything_that_happened(rag):
    result = run(rag, ROWS, name="small")
    assert (result.name, result.header.questions, result.failed) == ("small", 6, ())
    first = result.outcomes[1]
    assert first.question == Question(ROWS[1][0], ("Ada Park",), "2")
    assert first.answer.generation.text == RIGHT
    assert first.answer.usage.completion_tokens > 0
    assert {"retrieve", "generate", "confidence"} <= {stage.name for stage in first.answer.trace}
    assert first.error is None
    assert first.seconds > 0


def test_a_file_gives_the_same_run(rag, tmp_path):
    result = run(rag, ROWS, path=tmp_path / "run.jsonl")
    assert read_run(tmp_path / "run.jsonl") == result
    assert result.name == "run"


def test_a_finished_run_asks_nothing_again(rag, tmp_path):
    first = run(rag, ROWS, path=tmp_path / "run.jsonl")
    asked = len(rag._readers[0].model.prompts)
    assert run(rag, ROWS, path=tmp_path / "run.jsonl") == first
    assert len(rag._readers[0].model.prompts) == asked


@max_examples(25)
@given(share=st.floats(0, 1), parallel=st.integers(1, 3))
@pytest.mark.slow
def test_a_run_that_was_killed_at_any_byte_resumes_to_the_same_result(tmp_path_factory, share, parallel):
    folder = tmp_path_factory.mktemp("kb")
    with open_rag(folder / "kb", model=model()) as rag:
        rag.add_text(PARK, id="park")
        path = folder / "run.jsonl"
        whole = run(rag, ROWS, path=path, parallel=parallel)
        raw = path.read_bytes()
        path.write_bytes(raw[: int(share * len(raw))])
        lines = path.read_bytes().count(b"\n")
        rag._readers[0].model.prompts.clear()
        assert timeless(run(rag, ROWS, path=path)) == timeless(whole)
        assert len(rag._readers[0].model.prompts) == len(ROWS) - max(0, lines - 1)
        assert timeless(read_run(path)) == timeless(whole)


def test_a_part_is_not_read_as_a_whole(rag, tmp_path):
    path = tmp_path / "run.jsonl"
    run(rag, ROWS, path=path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    with pytest.raises(StorageError, match="only 2 of the 6 questions"):
        read_run(path)


def test_single_failures_are_kept_and_asked_again(tmp_path):
    broken = {2}
    path = tmp_path / "run.jsonl"
    with open_rag(tmp_path / "kb", model=model(fails=lambda n: n in broken)) as rag:
        rag.add_text(PARK, id="park")
        result = run(rag, ROWS, path=path, most_failed=0.2)
        assert [(one.question.id, one.error) for one in result.failed] == [("3", "GenerationError: no power at 2")]
        assert read_run(path).failed == result.failed
        broken.clear()
        assert run(rag, ROWS, path=path).failed == ()
        assert read_run(path).failed == ()


def test_too_many_failures_stop_the_run_and_keep_what_was_answered(tmp_path):
    broken = {3, 4}
    with open_rag(tmp_path / "kb", model=model(fails=lambda n: n in broken)) as rag:
        rag.add_text(PARK, id="park")
        with pytest.raises(GenerationError, match=r"2 of 6 questions failed.*no power at 4"):
            run(rag, ROWS, path=tmp_path / "run.jsonl", most_failed=0.2)
        broken.clear()
        asked = len(rag._readers[0].model.prompts)
        run(rag, ROWS, path=tmp_path / "run.jsonl")
        assert len(rag._readers[0].model.prompts) - asked == 3  # two that failed, and the last


def test_cancelling_stops_the_run(rag):
    cancel = leanrag.CancelToken()
    cancel.cancel()
    with pytest.raises(GenerationCancelled):
        run(rag, ROWS, cancel=cancel)


@pytest.mark.parametrize("change", ["questions", "documents", "options", "models", "stages"])
def test_the_file_of_another_run_is_refused(rag, tmp_path, change):
    path = tmp_path / "run.jsonl"
    run(rag, ROWS, path=path)
    before = path.read_bytes()
    rows, options, other = ROWS, {}, rag
    if change == "questions":
        rows = ROWS[:3]
    elif change == "documents":
        rag.add_text(NILE)
    elif change == "options":
        options = {"k": 3}
    else:
        stages = {"packer": leanrag.evidence.GreedyPacker()} if change == "stages" else {}
        name = "other" if change == "models" else "small"
        other = leanrag.open(tmp_path / "kb", model=model(name), embedder=HashEmbedder(), **stages)
    with pytest.raises(ConfigurationError, match=f"other {change}"):
        run(other, rows, path=path, **options)
    other.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("raw", [b"not a run", b"not\na run\n", b"{}\n", b'{"format":"x"}'])
def test_another_file_is_neither_read_nor_overwritten(rag, tmp_path, raw):
    path = tmp_path / "notes.txt"
    path.write_bytes(raw)
    with pytest.raises(StorageError, match=r"line 1 of .*notes\.txt"):
        run(rag, ROWS, path=path)
    assert path.read_bytes() == raw


def test_a_damaged_line_is_named(rag, tmp_path):
    path = tmp_path / "run.jsonl"
    run(rag, ROWS, path=path)
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (b"[0,{}]\n", b"[77," + lines[2].partition(b",")[2], json.dumps(1).encode() + b"\n"):
        path.write_bytes(b"".join([*lines[:2], damaged, *lines[3:]]))
        with pytest.raises(StorageError, match=r"line 3 of .*run\.jsonl"):
            read_run(path)


def test_hidden_files_are_not_found(tmp_path):
    (tmp_path / "park.md").write_text(PARK, encoding="utf-8")
    (tmp_path / "nile.md").write_text(NILE, encoding="utf-8")
    with open_rag(tmp_path / "kb", model=FakeModel(RIGHT)) as rag:
        rag.add(tmp_path / "park.md", tmp_path / "nile.md")
        question = Question("Who signs off releases?", (), hidden=((tmp_path / "park.md").as_posix(),))
        answers = [run(rag, [question], where=where).outcomes[0].answer for where in (None, {"source": "park.md"})]
        sources = [{item.hit.chunk.source for item in answer.packing.items} for answer in answers]
        assert sources == [{(tmp_path / "nile.md").as_posix()}, set()]
