"""How many damaged databases crash the library, raise other errors than its own, or show wrong text that `doctor` does not notice?

Each database is a copy of a sound one with flipped bits, a zeroed page, or a cut end, and is used in a process of its own.
Twenty more have single values changed by SQL.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import leanrag
from leanrag.testing import FakeModel, HashEmbedder

__all__ = ["CRAFTED", "damaged_databases", "use_damaged"]

CRAFTED = (
    "UPDATE vectors SET data = zeroblob(length(data)) WHERE chunk = 3",
    "UPDATE vectors SET data = zeroblob(3) WHERE chunk = 3",
    "UPDATE vectors SET data = 'text' WHERE chunk = 3",
    "DELETE FROM vectors WHERE chunk = 3",
    "UPDATE texts SET text = replace(text, 'not', 'now') WHERE document = 3",
    "UPDATE texts SET text = x'ff' WHERE document = 3",
    "UPDATE texts SET text = 7 WHERE document = 3",
    "DELETE FROM texts WHERE document = 3",
    "UPDATE chunks SET start = start + 1 WHERE id = 3",
    "UPDATE chunks SET stop = 1000000 WHERE id = 3",
    "UPDATE chunks SET start = 'x' WHERE id = 3",
    "UPDATE chunks SET heading = x'ff' WHERE id = 3",
    "UPDATE documents SET title = 'Another title' WHERE key = 3",
    "UPDATE documents SET title = x'ff' WHERE key = 3",
    "UPDATE documents SET metadata = '[' WHERE key = 3",
    "UPDATE documents SET metadata = '7' WHERE key = 3",
    "UPDATE documents SET source = 7 WHERE key = 3",
    "UPDATE meta SET value = 'x' WHERE key = 'generation'",
    "UPDATE meta SET value = '[]' WHERE key = 'embedder'",
    "UPDATE features SET data = x'00'",
)
"""Statements of which each damages a database."""

_DOCUMENTS = 40
_SECONDS = 60  # after which a process is killed, which counts as a crash


def damaged_databases(folder: Path, count: int) -> dict[str, int | None]:
    """Damage `count` copies of a database at random and some by hand, use each, and return the figures."""
    sound = folder / "sound"
    with _open(sound) as rag:
        rag.add(*_documents())
        rag.ask("What is not in river 7?")
        expected = _content(rag)
    outcomes: Counter[str] = Counter()
    for number in range(count + len(CRAFTED)):
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(sound, copy)
        if number < count:
            _damage(copy / "leanrag.db", random.Random(number))
        else:
            with closing(sqlite3.connect(copy / "leanrag.db")) as connection, connection:
                connection.execute(CRAFTED[number - count])
        outcome = _in_a_process(copy, expected)
        if outcome not in ("noticed", "unharmed"):
            print(number, outcome, flush=True)
        outcomes[outcome.partition(":")[0]] += 1
    print(dict(outcomes), flush=True)
    return {
        "damaged": count + len(CRAFTED),
        "damaged_crashes": outcomes["crash"],
        "damaged_untyped": outcomes["untyped"],
        "damaged_unnoticed": outcomes["unnoticed"],
        "damaged_unrepaired": outcomes["unrepaired"],
    }


def use_damaged(folder: Path, expected: str) -> str:
    """Read, search, ask, check and repair a folder; return "noticed", "unharmed", or what went wrong."""
    try:
        is_changed = False
        try:
            with _open(folder) as rag:
                is_changed = _content(rag) != expected
                rag.ask("What is not in river 7?")
                rag.add_text("A new text about a river.", title="new")
        except leanrag.LeanRAGError:
            is_changed = True
        try:
            with _open(folder) as rag:
                damage = rag.check()
                if is_changed and not damage:
                    return "unnoticed: wrong text or an error, and no damage"
                rag.repair()
                if remaining := rag.check():
                    return f"unrepaired: {remaining[0]}"
        except leanrag.LeanRAGError:
            return "noticed"  # the file cannot be opened or repaired, and the error says so
        return "noticed" if damage else "unharmed"
    except Exception as error:  # noqa: BLE001 - what is counted
        return f"untyped: {type(error).__name__}: {error}"


def _in_a_process(folder: Path, expected: str) -> str:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(use_damaged(folder, expected)))
    process.start()
    sender.close()
    try:
        return str(receiver.recv()) if receiver.poll(_SECONDS) else "crash: it took too long"
    except EOFError:
        return "crash: the process died"
    finally:
        process.kill()
        process.join()


def _open(folder: Path) -> leanrag.Rag:
    return leanrag.open(folder, model=FakeModel("The river is long [1]."), embedder=HashEmbedder(), cache="exact")


def _documents() -> list[leanrag.Document]:
    return [
        leanrag.Document(
            f"# River {number}\n\n" + f"River {number} is not short. It has {number * 7} bridges. " * 30,
            id=f"document {number}",
            title=f"Title {number}",
            kind="markdown",
            metadata={"number": number},
        )
        for number in range(_DOCUMENTS)
    ]


def _content(rag: leanrag.Rag) -> str:
    """Return all text that a user can see: documents, and the hits of some questions."""
    documents = [rag.get_document(record.id) for record in rag.documents()]
    hits = [rag.search(f"How many bridges has river {number}?", 5) for number in range(0, _DOCUMENTS, 4)]
    return json.dumps([repr(documents), [[repr(hit.chunk) for hit in found] for found in hits]])


def _damage(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    kind = rng.randrange(8)
    if kind == 0:
        del data[rng.randrange(len(data)) :]
    elif kind == 1:
        start = rng.randrange(len(data) // 4096) * 4096
        data[start : start + 4096] = bytes(4096)
    else:
        for _ in range(rng.choice((1, 1, 8, 64))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
