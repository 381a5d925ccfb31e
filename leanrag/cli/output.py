"""What the command prints, and its exit codes."""

from __future__ import annotations

import argparse
import json
import sys

from leanrag.display import printable, to_json
from leanrag.errors import LeanRAGError

__all__ = ["FAILED", "INTERRUPTED", "OK", "PARTIAL", "UNSUPPORTED", "USAGE", "print_text", "report_error", "show"]

OK, FAILED, USAGE, UNSUPPORTED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


def show(options: argparse.Namespace, value: object, text: str) -> None:
    """Print `value` as JSON if that was asked for, otherwise `text`."""
    print_text(to_json(value) if options.json else text)


def print_text(text: str) -> None:
    """Print `text`; what the terminal must not obey is shown as an escape, what it cannot show as a question mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(printable(text).encode(encoding, "replace").decode(encoding), flush=True)


def report_error(options: argparse.Namespace, message: str, error: LeanRAGError | None) -> None:
    """Print why the command failed to standard error; as JSON to standard output, too, if that was asked for."""
    if options.json:
        print_text(json.dumps({"error": type(error).__name__ if error else "KeyboardInterrupt", "message": message}))
    print(f"leanrag: {printable(message)}", file=sys.stderr)
