"""From names to objects: `open` a folder with its models and stages."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from leanrag.abilities import ForgetsDocuments
from leanrag.caching.answers import AnswerCache
from leanrag.caching.queries import QueryCache
from leanrag.caching.similar import SimilarQuestions
from leanrag.checks import check_at_least, check_choice
from leanrag.errors import ConfigurationError, ModelLoadError
from leanrag.models import resolve, resolve_model
from leanrag.pipeline.ahead import DocumentWorkers
from leanrag.pipeline.configuration import ConfigSource, arguments_of
from leanrag.pipeline.defaults import DEFAULT_EMBEDDER, default_models, with_shipped_calibrations
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.loading import load_embedder, load_language_model
from leanrag.pipeline.query import AutoTokens, Settings
from leanrag.pipeline.rag import Rag
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.stages import MakeIndex, MakeRetriever, RetrieverName, Stages
from leanrag.prompting import ModelProfile, PromptTemplate, Style
from leanrag.protocols import (
    Chunker,
    Compressor,
    DocumentReader,
    Embedder,
    EntailmentChecker,
    LanguageModel,
    Ledger,
    Packer,
    Reranker,
    ResponseCache,
    Retriever,
    VectorIndex,
)
from leanrag.retrieval.database import ANSWERS
from leanrag.retrieval.rerankers import CrossEncoderReranker
from leanrag.retrieval.sharded_store import MissingShards, open_store
from leanrag.retrieval.shards import OpenShard
from leanrag.retrieval.store import Store
from leanrag.routing.cascade import Cascade, Model, model_name
from leanrag.threads import Priority

__all__ = ["open"]

_NAMESPACE = re.compile(r"[a-z0-9_-]{1,64}")

Isolation = Literal["none", "process"]


def open(  # noqa: A001 - leanrag.open, as gzip.open
    path: str | os.PathLike[str],
    *,
    config: ConfigSource | None = None,
    namespace: str | None = None,
    model: str | os.PathLike[str] | LanguageModel | Cascade | None = None,
    embedder: str | os.PathLike[str] | Embedder = DEFAULT_EMBEDDER,
    query_prefix: str | None = None,
    document_prefix: str | None = None,
    isolation: Isolation = "none",
    keep_alive: float | None = None,
    priority: Priority = "normal",
    draft: str | os.PathLike[str] | None = None,
    readers: Mapping[str, DocumentReader] | None = None,
    chunker: Chunker | None = None,
    index: VectorIndex | MakeIndex | None = None,
    retriever: RetrieverName | Retriever | MakeRetriever | None = None,
    reranker: str | os.PathLike[str] | Reranker | None = None,
    packer: Packer | None = None,
    compressor: Compressor | None = None,
    template: PromptTemplate | None = None,
    profile: ModelProfile | Mapping[str, ModelProfile] | None = None,
    entailment: EntailmentChecker | Literal["reader"] | None = None,
    cache: ResponseCache | Literal["exact", "similar"] | None = None,
    ledger: Ledger | None = None,
    k: int = 10,
    context_tokens: AutoTokens | None = "auto",
    max_tokens: AutoTokens = "auto",
    thinking_tokens: int | None = None,
    style: Style | None = None,
    abstain_below: float | None = None,
    self_check: bool = False,
    create: bool = True,
    missing_shards: MissingShards = "fail",
    open_shard: OpenShard | None = None,
    workers: DocumentWorkers | None = None,
) -> Rag:
    """Open a folder as a database of documents.

    Models are loaded when they are first needed. `docs/stages.md` shows each stage that can be replaced.

    Args:
        path: The folder; it is made when it does not exist.
        config: Settings that `leanrag tune` found, or the file that it wrote. They set `model`, `k`, `context_tokens` and `packer`,
            which must then not be passed.
        namespace: Name of a tenant: at most 64 lower-case letters, digits, "-" and "_". The database, the indexes and the cache of
            each name are in a folder of their own below `path`, so that nothing of one tenant is found under another name.
        model: Answers: a name that `leanrag list` shows, a GGUF file, any `LanguageModel`, or a `Cascade` of several. A
            name or file may be followed by LoRA adapters: "smollm2-135m+reader", "base.gguf+my.lora.gguf". None takes the best of
            the models on this machine that it can carry, or a cascade of two; `leanrag doctor` says how to get better models.
        embedder: Embeds: a name, a folder of a sentence-transformers model, a GGUF file, or any `Embedder`. A name is run by
            llama.cpp; a folder needs the extra `torch`.
        query_prefix: Text before each query, for an embedder that is loaded by name or file. None takes the text that the model
            was trained with.
        document_prefix: The same for documents.
        isolation: "process" runs each model that is loaded by name or file in its own process, so that a broken file cannot end
            this one.
        keep_alive: Seconds without a question after which a model that is loaded by name or file leaves the memory; the next
            question loads it again. None keeps it, 0 frees it at once.
        priority: "background" lets models that are loaded by name or file give way to other programs, for indexing beside a person
            at work: they use at most half of the cores, and on Linux their threads have niceness 10.
        draft: Name or GGUF file of a small model that drafts tokens of the answers, such as "qwen2.5-coder-0.5b" for
            "qwen2.5-coder-1.5b". The vocabularies must be equal. The last model of a cascade, which must be loaded by name or file,
            checks the drafts and keeps the tokens that it would choose itself, up to rounding (see `LlamaCppModel`). Drafts are
            made only while they save time.
        readers: Reads files, by suffix: `{".pdf": read_pdf}`. Other suffixes have the library's own readers.
        chunker: Splits documents; by default by their kind, into at most 160 tokens of the embedder.
        index: Finds the nearest vectors: an empty index, or a function (or class) that makes one from the number of columns. By
            default `GrowingIndex`.
        retriever: Finds chunks: "hybrid", the default; "diverse", which prefers hits that differ from each other; "neighbours" or
            "section", which show more of the text around each hit; an object with `retrieve(question, k, where=...)`; or a
            function (or class) that makes one from the store, the vector index and the embedder.
        reranker: Sorts the retrieved chunks again: a name that `leanrag list` shows, a folder with a cross-encoder
            (both need the extra `onnx`), or any `Reranker`. By default none.
        packer: Chooses what the prompt shows; by default `EvidencePacker`: the sentences and clauses that are worth most for the
            question.
        compressor: Shortens the hits instead, if that takes less time than the reading that it saves. What it can compute ahead is
            computed when documents are added.
        template: Makes the prompt of every model, instead of its profile.
        profile: How the models are asked: a profile for all models, or profiles by the names of models. By default each model has
            the profile that was measured for it, or for models of its size.
        entailment: Checks the verdict again: an `EntailmentChecker` looks at each sentence that the rules accept.
            "reader" asks the model that answered, which must be a local one. By default the rules decide alone.
        cache: Remembers answers: "exact" for equal questions, "similar" also for the same question in other words (see
            `leanrag.caching.SimilarQuestions`), both in the folder; or any `ResponseCache`. By default none. Before a document is
            replaced or removed, the answers that contain text of it are removed.
        ledger: Records the costs of each finished answer; by default none.
        k: Chunks retrieved for a question.
        context_tokens: Most tokens of sources in a prompt, counted by the answering model. "auto" takes the number in the profile
            of the model; None takes all that its window has room for. Few tokens are read sooner, and by small models about as
            well.
        max_tokens: Most tokens of an answer; they are reserved in the window. "auto" takes the number in the profile of the model.
        thinking_tokens: Most tokens of a reasoning model's thoughts, reserved in addition. None: thoughts and answer share
            `max_tokens`, and a local model gives its thoughts at most half of it.
        style: Form of the answers: "phrase", "sentence" or "explanation". None takes the style of the profile.
        abstain_below: Confidence below which the answer is that the sources do not answer: `abstained` is set, and a stream shows
            nothing before its end. None takes what the calibrations of a cascade learned, if they were made with questions that
            have no answer; without these every answer is returned.
        self_check: Ask each local model how likely its own answer is right, and use that as a signal of confidence. The model reads
            about twenty tokens more for it.
        create: Make the folder when it does not exist.
        missing_shards: What happens if the folder is divided into shards (see `leanrag shard`) and one of them cannot be reached:
            "fail" raises an error, and "partial" searches the others. `is_partial` of an answer says so.
        open_shard: Opens each shard, such as `leanrag.adapters.ray.RayShards()`; by default this process does.
        workers: Reads, splits and embeds files on other machines when documents are added, such as
            `leanrag.adapters.ray.RayWorkers`. By default this process does that.

    Raises:
        ConfigurationError: An argument cannot work.
        StorageError: The folder cannot be opened or made, or `config` names a file with settings that are not allowed.
        IndexMismatchError: The folder was built with another embedder (raised when the embedder is first needed).

    Example:
        >>> with leanrag.open("kb") as rag:  # doctest: +SKIP
        ...     rag.add("docs/")
        ...     print(rag.ask("What does the global statement do?"))
    """
    if config is not None:
        set_by_config = {
            "model": model is not None,
            "packer": packer is not None,
            "compressor": compressor is not None,
            "k": k != 10,
            "context_tokens": context_tokens != "auto",
        }
        configured = arguments_of(config, passed=[name for name, is_passed in set_by_config.items() if is_passed])
        model, packer = configured["model"], configured["packer"]
        k, context_tokens = configured["k"], configured["context_tokens"]
    settings = Settings(k, context_tokens, max_tokens, style, abstain_below, self_check, thinking_tokens)
    if isinstance(cache, str):
        check_choice(("exact", "similar"), cache=cache)
    stages = Stages(
        chunker=chunker,
        index=index,
        retriever=retriever,
        reranker=_find_reranker(reranker),
        packer=packer,
        compressor=compressor,
        template=template,
        profile=profile,
        entailment=entailment,
        ledger=ledger,
        readers=readers or {},
        workers=workers,
    )
    cascade = model if isinstance(model, Cascade) else Cascade(default_models() if model is None else [model])
    cascade = with_shipped_calibrations(cascade)
    _check_loading(cascade, isolation, keep_alive, draft)
    check_choice(get_args(Priority), priority=priority)
    if not os.fspath(path):
        raise ConfigurationError("`path` must name a folder, got ''. Pass '.' for the current folder")
    root = _namespace_folder(path, namespace)
    with contextlib.ExitStack() as opened:  # is closed if an argument cannot work
        store = opened.enter_context(
            open_store(root, create=create, missing_shards=missing_shards, open_shard=open_shard)
        )
        answers = _find_cache(cache, store)
        own = [opened.enter_context(answers)] if isinstance(answers, AnswerCache) and answers is not cache else []
        prices = cascade.prices or [None] * len(cascade.models)
        loading = {"isolation": isolation, "keep_alive": keep_alive, "priority": priority}
        drafts = [None] * (len(cascade.models) - 1) + [None if draft is None else resolve(draft)]
        rag = Rag(
            store,
            replace(stages, cache=answers),
            settings,
            cascade,
            readers=[
                Reader(
                    _find_model(each, stages, {**loading, "draft": file}, store.folder),
                    template,
                    price,
                    stages.profile_of(model_name(each)),
                )
                for each, price, file in zip(cascade.models, prices, drafts, strict=True)
            ],
            embedder=_find_embedder(embedder, priority, query_prefix, document_prefix, store.folder),
            can_calibrate=isinstance(model, Cascade),
            closed_with=own,
        )
        opened.pop_all()
    return rag


def _namespace_folder(path: str | os.PathLike[str], namespace: str | None) -> Path:
    if namespace is None:
        return Path(path)
    if not _NAMESPACE.fullmatch(str(namespace)):
        raise ConfigurationError(
            "`namespace` must be 1 to 64 characters, each a lower-case letter of a to z, a digit, '-' or '_', so that two names"
            f" never share a folder; got {namespace!r}"
        )
    return Path(path) / f"namespace-{namespace}"


def _check_loading(
    cascade: Cascade, isolation: Isolation, keep_alive: float | None, draft: str | os.PathLike[str] | None
) -> None:
    """Check the names of the models, and the options that only a model which is loaded by name or file can have."""
    names = [model for model in cascade.models if isinstance(model, (str, os.PathLike))]
    is_named = bool(names)
    for name in names:
        with contextlib.suppress(ModelLoadError):  # a model that is not on this machine is an error when it is asked
            resolve_model(name)
    check_choice(get_args(Isolation), isolation=isolation)
    check_at_least(0, optional=True, keep_alive=keep_alive)
    if not is_named and isolation != "none":
        raise ConfigurationError(
            f"`isolation={isolation!r}` has no effect on a model that is already loaded. Pass the name or file of the model, or "
            "load it as an `IsolatedModel`"
        )
    if not is_named and keep_alive is not None:
        raise ConfigurationError(
            f"`keep_alive={keep_alive!r}` has no effect on a model that is already loaded. Pass the name or file of the model, or "
            "pass `keep_alive=` to `LlamaCppModel`"
        )
    if draft is not None and not isinstance(cascade.models[-1], (str, os.PathLike)):
        raise ConfigurationError(
            f"`draft={os.fspath(draft)!r}` has no effect on a model that is already loaded. Pass the name or file of the model, or "
            "pass `draft=` to `LlamaCppModel`"
        )


def _find_cache(cache: ResponseCache | Literal["exact", "similar"] | None, store: Store) -> ResponseCache | None:
    """Return the cache, and let the store remove from it what stands on documents that change.

    Answers that an earlier use of the folder stored there are removed too, also when it is opened without a cache.
    """
    file = store.folder / ANSWERS
    if cache is None:
        store.before_removal(functools.partial(_forget_in_file, file))
        return None
    if isinstance(cache, str):
        policy = {"exact": None, "similar": SimilarQuestions()}[cache]
        cache = AnswerCache(file, similar=policy)
    if isinstance(cache, ForgetsDocuments):
        store.before_removal(cache.forget)
    return cache


def _forget_in_file(file: Path, document_ids: Sequence[str]) -> None:
    if file.is_file():
        with AnswerCache(file) as cache:
            cache.forget(document_ids)


def _find_model(model: Model, stages: Stages, loading: Mapping[str, Any], folder: Path) -> Lazy[LanguageModel]:
    """Return the model; `loading` has the options of `load_model`."""
    if not isinstance(model, (str, os.PathLike)):
        return Lazy.of(model)

    profile = stages.profile_of(model_name(model))
    return Lazy(lambda: load_language_model(model, profile=profile, **loading), folder)


def _find_reranker(reranker: str | os.PathLike[str] | Reranker | None) -> Reranker | None:
    return CrossEncoderReranker(resolve(reranker)) if isinstance(reranker, (str, os.PathLike)) else reranker


def _find_embedder(
    embedder: str | os.PathLike[str] | Embedder,
    priority: Priority,
    query_prefix: str | None,
    document_prefix: str | None,
    folder: Path,
) -> Lazy[Embedder]:
    if not isinstance(embedder, (str, os.PathLike)):
        if query_prefix is not None or document_prefix is not None:
            raise ConfigurationError(
                "`query_prefix` and `document_prefix` have no effect on an embedder object. Pass them to its constructor"
            )
        return Lazy.of(QueryCache(embedder))

    load = functools.partial(
        load_embedder, embedder, priority=priority, query_prefix=query_prefix, document_prefix=document_prefix
    )
    return Lazy(lambda: QueryCache(load()), folder)
