"""Print results and errors; the exit codes of the command."""

from __future__ import annotations

import argparse
import json
import sys

from leanrag.display import printable, to_json
from leanrag.errors import LeanRAGError

__all__ = [
    "FAILED",
    "INTERRUPTED",
    "OK",
    "PARTIAL",
    "UNSUPPORTED",
    "USAGE",
    "print_text",
    "report_error",
    "show",
    "write_text",
]

OK, FAILED, USAGE, UNSUPPORTED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


def show(options: argparse.Namespace, value: object, text: str) -> None:
    """Print `value` as JSON if `--json` was passed, otherwise `text`."""
    print_text(to_json(value) if options.json else text)


def print_text(text: str) -> None:
    """Print `text` as a line. Control characters are printed as escapes, and characters that the terminal cannot show as "?"."""
    write_text(f"{text}\n")


def write_text(text: str) -> None:
    """As `print_text`, but without the end of the line."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "replace").decode(encoding), end="", flush=True)


def report_error(options: argparse.Namespace, message: str, error: LeanRAGError | None) -> None:
    """Print to standard error why the command failed. If `--json` was passed, also print JSON to standard output."""
    if options.json:
        print_text(json.dumps({"error": type(error).__name__ if error else "KeyboardInterrupt", "message": message}))
    print(f"leanrag: {printable(message)}", file=sys.stderr)
