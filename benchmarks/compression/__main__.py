"""Measure whether the answer survives when ten passages are compressed to a few hundred tokens, and what a small model answers.

Every question gets the ten best hits of the hybrid retriever over the data set's passages, and every method the same ten.
Answer-in-context: a gold answer stands in the compressed text, contiguously, normalised as SQuAD does. The question is not in the
text, and nothing is added to it. Methods that need a model run on fewer questions; ours is measured on these as well.

Scorer and first reader are SmolLM2-135M requantised to Q4_0, the second reader is Gemma 3 270M. The reader is given the text alone,
no titles, so that every way costs what its budget says. Ours is packed as `ask` does it, "likelihood" the same with a model that
reads the promising sentences; "filled" is what the extractive compressor makes. "EM" is a gold answer standing in the reply,
"exact" a reply that is one.

LLMLingua and LongLLMLingua are the package's own choice (one call, no protected spans), held to the budget by
`LLMLinguaCompressor`, on the weights of the scorer as float32. LEANRAG_LLMLINGUA may name a folder of other weights, and
LEANRAG_LLMLINGUA2 one of LLMLingua-2's, which is not measured without.

The section "lingua" compares `leanrag.compression.compat.PromptCompressor` with the package by parameters and words. "kinds"
measures whether answers stay at an equal number of tokens on documents of many kinds, and what `leanrag.compress` saves. With
`--only`, FILE is written after each part of a section.

    python -m benchmarks.compression --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from benchmarks import baselines
from benchmarks.baselines import Baseline, RememberingScorer
from benchmarks.common import Question, Questions, finish, parse_arguments, read_nq, read_squad
from benchmarks.compression.kinds import measure_kinds
from benchmarks.compression.lingua import lingua_parts
from benchmarks.compression.promises import Promises
from benchmarks.retrieval.__main__ import RememberingEmbedder
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.lingua import LLMLinguaCompressor, dequantize
from leanrag.compression.lingua.driver import LinguaMethod
from leanrag.compression.self_information import SelfInformationCompressor
from leanrag.documents.chunking import DocumentChunker
from leanrag.errors import BudgetError
from leanrag.evidence.likelihood import LikelihoodScorer
from leanrag.evidence.packing import EvidencePacker
from leanrag.evidence.protection import Protection
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.files.quantize import quantize
from leanrag.llama.model import LlamaCppModel
from leanrag.metrics import answer_in_context, bootstrap_interval, contains_answer, exact_match, f1
from leanrag.models import load_encoding, resolve
from leanrag.pipeline.adding import Ingestion
from leanrag.pipeline.copies import find_embedder
from leanrag.prompting import CHAT_TEMPLATE, COMPLETION_TEMPLATE, PromptTemplate
from leanrag.protocols import Compressor, Embedder, Packer, TextScorer, TokenCounter
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.store import Store
from leanrag.threads import usable_cores
from leanrag.types import Chunk, Compression, Hit, PackedItem, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

Figures = dict[str, float | int | None]

MODEL, OTHER_MODEL, EMBEDDER, ENCODING = "smollm2-135m", "gemma3-270m", "all-minilm-l6-v2", "cl100k_base"
THREADS = usable_cores()
K = 10
BUDGETS = {"squad": (100, 200, 300), "nq": (50, 100, 150)}
COUNTERS = ("", "_reader")  # endings of the figures: cl100k, and the first reader's tokenizer
READ_TOKENS, ANSWER_TOKENS = 200, 48
TIMED_TOKENS, TIMED_BUDGET = 3000, 300


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        cheap: Questions of each set for methods without a model.
        slow: Questions of each set for those that score with llama.cpp.
        lingua: Questions of each set for the package, at the middle budget alone.
        passages: Passages that the slow ones and the readers are given.
        read: Questions of each set that are read.
        timed: Questions of each set that the extractive compressor is timed on.
        paired: Questions of each set that self-information and the package are timed on.
        random: Random cases of the methods without a model.
        random_slow: Random cases of self-information.
        random_lingua: Random cases of the package.
        overlaps: Prompts whose words are compared with those of the package.
        kinds: Questions of each kind of document for the package.
        prose: Questions of prose for the package.
    """

    cheap: int = 500
    slow: int = 100
    lingua: int = 40
    passages: int = K
    read: int = 40
    timed: int = 150
    paired: int = 8
    random: int = 20_000
    random_slow: int = 150
    random_lingua: int = 40
    overlaps: int = 12
    kinds: int = 1
    prose: int = 12


QUICK = Sizes(
    cheap=10,
    slow=1,
    lingua=0,
    passages=3,
    read=1,
    timed=10,
    paired=0,
    random=200,
    random_slow=4,
    random_lingua=0,
    overlaps=0,
    kinds=1,
    prose=2,
)


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what was found for it, best first; `more` is what a larger `k` finds."""

    question: Question
    hits: tuple[Hit, ...]
    more: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Collection:
    """A data set, indexed.

    Attributes:
        name: Its name.
        cases: Questions spread over the set.
        extractive: The extractive compressor, with the vectors of sentences that were stored when the passages were added, and
            those of the questions.
        bare: The same without those of the questions.
        evidence: What says how much a unit is worth to `extractive`.
        lap: The time that the last call of `bare` spent on the question's vector.
    """

    name: str
    cases: tuple[Case, ...]
    extractive: ExtractiveCompressor
    bare: ExtractiveCompressor
    evidence: SentenceScorer
    lap: Lap

    def some(self, count: int) -> list[Case]:
        """Return cases spread over all of them."""
        return list(self.cases[:: max(1, len(self.cases) // count)][:count]) if count else []


@dataclass(slots=True)
class Lap:
    """Seconds spent on something since `seconds` was last set."""

    seconds: float = 0.0


class TimedQueries:
    """An embedder that says how long it takes for a question."""

    def __init__(self, embedder: Embedder, lap: Lap) -> None:
        self.id, self.dim, self.max_tokens = embedder.id, embedder.dim, embedder.max_tokens
        self.count_tokens, self.embed_documents = embedder.count_tokens, embedder.embed_documents
        self._embed_queries, self._lap = embedder.embed_queries, lap

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the rows of `texts`."""
        started = time.perf_counter()
        rows = self._embed_queries(texts)
        self._lap.seconds += time.perf_counter() - started
        return rows


@contextlib.contextmanager
def indexed(questions: Questions, embedder: Embedder, sizes: Sizes) -> Iterator[Collection]:
    """Index the passages as `benchmarks.retrieval` does, sentence vectors included, and find the hits of some questions."""
    count = len(questions.questions)
    asked = questions.questions[:: max(1, count // sizes.cheap)][: sizes.cheap]
    wanted = {question.document_id for question in asked}
    documents = questions.documents
    if sizes is QUICK:  # few passages when a minute must do
        documents = tuple(d for i, d in enumerate(documents) if d.id in wanted or not i % 40)
    chunker, lap = DocumentChunker(embedder.count_tokens), Lap()
    vectors = SentenceVectors(TimedQueries(embedder, lap))
    with tempfile.TemporaryDirectory() as folder, Store(folder) as store:
        store.bind(embedder.id, embedder.dim, chunker.id)
        started = time.perf_counter()
        Ingestion(store, chunker, embedder, features=[vectors]).run(documents)
        print(f"{questions.name}: {len(documents)} passages added in {time.perf_counter() - started:.0f} s", flush=True)
        index = FaissIndex(embedder.dim)
        index.add(*store.all_vectors())
        remembering = RememberingEmbedder(embedder, [question.text for question in asked])
        retriever = HybridRetriever(store, index, remembering)
        cases = []
        for question in asked:
            hits = tuple(retriever.retrieve(question.text, 4 * K))
            cases.append(Case(question, hits[:K], hits))
        stored = functools.partial(store.get_feature, vectors.name)
        evidence = SentenceScorer(SentenceVectors(remembering), stored)
        bare = ExtractiveCompressor(SentenceScorer(vectors, stored))
        yield Collection(questions.name, tuple(cases), ExtractiveCompressor(evidence), bare, evidence, lap)


# ---------------------------------------------------------------------------------------------- answer in context


def named(*parts: str) -> str:
    return "_".join(part for part in parts if part)


def answers_in_context(
    collection: str,
    name: str,
    compressor: Compressor,
    cases: Sequence[Case],
    counts: Mapping[str, TokenCounter],
    passages: int,
    *,
    budgets: Sequence[int],
    timed: bool,
) -> Figures:
    """Return the share of questions whose answer is left at each budget, and the median seconds of a call if `timed`."""
    figures: Figures = {f"{named(collection, name)}_n": len(cases)}
    label = f"{collection:6} {name or 'extractive':18}"
    seconds: list[float] = []
    for counter, count_tokens in counts.items():
        cells = []
        for budget in budgets:
            found = []
            for case in tqdm(cases, desc=f"{label} {budget}", disable=None, leave=False):
                compression = compressed(compressor, case, budget, count_tokens, passages)
                found.append(compression is not None and answer_in_context(compression.text, case.question.answers))
                if compression is not None and not counter and budget == budgets[0]:
                    seconds.append(compression.seconds)  # later ones find scores that are remembered
            figure = f"{named(collection, name)}_aic@{budget}{counter}"
            low, high = bootstrap_interval([float(value) for value in found])
            figures[figure] = float(np.mean(found))
            if not counter:
                figures |= {f"{figure}_low": low, f"{figure}_high": high}
            cells.append(f"{budget}: {np.mean(found):.3f} [{low:.3f}, {high:.3f}]")
        print(f"{label} {counter or '_cl100k':8} n={len(cases):<5} " + "  ".join(cells), flush=True)
    if timed:
        figures[f"{named(collection, name)}_s"] = float(np.median(seconds)) if seconds else None
    return figures


def compressed(
    compressor: Compressor, case: Case, budget: int, count_tokens: TokenCounter, passages: int = K
) -> Compression | None:
    """Return the compression of the case's hits, None when not one unit fits."""
    try:
        return compressor.compress(
            case.hits[:passages], budget=budget, count_tokens=count_tokens, question=case.question.text
        )
    except BudgetError:
        return None


def everything(collection: Collection, counts: Mapping[str, TokenCounter]) -> Figures:
    """Return the share of questions whose answer is in the ten passages, and their mean tokens."""
    texts = [joined(case.hits) for case in collection.cases]
    found = [answer_in_context(text, case.question.answers) for text, case in zip(texts, collection.cases, strict=True)]
    figures: Figures = {f"{collection.name}_full_aic": float(np.mean(found))}
    for counter in COUNTERS:
        figures[f"{collection.name}_full_tokens{counter}"] = float(np.mean([counts[counter](text) for text in texts]))
    print(
        f"{collection.name:6} all {K} passages: {figures[f'{collection.name}_full_aic']:.3f}"
        f" in {figures[f'{collection.name}_full_tokens']:.0f} tokens (cl100k)",
        flush=True,
    )
    return figures


def joined(hits: Sequence[Hit]) -> str:
    return "\n\n".join(hit.chunk.text for hit in hits)


def packed(packer: Packer, hits: Sequence[Hit], count_tokens: TokenCounter, question: str) -> str:
    """Return the sources as `ask` gives them to a reader, in at most `READ_TOKENS`; "" when nothing fits."""

    def count_source(number: int, title: str, text: str) -> int:  # noqa: ARG001 - the reader is given the text alone
        return count_tokens(text + "\n\n") if text else 0

    try:
        return "\n\n".join(item.text for item in packer.pack(hits, READ_TOKENS, count_source, question=question).items)
    except BudgetError:
        return ""


def likelihood(collection: Collection, scorer: TextScorer) -> Compressor:
    """Return the default of the library with a model that reads the most promising sentences."""
    return ExtractiveCompressor(LikelihoodScorer(scorer, collection.evidence))


def cheap_methods(collection: Collection) -> dict[str, Compressor]:
    """Return the methods without a model, by their name in the figures; "" is the default of the library."""
    return {
        "": collection.extractive,
        "words": ExtractiveCompressor(),
        "cut": Baseline("cut", baselines.cut),
        "random": Baseline("random sentences", baselines.random_sentences),
        "topk": Baseline("whole passages", baselines.whole_passages),
        "bm25": Baseline("BM25 sentences", baselines.bm25_sentences),
    }


# ---------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True, slots=True)
class Reader:
    """Who answers.

    Attributes:
        key: Begins its figures.
        model: The model.
        template: Its prompt; sources are text alone.
    """

    key: str
    model: LlamaCppModel
    template: PromptTemplate

    def prompt(self, question: str, text: str) -> Prompt:
        """Return the prompt for `question` over `text`."""
        hit = Hit(Chunk("context", 0, len(text), text), 1.0)
        return self.template.build(question, [PackedItem(1, hit, text, (), 0)])


WAYS = ("full", "nothing", "cut", "random", "topk", "filled", "likelihood", "")  # of each question in turn


def reading(reader: Reader, collection: Collection, scorer: TextScorer, sizes: Sizes) -> Figures:
    """Return what the reader gets right of all passages and of `READ_TOKENS` tokens, and the ratios to the former."""
    cases = collection.some(sizes.read)
    methods = {**cheap_methods(collection), "filled": collection.extractive}
    packers = {
        "": EvidencePacker(collection.evidence),
        "likelihood": EvidencePacker(LikelihoodScorer(scorer, collection.evidence)),
    }
    prompts = []
    for case in cases:
        for way in WAYS:
            hits, text = case.hits[: sizes.passages], ""
            if way == "full":
                text = joined(hits)
            elif way in packers:
                text = packed(packers[way], hits, reader.model.count_tokens, case.question.text)
            elif way != "nothing":
                compression = compressed(methods[way], case, READ_TOKENS, reader.model.count_tokens, sizes.passages)
                text = "" if compression is None else compression.text
            prompts.append(reader.prompt(case.question.text, text))
    replies = reader.model.generate_many(prompts, max_tokens=ANSWER_TOKENS, stop=reader.template.stop)
    rows: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
    for place, reply in enumerate(replies):
        answers = cases[place // len(WAYS)].question.answers
        row = contains_answer(reply.text, answers), f1(reply.text, answers), exact_match(reply.text, answers)
        rows[WAYS[place % len(WAYS)]].append((float(row[0]), row[1], float(row[2])))
    tokens = [reply.usage.prompt_tokens for reply in replies]
    figures: Figures = {f"{reader.key}_{collection.name}_n": len(cases)}
    full = np.array(rows["full"])  # (n, 3)
    for number, way in enumerate(WAYS):
        values = np.array(rows[way])  # (n, 3)
        cells = []
        for column, measure in enumerate(("em", "f1", "exact")):
            base = named(reader.key, collection.name, way, measure)
            figures[base] = float(values[:, column].mean())
            ratio = np.column_stack([values[:, column], full[:, column]])
            if way != "full" and measure != "exact":
                figures |= _ratio(f"{base}_ratio", ratio)
            cells.append(f"{measure} {figures[base]:.3f}" + _shown(figures, base))
        figures[named(reader.key, collection.name, way, "tokens")] = float(np.mean(tokens[number :: len(WAYS)]))
        print(f"{reader.key:8} {collection.name:6} {way or 'extractive':11} " + "  ".join(cells), flush=True)
    return figures


def _ratio(name: str, paired: NDArray[np.float64]) -> Figures:
    """Ratio of the means of two columns and its bootstrap interval; None for what has no denominator."""
    figures: Figures = dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    if paired[:, 1].any():
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = bootstrap_interval(paired, statistic=lambda drawn: float(np.divide(*drawn.mean(axis=0))))
        figures[name] = float(np.divide(*paired.mean(axis=0)))
        if np.isfinite([low, high]).all():
            figures |= {f"{name}_low": low, f"{name}_high": high}
    return figures


def _shown(figures: Figures, base: str) -> str:
    ratio, low, high = (figures.get(f"{base}_ratio{end}") for end in ("", "_low", "_high"))
    return "" if ratio is None or low is None or high is None else f" (x{ratio:.2f} [{low:.2f}, {high:.2f}])"


# ---------------------------------------------------------------------------------------------- time


def timed_extractive(collections: Sequence[Collection], counts: Mapping[str, TokenCounter], sizes: Sizes) -> Figures:
    """Return milliseconds of compressing some 3,000 tokens for a question, its vector included and apart, by tokenizer."""
    figures: Figures = {}
    for counter, count_tokens in counts.items():
        whole, query, tokens = [], [], []
        for collection in collections:
            for number, case in enumerate([*collection.some(3), *collection.some(sizes.timed)]):
                hits = _of_length(case.more, TIMED_TOKENS, count_tokens)
                collection.lap.seconds = 0.0
                started = time.perf_counter()
                compression = collection.bare.compress(
                    hits, budget=TIMED_BUDGET, count_tokens=count_tokens, question=case.question.text
                )
                seconds = time.perf_counter() - started
                if number >= 3:  # the first ones warm up
                    whole.append(1000 * seconds)
                    query.append(1000 * collection.lap.seconds)
                    tokens.append(compression.tokens_before)
        figures |= {"extractive_n": len(whole), f"extractive{counter}_tokens": float(np.mean(tokens))}
        rest = np.array(whole) - np.array(query)
        for part, values in (("", whole), ("_query", query), ("_rest", rest)):
            name = f"extractive{counter}{part}"
            p50, p95 = np.quantile(values, [0.5, 0.95])
            figures |= {f"{name}_p50_ms": float(p50), f"{name}_p95_ms": float(p95)}
            print(f"{name:28} p50 {p50:.2f} ms, p95 {p95:.2f} ms  n={len(whole)}", flush=True)
    return figures


def _of_length(hits: Sequence[Hit], tokens: int, count_tokens: TokenCounter) -> list[Hit]:
    """The first hits that make so many tokens."""
    lengths = np.cumsum([count_tokens(hit.chunk.text) for hit in hits])
    return list(hits[: int(np.searchsorted(lengths, tokens)) + 1])


def time_ratio(
    scorer: LlamaCppModel, folder: Path, collections: Sequence[Collection], count_tokens: TokenCounter, sizes: Sizes
) -> Figures:
    """Return the seconds of self-information and of the package on the same texts, taking turns."""
    ours = SelfInformationCompressor(scorer)
    theirs = package(folder, "longllmlingua")
    seconds: list[tuple[float, float]] = []
    cases = [case for collection in collections for case in collection.some(sizes.paired)]
    warm_up, *timed = [cases[0], *cases]
    for compressor in (ours, theirs):
        compressed(compressor, warm_up, READ_TOKENS, count_tokens, 2)
    for case in tqdm(timed, desc="self-information and LongLLMLingua", disable=None, leave=False):
        own, other = (compressed(compressor, case, READ_TOKENS, count_tokens) for compressor in (ours, theirs))
        assert own is not None
        assert other is not None
        seconds.append((own.seconds, other.seconds))
    rows = np.array(seconds)  # (n, 2)
    ratios = rows[:, 0] / rows[:, 1]
    figures: Figures = {
        "selfinfo_time_n": len(rows),
        "selfinfo_time_s": float(np.median(rows[:, 0])),
        "longllmlingua_time_s": float(np.median(rows[:, 1])),
        "selfinfo_time_ratio": float(np.median(ratios)),
    }
    low, high = bootstrap_interval(ratios, statistic=lambda drawn: float(np.median(drawn)))
    figures |= {"selfinfo_time_ratio_low": low, "selfinfo_time_ratio_high": high}
    print(f"selfinfo_time_ratio {np.median(ratios):.3f} [{low:.3f}, {high:.3f}]  n={len(rows)}", flush=True)
    return figures


def package(folder: Path, method: LinguaMethod) -> LLMLinguaCompressor:
    return LLMLinguaCompressor(folder, method=method, protection=Protection(kinds=()), threads=THREADS, max_calls=1)


# ---------------------------------------------------------------------------------------------- promises


def promises(
    cheap: Mapping[str, Compressor],
    slow: Mapping[str, tuple[Compressor, int]],
    counts: Mapping[str, TokenCounter],
    sizes: Sizes,
) -> Figures:
    """Return what random cases broke: each text, budget, tokenizer and compressor of its own; the default in every other case."""
    found = Promises()
    names = [name for other in cheap if other != "extractive" for name in ("extractive", other)]
    counters = list(counts)
    for seed in tqdm(range(sizes.random), desc="random cases", disable=None, leave=False):
        name, counter = names[seed % len(names)], counters[seed % len(counters)]
        found.check(name, cheap[name], counter, counts[counter], seed)
    for name, (compressor, count) in slow.items():
        for seed in tqdm(range(count), desc=f"random cases of {name}", disable=None, leave=False):
            counter = counters[seed % len(counters)]
            found.check(name, compressor, counter, counts[counter], -1 - seed)
    seen = found.seen
    figures: Figures = {
        "random_n": found.n.total(),
        **{f"random_{name}_n": n for name, n in found.n.items()},
        "random_refused": seen["refused"],
        "random_failed": seen["failed"],
        "over_budget": seen["over_budget"],
        "verbatim_share": seen["verbatim"] / max(1, seen["finished"]),
        "protected_lost": seen["protected_lost"],
        "protected_parted": seen["protected_parted"],
    }
    for name, value in figures.items():
        print(f"{name:28} {value}", flush=True)
    print(*found.failures[:10], sep="\n", end="\n" if found.failures else "", flush=True)
    return figures


# ---------------------------------------------------------------------------------------------- all of it


class Report:
    """Collects figures; a section that fails leaves None under its names, and a line.

    Args:
        save: Called with all figures after each section.
    """

    def __init__(self, save: Callable[[Figures], None]) -> None:
        self.figures: Figures = {}
        self._save = save

    def add(self, title: str, section: Callable[[], Figures], *names: str) -> None:
        """Run a section; `names` are the figures that stand for it when it fails."""
        started = time.perf_counter()
        try:
            self.figures |= section()
        except Exception as error:  # noqa: BLE001 - the other figures stand
            self.figures |= dict.fromkeys(names)
            print(f"{title}: not measured: {type(error).__name__}: {str(error)[:300]}", flush=True)
        else:
            print(f"# {title}: {time.perf_counter() - started:.0f} s", flush=True)
        self._save(self.figures)

    def add_method(
        self,
        collection: Collection,
        name: str,
        make: Callable[[], Compressor],
        cases: Sequence[Case],
        counts: Mapping[str, TokenCounter],
        passages: int = K,
        *,
        budgets: Sequence[int] | None = None,
        timed: bool = False,
    ) -> None:
        """Measure a method that may not be there.

        Args:
            collection: Of which data set.
            name: In the figures; "" for the default of the library.
            make: Loads it.
            cases: Questions; none for not now.
            counts: Tokenizers that it is measured with; they remember, so that only what takes seconds can be `timed`.
            passages: Of each question, at most.
            budgets: Tokens; by default all budgets of the data set.
            timed: Whether to report seconds.
        """
        budgets = budgets or BUDGETS[collection.name]
        names = [f"{named(collection.name, name)}_aic@{budget}{counter}" for counter in counts for budget in budgets]
        if not cases:
            self.skip(collection, name, names)
            return
        self.add(
            f"{collection.name} {name or 'extractive'}",
            lambda: answers_in_context(
                collection.name, name, make(), cases, counts, passages, budgets=budgets, timed=timed
            ),
            *names,
        )

    def skip(self, collection: Collection, name: str, figures: Iterable[str]) -> None:
        """Say that a method is not measured."""
        self.figures |= dict.fromkeys(figures)
        print(f"{collection.name:6} {name:18} not measured", flush=True)


def given(compressor: Compressor) -> Callable[[], Compressor]:
    return lambda: compressor


class Models:
    """What is measured with; loaded when it is first asked for, closed with the stack.

    Args:
        stack: Closes them.
        is_quick: Whether a minute must do.
    """

    def __init__(self, stack: contextlib.ExitStack, *, is_quick: bool) -> None:
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._stack, self._is_quick = stack, is_quick
        self.gguf = self.folder / "q4_0.gguf"
        quantize(resolve(MODEL), self.gguf, type="q4_0", threads=THREADS)
        self.embedder = stack.enter_context(LlamaCppEmbedder(find_embedder(EMBEDDER), threads=THREADS))
        self.smollm2 = self._load(self.gguf, f"{MODEL}:q4_0")
        self.gemma3 = self._load(resolve(OTHER_MODEL), OTHER_MODEL)
        self.encoding = load_encoding(ENCODING)

    def _load(self, path: Path, name: str, cache_bytes: int = 256 * 2**20) -> LlamaCppModel:
        model = LlamaCppModel(path, name=name, threads=THREADS, no_repeats=True, cache_bytes=cache_bytes)
        return self._stack.enter_context(model)

    def count_cl100k(self, text: str) -> int:
        """Return the tokens of `text` in cl100k."""
        return len(self.encoding.encode_ordinary(text))

    @functools.cached_property
    def forgetful(self) -> LlamaCppModel:
        """The scorer without a memory of passages that other questions found too."""
        return self._load(self.gguf, f"{MODEL}:q4_0", cache_bytes=0)

    @functools.cached_property
    def lingua_folder(self) -> Path | None:
        """The weights that the package scores with; None where making them would take too long."""
        if folder := os.environ.get("LEANRAG_LLMLINGUA"):
            return Path(folder)
        return None if self._is_quick else dequantize(resolve(MODEL), self.folder / "transformers")


INDEXED = ("answers", "time", "random", "readers", "scorers", "package")
SECTIONS = (*INDEXED, "lingua", "kinds")


def measure(
    report: Report, stack: contextlib.ExitStack, data: Path, sizes: Sizes, sections: Sequence[str]
) -> dict[str, Path]:
    """Fill the report, what costs little first; return the files that were measured."""
    models = Models(stack, is_quick=sizes is QUICK)
    bare: dict[str, TokenCounter] = {"": models.count_cl100k, "_reader": models.smollm2.count_tokens}
    counts = {ending: functools.lru_cache(1 << 17)(count) for ending, count in bare.items()}
    collections = [
        stack.enter_context(indexed(questions, models.embedder, sizes))
        for questions in (read_squad(data), read_nq(data))
    ]
    report.figures["n"] = sum(len(collection.cases) for collection in collections)
    parts: dict[str, Callable[[], None]] = {
        "answers": lambda: measure_answers(report, collections, counts),
        # Bare: counts that are remembered would hide what counting costs.
        "time": lambda: measure_time(report, collections, bare, sizes),
        "random": lambda: measure_promises(report, models, collections[0].bare, sizes),
        "readers": lambda: measure_readers(report, models, collections, sizes),
        "scorers": lambda: measure_scorers(report, models, collections, counts, sizes),
        "package": lambda: measure_package(report, models, collections, counts, sizes),
    }
    for section in sections:
        parts[section]()
    return {MODEL: resolve(MODEL), OTHER_MODEL: resolve(OTHER_MODEL), EMBEDDER: find_embedder(EMBEDDER)}


def measure_answers(report: Report, collections: Sequence[Collection], counts: Mapping[str, TokenCounter]) -> None:
    for collection in collections:
        report.add(f"{collection.name} full", functools.partial(everything, collection, counts))
        for name, compressor in cheap_methods(collection).items():
            report.add_method(collection, name, given(compressor), collection.cases, counts)


def measure_time(
    report: Report, collections: Sequence[Collection], counts: Mapping[str, TokenCounter], sizes: Sizes
) -> None:
    names = [f"extractive{counter}_{quantile}_ms" for counter in counts for quantile in ("p50", "p95")]
    report.add("time of the extractive compressor", lambda: timed_extractive(collections, counts, sizes), *names)


def measure_promises(report: Report, models: Models, with_vectors: Compressor, sizes: Sizes) -> None:
    counts: dict[str, TokenCounter] = {
        ENCODING: models.count_cl100k,
        MODEL: models.smollm2.count_tokens,
        OTHER_MODEL: models.gemma3.count_tokens,
    }
    cheap: dict[str, Compressor] = {
        "extractive": ExtractiveCompressor(),
        "cut": Baseline("cut", baselines.cut),
        "random": Baseline("random sentences", baselines.random_sentences),
        "topk": Baseline("whole passages", baselines.whole_passages),
        "bm25": Baseline("BM25 sentences", baselines.bm25_sentences),
    }
    slow: dict[str, tuple[Compressor, int]] = {
        "vectors": (with_vectors, sizes.random_slow),
        "selfinfo": (SelfInformationCompressor(models.smollm2), sizes.random_slow),
    }
    if models.lingua_folder is not None:
        slow["lingua"] = (LLMLinguaCompressor(models.lingua_folder, threads=THREADS, max_calls=1), sizes.random_lingua)
    names = "over_budget", "verbatim_share", "protected_lost"
    report.add("random cases", lambda: promises(cheap, slow, counts, sizes), *names)


def measure_readers(report: Report, models: Models, collections: Sequence[Collection], sizes: Sizes) -> None:
    scorer = RememberingScorer(models.smollm2)
    for reader in (
        Reader("smollm2", models.smollm2, replace(CHAT_TEMPLATE, source="{text}\n\n")),
        Reader("gemma3", models.gemma3, COMPLETION_TEMPLATE),
    ):
        for collection in collections:
            names = [f"{reader.key}_{collection.name}_{measure}_ratio" for measure in ("em", "f1")]
            section = functools.partial(reading, reader, collection, scorer, sizes)
            report.add(f"{reader.key} reads {collection.name}", section, *names)


def measure_scorers(
    report: Report,
    models: Models,
    collections: Sequence[Collection],
    counts: Mapping[str, TokenCounter],
    sizes: Sizes,
) -> None:
    scorer = RememberingScorer(models.smollm2)
    for collection in collections:
        cases = collection.some(sizes.slow)
        for name, make in (
            ("same", given(collection.extractive)),  # ours, of the questions of the slow ones
            ("selfinfo", given(SelfInformationCompressor(scorer))),
            ("likelihood", given(likelihood(collection, scorer))),
            ("selective", lambda: Baseline("selective-context", baselines.selective_context(scorer))),
        ):
            report.add_method(
                collection, name, make, cases, counts, sizes.passages, timed=name in ("selfinfo", "selective")
            )


def measure_package(
    report: Report,
    models: Models,
    collections: Sequence[Collection],
    counts: Mapping[str, TokenCounter],
    sizes: Sizes,
) -> None:
    own = {"": counts[""]}
    causal, classifier = models.lingua_folder, os.environ.get("LEANRAG_LLMLINGUA2")
    if classifier is None:
        print(
            "llmlingua2: not measured: no model here. LEANRAG_LLMLINGUA2 may name a folder of its weights", flush=True
        )
    if causal is not None and sizes.paired:
        report.add(
            "time of self-information and LongLLMLingua",
            lambda: time_ratio(models.forgetful, causal, collections, models.smollm2.count_tokens, sizes),
            "selfinfo_time_ratio",
        )
    folders: dict[LinguaMethod, Path | None] = {
        "longllmlingua": causal,
        "llmlingua": causal,
        "llmlingua2": None if classifier is None else Path(classifier),
    }
    for collection in collections:
        cases = collection.some(sizes.lingua)
        budgets = BUDGETS[collection.name][1:2]  # a call takes ten seconds
        add = functools.partial(
            report.add_method, collection, cases=cases, counts=own, passages=sizes.passages, budgets=budgets
        )
        add("same_lingua", given(collection.extractive))
        for method, folder in folders.items():
            if folder is None:
                report.skip(collection, method, [f"{named(collection.name, method)}_aic@{budgets[0]}"])
            else:
                add(method, functools.partial(package, folder, method), timed=True)


def measure_beside_package(
    report: Report, stack: contextlib.ExitStack, data: Path, sizes: Sizes, sections: Sequence[str]
) -> None:
    """Fill in the sections that compare with the package and need no index."""
    work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    scorer: Path | None = None
    if sizes.overlaps and {"lingua", "kinds"}.intersection(sections):
        folder = os.environ.get("LEANRAG_LLMLINGUA")
        scorer = Path(folder) if folder else dequantize(resolve(MODEL), work / "transformers")
    if "lingua" in sections:
        squad = read_squad(data)
        texts = [document.text for document in squad.documents]
        questions = {question.document_id: question.text for question in squad.questions}
        passages = [
            (texts[at : at + 3], questions.get(squad.documents[at].id, "")) for at in range(0, len(texts) - 3, 3)
        ]
        for names, measure in lingua_parts(work, scorer, [each for each in passages if each[1]], n=sizes.overlaps):
            report.add(f"{names[0]}, beside the package", measure, *names)
    if "kinds" in sections:
        report.add(
            "answers kept on kinds",
            lambda: measure_kinds(data, scorer, n=sizes.kinds, n_prose=sizes.prose, is_quick=sizes is QUICK),
            "kinds_kept_extractive", "kinds_kept_lingua", "kinds_kept_longlingua",
        )  # fmt: skip


def main() -> None:
    arguments = parse_arguments(__doc__, sections=SECTIONS)
    sections = SECTIONS if arguments.only is None else (arguments.only,)
    sizes = QUICK if arguments.is_quick else Sizes()

    def save(figures: Figures) -> None:
        if arguments.only is not None:
            finish({"n": sizes.cheap, **figures}, arguments.json_path, only=arguments.only)

    report = Report(save)
    with contextlib.ExitStack() as stack:
        models: dict[str, Path] = {}
        if indexed_sections := [section for section in sections if section in INDEXED]:
            models = measure(report, stack, arguments.data, sizes, indexed_sections)
        measure_beside_package(report, stack, arguments.data, sizes, sections)
        figures = {"n": sizes.cheap, **report.figures}
        finish(figures, arguments.json_path, models=models, is_quick=arguments.is_quick, only=arguments.only)


if __name__ == "__main__":
    main()
