"""Helpers of all embedders: ids, limits, rows with norm 1, and error messages."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError

Rows: TypeAlias = NDArray[np.float32]

__all__ = [
    "check_length",
    "check_rows",
    "check_texts",
    "cosines",
    "embedder_id",
    "has_unit_norm",
    "room_for_text",
    "unit_rows",
]

_SINGLE_THREADED = 2**18  # multiplications of one product; OpenBLAS starts threads for more (interface/gemm.c)
_NORM_TOLERANCE = 1e-3  # the rounding error of a norm in half precision


def embedder_id(name: str, digest: str, query_prefix: str, document_prefix: str) -> str:
    """Return `name` and a hash of the model and the prefixes. Vectors with different ids cannot be compared."""
    whole = hashlib.sha256(f"{digest}\0{query_prefix}\0{document_prefix}".encode())
    return f"{name}-{whole.hexdigest()[:12]}"


def room_for_text(window: int, prefix_tokens: int, empty_tokens: int) -> int:
    """Return how many tokens a text may have together with the longer prefix, special tokens included.

    Args:
        window: Tokens that the model reads.
        prefix_tokens: Tokens of the longer prefix, without special tokens.
        empty_tokens: Tokens of an empty text; all of them are special.

    Raises:
        ConfigurationError: The prefixes leave no room for text.
    """
    if window - prefix_tokens <= empty_tokens:
        raise ConfigurationError(
            f"the prefixes take {prefix_tokens} of the model's {window} tokens, which leaves no room for text. Shorten "
            "`query_prefix` or `document_prefix`"
        )
    return window - prefix_tokens


def check_texts(texts: Sequence[str]) -> None:
    """Raise `ConfigurationError` if `texts` is a string instead of a sequence of strings."""
    if isinstance(texts, str):
        raise ConfigurationError(
            f"`texts` must be a sequence of strings, got a string: {texts[:40]!r}. Put a single text into a list"
        )


def check_length(text: str, tokens: int, window: int, *, name: str, role: str) -> None:
    """Raise `ConfigurationError` if a text has more tokens than the model reads: the model would cut it silently."""
    if tokens > window:
        raise ConfigurationError(
            f"A {role} has {tokens} tokens, but {name!r} reads at most {window}: {text[:60]!r}... Shorten the text or use"
            " smaller chunks."
        )


def has_unit_norm(rows: Rows) -> NDArray[np.bool_]:
    """Return for each row of `(n, dim)` whether its L2 norm is 1 in half precision; False for NaN."""
    squares = np.einsum("ij,ij->i", rows, rows)
    result: NDArray[np.bool_] = np.abs(squares - 1.0) <= 2 * _NORM_TOLERANCE
    return result


def cosines(rows: Rows, others: Rows) -> Rows:
    """Return the cosine of each row of `(n, dim)` with each row of `(m, dim)`, all of unit norm, as `(n, m)`.

    Computed by the calling thread alone: the threads of BLAS wait for each other, which is slow on a busy machine.
    """
    result = np.empty((len(rows), len(others)), np.float32)
    side = max(1, math.isqrt(_SINGLE_THREADED // max(1, rows.shape[1])))
    for i in range(0, len(rows), side):
        for j in range(0, len(others), side):
            result[i : i + side, j : j + side] = rows[i : i + side] @ others[j : j + side].T
    return result


def unit_rows(rows: Rows, texts: Sequence[str], *, name: str, role: str) -> Rows:
    """Return `rows` `(n, dim)`, each divided by its L2 norm.

    Raises:
        ConfigurationError: A row is zero or not finite; the message shows its text.
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)  # (n, 1)
    has_direction = np.isfinite(norms) & (norms > 0)
    if not has_direction.all():
        text = texts[int(np.argmin(has_direction))]
        raise ConfigurationError(
            f"The embedder {name!r} returned a zero or infinite vector for the {role} {text[:40]!r}. Leave this {role} out, or"
            " use another embedder."
        )
    return np.ascontiguousarray(rows / norms, np.float32)


def check_rows(rows: object, texts: Sequence[str], *, dim: int, name: str, role: str) -> Rows:
    """Return the rows that an embedder returned for `texts`, as float32 `(len(texts), dim)`, after checking them.

    Raises:
        ConfigurationError: `rows` is not a float array of that shape, or the norm of a row is not 1.
    """
    shape = (len(texts), dim)
    if not isinstance(rows, np.ndarray) or rows.shape != shape or rows.dtype.kind != "f":
        problem = (
            f"an array of shape {rows.shape} and type {rows.dtype}"
            if isinstance(rows, np.ndarray)
            else f"{type(rows).__name__}"
        )
        raise ConfigurationError(
            f"The embedder {name!r} must return a float array of shape {shape} for {len(texts)} texts, but returned {problem}."
            " Correct the embedder."
        )
    rows = np.ascontiguousarray(rows, np.float32)
    is_unit = has_unit_norm(rows)
    if not is_unit.all():
        i = int(np.argmin(is_unit))
        raise ConfigurationError(
            f"The embedder {name!r} returned a vector of norm {float(np.linalg.norm(rows[i])):.4g} for the {role}"
            f" {texts[i][:40]!r}. Each vector must have norm 1: divide it by its norm, or use another embedder."
        )
    return rows
