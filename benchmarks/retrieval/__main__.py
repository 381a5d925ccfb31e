"""Does fusion find more than the better of its two sides? Recall of dense, BM25, hybrid and plain rank fusion.

Recall@k is the share of questions whose passage is among the first k distinct passages of the hits. A passage longer than
the embedder's window is several chunks; it takes the place of its best one.

    python -m benchmarks.retrieval --data DIR --json FILE [--quick] [--only fusion|extras]

The section `extras` measures what may be set around the retriever; see `benchmarks.retrieval.extras`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.common import Questions, finish, parse_arguments, read_nq, read_squad
from benchmarks.retrieval.extras import REWRITER, measure_extras
from leanrag.documents.chunking import DocumentChunker
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.metrics import bootstrap_interval, recall_at_k
from leanrag.models import resolve
from leanrag.pipeline.adding import Ingestion
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import Chunker, Embedder
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import BM25Retriever, DenseRetriever, HybridRetriever, reciprocal_rank_fusion
from leanrag.retrieval.store import Store
from leanrag.types import Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

KS = (1, 3, 5, 10)
DEPTH = 50  # hits asked for: enough for 10 distinct passages
QUICK_QUESTIONS = 200  # of each set, over the passages that they were asked about
EMBEDDER = "all-minilm-l6-v2"
SECTIONS = ("fusion", "extras")


class RememberingEmbedder:
    """Hands out query vectors made in one batch: the retrievers share them, and are timed without the embedder."""

    def __init__(self, embedder: Embedder, questions: Sequence[str]) -> None:
        self.id, self.dim, self.max_tokens = embedder.id, embedder.dim, embedder.max_tokens
        self.count_tokens, self.embed_documents = embedder.count_tokens, embedder.embed_documents
        self._rows = dict(zip(questions, embedder.embed_queries(questions), strict=True))

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of texts seen before."""
        return np.stack([self._rows[text] for text in texts])


def measure(questions: Questions, embedder: Embedder, chunker: Chunker) -> dict[str, float]:
    """Return the figures of one data set."""
    found: dict[str, list[list[bool]]] = {"dense": [], "bm25": [], "rrf": [], "hybrid": []}
    seconds = []
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        store.bind(embedder.id, embedder.dim, chunker.id)
        Ingestion(store, chunker, embedder).run(questions.documents)
        index = FaissIndex(embedder.dim)
        index.add(*store.all_vectors())
        remembering = RememberingEmbedder(embedder, [question.text for question in questions.questions])
        dense, bm25 = DenseRetriever(store, index, remembering), BM25Retriever(store)
        hybrid = HybridRetriever(store, index, remembering)
        for question in questions.questions:
            near = _documents(dense.retrieve(question.text, DEPTH))
            matching = _documents(bm25.retrieve(question.text, DEPTH))
            started = time.perf_counter()
            mixed = _documents(hybrid.retrieve(question.text, DEPTH))
            seconds.append(time.perf_counter() - started)
            for name, ranked in (
                ("dense", near),
                ("bm25", matching),
                ("rrf", _fused(near, matching)),
                ("hybrid", mixed),
            ):
                found[name].append([recall_at_k(ranked, question.document_id, k) for k in KS])
    hits_of = {name: np.array(rows, np.float64) for name, rows in found.items()}  # each (n, len(KS))
    figures: dict[str, float] = {f"{questions.name}_hybrid_ms": 1000 * float(np.median(seconds))}
    for name, rows in hits_of.items():
        for column, k in enumerate(KS):
            low, high = bootstrap_interval(rows[:, column])
            figures[f"{questions.name}_{name}_recall@{k}"] = float(rows[:, column].mean())
            print(f"{questions.name:6} {name:7} recall@{k:<3} {rows[:, column].mean():.4f}  [{low:.4f}, {high:.4f}]")
    return {**figures, **gains(questions.name, hits_of)}


def _documents(hits: Sequence[Hit]) -> list[str]:
    return list(dict.fromkeys(chunk.document_id for hit in hits for chunk in (hit.chunk, *hit.copies)))


def _fused(*rankings: Sequence[str]) -> list[str]:
    """Return the plain, equal reciprocal rank fusion of rankings of documents."""
    names = list(dict.fromkeys(name for ranking in rankings for name in ranking))
    numbers = {name: number for number, name in enumerate(names)}
    _, order = reciprocal_rank_fusion([np.array([numbers[name] for name in ranking], np.int64) for ranking in rankings])
    return [names[number] for number in order.tolist()]


def gains(name: str, hits_of: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    """Return hybrid (and plain rank fusion) minus the better single side at each k, and the least of them."""
    single = np.maximum(hits_of["dense"].mean(axis=0), hits_of["bm25"].mean(axis=0))
    figures: dict[str, float] = {}
    for fusion in ("hybrid", "rrf"):
        gain = hits_of[fusion].mean(axis=0) - single
        figures |= {f"{name}_{fusion}_gain@{k}": float(value) for k, value in zip(KS, gain, strict=True)}
        figures[f"{name}_{fusion}_gain_min"] = float(gain.min())
    for column, k in enumerate(KS):
        paired = np.column_stack([hits_of[side][:, column] for side in ("hybrid", "dense", "bm25")])
        low, high = bootstrap_interval(paired, statistic=_gain)
        print(f"{name:6} hybrid  gain@{k:<5} {figures[f'{name}_hybrid_gain@{k}']:+.4f}  [{low:+.4f}, {high:+.4f}]")
    return figures


def _gain(drawn: NDArray[np.float64]) -> float:
    hybrid, dense, bm25 = drawn.mean(axis=0)
    return float(hybrid - max(dense, bm25))


def shortened(questions: Questions) -> Questions:
    """Return the first questions and the passages that they were asked about."""
    kept = questions.questions[:: max(1, len(questions.questions) // QUICK_QUESTIONS)][:QUICK_QUESTIONS]
    wanted = {question.document_id for question in kept}
    documents = tuple(document for document in questions.documents if document.id in wanted)
    return Questions(questions.name, documents, kept)


def measure_fusion(data: Path, embedder: Embedder, *, is_quick: bool) -> dict[str, float]:
    """Return the recall of each side, and of both together."""
    chunker = DocumentChunker(embedder.count_tokens)
    figures: dict[str, float] = {}
    count = 0
    for questions in (read_squad(data), read_nq(data)):
        part = shortened(questions) if is_quick else questions
        figures |= {f"{part.name}_n": len(part.questions), f"{part.name}_passages": len(part.documents)}
        figures |= measure(part, embedder, chunker)
        count += len(part.questions)
    return {**figures, "n": count}


def main() -> None:
    arguments = parse_arguments(__doc__, sections=SECTIONS)
    path = find_embedder(EMBEDDER)
    embedder = LlamaCppEmbedder(path)
    figures: dict[str, float] = {"n": 0}
    if arguments.only in (None, "fusion"):
        figures |= measure_fusion(arguments.data, embedder, is_quick=arguments.is_quick)
    models = {EMBEDDER: path, REWRITER: resolve(REWRITER)}
    if arguments.only in (None, "extras"):
        for part in measure_extras(arguments.data, embedder, is_quick=arguments.is_quick):
            figures |= part
            finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)
    else:
        finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
