"""Loading the native library: which copy of the C++ runtime it uses, and what is said when it does not load."""

import subprocess
import sys

import pytest

from leanrag.llama import library

OWN = b"\x7fELF....\0libm.so.6\0_ZNSt6localeC1Ev\0llama_decode\0"
SHARED = OWN + b"libstdc++.so.6\0"
OTHER = b"\x7fELF....\0libc++.so.1\0_ZNSt3__16localeC1Ev\0"


def test_a_copy_of_the_runtime_is_told_from_the_shared_one(tmp_path):
    path = tmp_path / "libllama.so"
    assert not library._carries_cxx_runtime(path)  # not there
    for content, expected in ((OWN, True), (SHARED, False), (OTHER, False), (b"", False)):
        path.write_bytes(content)
        assert library._carries_cxx_runtime(path) is expected


@pytest.mark.skipif(sys.platform != "linux", reason="one scope for all libraries is a matter of ELF")
@pytest.mark.parametrize(("content", "is_shared"), [(OWN, True), (SHARED, False)])
@pytest.mark.slow
def test_a_runtime_that_was_loaded_before_is_put_before_a_copy(tmp_path, content, is_shared):
    """NumPy loads the shared libstdc++ where no other library looks; a library with a copy must look there first."""
    (tmp_path / "libllama.so").write_bytes(content)
    code = (
        "import ctypes, numpy; from leanrag.llama import library\n"
        "name = '_ZNSt6localeC1Ev'; before = hasattr(ctypes.CDLL(None), name)\n"
        "library._share_cxx_runtime(); print(before, hasattr(ctypes.CDLL(None), name))"
    )
    environment = {"LLAMA_CPP_LIB_PATH": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    before, after = child.stdout.split()
    if before == "True":
        pytest.skip("this Python has libstdc++ in its global scope anyway")
    assert after == str(is_shared)


def test_a_llama_cpp_that_came_first_is_warned_of(tmp_path, monkeypatch, caplog):
    (tmp_path / "libllama.so").write_bytes(OWN)
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    monkeypatch.setattr(library.sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    library._share_cxx_runtime()
    assert "imported before leanrag could load it" in caplog.text
    caplog.clear()
    (tmp_path / "libllama.so").write_bytes(SHARED)
    library._share_cxx_runtime()
    assert not caplog.text


@pytest.mark.parametrize(
    ("reason", "mend"),
    [
        ("libcuda.so.1: cannot open shared object file", "driver"),
        ("libcudart.so.13: cannot open shared object file", "CUDA toolkit"),
        ("libcublas.so.13: cannot open shared object file", "CUDA toolkit"),
        ("libllama.so: undefined symbol", "pip install --force-reinstall"),
    ],
)
def test_a_library_that_does_not_load_comes_with_a_mend(reason, mend):
    assert mend in library._mend(reason)


def test_backends_are_read_from_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    for name in (
        "libggml.so",
        "libggml-base.so",
        "libggml-cpu.so",
        "libggml-cuda.so",
        "libggml-cuda.so.0",
        "libllama.so",
    ):
        (tmp_path / name).touch()
    assert library.compiled_backends() == ("cpu", "cuda")
    for path in tmp_path.iterdir():
        path.rename(tmp_path / path.name.removeprefix("lib").replace(".so", ".dll"))
    assert library.compiled_backends() == ("cpu", "cuda")


def test_the_installed_library_computes_on_the_cpu():
    library.library()
    assert "cpu" in {name.partition("-")[0] for name in library.compiled_backends()}


def test_a_function_that_keeps_the_lock_returns_the_same():
    lib = library.library()
    for name in ("llama_max_devices", "llama_supports_gpu_offload", "llama_print_system_info"):
        assert library.without_release(name)() == getattr(lib, name)()
