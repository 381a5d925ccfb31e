"""The weights of the features of a unit: a file that `python -m benchmarks.evidence --write` fits and writes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import pydantic

from leanrag.files import RecordFormat, read_record, write_record

__all__ = ["WEIGHTS_PATH", "Weights", "read_weights", "write_weights"]

WEIGHTS_PATH = Path(__file__).with_name("weights.json")

_FORMAT = RecordFormat(
    name="leanrag evidence weights",
    version=1,
    noun="file of evidence weights",
    mend="Install leanrag again, or fit new weights with `python -m benchmarks.evidence --write`",
    max_bytes=1 << 16,
)


class Weights(pydantic.BaseModel):
    """Weights by the name of the feature; a feature without a weight does not count.

    Attributes:
        with_vectors: Used if there are vectors of sentences.
        words_alone: Used if there are none, or if they say nothing.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    with_vectors: Mapping[str, float]
    words_alone: Mapping[str, float]


@functools.cache
def read_weights(path: Path = WEIGHTS_PATH) -> Weights:
    """Return the weights of the library.

    Raises:
        StorageError: The file is missing, changed, or of another version.
    """
    return read_record(path, Weights, _FORMAT)


def write_weights(weights: Weights, path: Path = WEIGHTS_PATH) -> None:
    """Write weights for the library.

    Raises:
        StorageError: The file cannot be written.
    """
    write_record(path, weights, _FORMAT)
