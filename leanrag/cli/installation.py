"""Report what is installed, what it can do, and what would improve it. Nothing is changed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from leanrag.errors import LeanRAGError
from leanrag.files import cache_dir
from leanrag.llama.library import compiled_backends, describe_build, library, list_devices
from leanrag.llama.placement import GpuOptions
from leanrag.llama.process import check_in_process
from leanrag.models import list_models
from leanrag.openmp import SPIN_SETTINGS, unlimited_libraries
from leanrag.pipeline.defaults import advise_models, default_models
from leanrag.threads import usable_cores

__all__ = ["Findings", "examine"]

_PACKAGES = (
    "leanrag",
    "llama-cpp-python",
    "faiss-cpu",
    "numpy",
    "pydantic",
    "tiktoken",
    "sentence-transformers",
    "transformers",
    "torch",
)
_REQUIREMENT = re.compile(r"(?P<package>[\w.-]+).*;\s*extra == ['\"](?P<extra>[\w-]+)['\"]")
_NO_FEATURES = frozenset({"all", "dev", "docs"})
_CPU_FEATURES = {"avx2": "AVX2", "avx512f": "AVX512", "avx512_vnni": "AVX512_VNNI", "avx_vnni": "AVX_VNNI"}
"""Flags of /proc/cpuinfo that llama.cpp uses if it was compiled with them, and the names that llama.cpp gives them."""

_REBUILD = "pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python"
_GPU_GUIDE = "docs/install-gpu.md"
_TRIAL_SECONDS = 120.0  # a driver that compiles kernels for a GPU newer than the build takes a minute at its first load


@dataclass(frozen=True, slots=True)
class Findings:
    """What `examine` found.

    Attributes:
        sections: Facts, by section and name.
        advice: What would improve the installation; empty if there is nothing.
    """

    sections: Mapping[str, Mapping[str, str]]
    advice: tuple[str, ...]


def examine() -> Findings:
    """Return what is installed here, and advice."""
    advice: list[str] = []
    sections = {
        "Versions": _versions(),
        "Extras": _extras(),
        "llama.cpp": _llama(advice),
        "Threads": _threads(advice),
        "Models": _models(advice),
    }
    return Findings(sections, tuple(advice))


def _versions() -> dict[str, str]:
    rows = {
        "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})",
        "sqlite": sqlite3.sqlite_version,
    }
    for package in _PACKAGES:
        try:
            rows[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            rows[package] = "not installed"
    return rows


def _extras() -> dict[str, str]:
    """Return for each extra whether its packages are installed, and if not, which are missing."""
    rows: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("leanrag") or ():
        found = _REQUIREMENT.match(requirement)
        if found and found["extra"] not in _NO_FEATURES and found["package"] != "leanrag":
            missing = rows.setdefault(found["extra"], [])
            if not _is_installed(found["package"]):
                missing.append(found["package"])
    return {
        extra: f"needs {', '.join(missing)}: pip install 'leanrag[{extra}]'" if missing else "installed"
        for extra, missing in sorted(rows.items())
    }


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _llama(advice: list[str]) -> dict[str, str]:
    try:
        features, devices = describe_build(), list_devices()
    except LeanRAGError as error:
        advice.append(str(error))
        return {"llama.cpp": "cannot be loaded"}
    rows = {"features": " ".join(name for name, value in features.items() if value != "0")}
    for device in devices:
        memory = (
            f", {device.free_bytes / 2**30:.1f} of {device.total_bytes / 2**30:.1f} GiB free"
            if device.total_bytes
            else ""
        )
        rows[device.name] = f"{device.description} ({device.kind}{memory})"
    has_gpu = library().llama_supports_gpu_offload()
    backends = compiled_backends()
    rows["compiled for"] = " ".join(backends)
    rows["GPU offload"] = "yes" if has_gpu else "no"
    if has_gpu:
        rows["GPU trial"] = _try_gpu(advice)
    unused = [name for flag, name in _CPU_FEATURES.items() if flag in _cpu_flags() and features.get(name, "0") == "0"]
    if unused:
        advice.append(
            f"llama.cpp was compiled without {', '.join(unused)}, which this CPU has. Compile it here: {_REBUILD}"
        )
    if not has_gpu and "cuda" in backends:
        advice.append(
            "llama.cpp was compiled for CUDA but finds no GPU. `nvidia-smi` must list the GPU, its driver must be as new as the "
            f"CUDA that llama.cpp was compiled with, and CUDA_VISIBLE_DEVICES{_visible()} must not hide it ({_GPU_GUIDE})"
        )
    elif not has_gpu and shutil.which("nvidia-smi"):
        advice.append(
            "This machine has an NVIDIA driver, but llama.cpp was compiled for the CPU. Compile it for the GPU: "
            f'CMAKE_ARGS="-DGGML_CUDA=on" {_REBUILD}'
        )
    if not has_gpu and (sys.platform, platform.machine()) == ("darwin", "arm64"):
        advice.append(
            f'llama.cpp was compiled without Metal. Compile it again: CMAKE_ARGS="-DGGML_METAL=on" {_REBUILD}'
        )
    return rows


def _visible() -> str:
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if value is None else f" ({value!r} now)"


def _try_gpu(advice: list[str]) -> str:
    """Load the smallest pulled model with all layers on the GPU, and generate a token, in a child process.

    The child imports NumPy before llama.cpp, as most programs do. If the build crashes then, only the child ends.
    """
    files = [model.path for model in list_models() if model.spec.kind == "gguf" and model.path is not None]
    if not files:
        return "not tried: no model is pulled"
    path = min(files, key=lambda file: file.stat().st_size)
    try:
        check = check_in_process(path, timeout_seconds=_TRIAL_SECONDS, gpu=GpuOptions(-1), n_ctx=256)
    except LeanRAGError as error:
        advice.append(f"A model on the GPU failed: {error}. For causes and solutions see {_GPU_GUIDE}")
        return f"failed with {path.name}"
    return f"{path.name} loaded and answered in {check.seconds:.1f} s"


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split()) for line in lines if line.startswith("flags")), frozenset())


def _threads(advice: list[str]) -> dict[str, str]:
    cores = usable_cores()
    spinning = unlimited_libraries()
    if spinning:
        advice.append(
            f"{' and '.join(spinning)} was loaded before leanrag. Its threads spin while they wait, which makes answers many"
            " times slower while other programs compute. Set GOMP_SPINCOUNT=1000 before Python starts"
        )
    rows = {"logical CPUs": str(os.cpu_count()), "used to compute": str(cores), "spinning": _spinning()}
    limit = os.environ.get("OMP_NUM_THREADS")
    if limit is not None:
        rows["OMP_NUM_THREADS"] = limit
        if limit.isdigit() and int(limit) < cores:
            advice.append(
                f"OMP_NUM_THREADS={limit} limits embedding and search to {limit} of {cores} cores. Unset it to use all cores"
            )
    return rows


def _spinning() -> str:
    """Say what decides how long the threads of OpenMP spin."""
    settings = (name for name in SPIN_SETTINGS if name in os.environ)
    return ", ".join(f"{name}={os.environ[name]}" for name in settings)


def _models(advice: list[str]) -> dict[str, str]:
    rows = {"cache": str(cache_dir())}
    for model in list_models():
        rows[model.spec.name] = str(model.path) if model.path else "not pulled"
        if model.path and model.spec.copy_type:
            copy = f"{model.spec.name}:{model.spec.copy_type}"
            rows[copy] = str(model.copies.get(model.spec.copy_type, "made when it is first needed"))
    rows["answers by default"] = ", then ".join(default_models())
    if (how := advise_models()) is not None:
        advice.append(how)
    return rows
