"""The report: what is here, and advice that fits what is here."""

import importlib.metadata
import os

import pytest

from leanrag import MissingDependencyError, doctor
from leanrag.llama.library import Device
from leanrag.llama.threads import usable_cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A plain machine with all models, which tests then make worse."""
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(doctor, "_cpu_flags", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(doctor, "describe_build", lambda: {"AVX2": "1", "AVX512": "0", "FMA": "1"})
    monkeypatch.setattr(doctor, "list_devices", lambda: [Device("CPU", "A processor", "CPU", 2**30, 2**31)])
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.sys, "platform", "linux")
    return monkeypatch


def advice() -> str:
    return "\n".join(doctor.examine().advice)


def test_it_reports_what_is_installed(machine):
    sections = doctor.examine().sections
    assert list(sections) == ["Versions", "llama.cpp", "Threads", "Models"]
    assert sections["Versions"]["numpy"] == importlib.metadata.version("numpy")
    assert sections["Versions"]["llama-cpp-python"] == importlib.metadata.version("llama-cpp-python")
    assert sections["llama.cpp"]["features"] == "AVX2 FMA"
    assert sections["llama.cpp"]["CPU"] == "A processor (CPU, 1.0 of 2.0 GiB free)"
    assert sections["Threads"] == {"logical CPUs": str(os.cpu_count()), "used to compute": str(usable_cores())}
    assert sections["Models"]["smollm2-135m"] == "not pulled"


def test_models_that_are_not_here(machine):
    assert "leanrag pull smollm2-135m all-minilm-l6-v2" in advice()


def test_a_build_that_leaves_the_processor_unused(machine):
    assert "compiled without" not in advice()
    machine.setattr(doctor, "_cpu_flags", lambda: frozenset({"avx2", "avx512f", "avx512_vnni"}))
    assert "compiled without AVX512, AVX512_VNNI, which this CPU has" in advice()


def test_a_gpu_that_is_not_used(machine):
    machine.setattr(doctor.shutil, "which", lambda name: "/usr/bin/" + name)
    assert "-DGGML_CUDA=on" in advice()
    machine.setattr(doctor.sys, "platform", "darwin")
    machine.setattr(doctor.platform, "machine", lambda: "arm64")
    assert "-DGGML_METAL=on" in advice()


def test_threads_that_are_held_back(machine):
    machine.setattr(doctor, "usable_cores", lambda: 8)
    machine.setenv("OMP_NUM_THREADS", "2")
    assert "OMP_NUM_THREADS=2 keeps embedding and search to fewer than the 8 cores" in advice()
    machine.setenv("OMP_NUM_THREADS", "8")
    assert "OMP_NUM_THREADS" not in advice()


def test_a_missing_package(machine):
    def version(name):
        if name == "sentence-transformers":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    machine.setattr(importlib.metadata, "version", version)
    findings = doctor.examine()
    assert findings.sections["Versions"]["sentence-transformers"] == "not installed"
    assert "torch" not in "\n".join(findings.advice)  # nobody needs it to embed


def test_a_llama_cpp_that_does_not_load(machine):
    def broken():
        raise MissingDependencyError("libllama.so: cannot open shared object file", package="llama_cpp", extra="all")

    machine.setattr(doctor, "describe_build", broken)
    findings = doctor.examine()
    assert findings.sections["llama.cpp"] == {"llama.cpp": "cannot be loaded"}
    assert "libllama.so: cannot open shared object file" in findings.advice
