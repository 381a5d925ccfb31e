"""The training loop: batches, steps, evaluations, early stopping, and checkpoints from which it goes on after it was killed."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from leanrag.errors import ConfigurationError, TrainingError
from leanrag.stopping import stop_deferred
from leanrag.training.base import Decoder
from leanrag.training.checkpoint import Progress, State, load_checkpoint, save_checkpoint
from leanrag.training.encoding import EncodedRow, hash_rows
from leanrag.training.losses import loss_of_batch
from leanrag.training.options import Evaluation, Precision, TrainingOptions, TrainingResult
from leanrag.training.workers import Workers

__all__ = ["autocast", "evaluate_rows", "plan_batches", "split_rows", "train_rows"]

logger = logging.getLogger(__name__)

_BUCKET_BATCHES = 40  # rows of so many batches are sorted by length, so that little padding is computed
_BETAS = (0.9, 0.98)
_LEAST_RATE = 0.05  # of the learning rate, at the end


def plan_batches(lengths: Sequence[int], *, epochs: int, batch_rows: int, seed: int) -> list[list[int]]:
    """Return the rows of each step, by index: in random order, with rows of similar lengths together."""
    source = random.Random(seed)
    batches = []
    for _ in range(epochs):
        order = list(range(len(lengths)))
        source.shuffle(order)
        of_epoch = []
        for start in range(0, len(order), batch_rows * _BUCKET_BATCHES):
            bucket = sorted(order[start : start + batch_rows * _BUCKET_BATCHES], key=lambda i: lengths[i])
            of_epoch += [bucket[i : i + batch_rows] for i in range(0, len(bucket), batch_rows)]
        source.shuffle(of_epoch)
        batches += of_epoch
    return batches


def train_rows(
    model: Decoder,
    rows: Sequence[EncodedRow],
    development: Sequence[EncodedRow],
    options: TrainingOptions,
    *,
    checkpoint: Path | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train the parameters of `model` that require gradients.

    It can be killed at any moment: called again with the same arguments, it goes on from the last checkpoint and ends with the
    same parameters.

    Args:
        model: The model; in the end it has the parameters of the best evaluation.
        rows: What is learnt.
        development: What is measured; none of it is learnt.
        options: How.
        checkpoint: The file of checkpoints; None makes none.
        on_step: Called after each step with the number of steps and of planned steps.

    Raises:
        ConfigurationError: There are no rows, or the checkpoint belongs to another training.
        TrainingError: The loss is not a number, or a single row does not fit into the memory of the GPU. The checkpoint has the
            last good parameters.
        StorageError: The checkpoint cannot be written or read.
    """
    if not rows or not development:
        raise ConfigurationError(
            f"training needs rows to learn and rows to measure, got {len(rows)} and {len(development)}. Add questions"
        )
    return _Run(model, rows, development, _for_this_machine(options), checkpoint).run(on_step)


def _for_this_machine(options: TrainingOptions) -> TrainingOptions:
    """Return the options with the device and the precision of this machine."""
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision = options.precision
    if precision == "auto":
        precision = "fp32" if torch.device(device).type == "cpu" else "bf16"
    return dataclasses.replace(options, device=device, precision=precision)


class _Run:
    """The state of one training."""

    def __init__(
        self,
        model: Decoder,
        rows: Sequence[EncodedRow],
        development: Sequence[EncodedRow],
        options: TrainingOptions,
        checkpoint: Path | None,
    ) -> None:
        self.model, self.rows, self.development, self.options = model, rows, development, options
        self.workers = Workers.join(options.device)
        self.device = self.workers.device
        _move(model, self.device, options.precision)
        model.checkpoints_layers = options.checkpoints_layers
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=options.learning_rate,
            betas=_BETAS,
            weight_decay=options.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=options.precision == "fp16")
        self.batches = plan_batches(
            [row.length for row in rows], epochs=options.epochs, batch_rows=options.batch_rows, seed=options.seed
        )
        self.checkpoint = checkpoint
        self.identity = _identity(rows, development, options, self.parameters)
        self.progress = Progress(best={name: p.detach().clone() for name, p in self.parameters.items()})
        self.state = State(self.progress, self.parameters, self.optimizer, self.scaler)
        self.batch_tokens = options.batch_tokens
        self.started = time.perf_counter()

    def run(self, on_step: Callable[[int, int], None] | None) -> TrainingResult:
        progress = self.progress
        if self.checkpoint is not None and self.checkpoint.exists():
            load_checkpoint(self.checkpoint, self.identity, self.state)
        seconds_before = progress.seconds
        every = max(1, len(self.batches) // self.options.evaluations)
        with stop_deferred() as stop:
            while progress.step < len(self.batches) and not self._is_over() and not stop.is_set:
                self._step(self.batches[progress.step])
                progress.step += 1
                if progress.step % every == 0 or progress.step == len(self.batches):
                    self._evaluate()
                progress.seconds = seconds_before + time.perf_counter() - self.started
                if (
                    progress.step % self.options.checkpoint_steps == 0
                    or progress.step == len(self.batches)
                    or self._is_over()
                ):
                    self._save()
                if on_step is not None:
                    on_step(progress.step, len(self.batches))
            if stop.is_set:
                self._save()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(progress.best[name])
        evaluations = [Evaluation(*values) for values in progress.evaluations]
        return TrainingResult(
            steps=progress.step,
            planned_steps=len(self.batches),
            best=min(evaluations, key=lambda evaluation: evaluation.loss),
            evaluations=evaluations,
            tokens=progress.tokens,
            seconds=progress.seconds,
            peak_bytes=torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None,
            batch_tokens=self.batch_tokens,
        )

    def _is_over(self) -> bool:
        patience = self.options.patience
        return patience is not None and self.progress.worse_evaluations >= patience

    def _step(self, batch: Sequence[int]) -> None:
        """Make one step; with smaller parts if the memory does not suffice."""
        rows = [self.rows[i] for i in batch]
        while True:
            try:
                loss = self._gradients(rows)
                break
            except torch.cuda.OutOfMemoryError as error:
                longest = max(row.length for row in rows)
                if self.batch_tokens <= longest:
                    raise TrainingError(
                        f"step {self.progress.step}: a row of {longest} tokens does not fit into the memory of the GPU. Use "
                        "`checkpoints_layers=True`, shorter rows, a smaller model or a larger GPU",
                        step=self.progress.step,
                    ) from error
                self.batch_tokens = max(longest, self.batch_tokens // 2)
                logger.warning(
                    "the GPU has too little memory; %d tokens are computed at once from now on", self.batch_tokens
                )
            torch.cuda.empty_cache()
        self.workers.add_up([p.grad for p in self.parameters.values() if p.grad is not None])
        loss = self.workers.add_up_number(loss)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.options.clip))
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            raise TrainingError(
                f"step {self.progress.step}: the loss is {loss} and the norm of its gradient {norm}; rows {list(batch)[:8]} and "
                "others. Lower `learning_rate`, or use the precision 'bf16' or 'fp32'",
                step=self.progress.step,
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.loss_sum += loss
        self.progress.loss_steps += 1
        self.progress.tokens += sum(row.length for row in rows)

    def _gradients(self, rows: Sequence[EncodedRow]) -> float:
        """Compute the gradients of this process's share of a batch; return the share of the mean loss of a reply token."""
        self.optimizer.zero_grad(set_to_none=True)
        n_tokens = sum(len(row.reply) for row in rows)
        options, total = self.options, 0.0
        for part in split_rows(self.workers.share(rows), self.batch_tokens):
            with autocast(self.device, options.precision):
                loss = (
                    loss_of_batch(self.model, part, alpha=options.alpha, temperature=options.temperature).total
                    / n_tokens
                )
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        return total

    def _learning_rate(self) -> float:
        step, steps, options = self.progress.step, len(self.batches), self.options
        rising = min(1.0, (step + 1) / max(1.0, options.warmup * steps))
        falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
        return options.learning_rate * rising * (_LEAST_RATE + (1 - _LEAST_RATE) * falling)

    def _evaluate(self) -> None:
        progress = self.progress
        loss, exact = evaluate_rows(
            self.model, self.development, precision=self.options.precision, batch_tokens=self.batch_tokens
        )
        train_loss = progress.loss_sum / max(1, progress.loss_steps)
        best = min((values[2] for values in progress.evaluations), default=math.inf)
        progress.evaluations.append((progress.step, train_loss, loss, exact))
        progress.loss_sum, progress.loss_steps = 0.0, 0
        if loss < best:
            progress.worse_evaluations = 0
            for name, parameter in self.parameters.items():
                progress.best[name].copy_(parameter.detach())
        else:
            progress.worse_evaluations += 1
        done, planned = progress.step, len(self.batches)
        logger.info("step %d of %d: loss %.4f, development %.4f, exact %.3f", done, planned, train_loss, loss, exact)

    def _save(self) -> None:
        if self.checkpoint is not None and self.workers.is_first:
            save_checkpoint(self.checkpoint, self.identity, self.state)


@torch.no_grad()  # type: ignore[untyped-decorator]
def evaluate_rows(
    model: Decoder, rows: Sequence[EncodedRow], *, precision: Precision = "fp32", batch_tokens: int = 16_384
) -> tuple[float, float]:
    """Return the mean cross-entropy of a reply token, and the share of replies that a greedy generation would write exactly."""
    ordered = sorted(rows, key=lambda row: row.length)
    loss = exact = 0.0
    for part in split_rows(ordered, batch_tokens):
        with autocast(model.token_embd.device, precision):
            result = loss_of_batch(model, part)
        loss += float(result.cross_entropy)
        exact += int(result.exact)
    return loss / sum(len(row.reply) for row in rows), exact / len(rows)


def split_rows(rows: Sequence[EncodedRow], batch_tokens: int) -> Iterator[list[EncodedRow]]:
    """Yield rows in parts of at most `batch_tokens` tokens with padding, and at least one row."""
    part: list[EncodedRow] = []
    longest = 0
    for row in rows:
        if part and (len(part) + 1) * max(longest, row.length) > batch_tokens:
            yield part
            part, longest = [], 0
        part.append(row)
        longest = max(longest, row.length)
    if part:
        yield part


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which matrix products have a type of numbers."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def _move(model: Decoder, device: torch.device, precision: Precision) -> None:
    """Move a model to a device; what is not trained has the type of the matrix products there."""
    frozen = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(device, torch.float32 if parameter.requires_grad else frozen)


def _identity(
    rows: Sequence[EncodedRow],
    development: Sequence[EncodedRow],
    options: TrainingOptions,
    parameters: dict[str, nn.Parameter],
) -> str:
    """Return a hash of what decides the result of a training; the memory that it may use does not."""
    free = {"batch_tokens", "checkpoints_layers", "device", "checkpoint_steps"}
    decisive = {name: value for name, value in dataclasses.asdict(options).items() if name not in free}
    digest = hashlib.sha256(repr((hash_rows(rows), hash_rows(development), sorted(decisive.items()))).encode())
    for name, parameter in sorted(parameters.items()):
        digest.update(f"{name} {tuple(parameter.shape)}".encode() + parameter.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
