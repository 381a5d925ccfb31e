"""Child processes that run Python, also in an application that contains Python, whose `sys.executable` is the application."""

from __future__ import annotations

import json
import sys

__all__ = ["first_line", "freeze_support", "function_command", "is_frozen", "python_command"]

_FLAG = "--leanrag-child"


def python_command(code: str, *arguments: str) -> list[str]:
    """Return the command that runs code in a process of its own, where `sys.argv[1:]` is `arguments`."""
    return [sys.executable, _FLAG if is_frozen() else "-c", code, *arguments]


def function_command(module: str, function: str) -> list[str]:
    """Return the command that calls a function in a process of its own; its standard input begins with `first_line`."""
    return python_command(
        "import json, sys; fields = json.loads(sys.stdin.readline()); sys.path[:] = fields.pop('sys_path'); "
        f"from {module} import {function}; {function}(**fields)"
    )


def first_line(**arguments: object) -> str:
    """Return the line that tells a `function_command` the arguments of the function, and where this process finds modules.

    Raises:
        TypeError: An argument is not a JSON value.
    """
    return json.dumps({**arguments, "sys_path": list(map(str, sys.path))}) + "\n"


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
