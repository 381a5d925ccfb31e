"""Check the further fields of a request."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

from leanrag.errors import ConfigurationError

__all__ = ["check_extra_body"]


def check_extra_body(extra_body: Mapping[str, object] | None, *, taken: Collection[str]) -> dict[str, object]:
    """Return a copy of `extra_body`.

    Args:
        extra_body: Further fields of the JSON body of a request.
        taken: Fields that each request sets.

    Raises:
        ConfigurationError: A field is taken, or JSON does not have its value.
    """
    if both := set(taken) & set(extra_body or ()):
        raise ConfigurationError(
            f"`extra_body` cannot have the fields {', '.join(sorted(both))}, because each request sets them. Remove them"
        )
    try:
        fields: dict[str, object] = json.loads(json.dumps(dict(extra_body or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"`extra_body` must have only values that JSON has: {error}") from error
    return fields
