"""A model file in memory: loaded once in a process, whoever runs it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from leanrag.errors import ModelLoadError
from leanrag.llama.library import library, native_errors
from leanrag.llama.vocabulary import Vocabulary

__all__ = ["Weights"]

_lock = threading.RLock()  # a load may set off the garbage collector, and that the release of other weights
_loaded: dict[tuple[object, ...], Weights] = {}


class Weights:
    """The weights of a model; get them with `acquire`, give them back with `release`.

    Attributes:
        model: llama.cpp's handle.
        vocabulary: The model's vocabulary.
    """

    def __init__(self, path: Path, n_gpu_layers: int) -> None:
        lib = library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = n_gpu_layers
        with native_errors() as native:
            self.model: Any = lib.llama_model_load_from_file(os.fsencode(path.resolve()), parameters)
            if not self.model:
                raise ModelLoadError(f"llama.cpp cannot load {path}: {native}", path=path, model=path.name)
        self.vocabulary = Vocabulary(lib, self.model)
        self._lib, self._users = lib, 0
        self._key: tuple[object, ...] = ()

    @classmethod
    def acquire(cls, path: Path, n_gpu_layers: int) -> Weights:
        """Return the weights of a checked file, loading them if nobody has.

        Raises:
            ModelLoadError: llama.cpp refuses the file; the message carries its own words.
        """
        status = path.stat()
        key = (os.getpid(), path.resolve(), status.st_mtime_ns, status.st_size, n_gpu_layers)
        with _lock:
            weights = _loaded.get(key)
            if weights is None:
                weights = _loaded[key] = cls(path, n_gpu_layers)
                weights._key = key
            weights._users += 1
            return weights

    def release(self) -> None:
        """Free the weights when nobody uses them any more; once for each `acquire`, after the contexts on them are free."""
        with _lock:
            self._users -= 1
            if self._users == 0:
                del _loaded[self._key]
                self._lib.llama_model_free(self.model)
