"""JSON whose fields have rates of their own: as tagged documents for a compressor, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leanrag.compression.compat.tags import Segment
from leanrag.errors import ConfigurationError

__all__ = ["Field", "join_fields", "read_fields"]

_SCALARS = ("int", "integer", "float", "number", "bool", "boolean")
_TEXTS = ("str", "string")
_LISTS = ("list", "List", "tuple", "dict", "dictionary")
_TYPES = (*_TEXTS, *_SCALARS, *_LISTS)
_SETTINGS = ("rate", "compress", "value_type", "pair_remove")


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an object, as a document.

    Attributes:
        key: Its name.
        value: Its value.
        may_vanish: Whether the field may be dropped.
        segments: The document: the name, and the texts of the value.
        leaves: For each segment, whether it is a text of the value that may be shortened.
    """

    key: str
    value: Any
    may_vanish: bool
    segments: tuple[Segment, ...]
    leaves: tuple[bool, ...]


def read_fields(
    data: Mapping[str, Any], config: Mapping[str, Mapping[str, Any]] | str | os.PathLike[str]
) -> list[Field]:
    """Return the fields of an object.

    Args:
        data: The object.
        config: For each field its `rate`, `compress`, `value_type` and `pair_remove`; or a YAML or JSON file of them.

    Raises:
        ConfigurationError: The data is not an object, or the configuration does not describe it.
    """
    if not isinstance(data, Mapping):
        raise ConfigurationError(
            f"`json_data` must be a dictionary, got {data!r:.80}. Read JSON text with json.loads(text) first"
        )
    settings = _read_config(config)
    if set(data) != set(settings):
        raise ConfigurationError(
            f"the keys of `json_data` and `json_config` must be the same. Only one has {sorted(set(data) ^ set(settings))}"
        )
    return [_field(key, value, settings[key]) for key, value in data.items()]


def _read_config(config: Mapping[str, Any] | str | os.PathLike[str]) -> Mapping[str, Any]:
    if isinstance(config, (str, os.PathLike)):
        import yaml

        path = Path(config)
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigurationError(
                f"`json_config` {str(path)!r} cannot be read: {error}. Pass a YAML file"
            ) from error
    if not isinstance(config, Mapping) or not all(isinstance(each, Mapping) for each in config.values()):
        raise ConfigurationError(
            f"`json_config` must be a dictionary with a dictionary for each field, or a YAML file, got {config!r:.80}"
        )
    return config


def _field(key: str, value: Any, settings: Mapping[str, Any]) -> Field:
    missing = [name for name in _SETTINGS if name not in settings]
    if missing:
        raise ConfigurationError(
            f"`json_config[{key!r}]` must have {', '.join(_SETTINGS)}; {', '.join(missing)} is missing"
        )
    rate, kind = settings["rate"], settings["value_type"]
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
        raise ConfigurationError(f"`rate` of the field {key!r} must be in [0, 1], got {rate!r}")
    if kind not in _TYPES:
        raise ConfigurationError(f"`value_type` of the field {key!r} must be one of {', '.join(_TYPES)}, got {kind!r}")
    if kind in _TEXTS and isinstance(value, (int, float)):
        value = str(value)
    texts: list[str] = []
    if settings["compress"] and rate < 1 and kind not in _SCALARS:
        _walk(value, texts.append)
    segments = [Segment(f"{key}: ", 1.0, compress=False)]
    leaves = [False]
    for number, text in enumerate(texts):
        if number:
            segments.append(Segment("\n", 1.0, compress=False))
            leaves.append(False)
        segments.append(Segment(text, float(rate)))
        leaves.append(True)
    if not texts:
        segments.append(Segment(json.dumps(value, ensure_ascii=False, default=str), 1.0, compress=False))
        leaves.append(False)
    return Field(key, value, bool(settings["pair_remove"]), tuple(segments), tuple(leaves))


def _walk(value: Any, visit: Callable[[str], Any]) -> Any:
    """Return a value with its texts replaced by what `visit` returns for them; numbers and other scalars stay."""
    if isinstance(value, str):
        return visit(value)
    if isinstance(value, Mapping):
        return {key: _walk(each, visit) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_walk(each, visit) for each in value]
    return value


def join_fields(fields: Sequence[Field], texts: Sequence[Sequence[str] | None]) -> dict[str, Any]:
    """Return the object with shortened texts.

    Args:
        fields: The fields.
        texts: For each field, what stays of its segments; None for a field that is dropped.
    """
    result = {}
    for field, shortened in zip(fields, texts, strict=True):
        if shortened is not None:
            leaves = iter([text for text, is_leaf in zip(shortened, field.leaves, strict=True) if is_leaf])
            result[field.key] = _walk(field.value, lambda _text: next(leaves)) if any(field.leaves) else field.value  # noqa: B023
    return result
