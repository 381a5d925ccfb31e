"""A file of unknown origin is loaded in a child process first, once, and a file that ends the child does not end this process."""

import subprocess
import sys

import pytest

from benchmarks.models.mutations import Parts
from leanrag import LlamaCppEmbedder, LlamaCppModel, ModelLoadError
from leanrag.llama import trial
from leanrag.llama.files import check_gguf
from leanrag.llama.files.convert import convert_bert
from tests.llama.test_embedder import write_folder
from tests.tiny_gguf import write_tiny_gguf


@pytest.fixture
def children(tmp_path, monkeypatch):
    """An empty cache, trials as users have them, and the list of the children that were started."""
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("LEANRAG_TRIAL")
    monkeypatch.setattr(trial, "_passed_here", set())
    started = []
    run = subprocess.run

    def counted(command, **options):
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    return started


@pytest.fixture
def deadly(tmp_path):
    """A file that passes the check of the header, and ends the process that loads it."""
    parts = Parts.read(write_tiny_gguf(tmp_path / "whole.gguf").read_bytes())
    parts.pairs = {key.replace("llama.", "internlm2."): pair for key, pair in parts.pairs.items()}
    parts.set("general.architecture", "internlm2")
    parts.set("internlm2.rope.dimension_count", 8)  # llama.cpp asserts that it is the size of a head, 16
    path = tmp_path / "deadly.gguf"
    path.write_bytes(parts.write())
    return path


@pytest.mark.slow
def test_a_file_is_tried_once(tiny_gguf, tmp_path, children):
    def load(path, **options):
        with LlamaCppModel(path, threads=1, **options) as model:
            return model.generate("a", max_tokens=1).text

    expected = load(tiny_gguf)
    assert len(children) == 1
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(tiny_gguf.read_bytes())
    assert load(tiny_gguf) == load(copy) == expected
    assert len(children) == 1
    trial._passed_here.clear()  # as in a new process
    assert load(copy) == expected
    assert len(children) == 1
    assert load(copy, trial=True) == expected
    assert len(children) == 2
    write_tiny_gguf(copy, seed=1)
    load(copy, trial=False)
    assert len(children) == 2


@pytest.mark.slow
def test_a_file_that_ends_the_process_is_refused(deadly, children):
    check_gguf(deadly)
    with pytest.raises(
        ModelLoadError, match=r"in a trial it ended the process \(signal SIGABRT\): .*GGML_ASSERT"
    ) as caught:
        LlamaCppModel(deadly)
    assert caught.value.path == deadly
    assert str(deadly) in str(caught.value)
    assert len(children) == 1


def test_a_pulled_model_is_not_tried(tiny_gguf, tmp_path, children):
    path = tmp_path / "cache" / "models" / "0" / "tiny.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(tiny_gguf.read_bytes())
    LlamaCppModel(path).close()
    assert not children


def test_the_trial_has_a_time_limit(tiny_gguf, children, monkeypatch):
    monkeypatch.setattr(trial, "_LEAST_SECONDS", 0.0)
    with pytest.raises(ModelLoadError, match="in a trial it took more than 0 seconds"):
        LlamaCppModel(tiny_gguf)


@pytest.mark.parametrize("executable", ["", "/opt/editor/editor"])
def test_an_application_that_contains_python_is_not_started(tiny_gguf, children, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    LlamaCppModel(tiny_gguf).close()
    assert not children


@pytest.mark.slow
def test_a_broken_record_is_replaced(tiny_gguf, tmp_path, children, caplog):
    record = tmp_path / "cache" / "trials.json"
    record.parent.mkdir()
    record.write_text("{")
    LlamaCppModel(tiny_gguf).close()
    assert "files are tried again" in caplog.text
    trial._passed_here.clear()
    LlamaCppModel(tiny_gguf).close()
    assert len(children) == 1


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_no_problem(tiny_gguf, tmp_path, children):
    (tmp_path / "cache").write_text("a file")
    for _ in range(2):
        LlamaCppModel(tiny_gguf).close()
    assert len(children) == 1


@pytest.mark.slow
def test_an_embedder_is_tried(tmp_path, children):
    path = convert_bert(write_folder(tmp_path / "bert"), tmp_path / "bert.gguf")
    LlamaCppEmbedder(path).close()
    LlamaCppEmbedder(path).close()
    assert len(children) == 1
    parts = Parts.read(path.read_bytes())
    parts.set("bert.attention.layer_norm_epsilon", None)
    path.write_bytes(parts.write())
    with pytest.raises(ModelLoadError):
        LlamaCppEmbedder(path)
    assert len(children) == 2
