"""What a model in a process of its own and the process that asks it say to each other, as JSON values."""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    LeanRAGError,
    MissingDependencyError,
    ModelLoadError,
    QueueFullError,
)
from leanrag.generation import check_messages
from leanrag.llama.adapters import split_source
from leanrag.llama.placement import DevicePart, GpuOptions, Placement
from leanrag.llama.settings import ComputeOptions
from leanrag.protocols import GenerateOptions
from leanrag.types import Adapter, Generation, Message, Prompt, Usage

__all__ = [
    "plain_adapters",
    "plain_error",
    "plain_options",
    "plain_pair",
    "plain_prompt",
    "plain_settings",
    "read_adapters",
    "read_error",
    "read_generation",
    "read_placement",
    "read_prompt",
    "read_settings",
]

_OPTION_VALUES = {"gpu": GpuOptions, "compute": ComputeOptions}
_KINDS: dict[str, Callable[..., LeanRAGError]] = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        ContextOverflowError,
        GenerationCancelled,
        GenerationError,
        GenerationTimeout,
        MissingDependencyError,
        ModelLoadError,
        QueueFullError,
    )
}
_FIELDS = ("needed", "available", "model", "path", "package", "extra")  # of errors, passed on


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of `LlamaCppModel`."""
    plain = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    options = {name: dataclasses.asdict(plain[name]) for name in _OPTION_VALUES if plain.get(name) is not None}
    adapters = [split_source(source) for source in settings.get("adapters", ())]
    if plain.get("today") is not None:
        plain["today"] = plain["today"].isoformat()
    return plain | options | {"adapters": [(os.fspath(path.absolute()), scale) for path, scale in adapters]}


def read_settings(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `plain_settings` got."""
    options = {name: kind(**plain[name]) for name, kind in _OPTION_VALUES.items() if plain.get(name) is not None}
    if plain.get("today") is not None:
        options["today"] = datetime.date.fromisoformat(plain["today"])
    return {**plain, **options}


def plain_adapters(adapters: Sequence[Adapter]) -> list[dict[str, Any]]:
    """Return the adapters of a model."""
    return [{**dataclasses.asdict(each), "path": os.fspath(each.path)} for each in adapters]


def plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    """Return a prompt."""
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in check_messages(prompt)]


def read_prompt(plain: str | list[dict[str, Any]]) -> Prompt:
    """Return the prompt that `plain_prompt` got."""
    return plain if isinstance(plain, str) else [Message(**message) for message in plain]


def plain_options(options: GenerateOptions) -> dict[str, Any]:
    """Return options as keywords, without `cancel`; a pydantic model becomes its JSON Schema."""
    plain = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    del plain["cancel"]
    if describe := getattr(plain.get("schema"), "model_json_schema", None):
        plain["schema"] = describe()
    return plain


def plain_pair(condition: Prompt | None, text: str | Sequence[int]) -> tuple[Any, str | list[int]]:
    """Return a text to score and what precedes it."""
    plain = text if isinstance(text, str) else [int(token) for token in text]
    return (None if condition is None else plain_prompt(condition)), plain


def read_generation(plain: Mapping[str, Any]) -> Generation:
    """Return a generation of which `dataclasses.asdict` was sent."""
    lists = ("token_ids", "logprobs", "margins", "entropies")
    tuples = {name: None if plain[name] is None else tuple(plain[name]) for name in lists}
    return Generation(**{**plain, **tuples, "usage": Usage(**plain["usage"])})


def read_placement(plain: Mapping[str, Any]) -> Placement:
    """Return a placement of which `dataclasses.asdict` was sent."""
    devices = tuple(DevicePart(**part) for part in plain["devices"])
    return Placement(**{**plain, "devices": devices, "tensor_split": tuple(plain["tensor_split"])})


def read_adapters(plain: Sequence[Mapping[str, Any]]) -> tuple[Adapter, ...]:
    """Return the adapters that `plain_adapters` got."""
    return tuple(Adapter(**{**each, "path": Path(each["path"])}) for each in plain)


def plain_error(error: Exception) -> dict[str, Any]:
    """Return an error; one that is not of this library becomes a `GenerationError`."""
    if type(error).__name__ not in _KINDS:
        return {"type": "GenerationError", "message": f"{type(error).__name__}: {error}", "fields": {}}
    fields = {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)}
    fields = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in fields.items()}
    return {"type": type(error).__name__, "message": str(error), "fields": fields}


def read_error(plain: Mapping[str, Any]) -> LeanRAGError:
    """Return the error that `plain_error` got."""
    return _KINDS[plain["type"]](plain["message"], **plain["fields"])
