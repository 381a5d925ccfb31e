"""The order of the stages for a question: `open` a folder, `add` to it, then `search`, `ask`, `explain`."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from tqdm.auto import tqdm

from leanrag.caching.queries import QueryCache
from leanrag.compression.gate import CostGate
from leanrag.documents.chunking import MAX_TOKENS, DocumentChunker
from leanrag.errors import BudgetError, ConfigurationError, DocumentError, GenerationCancelled, GenerationError
from leanrag.evidence.packing import CompressingPacker, EvidencePacker, TokenBudget
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.grounding import ground
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.process import load_model
from leanrag.models.registry import resolve
from leanrag.pipeline.adding import Ingestion, Source
from leanrag.pipeline.copies import find_embedder
from leanrag.pipeline.reader import Clock, Lazy, Prepared, Reader, fit
from leanrag.pipeline.turn import NO_ANSWER, AnswerStream, Asked, Attempt, Options, Turn, abstained, given
from leanrag.prompting import PromptTemplate
from leanrag.protocols import (
    Chunker,
    ChunkFeature,
    Compressor,
    ComputesAhead,
    Embedder,
    LanguageModel,
    Packer,
)
from leanrag.retrieval.embedding import SentenceTransformerEmbedder
from leanrag.retrieval.index import FaissIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.store import DocumentRecord, Store, StoreStats
from leanrag.routing.calibration import CalibratedModel, Calibration, DriftAudit
from leanrag.routing.cascade import Cascade, model_name
from leanrag.routing.labels import Failures, Question, Sample, agree, fit_steps, plan, sample_text
from leanrag.routing.signals import Confidence, Signals, is_refusal, signals_before, signals_of, uncalibrated
from leanrag.types import (
    AddReport,
    Answer,
    CancelToken,
    Document,
    Explanation,
    Generation,
    Hit,
    Scalar,
    Usage,
)

__all__ = ["NO_ANSWER", "Rag", "open"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


def open(  # noqa: A001 - leanrag.open, as gzip.open
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | LanguageModel | Cascade = "smollm2-135m",
    embedder: str | os.PathLike[str] | Embedder = "all-minilm-l6-v2",
    isolation: Literal["none", "process"] = "none",
    keep_alive: float | None = None,
    chunker: Chunker | None = None,
    packer: Packer | None = None,
    compressor: Compressor | None = None,
    template: PromptTemplate | None = None,
    k: int = 10,
    context_tokens: int | None = 300,
    max_tokens: int = 64,
    abstain_below: float | None = None,
    self_check: bool = False,
    create: bool = True,
) -> Rag:
    """Open a folder as a database of documents.

    Models are loaded when they are first needed.

    Args:
        path: The folder; made when it is not there.
        model: Who answers: a name that `leanrag list` shows, a GGUF file, any `LanguageModel`, or a `Cascade` of several.
        embedder: Who embeds: a name, a folder of a sentence-transformers model, a GGUF file, or any `Embedder`. A name is run by
            llama.cpp; a folder needs the extra `torch`.
        isolation: "process" runs a model that is loaded here in a process of its own, so that no file can end this one.
        keep_alive: Seconds without a question after which a model that is loaded here leaves the memory; the next question loads it
            again. None keeps it, 0 frees it at once.
        chunker: How documents are split; by default by their kind, into at most 160 tokens of the embedder.
        packer: What the prompt holds; by default `EvidencePacker`: the sentences and clauses that are worth most for the question.
        compressor: What thins the hits instead, where the time that it takes is less than the reading that it saves. What
            it can compute ahead is computed when documents are added.
        template: How sources and question become a prompt; by default by what the model reads.
        k: Chunks retrieved for a question.
        context_tokens: Most tokens of sources in a prompt, counted by the answering model; None for all that its window
            leaves. Few tokens are read sooner, and by small models about as well.
        max_tokens: Most tokens of an answer; they are reserved in the window.
        abstain_below: Confidence below which an answer is not given: its text says that the sources do not answer, `abstained` is
            set, and a stream shows nothing before its end. None goes by the calibrations of a cascade, which know such a number
            when they were made with questions that have no answer; without these every answer is given.
        self_check: Ask each local model how likely its own answer is right, and make that a signal of confidence; it reads
            some twenty tokens more for it.
        create: Make the folder when it is not there.

    Raises:
        ConfigurationError: An argument cannot work.
        StorageError: The folder cannot be opened or made.
        IndexMismatchError: The folder was built with another embedder (raised when it is first needed).

    Example:
        >>> with leanrag.open("kb", model="smollm2-135m") as rag:  # doctest: +SKIP
        ...     rag.add("docs/")
        ...     print(rag.ask("What does the global statement do?"))
    """
    for name, value in (("k", k), ("context_tokens", context_tokens), ("max_tokens", max_tokens)):
        if value is not None and value < 1:
            raise ConfigurationError(f"`{name}` must be at least 1, got {value!r}")
    if abstain_below is not None and not 0 <= abstain_below <= 1:
        raise ConfigurationError(f"`abstain_below` must be in [0, 1], got {abstain_below!r}")
    models = model.models if isinstance(model, Cascade) else [model]
    is_named = any(isinstance(one, (str, os.PathLike)) for one in models)
    if isolation not in ("none", "process") or (isolation != "none" and not is_named):
        raise ConfigurationError(
            f"`isolation` must be 'none', or 'process' for a model that is named, not one that is loaded; got {isolation!r}"
        )
    if keep_alive is not None and not (keep_alive >= 0 and is_named):
        raise ConfigurationError(
            f"`keep_alive` must be at least 0 seconds, for a model that is named, not one that is loaded; got {keep_alive!r}"
        )
    if packer is not None and compressor is not None:
        raise ConfigurationError("give either `packer` or `compressor`; `CompressingPacker(compressor)` is a packer")
    return Rag(
        Store(path, create=create),
        [Reader(Lazy(functools.partial(_load_model, one, isolation, keep_alive)), template) for one in models],
        Lazy(functools.partial(_load_embedder, embedder)),
        cascade=model if isinstance(model, Cascade) else None,
        chunker=chunker,
        packer=packer,
        compressor=compressor,
        k=k,
        context_tokens=context_tokens,
        max_tokens=max_tokens,
        abstain_below=abstain_below,
        self_check=self_check,
    )


class Rag:
    """A folder of documents that answers questions; made by `open`. Any thread may call.

    Use it in a `with` block, or call `close`.
    """

    def __init__(
        self,
        store: Store,
        readers: Sequence[Reader],
        embedder: Lazy[Embedder],
        *,
        cascade: Cascade | None,
        chunker: Chunker | None,
        packer: Packer | None,
        compressor: Compressor | None,
        k: int,
        context_tokens: int | None,
        max_tokens: int,
        abstain_below: float | None,
        self_check: bool,
    ) -> None:
        self._store, self._readers, self._lazy_embedder = store, tuple(readers), embedder
        self._cascade = cascade
        self._audit, self._audit_lock = cascade.audit if cascade else None, threading.Lock()
        self._has_warned = False
        self._given_chunker, self._given_packer, self._compressor = chunker, packer, compressor
        self._gate = CostGate()
        self._k, self._context_tokens, self._max_tokens = k, context_tokens, max_tokens
        self._abstain_below, self._self_check = abstain_below, self_check
        self._index: FaissIndex | None = None
        self._index_generation = -1
        self._index_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Rag({str(self._store.folder)!r})"

    def __enter__(self) -> Rag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder and the models that were loaded for it; idempotent."""
        for reader in self._readers:
            reader.close()
        self._lazy_embedder.close()
        self._store.close()

    # Documents

    def add(
        self,
        *sources: Source,
        metadata: Mapping[str, Scalar] | None = None,
        progress: bool | None = None,
    ) -> AddReport:
        """Add files, folders and documents; what is known and unchanged is skipped.

        A folder is read with everything below it. Files that vanished since it was last added are removed from the database.
        One document after another is committed: an interrupted call keeps what it did.

        Args:
            sources: Paths, or `Document`s made from text.
            metadata: Set on each document, to filter on with `where`.
            progress: Show a bar on standard error; by default only when that is a terminal.

        Raises:
            DocumentError: A source could not be read. All others were added; the error's `report` says what was done.
            StorageError: Another process is writing, or the folder is read-only.
        """
        embedder = self._embedder
        most = min(MAX_TOKENS, embedder.max_tokens)
        chunker = self._given_chunker or DocumentChunker(embedder.count_tokens, max_tokens=most)
        self._store.bind(embedder.id, embedder.dim, chunker.id)
        features: list[ChunkFeature] = [] if self._given_packer else [SentenceVectors(embedder)]
        if isinstance(self._compressor, ComputesAhead):
            features.append(self._compressor.feature)
        ingestion = Ingestion(self._store, chunker, embedder, features=features, metadata=metadata, progress=progress)
        return ingestion.run(sources)

    def add_text(
        self,
        text: str,
        *,
        title: str = "",
        id: str = "",  # noqa: A002 - as `Document.id`
        metadata: Mapping[str, Scalar] | None = None,
    ) -> AddReport:
        """Add one text; `id` defaults to a hash of it."""
        if not text.strip():
            raise DocumentError("the text is empty; give some")
        return self.add(Document(text, id=id, title=title, metadata=metadata or {}))

    def remove(self, *sources: str | os.PathLike[str]) -> int:
        """Remove documents by id or path; a folder stands for all documents below it. Returns how many there were.

        Raises:
            DocumentError: There is no such document; nothing was removed.
        """
        ids = [record.id for record in self._store.documents()]
        chosen: list[str] = []
        for source in sources:
            name, path = os.fspath(source), Path(source).resolve().as_posix()
            matches = [id for id in ids if id in (name, path) or id.startswith(path.rstrip("/") + "/")]  # noqa: A001
            if not matches:
                raise DocumentError(f"there is no document {name!r} in {str(self._store.folder)!r}", path=name)
            chosen += matches
        return self._store.remove(dict.fromkeys(chosen))

    def documents(self) -> Iterator[DocumentRecord]:
        """Yield a record of each document, without its text."""
        return self._store.documents()

    def get_document(self, document_id: str) -> Document:
        """Return a document with its text."""
        return self._store.get_document(document_id)

    def stats(self) -> StoreStats:
        """Return what the folder holds."""
        return self._store.stats()

    # Questions

    def search(self, question: str, k: int | None = None, *, where: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """Return the chunks that match a question best, best first.

        Args:
            question: Plain text.
            k: Most hits; the default of `open` when None.
            where: Only documents whose metadata has these values.
        """
        _check_question(question)
        retriever = HybridRetriever(self._store, self._fresh_index(), self._embedder)
        return retriever.retrieve(question, k or self._k, where=where)

    def explain(
        self,
        question: str,
        *,
        k: int | None = None,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        where: Mapping[str, Scalar] | None = None,
    ) -> Explanation:
        """Return what `ask` would send, with nothing generated: hits, packing, the exact prompt and its size."""
        _check_question(question)
        place = self._cascade.first(question) if self._cascade else 0
        reader = self._readers[place]
        options = self._options(context_tokens, max_tokens)
        if self._cascade is not None:
            options = replace(options, context_tokens=self._cascade.most_tokens(place, options.context_tokens))
        clock = Clock()
        with clock("budget"):
            budget = reader.budget(question, options.max_tokens, options.context_tokens)
        asked = self._find(question, k, where, clock)
        prepared = self._prepare(reader, asked, budget)
        return Explanation(
            question=question,
            hits=asked.hits,
            packing=prepared.packing,
            prompt=None if prepared.prompt is None else reader.model.render(prepared.prompt),
            model=reader.model.name,
            n_ctx=reader.model.n_ctx,
            prompt_tokens=prepared.tokens,
            max_tokens=options.max_tokens,
            cost=None,
            trace=clock.stages,
        )

    def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        where: Mapping[str, Scalar] | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Answer:
        """Answer a question from the documents.

        Args:
            question: Plain text.
            k: Chunks retrieved.
            context_tokens: Most tokens of sources in the prompt.
            max_tokens: Most tokens of the answer.
            where: Only documents whose metadata has these values.
            temperature: 0 for the same answer each time.
            seed: Repeats a draw when `temperature` is above 0.
            timeout_seconds: Limit of the generation.
            cancel: Stops it from another thread.

        Raises:
            ConfigurationError: The folder holds no documents, or an argument cannot work.
            BudgetError: The question does not fit the window, or not one sentence of a source fits the budget.
            GenerationError: The model failed, was cancelled, or passed the time limit.
        """
        return self.stream(
            question,
            k=k,
            context_tokens=context_tokens,
            max_tokens=max_tokens,
            where=where,
            temperature=temperature,
            seed=seed,
            timeout_seconds=timeout_seconds,
            cancel=cancel,
        ).answer

    def stream(
        self,
        question: str,
        *,
        k: int | None = None,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        where: Mapping[str, Scalar] | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> AnswerStream:
        """As `ask`: iterate for the model's words as they come, then read `answer`, which has the marks and citations."""
        _check_question(question)
        options = self._options(context_tokens, max_tokens, temperature, seed, timeout_seconds, cancel)
        clock = Clock()
        if self._cascade is not None:
            return self._ask_in_turn(self._cascade, self._find(question, k, where, clock), options)
        reader = self._readers[0]
        with clock("budget"):
            budget = reader.budget(question, options.max_tokens, options.context_tokens)
        attempt = self._begin(reader, self._find(question, k, where, clock), budget, options)
        return AnswerStream(attempt.generation, lambda: self._finish_alone(attempt), is_held=bool(self._abstain_below))

    def ask_many(self, questions: Iterable[str], *, parallel: int = 8, **options: object) -> list[Answer]:
        """Answer several questions, in their order, as `ask` does; the model computes those at work together.

        Args:
            questions: Plain texts.
            parallel: Questions at work at once.
            options: As for `ask`.

        Raises:
            LeanRAGError: As `ask` does, for the first question that fails; those that wait are not asked.
        """
        return _in_parallel(functools.partial(self.ask, **options), questions, parallel)  # type: ignore[arg-type]

    async def aask(self, question: str, **options: object) -> Answer:
        """As `ask`, for asyncio; cancelling the task stops the generation."""
        cancel = _own_token(options)
        try:
            return await asyncio.to_thread(self.ask, question, **{**options, "cancel": cancel})  # type: ignore[arg-type]
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    async def astream(self, question: str, **options: object) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        cancel = _own_token(options)
        try:
            stream = await asyncio.to_thread(self.stream, question, **{**options, "cancel": cancel})  # type: ignore[arg-type]
        except asyncio.CancelledError:
            cancel.cancel()
            raise
        pieces = iter(stream)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            stream.close()

    # Calibration

    def calibrate(
        self,
        questions: Iterable[Question],
        *,
        alpha: float = 0.05,
        delta: float = 0.1,
        is_right: Callable[[str, Sequence[str]], bool] | None = None,
        created: datetime.date | None = None,
        seed: int = 0,
        k: int | None = None,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        where: Mapping[str, Scalar] | None = None,
        timeout_seconds: float | None = None,
        parallel: int = 8,
        progress: bool | None = None,
    ) -> tuple[Calibration, ...]:
        """Learn from questions when a cascade's answers may be kept; give the result to `Cascade` as `calibrations`.

        Every model answers every question, one model after the other, each from sources packed for itself; progress is logged.
        A step's loss is that its answer is kept and wrong where the **last** model is right: the most that going on can bring,
        whatever models stand between. Over all questions the chain loses more than `alpha` with probability `delta` at most;
        each step gets an equal part of both. That holds for questions like these, asked with the same documents and options.
        The calibration of the last model says how sure it is, and when to abstain; there is none where the questions have no
        answers given, or it is always right or never.

        Args:
            questions: With the answers that are right, none for questions that the sources do not answer: these teach when to
                abstain. Or plain, all of them: then the last model's answers count as right, and another that has a word-level F1
                of at least `leanrag.routing.labels.AGREEMENT_F1` with them. The calibrations' `label_source` tells which.
            alpha: What the risk may be, in (0, 1).
            delta: Probability with which it is more all the same, in (0, 0.5].
            is_right: From an answer without marks and those that are right; by default whether it contains one of them or, where
                there is none, says that it does not know.
            created: The day; today by default.
            seed: Of the random parts to learn from and to certify with.
            k: As for `ask`.
            context_tokens: As for `ask`.
            max_tokens: As for `ask`.
            where: As for `ask`.
            timeout_seconds: As for `ask`.
            parallel: Questions at work at once.
            progress: Show a bar on standard error; by default only when that is a terminal.

        Raises:
            ConfigurationError: This has no cascade, an argument cannot work, there are too few questions, or a model is always
                right or never.
            GenerationError: A model cannot be loaded, or more than a tenth of the questions failed. Fewer are left out, with a
                warning, and so are those for which nothing is found.
        """
        if self._cascade is None:
            raise ConfigurationError(
                "calibrations belong to a cascade; open the folder with a `Cascade`, of one model or several"
            )
        cascade = self._cascade
        names = [model_name(model) for model in cascade.models]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"models to calibrate need different names, got {', '.join(names)}; rename a file")
        planned = plan(questions, models=len(names), alpha=alpha, delta=delta, is_right=is_right)
        asked = _in_parallel(lambda text: self._find(text, k, where, Clock()), planned.questions, parallel)
        models = [CalibratedModel(name=reader.model.name, sha256=reader.sha256) for reader in self._readers]
        options = self._options(context_tokens, max_tokens, timeout_seconds=timeout_seconds)
        each = [
            replace(options, context_tokens=cascade.most_tokens(place, options.context_tokens))
            for place in range(len(names))
        ]
        samples = self._sample_all(asked, each, parallel, progress)
        return fit_steps(planned, samples, models, is_right=is_right, created=created, seed=seed)

    def _sample_all(
        self, asked: Sequence[Asked], options: Sequence[Options], parallel: int, progress: bool | None
    ) -> list[list[Sample | None]]:
        """What each model, with its own options, answers to each question; None after a failure, and when nothing was found."""
        failures = Failures(len(asked))
        samples: list[list[Sample | None]] = []
        for reader, own in zip(self._readers, options, strict=True):
            logger.info("%s answers %d questions", reader.model.name, len(asked))
            left = [one if not samples or samples[-1][n] is not None else None for n, one in enumerate(asked)]
            is_hidden = None if progress is None else not progress
            with tqdm(total=len(left), desc=reader.model.name, unit="question", disable=is_hidden, leave=False) as bar:

                def work(
                    one: Asked | None, reader: Reader = reader, own: Options = own, bar: Any = bar
                ) -> Sample | None:
                    sample = self._sample(reader, own, failures, one)
                    bar.update()
                    return sample

                samples.append(_in_parallel(work, left, parallel))
        failures.report()
        return samples

    def _sample(self, reader: Reader, options: Options, failures: Failures, asked: Asked | None) -> Sample | None:
        if asked is None or failures.are_too_many:
            return None
        seen: list[Signals] = []

        def judge(signals: Signals) -> tuple[Confidence, bool]:
            seen.append(signals)
            return _judge_alone(signals)

        try:
            budget = reader.budget(asked.question, options.max_tokens, options.context_tokens)
            attempt = self._begin(reader, replace(asked, clock=Clock()), budget, options)
            answer, _ = self._finish(attempt, judge)
        except GenerationCancelled:
            raise
        except (GenerationError, BudgetError) as error:
            failures.add(asked.question, error)
            return None
        return Sample(sample_text(answer.generation.text), seen[0]) if answer.generation is not None else None

    @property
    def audit(self) -> DriftAudit | None:
        """The cascade's audit as it stands now; None when it has none."""
        with self._audit_lock:
            return self._audit

    def _record(self, loss: bool) -> None:
        with self._audit_lock:
            if self._audit is None:
                return
            self._audit = audit = self._audit.record(loss)
            is_news = audit.has_drifted and not self._has_warned
            self._has_warned = self._has_warned or is_news
        if is_news:
            logger.warning(
                "the risk is above %g: %d of %d audited questions lost something; calibrate again",
                audit.alpha,
                audit.losses,
                audit.n,
            )

    # How it is done

    @property
    def _embedder(self) -> Embedder:
        return self._lazy_embedder.get()

    @functools.cached_property
    def _evidence_packer(self) -> EvidencePacker:
        vectors = SentenceVectors(self._embedder)
        return EvidencePacker(SentenceScorer(vectors, functools.partial(self._store.get_feature, vectors.name)))

    @functools.cached_property
    def _compressing_packer(self) -> CompressingPacker:
        compressor = self._compressor
        assert compressor is not None
        if isinstance(compressor, ComputesAhead):
            compressor = compressor.with_stored(functools.partial(self._store.get_feature, compressor.feature.name))
        return CompressingPacker(compressor)

    def _choose_packer(
        self, reader: Reader, hits: Sequence[Hit], budget: TokenBudget, details: dict[str, Scalar]
    ) -> Packer:
        """The packer that was given; or the compressor's, where compressing pays; or sentences and clauses."""
        if self._given_packer is not None or self._compressor is None:
            return self._given_packer or self._evidence_packer
        tokens = sum(reader.count_tokens(hit.chunk.text) for hit in hits)
        decision = self._gate.decide(
            reader.model.name, self._compressor.name, tokens_before=tokens, tokens_after=min(tokens, budget.sources)
        )
        details |= {"gate": decision.reason, "compress": decision.compress, "saved_tokens": decision.saved_tokens}
        details |= {"saved_seconds": decision.saved_seconds, "cost_seconds": decision.cost_seconds}
        return self._compressing_packer if decision.compress else self._evidence_packer

    def _fresh_index(self) -> FaissIndex:
        """The vector index, brought up to what the store holds now, whichever process wrote it."""
        with self._index_lock:
            generation = self._store.generation
            if self._index is None or generation != self._index_generation:
                embedder = self._embedder
                self._store.bind(embedder.id, embedder.dim, "")
                index = FaissIndex(embedder.dim)
                index.add(*self._store.all_vectors())
                self._index, self._index_generation = index, generation
            return self._index

    def _options(
        self,
        context_tokens: int | None = None,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Options:
        context_tokens, max_tokens = context_tokens or self._context_tokens, max_tokens or self._max_tokens
        return Options(context_tokens, max_tokens, temperature, seed, timeout_seconds, cancel)

    def _find(self, question: str, k: int | None, where: Mapping[str, Scalar] | None, clock: Clock) -> Asked:
        """The question with what is found for it."""
        with clock("retrieve") as details:
            hits = tuple(self.search(question, k, where=where))
            details["hits"] = len(hits)
        if not hits and not self._store.stats().documents:
            raise ConfigurationError(f"{str(self._store.folder)!r} holds no documents; add some first, with `add`")
        return Asked(question, hits, clock)

    def _prepare(self, reader: Reader, asked: Asked, budget: TokenBudget) -> Prepared:
        """Pack the hits for a reader."""
        with asked.clock("pack") as details:
            packer = self._choose_packer(reader, asked.hits, budget, details)
            model, count_tokens = reader.model, reader.count_tokens
            packing, prompt, tokens = fit(
                asked.question, asked.hits, budget, packer, reader.template, model, count_tokens
            )
            if packing.compression is not None:
                self._gate.observe(packing.compression)
            n_kept = sum(item.action != "heading" for item in packing.items)
            details |= {"kept": n_kept, "dropped": len(packing.dropped)}
            details |= {"fixed_tokens": budget.fixed, "source_tokens": packing.tokens, "answer_tokens": budget.answer}
        return Prepared(packing, prompt, tokens)

    def _begin(
        self,
        reader: Reader,
        asked: Asked,
        budget: TokenBudget,
        options: Options,
        is_worth: Callable[[Signals], bool] | None = None,
    ) -> Attempt:
        """Let a reader begin to answer; it is not asked when nothing was found, or nothing will come of what was found."""
        prepared = self._prepare(reader, asked, budget)
        if prepared.prompt is None:
            return Attempt(reader, asked, prepared, None, "", options)
        if is_worth is not None:
            with asked.clock("before") as details:
                details["asks"] = is_worth(signals_before(asked.question, asked.hits, prepared.packing))
            if not details["asks"]:
                return Attempt(reader, asked, prepared, None, "", options)
        with asked.clock("prompt"):
            rendered = reader.model.render(prepared.prompt)
            generation = reader.model.stream(
                prepared.prompt,
                max_tokens=options.max_tokens,
                temperature=options.temperature,
                seed=options.seed,
                stop=reader.template.stop,
                timeout_seconds=options.timeout_seconds,
                cancel=options.cancel,
            )
        return Attempt(reader, asked, prepared, generation, rendered, options)

    def _finish(self, attempt: Attempt, judge: Callable[[Signals], tuple[Confidence, bool]]) -> tuple[Answer, bool]:
        """Wait for the end of an answer, look up what supports it, and judge it; whether it is kept comes with it."""
        asked, prepared, clock = attempt.asked, attempt.prepared, attempt.asked.clock
        generation: Generation | None = None
        if attempt.generation is not None:
            with clock("generate") as details:
                generation = attempt.generation.result
                self._gate.observe(generation)
                details["prompt_tokens"] = generation.usage.prompt_tokens
                details["completion_tokens"] = generation.usage.completion_tokens
        text = NO_ANSWER if generation is None else generation.text
        with clock("ground"):
            grounding = ground(asked.question, text, prepared.packing.items)
        confidence, is_kept = None, True
        if generation is not None:
            with clock("confidence") as details:
                check = None
                if self._self_check and prepared.prompt is not None:
                    check = attempt.reader.self_check(
                        prepared.prompt,
                        generation.text,
                        timeout_seconds=attempt.options.timeout_seconds,
                        cancel=attempt.options.cancel,
                    )
                signals = signals_of(
                    asked.question,
                    asked.hits,
                    prepared.packing,
                    generation,
                    support=grounding.support,
                    self_check=check,
                )
                confidence, is_kept = judge(signals)
                details |= {name: value for name, value in signals.as_dict().items() if value is not None}
        usage = generation.usage if generation else Usage(0, 0)
        answer = Answer(
            question=asked.question,
            text=grounding.text,
            citations=grounding.citations,
            is_supported=grounding.is_supported,
            support=grounding.support,
            model=generation.model if generation else None,
            finish_reason=generation.finish_reason if generation else None,
            usage=usage,
            cost=attempt.reader.price(usage),
            prompt=attempt.rendered,
            packing=prepared.packing,
            generation=generation,
            trace=clock.stages,
            confidence=None if confidence is None else confidence.value,
            calibrated=confidence is not None and confidence.calibrated,
        )
        is_unasked = generation is None and prepared.prompt is not None
        return abstained(answer) if is_unasked else answer, is_kept

    def _finish_alone(self, attempt: Attempt) -> Answer:
        """The answer of the only model, or that there is none."""
        return given(self._finish(attempt, _judge_alone)[0], self._abstain_below or 0.0)

    def _ask_in_turn(self, cascade: Cascade, asked: Asked, options: Options) -> AnswerStream:
        """Ask one model after another until an answer is sure enough; of the last one the words are seen as they come."""
        turn, stopped_by = Turn(cascade, asked, self._abstain_below), "outage"
        for place in range(turn.first, len(self._readers)):
            reader, is_last = self._readers[place], place == len(self._readers) - 1
            if (limit := turn.limit(reader)) == "cost":
                stopped_by = limit  # a later model may be free
                continue
            if limit is not None:
                return turn.stream(stopped_by=limit)
            with turn.asking(place, reader):
                attempt = self._begin_in_turn(turn, place, options)
                if is_last and attempt.generation is not None:
                    return AnswerStream(
                        attempt.generation,
                        functools.partial(self._finish_last, turn, attempt, place),
                        best=turn.best,
                        is_held=turn.least_confidence(place) > 0,
                    )
                if turn.add(place, reader, *self._finish(attempt, functools.partial(cascade.judge, place))):
                    break
        else:
            return turn.stream(stopped_by=stopped_by)
        self._audit_kept(turn, options)
        return turn.stream()

    def _begin_in_turn(self, turn: Turn, place: int, options: Options) -> Attempt:
        """Let a reader of a cascade begin, within what is left of its limits."""
        reader = self._readers[place]
        turn.cascade.check_file(reader.model.name, lambda: reader.sha256)
        within = turn.within(options, place)
        with turn.asked.clock("budget"):
            budget = reader.budget(turn.asked.question, within.max_tokens, within.context_tokens)
        return self._begin(reader, turn.asked, budget, within, turn.is_worth(place))

    def _audit_kept(self, turn: Turn, options: Options) -> None:
        """Have the last model answer too where the audit chooses the question; what fails, or a limit forbids, is not counted."""
        kept, place = turn.best, len(self._readers) - 1
        reader = self._readers[place]
        is_found = kept is not None and (kept.generation is not None or kept.abstained)
        if kept is None or not is_found or not turn.is_audited or turn.limit(reader) is not None:
            return
        with turn.asking(place, reader):
            attempt = self._begin_in_turn(turn, place, options)
            if attempt.generation is None:
                return
            answer, _ = self._finish(attempt, functools.partial(turn.cascade.judge, place))
            same = _say_the_same(kept, turn.given(place, answer))
            turn.add_audit(place, reader, answer, "it agrees" if same else "it disagrees")
            self._record(loss=not same)

    def _finish_last(self, turn: Turn, attempt: Attempt, place: int) -> Answer:
        """The last model's answer; when it fails, the best one before it."""
        with turn.asking(place, attempt.reader):
            turn.add(place, attempt.reader, *self._finish(attempt, functools.partial(turn.cascade.judge, place)))
            if turn.is_audited:
                self._record(loss=False)
            return turn.answer()
        return turn.answer(stopped_by=turn.limit(attempt.reader) or "outage")


def _own_token(options: Mapping[str, object]) -> CancelToken:
    """A token of this request alone, which that of the caller cancels too."""
    own, given = CancelToken(), options.get("cancel")
    if isinstance(given, CancelToken):
        given.on_cancel(own.cancel)
    return own


def _say_the_same(kept: Answer, other: Answer) -> bool:
    """Whether two answers agree; one that is not given agrees with any that says, in its own words, that there is none."""
    if kept.abstained or other.abstained:
        return all(one.abstained or is_refusal(one.text) for one in (kept, other))
    return agree(kept.text, other.text)


def _judge_alone(signals: Signals) -> tuple[Confidence, bool]:
    """What `Cascade.judge` says of the only model."""
    return uncalibrated(signals), True


def _in_parallel(work: Callable[[T], R], items: Iterable[T], parallel: int) -> list[R]:
    """`work` of each item, in order, `parallel` at once; the first failure ends it, and those that wait are left."""
    if parallel < 1:
        raise ConfigurationError(f"`parallel` must be at least 1, got {parallel!r}")
    with ThreadPoolExecutor(parallel, thread_name_prefix="leanrag ask") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()


def _load_model(
    model: str | os.PathLike[str] | LanguageModel, isolation: Literal["none", "process"], keep_alive: float | None
) -> tuple[LanguageModel, bool]:
    if not isinstance(model, (str, os.PathLike)):
        return model, False
    path = resolve(model)
    name = model if isinstance(model, str) and not Path(model).exists() else None
    return load_model(path, isolation=isolation, name=name, no_repeats=True, keep_alive=keep_alive), True


def _load_embedder(embedder: str | os.PathLike[str] | Embedder) -> tuple[Embedder, bool]:
    if not isinstance(embedder, (str, os.PathLike)):
        return QueryCache(embedder), False
    path = find_embedder(os.fspath(embedder))
    return QueryCache(LlamaCppEmbedder(path) if path.is_file() else SentenceTransformerEmbedder(path)), True


def _check_question(question: str) -> None:
    if not question.strip():
        raise ConfigurationError(f"a question is a non-empty text, got {question!r}")
