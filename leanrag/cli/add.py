"""`leanrag add`: add files and folders to the database."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands, add_selection, open_folder, selection_of
from leanrag.cli.output import show_adding
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.pipeline.adding import Source

__all__ = ["LIBRARIES", "register"]

LIBRARIES = ("chroma", "lancedb", "langchain", "llama-index")
"""Those of `leanrag.documents.moving`, which is loaded only when it is needed."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("add", _run, commands.folder, "add files and folders; unchanged files are skipped")
    parser.add_argument("sources", nargs="+", metavar="PATH", help="file or folder")
    add_selection(parser)
    parser.add_argument(
        "--from",
        dest="library",
        choices=LIBRARIES,
        help="PATH is a folder that this library wrote: take its texts",
    )
    parser.add_argument("--sync", action="store_true", help="also remove documents of other files in these folders")


def _sources(options: argparse.Namespace) -> list[Source]:
    """Return what is to be added: paths, or the documents in the folders of another library."""
    if options.library is None:
        return list(options.sources)
    from leanrag.documents import moving

    return [document for folder in options.sources for document in moving.LIBRARIES[options.library](folder)]


def _run(options: argparse.Namespace) -> int:
    if options.library is not None and (options.sync or options.ignore or options.pattern):
        raise ConfigurationError(
            "`--sync`, `--ignore` and `--pattern` are about files, and `--from` takes texts. Leave them out"
        )
    selection = selection_of(options)
    with open_folder(options, create=True) as rag:
        if options.sync:
            return show_adding(options, lambda: rag.sync(*options.sources, **selection))
        return show_adding(options, lambda: rag.add(*_sources(options), **selection))
