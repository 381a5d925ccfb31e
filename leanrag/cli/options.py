"""Options that several commands share, and the database that they open."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import leanrag
from leanrag.errors import ConfigurationError, StorageError
from leanrag.ledger import CostLedger

if TYPE_CHECKING:
    from leanrag.pipeline.documents import AddOptions
    from leanrag.types import Scalar

__all__ = [
    "Commands",
    "add_config",
    "add_question",
    "add_selection",
    "add_where",
    "metadata_of",
    "open_folder",
    "question_of",
    "selection_of",
]

logger = logging.getLogger(__name__)

_DEFAULT_FOLDER = ".leanrag"


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands of a parser, and the options that they share.

    Attributes:
        parsers: The commands that were added.
        common: Options of every command.
        folder: Options of commands that use a database.
        answering: Options of commands that ask models.
        reading: The same, with a filter on documents.
        asking: Options of commands about one question.
    """

    parsers: Any
    common: argparse.ArgumentParser
    folder: argparse.ArgumentParser
    answering: argparse.ArgumentParser
    reading: argparse.ArgumentParser
    asking: argparse.ArgumentParser

    @classmethod
    def of(cls, parser: argparse.ArgumentParser) -> Commands:
        """Return an empty set of commands for `parser`."""
        common = argparse.ArgumentParser(add_help=False)
        common.add_argument("--json", action="store_true", help="print one JSON value instead of text")
        common.add_argument("--verbose", action="store_true", help="log to standard error")
        folder = argparse.ArgumentParser(add_help=False, parents=[common])
        folder.add_argument(
            "--folder",
            default=os.environ.get("LEANRAG_FOLDER", _DEFAULT_FOLDER),
            help=f"the database: a folder (default: $LEANRAG_FOLDER or {_DEFAULT_FOLDER})",
        )
        folder.add_argument(
            "--embedder", default="all-minilm-l6-v2", help="name, GGUF file or folder (default: %(default)s)"
        )
        answering = argparse.ArgumentParser(add_help=False, parents=[folder])
        answering.add_argument(
            "--model",
            action="append",
            help="name or GGUF file, followed by +ADAPTER to use a LoRA adapter; repeat it for a cascade, the smallest model "
            "first (default: the best on this machine)",
        )
        answering.add_argument("-k", type=int, default=10, help="chunks retrieved (default: %(default)s)")
        answering.add_argument(
            "--context-tokens", type=int, help="most tokens of sources (default: what suits the model)"
        )
        answering.add_argument(
            "--max-tokens", type=int, help="most tokens of the answer (default: what suits the model)"
        )
        answering.add_argument(
            "--style",
            choices=("phrase", "sentence", "explanation"),
            help="form of the answer (default: what suits the model)",
        )
        reading = argparse.ArgumentParser(add_help=False, parents=[answering])
        add_where(reading)
        asking = argparse.ArgumentParser(add_help=False, parents=[reading])
        add_config(asking)
        add_question(asking)
        commands = parser.add_subparsers(required=True, metavar="COMMAND")
        return cls(commands, common, folder, answering, reading, asking)

    def add(
        self, name: str, run: Callable[[argparse.Namespace], int], parent: argparse.ArgumentParser, about: str
    ) -> argparse.ArgumentParser:
        """Add a command; `run(options)` returns its exit code."""
        added: argparse.ArgumentParser = self.parsers.add_parser(name, parents=[parent], help=about, description=about)
        added.set_defaults(run=run)
        return added


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the file of settings that `leanrag tune` writes."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings that `tune` wrote, instead of --model, -k and --context-tokens"
    )


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add the question: a text in quotes, or several words."""
    parser.add_argument("question", nargs="+", help="the question; quotes keep the shell from reading it")


def question_of(options: argparse.Namespace) -> str:
    """Return the question that `add_question` read."""
    return " ".join(options.question)


def add_where(parser: argparse.ArgumentParser) -> None:
    """Add the filter on metadata."""
    parser.add_argument(
        "--where", action="append", default=[], metavar="KEY=VALUE", help="only documents with this metadata"
    )


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which files are read, and with what metadata."""
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


def selection_of(options: argparse.Namespace) -> AddOptions:
    """Return what `add_selection` read, as `Rag.add` takes it."""
    return {
        "metadata": metadata_of(options.set) or None,  # without any, documents keep theirs
        "ignore": options.ignore,
        "pattern": options.pattern,
    }


def metadata_of(texts: Sequence[str]) -> dict[str, Scalar]:
    """Parse KEY=VALUE. A value that is a JSON number, true, false or null is parsed as JSON."""
    pairs: dict[str, Scalar] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise ConfigurationError(f"metadata must be written as KEY=VALUE, got {text!r}")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        pairs[key] = parsed if isinstance(parsed, (str, int, float, type(None))) else value
    return pairs


@contextlib.contextmanager
def open_folder(options: argparse.Namespace, *, create: bool = False) -> Iterator[leanrag.Rag]:
    """Open the database with the models and budgets of the options."""
    settings = {
        name: getattr(options, name)
        for name in ("config", "k", "context_tokens", "max_tokens", "style", "abstain_below")
        if getattr(options, name, None) is not None
    }
    if hasattr(options, "model"):
        settings["model"] = _models(options)
    with (
        _open_ledger(options, create=create) as ledger,
        leanrag.open(options.folder, embedder=options.embedder, create=create, ledger=ledger, **settings) as rag,
    ):
        yield rag


@contextlib.contextmanager
def _open_ledger(options: argparse.Namespace, *, create: bool = False) -> Iterator[CostLedger | None]:
    """Open the ledger in the folder of the database.

    It is None if the environment variable LEANRAG_LEDGER is "off", if there is no database and none is to be made, or if the
    ledger cannot be opened: that is logged.
    """
    from leanrag.retrieval.database import COSTS, DATABASE, SHARDS

    folder = Path(options.folder)
    is_database = any((folder / name).is_file() for name in (DATABASE, SHARDS))
    if os.environ.get("LEANRAG_LEDGER", "").lower() == "off" or not (create or is_database):
        yield None
        return
    try:
        ledger = CostLedger(folder / COSTS)
    except StorageError as error:
        logger.warning("the costs are not written: %s", error)
        yield None
        return
    with ledger:
        yield ledger


def _models(options: argparse.Namespace) -> str | leanrag.Cascade | None:
    """Return the name of the model, or a cascade if there are several models or calibrations; None for the default.

    `serve` passes the models that it loaded as a cascade.
    """
    from leanrag.pipeline.defaults import default_models

    if isinstance(options.model, leanrag.Cascade):
        return options.model
    files = getattr(options, "calibration", [])
    if not files and not hasattr(options, "out") and len(options.model or []) < 2:
        return options.model[0] if options.model else None
    names = options.model or default_models()
    return leanrag.Cascade(names, calibrations=[leanrag.Calibration.load(file) for file in files])
