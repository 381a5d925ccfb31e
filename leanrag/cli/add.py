"""`leanrag add`: add files and folders to the database."""

from __future__ import annotations

import argparse
import functools
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands, metadata_of, open_folder
from leanrag.cli.output import show_adding
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.pipeline.adding import Source
    from leanrag.pipeline.documents import AddOptions

__all__ = ["LIBRARIES", "register"]

LIBRARIES = ("chroma", "lancedb", "langchain", "llama-index")
"""Those of `leanrag.documents.moving`, which is loaded only when it is needed."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("add", _run, commands.folder, "add files and folders; unchanged files are skipped")
    parser.add_argument("sources", nargs="+", metavar="PATH", help="file or folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="metadata for each document")
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out such files and folders, as in a .gitignore",
    )
    parser.add_argument(
        "--pattern", action="append", default=[], metavar="PATTERN", help="read only such files, as in a .gitignore"
    )
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
    how: AddOptions = {
        "metadata": metadata_of(options.set) or None,  # without any, documents keep theirs
        "ignore": options.ignore,
        "pattern": options.pattern,
    }
    with open_folder(options, create=True) as rag:
        add = (
            functools.partial(rag.sync, *options.sources)
            if options.sync
            else functools.partial(rag.add, *_sources(options))
        )
        return show_adding(options, lambda: add(**how))
