"""The report: what is here, and advice that fits what is here."""

import dataclasses
import importlib.metadata
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanrag import MissingDependencyError, ModelLoadError
from leanrag.cli import installation
from leanrag.llama.library import Device
from leanrag.pipeline import defaults
from leanrag.threads import usable_cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A plain machine with all models, which tests then make worse."""
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(installation, "unlimited_libraries", lambda: ())  # this process may have met torch first
    monkeypatch.setattr(installation, "_cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(installation, "describe_build", lambda: {"AVX2": "1", "AVX512": "0", "FMA": "1"})
    monkeypatch.setattr(installation, "list_devices", lambda: [Device("CPU", "A processor", "CPU", 2**30, 2**31)])
    monkeypatch.setattr(installation, "compiled_backends", lambda: ("cpu",))
    monkeypatch.setattr(installation, "library", lambda: SimpleNamespace(llama_supports_gpu_offload=lambda: False))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(installation.shutil, "which", lambda name: None)
    monkeypatch.setattr(installation.sys, "platform", "linux")
    return monkeypatch


def advice() -> str:
    return "\n".join(installation.examine().advice)


def test_it_reports_what_is_installed(machine):
    sections = installation.examine().sections
    assert list(sections) == ["Versions", "Extras", "llama.cpp", "Threads", "Models"]
    assert sections["Versions"]["numpy"] == importlib.metadata.version("numpy")
    assert sections["Versions"]["llama-cpp-python"] == importlib.metadata.version("llama-cpp-python")
    assert sections["llama.cpp"]["features"] == "AVX2 FMA"
    assert sections["llama.cpp"]["CPU"] == "A processor (CPU, 1.0 of 2.0 GiB free)"
    assert sections["Threads"] == {
        "logical CPUs": str(os.cpu_count()),
        "used to compute": str(usable_cores()),
        "spinning": "GOMP_SPINCOUNT=7",
    }
    assert sections["Models"]["smollm2-135m"] == "not pulled"


def test_extras_name_what_they_need(machine):
    requirements = [
        "numpy>=1.26",
        'numpy>=1.26; extra == "there"',
        "numpy>=1.26; extra == 'half'",
        "no-such-package[more]<2,>=1; extra == 'half'",
        "no-such-tool; extra == 'dev'",
        "leanrag[there]; extra == 'all'",
    ]
    machine.setattr(importlib.metadata, "requires", lambda name: requirements)
    assert installation.examine().sections["Extras"] == {
        "half": "needs no-such-package: pip install 'leanrag[half]'",
        "there": "installed",
    }


def test_the_extras_of_this_package_are_reported(machine):
    extras = installation.examine().sections["Extras"]
    assert "torch" in extras
    assert not {"all", "dev"} & set(extras)


def test_threads_that_spin(machine):
    assert "spin" not in advice()
    machine.setattr(installation, "unlimited_libraries", lambda: ("/usr/lib/libgomp.so.1",))
    assert "/usr/lib/libgomp.so.1 was loaded before leanrag" in advice()
    assert "Set GOMP_SPINCOUNT=1000 before Python starts" in advice()


def test_models_that_are_not_here(machine):
    machine.setattr(defaults, "available_bytes", lambda: 1.2e9)
    assert "Get them with: leanrag pull qwen2.5-coder-0.5b all-minilm-l6-v2 (583 MB)" in advice()
    machine.setattr(defaults, "available_bytes", lambda: 3e8)
    assert "Get them with: leanrag pull smollm2-135m all-minilm-l6-v2 (190 MB)" in advice()


def test_a_build_that_leaves_the_processor_unused(machine):
    assert "compiled without" not in advice()
    machine.setattr(installation, "_cpu_flags", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    assert "compiled without AVX512, AVX512_VNNI, which this CPU has" in advice()


def test_a_gpu_that_is_not_used(machine):
    machine.setattr(installation.shutil, "which", lambda name: "/usr/bin/" + name)
    assert "-DGGML_CUDA=on" in advice()
    machine.setattr(installation.sys, "platform", "darwin")
    machine.setattr(installation.platform, "machine", lambda: "arm64")
    assert "-DGGML_METAL=on" in advice()


def test_a_build_for_a_gpu_that_it_does_not_see(machine):
    machine.setattr(installation.shutil, "which", lambda name: "/usr/bin/" + name)
    machine.setattr(installation, "compiled_backends", lambda: ("cpu", "cuda"))
    machine.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "compiled for CUDA but finds no GPU" in advice()
    assert "CUDA_VISIBLE_DEVICES ('' now) must not hide it" in advice()
    assert "-DGGML_CUDA=on" not in advice()  # it has that
    assert installation.examine().sections["llama.cpp"]["compiled for"] == "cpu cuda"


def test_a_build_for_the_cpu_starts_no_trial(machine):
    def never(*_, **__):
        raise AssertionError("a process was started")

    machine.setattr(installation, "check_in_process", never)
    assert "GPU trial" not in installation.examine().sections["llama.cpp"]


@pytest.fixture
def gpu_machine(machine, tmp_path):
    """A machine whose llama.cpp sees a GPU, with two models pulled, the smaller one last."""
    machine.setattr(installation, "library", lambda: SimpleNamespace(llama_supports_gpu_offload=lambda: True))
    models = []
    for model, size in zip((m for m in installation.list_models() if m.spec.kind == "gguf"), (200, 100), strict=False):
        path = tmp_path / f"{model.spec.name}.gguf"
        path.write_bytes(bytes(size))
        models.append(dataclasses.replace(model, path=path))
    assert len(models) == 2
    machine.setattr(installation, "list_models", lambda: models)
    return machine


def test_a_gpu_is_tried_with_the_smallest_model(gpu_machine):
    asked = []

    def check(path, **settings):
        asked.append((Path(path).stat().st_size, settings["gpu"].layers))
        return SimpleNamespace(seconds=1.25)

    gpu_machine.setattr(installation, "check_in_process", check)
    found = installation.examine()
    assert asked == [(100, -1)]
    assert found.sections["llama.cpp"]["GPU trial"].endswith(".gguf loaded and answered in 1.2 s")
    assert "GPU" not in "\n".join(found.advice)


def test_a_gpu_that_ends_the_process_is_reported(gpu_machine):
    def check(path, **_):
        raise ModelLoadError("the process of it ended (signal SIGSEGV)", path=path, model="it")

    gpu_machine.setattr(installation, "check_in_process", check)
    found = installation.examine()
    assert found.sections["llama.cpp"]["GPU trial"].startswith("failed with ")
    assert "signal SIGSEGV" in "\n".join(found.advice)
    assert "docs/install-gpu.md" in "\n".join(found.advice)


def test_a_gpu_without_a_model_to_try_it_with(machine):
    machine.setattr(installation, "library", lambda: SimpleNamespace(llama_supports_gpu_offload=lambda: True))
    assert installation.examine().sections["llama.cpp"]["GPU trial"] == "not tried: no model is pulled"


def test_threads_that_are_held_back(machine):
    machine.setattr(installation, "usable_cores", lambda: 8)
    machine.setenv("OMP_NUM_THREADS", "2")
    assert "OMP_NUM_THREADS=2 limits embedding and search to 2 of 8 cores" in advice()
    machine.setenv("OMP_NUM_THREADS", "8")
    assert "OMP_NUM_THREADS" not in advice()


def test_a_missing_package(machine):
    def version(name):
        if name == "sentence-transformers":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    machine.setattr(importlib.metadata, "version", version)
    findings = installation.examine()
    assert findings.sections["Versions"]["sentence-transformers"] == "not installed"
    assert "torch" not in "\n".join(findings.advice)  # nobody needs it to embed


def test_a_llama_cpp_that_does_not_load(machine):
    def broken():
        raise MissingDependencyError("libllama.so: cannot open shared object file", package="llama_cpp", extra="all")

    machine.setattr(installation, "describe_build", broken)
    findings = installation.examine()
    assert findings.sections["llama.cpp"] == {"llama.cpp": "cannot be loaded"}
    assert "libllama.so: cannot open shared object file" in findings.advice
