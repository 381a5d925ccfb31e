"""Does search find the one text that has the identifier of the question, first among its look-alikes?

A family of identifiers (versions, dates, addresses, part numbers, ...) is a set of texts that differ in the identifier and in
what it stands for. Look-alikes swap, drop or change a digit or a part, or are its beginning. A question names an identifier as
the text has it, or as people also write it: without its hyphen, in lower case, with a `v`. Prose and the other families stand
around it in one folder.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from leanrag.protocols import Embedder
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.store import Entry, Store
from leanrag.types import Chunk, Document

__all__ = ["measure"]

QUESTIONS = 40  # of each family
QUICK_QUESTIONS = 8
SEED = 5

_PARTS = (
    "pump",
    "valve",
    "filter",
    "gauge",
    "motor",
    "sensor",
    "switch",
    "bearing",
    "gasket",
    "nozzle",
    "relay",
    "fan",
)
_PLACES = (
    "boiler room",
    "north hall",
    "loading dock",
    "main office",
    "garden house",
    "press shop",
    "paint shop",
    "cellar",
)
_EVENTS = ("jammed", "leaked", "overheated", "was replaced", "was cleaned", "lost power", "was inspected", "made noise")
_COLORS = ("red", "blue", "green", "amber", "silver", "copper", "black", "white", "violet", "yellow")

Random = random.Random


@dataclass(frozen=True, slots=True)
class _Family:
    """One sort of identifier.

    Attributes:
        make: Makes an identifier.
        text: Sentence with the places `{id}` and `{fact}`.
        question: Question with the place `{id}`.
        ways: How a question may write an identifier.
    """

    make: Callable[[Random], str]
    text: str
    question: str
    ways: Sequence[Callable[[str], str]] = (str,)


def _digits(random: Random, count: int) -> str:
    return "".join(random.choices("0123456789", k=count))


def _letters(random: Random, count: int) -> str:
    return "".join(random.choices("ABCDEFGHKLMNPRSTVWX", k=count))


def _version(random: Random) -> str:
    return ".".join(str(random.randint(0, 12)) for _ in range(random.choice((2, 3, 3, 4))))


def _date(random: Random) -> str:
    return f"{random.randint(2019, 2025)}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"


def _no_hyphen(identifier: str) -> str:
    return identifier.replace("-", "")


def _hyphen(identifier: str) -> str:
    return identifier.replace("_", "-")


_FAMILIES: dict[str, _Family] = {
    "version": _Family(
        _version, "Release {id}: the {fact}.", "What happened in release {id}?", (str, lambda version: f"v{version}")
    ),
    "date": _Family(
        _date, "Report of {id}. The {fact}.", "What does the report of {id} say?", (str, lambda d: d.replace("-", "/"))
    ),
    "ip": _Family(
        lambda random: ".".join(str(random.choice((1, 2, 10, 12, 21, 100, 101, 110, 192, 168, 0))) for _ in range(4)),
        "The host {id} watches where the {fact}.",
        "What does {id} watch?",
        (str, lambda address: f"{address}:443"),
    ),
    "part": _Family(
        lambda random: f"{_letters(random, 2)}-{_digits(random, random.choice((2, 3)))}{_letters(random, 1)}",
        "Item {id} is used where the {fact}.",
        "Where is {id} used?",
        (str, _no_hyphen, str.lower),
    ),
    "error": _Family(
        lambda random: f"ERR_{random.randint(4, 5)}0{_digits(random, 2)}",
        "{id} is logged when the {fact}.",
        "When is {id} logged?",
        (str, _hyphen, str.lower),
    ),
    "cve": _Family(
        lambda random: f"CVE-{random.randint(2020, 2024)}-{random.randint(2000, 2060)}",
        "{id} was found after the {fact}.",
        "What led to {id}?",
        (str, str.lower),
    ),
    "order": _Family(
        lambda random: _digits(random, 6), "Order {id} came after the {fact}.", "What came before order {id}?"
    ),
    "section": _Family(
        lambda random: f"{random.randint(1, 9)}.{random.randint(1, 20)}.{random.randint(1, 9)}",
        "{id} The {fact}.",
        "What does section {id} say?",
    ),
    "code": _Family(
        lambda random: str(random.randint(400, 599)), "Error {id} means that the {fact}.", "What does error {id} mean?"
    ),
    "gate": _Family(
        lambda random: f"{_letters(random, 1)}-{random.randint(1, 99)}",
        "Gate {id}: the {fact}.",
        "What about gate {id}?",
        (str, str.lower),
    ),
    "row": _Family(
        lambda random: f"P-{_digits(random, 3)}",
        "| {id} | {fact} | in stock |",
        "What is P number {id}?",
        (str, _no_hyphen),
    ),
}


def _look_alikes(identifier: str, random: Random) -> Iterator[str]:
    """Yield identifiers that differ from this one by a swap, a changed or an added character."""
    digits = [i for i, character in enumerate(identifier) if character.isdigit()]
    i, other = random.choice(digits), random.choice(digits)
    swapped = list(identifier)
    swapped[i], swapped[other] = swapped[other], swapped[i]
    yield "".join(swapped)
    yield f"{identifier[:i]}{(int(identifier[i]) + 1) % 10}{identifier[i + 1 :]}"
    yield f"{identifier}{random.randint(1, 9)}" if identifier[-1].isdigit() else f"{identifier[:-1]}Z"


def _identifiers(family: _Family, random: Random, count: int) -> list[tuple[str, bool]]:
    """Return different identifiers, and whether each is asked about; its look-alikes stand behind it."""
    made: dict[str, bool] = {}
    while sum(made.values()) < count:
        identifier = family.make(random)
        if _same(identifier) not in map(_same, made):
            made[identifier] = True
            for other in _look_alikes(identifier, random):
                if _same(other) not in map(_same, made):
                    made[other] = False
    return list(made.items())


def _same(identifier: str) -> str:
    return identifier.replace("-", "").casefold()


def _fact(random: Random) -> str:
    return f"{random.choice(_COLORS)} {random.choice(_PARTS)} in the {random.choice(_PLACES)} {random.choice(_EVENTS)}"


def _prose(random: Random) -> Iterator[str]:
    for number in range(60):
        yield f"{_fact(random).capitalize()}, and {random.randint(2, 9)} people wrote a report about it in {2000 + number % 25}."


def measure(quick: bool, embedder: Embedder) -> dict[str, float]:
    """Return the share of the questions whose text is found first, `identifiers_found@1`, and the same by family.

    Args:
        quick: Fewer questions.
        embedder: Embeds texts and questions.
    """
    random = Random(SEED)
    count = QUICK_QUESTIONS if quick else QUESTIONS
    texts: list[str] = list(_prose(random))
    asked: list[tuple[str, str, str]] = []  # family, question, text
    for name, family in _FAMILIES.items():
        for identifier, is_asked in _identifiers(family, random, count):
            texts.append(family.text.format(id=identifier, fact=_fact(random)))
            if is_asked:
                written = random.choice(family.ways)(identifier)
                asked.append((name, family.question.format(id=written), texts[-1]))
    found = _find([question for _, question, _ in asked], texts, embedder)
    right = {name: [] for name in _FAMILIES}  # type: dict[str, list[bool]]
    for (name, _, text), first in zip(asked, found, strict=True):
        right[name].append(text == first)
    figures = {f"identifiers_{name}_found@1": float(np.mean(hits)) for name, hits in right.items()}
    return {"identifiers_found@1": float(np.mean([hit for hits in right.values() for hit in hits])), **figures}


def _find(questions: Iterable[str], texts: Sequence[str], embedder: Embedder) -> list[str]:
    """Return the text that search puts first for each question."""
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        store.bind(embedder.id, embedder.dim, "whole")
        rows = embedder.embed_documents(texts)
        documents = [Document(text, id=str(i)) for i, text in enumerate(texts)]
        store.put_many(
            Entry(document, [Chunk(document.id, 0, len(document.text), document.text)], rows[i : i + 1])
            for i, document in enumerate(documents)
        )
        index = FaissIndex(embedder.dim)
        index.update(store)
        retriever = HybridRetriever(store, index, embedder)
        return [hits[0].chunk.text if (hits := retriever.retrieve(question, 1)) else "" for question in questions]
