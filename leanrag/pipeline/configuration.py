"""The configuration file: which models, budgets and packer answer. `leanrag tune` writes it, and people may edit it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pydantic

from leanrag.errors import ConfigurationError
from leanrag.evidence import GreedyPacker
from leanrag.files import RecordFormat, read_record, write_record
from leanrag.pipeline.query import AutoTokens
from leanrag.routing.cascade import Cascade, Model

__all__ = ["ConfigSource", "PackerName", "TunedSettings", "arguments_of", "read_settings"]

PackerName = Literal["evidence", "greedy"]

_FORMAT = RecordFormat("leanrag settings", 1, "configuration file", "Correct the file, or tune again", is_editable=True)


class TunedSettings(pydantic.BaseModel):
    """Settings that `leanrag.open` takes as `config`.

    Attributes:
        models: Names or files of the models, the smallest first.
        k: Chunks retrieved.
        context_tokens: Most tokens of sources, a value for each model; "auto" takes the number of its profile, None all that fits.
        packer: "evidence" packs the best sentences, "greedy" packs whole chunks.
        threshold: Confidence from which the first model's answer is kept; None for a single model.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    models: tuple[str, ...] = pydantic.Field(min_length=1, max_length=2)
    k: int = pydantic.Field(ge=1, strict=True)
    context_tokens: tuple[pydantic.PositiveInt | Literal["auto"] | None, ...]
    packer: PackerName
    threshold: float | None = pydantic.Field(gt=0, le=1)

    @pydantic.field_validator("models")
    @classmethod
    def _check_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        if not all(model.strip() for model in models) or len(set(models)) < len(models):
            raise ValueError("each model must have a name, and the names must differ")
        return models

    @pydantic.field_validator("context_tokens")
    @classmethod
    def _check_tokens(
        cls, tokens: tuple[AutoTokens | None, ...], info: pydantic.ValidationInfo
    ) -> tuple[AutoTokens | None, ...]:
        models = info.data.get("models", tokens)
        if len(tokens) != len(models):
            raise ValueError(f"it must have as many values as there are models, which is {len(models)}")
        if "auto" in tokens and None in tokens:
            raise ValueError('it must not have both "auto" and null')
        return tokens

    @pydantic.field_validator("threshold")
    @classmethod
    def _check_threshold(cls, threshold: float | None, info: pydantic.ValidationInfo) -> float | None:
        models = info.data.get("models")
        if models is not None and (threshold is None) != (len(models) == 1):
            raise ValueError("it must be a number if there are two models, and null if there is only one")
        return threshold

    def arguments(self, models: Sequence[Model] | None = None) -> dict[str, Any]:
        """Return the arguments of `leanrag.open`.

        Args:
            models: Loaded models to use; None uses the names.
        """
        chosen: Sequence[Model] = models or self.models
        packer = GreedyPacker() if self.packer == "greedy" else None
        if self.threshold is None:
            return {"model": chosen[0], "k": self.k, "context_tokens": self.context_tokens[0], "packer": packer}
        numbers = [tokens if isinstance(tokens, int) else None for tokens in self.context_tokens]
        words = [tokens for tokens in self.context_tokens if not isinstance(tokens, int)]
        cascade = Cascade(chosen, threshold=self.threshold, context_tokens=numbers)
        return {"model": cascade, "k": self.k, "context_tokens": words[0] if words else "auto", "packer": packer}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the settings to a file.

        Raises:
            StorageError: The file cannot be written.
        """
        write_record(Path(path), self, _FORMAT)

    def __str__(self) -> str:
        models = " then ".join(self.models)
        threshold = "" if self.threshold is None else f" below {self.threshold:g}"
        tokens = " then ".join("all" if each is None else str(each) for each in self.context_tokens)
        return f"{models}{threshold}, k={self.k}, {tokens} tokens, {self.packer}"


ConfigSource: TypeAlias = "str | os.PathLike[str] | TunedSettings"
"""Settings, or the file that has them."""


def read_settings(path: str | os.PathLike[str]) -> TunedSettings:
    """Return the settings that `TunedSettings.save` wrote.

    Raises:
        StorageError: The file is missing or damaged, is of another format, or a field has a value that is not allowed.
    """
    return read_record(Path(path), TunedSettings, _FORMAT)


def arguments_of(config: ConfigSource, *, passed: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of `leanrag.open` that a configuration sets.

    Args:
        config: The settings, or the file that has them.
        passed: Names of arguments that the caller passed although a configuration sets them.

    Raises:
        ConfigurationError: There are such arguments.
        StorageError: As `read_settings`.
    """
    if passed:
        raise ConfigurationError(
            f"`config` sets {' and '.join(f'`{name}`' for name in passed)}. Pass either `config` or these arguments"
        )
    return (config if isinstance(config, TunedSettings) else read_settings(config)).arguments()
