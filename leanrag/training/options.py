"""How a model is trained, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from leanrag.checks import check_choice, check_positive, check_share, check_whole

__all__ = ["Evaluation", "Precision", "TrainingOptions", "TrainingResult"]

Precision = Literal["auto", "bf16", "fp16", "fp32"]
"""Type of the numbers in matrix products; "auto" is bf16 on a GPU and fp32 on a CPU."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How a model is trained.

    Attributes:
        learning_rate: Highest learning rate; it rises from 0 and falls along a cosine.
        epochs: Times that each row is seen.
        batch_rows: Rows of a step.
        batch_tokens: Most tokens, padding included, that are computed at once. A step with more is computed in several parts
            whose gradients are added. If a GPU runs out of memory, this is halved.
        warmup: Share of the steps in which the learning rate rises.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        precision: Type of the numbers in matrix products.
        checkpoints_layers: Compute the activations of layers again when they are needed, which saves memory.
        alpha: Weight of the labels beside the teacher, in [0, 1]; 1 ignores the teacher.
        temperature: Temperature of the distillation.
        evaluations: Number of evaluations on the development rows, evenly spread over the steps.
        patience: Stop after so many evaluations without a lower loss; None never stops early.
        checkpoint_steps: Steps between two checkpoints.
        seed: Seed of the order of rows.
        device: "auto", or a device of torch such as "cpu" or "cuda:1".
    """

    learning_rate: float = 1e-3
    epochs: int = 2
    batch_rows: int = 48
    batch_tokens: int = 16_384
    warmup: float = 0.06
    weight_decay: float = 0.01
    clip: float = 1.0
    precision: Precision = "auto"
    checkpoints_layers: bool = False
    alpha: float = 1.0
    temperature: float = 2.0
    evaluations: int = 10
    patience: int | None = 3
    checkpoint_steps: int = 50
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_positive(learning_rate=self.learning_rate, clip=self.clip, temperature=self.temperature)
        check_whole(
            1,
            epochs=self.epochs,
            batch_rows=self.batch_rows,
            batch_tokens=self.batch_tokens,
            evaluations=self.evaluations,
            checkpoint_steps=self.checkpoint_steps,
        )
        check_whole(1, optional=True, patience=self.patience)
        check_share(warmup=self.warmup, weight_decay=self.weight_decay, alpha=self.alpha)
        check_choice(("auto", "bf16", "fp16", "fp32"), precision=self.precision)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was measured on the development rows after a step.

    Attributes:
        step: Steps so far.
        train_loss: Mean loss of a reply token since the last evaluation.
        loss: Mean cross-entropy of a reply token of the development rows.
        exact: Share of the development rows whose reply a greedy generation would write exactly.
    """

    step: int
    train_loss: float
    loss: float
    exact: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """The end of a training; the model has the best parameters.

    Attributes:
        steps: Steps that were made.
        planned_steps: Steps that were planned; more than `steps` if it stopped early.
        best: The evaluation with the lowest loss.
        evaluations: All evaluations.
        tokens: Tokens that were read, without padding.
        seconds: Time of all runs together.
        peak_bytes: Most memory of the GPU in this run; None on a CPU.
        batch_tokens: Tokens that were computed at once in the end.
    """

    steps: int
    planned_steps: int
    best: Evaluation
    evaluations: Sequence[Evaluation] = field(repr=False)
    tokens: int
    seconds: float
    peak_bytes: int | None
    batch_tokens: int
