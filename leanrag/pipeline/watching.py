"""Folders whose documents follow their files."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from leanrag._optional import require
from leanrag.errors import DocumentError, StorageError
from leanrag.types import AddReport

__all__ = ["find_changes", "follow_changes"]

logger = logging.getLogger(__name__)

_SECONDS = 5  # between two ticks, at which what failed is tried again


def follow_changes(sync: Callable[[], AddReport], changes: Iterable[Collection[object]]) -> Iterator[AddReport]:
    """Sync at once, then after each change, and yield what was done, if anything was.

    If another process writes to the database, or a folder is not there for a while, the next tick or change tries again.

    Args:
        sync: Makes the documents equal to the files.
        changes: Yields what has changed; nothing for a tick.

    Raises:
        DocumentError: A folder cannot be read at the first time.
        StorageError: The database cannot be written at the first time.
    """
    yield _report_of(sync)
    must_sync = True  # files may have changed before anybody watched
    for changed in changes:
        must_sync = must_sync or bool(changed)
        if not must_sync:
            continue
        try:
            report = _report_of(sync)
        except (DocumentError, StorageError) as error:
            logger.warning("changes are not stored yet: %s", error)
            continue
        must_sync = False
        if report.added or report.updated or report.removed or report.failed:
            yield report


def _report_of(sync: Callable[[], AddReport]) -> AddReport:
    """Return the report of a sync, also if some of the files cannot be read."""
    try:
        return sync()
    except DocumentError as error:
        if error.report is None:
            raise
        return error.report


def find_changes(
    folders: Sequence[str | os.PathLike[str]], database: Path, stop: threading.Event | None
) -> Iterator[Collection[object]]:
    """Yield what changes below folders, and nothing every few seconds, until `stop` is set.

    Hidden files do not count, but `.gitignore` files do; what the database itself writes does not count.
    """
    watchfiles = require("watchfiles", extra="watch", why="to watch folders")
    roots, own = [Path(folder).resolve() for folder in folders], database.resolve()

    def counts(_: object, path: str) -> bool:
        changed = Path(path)
        if changed == own or own in changed.parents:
            return False
        root = next((root for root in roots if root in changed.parents), changed.parent)
        names = changed.relative_to(root).parts
        return not any(name.startswith(".") for name in names[:-1]) and (
            names[-1] == ".gitignore" or not names[-1].startswith(".")
        )

    changes: Iterator[Collection[object]] = watchfiles.watch(
        *roots, watch_filter=counts, stop_event=stop, rust_timeout=1000 * _SECONDS, yield_on_timeout=True
    )
    return changes
