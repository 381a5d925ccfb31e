"""The public data that the reader learns from, as documents and examples, and the part of it that training never sees."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.training.kinds import make_kind_documents
from leanrag.training.examples import Example, part_of
from leanrag.types import Document

__all__ = ["HELD_OUT_SEED", "HELD_OUT_SHARE", "Material", "is_held_out", "read_material", "read_unlabelled"]

HELD_OUT_SHARE, HELD_OUT_SEED = 0.12, 5
"""The part of the articles, by a hash of their titles, that no reader is trained on."""

_MAX_STORY_WORDS = 12
_KIND_DOCUMENTS = 40  # of each kind


@dataclass(frozen=True, slots=True)
class Material:
    """One data set: every passage is a document.

    Attributes:
        name: Its name.
        documents: The passages.
        examples: The questions.
        is_grouped: Whether a question is about the documents of its group alone (their metadata has the key `group`).
    """

    name: str
    documents: tuple[Document, ...]
    examples: tuple[Example, ...]
    is_grouped: bool = False


def is_held_out(title: str) -> bool:
    """Return whether the article with this title is kept for measuring."""
    return part_of(title.replace("_", " "), share=HELD_OUT_SHARE, seed=HELD_OUT_SEED) == "development"


def read_material(data: Path) -> list[Material]:
    """Return all data sets with answers, held-out articles included."""
    return [
        read_nq(data),
        read_squad(data, "squad-v2-dev"),
        read_squad(data, "xquad-en"),
        read_stories(data),
        read_kinds(),
    ]


def read_nq(data: Path) -> Material:
    """Return Natural Questions, each about its gold passage."""
    documents: dict[str, Document] = {}
    examples = []
    for row in _lines(data / "nq-open-oracle.jsonl.gz"):
        gold = row["ctxs"][0]
        identity = _identity(gold["title"], gold["text"])
        documents[identity] = Document(gold["text"], id=identity, title=gold["title"])
        examples.append(Example(row["question"], tuple(row["answers"]), identity, gold["title"]))
    return Material("nq", tuple(documents.values()), tuple(examples))


def read_squad(data: Path, name: str) -> Material:
    """Return a file in SQuAD's format, with the questions that its paragraph does not answer."""
    with gzip.open(data / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        articles = json.load(file)["data"]
    documents, examples = [], []
    for article in articles:
        title = article["title"].replace("_", " ")
        for paragraph in article["paragraphs"]:
            identity = _identity(title, paragraph["context"])
            documents.append(Document(paragraph["context"], id=identity, title=title))
            for row in paragraph["qas"]:
                answers = () if row.get("is_impossible") else tuple(dict.fromkeys(a["text"] for a in row["answers"]))
                examples.append(Example(row["question"], answers, identity, title))
    return Material(name, tuple(documents), tuple(examples))


def read_stories(data: Path) -> Material:
    """Return FairytaleQA: the questions whose short answer stands in the section of the story that they are about."""
    documents: dict[str, Document] = {}
    examples = []
    for row in _lines(data / "fairytaleqa.jsonl.gz"):
        identity = _identity(row["story"], row["context"])
        documents[identity] = Document(
            row["context"], id=identity, title=row["story"], metadata={"group": row["story"]}
        )
        answer = row["answer"].strip().rstrip(".")
        is_short = len(answer.split()) <= _MAX_STORY_WORDS
        if row["kind"] == "explicit" and is_short and answer.casefold() in row["context"].casefold():
            examples.append(Example(row["question"], (answer,), identity, row["story"], "story"))
    return Material("stories", tuple(documents.values()), tuple(examples), is_grouped=True)


def read_kinds() -> Material:
    """Return documents that are not prose, from seeded generators."""
    documents, examples = make_kind_documents(_KIND_DOCUMENTS)
    return Material("kinds", tuple(documents), tuple(examples), is_grouped=True)


def read_unlabelled(data: Path) -> Material:
    """Return SQuAD paragraphs with questions whose answers are not known, for a teacher to label."""
    documents: dict[str, Document] = {}
    examples = []
    for row in _lines(data / "squad-unlabelled.jsonl.gz"):
        title = row["title"].replace("_", " ")
        identity = _identity(title, row["context"])
        documents[identity] = Document(row["context"], id=identity, title=title)
        examples.append(Example(row["question"], (), identity, title))
    return Material("unlabelled", tuple(documents.values()), tuple(examples))


def _identity(title: str, text: str) -> str:
    return hashlib.sha256(f"{title}\n{text}".encode()).hexdigest()[:16]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)
