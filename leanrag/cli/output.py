"""Print results and errors; the exit codes of the command."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from leanrag.display import printable, to_json, to_text
from leanrag.errors import DocumentError, LeanRAGError
from leanrag.types import AddReport

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
    "show_adding",
    "write_text",
]

OK, FAILED, USAGE, UNSUPPORTED, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 130


def show(options: argparse.Namespace, value: object, text: str) -> None:
    """Print `value` as JSON if `--json` was passed, otherwise `text`."""
    print_text(to_json(value) if options.json else text)


def show_adding(options: argparse.Namespace, add: Callable[[], AddReport]) -> int:
    """Add documents, print the report, also that of an error that has one, and return the exit code."""
    try:
        report = add()
    except DocumentError as error:
        if error.report is None:
            raise
        report = error.report
    show(options, report, to_text(report))
    return PARTIAL if report.failed else OK


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
