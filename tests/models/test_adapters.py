"""Names of models with adapters: which files they stand for."""

import hashlib

import pytest

import leanrag
from leanrag import ConfigurationError, ModelLoadError, pull
from leanrag.models import (
    ModelFile,
    ModelFiles,
    ModelSpec,
    WheelMember,
    cache,
    list_models,
    registry,
    resolve,
    resolve_model,
    split_name,
)
from leanrag.routing.cascade import model_name

BASE, ADAPTER = b"base" * 100, b"adapter" * 100


def model_file(path, data):
    part = WheelMember("fake", "1.0", f"fake_data/{path}")
    return ModelFile(path, len(data), hashlib.sha256(data).hexdigest(), (part,))


SPECS = (
    ModelSpec("base", "gguf", "MIT", (model_file("base.gguf", BASE),)),
    ModelSpec("base+reader", "adapter", "MIT", (model_file("reader.gguf", ADAPTER),), base="base"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A registry of a model and its adapter. Both are files of an installed package, but not in the cache."""
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "REGISTRY", {spec.name: spec for spec in SPECS})
    monkeypatch.setattr(cache, "_PACKAGED", tmp_path / "packaged")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fake_data").mkdir()
    (tmp_path / "fake_data" / "base.gguf").write_bytes(BASE)
    (tmp_path / "fake_data" / "reader.gguf").write_bytes(ADAPTER)
    (tmp_path / "packaged").mkdir()
    return tmp_path


def test_a_model_and_its_adapter_are_pulled_together(folder):
    with pytest.raises(ModelLoadError, match=r"'base' is not on this machine. Get it with: leanrag pull base$"):
        resolve_model("base+reader")
    pull("base")
    with pytest.raises(
        ModelLoadError, match=r"'base\+reader' is not on this machine. Get it with: leanrag pull base\+reader"
    ):
        resolve_model("base+reader")
    assert pull("base+reader").read_bytes() == ADAPTER
    files = resolve_model("base+reader")
    assert (files.path, *files.adapters) == (resolve("base"), pull("base+reader"))
    assert files.path.read_bytes() == BASE
    assert [status.path for status in list_models()] == [files.path, *files.adapters]


def test_an_adapter_may_be_in_the_package(folder):
    packaged = folder / "packaged" / "reader.gguf"
    packaged.write_bytes(ADAPTER)
    assert pull("base+reader") == packaged
    assert resolve_model("base+reader") == ModelFiles(resolve("base"), (packaged,))
    assert [status.path for status in list_models()] == [resolve("base"), packaged]
    packaged.write_bytes(ADAPTER[::-1] + b"!")
    with pytest.raises(ModelLoadError, match=r"reader\.gguf' was changed. Install leanrag again"):
        resolve_model("base+reader")


def test_files_may_have_adapters(folder):
    pull("base+reader")
    for name in ("a+b.gguf", "my.lora.gguf", "other.gguf"):
        (folder / name).write_bytes(b"GGUF")
    assert resolve_model(folder / "a+b.gguf") == ModelFiles(folder / "a+b.gguf")
    named = resolve_model(f"{folder}/a+b.gguf+my.lora.gguf+{folder}/other.gguf")
    assert named == ModelFiles(
        folder / "a+b.gguf", tuple(type(folder)(x) for x in ("my.lora.gguf", folder / "other.gguf"))
    )
    mixed = resolve_model("base+reader+my.lora.gguf")
    assert mixed == ModelFiles(resolve("base"), (*resolve_model("base+reader").adapters, type(folder)("my.lora.gguf")))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("base", ["base"]),
        ("base+reader", ["base", "reader"]),
        ("base:q4_0+x.gguf", ["base:q4_0", "x.gguf"]),
        ("base+x.gguf+reader", ["base", "x.gguf", "reader"]),
        ("base+no+such", ["base", "no+such"]),
        ("base+", ["base", ""]),
        ("nothing+reader", ["nothing+reader"]),
        ("hf:o/r/m.gguf+x.gguf", ["hf:o/r/m.gguf", "x.gguf"]),
        ("a+b.gguf", ["a+b.gguf"]),
        ("a+b.gguf+x.gguf", ["a+b.gguf", "x.gguf"]),
    ],
)
def test_a_name_is_split_where_a_part_is_known(folder, name, parts):
    (folder / "x.gguf").write_bytes(b"")
    (folder / "a+b.gguf").write_bytes(b"")
    assert split_name(name) == parts


def test_unknown_parts_are_named(folder):
    pull("base")
    with pytest.raises(
        ConfigurationError,
        match=r"'raeder' in 'base\+raeder' is not an existing path and not a known adapter. The known",
    ):
        resolve_model("base+raeder")
    (folder / "x.gguf").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="No adapter of this model has a name"):
        resolve_model("x.gguf+reader")
    with pytest.raises(ConfigurationError, match=r"'base\+reader' is a model with an adapter"):
        resolve("base+reader")
    with pytest.raises(ConfigurationError, match="cannot make a copy"):
        cache.keep_copy("base+reader", "q4_0", lambda *_: None)


def test_the_name_of_a_model_has_no_folders(folder):
    (folder / "my.gguf").write_bytes(b"")
    assert model_name("base+reader") == "base+reader"
    assert model_name(f"{folder}/my.gguf+{folder}/my.gguf") == "my+my"


def test_open_uses_the_adapters_of_a_name(tmp_path):
    import numpy as np

    from leanrag.testing import HashEmbedder
    from tests.tiny_gguf import WIDTH, write_tiny_gguf, write_tiny_lora

    factors = np.random.default_rng(0).normal(0, 0.5, (2, WIDTH)), np.random.default_rng(1).normal(0, 0.5, (263, 2))
    base = write_tiny_gguf(tmp_path / "tiny.gguf", n_ctx=2048)
    lora = write_tiny_lora(tmp_path / "my.gguf", {"output.weight": factors}, alpha=4.0)

    def answer(model):
        with leanrag.open(
            tmp_path / "kb", model=model, embedder=HashEmbedder(), context_tokens=60, max_tokens=8
        ) as rag:
            rag.add_text("The key is under the mat.", id="note")
            return rag.ask("Where is the key?")

    plain, tuned = answer(str(base)), answer(f"{base}+{lora}")
    assert (plain.model, tuned.model) == ("tiny", "tiny+my")
    assert plain.text != tuned.text
