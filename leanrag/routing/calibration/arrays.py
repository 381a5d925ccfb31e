"""Arrays of finite numbers: features, labels, scores and probabilities, checked."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from leanrag.errors import ConfigurationError

__all__ = [
    "Floats",
    "as_forecast",
    "as_labels",
    "as_matrix",
    "as_rows",
    "as_scored",
    "as_vector",
    "check_both_classes",
]

Floats: TypeAlias = NDArray[np.float64]


def as_matrix(features: ArrayLike) -> Floats:
    """Return `features` as float64 `(n, d)`, finite."""
    return _array("features", features, 2)


def as_vector(name: str, values: ArrayLike) -> Floats:
    """Return `values` as float64 `(n,)`, finite."""
    return _array(name, values, 1)


def _array(name: str, values: ArrayLike, ndim: int) -> Floats:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"`{name}` must be numbers ({error}). Replace missing values first") from error
    if array.ndim != ndim:
        raise ConfigurationError(f"`{name}` must have {ndim} dimensions, got shape {array.shape}")
    if not np.isfinite(array).all():
        at = tuple(np.argwhere(~np.isfinite(array))[0].tolist())
        raise ConfigurationError(f"`{name}` must be finite, got {array[at]} at {at}. Replace missing values first")
    return array


def as_labels(name: str, labels: ArrayLike, n: int) -> Floats:
    """Return `labels` as float64 `(n,)` of 0 and 1, `n` at least 1."""
    y = as_vector(name, labels)
    if len(y) != n:
        raise ConfigurationError(f"`{name}` must have one entry for each of {n} rows, got {len(y)}")
    if not n:
        raise ConfigurationError(f"`{name}` is empty; at least one row is needed")
    if not np.isin(y, (0.0, 1.0)).all():
        raise ConfigurationError(f"`{name}` must be 0 or 1, got {y[~np.isin(y, (0.0, 1.0))][0]}")
    return y


def as_rows(features: ArrayLike, labels: ArrayLike, name: str = "labels") -> tuple[Floats, Floats]:
    """Return features `(n, d)` and labels `(n,)`."""
    rows = as_matrix(features)
    return rows, as_labels(name, labels, len(rows))


def as_scored(
    scores: ArrayLike, labels: ArrayLike, names: tuple[str, str] = ("scores", "labels")
) -> tuple[Floats, Floats]:
    """Return scores and labels, both `(n,)`; errors call them by `names`."""
    x = as_vector(names[0], scores)
    return x, as_labels(names[1], labels, len(x))


def as_forecast(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Return probabilities in [0, 1] and labels, both `(n,)`."""
    p, y = as_scored(probabilities, labels, ("probabilities", "labels"))
    if p.min() < 0 or p.max() > 1:
        raise ConfigurationError(f"probabilities must be in [0, 1], got {p.min():g} to {p.max():g}")
    return p, y


def check_both_classes(y: Floats, *, each: int = 1, of: str = "rows") -> None:
    """Raise unless each label occurs at least `each` times among `y`; an error calls the rows `of`."""
    ones = int(y.sum())
    zeros = len(y) - ones
    if min(ones, zeros) < each:
        raise ConfigurationError(
            f"at least {each} rows of each class are needed, got {ones} with label 1 and {zeros} with label 0 among {len(y)} {of}. "
            "Add questions of the rarer class"
        )
