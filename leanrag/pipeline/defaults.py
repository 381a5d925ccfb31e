"""The models that answer if the caller names none, and the calibrations of readers that ship with leanrag."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from leanrag.llama.placement import available_bytes
from leanrag.models import REGISTRY, list_models
from leanrag.models.cache import packaged_adapter
from leanrag.protocols import LanguageModel
from leanrag.routing.calibration import Calibration
from leanrag.routing.cascade import Cascade, Model
from leanrag.threads import usable_cores

__all__ = [
    "DEFAULT_EMBEDDER",
    "Machine",
    "advise_models",
    "cascade_of",
    "default_models",
    "with_shipped_calibrations",
]

DEFAULT_EMBEDDER = "all-minilm-l6-v2"

_MODELS: dict[str, int] = {
    "smollm2-135m": 1,
    "smollm2-135m+reader": 1,
    "qwen2.5-coder-0.5b": 1,
    "qwen2.5-coder-1.5b": 2,
}
"""The models that answer, the worst first, and the fewest cores with which a person waits seconds for an answer, not minutes."""

_PAIR = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
"""Two models that are better as a cascade than the larger one is alone: it is asked only if the smaller one is not sure."""

_MEMORY_FACTOR = 1.3  # of the size of the file: weights, cache and working space of a window of 4,096 tokens
_MEMORY_BYTES = 300e6  # for the embedder and the library


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine offers to models.

    Attributes:
        memory_bytes: Memory that can be used now; inf if it is unknown.
        cores: Cores that compute.
    """

    memory_bytes: float
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """Return this machine."""
        return cls(available_bytes(), usable_cores())

    def carries(self, names: Collection[str]) -> bool:
        """Return whether the models run here together."""
        needed = _MEMORY_BYTES + sum(_MEMORY_FACTOR * _size_bytes(name) for name in names)
        return needed <= self.memory_bytes and all(_MODELS[name] <= self.cores for name in names)


def default_models(machine: Machine | None = None) -> tuple[str, ...]:
    """Return the model that answers if the caller names none, or the models of a cascade. Nothing is downloaded.

    It is the best of the models on this machine that it can carry. If no model is on this machine, it is the best that it could
    carry: loading it fails with an error that says how to get it.
    """
    machine = machine or Machine.here()
    here = _models_here()
    if set(_PAIR) <= set(here) and machine.carries(_PAIR):
        return _PAIR
    return (_best(here or list(_MODELS), machine),)


def advise_models(machine: Machine | None = None) -> str | None:
    """Return how to get better answers or any at all, in a sentence; None if the default models are here."""
    machine = machine or Machine.here()
    here = _models_here()
    best = _best(list(_MODELS), machine)
    wanted = _PAIR if best in _PAIR and machine.carries(_PAIR) else (best,)
    names = [name for name in wanted if name not in here]
    embedder = [] if _is_here(DEFAULT_EMBEDDER) else [DEFAULT_EMBEDDER]
    if not names and not embedder:
        return None
    size = sum(_size_bytes(name) for name in (*names, *embedder)) / 1e6
    problem = "This machine can carry better models" if here and not embedder else "Models are missing"
    return f"{problem}. Get them with: leanrag pull {' '.join((*names, *embedder))} ({size:.0f} MB)"


def _best(names: Sequence[str], machine: Machine) -> str:
    """Return the best of the models, the worst first, that a machine can carry; the worst if it can carry none."""
    return next((name for name in reversed(names) if machine.carries([name])), names[0])


def _models_here() -> list[str]:
    pulled = {status.spec.name for status in list_models() if status.path is not None}
    return [name for name in _MODELS if {name, REGISTRY[name].base or name} <= pulled]


def _size_bytes(name: str) -> int:
    """Return the size of a model, with that of the model that an adapter changes."""
    spec = REGISTRY[name]
    return spec.size_bytes + (REGISTRY[spec.base].size_bytes if spec.base else 0)


def _is_here(name: str) -> bool:
    return any(status.spec.name == name and status.path is not None for status in list_models())


def with_shipped_calibrations(cascade: Cascade) -> Cascade:
    """Return a cascade with the calibrations that ship with its readers; one that has calibrations stays as it is.

    A calibration ships as the file `*.calibration.json` beside the adapter of a reader. It is about the reader alone, so it works
    whichever models follow.
    """
    if cascade.calibrations:
        return cascade
    calibrations = [_shipped_calibration(model) for model in cascade.models]
    return replace(cascade, calibrations=calibrations) if any(calibrations) else cascade


def cascade_of(names: Sequence[str], loaded: Mapping[str, LanguageModel]) -> Cascade:
    """Return a cascade of loaded models, with the calibrations that ship with the models of these names."""
    return replace(with_shipped_calibrations(Cascade(names)), models=[loaded[name] for name in names])


def _shipped_calibration(model: Model) -> Calibration | None:
    spec = REGISTRY.get(os.fspath(model)) if isinstance(model, (str, os.PathLike)) else None
    adapter = packaged_adapter(spec) if spec is not None and spec.kind == "adapter" else None
    path = None if adapter is None else adapter.with_suffix(".calibration.json")
    return Calibration.load(path) if path is not None and path.is_file() else None
