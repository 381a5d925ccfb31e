"""Child processes that run Python, also in an application that contains Python, whose `sys.executable` is the application."""

from __future__ import annotations

import sys

__all__ = ["freeze_support", "is_frozen", "python_command"]

_FLAG = "--leanrag-child"


def python_command(code: str, *arguments: str) -> list[str]:
    """Return the command that runs code in a process of its own, where `sys.argv[1:]` is `arguments`."""
    return [sys.executable, _FLAG if is_frozen() else "-c", code, *arguments]


def is_frozen() -> bool:
    """Return whether this is an application that contains Python, such as PyInstaller makes."""
    return bool(getattr(sys, "frozen", False))


def freeze_support() -> None:
    """Do the work of a child process, and do not return, if leanrag started this process for that.

    An application that contains Python calls it first, beside `multiprocessing.freeze_support`. Elsewhere it has no effect.
    """
    if is_frozen() and sys.argv[1:2] == [_FLAG]:
        code, sys.argv = sys.argv[2], ["-c", *sys.argv[3:]]
        exec(compile(code, "<leanrag>", "exec"), {"__name__": "__main__"})  # noqa: S102 - as `python -c` does
        sys.exit()
