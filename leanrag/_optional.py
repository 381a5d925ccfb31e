"""Imports of optional packages; the only place that reports a missing one."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from leanrag.errors import MissingDependencyError
from leanrag.openmp import limit_spinning

__all__ = ["require", "without_progress_bars"]


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


@contextlib.contextmanager
def without_progress_bars(transformers: Any) -> Iterator[None]:
    """Hide the bars that transformers draws while it loads weights, and leave its settings as they were."""
    bars = transformers.utils.logging
    was_enabled = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            bars.enable_progress_bar()
