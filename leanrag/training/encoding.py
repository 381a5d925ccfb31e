"""Rows as tokens, as training reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.training.rows import Row
    from leanrag.types import Prompt

__all__ = ["EncodedRow", "TeacherLogits", "encode_rows", "hash_rows"]


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """What a teacher expects at each token of a reply.

    Attributes:
        tokens: The most probable tokens, `(reply tokens, k)`, int32.
        logprobs: Their log-probabilities at the temperature of the distillation, float32.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncodedRow:
    """A prompt and its reply as tokens.

    Attributes:
        prompt: The tokens that the model reads.
        reply: The tokens that it must write, and the token that ends a generation.
        teacher: What a teacher expects; None if there is no teacher.
    """

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    teacher: TeacherLogits | None = None

    @property
    def length(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.reply)


def encode_rows(
    rows: Iterable[Row],
    encode_prompt: Callable[[Prompt], Sequence[int]],
    encode_reply: Callable[[str], Sequence[int]],
    *,
    end: int,
    max_tokens: int,
) -> list[EncodedRow]:
    """Return rows as tokens; rows that are longer than `max_tokens` are left out.

    Args:
        rows: The rows.
        encode_prompt: Returns the tokens of a prompt, as in use.
        encode_reply: Returns the tokens of a reply.
        end: The token that ends a generation.
        max_tokens: Most tokens of a row.
    """
    encoded = (EncodedRow(tuple(encode_prompt(list(row.prompt))), (*encode_reply(row.reply), end)) for row in rows)
    return [row for row in encoded if row.length <= max_tokens]


def hash_rows(rows: Iterable[EncodedRow]) -> str:
    """Return a hash of rows, hexadecimal: the same data has the same hash."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.array([len(row.prompt), *row.prompt, *row.reply], np.int32).tobytes())
        if row.teacher is not None:
            digest.update(row.teacher.tokens.tobytes() + row.teacher.logprobs.tobytes())
    return digest.hexdigest()
