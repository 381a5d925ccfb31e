"""Values that users write in files: checked fields, and errors that name the wrong one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic

from leanrag.checks import first_problem
from leanrag.errors import ConfigurationError

__all__ = ["Fields", "NotNegative", "Positive", "read_fields"]

Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]

F = TypeVar("F", bound="Fields")

_MOST_BYTES = 1 << 20


class Fields(pydantic.BaseModel):
    """A value whose wrong fields raise a `ConfigurationError`."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except pydantic.ValidationError as error:
            where, problem, value = first_problem(error)
            raise ConfigurationError(
                f"`{where or type(self).__name__}` is wrong: {problem}, got {value!r:.100}. "
                f"The documentation of `leanrag.planning.{type(self).__name__}` lists the fields"
            ) from error


def read_fields(path: str | os.PathLike[str], kind: type[F], noun: str) -> F:
    """Return the value in a YAML or JSON file.

    Args:
        path: The file.
        kind: The class of the value.
        noun: What the file holds, for errors.

    Raises:
        ConfigurationError: The file cannot be read, or a field is wrong.
    """
    import yaml

    try:
        with Path(path).open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
        fields = yaml.safe_load(raw) if len(raw) <= _MOST_BYTES else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(
            f"cannot read the {noun} {str(path)!r} ({error}). Write a YAML or JSON file"
        ) from error
    if not isinstance(fields, dict) or not all(isinstance(name, str) for name in fields):
        raise ConfigurationError(
            f"the {noun} {str(path)!r} must be a YAML or JSON file of at most 1 MiB with named fields"
        )
    try:
        return kind(**fields)
    except ConfigurationError as error:
        raise ConfigurationError(f"the {noun} {str(path)!r} cannot be used: {error}") from error
