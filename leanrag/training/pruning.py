"""Layers removed in small steps, with training after each: fewer layers cost less to compute, and quality is won back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from leanrag.errors import ConfigurationError
from leanrag.training.base import Decoder
from leanrag.training.encoding import EncodedRow
from leanrag.training.loop import evaluate_rows
from leanrag.training.options import Precision, TrainingResult

__all__ = ["PruningStep", "least_needed_layer", "prune_in_steps", "remove_layers"]


@dataclass(frozen=True, slots=True)
class PruningStep:
    """What one step did.

    Attributes:
        removed: All layers that are removed by now, by their number in the whole model.
        loss_before: Development loss after the removal, before the training.
        result: The training after it.
    """

    removed: tuple[int, ...]
    loss_before: float
    result: TrainingResult


def remove_layers(model: Decoder, numbers: Sequence[int]) -> None:
    """Remove layers from a model, by their number now.

    Raises:
        ConfigurationError: A number is not a layer, is named twice, or no layer would remain.
    """
    count = len(model.layers)
    if len(set(numbers)) != len(numbers) or not set(numbers) < set(range(count)):
        raise ConfigurationError(
            f"the layers to remove must be some, not all, of 0 to {count - 1}, each once, got {list(numbers)!r:.200}"
        )
    model.layers = nn.ModuleList(layer for i, layer in enumerate(model.layers) if i not in set(numbers))


def least_needed_layer(
    model: Decoder, rows: Sequence[EncodedRow], *, precision: Precision = "fp32", batch_tokens: int = 16_384
) -> tuple[int, float]:
    """Return the layer without which the loss on `rows` is lowest, and that loss."""
    layers = list(model.layers)
    losses = []
    for i in range(len(layers)):
        model.layers = nn.ModuleList([*layers[:i], *layers[i + 1 :]])
        losses.append(evaluate_rows(model, rows, precision=precision, batch_tokens=batch_tokens)[0])
    model.layers = nn.ModuleList(layers)
    best = int(torch.tensor(losses).argmin())
    return best, losses[best]


def prune_in_steps(
    model: Decoder,
    steps: Sequence[int],
    probe: Sequence[EncodedRow],
    recover: Callable[[Decoder, int], TrainingResult],
    *,
    precision: Precision = "fp32",
) -> list[PruningStep]:
    """Remove layers step by step, and train after each step.

    In each step the least needed layer is removed again and again; the model is then trained before the next step.

    Args:
        model: The model. What remains of it is trained.
        steps: Layers to remove in each step, such as `(2, 2, 2)`.
        probe: Rows that say which layer is needed least; a few hundred suffice.
        recover: Trains the model; it is called with the number of the step.
        precision: Type of the numbers in matrix products.

    Returns:
        What each step did. `leanrag.quantize(..., prune_layers=...)` removes the same layers from the GGUF file.
    """
    remaining = list(range(len(model.layers)))
    removed: list[int] = []
    done = []
    for number, count in enumerate(steps):
        loss = 0.0
        for _ in range(count):
            i, loss = least_needed_layer(model, probe, precision=precision)
            remove_layers(model, [i])
            removed.append(remaining.pop(i))
        done.append(PruningStep(tuple(sorted(removed)), loss, recover(model, number)))
    return done
