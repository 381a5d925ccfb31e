"""`leanrag shard`: divide a corpus into shards."""

from __future__ import annotations

import argparse

from leanrag.cli.options import Commands
from leanrag.cli.output import OK, show

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("shard", _run, commands.common, "divide a database into shards, which are searched as one")
    parser.add_argument("database", metavar="FOLDER", help="the database; it can be searched meanwhile")
    parser.add_argument("shards", type=int, metavar="N", help="number of shards")
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="metadata field whose value decides the shard, such as a tenant (default: the id of the document)",
    )


def _run(options: argparse.Namespace) -> int:
    from leanrag.retrieval.resharding import divide_corpus

    layout = divide_corpus(options.database, options.shards, field=options.by)
    show(options, layout.model_dump(), f"{options.database} has {layout.shards} shards in {layout.folder}")
    return OK
