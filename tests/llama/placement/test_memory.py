"""The estimate is near what llama.cpp allocates, and short memory makes the window smaller."""

import logging
import re

import pytest

from leanrag import LlamaCppModel, ModelLoadError
from leanrag.llama import GpuOptions
from leanrag.llama import model as model_module
from leanrag.llama.placement.memory import MemoryEstimate, available_bytes, estimate_memory
from leanrag.models import resolve

MIB = 2**20


def allocated(caplog, what: str) -> float:
    """Bytes that llama.cpp said it allocated."""
    sizes = re.findall(rf"CPU {what} buffer size = +([\d.]+) MiB", caplog.text)
    return sum(map(float, sizes)) * MIB


@pytest.mark.model
@pytest.mark.parametrize("name", ["smollm2-135m", "gemma3-270m"])
@pytest.mark.parametrize("n_ctx", [1024, 4096])
def test_the_estimate_is_what_llama_cpp_allocates(name, n_ctx, caplog):
    path = resolve(name)
    with caplog.at_level(logging.DEBUG, "leanrag.llama.native"), LlamaCppModel(path, n_ctx=n_ctx, gpu=GpuOptions(0)):
        pass
    estimate = LlamaCppModel.estimate(path, n_ctx=n_ctx)
    assert estimate.weights == path.stat().st_size
    assert estimate.cache == pytest.approx(allocated(caplog, "KV"), rel=0.01)
    assert estimate.compute == pytest.approx(allocated(caplog, "compute"), rel=0.35)
    assert estimate.total == estimate.weights + estimate.cache + estimate.compute


def test_a_window_that_does_not_fit_is_halved(tiny_gguf, monkeypatch, caplog):
    info = model_module.check_gguf(tiny_gguf)
    needed = {n: estimate_memory(info, n_ctx=n) for n in (512, 1024, 2048, 4096)}
    for available, expected in ((1e12, 4096), (needed[1024].cache + needed[1024].compute, 512), (0, 512)):
        monkeypatch.setattr(model_module, "available_bytes", lambda available=available: available)
        assert model_module._fitting_n_ctx(info, 4096, 512) == expected
    assert "there is little memory" in caplog.text


def test_more_tokens_take_more_memory(tiny_gguf):
    small, large = (LlamaCppModel.estimate(tiny_gguf, n_ctx=n) for n in (256, 512))
    assert small == MemoryEstimate(tiny_gguf.stat().st_size, large.cache // 2, small.compute)
    assert small.compute < large.compute


def test_a_broken_file_has_no_estimate(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError):
        LlamaCppModel.estimate(tmp_path / "x.gguf")


def test_some_memory_is_available():
    assert available_bytes() > MIB
