"""The choice of the fastest attention on a GPU, measured once for a model and a device and then remembered.

The fastest attention depends on the shape of the model, the device and the version of llama.cpp. On a CPU nothing is measured:
attention is exact there, so that an answer does not depend on the other requests of a batch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from leanrag.errors import GenerationError
from leanrag.files import RecordFormat, cache_dir, keep_record, recall_record

__all__ = ["CANDIDATES", "EXACT", "KV_BYTES", "SMALLEST", "Attention", "KVType", "choose", "choices_file"]

logger = logging.getLogger(__name__)

KVType = Literal["f16", "q8_0", "q4_0"]

_FORMAT = RecordFormat("leanrag attention", version=1, noun="file of attention measurements", mend="Delete it")
_WORTH_ROUNDING = 0.9  # a cache of 8 bits rounds keys and values: it must take less than this share of the time


@dataclass(frozen=True, slots=True)
class Attention:
    """A way to compute attention.

    Attributes:
        flash_attn: Whether it is flash attention, which does not write all attention weights to memory.
        kv_type: Type of a number in the key-value cache; "q8_0" and "q4_0" need `flash_attn`.
    """

    flash_attn: bool
    kv_type: KVType

    def __str__(self) -> str:
        return f"{'flash' if self.flash_attn else 'plain'} {self.kv_type}"


EXACT = Attention(flash_attn=False, kv_type="f16")
CANDIDATES = (EXACT, Attention(flash_attn=True, kv_type="f16"), Attention(flash_attn=True, kv_type="q8_0"))
SMALLEST = Attention(flash_attn=True, kv_type="q4_0")  # loses answers, so it is never chosen unless asked for
KV_BYTES: Mapping[KVType, float] = {"f16": 2.0, "q8_0": 34 / 32, "q4_0": 18 / 32}  # of a key or value: ggml-common.h


class _Measured(pydantic.BaseModel):
    """Measured seconds by the name of the attention."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    seconds: Mapping[str, pydantic.PositiveFloat]


class _Choices(pydantic.BaseModel):
    """The file of measurements, by model, build and device."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    measured: Mapping[str, _Measured] = {}


def choices_file() -> Path:
    """Return the path of this user's file of measurements."""
    return cache_dir() / "attention.json"


def choose(
    key: str,
    candidates: tuple[Attention, ...],
    measure: Callable[[Attention], float],
    file: Path | None,
) -> Attention:
    """Return the fastest of `candidates`: read the measurement of `key` from the file, or measure now.

    A cache of 8 bits is chosen only if it saves a tenth of the time.

    Args:
        key: Identifies the model, the build and the device.
        candidates: At least one attention; a single one is returned without a measurement.
        measure: Returns the seconds that an attention takes; on a `GenerationError` this attention is not used.
        file: The file of measurements; None for no file. A file that cannot be read is replaced.

    Raises:
        GenerationError: All candidates fail.
    """
    if len(candidates) == 1:
        return candidates[0]
    choices = _Choices()
    if file is not None:
        choices = recall_record(file, _Choices, _FORMAT, effect="attention is measured again")
    known = choices.measured.get(key)
    names = {str(candidate): candidate for candidate in candidates}
    seconds = {} if known is None else {name: known.seconds[name] for name in names if name in known.seconds}
    if not seconds:
        failure: GenerationError | None = None
        for name, candidate in names.items():
            try:
                seconds[name] = measure(candidate)
            except GenerationError as error:
                logger.debug("attention %s does not work: %s", name, error)
                failure = error
        if not seconds:
            raise failure or GenerationError("`candidates` is empty. Pass at least one attention")
        if file is not None:
            both = {**(known.seconds if known else {}), **seconds}
            choices = _Choices(measured={**choices.measured, key: _Measured(seconds=both)})
            keep_record(file, choices, _FORMAT, failure="the measurement of attention was not saved")
    best = min(seconds, key=lambda name: seconds[name] / (1 if names[name].kv_type == "f16" else _WORTH_ROUNDING))
    logger.info(
        "attention is computed by %s: %s", best, {name: f"{value * 1000:.2f} ms" for name, value in seconds.items()}
    )
    return names[best]
