"""The source distribution of llama-cpp-python: it contains chat templates and vocabularies of many models."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path

__all__ = ["find_llama_models"]

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "leanrag-benchmarks"
_MODELS = "vendor/llama.cpp/models"


@functools.cache
def find_llama_models() -> Path | None:
    """Return the folder `models` of llama.cpp's source; None if it cannot be had, after a line that says why.

    The environment variable `LEANRAG_LLAMA_SOURCE` may name the unpacked source distribution. Otherwise pip downloads the source
    of the installed version, once.
    """
    if named := os.environ.get("LEANRAG_LLAMA_SOURCE"):
        folder = Path(named) / _MODELS
        if folder.is_dir():
            return folder
        print(
            f"LEANRAG_LLAMA_SOURCE={named!r} has no folder {_MODELS!r}. Name the unpacked source of llama-cpp-python."
        )
        return None
    requirement = f"llama-cpp-python=={version('llama-cpp-python')}"
    target = _CACHE / requirement.replace("==", "-")
    if not (target / _MODELS).is_dir():
        try:
            _download(requirement, target)
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            print(
                f"The source of {requirement} cannot be downloaded ({error}). Set LEANRAG_LLAMA_SOURCE to its folder."
            )
            return None
    return target / _MODELS


def _download(requirement: str, target: Path) -> None:
    """Download a source distribution, and unpack its folder of models into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python"]
    subprocess.run([*pip, "--dest", str(target), requirement], check=True, timeout=1800)
    archive = next(target.glob("llama_cpp_python-*.tar.gz"))
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            _, _, member.name = member.name.partition("/")  # without the folder of the version
            if member.isfile() and member.name.startswith(f"{_MODELS}/"):
                packed.extract(member, target, filter="data")
    archive.unlink()
