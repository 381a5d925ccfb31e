"""`leanrag chat`: a conversation in the terminal."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from leanrag.cli.options import Commands, add_config, metadata_of, open_folder
from leanrag.cli.output import OK, print_text, report_error, write_text
from leanrag.display import to_json, to_text
from leanrag.errors import LeanRAGError

if TYPE_CHECKING:
    from leanrag.pipeline import Conversation
    from leanrag.types import Answer

__all__ = ["register"]

_HELP = """/sources      the quotes that support the last answer
/save FILE    write the conversation to a file; `leanrag chat --resume FILE` continues it
/new          begin a new conversation
/help         show this list
/quit         leave (or Ctrl-D)
Ctrl-C stops an answer."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "chat", _run, commands.reading, "ask questions in a conversation; /help lists the commands in it"
    )
    parser.add_argument("database", nargs="?", help="the database, as --folder")
    parser.add_argument("--resume", metavar="FILE", help="continue the conversation that /save wrote")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="time limit of each answer")
    add_config(parser)


def _run(options: argparse.Namespace) -> int:
    options.folder = options.database or options.folder
    with open_folder(options) as rag:
        chat = rag.chat(options.resume or (), where=metadata_of(options.where), timeout_seconds=options.timeout)
        session = _Session(options, chat)
        while session.goes_on:
            session.take_turn()
    return OK


class _Session:
    """Reads lines and answers them.

    Attributes:
        goes_on: Whether there is another line to read.
    """

    def __init__(self, options: argparse.Namespace, chat: Conversation) -> None:
        self._options, self._chat = options, chat
        self._answer: Answer | None = None
        self.goes_on = True

    def take_turn(self) -> None:
        """Read a line and do what it says. Errors and Ctrl-C end the turn, not the session."""
        try:
            line = input("> " if sys.stdin.isatty() and not self._options.json else "").strip()
        except EOFError:
            self.goes_on = False
            return
        except KeyboardInterrupt:
            print_text("\nType /quit or press Ctrl-D to leave.")
            return
        try:
            if line.startswith("/"):
                self._command(line)
            elif line:
                self._ask(line)
        except KeyboardInterrupt:
            print_text("\n(stopped)")
        except LeanRAGError as error:
            report_error(self._options, str(error), error)

    def _ask(self, question: str) -> None:
        stream = self._chat.stream(question)
        if not self._options.json:
            for piece in stream:
                write_text(piece)
        self._answer = stream.answer
        print_text(to_json(self._answer) if self._options.json else f"\n{_footer(self._answer)}")

    def _command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], str]] = {
            "/sources": self._sources,
            "/save": self._save,
            "/new": self._new,
            "/help": lambda _: _HELP,
            "/quit": self._quit,
        }
        run = commands.get(name)
        text = f"{name!r} is not a command.\n{_HELP}" if run is None else run(argument.strip())
        if text:
            print_text(json.dumps({"message": text}) if self._options.json else text)

    def _sources(self, _: str) -> str:
        if self._answer is not None:
            return to_text(self._answer)
        quotes = self._chat.exchanges[-1].quotes if self._chat.exchanges else ()
        return "\n".join(quotes) or "There is no answer yet."

    def _save(self, path: str) -> str:
        if not path:
            return "Name a file: /save FILE"
        self._chat.save(path)
        return f"Saved to {path}"

    def _new(self, _: str) -> str:
        self._chat.clear()
        self._answer = None
        return "A new conversation."

    def _quit(self, _: str) -> str:
        self.goes_on = False
        return ""


def _footer(answer: Answer) -> str:
    """Return what a person should know about an answer at once."""
    completed = next((stage.details["question"] for stage in answer.trace if stage.name == "follow-up"), None)
    asked = f"asked as: {completed}; " if completed not in (None, answer.question) else ""
    if answer.citations:
        found = f"{len(answer.citations)} quote{'s' if len(answer.citations) > 1 else ''}: /sources"
    else:
        found = "not supported by the sources" if answer.model is not None and not answer.abstained else "no sources"
    return f"({asked}{found})"
