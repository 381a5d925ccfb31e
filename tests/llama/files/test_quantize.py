"""Quantizing: what is written is whole and right, or nothing is written; what it did to the model is measured rightly."""

import dataclasses
import math
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError, LlamaCppModel, ModelLoadError, StorageError
from leanrag.llama.files import check_gguf
from leanrag.llama.files import quantize as module
from leanrag.llama.files.quantize import (
    QUANTIZED_TYPES,
    Figures,
    _windows,
    has_fast_kernels,
    measure,
    perplexity,
    quantize,
)
from leanrag.llama.library import library
from leanrag.types import Scores

LAYERS = 12  # two digits: layers are sorted as numbers


def write_deep(source: Path, target: Path, *, architecture="llama", layers=LAYERS, claimed=None, **keys) -> Path:
    """Write the tiny model in F32, with several layers that all differ; `keys` are further metadata by their last name."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if not name.startswith("GGUF.") and name != "general.architecture" and not name.endswith(".block_count"):
            kinds = field.types
            writer.add_key_value(
                name.replace("llama.", f"{architecture}.", 1),
                field.contents(),
                kinds[0],
                kinds[-1] if kinds[1:] else None,
            )
    writer.add_block_count(claimed or layers)
    for name, value in keys.items():
        add = {list: writer.add_array, int: writer.add_uint32, str: writer.add_string}[type(value)]
        add(name if name.startswith(("general_", "split_")) else f"{architecture}.{name}", value)
    random = np.random.default_rng(0)
    for tensor in reader.tensors:
        weights = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if not tensor.name.startswith("blk.0."):
            writer.add_tensor(tensor.name, weights)
            continue
        for layer in range(layers):
            noise = random.normal(0, 0.01, weights.shape).astype(np.float32)
            writer.add_tensor(tensor.name.replace("blk.0.", f"blk.{layer}."), weights + noise)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.fixture(scope="session")
def deep(tiny_gguf, tmp_path_factory):
    return write_deep(tiny_gguf, tmp_path_factory.mktemp("deep") / "deep.gguf")


def weights_of(path: Path) -> dict[str, np.ndarray]:
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def words_of(path: Path) -> str:
    with LlamaCppModel(path, threads=1) as model:
        return model.generate("Once", max_tokens=8).text


# What is written


def test_the_types_are_those_of_the_library():
    lib = library()
    known = {name: getattr(lib, f"LLAMA_FTYPE_MOSTLY_{name.upper()}", None) for name in QUANTIZED_TYPES}
    assert known | {"f32": lib.LLAMA_FTYPE_ALL_F32} == QUANTIZED_TYPES


@pytest.mark.slow
def test_the_report_tells_what_was_done(tiny_gguf, tmp_path):
    target = tmp_path / "small.gguf"
    report = quantize(tiny_gguf, target, type="q8_0", threads=1)
    info = check_gguf(target)
    assert (report.source, report.target, report.type) == (tiny_gguf, target, "q8_0")
    assert (report.source_bytes, report.target_bytes) == (tiny_gguf.stat().st_size, target.stat().st_size)
    assert (report.layers_before, report.layers_after) == (1, 1)
    assert report.bits_per_weight == 8 * target.stat().st_size / info.n_params
    assert report.seconds > 0
    assert info.tensor_types == {"Q8_0": 9, "F32": 3}
    assert info.metadata["general.name"] == "tiny"
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


FAST = ("f32", "q4_0", "q4_k_m", "iq4_nl")


@pytest.mark.parametrize(
    "kind", [kind if kind in FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in QUANTIZED_TYPES]
)
def test_every_type_loads_and_answers(deep, tmp_path, kind):
    target = tmp_path / "out.gguf"
    quantize(deep, target, type=kind)
    assert words_of(target)
    original, written = weights_of(deep), weights_of(target)
    bits = {"q2": 2, "q3": 3, "q4": 4, "iq": 4, "q5": 5, "q6": 6, "q8": 8, "bf": 8, "f1": 10, "f3": 23}[kind[:2]]
    for name, weights in original.items():
        step = 2 * np.abs(weights).max() / (2**bits - 1)
        assert np.abs(written[name] - weights).max() <= step, name


@pytest.mark.slow
def test_more_bits_are_closer(deep, tmp_path):
    name, errors = "blk.3.ffn_up.weight", []
    original = weights_of(deep)[name]
    for kind in ("q4_0", "q5_0", "q8_0", "f32"):
        quantize(deep, tmp_path / kind, type=kind)
        errors.append(float(np.square(weights_of(tmp_path / kind)[name] - original).mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0.0


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes(deep, tmp_path):
    quantize(deep, tmp_path / "one", threads=1)
    quantize(deep, tmp_path / "two", threads=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


# Layers


@pytest.mark.parametrize("pruned", [(0,), (11,), (9, 2, 10), (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)])
@pytest.mark.slow
def test_the_layers_left_are_the_right_ones(deep, tmp_path, pruned):
    target = tmp_path / "pruned.gguf"
    report = quantize(deep, target, type="f32", prune_layers=pruned)
    kept = [layer for layer in range(LAYERS) if layer not in pruned]
    assert (report.layers_before, report.layers_after) == (LAYERS, len(kept))
    assert check_gguf(target).number("block_count") == len(kept)
    original, written = weights_of(deep), weights_of(target)
    expected = {name: weights for name, weights in original.items() if not name.startswith("blk.")}
    for new, old in enumerate(kept):
        of_layer = {name: weights for name, weights in original.items() if name.startswith(f"blk.{old}.")}
        expected |= {name.replace(f"blk.{old}.", f"blk.{new}.", 1): weights for name, weights in of_layer.items()}
    assert written.keys() == expected.keys()
    for name, weights in expected.items():
        np.testing.assert_array_equal(written[name], weights)
    assert words_of(target)


@pytest.mark.parametrize("layers", [(12,), (-1,), (1.5,), (3, 3), tuple(range(12))])
def test_layers_that_are_not_there_are_refused(deep, tmp_path, layers):
    with pytest.raises(ConfigurationError, match="some, not all, of the layers 0 to 11, each once"):
        quantize(deep, tmp_path / "out.gguf", prune_layers=layers)
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": "gemma3"}, "'gemma3', cannot be left out: not all of its layers are alike"),
        ({"attention.head_count_kv_by_layer": [2] * LAYERS}, "head_count_kv_by_layer has a value for each layer"),
        ({"nextn_predict_layers": 1}, "not all of its layers are alike"),
    ],
)
def test_layers_that_differ_cannot_be_left_out(tiny_gguf, tmp_path, options, says):
    source = write_deep(tiny_gguf, tmp_path / "source.gguf", **options)
    with pytest.raises(ConfigurationError, match=says):
        quantize(source, tmp_path / "out.gguf", prune_layers=[1])


@pytest.mark.slow
def test_a_file_with_other_layers_than_it_says_is_refused(tiny_gguf, tmp_path):
    source = write_deep(tiny_gguf, tmp_path / "source.gguf", layers=3, claimed=2)
    with pytest.raises(ModelLoadError, match="names 2 layers in its header, but has tensors of other layers"):
        quantize(source, tmp_path / "out.gguf", prune_layers=[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.gguf"]


# What goes wrong


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"type": "q4"}, "`type` must be one of 'f32', 'f16', .*'q4_0'.*, got 'q4'"),
        ({"type": "Q4_0"}, "got 'Q4_0'"),
        ({"threads": 0}, "`threads` must be at least 1, got 0"),
    ],
)
def test_arguments_that_cannot_work(tiny_gguf, tmp_path, options, says):
    with pytest.raises(ConfigurationError, match=says):
        quantize(tiny_gguf, tmp_path / "out.gguf", **options)


def test_the_source_is_never_the_target(tiny_gguf, tmp_path):
    before = tiny_gguf.read_bytes()
    (tmp_path / "link.gguf").symlink_to(tiny_gguf)
    for target in (tiny_gguf, tmp_path / "link.gguf"):
        with pytest.raises(ConfigurationError, match="the same file"):
            quantize(tiny_gguf, target, overwrite=True)
    assert tiny_gguf.read_bytes() == before


@pytest.mark.slow
def test_a_target_that_is_there_is_kept_unless_told(tiny_gguf, tmp_path):
    target = tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(StorageError, match="exists already") as caught:
        quantize(tiny_gguf, target)
    assert (caught.value.path, target.read_bytes()) == (target, b"mine")
    quantize(tiny_gguf, target, overwrite=True)
    assert check_gguf(target).tensor_types["Q4_0"] == 8


def test_a_folder_that_cannot_be_written_is_a_typed_error(tiny_gguf, tmp_path):
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "nowhere" / "out.gguf", tmp_path / "file" / "out.gguf"):
        with pytest.raises(StorageError, match="cannot write") as caught:
            quantize(tiny_gguf, target)
        assert caught.value.path == target
    with pytest.raises(StorageError, match="is a folder"):
        quantize(tiny_gguf, tmp_path, overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_typed_error(tiny_gguf, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Check the folder, its permissions"):
        quantize(tiny_gguf, tmp_path / "out.gguf")


def test_a_damaged_source_never_reaches_llama_cpp(tiny_gguf, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_rewrite", None)
    (tmp_path / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:-1000])
    with pytest.raises(ModelLoadError, match="truncated"):
        quantize(tmp_path / "cut.gguf", tmp_path / "out.gguf")
    with pytest.raises(ModelLoadError, match="cannot read"):
        quantize(tmp_path / "nothing.gguf", tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("key", "value", "says"), [("general.alignment", 64, "aligned to 64"), ("split.count", 3, "3 parts")]
)
def test_layouts_that_the_quantizer_breaks_are_refused(tiny_gguf, tmp_path, monkeypatch, key, value, says):
    info = check_gguf(tiny_gguf)
    changed = dataclasses.replace(info, metadata={**info.metadata, key: value})
    monkeypatch.setattr(module, "check_gguf", lambda path: changed)
    with pytest.raises(ConfigurationError, match=says):
        quantize(tiny_gguf, tmp_path / "out.gguf")


@pytest.mark.slow
def test_what_llama_cpp_says_travels_and_nothing_is_left(tiny_gguf, tmp_path, capfd):
    source = write_deep(tiny_gguf, tmp_path / "source.gguf", architecture="nonsense", layers=1)
    with pytest.raises(ModelLoadError, match=r"it refused: .*unknown model architecture: 'nonsense'") as caught:
        quantize(source, tmp_path / "out.gguf")
    assert caught.value.path == source
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_disk_that_is_full_is_a_typed_error(deep, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # the child inherits it
    try:
        with pytest.raises(StorageError, match="the disk is full") as caught:
            quantize(deep, tmp_path / "out.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.path == tmp_path / "out.gguf"
    assert list(tmp_path.iterdir()) == []


def test_a_crash_of_llama_cpp_is_an_exception(tiny_gguf, tmp_path, monkeypatch):
    crashed = subprocess.CompletedProcess([], -6, stderr="GGML_ASSERT(false) failed\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: crashed)
    with pytest.raises(ModelLoadError, match=r"it ended with code -6: GGML_ASSERT\(false\) failed"):
        quantize(tiny_gguf, tmp_path / "out.gguf")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [(os, "fsync"), (module.subprocess, "run")])
@pytest.mark.slow
def test_an_interruption_leaves_the_old_file(tiny_gguf, tmp_path, monkeypatch, where):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "out.gguf").write_bytes(b"old")
    monkeypatch.setattr(*where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        quantize(tiny_gguf, tmp_path / "out.gguf", overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.gguf": b"old"}


@pytest.mark.slow
def test_modules_in_the_working_folder_are_not_imported(tiny_gguf, tmp_path, monkeypatch):
    for name in ("ctypes", "llama_cpp", "leanrag"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert quantize(tiny_gguf, "-odd näme.gguf").target_bytes == (tmp_path / "-odd näme.gguf").stat().st_size


# What is fast where


@pytest.mark.parametrize(
    ("tensors", "x86", "arm"),
    [
        ({"Q4_1": 210, "Q8_0": 1, "F32": 61}, False, False),
        ({"Q4_0": 210, "Q8_0": 1, "F32": 400}, True, True),
        ({"Q5_0": 81, "Q4_K": 27}, False, False),
        ({"Q6_K": 3}, False, True),
        ({"F16": 20, "F32": 10}, True, True),
    ],
)
def test_most_tensors_decide_about_kernels(tiny_gguf, tensors, x86, arm):
    info = dataclasses.replace(check_gguf(tiny_gguf), tensor_types=tensors)
    assert (has_fast_kernels(info, "x86_64"), has_fast_kernels(info, "aarch64")) == (x86, arm)
    assert has_fast_kernels(info, "sparc")


# What it did to the model


class Uniform:
    """Finds each of `n` characters as probable; a token is a character, the first has nothing before it."""

    def __init__(self, n, n_ctx=64):
        self.n, self.n_ctx, self.seen = n, n_ctx, []

    def count_tokens(self, text):
        return len(text)

    def score(self, text):
        assert len(text) < self.n_ctx
        self.seen.append(text)
        return Scores(tuple(map(ord, text)), (None, *[-math.log(self.n)] * (len(text) - 1)))


def test_a_uniform_model_is_as_perplexed_as_it_has_choices():
    assert perplexity(Uniform(17), "to be or not to be " * 20) == pytest.approx(17, rel=1e-12)


def test_perplexity_by_hand():
    logprobs = {"ab": (None, math.log(0.5)), "c": (None,), " d": (math.log(0.25), math.log(0.125))}
    model = SimpleNamespace(n_ctx=3, count_tokens=len, score=lambda text: Scores((0,) * len(text), logprobs[text]))
    assert perplexity(model, "abc d") == pytest.approx((0.5 * 0.25 * 0.125) ** (-1 / 3))


def test_windows_are_no_longer_than_asked():
    model = Uniform(2)
    perplexity(model, "word " * 40, n_ctx=17)
    assert "".join(model.seen) == "word " * 40
    assert model.seen[0] == "word word word"  # 16 characters would cut the fourth word


@given(st.text(), st.integers(1, 9))
def test_windows_joined_are_the_text(text, limit):
    pieces = list(_windows(text, Uniform(2), limit))
    assert "".join(pieces) == text
    assert all(0 < len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize(
    ("text", "n_ctx", "says"), [("x", 512, "at least two tokens"), ("", 9, "two tokens"), ("a b", 1, "got 1")]
)
def test_perplexity_needs_something_to_predict(text, n_ctx, says):
    with pytest.raises(ConfigurationError, match=says):
        perplexity(Uniform(2), text, n_ctx=n_ctx)


def test_figures_of_a_file(deep):
    text = "The quick brown fox jumps over the lazy dog. " * 8
    figures = measure(deep, text, threads=1)
    assert figures.size_bytes == deep.stat().st_size
    assert figures.prefill_tokens_per_second > 0
    with LlamaCppModel(deep, threads=1) as model:
        assert figures.perplexity == pytest.approx(perplexity(model, text), rel=1e-3)
    assert 1 < figures.perplexity < 10 * 263


def test_a_model_that_embeds_has_a_size_only(tiny_gguf, tmp_path):
    source = write_deep(tiny_gguf, tmp_path / "source.gguf", layers=1, pooling_type=1)
    assert measure(source, "any text") == Figures(source.stat().st_size, None, None, None)


@pytest.mark.model
def test_a_real_model_still_speaks_after_requantizing(smollm, tmp_path):
    text = "Water boils at one hundred degrees Celsius at sea level. The capital of France is Paris."
    report = quantize(smollm.path, tmp_path / "q4_0.gguf", type="q4_0")
    assert report.target_bytes < report.source_bytes
    assert 4.5 < report.bits_per_weight < 5.6
    exact = perplexity(smollm, text)
    assert exact < perplexity(smollm, " ".join(reversed(text.split()))) / 4  # order tells it something
    with LlamaCppModel(tmp_path / "q4_0.gguf", n_ctx=512) as model:
        assert exact / 2 < perplexity(model, text) < 2 * exact


@pytest.mark.model
def test_a_real_model_still_speaks_with_a_layer_less(smollm, tmp_path):
    report = quantize(smollm.path, tmp_path / "pruned.gguf", type="q4_1", prune_layers=[20])
    assert (report.layers_before, report.layers_after) == (30, 29)
    text = "Water boils at one hundred degrees Celsius at sea level. The capital of France is Paris."
    with LlamaCppModel(tmp_path / "pruned.gguf", n_ctx=512) as model:
        assert perplexity(model, text) < 4 * perplexity(smollm, text)
