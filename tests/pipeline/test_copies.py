"""Copies of models by name: checked before a fetch, made once, and what an embedder's name stands for."""

import shutil

import pytest

from leanrag import ConfigurationError, ModelLoadError, StorageError, models
from leanrag.files import sha256_of
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.models import cache, registry
from leanrag.pipeline import copies
from tests.llama.test_embedder import write_folder


@pytest.fixture
def bert(tmp_path, monkeypatch):
    """A tiny BERT as the model `bert`, pulled into a cache of its own."""
    source = write_folder(tmp_path / "source")
    files = [path for path in source.rglob("*") if path.is_file()]
    spec = models.ModelSpec(
        "bert",
        "sentence-transformers",
        "MIT",
        tuple(
            models.ModelFile(path.relative_to(source).as_posix(), path.stat().st_size, sha256_of(path))
            for path in files
        ),
        copy_type="f16",
    )
    for module in (registry, copies):
        monkeypatch.setattr(module, "REGISTRY", {"bert": spec, "cl100k_base": models.REGISTRY["cl100k_base"]})
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "cache"))
    folder = cache.folder_of(spec)
    shutil.copytree(source, folder)
    cache.write_record(folder, [file.path for file in spec.files])
    return folder


def test_an_embedder_by_name_is_its_copy_for_llama_cpp_made_once(bert):
    path = copies.find_embedder("bert")
    assert path == bert / "f16" / "bert.f16.gguf" == models.resolve("bert:f16")
    made = path.stat().st_mtime_ns
    with LlamaCppEmbedder(path, threads=1) as embedder:
        assert embedder.embed_queries(["moon"]).shape == (1, embedder.dim)
    assert copies.find_embedder("bert").stat().st_mtime_ns == made
    assert list(models.list_models()[0].copies) == ["f16"]


def test_a_copy_is_enough(bert):
    copies.make_copy("bert", "f16")
    (bert / "model.safetensors").unlink()
    assert copies.find_embedder("bert").is_file()


def test_other_types_and_paths_are_what_they_say(bert, tmp_path):
    assert copies.make_copy("bert", "f32") == models.resolve("bert:f32") == copies.find_embedder("bert:f32")
    assert copies.find_embedder(str(tmp_path / "source")) == tmp_path / "source"


def test_a_path_of_the_same_name_comes_first(bert, tmp_path, monkeypatch):
    (tmp_path / "bert").mkdir()
    monkeypatch.chdir(tmp_path)
    assert copies.find_embedder("bert").resolve() == tmp_path / "bert"


def test_an_embedder_that_is_not_here(bert):
    shutil.rmtree(bert)
    with pytest.raises(ModelLoadError, match="Get it with: leanrag pull bert"):
        copies.find_embedder("bert")
    with pytest.raises(ConfigurationError, match="not an existing path and not a known model"):
        copies.find_embedder("brt")


def test_a_cache_that_cannot_be_written_is_a_typed_error(bert):
    (bert / "f16").write_text("in the way", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot write the cache"):
        copies.find_embedder("bert")


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("bert", "q4_0", "`type` of a copy of 'bert' must be one of f16, bf16, f32, got 'q4_0'"),
        ("cl100k_base", "f16", "'cl100k_base' is not a model, so it has no copies of another type"),
        ("hf:a/b/c.gguf", "q4_0", "leanrag quantize hf:a/b/c.gguf OUT --type q4_0"),
    ],
)
def test_copies_that_cannot_be(bert, name, kind, reason):
    for function in (copies.check_copy, copies.make_copy):
        with pytest.raises(ConfigurationError) as caught:
            function(name, kind)
        assert reason in str(caught.value)
