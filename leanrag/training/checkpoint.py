"""Checkpoints of a training: one file that is complete or does not appear, with everything that the next step needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn

from leanrag.errors import ConfigurationError, StorageError
from leanrag.files import unwritable, whole_file

__all__ = ["Progress", "State", "load_checkpoint", "save_checkpoint"]

_NUMBERS = ("step", "worse_evaluations", "loss_sum", "loss_steps", "tokens", "seconds", "evaluations")


@dataclass(slots=True)
class Progress:
    """How far a training is.

    Attributes:
        best: The parameters of the best evaluation.
        step: Steps that were made; the order of rows follows from the seed.
        worse_evaluations: Evaluations since the best one.
        loss_sum: Sum of the losses since the last evaluation.
        loss_steps: Steps since the last evaluation.
        tokens: Tokens that were read.
        seconds: Time so far.
        evaluations: Step, training loss, development loss and share of exact replies, of each evaluation.
    """

    best: dict[str, torch.Tensor]
    step: int = 0
    worse_evaluations: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    evaluations: list[tuple[int, float, float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class State:
    """Everything of a training that changes.

    Attributes:
        progress: How far it is.
        parameters: What is trained, by name.
        optimizer: Of these parameters.
        scaler: Scales the loss for fp16.
    """

    progress: Progress
    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def save_checkpoint(path: Path, identity: str, state: State) -> None:
    """Write a checkpoint.

    Args:
        path: The file.
        identity: Names the training; another training does not go on from it.
        state: The training as it is now.

    Raises:
        StorageError: The file cannot be written. The checkpoint before it is still there.
    """
    progress = state.progress
    tensors = {f"now.{name}": parameter.detach() for name, parameter in state.parameters.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
    for i, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": torch.as_tensor(value) for name, value in values.items()}
    numbers = {name: getattr(progress, name) for name in _NUMBERS}
    header = {"identity": identity, "progress": json.dumps(numbers), "scaler": json.dumps(state.scaler.state_dict())}
    try:
        with whole_file(path) as part:
            safetensors.torch.save_file({name: t.contiguous().cpu() for name, t in tensors.items()}, part, header)
    except safetensors.SafetensorError as error:  # also if the disk is full
        raise unwritable(path, error) from error


def load_checkpoint(path: Path, identity: str, state: State) -> None:
    """Go on from a checkpoint: fill the state with it.

    Raises:
        ConfigurationError: It is a checkpoint of another training.
        StorageError: The file is damaged.
    """
    progress = state.progress
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        if header["identity"] != identity:
            raise ConfigurationError(
                f"the checkpoint {str(path)!r} is of a training with other data or options. Remove it, or name another file"
            )
        numbers = json.loads(header["progress"])
        of_optimizer: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                i, _, field_name = rest.partition(".")
                of_optimizer.setdefault(int(i), {})[field_name] = tensor
        with torch.no_grad():
            for name, parameter in state.parameters.items():
                parameter.copy_(tensors[f"now.{name}"])
                progress.best[name].copy_(tensors[f"best.{name}"])
        state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": of_optimizer})
        if state.scaler.is_enabled():
            state.scaler.load_state_dict(json.loads(header["scaler"]))
        for name in _NUMBERS:
            setattr(progress, name, numbers[name])
        progress.evaluations = [tuple(values) for values in progress.evaluations]  # type: ignore[misc]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise StorageError(
            f"the checkpoint {str(path)!r} is damaged: {error}. Remove it to begin again", path=path
        ) from error
