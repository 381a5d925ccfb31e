"""Figures of one kind: what search finds, and whether the prompt holds the answer, with the default packer and the greedy one."""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import leanrag
from benchmarks.kinds.material import Kind, KindQuestion, contains_span
from leanrag.errors import BudgetError
from leanrag.evidence.greedy import GreedyPacker
from leanrag.prompting import CHAT_TEMPLATE
from leanrag.protocols import Embedder, LanguageModel
from leanrag.types import Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BUDGETS", "KS", "PACKERS", "KindResult", "RememberedVectors", "measure_kind", "opened"]

BUDGETS = (100, 200, 300)
KS = (1, 5, 10)
PACKERS = ("default", "greedy")
LEAST_SHARE = 0.25  # of the questions of a kind that a budget must be large enough for to be measured


@dataclass(frozen=True, slots=True)
class KindResult:
    """What was measured of one kind; shares are in [0, 1].

    Attributes:
        found: Share of the questions whose key span is in the first k hits, by k.
        in_prompt: Share of the questions whose spans are all in the prompt, by packer and budget. Questions whose least text
            does not fit the budget are not counted; a budget that fewer than `LEAST_SHARE` of them fit has no share.
        outcomes: The same by question that is counted.
        failures: Questions that the default packer misses at the largest budget, each with what went wrong.
    """

    kind: Kind
    found: Mapping[int, float]
    in_prompt: Mapping[tuple[str, int], float]
    outcomes: Mapping[tuple[str, int], Sequence[bool]]
    failures: Sequence[tuple[KindQuestion, str]] = field(default=())

    @property
    def gain(self) -> float:
        """Default packer less greedy packer at the budget where that is least."""
        budgets = [budget for packer, budget in self.in_prompt if packer == "default"]
        return min(
            (self.in_prompt["default", budget] - self.in_prompt["greedy", budget] for budget in budgets), default=0.0
        )


class RememberedVectors:
    """An embedder that computes the vector of a text once, and keeps the vectors in a file between runs.

    Args:
        embedder: Computes them.
        folder: Where the file is; its name is a hash of the embedder's.
    """

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self.id, self.dim, self.max_tokens = embedder.id, embedder.dim, embedder.max_tokens
        self.count_tokens = embedder.count_tokens
        self._embedder = embedder
        self._path = folder / f"leanrag-kinds-{hashlib.sha256(embedder.id.encode()).hexdigest()[:16]}.npz"
        self._rows: dict[str, NDArray[np.float32]] = {}
        with contextlib.suppress(OSError, ValueError, KeyError):
            stored = np.load(self._path)
            self._rows = dict(zip(stored["keys"].tolist(), stored["rows"], strict=True))

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of texts of documents."""
        return self._embed("document", texts)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of questions."""
        return self._embed("query", texts)

    def _embed(self, role: str, texts: Sequence[str]) -> NDArray[np.float32]:
        keys = [hashlib.sha256(f"{role}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:32] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        if missing:
            embed = self._embedder.embed_documents if role == "document" else self._embedder.embed_queries
            self._rows.update(zip(missing, embed(list(missing.values())), strict=True))
        return np.stack([self._rows[key] for key in keys]) if keys else np.zeros((0, self.dim), np.float32)

    def save(self) -> None:
        """Write the vectors to the file."""
        if self._rows:
            with contextlib.suppress(OSError):
                np.savez(self._path, keys=np.array(list(self._rows)), rows=np.stack(list(self._rows.values())))


@contextlib.contextmanager
def opened(kind: Kind, model: LanguageModel, embedder: Embedder) -> Iterator[dict[str, leanrag.Rag]]:
    """Write the files of a kind, add them, and return the database opened with each packer, by its name."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        documents = Path(folder) / "documents"
        documents.mkdir()
        for name, text in kind.files.items():
            (documents / name).write_text(text, encoding="utf-8")
        database = Path(folder) / "database"
        default = stack.enter_context(leanrag.open(database, model=model, embedder=embedder))
        default.add(documents, progress=False)
        greedy = stack.enter_context(leanrag.open(database, model=model, embedder=embedder, packer=GreedyPacker()))
        yield {"default": default, "greedy": greedy}


def measure_kind(kind: Kind, model: LanguageModel, embedder: Embedder) -> KindResult:
    """Return the figures of a kind."""
    found: dict[int, list[bool]] = {k: [] for k in KS}
    outcomes: dict[tuple[str, int], list[bool]] = {(packer, budget): [] for packer in PACKERS for budget in BUDGETS}
    failures = []
    with opened(kind, model, embedder) as databases:
        for question in kind.questions:
            hits = databases["default"].search(question.text, max(KS))
            for k in KS:
                found[k].append(any(_shows(hit, question.key) for hit in hits[:k]))
            least = model.count_tokens(CHAT_TEMPLATE.render_source(1, question.files[0], question.least))
            missing: Sequence[str] = ()
            for packer, budget in outcomes:
                if least <= budget:
                    absent = _missing(databases[packer], question, budget)
                    outcomes[packer, budget].append(not absent)
                    missing = absent if (packer, budget) == ("default", max(BUDGETS)) else missing
            if missing:
                failures.append((question, _reason(hits, question, missing)))
    return KindResult(
        kind,
        {k: statistics.fmean(values) for k, values in found.items()},
        {
            key: statistics.fmean(values)
            for key, values in outcomes.items()
            if len(values) >= LEAST_SHARE * len(kind.questions)
        },
        outcomes,
        failures,
    )


def _missing(database: leanrag.Rag, question: KindQuestion, budget: int) -> list[str]:
    """Return the spans that the sources of the prompt do not hold."""
    try:
        prompt = database.explain(question.text, context_tokens=budget).prompt
    except BudgetError:  # the packer finds no unit that fits
        prompt = None
    sources, _, _ = (prompt or "").rpartition(question.text)
    return [span for span in question.spans if not contains_span(sources, span)]


def _shows(hit: Hit, span: str) -> bool:
    return contains_span(f"{hit.chunk.title}\n{hit.chunk.heading}\n{hit.chunk.text}", span)


def _reason(hits: Sequence[Hit], question: KindQuestion, missing: Sequence[str]) -> str:
    """Return why a prompt lacks the answer: search did not find it, the chunks divide it, or the packer left it out."""
    texts = [f"{hit.chunk.title}\n{hit.chunk.heading}\n{hit.chunk.text}" for hit in hits]
    if any(all(contains_span(text, span) for span in question.spans) for text in texts):
        return f"packer: left out {list(missing)}"
    if all(any(contains_span(text, span) for text in texts) for span in question.spans):
        return f"packer: left out {list(missing)}, which stand in different chunks"
    if any(_shows(hit, question.key) for hit in hits):
        return f"chunks: found, but no hit holds {list(missing)}"
    return f"search: not in {len(hits)} hits"
