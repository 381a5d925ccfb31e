"""From the public data to rows: search and pack as in use, draw the variants of each question, and write the rows to a file."""

from __future__ import annotations

import functools
import gzip
import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

import leanrag
from benchmarks.training.material import Material, is_held_out
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.llama import LlamaCppEmbedder, LlamaCppModel
from leanrag.pipeline.copies import find_embedder
from leanrag.prompting import ModelProfile, Style
from leanrag.protocols import Embedder
from leanrag.testing import HashEmbedder
from leanrag.training.examples import Example
from leanrag.training.rows import Row, RowMaker, Variant
from leanrag.types import Hit, Message

__all__ = ["make_rows", "read_rows", "write_rows"]

EMBEDDER = "all-minilm-l6-v2"
_SENTENCE_SHARE = 0.12  # of the answerable questions, asked again for a sentence
_ORDER_SHARE = 0.08  # of the rows, with an order in a source
_LEAST = (0.0, 0.1)  # as small models get their sources, and as large ones do
_KIND_SHARE = 0.45  # of the questions about documents that are not prose
_WITHOUT_SHARE = {"nq": 0.7, "squad-v2-dev": 0.3, "xquad-en": 0.3, "stories": 0.2, "kinds": 0.15, "unlabelled": 0.0}


def make_rows(material: Material, model: LlamaCppModel, profile: ModelProfile, folder: Path) -> Iterator[Row]:
    """Yield the rows of a data set, without those of held-out articles.

    Args:
        material: The data set.
        model: Counts tokens.
        profile: How the reader will be asked.
        folder: A database of the documents; it is made if it does not exist.
    """
    examples = [example for example in material.examples if not is_held_out(example.group)]
    embedder: Embedder = HashEmbedder(dim=512) if material.is_grouped else LlamaCppEmbedder(find_embedder(EMBEDDER))
    with leanrag.open(folder, model=model, embedder=embedder) as rag:
        rag.add(*material.documents)
        vectors = SentenceVectors(embedder)
        stored = functools.partial(rag._store.get_feature, vectors.name)
        scorer = SentenceScorer() if material.is_grouped else SentenceScorer(vectors, stored)

        def search(example: Example, k: int) -> Sequence[Hit]:
            return rag.search(example.question, k, where={"group": example.group} if material.is_grouped else None)

        maker = RowMaker(search, scorer, model.count_tokens, profile)
        for example in tqdm(examples, desc=material.name, disable=None):
            source = random.Random(f"{material.name} {example.question}")
            if material.name == "kinds" and source.random() > _KIND_SHARE:
                continue
            yield from maker.rows(example, _variants(material.name, example, source))
            if example.answers and source.random() < _SENTENCE_SHARE:
                style: Style = source.choice(("sentence", "explanation"))
                yield from maker.rows(replace(example, style=style), [Variant("all", least=source.choice(_LEAST))])


def _variants(name: str, example: Example, source: random.Random) -> list[Variant]:
    def draw_all() -> Variant:
        return Variant("all", source.randrange(120, 420), source.choice(_LEAST))

    if name in ("stories", "kinds"):
        chosen = [source.choice((Variant("gold"), Variant("few", 450), draw_all(), draw_all()))]
    elif name == "unlabelled":
        chosen = [source.choice((Variant("gold"), draw_all()))]
    elif example.answers and name == "nq":
        chosen = [Variant("gold"), Variant("few", 450), draw_all(), draw_all()]
    elif example.answers and name == "xquad-en":
        chosen = [Variant("gold"), Variant("few", 450), draw_all()]
    else:
        chosen = [Variant("gold"), draw_all()]
    if example.answers and source.random() < _WITHOUT_SHARE[name]:
        chosen.append(Variant("without", source.randrange(120, 420), source.choice(_LEAST)))
    return [
        replace(variant, has_order=source.random() < _ORDER_SHARE, has_titles=source.random() < 0.8)
        for variant in chosen
    ]


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write rows to a compressed file, one JSON object a line; return their number."""
    count = 0
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [_row(json.loads(line)) for line in file]


def _row(fields: dict[str, Any]) -> Row:
    messages = tuple(Message(**each) for each in fields.pop("prompt"))
    answers, documents = tuple(fields.pop("answers")), tuple(fields.pop("documents"))
    return Row(messages, **fields, answers=answers, documents=documents)
