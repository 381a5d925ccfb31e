"""The stages that a user may replace, each by an object or by a function that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Literal, TypeAlias

from leanrag.checks import check_choice
from leanrag.errors import ConfigurationError
from leanrag.grounding import ReaderEntailment
from leanrag.pipeline.ahead import DocumentWorkers
from leanrag.prompting import ModelProfile, PromptTemplate, profiles_digest
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
    ScoresText,
    VectorIndex,
)
from leanrag.retrieval.diverse import DiverseRetriever
from leanrag.retrieval.expanding import ExpandingRetriever
from leanrag.retrieval.growing_index import GrowingIndex
from leanrag.retrieval.retrievers import HybridRetriever
from leanrag.retrieval.store import Store

__all__ = ["MakeIndex", "MakeRetriever", "RetrieverName", "Stages"]

MakeIndex: TypeAlias = Callable[[int], VectorIndex]
"""Makes an empty index for rows of so many columns."""

MakeRetriever: TypeAlias = Callable[[Store, VectorIndex, Embedder], Retriever]
"""Makes a retriever over the folder's store, its vector index and its embedder."""

RetrieverName: TypeAlias = Literal["hybrid", "diverse", "neighbours", "section"]


def _make_diverse(store: Store, index: VectorIndex, embedder: Embedder) -> Retriever:
    return DiverseRetriever(HybridRetriever(store, index, embedder), store)


def _make_neighbours(store: Store, index: VectorIndex, embedder: Embedder) -> Retriever:
    return ExpandingRetriever(HybridRetriever(store, index, embedder), store)


def _make_section(store: Store, index: VectorIndex, embedder: Embedder) -> Retriever:
    return ExpandingRetriever(HybridRetriever(store, index, embedder), store, by="section")


_NAMED_RETRIEVERS: Mapping[str, MakeRetriever] = {
    "hybrid": HybridRetriever,
    "diverse": _make_diverse,
    "neighbours": _make_neighbours,
    "section": _make_section,
}


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages that `open` got; None stands for the default stage.

    Attributes:
        chunker: Splits documents.
        index: Finds the nearest vectors: an empty index, or a function (or class) that makes one from the number of columns.
        retriever: Finds chunks: a name, an object with `retrieve`, or a function (or class) that makes one from the store, the
            vector index and the embedder of the folder.
        reranker: Sorts the retrieved chunks again.
        packer: Chooses what the prompt shows.
        compressor: Shortens the hits, if that saves time.
        template: Makes the prompt.
        profile: How models are asked: for all models, or by the name of the model.
        entailment: Checks each sentence that the rules of the verdict accept; "reader" asks the model that answered.
        cache: Remembers answers.
        ledger: Records each finished answer.
        readers: Reads files: by suffix in lower case, as ".pdf", besides and over the library's own readers.
        workers: Reads, splits and embeds files elsewhere.

    Raises:
        ConfigurationError: `retriever` is an unknown name, there are both a packer and a compressor, `entailment` cannot check,
            or a key of `readers` is not a suffix.
    """

    chunker: Chunker | None = None
    index: VectorIndex | MakeIndex | None = None
    retriever: RetrieverName | Retriever | MakeRetriever | None = None
    reranker: Reranker | None = None
    packer: Packer | None = None
    compressor: Compressor | None = None
    template: PromptTemplate | None = None
    profile: ModelProfile | Mapping[str, ModelProfile] | None = None
    entailment: EntailmentChecker | Literal["reader"] | None = None
    cache: ResponseCache | None = None
    ledger: Ledger | None = None
    readers: Mapping[str, DocumentReader] = field(default_factory=dict)
    workers: DocumentWorkers | None = None

    def __post_init__(self) -> None:
        for suffix in self.readers:
            if not suffix.startswith(".") or suffix != suffix.lower():
                raise ConfigurationError(
                    f"a key of `readers` must be a suffix in lower case, such as '.pdf', got {suffix!r}"
                )
        if isinstance(self.retriever, str):
            check_choice(_NAMED_RETRIEVERS, retriever=self.retriever)
        if self.packer is not None and self.compressor is not None:
            raise ConfigurationError(
                "pass either `packer` or `compressor`, not both. `CompressingPacker(compressor)` is a packer that compresses"
            )
        if self.entailment not in (None, "reader") and not isinstance(self.entailment, EntailmentChecker):
            raise ConfigurationError(
                "`entailment` must be 'reader' or an object with a method `check` (see `EntailmentChecker`), "
                f"got {self.entailment!r}"
            )

    def names(self) -> tuple[str, ...]:
        """Return a name for each stage that shapes an answer; the same for two stages of one class, whatever their settings."""
        shaping = (self.index, self.retriever, self.reranker, self.packer, self.compressor, self.entailment)
        return (*map(_name, shaping), repr(self.template), repr(self.profile), profiles_digest())

    def profile_of(self, model: str) -> ModelProfile | None:
        """Return the user's profile for the model with this name; None if there is none."""
        return self.profile.get(model) if isinstance(self.profile, Mapping) else self.profile

    @property
    def finds_other_documents(self) -> bool:
        """Whether the retriever is an object of the user's, which may search elsewhere than in the folder."""
        return isinstance(self.retriever, Retriever) and not isinstance(self.retriever, type)

    def make_index(self, dim: int) -> VectorIndex:
        """Return the vector index for rows of `dim` columns, still empty."""
        if self.index is None:
            return GrowingIndex(dim)
        if isinstance(self.index, VectorIndex) and not isinstance(self.index, type):
            return self.index
        return self.index(dim)

    def make_retriever(
        self, store: Store, index: Callable[[], VectorIndex], embedder: Callable[[], Embedder]
    ) -> Retriever:
        """Return the retriever; `index` and `embedder` are called only for one that is made over the folder."""
        if self.retriever is None or isinstance(self.retriever, str):
            return _NAMED_RETRIEVERS[self.retriever or "hybrid"](store, index(), embedder())
        if isinstance(self.retriever, Retriever) and not isinstance(self.retriever, type):
            return self.retriever
        return self.retriever(store, index(), embedder())

    def make_entailment(self, model: LanguageModel) -> EntailmentChecker | None:
        """Return what checks the verdict on the answer of `model`; None for the rules alone.

        Raises:
            ConfigurationError: The model itself is to check, and does not tell how probable a text is.
        """
        if not isinstance(self.entailment, str):
            return self.entailment
        if not isinstance(model, ScoresText):
            raise ConfigurationError(
                f"`entailment='reader'` needs a model that scores texts (see `ScoresText`), and {model.name!r} does not. "
                "Pass an object with a method `check`"
            )
        return ReaderEntailment(model, is_chat=model.is_chat)


def _name(stage: object) -> str:
    if stage is None or isinstance(stage, str):
        return stage or ""
    named = stage if isinstance(stage, (type, FunctionType)) else type(stage)
    return f"{named.__module__}.{named.__qualname__}"
