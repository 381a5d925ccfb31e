"""Files beside the database that are made from it: postings and vector indexes. Each may be deleted, and is then made again.

A row of the table `meta` names the files that belong to the database, so that those of another copy of it are never read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from leanrag.files import remove_abandoned
from leanrag.retrieval.database import DERIVED_SUFFIX, Database, DerivedKind
from leanrag.retrieval.graphs import read_graph
from leanrag.retrieval.posting_files import read_segment

__all__ = ["DerivedFiles", "find_unreadable"]


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError)


def find_unreadable(database: Database, dim: int) -> dict[Path, str]:
    """Return the files that are there and cannot be read, and why.

    Args:
        database: The database that they are made from.
        dim: Columns of its vectors.
    """
    readers: dict[DerivedKind, Callable[[Path], object]] = {
        "postings": read_segment,
        "vectors": functools.partial(read_graph, dim=dim),
    }
    problems: dict[Path, str] = {}
    for kind, read in readers.items():
        files = DerivedFiles(database, kind)
        for path in map(files.path, files.names()):
            try:
                read(path)
            except FileNotFoundError:
                continue
            except _UNREADABLE as error:
                problems[path] = str(error)
    return problems


class DerivedFiles:
    """The files of one kind.

    Args:
        database: The database that they are made from.
        kind: What they contain.
    """

    def __init__(self, database: Database, kind: DerivedKind) -> None:
        self._database, self._kind = database, kind

    def names(self) -> list[str]:
        """Return the names of the files that belong to the database, in their order."""
        with self._database.reading() as connection, self._database.decoding():
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (self._kind,)).fetchone()
            names = json.loads(row[0]) if row else []
            return [name for name in names if self._kind in name and "/" not in name and "\\" not in name]

    def path(self, name: str) -> Path:
        """Return where a file is."""
        return self._database.folder / name

    def new_path(self) -> Path:
        """Return where a new file can be written; `keep` makes it one of the database."""
        return self.path(f"{self._kind}-{secrets.token_hex(8)}{DERIVED_SUFFIX}")

    def keep(self, names: Sequence[str]) -> None:
        """Name the files that belong to the database from now on, and remove all others, and those that killed processes began.

        Raises:
            StorageError: The database cannot be written.
        """
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (self._kind, json.dumps(list(names))))
        with contextlib.suppress(OSError):
            remove_abandoned(self._database.folder)
        for path in self._database.folder.glob(f"{self._kind}-*{DERIVED_SUFFIX}"):
            if path.name not in names:
                with contextlib.suppress(OSError):  # another process maps it (Windows)
                    path.unlink()
        with contextlib.suppress(OSError):
            remove_abandoned(self._database.folder)  # parts of files, of killed processes
