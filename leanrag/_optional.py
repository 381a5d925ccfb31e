"""Imports of optional packages; the only place that reports a missing one."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from leanrag.errors import MissingDependencyError
from leanrag.openmp import limit_spinning

__all__ = ["require"]


def require(package: str, *, extra: str, why: str) -> ModuleType:
    """Import and return `package`, or say which extra installs it.

    A package that is installed but broken raises the error of its own import.

    Args:
        package: Name to import.
        extra: The extra of leanrag that installs it.
        why: What it is needed for, such as "to embed with torch".

    Raises:
        MissingDependencyError: `package` is not installed.
    """
    if importlib.util.find_spec(package.partition(".")[0]) is None:
        raise MissingDependencyError(
            f"`{package}` is needed {why}. Install it with: pip install 'leanrag[{extra}]'",
            package=package,
            extra=extra,
        )
    limit_spinning()  # many of these packages compute with OpenMP
    return importlib.import_module(package)
