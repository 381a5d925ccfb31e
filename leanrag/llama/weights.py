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
        version: Of the file: when it was written, in nanoseconds, and its size in bytes.
    """

    version: tuple[int, int]

    def __init__(self, path: Path, n_gpu_layers: int, vocab_only: bool) -> None:
        lib = library()
        parameters = lib.llama_model_default_params()
        parameters.n_gpu_layers = n_gpu_layers
        parameters.vocab_only = vocab_only
        with native_errors() as native:
            self.model: Any = lib.llama_model_load_from_file(os.fsencode(path.resolve()), parameters)
            if not self.model:
                raise ModelLoadError(f"llama.cpp cannot load {path}: {native}", path=path, model=path.name)
        self.vocabulary = Vocabulary(lib, self.model)
        self._lib, self._users = lib, 0
        self._key: tuple[object, ...] = ()

    @classmethod
    def acquire(
        cls, path: Path, n_gpu_layers: int, *, vocab_only: bool = False, version: tuple[int, int] | None = None
    ) -> Weights:
        """Return the weights of a checked file, loading them if nobody has.

        Args:
            path: The file.
            n_gpu_layers: Layers on the GPU, -1 for all.
            vocab_only: Load the vocabulary and nothing to compute with.
            version: The `version` that was checked; None for whatever is there.

        Raises:
            ModelLoadError: The file is gone, of another version, or refused by llama.cpp; the message carries its own words.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise ModelLoadError(f"{path} cannot be read: {error}", path=path, model=path.name) from error
        found = (status.st_mtime_ns, status.st_size)
        if version is not None and found != version:
            raise ModelLoadError(
                f"{path} was changed since it was loaded first. Put the file back, or load the model anew",
                path=path,
                model=path.name,
            )
        key = (os.getpid(), path.resolve(), *found, n_gpu_layers, vocab_only)
        with _lock:
            weights = _loaded.get(key)
            if weights is None:
                weights = _loaded[key] = cls(path, n_gpu_layers, vocab_only)
                weights._key, weights.version = key, found
            weights._users += 1
            return weights

    def release(self) -> None:
        """Free the weights when nobody uses them any more; once for each `acquire`, after the contexts on them are free."""
        with _lock:
            self._users -= 1
            if self._users == 0:
                del _loaded[self._key]
                self._lib.llama_model_free(self.model)
