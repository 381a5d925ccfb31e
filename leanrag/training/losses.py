"""The loss of a batch: cross-entropy of the replies, and the divergence from a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from leanrag.training.base import Decoder, pad_rows
from leanrag.training.encoding import EncodedRow, TeacherLogits

__all__ = ["BatchLoss", "distillation_divergence", "loss_of_batch", "with_teacher_logits"]


class BatchLoss(NamedTuple):
    """The loss of a batch, summed over the tokens of its replies.

    Attributes:
        total: What is minimised.
        cross_entropy: The cross-entropy alone.
        exact: Number of replies whose every token is the most probable one: a greedy generation would write them.
    """

    total: torch.Tensor
    cross_entropy: torch.Tensor
    exact: torch.Tensor


def loss_of_batch(
    model: Decoder, rows: Sequence[EncodedRow], *, alpha: float = 1.0, temperature: float = 1.0
) -> BatchLoss:
    """Return the loss of rows: `alpha * CE + (1 - alpha) * T**2 * KL` (Hinton et al., 2015, section 2).

    Args:
        model: The student.
        rows: The batch. Without a teacher, the divergence is left out.
        alpha: Weight of the cross-entropy.
        temperature: T; the stored log-probabilities of the teacher are at this temperature.
    """
    logits, targets, row_of = _reply_logits(model, rows)
    cross_entropy = F.cross_entropy(logits, targets, reduction="sum")
    right = torch.ones(len(rows), dtype=torch.long, device=logits.device)
    right.scatter_reduce_(0, row_of, (logits.argmax(-1) == targets).long(), "amin")
    teachers = [row.teacher for row in rows if row.teacher is not None]
    total = cross_entropy
    if alpha < 1 and len(teachers) == len(rows):
        divergence = distillation_divergence(logits, teachers, temperature)
        total = alpha * cross_entropy + (1 - alpha) * temperature**2 * divergence
    return BatchLoss(total, cross_entropy.detach(), right.sum())


def _reply_logits(model: Decoder, rows: Sequence[EncodedRow]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return, for the tokens of all replies: the logits `(n, n_tokens)`, the right tokens `(n,)` and their rows `(n,)`."""
    device = model.token_embd.device
    tokens = pad_rows([[*row.prompt, *row.reply] for row in rows], device)
    # The hidden state before a token predicts it.
    spans = [(i, len(row.prompt) - 1, row.length - 1) for i, row in enumerate(rows)]
    row_of = torch.from_numpy(np.repeat([i for i, _, _ in spans], [end - start for _, start, end in spans])).to(device)
    positions = torch.from_numpy(np.concatenate([np.arange(start, end) for _, start, end in spans])).to(device)
    return model.logits(model.hidden(tokens)[row_of, positions]), tokens[row_of, positions + 1], row_of


@torch.no_grad()  # type: ignore[untyped-decorator]
def with_teacher_logits(
    teacher: Decoder, rows: Sequence[EncodedRow], *, k: int, temperature: float
) -> list[EncodedRow]:
    """Return the rows of a batch with the `k` most probable tokens of a teacher at each token of the replies."""
    logits, _, _ = _reply_logits(teacher, rows)
    top = (logits / temperature).log_softmax(-1).topk(k, dim=-1)
    lengths = [len(row.reply) for row in rows]
    tokens = torch.split(top.indices.to(torch.int32).cpu(), lengths)
    logprobs = torch.split(top.values.cpu(), lengths)
    return [
        dataclasses.replace(row, teacher=TeacherLogits(some_tokens.numpy(), some_logprobs.numpy()))
        for row, some_tokens, some_logprobs in zip(rows, tokens, logprobs, strict=True)
    ]


def distillation_divergence(
    logits: torch.Tensor, teachers: Sequence[TeacherLogits], temperature: float
) -> torch.Tensor:
    """Return the divergence KL(teacher, student), summed over tokens, at a temperature.

    Both distributions have the teacher's most probable tokens one by one, and all other tokens together as one more outcome. So
    only a few numbers of the teacher are stored for each token, and they still sum to 1.

    Args:
        logits: Of the student, `(reply tokens, n_tokens)`.
        teachers: Of each row.
        temperature: The temperature.
    """
    device = logits.device
    tokens = torch.from_numpy(np.concatenate([teacher.tokens for teacher in teachers])).long().to(device)
    expected = torch.from_numpy(np.concatenate([teacher.logprobs for teacher in teachers])).float().to(device)
    student = (logits / temperature).log_softmax(-1).gather(-1, tokens)  # (reply tokens, k)
    student, expected = _with_rest(student), _with_rest(expected)
    return (expected.exp() * (expected - student)).sum()


def _with_rest(logprobs: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities `(n, k + 1)`: the last one is that of all tokens that are not among the k."""
    rest = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=1e-6).log()
    return torch.cat([logprobs, rest], dim=-1)
