"""What does each extra of the retrieval change: recall, and how often the prompt can answer the question.

`in_prompt` is the share of the questions whose answer is in the sources of a prompt with at most 300 tokens of them, chosen by the
library's packer from ten hits. For the kinds of document of `benchmarks.kinds` a prompt must have all spans of the answer. `ms` is
the median time of a search without the embedding of the question, `pack_ms` that of the packer when the vectors of all sentences
that can be kept are known. Figures that end in `_gain` are
the extra less the plain hybrid search, on the same questions.

`multi_query` lets a local model write two other wordings of each question; it is measured on fewer questions.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import leanrag
from benchmarks.common import Questions, read_nq, read_squad
from benchmarks.kinds import contains_span, make_kinds
from benchmarks.kinds.measuring import RememberedVectors
from leanrag.errors import BudgetError
from leanrag.llama.process import load_model
from leanrag.metrics import answer_in_context, bootstrap_interval
from leanrag.models import resolve
from leanrag.retrieval import (
    DiverseRetriever,
    ExpandingRetriever,
    HybridRetriever,
    ModelRewriter,
    MultiQueryRetriever,
)
from leanrag.testing import FakeModel
from leanrag.types import Chunk, Document

if TYPE_CHECKING:
    from leanrag.pipeline.stages import MakeRetriever
    from leanrag.protocols import Embedder
    from leanrag.retrieval.multi_query import Rewrite
    from leanrag.types import Hit

__all__ = ["measure_extras"]

QUESTIONS, QUICK_QUESTIONS, REWRITTEN = 100, 10, 50  # of each data set; with other wordings
OF_EACH_KIND, QUICK_OF_EACH_KIND = 4, 1
KS = (1, 10)
BUDGET = 300
REWRITER = "qwen2.5-coder-0.5b"


@dataclass(frozen=True, slots=True)
class Case:
    """A question.

    Attributes:
        text: What is asked.
        is_found: Whether a chunk is what search must find.
        is_answered: Whether the sources of a prompt can answer it.
    """

    text: str
    is_found: Callable[[Chunk], bool]
    is_answered: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents, and questions about them: files by name, or texts."""

    name: str
    documents: Sequence[Document]
    files: dict[str, str]
    cases: Sequence[Case]


@dataclass(slots=True)
class Outcome:
    """What was measured of one extra, by question."""

    recall: dict[int, list[float]] = field(default_factory=lambda: {k: [] for k in KS})
    in_prompt: list[float] = field(default_factory=list)
    search_ms: list[float] = field(default_factory=list)
    pack_ms: list[float] = field(default_factory=list)

    def extend(self, other: Outcome) -> None:
        """Add the questions of another outcome."""
        for k in KS:
            self.recall[k] += other.recall[k]
        self.in_prompt += other.in_prompt
        self.search_ms += other.search_ms
        self.pack_ms += other.pack_ms


def extras(rewrite: Rewrite) -> dict[str, MakeRetriever]:
    """Return what is measured, by name."""
    return {
        "plain": HybridRetriever,
        "no_duplicates": lambda *parts: DiverseRetriever(HybridRetriever(*parts), parts[0], diversity=0),
        "diverse_0.1": lambda *parts: DiverseRetriever(HybridRetriever(*parts), parts[0], diversity=0.1),
        "diverse_0.3": lambda *parts: DiverseRetriever(HybridRetriever(*parts), parts[0], diversity=0.3),
        "neighbours": lambda *parts: ExpandingRetriever(HybridRetriever(*parts), parts[0]),
        "section": lambda *parts: ExpandingRetriever(HybridRetriever(*parts), parts[0], by="section"),
        "multi_query": lambda *parts: MultiQueryRetriever(HybridRetriever(*parts), rewrite),
    }


def measure_extras(data: Path, embedder: Embedder, *, is_quick: bool) -> Iterator[dict[str, float]]:
    """Yield the figures of each group of corpora, when they are known."""
    remembered = RememberedVectors(embedder, Path(tempfile.gettempdir()))
    model = load_model(resolve(REWRITER))
    cache: dict[str, list[str]] = {}
    rewriter = ModelRewriter(model, count=2)

    def rewrite(question: str) -> list[str]:
        if question not in cache:
            cache[question] = rewriter(question)
        return cache[question]

    n = QUICK_QUESTIONS if is_quick else QUESTIONS
    groups = {
        "nq": [_from_questions(read_nq(data), n)],
        "squad": [_from_questions(read_squad(data), n)],
        "squad_articles": [_joined(read_squad(data), n)],
        "kinds": _from_kinds(data, is_quick),
    }
    for group, corpora in groups.items():
        outcomes: dict[str, Outcome] = {}
        for corpus in corpora:
            for name, outcome in _measure(
                corpus, remembered, extras(rewrite), max(1, REWRITTEN // len(corpora))
            ).items():
                outcomes.setdefault(name, Outcome()).extend(outcome)
        remembered.save()
        yield _figures(group, outcomes)
    model.close()


def _measure(
    corpus: Corpus, embedder: Embedder, makers: dict[str, MakeRetriever], rewritten: int
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in makers.items():
            database = Path(folder) / "database"
            with leanrag.open(database, model=FakeModel(n_ctx=4096), embedder=embedder, retriever=make) as rag:
                if not outcomes:
                    _add(rag, corpus, Path(folder) / "documents")
                step = max(1, len(corpus.cases) // rewritten) if name == "multi_query" else 1
                outcome = outcomes[name] = Outcome()
                for i, case in enumerate(corpus.cases):
                    if i % step:  # a hole, so that questions can be compared by their number
                        outcome.in_prompt.append(float("nan"))
                        for k in KS:
                            outcome.recall[k].append(float("nan"))
                    else:
                        _ask(rag, case, outcome)
    return outcomes


def _add(rag: leanrag.Rag, corpus: Corpus, folder: Path) -> None:
    folder.mkdir()
    for name, text in corpus.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    rag.add(*corpus.documents, *([folder] if corpus.files else []), progress=False)


def _ask(rag: leanrag.Rag, case: Case, outcome: Outcome) -> None:
    rag.search(case.text, max(KS))  # makes the vector of the question, and other wordings
    started = time.perf_counter()
    hits = rag.search(case.text, max(KS))
    outcome.search_ms.append(1000 * (time.perf_counter() - started))
    for k in KS:
        outcome.recall[k].append(float(any(_is_hit(hit, case) for hit in hits[:k])))
    with contextlib.suppress(BudgetError):
        rag.explain(case.text, context_tokens=BUDGET)  # keeps the vectors of the sentences that can be kept
    started = time.perf_counter()
    try:
        prompt = rag.explain(case.text, context_tokens=BUDGET).prompt or ""
    except BudgetError:  # nothing fits
        prompt = ""
    outcome.pack_ms.append(1000 * (time.perf_counter() - started) - outcome.search_ms[-1])
    outcome.in_prompt.append(float(case.is_answered(prompt.rpartition(case.text)[0])))


def _is_hit(hit: Hit, case: Case) -> bool:
    return any(map(case.is_found, (hit.chunk, *hit.copies)))


def _figures(group: str, outcomes: dict[str, Outcome]) -> dict[str, float]:
    figures: dict[str, float] = {f"extras_{group}_n": len(outcomes["plain"].in_prompt)}
    plain = outcomes["plain"]
    for name, outcome in outcomes.items():
        key = f"extras_{group}_{name}"
        asked = [i for i, value in enumerate(outcome.in_prompt) if value == value]
        columns = {f"recall@{k}": (outcome.recall[k], plain.recall[k]) for k in KS}
        columns["in_prompt"] = (outcome.in_prompt, plain.in_prompt)
        line = []
        for column, (values, before) in columns.items():
            figures[f"{key}_{column}"] = fmean(values[i] for i in asked)
            gains = [values[i] - before[i] for i in asked]
            low, high = bootstrap_interval(gains)
            if name != "plain":
                figures[f"{key}_{column}_gain"] = fmean(gains)
            line.append(f"{column} {figures[f'{key}_{column}']:.3f} ({fmean(gains):+.3f} [{low:+.3f}, {high:+.3f}])")
        figures |= {
            f"{key}_n": len(asked),
            f"{key}_ms": median(outcome.search_ms),
            f"{key}_pack_ms": median(outcome.pack_ms),
        }
        times = f"{median(outcome.search_ms):.1f} + {median(outcome.pack_ms):.1f} ms"
        print(f"{group:14} {name:13} n {len(asked):3} {'; '.join(line)}; {times}", flush=True)
    return figures


# Corpora


def _from_questions(questions: Questions, n: int) -> Corpus:
    step = max(1, len(questions.questions) // n)
    cases = [
        Case(question.text, _is_of(question.document_id), _has_answer(question.answers))
        for question in questions.questions[::step][:n]
    ]
    return Corpus(questions.name, questions.documents, {}, cases)


def _joined(questions: Questions, n: int) -> Corpus:
    """Return the data set with all paragraphs of an article in one document: most chunks have neighbours."""
    texts: dict[str, str] = {}
    spans: dict[str, tuple[str, int, int]] = {}
    for document in questions.documents:
        text = texts.get(document.title, "")
        text += "\n\n" * bool(text)
        spans[document.id] = document.title, len(text), len(text) + len(document.text)
        texts[document.title] = text + document.text
    documents = [Document(text, id=title, title=title) for title, text in texts.items()]
    step = max(1, len(questions.questions) // n)
    cases = [
        Case(question.text, _touches(*spans[question.document_id]), _has_answer(question.answers))
        for question in questions.questions[::step][:n]
    ]
    return Corpus("squad_articles", documents, {}, cases)


def _from_kinds(data: Path, is_quick: bool) -> list[Corpus]:
    kinds = make_kinds(data, n=QUICK_OF_EACH_KIND if is_quick else OF_EACH_KIND)
    return [
        Corpus(
            kind.name,
            [],
            dict(kind.files),
            [Case(question.text, _shows(question.key), _has_spans(question.spans)) for question in kind.questions],
        )
        for kind in kinds
    ]


def _is_of(document_id: str) -> Callable[[Chunk], bool]:
    return lambda chunk: chunk.document_id == document_id


def _touches(document_id: str, start: int, end: int) -> Callable[[Chunk], bool]:
    return lambda chunk: chunk.document_id == document_id and chunk.start < end and start < chunk.end


def _shows(span: str) -> Callable[[Chunk], bool]:
    return lambda chunk: contains_span(f"{chunk.title}\n{chunk.heading}\n{chunk.text}", span)


def _has_answer(answers: Sequence[str]) -> Callable[[str], bool]:
    return lambda text: answer_in_context(text, answers)


def _has_spans(spans: Sequence[str]) -> Callable[[str], bool]:
    return lambda text: all(contains_span(text, span) for span in spans)
