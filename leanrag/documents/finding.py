"""Folders to the files in them that may hold documents."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag.errors import ConfigurationError, DocumentError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

__all__ = ["file_status", "find_files"]

logger = logging.getLogger(__name__)

_JUNK_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
_JUNK_FILES = frozenset({"desktop.ini", "thumbs.db"})
_IGNORE_FILE = ".gitignore"
_MAX_IGNORE_BYTES = 1024 * 1024
_SHOWN = 60  # characters of a text that was passed instead of a path


def find_files(
    path: str | Path,
    *,
    gitignore: bool = True,
    ignore: Sequence[str] = (),
    pattern: Sequence[str] = (),
    exclude: Callable[[Path], bool] | None = None,
    on_error: Callable[[DocumentError], None] | None = None,
) -> Iterator[Path]:
    """Return the regular files under a folder, sorted by name at each level; a file comes back alone.

    Hidden entries and well-known junk (`.git`, `node_modules`, `__pycache__`, `.venv`, ...) are left out. Symbolic links
    are followed; each real folder and each real file comes once, so loops end. Pipes, sockets and devices are left out.

    Args:
        path: A folder, or a file (taken even if its name is hidden).
        gitignore: Leave out what the `.gitignore` files of the folder, and of those below it, tell git to ignore.
        ignore: Patterns in the syntax of `.gitignore`, relative to `path`, of files and folders to leave out; they come before
            the `.gitignore` files: "!build/" keeps a folder that these leave out.
        pattern: Patterns in the same syntax of files to keep: "*.md", "/chapters/". All are kept if there are none.
        exclude: Returns True for a file below `path` to leave out.
        on_error: Called for each folder below `path` that cannot be listed; without it a warning is logged.

    Returns:
        Paths that begin with `path`, lazily; `path` itself is checked at once.

    Raises:
        ConfigurationError: A pattern cannot work.
        DocumentError: `path` does not exist, is neither a file nor a folder, or cannot be listed.

    Example:
        >>> [file.name for file in find_files("docs")]  # doctest: +SKIP
        ['guide.md', 'intro.txt']
    """
    root = Path(path)
    selection = _Selection(_read_patterns("ignore", ignore), _read_patterns("pattern", pattern))
    mode = file_status(root).st_mode
    if stat.S_ISREG(mode):
        return iter([root])
    if not stat.S_ISDIR(mode):
        raise DocumentError(f"{str(path)!r} is neither a file nor a folder; pass one of these", path=root)
    entries = _list_folder(root)
    files = _walk(root, entries, gitignore, selection, on_error or _log_error)
    return files if exclude is None else (file for file in files if not exclude(file))


def file_status(path: Path) -> os.stat_result:
    """Return `path.stat()`, links followed.

    Raises:
        DocumentError: The file is missing or cannot be reached.
    """
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise DocumentError(
            f"cannot read {str(path)!r}: there is no such file or folder. Pass a path; `add_text` takes a text",
            path=path,
        ) from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise DocumentError(
                f"cannot read {str(path)[:_SHOWN]!r}...: it is too long for a path. `add_text` takes a text", path=path
            ) from error
        raise DocumentError(f"cannot read {str(path)!r}: {error.strerror or error}", path=path) from error
    except ValueError as error:
        raise DocumentError(f"cannot read {str(path)!r}: {error}", path=path) from error


def _list_folder(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DocumentError(
            f"cannot list the folder {str(folder)!r}: {error.strerror or error}", path=folder
        ) from error


def _log_error(error: DocumentError) -> None:
    logger.warning("Skipped: %s", error)


def _is_junk(name: str) -> bool:
    return name.startswith((".", "~$")) or name in _JUNK_FOLDERS or name.lower() in _JUNK_FILES


@dataclass(frozen=True, slots=True)
class _Selection:
    """What the caller wants of a folder: `ignore` is left out; of the files only those of `pattern` are kept."""

    ignore: GitIgnoreSpec | None
    pattern: GitIgnoreSpec | None

    def ignores(self, path: str) -> bool | None:
        """Return whether a path is left out, None if that is not said."""
        return None if self.ignore is None else self.ignore.check_file(path).include

    def keeps(self, path: str) -> bool:
        """Return whether a file that is not ignored is kept."""
        return self.pattern is None or self.pattern.match_file(path)


def _read_patterns(name: str, patterns: Sequence[str]) -> GitIgnoreSpec | None:
    if not patterns:
        return None
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines([patterns] if isinstance(patterns, str) else patterns)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`{name}` must be patterns in the syntax of .gitignore, got {patterns!r}: {error}"
        ) from error


@dataclass(slots=True)
class _Folder:
    """A folder that is being read.

    Attributes:
        real: Its path without links.
        parts: Names from the root of the walk to it.
        rules: Rules of the `.gitignore` files above and in it: how many parts lead to each, and what it says.
        entries: What is still to be read.
    """

    real: str
    parts: tuple[str, ...]
    entries: Iterator[os.DirEntry[str]]
    rules: list[tuple[int, GitIgnoreSpec]] = field(default_factory=list)

    def path_of(self, entry: os.DirEntry[str], depth: int = 0) -> str:
        """Return the path of an entry below the folder that is `depth` levels below the root."""
        return "/".join((*self.parts[depth:], entry.name))

    def ignores(self, entry: os.DirEntry[str], *, is_folder: bool) -> bool:
        """Return whether git would ignore an entry: the nearest file that speaks of it decides."""
        for depth, spec in reversed(self.rules):
            verdict = spec.check_file(self.path_of(entry, depth) + "/" * is_folder).include
            if verdict is not None:
                return verdict
        return False


def _walk(
    root: Path,
    entries: list[os.DirEntry[str]],
    gitignore: bool,
    selection: _Selection,
    on_error: Callable[[DocumentError], None],
) -> Iterator[Path]:
    """Yield files depth first; a stack, not recursion: folders may nest deeper than Python calls."""
    top = _Folder(os.path.realpath(root), (), iter(entries), _rules(entries, 0) if gitignore else [])
    seen = {top.real}
    stack = [top]
    while stack:
        folder = stack[-1]
        entry = next(folder.entries, None)
        if entry is None:
            stack.pop()
            continue
        if _is_junk(entry.name):
            continue
        try:
            is_folder, is_file, is_link = entry.is_dir(), entry.is_file(), entry.is_symlink()
        except OSError as error:
            on_error(DocumentError(f"cannot read {entry.path!r}: {error.strerror or error}", path=entry.path))
            continue
        if not (is_folder or is_file):
            continue
        is_ignored = selection.ignores(folder.path_of(entry) + "/" * is_folder)
        if folder.ignores(entry, is_folder=is_folder) if is_ignored is None else is_ignored:
            continue
        if is_file and not selection.keeps(folder.path_of(entry)):
            continue
        real = os.path.realpath(entry.path) if is_link else os.path.join(folder.real, entry.name)  # noqa: PTH118
        if real in seen:
            continue
        seen.add(real)
        if is_file:
            yield Path(entry.path)
            continue
        try:
            below = _list_folder(Path(entry.path))
        except DocumentError as error:
            on_error(error)
            continue
        parts = (*folder.parts, entry.name)
        rules = folder.rules + (_rules(below, len(parts)) if gitignore else [])
        stack.append(_Folder(real, parts, iter(below), rules))


def _rules(entries: list[os.DirEntry[str]], depth: int) -> list[tuple[int, GitIgnoreSpec]]:
    """Return the rules of a folder's `.gitignore`, none if it has no such file or the file is not sound."""
    found = next((entry for entry in entries if entry.name == _IGNORE_FILE), None)
    if found is None:
        return []
    from pathspec import GitIgnoreSpec

    try:
        if not found.is_file() or found.stat().st_size > _MAX_IGNORE_BYTES:
            return []
        lines = Path(found.path).read_text(encoding="utf-8", errors="replace").splitlines()
        return [(depth, GitIgnoreSpec.from_lines(lines))]
    except (OSError, ValueError) as error:
        logger.warning("Skipped the rules of %r: %s", found.path, error)
        return []
