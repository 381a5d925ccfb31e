"""Answer questions about a glossary with your own stage of every kind. No model file is needed.

    python -m examples.stages FILE.terms "What is a chunk?"

A file of terms has lines such as `chunk: A part of a document.` Each stage below is the smallest that works. `docs/stages.md`
explains what each must promise. Without one of them, leanrag uses its own stage.
"""

from __future__ import annotations

import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import leanrag
from leanrag.generation import BaseLanguageModel, PieceStream
from leanrag.protocols import Embedder, GenerateOptions, VectorIndex
from leanrag.retrieval import DenseRetriever, FlatIndex
from leanrag.retrieval.store import Store
from leanrag.types import Answer, AskKey, Chunk, Document, DroppedItem, Hit, PackedItem, Packing, Prompt, Segment


def read_terms(data: bytes, path: Path, encoding: str | None) -> Document:
    """Read a file of terms. Markdown keeps each term with its explanation."""
    lines = [line.partition(":") for line in data.decode(encoding or "utf-8").splitlines() if line.strip()]
    text = "\n\n".join(f"{term.strip()}:{explanation}" for term, _, explanation in lines)
    return Document(text, kind="markdown", title=path.stem)


class TermChunker:
    """Makes a chunk of each term."""

    id = "terms-1"

    def chunk(self, document: Document) -> list[Chunk]:
        chunks, start = [], 0
        for part in document.text.split("\n\n"):
            end = start + len(part)
            if part.strip():
                chunks.append(Chunk(document.id, start, end, part, title=document.title, source=document.source))
            start = end + 2
        return chunks


class LetterEmbedder:
    """Makes vectors of the groups of three letters in a text, so that "chunk" and "chunks" are similar."""

    id, dim, max_tokens = "letters-256", 256, 256

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.full((len(texts), self.dim), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for start in range(len(text) - 2):
                row[zlib.crc32(text[start : start + 3].lower().encode()) % self.dim] += 1
        unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    embed_queries = embed_documents


class NumpyIndex(FlatIndex):
    """An exact index; a class that makes one from the number of columns is a stage too."""


def search_vectors(store: Store, index: VectorIndex, embedder: Embedder) -> DenseRetriever:
    """Search by vectors alone."""
    return DenseRetriever(store, index, embedder)


class TermFirst:
    """Puts terms that the question names before all others."""

    def rerank(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        return sorted(hits, key=lambda hit: hit.chunk.text.partition(":")[0].lower() not in question.lower())


class WholeTerms:
    """Packs whole terms, as many as fit."""

    def pack(
        self,
        hits: Sequence[Hit],
        budget: int,
        count_source: Callable[[int, str, str], int],
        *,
        question: str = "",  # noqa: ARG002 - other packers read it
    ) -> Packing:
        items: list[PackedItem] = []
        dropped, used = [], 0
        for hit in hits:
            chunk, number = hit.chunk, len(items) + 1
            tokens = count_source(number, chunk.title, chunk.text)
            if used + tokens > budget:
                dropped.append(DroppedItem(hit, "budget", tokens))
                continue
            segment = Segment(0, len(chunk.text), 0, chunk.start, chunk.end)
            items.append(PackedItem(number, hit, chunk.text, (segment,), tokens))
            used += tokens
        return Packing(tuple(items), tuple(dropped), budget, used)


class FirstSource(BaseLanguageModel):
    """Answers with the explanation of the first source."""

    name = "first-source"

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PieceStream:
        first = self.render(prompt).splitlines()[0]
        return PieceStream([first.partition(": ")[2]], self, prompt, options)


TEMPLATE = leanrag.PromptTemplate(system="", source="{text}\n", question="Question: {question}\nAnswer:", is_chat=False)


class SameWords:
    """Believes an answer if all of its long words are in the source."""

    def check(self, pairs: Iterable[tuple[str, str]]) -> list[float]:
        return [
            float({word for word in claim.split()[-3:] if len(word) > 3} <= set(text.split())) for text, claim in pairs
        ]


class Dictionary:
    """Remembers answers for as long as the program runs."""

    def __init__(self) -> None:
        self.answers: dict[AskKey, Answer] = {}

    def get(self, key: AskKey) -> Answer | None:
        return self.answers.get(key)

    def put(self, key: AskKey, answer: Answer) -> None:
        self.answers[key] = answer


class Tally:
    """Counts the tokens of each model."""

    def __init__(self) -> None:
        self.tokens: Counter[str] = Counter()

    def record(self, answer: Answer) -> None:
        for step in answer.steps:
            self.tokens[step.model] += step.usage.total_tokens


def open_glossary(folder: Path, ledger: Tally) -> leanrag.Rag:
    """Open a folder with all of these stages."""
    readers: Mapping[str, Callable[[bytes, Path, str | None], Document]] = {".terms": read_terms}
    return leanrag.open(
        folder,
        model=FirstSource(),
        embedder=LetterEmbedder(),
        readers=readers,
        chunker=TermChunker(),
        index=NumpyIndex,
        retriever=search_vectors,
        reranker=TermFirst(),
        packer=WholeTerms(),
        template=TEMPLATE,
        entailment=SameWords(),
        cache=Dictionary(),
        ledger=ledger,
    )


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, question = Path(sys.argv[1]), sys.argv[2]
    tally = Tally()
    with open_glossary(path.with_suffix(".kb"), tally) as rag:
        rag.add(path)
        print(rag.ask(question))
    print(f"tokens: {dict(tally.tokens)}")


if __name__ == "__main__":
    main()
