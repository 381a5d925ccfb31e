"""What embedders have in common, whatever computes the rows: names, limits, unit rows, and complaints in the same words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError

Rows: TypeAlias = NDArray[np.float32]

__all__ = ["check_length", "check_texts", "embedder_id", "room_for_text", "unit_rows"]


def embedder_id(name: str, digest: str, query_prefix: str, document_prefix: str) -> str:
    """Return `name` and a hash of model and prefixes: rows of another id cannot be mixed with these."""
    whole = hashlib.sha256(f"{digest}\0{query_prefix}\0{document_prefix}".encode())
    return f"{name}-{whole.hexdigest()[:12]}"


def room_for_text(window: int, prefix_tokens: int, empty_tokens: int) -> int:
    """Return the tokens that a text may have, special ones included, beside the longer prefix.

    Args:
        window: Tokens that the model reads.
        prefix_tokens: Tokens of the longer prefix, special ones left out.
        empty_tokens: Tokens of an empty text, all of them special.

    Raises:
        ConfigurationError: The prefixes leave no room.
    """
    if window - prefix_tokens <= empty_tokens:
        raise ConfigurationError(
            f"the prefixes take {prefix_tokens} of the model's {window} tokens; shorten `query_prefix` or `document_prefix`"
        )
    return window - prefix_tokens


def check_texts(texts: Sequence[str]) -> None:
    """Raise `ConfigurationError` for one string in place of a sequence of them."""
    if isinstance(texts, str):
        raise ConfigurationError(f"`texts` must be a sequence of strings, got one string: {texts[:40]!r}")


def check_length(text: str, tokens: int, window: int, *, name: str, role: str) -> None:
    """Raise `ConfigurationError` for a text of more tokens than the model reads; it would be cut silently."""
    if tokens > window:
        raise ConfigurationError(
            f"a {role} of {tokens} tokens is longer than the {window} that {name!r} reads: {text[:60]!r}...; shorten it or use"
            " smaller chunks"
        )


def unit_rows(rows: Rows, texts: Sequence[str], *, name: str, role: str) -> Rows:
    """Return `rows` `(n, dim)` at unit L2 norm.

    Raises:
        ConfigurationError: A row is zero or not finite; the message names its text.
    """
    norms = np.linalg.norm(rows, axis=1, keepdims=True)  # (n, 1)
    has_direction = np.isfinite(norms) & (norms > 0)
    if not has_direction.all():
        text = texts[int(np.argmin(has_direction))]
        raise ConfigurationError(f"{name!r} gave no direction to the {role} {text[:40]!r}; leave it out")
    return np.ascontiguousarray(rows / norms, np.float32)
