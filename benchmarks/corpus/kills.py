"""What is lost when the process that writes a folder is killed at a random moment?

A child adds and removes documents, brings the folder in line with changed files, builds the files that are made from the database,
merges them, and repairs damage, over and over. It says what it is about to do before it begins. After the kill, each document must
be as it was before the operation or as it is after it, and no file may be damaged. After the last kill, the files are built once
more: those that killed children left must be gone then.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import get_args
from unittest import mock

import leanrag
from leanrag.retrieval import growing_index, posting_index
from leanrag.retrieval.database import DATABASE, Database, DerivedKind
from leanrag.retrieval.derived_files import DerivedFiles
from leanrag.retrieval.growing_index import update_graph
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Document

__all__ = ["kill_writers"]

State = dict[str, str]  # the hash of the text of each document

_LONGEST_SECONDS = 1.0  # from the start of the child to the kill
_LEAST_CHUNKS = 4  # of a folder with files of postings and vectors, and of a file of postings
_FILES = 12


def kill_writers(folder: Path, count: int) -> dict[str, int | None]:
    """Kill `count` children and return how many documents were lost, and how many problems `check` then found."""
    rng = random.Random(0)
    (folder / "files").mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    lost = orphans = 0
    before: State = {}
    for number in range(count):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_write, args=(folder, number, before, sender))
        process.start()
        sender.close()
        time.sleep(rng.uniform(0.02, _LONGEST_SECONDS))
        process.kill()
        process.join()
        operation, before, after = _last_message(receiver, before)
        with _open(folder) as rag:
            damage = rag.check()
            if operation == "repair":  # it goes on where it was killed
                rag.repair()
                damage = rag.check()
            found = {record.id: record.sha256 for record in rag.documents()}
            texts = {name: rag.get_document(name).sha256 for name in found}
        names = found.keys() | before.keys() | after.keys()
        wrong = [name for name in names if found.get(name) not in (before.get(name), after.get(name))]
        lost += len(wrong) + (texts != found)
        orphans += len(damage)
        before = found
        if wrong or damage:
            print(number, operation, wrong, damage, flush=True)
    with _few_chunks_have_files(), _open(folder) as rag:
        _build(rag, folder, rng, before, lambda _: None)
    with closing(Database(folder / "kb", create=False)) as database:
        named = {name for kind in get_args(DerivedKind) for name in DerivedFiles(database, kind).names()}
    remaining = {path.name for path in (folder / "kb").iterdir()} - named - {DATABASE, "writer.lock"}
    if remaining:
        print(remaining, flush=True)
    return {"kills": count, "kills_lost": lost, "kills_orphans": orphans + len(remaining)}


def _last_message(receiver: Connection, before: State) -> tuple[str, State, State]:
    """Return the operation that was going on, and the documents before and after it."""
    operation, after = "", before
    try:
        while True:
            operation, before, after = json.loads(receiver.recv())
    except (EOFError, OSError):  # OSError: the child was killed while it said what it would do next
        return operation, before, after


def _open(folder: Path) -> leanrag.Rag:
    return leanrag.open(folder / "kb", model=FakeModel("x"), embedder=HashEmbedder())


def _write(folder: Path, seed: int, state: State, sender: Connection) -> None:
    rng = random.Random(seed)
    with _few_chunks_have_files(), _open(folder) as rag:
        while True:
            for operation in rng.sample(sorted(_OPERATIONS), len(_OPERATIONS)):
                say = functools.partial(_say, sender, operation, state)
                state = _OPERATIONS[operation](rag, folder, rng, state, say)


@contextmanager
def _few_chunks_have_files() -> Iterator[None]:
    """Let this process make the files of postings and vectors for a few chunks."""
    with (
        mock.patch.object(posting_index, "_LEAST", _LEAST_CHUNKS),
        mock.patch.object(posting_index, "_WORTH_A_FILE", _LEAST_CHUNKS),
        mock.patch.object(growing_index, "_LEAST", _LEAST_CHUNKS),
    ):
        yield


def _say(sender: Connection, operation: str, before: State, after: State) -> None:
    sender.send(json.dumps([operation, before, after]))


Say = Callable[[State], None]


def _text(rng: random.Random) -> str:
    return "".join(f"Sentence {i} is about {rng.random()}. " for i in range(rng.randrange(5, 200)))


def _add(rag: leanrag.Rag, _: Path, rng: random.Random, state: State, say: Say) -> State:
    documents = [Document(_text(rng), id=f"text {rng.randrange(20)}") for _ in range(3)]
    documents = list({document.id: document for document in documents}.values())
    after = state | {document.id: document.sha256 for document in documents}
    say(after)
    rag.add(*documents)
    return after


def _sync(rag: leanrag.Rag, folder: Path, rng: random.Random, state: State, say: Say) -> State:
    """Write, change and remove files, and add their folder."""
    files = folder / "files"
    for path in rng.sample([files / f"{number}.txt" for number in range(_FILES)], 4):
        if path.exists() and rng.random() < 0.4:
            path.unlink()
        else:
            path.write_text(_text(rng), encoding="utf-8")
    after = {name: text for name, text in state.items() if not name.startswith("/")}
    for path in files.iterdir():
        text = path.read_text(encoding="utf-8")
        if text:  # a child that was killed while it wrote leaves an empty file, which has no document
            document = Document(text, id=path.resolve().as_posix())
            after[document.id] = document.sha256
    say(after)
    rag.add(files, progress=False)
    return after


def _remove(rag: leanrag.Rag, _: Path, rng: random.Random, state: State, say: Say) -> State:
    names = [name for name in state if not name.startswith("/")]
    chosen = rng.sample(sorted(names), min(2, len(names)))
    after = {name: text for name, text in state.items() if name not in chosen}
    say(after)
    if chosen:
        rag.remove(*chosen)
    return after


def _repair(rag: leanrag.Rag, folder: Path, _: random.Random, state: State, say: Say) -> State:
    """Damage some vectors and words, and repair them."""
    say(state)
    with closing(sqlite3.connect(folder / "kb" / "leanrag.db")) as connection, connection:
        connection.execute("UPDATE vectors SET data = zeroblob(4) WHERE chunk % 3 = 0")
        connection.execute("DELETE FROM terms WHERE rowid % 5 = 0")
    rag.repair()
    return state


def _build(_rag: leanrag.Rag, folder: Path, _: random.Random, state: State, say: Say) -> State:
    """Remove the files that are made from the database, and make them again."""
    say(state)
    for path in [*(folder / "kb").glob("postings-*"), *(folder / "kb").glob("vectors-*")]:
        path.unlink(missing_ok=True)
    with Store(folder / "kb") as store:
        store.update_postings()
        dim = store.stats().dim
        if dim is not None:
            update_graph(store, dim)
    return state


def _merge(rag: leanrag.Rag, _: Path, rng: random.Random, state: State, say: Say) -> State:
    """Add short documents one by one: their postings are merged with those before."""
    for number in range(3):
        document = Document(_text(rng)[:400], id=f"short {number}")
        after = state | {document.id: document.sha256}
        say(after)
        rag.add(document)
        state = after
    return state


_OPERATIONS: dict[str, Callable[[leanrag.Rag, Path, random.Random, State, Say], State]] = {
    "add": _add,
    "sync": _sync,
    "remove": _remove,
    "build": _build,
    "merge": _merge,
    "repair": _repair,
}
