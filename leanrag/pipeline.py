"""The order of the stages for a question: `open` a folder, `add` to it, then `search`, `ask`, `explain`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

from leanrag.cache import QueryCache
from leanrag.chunking import MAX_TOKENS, DocumentChunker
from leanrag.compression.evidence import SentenceScorer, SentenceVectors
from leanrag.compression.gate import CostGate
from leanrag.copies import find_embedder
from leanrag.embedding import SentenceTransformerEmbedder
from leanrag.errors import ConfigurationError, DocumentError
from leanrag.grounding import ground
from leanrag.index import FaissIndex
from leanrag.ingest import Ingestion, Source
from leanrag.llama.embedder import LlamaCppEmbedder
from leanrag.llama.process import load_model
from leanrag.models import resolve
from leanrag.packing import CompressingPacker, EvidencePacker, TokenBudget
from leanrag.prompting import CHAT_TEMPLATE, COMPLETION_TEMPLATE, PromptTemplate
from leanrag.protocols import (
    Chunker,
    ChunkFeature,
    Compressor,
    ComputesAhead,
    Embedder,
    GenerationStream,
    LanguageModel,
    Packer,
    TokenCounter,
)
from leanrag.retrieval import HybridRetriever
from leanrag.store import DocumentRecord, Store, StoreStats
from leanrag.types import (
    AddReport,
    Answer,
    CancelToken,
    Document,
    Explanation,
    Generation,
    Hit,
    Packing,
    Prompt,
    Scalar,
    Stage,
    Usage,
)

__all__ = ["NO_ANSWER", "AnswerStream", "Rag", "open"]

T = TypeVar("T")

NO_ANSWER = "The sources do not answer this question."
"""The text of an answer for which nothing was found."""


def open(  # noqa: A001 - leanrag.open, as gzip.open
    path: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | LanguageModel = "smollm2-135m",
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
    create: bool = True,
) -> Rag:
    """Open a folder as a database of documents.

    Models are loaded when they are first needed.

    Args:
        path: The folder; made when it is not there.
        model: Who answers: a name that `leanrag list` shows, a GGUF file, or any `LanguageModel`.
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
    if isolation not in ("none", "process") or (isolation != "none" and not isinstance(model, (str, os.PathLike))):
        raise ConfigurationError(
            f"`isolation` must be 'none', or 'process' for a model that is named, not one that is loaded; got {isolation!r}"
        )
    if keep_alive is not None and not (keep_alive >= 0 and isinstance(model, (str, os.PathLike))):
        raise ConfigurationError(
            f"`keep_alive` must be at least 0 seconds, for a model that is named, not one that is loaded; got {keep_alive!r}"
        )
    if packer is not None and compressor is not None:
        raise ConfigurationError("give either `packer` or `compressor`; `CompressingPacker(compressor)` is a packer")
    return Rag(
        Store(path, create=create),
        _Lazy(functools.partial(_load_model, model, isolation, keep_alive)),
        _Lazy(functools.partial(_load_embedder, embedder)),
        chunker=chunker,
        packer=packer,
        compressor=compressor,
        template=template,
        k=k,
        context_tokens=context_tokens,
        max_tokens=max_tokens,
    )


class Rag:
    """A folder of documents that answers questions; made by `open`. Any thread may call.

    Use it in a `with` block, or call `close`.
    """

    def __init__(
        self,
        store: Store,
        model: _Lazy[LanguageModel],
        embedder: _Lazy[Embedder],
        *,
        chunker: Chunker | None,
        packer: Packer | None,
        compressor: Compressor | None,
        template: PromptTemplate | None,
        k: int,
        context_tokens: int | None,
        max_tokens: int,
    ) -> None:
        self._store = store
        self._lazy_model, self._lazy_embedder = model, embedder
        self._given_chunker, self._given_packer, self._given_template = chunker, packer, template
        self._compressor = compressor
        self._gate = CostGate()
        self._k, self._context_tokens, self._max_tokens = k, context_tokens, max_tokens
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
        self._lazy_model.close()
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
        prepared = self._prepare(question, k, context_tokens, max_tokens, where)
        model, prompt = self._model, prepared.prompt
        return Explanation(
            question=question,
            hits=prepared.hits,
            packing=prepared.packing,
            prompt=None if prompt is None else model.render(prompt),
            model=model.name,
            n_ctx=model.n_ctx,
            prompt_tokens=prepared.prompt_tokens,
            max_tokens=prepared.max_tokens,
            cost=None,
            trace=prepared.clock.stages,
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
        prepared = self._prepare(question, k, context_tokens, max_tokens, where)
        if prepared.prompt is None:
            return AnswerStream(prepared, None, "")
        with prepared.clock("prompt"):
            rendered = self._model.render(prepared.prompt)
            generation = self._model.stream(
                prepared.prompt,
                max_tokens=prepared.max_tokens,
                temperature=temperature,
                seed=seed,
                stop=self._template.stop,
                timeout_seconds=timeout_seconds,
                cancel=cancel,
            )
        return AnswerStream(prepared, generation, rendered)

    async def aask(self, question: str, **options: object) -> Answer:
        """As `ask`, for asyncio; cancelling the task stops the generation."""
        cancel = CancelToken()
        try:
            return await asyncio.to_thread(self.ask, question, **{"cancel": cancel, **options})  # type: ignore[arg-type]
        except asyncio.CancelledError:
            cancel.cancel()
            raise

    async def astream(self, question: str, **options: object) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        stream = await asyncio.to_thread(self.stream, question, **options)  # type: ignore[arg-type]
        pieces = iter(stream)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            stream.close()

    # How it is done

    @property
    def _model(self) -> LanguageModel:
        return self._lazy_model.get()

    @property
    def _embedder(self) -> Embedder:
        return self._lazy_embedder.get()

    @property
    def _template(self) -> PromptTemplate:
        return self._given_template or (CHAT_TEMPLATE if self._model.is_chat else COMPLETION_TEMPLATE)

    @functools.cached_property
    def _count_tokens(self) -> TokenCounter:
        """The model's counter; it remembers, for the same sentences are counted question after question."""
        return functools.lru_cache(maxsize=8192)(self._model.count_tokens)

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

    def _choose_packer(self, hits: Sequence[Hit], budget: TokenBudget, details: dict[str, Scalar]) -> Packer:
        """The packer that was given; or the compressor's, where compressing pays; or sentences and clauses."""
        if self._given_packer is not None or self._compressor is None:
            return self._given_packer or self._evidence_packer
        model = self._model
        tokens = sum(self._count_tokens(hit.chunk.text) for hit in hits)
        decision = self._gate.decide(
            model.name, self._compressor.name, tokens_before=tokens, tokens_after=min(tokens, budget.sources)
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

    def _prepare(
        self,
        question: str,
        k: int | None,
        context_tokens: int | None,
        max_tokens: int | None,
        where: Mapping[str, Scalar] | None,
    ) -> _Prepared:
        """Everything up to the model's call."""
        _check_question(question)
        clock = _Clock()
        model, template = self._model, self._template
        max_tokens = max_tokens or self._max_tokens
        with clock("budget"):
            fixed = model.count(template.build(question, []))
            budget = TokenBudget(model.n_ctx, max_tokens, fixed, context_tokens or self._context_tokens)
        with clock("retrieve") as details:
            hits = tuple(self.search(question, k, where=where))
            details["hits"] = len(hits)
        if not hits and not self._store.stats().documents:
            raise ConfigurationError(f"{str(self._store.folder)!r} holds no documents; add some first, with `add`")
        with clock("pack") as details:
            packer = self._choose_packer(hits, budget, details)
            packing, prompt, tokens = _fit(question, hits, budget, packer, template, model, self._count_tokens)
            if packing.compression is not None:
                self._gate.observe(packing.compression)
            n_kept = sum(item.action != "heading" for item in packing.items)
            details |= {"kept": n_kept, "dropped": len(packing.dropped)}
            details |= {"fixed_tokens": fixed, "source_tokens": packing.tokens, "answer_tokens": max_tokens}
        return _Prepared(question, hits, packing, prompt, tokens, max_tokens, clock, self._gate)


def _fit(
    question: str,
    hits: Sequence[Hit],
    budget: TokenBudget,
    packer: Packer,
    template: PromptTemplate,
    model: LanguageModel,
    count_tokens: TokenCounter,
) -> tuple[Packing, Prompt | None, int]:
    """Pack `hits` so that the rendered prompt keeps to the budget; `(packing, prompt, its tokens)`.

    Tokens do not add up over parts, so the last count is made on the whole prompt; what it is over is taken off the room.
    """

    def count_source(number: int, title: str, text: str) -> int:
        return count_tokens(template.render_source(number, title, text))

    room = budget.sources
    while True:
        packing = packer.pack(hits, room, count_source, question=question)
        if not packing.items:
            return packing, None, 0
        prompt = template.build(question, packing.items)
        tokens = model.count(prompt)
        if tokens <= budget.prompt:
            return packing, prompt, tokens
        room = min(room, packing.tokens) - (tokens - budget.prompt)


class AnswerStream:
    """An answer under way: iterate for text as the model writes it, then read `answer`."""

    def __init__(self, prepared: _Prepared, generation: GenerationStream | None, rendered: str) -> None:
        self._prepared, self._generation, self._rendered = prepared, generation, rendered

    def __iter__(self) -> Iterator[str]:
        """Yield the model's words; leaving the loop early stops it."""
        if self._generation is None:
            yield NO_ANSWER
        else:
            yield from self._generation

    def close(self) -> None:
        """Stop the generation if it still runs."""
        if self._generation is not None:
            self._generation.close()

    @functools.cached_property
    def answer(self) -> Answer:
        """The whole answer with marks, citations and verdict; waits for its end."""
        prepared, clock = self._prepared, self._prepared.clock
        generation: Generation | None = None
        if self._generation is not None:
            with clock("generate") as details:
                generation = self._generation.result
                prepared.gate.observe(generation)
                details["prompt_tokens"] = generation.usage.prompt_tokens
                details["completion_tokens"] = generation.usage.completion_tokens
        text = NO_ANSWER if generation is None else generation.text
        with clock("ground"):
            grounding = ground(prepared.question, text, prepared.packing.items)
        return Answer(
            question=prepared.question,
            text=grounding.text,
            citations=grounding.citations,
            is_supported=grounding.is_supported,
            support=grounding.support,
            model=generation.model if generation else None,
            finish_reason=generation.finish_reason if generation else None,
            usage=generation.usage if generation else Usage(0, 0),
            cost=None,
            prompt=self._rendered,
            packing=prepared.packing,
            generation=generation,
            trace=clock.stages,
        )


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A question, ready to be sent; `prompt` is None when nothing was found."""

    question: str
    hits: tuple[Hit, ...]
    packing: Packing
    prompt: Prompt | None
    prompt_tokens: int
    max_tokens: int
    clock: _Clock
    gate: CostGate


class _Clock:
    """Times the stages of one request."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Scalar]]:
        """Time the block as stage `name`; what it puts into the dictionary goes into the record."""
        details: dict[str, Scalar] = {}
        started = time.perf_counter()
        yield details
        self._stages.append(Stage(name, time.perf_counter() - started, details))

    @property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(self._stages)


class _Lazy(Generic[T]):
    """A component that is loaded at first use, and closed only if it was loaded here."""

    def __init__(self, load: Callable[[], tuple[T, bool]]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._value: T | None = None
        self._is_ours = False

    def get(self) -> T:
        with self._lock:
            if self._value is None:
                self._value, self._is_ours = self._load()
            return self._value

    def close(self) -> None:
        with self._lock:
            if self._is_ours and self._value is not None:
                getattr(self._value, "close", lambda: None)()


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
