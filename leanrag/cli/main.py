"""The `leanrag` command. `leanrag COMMAND --help` lists the options of a command. These are the exit codes.

0  done
1  failed; the reason is on standard error
2  wrong usage: an option or argument cannot work
3  `ask`: the sources do not support the answer; `search`: nothing was found
4  `add`: some sources could not be read, the others were added
130  interrupted
143  SIGTERM came, as when a machine is taken away: what was finished is stored, and the command ended within 20 seconds. `add`,
     `sync`, `tune` and `train` continue when they are called again, here or on a machine with the same files. `serve` finishes
     its answers and returns 0
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

import leanrag
from leanrag.cli import (
    add,
    ask,
    bench,
    calibrate,
    chat,
    completion,
    costs,
    doctor,
    explain,
    mcp,
    models,
    plan,
    pull,
    quantize,
    remove,
    repair,
    search,
    serve,
    shard,
    stats,
    sync,
    train,
    tune,
)
from leanrag.cli.options import Commands
from leanrag.cli.output import FAILED, INTERRUPTED, OK, USAGE, report_error
from leanrag.errors import ConfigurationError, LeanRAGError
from leanrag.stopping import EXIT_CODE, Terminated, stopping_on_sigterm

__all__ = ["main"]

_COMMANDS = (
    add,
    sync,
    remove,
    search,
    ask,
    chat,
    calibrate,
    explain,
    serve,
    bench,
    tune,
    plan,
    pull,
    quantize,
    models,
    mcp,
    doctor,
    repair,
    shard,
    stats,
    costs,
    train,
    completion,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    try:
        with stopping_on_sigterm():
            return int(options.run(options))
    except Terminated:
        report_error(
            options, "stopped by SIGTERM. What was finished is stored; run the same command again to continue", None
        )
        return EXIT_CODE
    except KeyboardInterrupt:
        report_error(options, "interrupted", None)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has gone
        # The interpreter flushes standard output once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except LeanRAGError as error:
        report_error(options, str(error), error)
        return USAGE if isinstance(error, ConfigurationError) else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="leanrag",
        description=(leanrag.__doc__ or "").partition("\n")[0],
        epilog=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"leanrag {leanrag.__version__}")
    commands = Commands.of(parser)
    for command in _COMMANDS:
        command.register(commands)
    return parser
