"""The interfaces between stages: small Protocols, and the options that stages pass on. A class need not inherit from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from leanrag.checks import check_at_least, check_seconds, check_whole
from leanrag.errors import ConfigurationError
from leanrag.types import (
    Adapter,
    Answer,
    AskKey,
    CancelToken,
    Chunk,
    Compression,
    Document,
    Evidence,
    Generation,
    Hit,
    Mark,
    Packing,
    Prompt,
    Scores,
    TextPiece,
    Usage,
    Where,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[np.float32]
    Ids: TypeAlias = NDArray[np.int64]

__all__ = [
    "Adapted",
    "ChunkFeature",
    "ChunkStore",
    "Chunker",
    "Closable",
    "CompressionSource",
    "Compressor",
    "ComputesAhead",
    "DocumentReader",
    "Embedder",
    "EntailmentChecker",
    "EvidenceScorer",
    "FiltersDocuments",
    "FromFile",
    "GenerateOptions",
    "GenerationStream",
    "HasWeights",
    "IndexFiles",
    "LanguageModel",
    "LargeVectorSource",
    "Ledger",
    "Packer",
    "Priced",
    "Remote",
    "ReadsLittle",
    "Reranker",
    "ResponseCache",
    "Retriever",
    "ScoresText",
    "SourceCounter",
    "StoreFeature",
    "StoredFeature",
    "TextScorer",
    "TokenCounter",
    "VectorIndex",
    "VectorSource",
]

StoredFeature: TypeAlias = Callable[[Chunk], bytes | None]
"""Returns what was computed for a chunk earlier; None if there is nothing."""

StoreFeature: TypeAlias = Callable[[Sequence[tuple[Chunk, bytes]]], None]
"""Keeps what was computed for chunks."""

TokenCounter: TypeAlias = Callable[[str], int]
"""Counts the tokens of a plain text."""

CompressionSource: TypeAlias = str | Document | Chunk | Hit
"""A text to compress, alone or with its document."""

SourceCounter: TypeAlias = Callable[[int, str, str], int]
"""Counts the tokens of a source as the prompt shows it, from its number, title and text."""


class DocumentReader(Protocol):
    """Reads files of one format."""

    def __call__(self, data: bytes, path: Path, encoding: str | None, /) -> Document:
        """Return the text of a file, with the title and the metadata that the file itself has.

        Args:
            data: All bytes of the file.
            path: Its absolute path; in POSIX form it is the `id` of the document.
            encoding: The encoding that the caller named, or None.

        Raises:
            DocumentError: The file is damaged.
        """


class Chunker(Protocol):
    """Splits a document. Chunks come in document order and satisfy `chunk.text == document.text[start:end]`."""

    @property
    def id(self) -> str:
        """Name and settings; if the id changes, documents are split again."""

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of `document`. Only white space may be missing between them."""


class ChunkFeature(Protocol):
    """A value that is computed when a chunk is added, and read when a question is asked."""

    @property
    def name(self) -> str:
        """Identity of the feature; it includes settings and models."""

    def compute(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the bytes to store for each chunk."""


@runtime_checkable
class ComputesAhead(Protocol):
    """A compressor that can compute a part of its work when chunks are added, because that part does not need the question."""

    @property
    def name(self) -> str:
        """As in `Compressor`."""

    @property
    def feature(self) -> ChunkFeature:
        """What to compute when chunks are added."""

    def with_stored(self, stored: StoredFeature) -> Compressor:
        """Return the same compressor, which reads the computed values from `stored`."""


class Embedder(Protocol):
    """Turns text into float32 vectors with norm 1."""

    @property
    def id(self) -> str:
        """Identity of model and settings; vectors with different ids cannot be compared."""

    @property
    def dim(self) -> int:
        """Columns of a row."""

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text, special tokens included."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text` in this model, special tokens included."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows with L2 norm 1."""


class VectorSource(Protocol):
    """The part of the store that an index reads. Ids of chunks are never used again, and a new id is higher than all others."""

    @property
    def generation(self) -> int:
        """A number that changes with every commit that changes chunks."""

    def count_chunks(self) -> int:
        """Return the number of chunks."""

    def chunk_ids(self) -> Ids:
        """Return the id of every chunk, `(n,)`, ascending."""

    def all_vectors(self, *, after: int = 0) -> tuple[Ids, Vectors]:
        """Return `(ids, vectors)` of the chunks whose id is above `after`: `(n,)` ascending and `(n, dim)`."""


class IndexFiles(Protocol):
    """Files of an index in the folder of a store. They may vanish at any time."""

    def names(self) -> list[str]:
        """Return the names of the files that belong to the store."""

    def path(self, name: str) -> Path:
        """Return where a file is."""

    def new_path(self) -> Path:
        """Return where a new file can be written."""

    def keep(self, names: Sequence[str]) -> None:
        """Let these files belong to the store, and remove all others."""


@runtime_checkable
class LargeVectorSource(VectorSource, Protocol):
    """A store with room for the files of an index, of which single vectors and parts can be read."""

    @property
    def vector_files(self) -> IndexFiles:
        """The files of the index."""

    def get_vectors(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of `ids`, `(len(ids), dim)`, in the same order; `LookupError` if one does not exist."""

    def removed_ids(self, ids: Ids) -> Ids:
        """Return those of `ids` that no chunk has; `ids` are ids that chunks have or had, `(n,)`, ascending."""

    def all_vectors(self, *, after: int = 0, most: int | None = None) -> tuple[Ids, Vectors]:
        """Return `(ids, vectors)`, `(n,)` and `(n, dim)`, as in `VectorSource`; at most the first `most` chunks."""


@runtime_checkable
class VectorIndex(Protocol):
    """Finds the nearest rows by cosine similarity."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def update(self, source: VectorSource) -> None:
        """Catch up with the store: add new rows, and remove the rows of removed chunks.

        Any thread calls this before each search, so it must be fast if nothing changed.
        """

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)`, both `(q, m)` with `m = min(k, rows that may be found)`, best first.

        Args:
            queries: `(q, dim)`, rows with norm 1.
            k: Most rows for each query.
            allowed: Only these ids may be found; None allows all.
        """


@runtime_checkable
class FiltersDocuments(Protocol):
    """A vector index that knows the metadata of the documents."""

    def search_where(self, queries: Vectors, k: int, where: Where, allowed: Ids) -> tuple[Vectors, Ids]:
        """Return as `VectorIndex.search` does.

        Args:
            queries: `(q, dim)`, rows with norm 1.
            k: Most rows for each query.
            where: Only rows of documents that match may be found.
            allowed: The ids of these rows.
        """


class ChunkStore(Protocol):
    """The part of the store that a retriever uses. A chunk has an int64 id."""

    def search_terms(
        self, question: str, k: int, *, allowed: Ids | None = None, also: Ids | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return BM25 `(scores, ids)`, both `(m,)`, best first; higher is better; only chunks that match a term.

        Args:
            question: Plain text.
            k: Chunks wanted.
            allowed: Only these ids may be found.
            also: Those of these ids that match are returned too, behind the best `k`; all of them must be allowed.
        """

    def match_identifiers(self, question: str, most: int, *, allowed: Ids | None = None) -> tuple[Ids, Ids]:
        """Return `(counts, ids)` of the chunks that have an identifier of `question`, both `(m,)`, ids ascending.

        Args:
            question: Plain text.
            most: An identifier that more chunks have is ignored.
            allowed: Only these ids may be found; None allows all.
        """

    def get_chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Return the chunks of `ids`, in the same order."""

    def get_vectors(self, ids: Sequence[int]) -> Vectors:
        """Return the vectors of `ids`, `(len(ids), dim)`, in the same order."""

    def filter_ids(self, where: Where) -> Ids:
        """Return the ids of the chunks whose document matches `where`, `(n,)`, ascending."""

    def chunk_ids_within(self, document_id: str, start: int, end: int) -> Ids:
        """Return the ids of the chunks of a document that lie between two of its characters, `(n,)`, in document order."""

    def read_passage(self, document_id: str, start: int, end: int) -> tuple[str, tuple[Mark, ...]]:
        """Return the text of a document between two of its characters, and the marks that say where that is."""


@runtime_checkable
class Retriever(Protocol):
    """Finds chunks for a question."""

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits, best first."""


class Reranker(Protocol):
    """Puts hits into a better order."""

    def rerank(self, question: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits, best first. Hits may be removed. The first `k` are used."""


class ResponseCache(Protocol):
    """Remembers answers; any thread may call."""

    def get(self, key: AskKey) -> Answer | None:
        """Return the answer that was stored with an equal key, or None."""

    def put(self, key: AskKey, answer: Answer) -> None:
        """Store an answer."""


class Ledger(Protocol):
    """Records what each question cost; any thread may call."""

    def record(self, answer: Answer) -> None:
        """Record a finished answer. `answer.steps` has the cost of each model, `answer.trace` the time of each stage."""


class Packer(Protocol):
    """Chooses the sources of the prompt."""

    def pack(self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, *, question: str = "") -> Packing:
        """Return a packing of `hits`, best first, whose sources take at most `budget` tokens; `BudgetError` if nothing fits.

        `count_source` counts the tokens of a source from its number, title and text, as the prompt shows it.
        """


class Compressor(Protocol):
    """Shortens texts to a budget of tokens."""

    @property
    def name(self) -> str:
        """Value of `Compression.method`."""

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens, or in the share `rate` of their tokens.

        If the sources fit, or if `rate` is 1, they are returned unchanged.

        Args:
            sources: A text or several texts, best first.
            count_tokens: Counts the tokens of a text as the reader does.
            budget: Most tokens of the result. Pass either `budget` or `rate`.
            rate: Share of the tokens of the sources to keep, in (0, 1].
            question: The question that the reader must answer; "" if there is none.
            keep: Spans whose characters, except white space, must stay, as offsets in the texts: a list of spans for one source,
                a list of such lists for several sources.

        Raises:
            BudgetError: The spans that must stay do not fit.
            ConfigurationError: An argument cannot work.
            CompressionError: The method failed.
        """


@runtime_checkable
class EntailmentChecker(Protocol):
    """Says whether a text supports a claim. It is asked about the sentences that the rules of the verdict accept."""

    def check(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return for each `(text, claim)` the probability, in [0, 1], that the text says so."""


class EvidenceScorer(Protocol):
    """Scores the units of the hits for a question."""

    def score(self, question: str, hits: Sequence[Hit]) -> tuple[Sequence[Evidence], NDArray[np.float32] | None]:
        """Return the units of all hits in order, and how much each pair of units has in common.

        The second value is `(n, n)`, symmetric, in [0, 1]; None if it is unknown.
        """


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """The options of a generation.

    Two values are equal if they ask for the same text. Time limits and cancellation do not matter for that.

    Attributes:
        max_tokens: Most tokens of the answer.
        thinking_tokens: Most tokens of the thoughts of a reasoning model, in addition to `max_tokens`. None: thoughts and answer
            share `max_tokens`, and thoughts take at most half of it. A local model then ends its thoughts and answers.
        temperature: 0 takes the most probable token; a higher value gives more varied text.
        seed: Seed of the random choice; the same seed gives the same text. None takes a new seed.
        stop: Strings that end the text; they are not part of it.
        timeout_seconds: Time limit from the call to the end; None uses the default of the model.
        cancel: Stops the generation from another thread.

    Raises:
        ConfigurationError: A value cannot work.
    """

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    timeout_seconds: float | None = field(default=None, compare=False)
    cancel: CancelToken | None = field(default=None, compare=False)
    thinking_tokens: int | None = None

    def __post_init__(self) -> None:
        check_whole(1, max_tokens=self.max_tokens)
        check_whole(0, optional=True, thinking_tokens=self.thinking_tokens)
        check_at_least(0, temperature=self.temperature)
        check_whole(0, 2**64 - 1, optional=True, seed=self.seed)
        check_seconds(optional=True, timeout_seconds=self.timeout_seconds)
        if isinstance(self.stop, str) or not all(self.stop):
            raise ConfigurationError(f"`stop` must be a sequence of non-empty strings, got {self.stop!r}")
        object.__setattr__(self, "stop", tuple(self.stop))

    @property
    def reserved_tokens(self) -> int:
        """Most tokens that the model may write: thoughts and answer."""
        return self.max_tokens + (self.thinking_tokens or 0)


class GenerationStream(Protocol):
    """A running generation: iterate over the text, then read `result`."""

    def __iter__(self) -> Iterator[str]:
        """Yield pieces of text; joined they are `result.text`."""

    def close(self) -> None:
        """Stop the generation if it is still running."""

    @property
    def result(self) -> Generation:
        """The whole generation; waits until it ends."""


class LanguageModel(Protocol):
    """Answers prompts. A `str` is a raw prompt to complete. Messages are rendered with the chat template of the model.

    `leanrag.BaseLanguageModel` has all of these methods except `stream`.
    """

    @property
    def name(self) -> str:
        """Value of `Answer.model`."""

    @property
    def n_ctx(self) -> int:
        """Window in tokens."""

    @property
    def is_chat(self) -> bool:
        """Whether it has a chat template, so that it reads messages."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, without BOS and template."""

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it.

        The count is an estimate if the tokenizer is not available; see `leanrag.RemoteModel`.
        """

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as text, as the model reads it."""

    def stream(self, prompt: Prompt, options: GenerateOptions) -> GenerationStream:
        """Return the completion of `prompt`, piece by piece. Errors are raised here, or when the stream is read.

        Raises:
            ContextOverflowError: The prompt and `max_tokens` together exceed `n_ctx`.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: The time limit was reached.
            GenerationError: The model failed.
        """


# Optional abilities of models, embedders and stores; ask for them with `isinstance`


@runtime_checkable
class StreamsThoughts(Protocol):
    """A `GenerationStream` that also yields the thoughts of a reasoning model."""

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts and the text; the text alone is what iterating over the stream yields."""


@runtime_checkable
class Priced(Protocol):
    """A model that costs money."""

    def price(self, usage: Usage) -> float | None:
        """Return the cost of `usage`; None if it is unknown."""


@runtime_checkable
class Remote(Protocol):
    """A model that runs on another machine, so it uses no power on this machine."""

    @property
    def base_url(self) -> str:
        """Address of the server."""


@runtime_checkable
class HasWeights(Protocol):
    """A model whose size is known."""

    @property
    def n_params(self) -> int:
        """Number of weights."""


@runtime_checkable
class ReadsLittle(Protocol):
    """A model that answers better from less text: after a third of the budget is full, only strong evidence is added."""

    @property
    def evidence_floor(self) -> float:
        """A sentence is dropped if its value is below this share of the best value, in [0, 1]; 0 fills the budget."""


@runtime_checkable
class ScoresText(Protocol):
    """A model that can return the probability of a text."""

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Sequence[Scores]:
        """Return the scores of each `(condition, text)`."""


@runtime_checkable
class TextScorer(ScoresText, Protocol):
    """A model that can return the probability of a text, and its tokens, such as `LlamaCppModel`."""

    @property
    def name(self) -> str:
        """Name of the model; it tells scores of different models apart."""

    @property
    def n_ctx(self) -> int:
        """Window in tokens."""

    def tokenize(self, text: str) -> Sequence[tuple[int, int]]:
        """Return the tokens of `text`, each with the offset of the character in which it begins."""


@runtime_checkable
class FromFile(Protocol):
    """A model that was loaded from a file."""

    @property
    def path(self) -> Path:
        """The file, or a folder of files."""


@runtime_checkable
class Adapted(Protocol):
    """A model that adapters may change."""

    @property
    def adapters(self) -> Sequence[Adapter]:
        """The adapters; empty if there are none."""


@runtime_checkable
class Closable(Protocol):
    """An object that must be closed after use."""

    def close(self) -> None:
        """Free its resources; may be called twice."""
