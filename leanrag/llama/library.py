"""Loading the native library once: version check, logs into `logging`, devices, and a way to abort a computation."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import logging
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanrag.errors import MissingDependencyError
from leanrag.openmp import limit_spinning

__all__ = [
    "AbortFlag",
    "Device",
    "compiled_backends",
    "describe_build",
    "ggml_library",
    "library",
    "list_devices",
    "native_errors",
    "without_release",
]

logger = logging.getLogger(__name__)
native_logger = logging.getLogger("leanrag.llama.native")

# ggml.h, enum ggml_log_level: 0 none, 1 debug, 2 info, 3 warn, 4 error, 5 continues the last line.
# Each load of a model writes more than a hundred lines of level 2, which an application that logs information does not want.
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.WARNING, 4: logging.ERROR}
_HARMLESS = "special_eos_id is not in special_eog_ids"  # of every BERT model; llama.cpp then adds the id itself
_CONTINUE = 5

_load_lock = threading.Lock()
_local = threading.local()  # .errors: the NativeErrors that this thread collects, inside `native_errors`


def library() -> Any:
    """Return the binding's module of C functions, initialised.

    Raises:
        MissingDependencyError: llama-cpp-python is absent, broken, or of a version whose structures differ.
    """
    with _load_lock:
        return _load()


@functools.cache
def _load() -> Any:
    _share_cxx_runtime()
    limit_spinning()
    try:
        import llama_cpp
        from llama_cpp import llama_cpp as lib
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingDependencyError(
            f"llama-cpp-python cannot be loaded ({error}). {_mend(str(error))}", package="llama_cpp", extra="all"
        ) from error
    version = tuple(int(part) for part in llama_cpp.__version__.split(".")[:3])
    if not (0, 3, 36) <= version < (0, 4):
        raise MissingDependencyError(
            f"llama-cpp-python {llama_cpp.__version__} is installed; its C structures are known from 0.3.36 to below "
            "0.4. Install one of those: pip install 'llama-cpp-python>=0.3.36,<0.4'",
            package="llama_cpp",
            extra="all",
        )
    callback = lib.llama_log_callback(_LogSink())
    lib.llama_log_set(callback, None)
    lib.leanrag_log_callback = callback  # llama.cpp keeps only the address: the object must live as long as the library
    lib.llama_backend_init()
    return lib


def _mend(reason: str) -> str:
    """Say what to do about a native library that does not load."""
    if "libcuda" in reason and "libcudart" not in reason:
        return "It was compiled for CUDA, but the NVIDIA driver is missing. Install the driver, or a build for the CPU"
    if any(name in reason for name in ("libcudart", "libcublas", "libnccl")):
        return (
            "It was compiled for CUDA, but the CUDA libraries cannot be found. Install the CUDA toolkit of the same version, or "
            "add the folder of the libraries to LD_LIBRARY_PATH before Python starts"
        )
    return (
        "Install a C++ compiler, then reinstall it: "
        "pip install --force-reinstall --no-cache-dir 'llama-cpp-python>=0.3.36,<0.4'"
    )


def _library_folder() -> Path | None:
    """Return where the binding looks for its shared libraries, without importing it; None when it is not installed."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    if override is not None:
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) / "lib" if folders else None


def compiled_backends() -> tuple[str, ...]:
    """Return what this build of llama.cpp was compiled for, e.g. `("cpu", "cuda")`, whether or not such a device is here."""
    folder = _library_folder()
    if folder is None:
        return ()
    names = {path.name.partition(".")[0].removeprefix("lib") for path in folder.glob("*ggml-*.*")}
    return tuple(sorted(name.removeprefix("ggml-") for name in names - {"ggml-base"}))


def _share_cxx_runtime() -> None:
    """Make a llama.cpp that carries a C++ runtime of its own use the one that the process shares.

    Some compilers are set up to link libstdc++ statically. The libraries then export a copy of it. Of most of its symbols they
    use their copy, but of those that the C++ ABI marks unique in a process (the ids of locale facets among them) whichever came
    first: the shared libstdc++'s when NumPy, torch or FAISS was imported before. Ids of one runtime in the tables of another
    end the process with a segmentation fault in `std::regex`, which a model's vocabulary is split with when it is loaded; torch
    imported after such a llama.cpp aborts on `free(): invalid pointer`. Seen with a CUDA build of 0.3.36 by GCC 13.

    A name is looked for in the process's global scope before a library's own, so a libstdc++ in that scope serves all of them.
    """
    folder = _library_folder() if sys.platform == "linux" else None
    if folder is None or not _carries_cxx_runtime(folder / "libllama.so"):
        return
    if "llama_cpp" in sys.modules:
        logger.warning(
            "llama_cpp was imported before leanrag could load it, and carries a C++ runtime of its own, which clashes with "
            "NumPy's and torch's. Let leanrag import it first, or compile it anew with a shared libstdc++ (docs/install-gpu.md)"
        )
        return
    try:
        ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        logger.debug("no shared libstdc++, so nothing to clash with: %s", error)


def _carries_cxx_runtime(path: Path) -> bool:
    """Whether a library uses libstdc++ by name (`std::locale::locale()`) without needing the shared one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return data.find(b"\0libstdc++.so.6\0") < 0 and data.find(b"\0_ZNSt6localeC1Ev\0") >= 0
    except (OSError, ValueError):  # not there, or empty
        return False


class _LogSink:
    """Joins native log pieces into lines, one buffer a thread, and hands them to `logging`."""

    def __init__(self) -> None:
        self._local = threading.local()

    def __call__(self, level: int, text: bytes, _data: object) -> None:
        local = self._local
        if level == _CONTINUE:
            level = getattr(local, "level", 2)
        pending = getattr(local, "pending", "") + text.decode("utf-8", "replace")
        *lines, local.pending = pending.split("\n")
        local.level = level
        for line in lines:
            if line.strip(" ."):
                errors: NativeErrors | None = getattr(_local, "errors", None)
                python_level = logging.DEBUG if _HARMLESS in line else _LEVELS.get(level, logging.DEBUG)
                if errors is not None and python_level > logging.DEBUG:
                    errors.held.append((python_level, line))
                else:
                    native_logger.log(python_level, "%s", line)


class NativeErrors:
    """Warnings and errors that llama.cpp logged in one thread during one call.

    Attributes:
        held: `(logging level, line)`, to be logged when the call is over.
        expected: Set by the caller when it asked for the failure: the lines are then logged for debugging only.
    """

    def __init__(self) -> None:
        self.held: list[tuple[int, str]] = []
        self.expected = False

    def __str__(self) -> str:
        errors = [line for level, line in self.held if level == logging.ERROR]
        return "; ".join(errors) or "llama.cpp reported no reason"


@contextlib.contextmanager
def native_errors() -> Iterator[NativeErrors]:
    """Hold back what native calls of this thread complain of inside the block, for the exception that follows."""
    errors = _local.errors = NativeErrors()
    try:
        yield errors
    finally:
        del _local.errors
        for level, line in errors.held:
            native_logger.log(logging.DEBUG if errors.expected else level, "%s", line)


class AbortFlag:
    r"""A flag that llama.cpp polls after every node of its graph: `set()` stops a running computation.

    llama.cpp asks a C function `bool f(void *data)`. A Python callback there would take the interpreter's lock hundreds of
    times a token, so libc's `strlen` is given instead, with a two-byte buffer as data: "" is false, "\x01" is true.
    """

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(2)

    def set(self) -> None:
        """Abort what runs, and whatever starts before `clear`."""
        self._buffer[0] = b"\x01"

    def clear(self) -> None:
        """Let computations run."""
        self._buffer[0] = b"\x00"

    def install(self, lib: Any, context: Any) -> None:
        """Make `context` poll this flag."""
        self._callback = ctypes.cast(_strlen(), lib.ggml_abort_callback)
        lib.llama_set_abort_callback(context, self._callback, ctypes.addressof(self._buffer))


def _strlen() -> Any:
    libc = ctypes.CDLL("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    return libc.strlen


@functools.cache
def without_release(name: str) -> Any:
    """Return a function of llama.cpp that keeps the interpreter's lock while it runs.

    Python gives the lock away around each C function. If other threads compute in Python, each call then waits for the lock, up
    to five milliseconds. So this is for functions that take little time, and for those that call Python again and again.
    """
    function = getattr(library(), name)
    prototype = ctypes.PYFUNCTYPE(function.restype, *function.argtypes)
    return prototype(ctypes.cast(function, ctypes.c_void_p).value or 0)


def ggml_library() -> ctypes.CDLL:
    """Return the library of llama.cpp's tensors and graphs, without the types of its functions.

    Raises:
        OSError: The binding has no such file.
    """
    return _shared_library("ggml-base")


def _shared_library(name: str) -> ctypes.CDLL:
    library()
    import llama_cpp

    pattern = {"win32": "{}.dll", "darwin": "lib{}.dylib"}.get(sys.platform, "lib{}.so")
    return ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / pattern.format(name)))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that llama.cpp can compute on. Memory in bytes; 0 when it does not tell."""

    name: str
    description: str
    kind: str
    free_bytes: int
    total_bytes: int


def list_devices() -> list[Device]:
    """Return what this build of llama.cpp can compute on."""
    try:
        registry, base = _shared_library("ggml"), ggml_library()
    except OSError as error:
        logger.debug("devices unknown: %s", error)
        return []
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.restype, function.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
    base.ggml_backend_dev_type.restype, base.ggml_backend_dev_type.argtypes = ctypes.c_int, [ctypes.c_void_p]
    size_p = ctypes.POINTER(ctypes.c_size_t)
    base.ggml_backend_dev_memory.restype = None
    base.ggml_backend_dev_memory.argtypes = [ctypes.c_void_p, size_p, size_p]
    devices = []
    for i in range(registry.ggml_backend_dev_count()):
        device, free, total = registry.ggml_backend_dev_get(i), ctypes.c_size_t(), ctypes.c_size_t()
        base.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        devices.append(
            Device(
                name=base.ggml_backend_dev_name(device).decode(),
                description=base.ggml_backend_dev_description(device).decode(),
                # ggml-backend.h, enum ggml_backend_dev_type
                kind={0: "cpu", 1: "gpu", 2: "igpu", 3: "accelerator"}.get(base.ggml_backend_dev_type(device), "other"),
                free_bytes=free.value,
                total_bytes=total.value,
            )
        )
    return devices


def describe_build() -> dict[str, str]:
    """Return compiled-in features by name, e.g. `{"AVX2": "1", "REPACK": "1"}`."""
    text = library().llama_print_system_info().decode()
    pairs = (part.rpartition(":")[2].split("=") for part in text.split("|") if "=" in part)
    return {name.strip(): value.strip() for name, value in pairs}
