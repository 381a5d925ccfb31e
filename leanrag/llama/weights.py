"""The weights of a model file: a process loads them once, and all engines share them."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanrag.errors import ModelLoadError
from leanrag.llama.library import library, native_errors
from leanrag.llama.placement import CPU_ONLY, Placement, Split
from leanrag.llama.vocabulary import Vocabulary

__all__ = ["LoadedAdapter", "Weights"]

_SPLIT_MODES: Mapping[Split, int] = {"none": 0, "layer": 1, "row": 2}  # llama.h, enum llama_split_mode
_MMAP_MLOCK = 3  # llama.h, enum llama_load_mode

_lock = threading.RLock()  # reentrant: a load may start the garbage collector, which may release other weights
_loaded: dict[tuple[object, ...], Weights] = {}


@dataclass(slots=True)
class LoadedAdapter:
    """A LoRA adapter in memory.

    Attributes:
        handle: llama.cpp's handle.
        version: The time of the file's last change in nanoseconds, and its size in bytes.
        users: The number of contexts that use it.
    """

    handle: Any
    version: tuple[int, int]
    users: int = 0


class Weights:
    """The weights of a model: get them with `acquire`, release them with `release`.

    Attributes:
        model: llama.cpp's handle.
        vocabulary: The model's vocabulary.
        version: The time of the file's last change in nanoseconds, and its size in bytes.
        placement: Which layers are on which GPU.
        adapters_lock: Hold it to open a context, and to acquire or release an adapter: llama.cpp looks at all adapters of a model
            when it reserves the memory of a context.
    """

    version: tuple[int, int]
    placement: Placement

    def __init__(self, path: Path, placement: Placement, vocab_only: bool, mlock: bool) -> None:
        lib = library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = placement.layers
        parameters.split_mode = _SPLIT_MODES[placement.split]
        parameters.main_gpu = placement.main_gpu
        parameters.vocab_only = vocab_only
        if mlock:
            parameters.load_mode = _MMAP_MLOCK
        if placement.tensor_split:
            proportions = (ctypes.c_float * lib.llama_max_devices())(*placement.tensor_split)
            parameters.tensor_split = proportions
        if not placement.layers:
            # Pass an empty list of devices. Without a list, llama.cpp uses all GPUs: it reserves memory on them and computes large
            # batches there, although the layers are not on them.
            no_devices = (ctypes.c_void_p * 1)(None)
            parameters.devices = ctypes.addressof(no_devices)
        with native_errors() as native:
            self.model: Any = lib.llama_model_load_from_file(os.fsencode(path.absolute()), parameters)
            if not self.model:
                raise ModelLoadError(
                    f"llama.cpp cannot load {str(path)!r} ({native}). Get the file again if it is damaged, or upgrade "
                    "llama-cpp-python if the model is newer",
                    path=path,
                    model=path.name,
                )
        self.vocabulary = Vocabulary(lib, self.model)
        self._lib, self._users = lib, 0
        self.adapters_lock = threading.RLock()
        self._adapters: dict[tuple[object, ...], LoadedAdapter] = {}
        self._key: tuple[object, ...] = ()

    @classmethod
    def acquire(
        cls,
        path: Path,
        placement: Placement = CPU_ONLY,
        *,
        vocab_only: bool = False,
        version: tuple[int, int] | None = None,
        mlock: bool = False,
    ) -> Weights:
        """Return the weights of a checked file; load them if they are not in memory.

        Args:
            path: The file.
            placement: Which layers go on which GPU.
            vocab_only: Load the vocabulary and nothing to compute with.
            mlock: Whether the system must keep the weights in memory.
            version: The `version` that was checked; None allows any.

        Raises:
            ModelLoadError: The file is missing, has another version, or llama.cpp refuses it; the message quotes llama.cpp.
        """
        found = cls.check_version(path, version)
        key = (os.getpid(), path.resolve(), *found, placement.key, vocab_only, mlock)
        with _lock:
            weights = _loaded.get(key)
            if weights is None:
                weights = _loaded[key] = cls(path, placement, vocab_only, mlock)
                weights.placement, weights._key, weights.version = placement, key, found
            weights._users += 1
            return weights

    @staticmethod
    def check_version(path: Path, version: tuple[int, int] | None) -> tuple[int, int]:
        """Return the `version` of a file.

        Raises:
            ModelLoadError: The file is missing, or its version differs from `version`, where None allows any.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise ModelLoadError(f"{str(path)!r} cannot be read: {error}", path=path, model=path.name) from error
        found = (status.st_mtime_ns, status.st_size)
        if version not in (None, found):
            raise ModelLoadError(
                f"{str(path)!r} has changed since the model was loaded. Restore the file, or load the model again",
                path=path,
                model=path.name,
            )
        return found

    @staticmethod
    def find_placement(path: Path) -> Placement | None:
        """Return the placement of this file's weights if they are loaded with layers on GPUs, else None."""
        path = path.resolve()
        with _lock:
            found = [weights.placement for key, weights in _loaded.items() if key[:2] == (os.getpid(), path)]
        with_layers = [placement for placement in found if placement.layers]
        return max(with_layers, key=lambda placement: placement.layers, default=None)

    def acquire_adapter(self, path: Path, version: tuple[int, int] | None = None) -> LoadedAdapter:
        """Return an adapter for these weights; load it if it is not in memory.

        Args:
            path: A checked file.
            version: The `version` that was checked; None allows any.

        Raises:
            ModelLoadError: The file is missing, has another version, or llama.cpp refuses it; the message quotes llama.cpp.
        """
        key = (path.resolve(), self.check_version(path, version))
        with _lock:
            adapter = self._adapters.get(key)
            if adapter is None:
                with native_errors() as native:
                    handle = self._lib.llama_adapter_lora_init(self.model, os.fsencode(path))
                    if not handle:
                        raise ModelLoadError(
                            f"llama.cpp cannot load the adapter {str(path)!r} ({native}). Use an adapter that was made for "
                            "this model",
                            path=path,
                        )
                adapter = self._adapters[key] = LoadedAdapter(handle, key[1])
            adapter.users += 1
            return adapter

    def release_adapter(self, adapter: LoadedAdapter) -> None:
        """Free the adapter if this was its last user; call it once for each `acquire_adapter`, after the context is freed."""
        with _lock:
            adapter.users -= 1
            if adapter.users == 0:
                self._adapters = {key: each for key, each in self._adapters.items() if each is not adapter}
                self._lib.llama_adapter_lora_free(adapter.handle)

    def release(self) -> None:
        """Free the weights if this was their last user; call it once for each `acquire`, after the contexts on them are freed."""
        with _lock:
            self._users -= 1
            if self._users == 0:
                del _loaded[self._key]
                self._lib.llama_model_free(self.model)
