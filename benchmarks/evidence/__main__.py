"""How much should each feature of a unit count? Fits the weights of `leanrag.evidence.scoring`, and measures what they find.

The questions are those of SQuAD, of Natural Questions, and of the kinds of document that the library may be tuned on (the half
`tuned` of `benchmarks.kinds`). Every question gets the ten best hits of the hybrid retriever. A unit (a clause, a row, a block) is
right when it, or its group, holds a gold answer; headings cannot be chosen. The weights are those of a conditional logit (McFadden,
Conditional logit analysis of qualitative choice behavior, 1974) of "right" over the units of a question; several may be. Questions
without a right unit, or with right ones only, say nothing.

The weights that are printed are fitted to all questions, with the library's in brackets; `--write` writes them to
`leanrag/evidence/weights.json`. Then each half of the questions (of SQuAD: of its articles; of the kinds: every other kind) is
measured with weights fitted to the other half: the mean log-likelihood of a right unit, and how often a gold answer stands in what
the extractive compressor keeps. "words" has no embedder, "cosine" the question's similarity with the sentence and nothing else,
"sentences" all features and no clauses (so that likelihoods do not compare); "shipped" is what the library has now, which saw both
halves.

    python -m benchmarks.evidence --data DIR --json FILE [--quick] [--write]
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from benchmarks.common import Question, Questions, finish, parse_arguments, read_nq, read_squad
from benchmarks.kinds import QUESTIONS as KIND_QUESTIONS
from benchmarks.kinds import KindQuestion, contains_span, make_kinds
from benchmarks.kinds.measuring import RememberedVectors, opened
from benchmarks.retrieval.__main__ import RememberingEmbedder
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.documents.chunking import DocumentChunker
from leanrag.errors import BudgetError
from leanrag.evidence import scoring
from leanrag.evidence.scoring import UNIT_FEATURES, SentenceVectors, answering_clauses, features_of, values_of
from leanrag.evidence.units import split_units
from leanrag.evidence.weights import Weights, read_weights, write_weights
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.metrics import answer_in_context, bootstrap_interval, contains_answer
from leanrag.models import load_encoding, resolve
from leanrag.pipeline.adding import Ingestion
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import Embedder, TokenCounter
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel
from leanrag.types import Evidence, Hit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

EMBEDDER, ENCODING, K = "all-minilm-l6-v2", "cl100k_base", 10
BUDGETS = {"squad": (100, 200, 300), "nq": (50, 100, 150), "kinds": (100, 200, 300)}
MEASURED, QUICK_QUESTIONS = 600, 40  # questions of each set that are compressed; of each set in all
PENALTY = 2e-3  # times the squared weights, of features scaled to unit deviation
STEPS = 100  # of Newton's method, at most

ALL = tuple(range(len(UNIT_FEATURES)))
WORDS = tuple(
    UNIT_FEATURES.index(name)
    for name in (
        "prior",
        "best_overlap",
        "overlap",
        "overlap_with_title",
        "own_overlap",
        "answer_type",
        "first",
        "new_words",
        "overlap_under_head",
    )
)
COSINE = (UNIT_FEATURES.index("similarity"),)


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a question's hits.

    Attributes:
        evidence: The units, their values not yet known.
        features: `(n, len(UNIT_FEATURES))`.
        is_right: `(n,)`: which hold a gold answer.
        is_answering: `(n,)`: which can be chosen.
        text: The hits, taken apart.
        repeats: As an `EvidenceScorer` tells them.
    """

    evidence: tuple[Evidence, ...]
    features: Matrix
    is_right: NDArray[np.bool_]
    is_answering: NDArray[np.bool_]
    text: scoring._Text
    repeats: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Case:
    """A question, what was found for it, and the units of that, with clauses and without.

    Attributes:
        collection: The data set.
        question: What is asked.
        half: Which half of the set it belongs to.
        hits: Best first.
        is_answered: Whether a text holds the answer.
        clauses: The units, sentences by their clauses.
        sentences: The units, sentences whole.
    """

    collection: str
    question: str
    half: int
    hits: tuple[Hit, ...]
    is_answered: Callable[[str], bool]
    clauses: Units
    sentences: Units


def units_of(
    question: str,
    hits: Sequence[Hit],
    rows: Sequence[NDArray[np.float32]],
    query: NDArray[np.float32],
    is_right: Callable[[str], bool],
    *,
    clauses: bool,
) -> Units:
    """Take the hits apart as `SentenceScorer` does."""
    text = scoring._Text.of(hits, clauses=clauses)
    vectors = np.concatenate(rows)
    units = [
        Evidence(hit, start, end, 0.0, needs, group)
        for hit, (start, end), needs, group in zip(text.hit_of, text.clauses, text.needs, text.groups, strict=True)
    ]
    right = np.array([is_right(hits[u.hit].chunk.text[u.start : u.end]) for u in units], bool)
    right_groups = {unit.group for unit, own in zip(units, right, strict=True) if own and unit.group is not None}
    right |= np.array([unit.group in right_groups for unit in units], bool)
    return Units(
        tuple(units),
        features_of(question, text, vectors, query),
        right,
        answering_clauses(text),
        text,
        scoring._repeats(text, vectors),
    )


def taken_apart(
    question: str, hits: Sequence[Hit], vectors: SentenceVectors, is_right: Callable[[str], bool]
) -> tuple[Units, Units]:
    """Return the units of the hits by clauses, and by sentences."""
    rows = vectors.embed([(hit.chunk.text, split_units(hit.chunk.text)) for hit in hits])
    query = vectors.embed_query(question)
    with_clauses, without = (
        units_of(question, hits, rows, query, is_right, clauses=clauses) for clauses in (True, False)
    )
    return with_clauses, without


def collect_kinds(embedder: Embedder, data: Path, *, is_quick: bool) -> list[Case]:
    """Return the questions about the kinds of document that the library may be tuned on."""
    cases = []
    remembering = RememberedVectors(embedder, Path(tempfile.gettempdir()))
    vectors = SentenceVectors(remembering)
    for number, kind in enumerate(make_kinds(data, n=4 if is_quick else KIND_QUESTIONS, half="tuned")):
        with opened(kind, FakeModel(), remembering) as databases:
            for question in kind.questions:
                hits = tuple(databases["default"].search(question.text, K))
                is_right = functools.partial(_holds_key, question)
                taken = taken_apart(question.text, hits, vectors, is_right)
                is_answered = functools.partial(_holds_spans, question)
                cases.append(Case("kinds", question.text, number % 2, hits, is_answered, *taken))
        remembering.save()
    return cases


def _holds_key(question: KindQuestion, text: str) -> bool:
    """Whether a unit holds the answer, or a span of it that is not the first (a title, a question), or is a part of it."""
    spans = [question.key, *question.spans[1:]]
    return any(contains_span(text, span) for span in spans) or (len(text) > 8 and text in question.key)


def _holds_spans(question: KindQuestion, text: str) -> bool:
    return all(contains_span(text, span) for span in question.spans)


def collect(questions: Questions, embedder: Embedder, *, is_quick: bool) -> list[Case]:
    """Index the passages, find the hits of the questions, and take them apart."""
    asked = questions.questions
    documents = questions.documents
    if is_quick:
        asked = asked[:: len(asked) // QUICK_QUESTIONS][:QUICK_QUESTIONS]
        wanted = {question.document_id for question in asked}
        documents = tuple(d for i, d in enumerate(documents) if d.id in wanted or not i % 60)
    groups = sorted({_group(question) for question in asked})
    half_of = {group: place % 2 for place, group in enumerate(groups)}
    chunker = DocumentChunker(embedder.count_tokens)
    vectors = SentenceVectors(RememberedVectors(embedder, Path(tempfile.gettempdir())))
    cases = []
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        store.bind(embedder.id, embedder.dim, chunker.id)
        Ingestion(store, chunker, embedder, features=[]).run(documents)
        index = FaissIndex(embedder.dim)
        index.add(*store.all_vectors())
        remembering = RememberingEmbedder(embedder, [question.text for question in asked])
        retriever = HybridRetriever(store, index, remembering)
        for question in tqdm(asked, desc=questions.name, disable=None, leave=False):
            hits = tuple(retriever.retrieve(question.text, K))
            is_right = functools.partial(contains_answer, answers=question.answers)
            taken = taken_apart(question.text, hits, vectors, is_right)
            is_answered = functools.partial(answer_in_context, answers=question.answers)
            cases.append(Case(questions.name, question.text, half_of[_group(question)], hits, is_answered, *taken))
    return cases


def _group(question: Question) -> str:
    """The article of a SQuAD passage; the passage itself of Natural Questions."""
    return question.document_id.split("/")[0]


# ---------------------------------------------------------------------------------------------- fitting


class Choices:
    """What the questions with a right unit and a wrong one tell, in the features of some columns."""

    def __init__(self, units: Sequence[Units], columns: Sequence[int]) -> None:
        choices = [(own.features[own.is_answering][:, list(columns)], own.is_right[own.is_answering]) for own in units]
        choices = [(features, is_right) for features, is_right in choices if is_right.any() and not is_right.all()]
        self.n = len(choices)
        self.features = np.concatenate([features for features, _ in choices])  # (units, columns)
        self._is_right = np.concatenate([is_right for _, is_right in choices])
        sizes = [len(is_right) for _, is_right in choices]
        self.starts = np.cumsum([0, *sizes])[:-1]
        self._question = np.repeat(np.arange(self.n), sizes)

    def shares(self, weights: Matrix) -> tuple[float, Matrix, Matrix]:
        """Return the mean log-likelihood of a right unit, and the probability of each unit: of all, and of the right ones."""
        scores = self.features @ weights
        scores -= np.maximum.reduceat(scores, self.starts)[self._question]
        odds = np.exp(scores)
        right = odds * self._is_right
        totals, rights = np.add.reduceat(odds, self.starts), np.add.reduceat(right, self.starts)
        likelihood = float(np.mean(np.log(rights) - np.log(totals)))
        return likelihood, odds / totals[self._question], right / rights[self._question]


def fit(units: Sequence[Units], columns: Sequence[int]) -> Matrix:
    """Return the weights `(len(columns),)` of the greatest penalised likelihood, by Newton's method.

    Of the second derivative only the part of all units is taken, which is never indefinite (Lange, A gradient algorithm locally
    equivalent to the EM algorithm, 1995); steps are halved until they gain.
    """
    choices = Choices(units, columns)
    scale = choices.features.std(axis=0) + 1e-6
    choices.features /= scale
    features, n = choices.features, choices.n
    weights = np.zeros(len(columns))

    def objective(weights: Matrix) -> float:
        return choices.shares(weights)[0] - PENALTY * float(weights @ weights)

    for _ in range(STEPS):
        _, among_all, among_right = choices.shares(weights)
        gradient = features.T @ (among_right - among_all) / n - 2 * PENALTY * weights
        means = np.add.reduceat(features * among_all[:, None], choices.starts)  # (questions, columns)
        curvature = (features.T @ (features * among_all[:, None]) - means.T @ means) / n
        step = np.linalg.solve(curvature + 2 * PENALTY * np.eye(len(columns)), gradient)
        before = objective(weights)
        while (gain := objective(weights + step) - before) < 0 and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights + step
        if gain < 1e-9:
            break
    result: Matrix = weights / scale
    return result


# ---------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Known:
    """An `EvidenceScorer` whose values are known."""

    units: Units
    weights: Matrix  # (len(UNIT_FEATURES),)

    def score(
        self,
        question: str,  # noqa: ARG002 - what the units are worth for it is known
        hits: Sequence[Hit],  # noqa: ARG002
    ) -> tuple[list[Evidence], NDArray[np.float32] | None]:
        """Return the units with their values."""
        values = values_of(self.units.features @ self.weights, self.units.text)
        units = [replace(unit, value=value) for unit, value in zip(self.units.evidence, values.tolist(), strict=True)]
        return units, self.units.repeats


def is_kept(case: Case, scorer: Known, budget: int, count_tokens: TokenCounter) -> bool:
    """Whether a gold answer is left within the budget."""
    try:
        result = ExtractiveCompressor(scorer).compress(
            case.hits, budget=budget, count_tokens=count_tokens, question=case.question
        )
    except BudgetError:
        return False
    return case.is_answered(result.text)


def spread(weights: Matrix, columns: Sequence[int]) -> Matrix:
    """Weights of some columns as weights of all."""
    whole = np.zeros(len(UNIT_FEATURES))
    whole[list(columns)] = weights
    return whole


def seen_by(method: str, case: Case) -> Units:
    """The units as a method sees them: words alone know of no repetitions."""
    units = case.sentences if method == "sentences" else case.clauses
    return replace(units, repeats=None) if method == "words" else units


def measure(
    cases: Sequence[Case], units: Sequence[Units], weights_of: Mapping[int, Matrix], count_tokens: TokenCounter
) -> dict[str, float]:
    """Return the likelihood and the answers in context of one data set, each half measured with its weights."""
    name = cases[0].collection
    likelihoods = []
    for half, weights in weights_of.items():
        choices = Choices([own for own, case in zip(units, cases, strict=True) if case.half == half], ALL)
        likelihoods.append((choices.shares(weights)[0], choices.n))
    total = sum(n for _, n in likelihoods)
    figures = {f"{name}_loglik": sum(value * n for value, n in likelihoods) / total}
    every = max(1, len(cases) // MEASURED)
    measured = list(zip(cases, units, strict=True))[::every][:MEASURED]
    for budget in BUDGETS[name]:
        kept = [is_kept(case, Known(own, weights_of[case.half]), budget, count_tokens) for case, own in measured]
        figures[f"{name}_aic@{budget}"] = float(np.mean(kept))
        low, high = bootstrap_interval([float(value) for value in kept])
        figures |= {f"{name}_aic@{budget}_low": low, f"{name}_aic@{budget}_high": high}
    return figures


def main() -> None:
    arguments = parse_arguments(__doc__, flags={"write": "write the weights to the library"})
    encoding = load_encoding(ENCODING)
    path = find_embedder(EMBEDDER)
    embedder = LlamaCppEmbedder(path)

    @functools.lru_cache(maxsize=1 << 18)
    def count_tokens(text: str) -> int:
        return len(encoding.encode(text, disallowed_special=()))

    collections = [
        collect(questions, embedder, is_quick=arguments.is_quick)
        for questions in (read_squad(arguments.data), read_nq(arguments.data))
    ]
    collections.append(collect_kinds(embedder, arguments.data, is_quick=arguments.is_quick))
    cases = [case for own in collections for case in own]
    figures: dict[str, float] = {"n": len(cases)}
    shipped = read_weights()
    fitted: dict[str, dict[str, float]] = {}
    for label, columns, current in (
        ("weight", ALL, shipped.with_vectors),
        ("words_weight", WORDS, shipped.words_alone),
    ):
        weights = fit([case.clauses for case in cases], columns)
        fitted[label] = {UNIT_FEATURES[i]: round(float(weight), 3) for i, weight in zip(columns, weights, strict=True)}
        figures |= {f"{label}_{name}": weight for name, weight in fitted[label].items()}
        shown = (f"{name} {weight:.2f} ({current.get(name, 0.0):.2f})" for name, weight in fitted[label].items())
        print(f"{label:12} " + "  ".join(shown), flush=True)
    if "write" in arguments.flags:
        write_weights(Weights(with_vectors=fitted["weight"], words_alone=fitted["words_weight"]))
    for method, columns in (("fitted", ALL), ("words", WORDS), ("cosine", COSINE), ("sentences", ALL), ("shipped", ())):
        weights_of = dict.fromkeys((0, 1), scoring._column(shipped.with_vectors))
        if columns:
            for half in weights_of:
                others = [seen_by(method, case) for case in cases if case.half != half]
                weights_of[half] = spread(fit(others, columns), columns)
        for own in collections:
            found = measure(own, [seen_by(method, case) for case in own], weights_of, count_tokens)
            figures |= {f"{method}_{name}": value for name, value in found.items()}
            shown = (f"{name} {value:.4f}" for name, value in found.items() if not name.endswith(("_low", "_high")))
            print(f"{method:10} " + "  ".join(shown), flush=True)
    finish(
        figures, arguments.json_path, models={EMBEDDER: path, ENCODING: resolve(ENCODING)}, is_quick=arguments.is_quick
    )


if __name__ == "__main__":
    main()
