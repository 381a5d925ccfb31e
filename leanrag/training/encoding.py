"""Rows as tokens, in a file that training reads: so the machine that trains needs no llama.cpp."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import ConfigurationError, StorageError
from leanrag.files import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.training.rows import Row
    from leanrag.types import Prompt

__all__ = ["EncodedRow", "TeacherLogits", "encode_rows", "hash_rows", "load_rows", "save_rows"]


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


def save_rows(path: Path, rows: Sequence[EncodedRow]) -> None:
    """Write rows to a file.

    Raises:
        ConfigurationError: Some rows have a teacher and others have none.
        StorageError: The file cannot be written.
    """
    teachers = [row.teacher for row in rows if row.teacher is not None]
    if len(teachers) not in (0, len(rows)):
        raise ConfigurationError(f"{len(teachers)} of {len(rows)} rows have a teacher. Label all rows or none")
    arrays = {
        "tokens": np.array([token for row in rows for token in (*row.prompt, *row.reply)], np.int32),
        "prompt_lengths": np.array([len(row.prompt) for row in rows], np.int32),
        "reply_lengths": np.array([len(row.reply) for row in rows], np.int32),
    }
    if teachers:
        arrays["teacher_tokens"] = np.concatenate([teacher.tokens for teacher in teachers])
        arrays["teacher_logprobs"] = np.concatenate([teacher.logprobs for teacher in teachers])
    with whole_file(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_rows(path: Path) -> list[EncodedRow]:
    """Return the rows of a file.

    Raises:
        StorageError: The file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        tokens = arrays["tokens"].tolist()
        prompts, replies = arrays["prompt_lengths"].tolist(), arrays["reply_lengths"].tolist()
        if sum(prompts) + sum(replies) != len(tokens):
            raise ValueError("its lengths do not add up")
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise StorageError(f"cannot read the rows in {str(path)!r}: {error}. Make them again", path=path) from error
    rows, start, reply_start = [], 0, 0
    for prompt, reply in zip(prompts, replies, strict=True):
        teacher = None
        if "teacher_tokens" in arrays:
            span = slice(reply_start, reply_start + reply)
            teacher = TeacherLogits(arrays["teacher_tokens"][span], arrays["teacher_logprobs"][span])
        middle, end = start + prompt, start + prompt + reply
        rows.append(EncodedRow(tuple(tokens[start:middle]), tuple(tokens[middle:end]), teacher))
        start, reply_start = end, reply_start + reply
    return rows
