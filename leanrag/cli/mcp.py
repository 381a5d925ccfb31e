"""`leanrag mcp`: serve a folder to assistants with the Model Context Protocol."""

from __future__ import annotations

import argparse
from pathlib import Path

from leanrag.cli.options import Commands, open_folder
from leanrag.cli.output import OK

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "mcp",
        _run,
        commands.reading,
        "serve a folder to assistants (Model Context Protocol), on standard input and output",
    )
    parser.add_argument("database", nargs="?", metavar="FOLDER", help="the database (default: as --folder)")
    parser.add_argument("--http", type=int, metavar="PORT", help="serve http://127.0.0.1:PORT/mcp instead")
    parser.add_argument("--allow-add", action="store_true", help="let clients add texts")
    parser.add_argument("--add-folder", type=Path, metavar="DIR", help="let clients add files below this folder too")


def _run(options: argparse.Namespace) -> int:
    from leanrag.adapters.mcp import make_server, serve_http, serve_stdio

    options.folder = options.database or options.folder
    with open_folder(options, create=options.allow_add) as rag:
        server = make_server(rag, allow_add=options.allow_add, add_folder=options.add_folder)
        if options.http is None:
            serve_stdio(server)
        else:
            serve_http(server, port=options.http)
    return OK
