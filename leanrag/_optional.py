"""The one place that reports a missing optional package."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from leanrag.errors import MissingDependencyError

__all__ = ["require"]


def require(package: str, *, extra: str, why: str) -> ModuleType:
    """Import and return `package`, or say which extra brings it.

    A package that is installed but broken raises its own error.

    Raises:
        MissingDependencyError: `package` is not installed.
    """
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        raise MissingDependencyError(
            f"`{package}` is needed {why}. Install it with: pip install 'leanrag[{extra}]'",
            package=package,
            extra=extra,
        )
    return importlib.import_module(package)
