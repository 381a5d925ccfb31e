"""The same chunks and questions in leanrag and in other libraries, in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpus.ingesting import recall
from benchmarks.corpus.material import CHUNKS, Questions, entries
from leanrag.retrieval import GrowingIndex, HybridRetriever
from leanrag.retrieval.store import Store

__all__ = ["PEERS", "compare_peers"]

PEERS = ("llamaindex", "txtai", "lancedb", "sqlite_vec", "chroma")
_PROGRAM = Path(__file__).with_name("peer_program.py")
_TOP = 10
_BATCH = 100  # documents of a commit
_SECONDS = 900  # after which a peer is stopped


def compare_peers(python: str, n_chunks: int, asked: Questions) -> dict[str, float | None]:
    """Return the figures of leanrag and of the peers that `python` has; a peer that fails is said and left out.

    Args:
        python: The Python that has the peers.
        n_chunks: Chunks that are added and searched.
        asked: The questions.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures, vectors, found = _measure_own(folder, n_chunks, asked)
        (folder / "questions.json").write_text(json.dumps(asked.texts), encoding="utf-8")
        np.save(folder / "vectors.npy", vectors)
        np.save(folder / "queries.npy", asked.vectors)
        nearest = np.argsort(-(asked.vectors @ vectors.T), axis=1)[:, :_TOP]
        hybrid: dict[str, float] = {}
        for peer in PEERS:
            result = _run(python, peer, folder)
            if result is None:
                continue
            figures[f"{peer}_add_s"] = result["add_s"]
            figures[f"{peer}_recall10"] = recall(_rows(result["dense"]["found"]), nearest)
            figures[f"{peer}_dense_ms"] = statistics.median(result["dense"]["seconds"]) * 1e3
            if "hybrid" in result:
                figures[f"{peer}_hybrid_ms"] = hybrid[peer] = statistics.median(result["hybrid"]["seconds"]) * 1e3
                figures[f"{peer}_same10"] = recall(_rows(result["hybrid"]["found"]), found)
    figures["hybrid_vs_best_peer"] = _ratio(figures["own_hybrid_ms"], list(hybrid.values()))
    for peer in ("lancedb", "sqlite_vec"):
        seconds = figures.get(f"{peer}_add_s")
        figures[f"add_vs_{peer}"] = _ratio(figures["own_add_s"], [] if seconds is None else [seconds])
    return figures


def _measure_own(
    folder: Path, n_chunks: int, asked: Questions
) -> tuple[dict[str, float | None], NDArray[np.float32], NDArray[np.int64]]:
    """Return the figures of leanrag, the vectors of all chunks, and which chunks it found; the texts go to `texts.json`."""
    documents = list(entries(0, n_chunks // CHUNKS))
    vectors = np.concatenate([entry.vectors for entry in documents])
    texts = [chunk.text for entry in documents for chunk in entry.chunks]
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    started = time.process_time()
    with Store(folder / "leanrag") as store:
        store.bind(asked.id, asked.dim, "chunks with vectors")
        for start in range(0, len(documents), _BATCH):
            store.put_many(documents[start : start + _BATCH])
        store.update_postings()
    figures: dict[str, float | None] = {"own_add_s": time.process_time() - started}
    number = {(chunk.document_id, chunk.start): i for i, chunk in enumerate(c for e in documents for c in e.chunks)}
    with Store(folder / "leanrag") as store:
        index = GrowingIndex(asked.dim)
        retriever = HybridRetriever(store, index, asked)
        index.update(store)
        store.update_postings()
        retriever.retrieve(asked.texts[0], _TOP)
        seconds, found = [], []
        for text in asked.texts:
            started = time.process_time()
            index.update(store)
            hits = retriever.retrieve(text, _TOP)
            seconds.append(time.process_time() - started)
            found.append([number[hit.chunk.document_id, hit.chunk.start] for hit in hits])
    figures["own_hybrid_ms"] = statistics.median(seconds) * 1e3
    return figures, vectors, _rows(found)


def _run(python: str, peer: str, folder: Path) -> dict[str, Any] | None:
    """Return what the program of a peer printed; None if it failed."""
    command = [python, str(_PROGRAM), peer, str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        print(f"{peer} is left out: {error.stderr.strip().splitlines()[-1:]}", flush=True)
        return None
    except (subprocess.TimeoutExpired, OSError) as error:
        print(f"{peer} is left out: {error}", flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _rows(found: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return lists of ten ids as an array; a shorter list ends with -1."""
    return np.array([[*ids, *[-1] * (_TOP - len(ids))] for ids in found], np.int64)


def _ratio(own: float | None, others: Sequence[float]) -> float | None:
    return None if own is None or not others else own / min(others)
